//! Starting what ran, each until it runs; and seeing that it goes on running.

use super::await_up::{self, Trouble};
use super::hold::{self, docker};
use super::snapshot::{ContainerBefore, Item, ServiceBefore, Snapshot, UnitBefore, Was, Who};
use super::stop::waves;
use crate::error::{Error, Kind, Result};
use crate::host::docker::Docker;
use crate::host::docker::services::Mode;
use crate::host::systemd;
use crate::recovery::by_hand::word;
use crate::telemetry::monitor::{Event, Monitor};
use jiff::Timestamp;

/// For what something is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// With the restored data. What had failed without it is tried.
    Restored,
    /// Since the restore is taken back. Everything becomes what it was.
    AsItWas,
    /// Since it is over, taken back or never begun: what was held may be down by a reboot meanwhile.
    Over,
}

/// How something is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// It must run.
    Must,
    /// It is told when it does not run.
    Try,
    /// Nobody waits for it.
    Begin,
}

/// Who is looked at once more after a moment: whether it goes on running.
#[derive(Clone, Copy, Debug)]
pub(super) enum Steady<'a> {
    /// Whoever was started now.
    Started,
    /// Nobody yet: the start of what starts late looks at all.
    Later,
    /// Whoever was started now, and these, which were at that time.
    With(&'a [&'a Item], Timestamp),
}

/// How an item is started; not at all when it did not run.
fn how(item: &Item, why: Why) -> Option<How> {
    match &item.who {
        Who::Unit(UnitBefore { was, .. }) => match (was, why) {
            (Was::Running, _) => Some(How::Must),
            // Once is enough.
            (Was::Job | Was::Failed, Why::Over) | (Was::Idle, _) => None,
            (Was::Job, _) | (Was::Looping, Why::AsItWas | Why::Over) => Some(How::Begin),
            (Was::Looping, Why::Restored) => Some(How::Try),
            (Was::Failed, _) if item.why.is_some() => None,
            (Was::Failed, Why::Restored) => Some(How::Try),
            // With the old data it fails again: a later restore has to see that it had failed.
            (Was::Failed, Why::AsItWas) => Some(How::Begin),
        },
        Who::Container(c) => match (c.state.as_str(), why) {
            ("running" | "paused", _) => Some(How::Must),
            ("restarting", Why::Restored) => Some(How::Try),
            ("restarting", _) => Some(How::Begin),
            _ => None,
        },
        Who::Service(s) if s.replicas == Some(0) => None,
        // With no task running before there may be no node for it, or it fails all the time.
        Who::Service(s) if s.running == 0 && why == Why::Restored => Some(How::Try),
        Who::Service(s) if s.running == 0 => Some(How::Begin),
        Who::Service(_) => Some(How::Must),
    }
}

/// Releases and starts in their order those of the items that ran, then releases the others: whatever one of them pulls
/// in is held until then, so that what did not run does not.
///
/// # Errors
/// With the restored data, at the first that does not start. When it is taken back, with all of them, after the others were
/// started.
pub(super) async fn start(items: &[&Item], why: Why, steady: Steady<'_>, monitor: &dyn Monitor) -> Result<()> {
    let (earlier, before) = match steady {
        Steady::With(earlier, before) => (earlier, before),
        _ => (&[][..], Timestamp::now()),
    };
    let docker = docker(&[items, earlier].concat()).await?;
    let since = Timestamp::now();
    let started: Vec<&Item> = items.iter().copied().filter(|item| how(item, why).is_some()).collect();
    hold::take_units(&started).await?;
    let mut wrong: Vec<Error> = Vec::new();
    let mut up: Vec<&Item> = Vec::new();
    for wave in waves(&started, |item| item.start) {
        let each = wave.iter().map(|item| one(item, why, docker.as_ref(), since));
        for (item, result) in wave.iter().zip(futures::future::join_all(each).await) {
            match (how(item, why), result) {
                (Some(How::Begin), Ok(_)) | (_, Ok(false)) => {}
                (_, Ok(true)) => up.push(item),
                (Some(How::Must), Err(e)) => wrong.push(e),
                (_, Err(e)) => tell(item, &e, monitor),
            }
        }
        if why == Why::Restored && !wrong.is_empty() {
            return all(wrong);
        }
    }
    // What had failed before was told about when it was tried.
    up.extend(earlier.iter().filter(|item| how(item, why) == Some(How::Must)));
    if matches!(steady, Steady::Later) {
        up.clear();
    }
    for (item, result) in up.iter().zip(await_up::steady(&up, docker.as_ref(), before.min(since)).await) {
        match (how(item, why), result) {
            (_, Ok(())) => {}
            (Some(How::Must), Err(e)) => wrong.push(e),
            (_, Err(e)) => tell(item, &e, monitor),
        }
    }
    if why == Why::Restored && !wrong.is_empty() {
        return all(wrong);
    }
    wrong.extend(hold::take(items, monitor).await.err());
    all(wrong)
}

fn tell(item: &Item, e: &Error, monitor: &dyn Monitor) {
    let label = item.who.label();
    monitor.event(Event::Warning(format!("{label} did not run before, and does not now: {}", e.one_line())));
}

/// One error of several.
///
/// # Errors
/// When there is any.
pub(super) fn all(mut wrong: Vec<Error>) -> Result<()> {
    match wrong.len() {
        0 => Ok(()),
        1 => Err(wrong.remove(0).kind(Kind::Restore)),
        n => {
            let lines: Vec<String> = wrong.iter().map(ToString::to_string).collect();
            Err(Error::new(Kind::Restore, format!("{n} parts of the application are not as they were"))
                .because(lines.join("\n")))
        }
    }
}

/// Gives whether there was anything to do.
async fn one(item: &Item, why: Why, docker: Option<&Docker>, since: Timestamp) -> Result<bool> {
    let wait = how(item, why) != Some(How::Begin);
    match (&item.who, docker) {
        (Who::Unit(u), _) => unit(item, u, wait, since).await,
        (Who::Container(c), Some(docker)) => container(item, c, wait, docker).await,
        (Who::Service(s), Some(docker)) => service(item, s, wait, docker, since).await,
        (_, None) => Err(Error::new(Kind::Internal, "Docker was not connected to")),
    }
}

async fn unit(item: &Item, before: &UnitBefore, wait: bool, since: Timestamp) -> Result<bool> {
    let unit = systemd::look(&before.name).await?;
    if !unit.exists() {
        return Err(gone(item, "It has no unit file any more; bring it back, then start it."));
    }
    // A start of one that runs would start whatever it wants, also what did not run.
    let runs = unit.active == "active";
    if runs || !wait && before.was == Was::Failed && unit.active == "failed" {
        return Ok(false);
    }
    if !wait {
        return systemd::begin(&unit).await.map(|()| true);
    }
    if let Err(e) = systemd::start(&unit).await {
        return Err(Trouble::of_unit(&before.name, since).await.told(e));
    }
    await_up::unit(&before.name, since).await.map(|()| true)
}

async fn container(item: &Item, before: &ContainerBefore, wait: bool, docker: &Docker) -> Result<bool> {
    let name = &before.name;
    let missing = || gone(item, "Something removed it; make it again (`docker compose up -d`).");
    let now = docker.container(name).await?.ok_or_else(missing)?;
    if !docker.set_restart(name, &before.restart).await? {
        return Err(missing());
    }
    if now.state == before.state && now.state != "restarting" {
        return Ok(false);
    }
    if let Some(project) = &before.project {
        await_up::healthy(docker, project, &before.after_healthy).await?;
    }
    docker.unpause(name).await?;
    match docker.start(name).await {
        Ok(true) => {}
        Ok(false) => return Err(missing()),
        Err(e) => return Err(Trouble::of_container(docker, name).await.told(e)),
    }
    if wait {
        await_up::container(docker, name).await?;
    }
    if before.state == "paused" {
        docker.pause(name).await?;
    }
    Ok(true)
}

async fn service(item: &Item, before: &ServiceBefore, wait: bool, docker: &Docker, since: Timestamp) -> Result<bool> {
    let name = &before.name;
    let Some(now) = docker.service(name).await? else {
        return Err(gone(item, "Something removed it; deploy it again."));
    };
    match (before.replicas, now.mode) {
        (Some(n), Mode::Replicated(0)) => drop(docker.set_replicas(name, n).await?),
        // Whoever has scaled it to something else meanwhile knows better.
        (Some(_), _) => {}
        (None, _) => drop(docker.banish(name, false).await?),
    }
    if wait {
        await_up::service(docker, name, since).await?;
    }
    Ok(now.banished || now.mode == Mode::Replicated(0))
}

fn gone(item: &Item, hint: &str) -> Error {
    Error::new(Kind::Restore, format!("{} is gone and cannot be started", item.who.label())).hint(hint)
}

/// The commands that release everything, and start what ran as it was.
pub(super) fn by_hand(snapshot: &Snapshot) -> Vec<String> {
    let mut lines = hold::by_hand(snapshot);
    let items: Vec<&Item> = snapshot.items.iter().filter(|i| i.who.was_up()).collect();
    for item in waves(&items, |item| item.start).iter().flatten() {
        match &item.who {
            Who::Unit(u) if u.name.ends_with(".target") => {
                lines.push(format!("systemctl start --job-mode=ignore-dependencies {}", word(&u.name)));
            }
            Who::Unit(u) => lines.push(format!("systemctl start {}", word(&u.name))),
            Who::Container(c) => {
                lines.push(format!("docker start {}", c.name));
                if c.state == "paused" {
                    lines.push(format!("docker pause {}", c.name));
                }
            }
            Who::Service(s) => lines.push(match s.replicas {
                Some(n) => format!("docker service scale {}={n}", s.name),
                None => Docker::recall_by_hand(&s.name),
            }),
        }
    }
    lines
}
