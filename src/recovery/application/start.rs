//! Starting what ran, each until it runs; and seeing that it goes on running.

use super::await_up::{self, Trouble};
use super::hold::{self, docker, quoted};
use super::snapshot::{Item, Snapshot, UnitBefore, Was, Who};
use super::stop::waves;
use crate::error::{Error, Kind, Result};
use crate::host::docker::Docker;
use crate::host::systemd;
use crate::telemetry::monitor::{Event, Monitor};
use jiff::Timestamp;

/// For what something is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// With the restored data. What had failed without it is tried.
    Restored,
    /// Since the restore is taken back. Everything becomes what it was.
    AsItWas,
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

/// How an item is started; not at all when it did not run.
fn how(item: &Item, why: Why) -> Option<How> {
    match (&item.who, why) {
        (Who::Unit(UnitBefore { was, .. }), _) => match (was, why) {
            (Was::Running, _) => Some(How::Must),
            (Was::Job, _) | (Was::Looping, Why::AsItWas) => Some(How::Begin),
            (Was::Looping, Why::Restored) => Some(How::Try),
            (Was::Failed, _) if item.why.is_some() => None,
            (Was::Failed, Why::Restored) => Some(How::Try),
            // With the old data it fails again: a later restore has to see that it had failed.
            (Was::Failed, Why::AsItWas) => Some(How::Begin),
            (Was::Idle, _) => None,
        },
        (Who::Container(c), why) => match (c.state.as_str(), why) {
            ("running" | "paused", _) => Some(How::Must),
            ("restarting", Why::Restored) => Some(How::Try),
            ("restarting", Why::AsItWas) => Some(How::Begin),
            _ => None,
        },
        (Who::Service(s), _) if s.replicas == Some(0) => None,
        // With no task running before there may be no node for it, or it fails all the time.
        (Who::Service(s), Why::AsItWas) if s.running == 0 => Some(How::Begin),
        (Who::Service(s), Why::Restored) if s.running == 0 => Some(How::Try),
        (Who::Service(_), _) => Some(How::Must),
    }
}

/// Releases and starts in their order those of the items that ran, then releases the others: whatever one of them pulls
/// in is held until then, so that what did not run does not.
///
/// # Errors
/// With the restored data, at the first that does not start. When it is taken back, with all of them, after the others were
/// started.
pub(super) async fn start(items: &[&Item], why: Why, monitor: &dyn Monitor) -> Result<()> {
    let docker = docker(items).await?;
    let since = Timestamp::now();
    let started: Vec<&Item> = items.iter().copied().filter(|item| how(item, why).is_some()).collect();
    hold::take_units(&started).await?;
    let mut wrong: Vec<Error> = Vec::new();
    let mut up: Vec<&Item> = Vec::new();
    for wave in waves(&started, |item| item.start) {
        let each = wave.iter().map(|item| one(item, why, docker.as_ref(), since));
        for (item, result) in wave.iter().zip(futures::future::join_all(each).await) {
            match (how(item, why), result) {
                (Some(How::Begin), Ok(())) => {}
                (_, Ok(())) => up.push(item),
                (Some(How::Must), Err(e)) => wrong.push(e),
                (_, Err(e)) => tell(item, &e, monitor),
            }
        }
        if why == Why::Restored && !wrong.is_empty() {
            return all(wrong);
        }
    }
    for (item, result) in up.iter().zip(await_up::steady(&up, docker.as_ref(), since).await) {
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

async fn one(item: &Item, why: Why, docker: Option<&Docker>, since: Timestamp) -> Result<()> {
    let wait = how(item, why) != Some(How::Begin);
    match (&item.who, docker) {
        (Who::Unit(u), _) => {
            let unit = systemd::look(&u.name).await?;
            if !unit.exists() {
                return Err(gone(item, "It has no unit file any more; bring it back, then start it."));
            }
            if u.was == Was::Failed && unit.active == "failed" && why == Why::AsItWas {
                return Ok(());
            }
            // A start of one that runs would start whatever it wants, also what did not run.
            if unit.active == "active" {
                return Ok(());
            }
            if !wait {
                return systemd::begin(&unit).await;
            }
            if let Err(e) = systemd::start(&unit).await {
                return Err(Trouble::of_unit(&u.name, since).await.told(e));
            }
            await_up::unit(&u.name, since).await
        }
        (Who::Container(c), Some(docker)) => {
            if let Some(project) = &c.project {
                await_up::healthy(docker, project, &c.after_healthy).await?;
            }
            let there = docker.set_restart(&c.name, &c.restart).await?;
            docker.unpause(&c.name).await?;
            let started = if there { docker.start(&c.name).await } else { Ok(false) };
            match started {
                Ok(true) => {}
                Ok(false) => return Err(gone(item, "Something removed it; make it again (`docker compose up -d`).")),
                Err(e) => return Err(Trouble::of_container(docker, &c.name).await.told(e)),
            }
            if wait {
                await_up::container(docker, &c.name).await?;
            }
            if c.state == "paused" {
                docker.pause(&c.name).await?;
            }
            Ok(())
        }
        (Who::Service(s), Some(docker)) => {
            let Some(now) = docker.service(&s.name).await? else {
                return Err(gone(item, "Something removed it; deploy it again."));
            };
            let failures = await_up::failures(docker, &s.name).await?;
            match s.replicas {
                // Whoever has scaled it to something else meanwhile knows better.
                Some(n) if docker.replicas(&s.name).await? == Some(0) => drop(docker.set_replicas(&s.name, n).await?),
                Some(_) => {}
                None if now.banished => drop(docker.banish(&s.name, false).await?),
                None => {}
            }
            if wait { await_up::service(docker, &s.name, failures).await } else { Ok(()) }
        }
        (_, None) => Err(Error::new(Kind::Internal, "Docker was not connected to")),
    }
}

fn gone(item: &Item, hint: &str) -> Error {
    Error::new(Kind::Restore, format!("{} is gone and cannot be started", item.who.label())).hint(hint)
}

/// The commands that start everything that ran, as it was.
pub(super) fn by_hand(snapshot: &Snapshot) -> Vec<String> {
    let items: Vec<&Item> = snapshot.items.iter().filter(|i| i.who.was_up()).collect();
    // Held, it would not start.
    let mut lines =
        hold::by_hand(&Snapshot { items: items.iter().map(|i| (*i).clone()).collect(), ..Snapshot::default() });
    for item in waves(&items, |item| item.start).iter().flatten() {
        match &item.who {
            Who::Unit(u) if u.name.ends_with(".target") => {
                lines.push(format!("systemctl start --job-mode=ignore-dependencies {}", quoted(&u.name)));
            }
            Who::Unit(u) => lines.push(format!("systemctl start {}", quoted(&u.name))),
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
