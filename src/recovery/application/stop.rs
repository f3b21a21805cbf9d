//! Stopping everything, one after the other, each until it has stopped.

use super::hold::{docker, gone};
use super::snapshot::{Item, Who};
use crate::error::{Error, Kind, Result};
use crate::host::docker::Docker;
use crate::host::systemd;
use crate::recovery::by_hand::word;
use crate::telemetry::monitor::{Event, Monitor};
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long the tasks of a service may take to end beyond the time that they are given.
const TASKS: Duration = Duration::from_secs(60);
/// A pause between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// Which containers were told to stop and have perhaps not done it. As long as nobody has said that there are none it
/// may be any of them.
#[derive(Default)]
pub(super) struct Told(Mutex<Option<BTreeSet<String>>>);

impl Told {
    fn names(&self) -> MutexGuard<'_, Option<BTreeSet<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// None is stopping now.
    pub(super) fn nobody_yet(&self) {
        *self.names() = Some(BTreeSet::new());
    }

    fn tells(&self, container: &str) {
        if let Some(told) = self.names().as_mut() {
            told.insert(container.to_owned());
        }
    }

    fn has_ended(&self, container: &str) {
        if let Some(told) = self.names().as_mut() {
            told.remove(container);
        }
    }

    fn may_be_stopping(&self, container: &str) -> bool {
        self.names().as_ref().is_none_or(|told| told.contains(container))
    }
}

/// Stops everything in its order, and looks at the end whether it has stayed so. What has stopped already is fine.
///
/// # Errors
/// With the first that does not stop; whatever was to stop after it still runs.
pub(super) async fn stop(items: &[&Item], told: &Told, monitor: &dyn Monitor) -> Result<()> {
    let docker = docker(items).await?;
    for wave in waves(items, |item| item.stop) {
        let each = wave.iter().map(|item| one(item, docker.as_ref(), told, monitor));
        for result in futures::future::join_all(each).await {
            result.map_err(|e| e.kind(Kind::Restore))?;
        }
    }
    for item in items {
        if let Some(state) = still_runs(item, docker.as_ref()).await? {
            return Err(Error::new(Kind::Restore, format!("{} was stopped and runs again", item.who.label()))
                .because(state)
                .hint("Something starts it, which must be stopped too: name it in `stop`."));
        }
    }
    Ok(())
}

/// Waits for containers that may be stopping still, because whoever told them to has given up or is gone: what looks as
/// if it ran would not be started, and be down a moment later.
///
/// # Errors
/// When the daemon does not answer.
pub(super) async fn settled(items: &[&Item], told: &Told) -> Result<()> {
    let Some(docker) = docker(items).await? else { return Ok(()) };
    let docker = &docker;
    let ran = items.iter().filter_map(|item| match &item.who {
        Who::Container(c) if c.was_up() && told.may_be_stopping(&c.name) => Some(c.name.as_str()),
        _ => None,
    });
    let each = ran.map(|name| async move { docker.settle(name, docker.stop_seconds(name).await?).await });
    for result in futures::future::join_all(each).await {
        result.map_err(|e| e.kind(Kind::Restore))?;
    }
    Ok(())
}

/// Items in an order, those of the same place together.
pub(super) fn waves<'a>(items: &[&'a Item], place: impl Fn(&Item) -> usize) -> Vec<Vec<&'a Item>> {
    let mut sorted = items.to_vec();
    sorted.sort_by_key(|item| place(item));
    sorted.chunk_by(|a, b| place(a) == place(b)).map(<[&Item]>::to_vec).collect()
}

async fn one(item: &Item, docker: Option<&Docker>, told: &Told, monitor: &dyn Monitor) -> Result<()> {
    match (&item.who, docker) {
        (Who::Unit(u), _) => {
            let unit = systemd::look(&u.name).await?;
            if !unit.exists() {
                gone(item, monitor);
                return Ok(());
            }
            // One that does not run may be about to: a job that waits is taken back.
            if unit.load != "masked" || unit.is_up() {
                systemd::stop(&unit).await?;
            }
            let now = systemd::look(&u.name).await?;
            if now.is_up() {
                return Err(Error::new(Kind::Restore, format!("unit {} does not stop", u.name)).because(now.state()));
            }
            if unit.is_up() && now.result == "timeout" {
                killed(item, monitor);
            }
        }
        (Who::Container(c), Some(docker)) => {
            let was_up = docker.container(&c.name).await?.is_some_and(|c| c.is_up());
            told.tells(&c.name);
            let ended = docker.stop(&c.name).await?;
            told.has_ended(&c.name);
            match ended {
                Some(137) if was_up => killed(item, monitor),
                Some(_) => {}
                None => gone(item, monitor),
            }
        }
        (Who::Service(s), Some(docker)) => {
            let Some(service) = docker.service(&s.name).await? else {
                gone(item, monitor);
                return Ok(());
            };
            match s.replicas {
                Some(_) => docker.set_replicas(&s.name, 0).await?,
                None => docker.banish(&s.name, true).await?,
            };
            ended(docker, &s.name, service.grace + TASKS).await?;
        }
        (_, None) => return Err(Error::new(Kind::Internal, "Docker was not connected to")),
    }
    Ok(())
}

fn killed(item: &Item, monitor: &dyn Monitor) {
    monitor.event(Event::Warning(format!(
        "{} did not stop in its time and was killed: what it had not written is lost",
        item.who.label()
    )));
}

/// Waits until a service has no task on any node.
async fn ended(docker: &Docker, service: &str, limit: Duration) -> Result<()> {
    let started = Instant::now();
    loop {
        let left = docker.tasks(service).await?.into_iter().filter(|t| !t.ended).count();
        if left == 0 && docker.tasks_here(service).await?.is_empty() {
            return Ok(());
        }
        if started.elapsed() > limit {
            return Err(Error::new(Kind::Restore, format!("the tasks of service {service} do not end"))
                .because(format!("{left} are left after {} seconds", limit.as_secs()))
                .hint(format!("`docker service ps {service}` shows on which nodes.")));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The state of something that should have stopped.
async fn still_runs(item: &Item, docker: Option<&Docker>) -> Result<Option<String>> {
    Ok(match (&item.who, docker) {
        (Who::Unit(u), _) => Some(systemd::look(&u.name).await?).filter(|u| u.is_up()).map(|u| u.state()),
        (Who::Container(c), Some(docker)) => docker.container(&c.name).await?.filter(|c| c.is_up()).map(|c| c.state),
        (Who::Service(s), Some(docker)) => {
            let running = docker.tasks_here(&s.name).await?.len();
            (running > 0).then(|| format!("{running} containers"))
        }
        (_, None) => None,
    })
}

/// The commands that stop these.
pub(super) fn by_hand(items: &[&Item]) -> Vec<String> {
    let ordered = waves(items, |item| item.stop);
    let lines = ordered.iter().flatten().map(|item| match &item.who {
        Who::Unit(u) => format!("systemctl stop {}", word(&u.name)),
        Who::Container(c) => format!("docker stop {}", c.name),
        Who::Service(s) if s.replicas.is_some() => format!("docker service scale {}=0", s.name),
        Who::Service(s) => Docker::banish_by_hand(&s.name),
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_told_and_has_not_ended_is_waited_for_and_after_a_crash_everything() {
        let told = Told::default();
        told.tells("web");
        told.has_ended("web");
        assert!(told.may_be_stopping("web") && told.may_be_stopping("db"));
        told.nobody_yet();
        assert!(!told.may_be_stopping("web"));
        told.tells("web");
        told.tells("db");
        told.has_ended("db");
        assert_eq!(["web", "db", "later"].map(|name| told.may_be_stopping(name)), [true, false, false]);
    }
}
