//! Whether something that was started really runs: not only that nobody said no.

use super::snapshot::{Item, Who};
use crate::error::{Error, Kind, Result};
use crate::host::docker::Docker;
use crate::host::docker::find::{COMPOSE_PROJECT, COMPOSE_SERVICE};
use crate::host::docker::services::{Mode, Task};
use crate::host::systemd::{self, journal};
use jiff::Timestamp;
use std::time::{Duration, Instant};

/// How long a container may take to become healthy, and a service to have all its tasks.
const HEALTH: Duration = Duration::from_secs(300);
/// How long everything that was started has to go on running before that is believed.
const STEADY: Duration = Duration::from_secs(1);
/// So many tasks that failed anew are no accident.
const FAILURES: usize = 3;
/// A pause between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// Why something does not run, in its own words.
pub(super) struct Trouble {
    label: String,
    lines: String,
}

impl Trouble {
    /// With the last lines of its journal.
    pub async fn of_unit(unit: &str, since: Timestamp) -> Self {
        Trouble { label: format!("unit {unit}"), lines: journal::last_lines(unit, since).await }
    }

    /// With the last lines of its log.
    pub async fn of_container(docker: &Docker, container: &str) -> Self {
        Trouble { label: format!("container {container}"), lines: docker.last_lines(container).await }
    }

    fn error(self, why: &str) -> Error {
        Error::new(Kind::Restore, format!("{} does not start", self.label))
            .because(format!("{why}\nit said:\n{}", self.lines))
    }

    /// An error of somebody who was asked to start it, with what it said itself.
    pub fn told(self, e: Error) -> Error {
        let mut why = e.what.clone();
        if let Some(cause) = &e.cause {
            why = format!("{why}: {cause}");
        }
        let error = self.error(&why);
        match e.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

/// A unit after its job is done: it runs, or it was a job and ended well.
pub(super) async fn unit(name: &str, since: Timestamp) -> Result<()> {
    let unit = systemd::look(name).await?;
    let ran = unit.job && unit.active == "inactive" && unit.result == "success";
    let runs = matches!(unit.active.as_str(), "active" | "reloading" | "refreshing");
    if ran || runs {
        return Ok(());
    }
    let why = match unit.active.as_str() {
        "inactive" => format!("it is {}: it ended at once, or a condition of it is not met", unit.state()),
        // Its next try may begin while it is looked at.
        _ if unit.is_looping() || unit.active == "activating" && unit.restarts > 0 => {
            format!("it is {}: it ends and is started again", unit.state())
        }
        _ => format!("it is {}", unit.state()),
    };
    Err(Trouble::of_unit(name, since).await.error(&why))
}

/// A container after its start: it runs, and is healthy when that is looked after. One that ended well has done what it
/// was there for.
pub(super) async fn container(docker: &Docker, name: &str) -> Result<()> {
    let started = Instant::now();
    loop {
        let Some(c) = docker.container(name).await? else {
            return Err(Error::new(Kind::Restore, format!("container {name} was started and is gone")));
        };
        let why = match (c.state.as_str(), c.health.as_deref()) {
            ("running" | "paused", None | Some("healthy")) => return Ok(()),
            ("running", Some("unhealthy")) => "its health check fails".to_owned(),
            ("running", health) if started.elapsed() > HEALTH => {
                format!("after {} seconds its health is {:?}", HEALTH.as_secs(), health.unwrap_or_default())
            }
            ("running", _) => {
                tokio::time::sleep(LOOK).await;
                continue;
            }
            ("exited", _) if c.exit_code == 0 && c.restart == "no" => return Ok(()),
            (state, _) => format!("it is {state}, with exit status {}", c.exit_code),
        };
        return Err(Trouble::of_container(docker, name).await.error(&why));
    }
}

/// Containers of a compose project that another needs to be healthy.
pub(super) async fn healthy(docker: &Docker, project: &str, services: &[String]) -> Result<()> {
    if services.is_empty() {
        return Ok(());
    }
    for c in docker.containers("label", &format!("{COMPOSE_PROJECT}={project}")).await? {
        let needed = c.labels.get(COMPOSE_SERVICE).is_some_and(|s| services.contains(s));
        if needed && c.is_up() {
            container(docker, &c.name).await?;
        }
    }
    Ok(())
}

/// How many of these tasks have failed since a time.
fn failed(tasks: &[Task], since: Timestamp) -> usize {
    let bad = |t: &&Task| matches!(t.state.as_str(), "failed" | "rejected") && t.since.is_some_and(|at| at >= since);
    tasks.iter().filter(bad).count()
}

/// A service after it was scaled: all tasks that it is to have run.
pub(super) async fn service(docker: &Docker, name: &str, since: Timestamp) -> Result<()> {
    let started = Instant::now();
    loop {
        let Some(service) = docker.service(name).await? else {
            return Err(Error::new(Kind::Restore, format!("service {name} was started and is gone")));
        };
        let tasks = docker.tasks(name).await?;
        let wanted = tasks.iter().filter(|t| t.desired == "running").count();
        let running = tasks.iter().filter(|t| t.desired == "running" && t.state == "running").count();
        let enough = match service.mode {
            Mode::Replicated(n) => usize::try_from(n).is_ok_and(|n| running >= n),
            Mode::Global | Mode::Job => running > 0,
        };
        if enough && running == wanted {
            return Ok(());
        }
        if failed(&tasks, since) >= FAILURES || started.elapsed() > HEALTH {
            let last = tasks.iter().rev().find(|t| !t.error.is_empty());
            let error = last.map_or("no task of it failed, and none can be placed".to_owned(), |t| t.error.clone());
            let container = tasks.iter().rev().find_map(|t| t.container.clone());
            let lines = match container {
                Some(container) => docker.last_lines(&container).await,
                None => "(no container of it was made)".to_owned(),
            };
            return Err(Trouble { label: format!("service {name}"), lines }
                .error(&format!("{running} of {wanted} tasks run; the last error: {error}"))
                .hint(format!("`docker service ps --no-trunc {name}` says more.")));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Whether each of those that were started goes on running.
pub(super) async fn steady(items: &[&Item], docker: Option<&Docker>, since: Timestamp) -> Vec<Result<()>> {
    if !items.is_empty() {
        tokio::time::sleep(STEADY).await;
    }
    futures::future::join_all(items.iter().map(|item| goes_on(item, docker, since))).await
}

async fn goes_on(item: &Item, docker: Option<&Docker>, since: Timestamp) -> Result<()> {
    let again = |times: &dyn std::fmt::Display| format!("it ended and was started again, {times} times by now");
    match (&item.who, docker) {
        (Who::Unit(u), _) => {
            unit(&u.name, since).await?;
            match systemd::look(&u.name).await?.restarts {
                0 => Ok(()),
                n => Err(Trouble::of_unit(&u.name, since).await.error(&again(&n))),
            }
        }
        (Who::Container(c), Some(docker)) => {
            container(docker, &c.name).await?;
            match docker.container(&c.name).await?.map_or(0, |c| c.restarts) {
                0 => Ok(()),
                n => Err(Trouble::of_container(docker, &c.name).await.error(&again(&n))),
            }
        }
        // Tasks may fail once, for want of another service, and be made anew; then it takes longer to believe.
        (Who::Service(s), Some(docker)) => loop {
            service(docker, &s.name, since).await?;
            let before = failed(&docker.tasks(&s.name).await?, since);
            if before == 0 {
                return Ok(());
            }
            tokio::time::sleep(3 * STEADY).await;
            if failed(&docker.tasks(&s.name).await?, since) == before {
                return service(docker, &s.name, since).await;
            }
        },
        (_, None) => Ok(()),
    }
}
