//! A unit with its family: what would start it again, and what is stopped along with it.

use super::look::{Found, refused};
use super::snapshot::{UnitBefore, Was, Who};
use crate::error::{Error, Kind, Result};
use crate::host::systemd::unit::Unit;
use crate::host::systemd::{self, hold};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Units that every container of the machine hangs on.
const ENGINES: &[&str] = &["docker.service", "docker.socket", "containerd.service"];
/// How long one may be in the middle of stopping before that is a refusal.
const STOPPING: Duration = Duration::from_secs(10);
/// A pause between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// Finds the family of one unit after the other.
pub(super) struct Families<'a> {
    /// What is never stopped, as `unit:NAME`.
    pub spare: &'a BTreeSet<String>,
    /// What of that was named.
    pub spared: BTreeSet<String>,
}

/// Who of a family is looked at next.
struct Next {
    name: String,
    why: Option<String>,
    /// The ones that led here are done, so it may be put down.
    ready: Option<Box<Unit>>,
}

impl Next {
    fn new(name: &str, why: String) -> Self {
        Next { name: name.to_owned(), why: Some(why), ready: None }
    }
}

impl Families<'_> {
    /// A unit and whatever is stopped with it, in the order of stopping: timers, sockets and paths that would start one
    /// again, then those that are stopped along with one, then the unit.
    ///
    /// # Errors
    /// [`Kind::Refused`] for one that there is not, that cannot be started again, or that must not be stopped.
    pub async fn of(&mut self, name: &str) -> Result<Vec<Found>> {
        let unit = systemd::look(name).await.map_err(|e| e.kind(Kind::Refused))?;
        if !unit.exists() {
            return Err(unknown(name).await);
        }
        let key = format!("unit:{}", unit.name);
        if self.spare.contains(&key) {
            self.spared.insert(key);
            return Ok(Vec::new());
        }
        let mut seen = BTreeSet::from([unit.name.clone()]);
        let mut found = Vec::new();
        let mut todo = vec![Next { name: unit.name, why: None, ready: None }];
        while let Some(next) = todo.pop() {
            if let Some(unit) = next.ready {
                found.push(Found { who: Who::Unit(before(&unit)), why: next.why });
                continue;
            }
            let unit = settled(&next.name).await?;
            self.check(&unit, next.why.as_deref(), name)?;
            let mut earlier = Vec::new();
            for trigger in &unit.triggered_by {
                if seen.insert(trigger.clone()) {
                    earlier.push(Next::new(trigger, format!("it starts {}", unit.name)));
                }
            }
            for along in &unit.stopped_along {
                if !seen.contains(along) && settled(along).await?.is_up() {
                    seen.insert(along.clone());
                    earlier.push(Next::new(along, format!("it is stopped along with {}", unit.name)));
                }
            }
            let mut later = Vec::new();
            for triggered in &unit.triggers {
                if seen.insert(triggered.clone()) {
                    later.push(Next::new(triggered, format!("it is started by {}", unit.name)));
                }
            }
            // What goes on the pile last is looked at first.
            todo.extend(later.into_iter().rev());
            todo.push(Next { name: next.name, why: next.why, ready: Some(Box::new(unit)) });
            todo.extend(earlier.into_iter().rev());
        }
        Ok(found)
    }

    fn check(&self, unit: &Unit, why: Option<&str>, asked: &str) -> Result<()> {
        let name = &unit.name;
        let refuse = |what: String, hint: String| Err(refused(what, why.map(str::to_owned)).hint(hint));
        if self.spare.contains(&format!("unit:{name}")) {
            return refuse(
                format!("stopping {asked} would stop {name}, which serves the plan's own data or shows the page"),
                format!("Take {asked} out of `stop`, or name what of it is to be stopped."),
            );
        }
        if ENGINES.contains(&name.as_str()) {
            return refuse(
                format!("stopping {name} would stop every container of this machine"),
                "Name the containers, compose projects or services instead.".to_owned(),
            );
        }
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        if systemd::unit::of_groups(&own) == Some(name.as_str()) {
            return refuse(format!("this restore itself runs in {name}"), "Run it from elsewhere.".to_owned());
        }
        match unit.load.as_str() {
            "masked" if unit.is_up() => {
                return refuse(
                    format!("{name} runs and is masked: it could not be started again"),
                    format!("`systemctl unmask {name}`, or take it out of `stop`."),
                );
            }
            "loaded" | "masked" => {}
            _ if why.is_some() && !unit.is_up() => {}
            other => {
                return Err(refused(format!("{name} could not be started again: systemd says {other:?}"), None)
                    .because(unit.load_error.clone())
                    .hint(format!("`systemctl status {name}` says more.")));
            }
        }
        if unit.transient && unit.is_up() {
            return refuse(
                format!("{name} has no file and is gone once it has stopped"),
                "Stop it by hand before the restore, or make a unit file of it.".to_owned(),
            );
        }
        if hold::is_held(name) {
            return refuse(
                format!("{name} is still kept from starting by an earlier restore"),
                format!(
                    "If none is open (`backstay status`): rm {}; systemctl daemon-reload.",
                    hold::file(name).display()
                ),
            );
        }
        Ok(())
    }
}

/// Looks at a unit that may be stopping just now.
async fn settled(name: &str) -> Result<Unit> {
    let started = Instant::now();
    loop {
        let unit = systemd::look(name).await.map_err(|e| e.kind(Kind::Refused))?;
        if unit.active != "deactivating" {
            return Ok(unit);
        }
        if started.elapsed() > STOPPING {
            return Err(refused(format!("{name} is stopping just now"), Some(unit.state()))
                .hint("Try again when it has stopped, or start it."));
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn before(unit: &Unit) -> UnitBefore {
    let was = match unit.active.as_str() {
        "activating" if unit.is_looping() => Was::Looping,
        "activating" if unit.job => Was::Job,
        // A job that failed has its next time.
        "failed" if !unit.job => Was::Failed,
        _ if unit.is_up() => Was::Running,
        _ => Was::Idle,
    };
    UnitBefore {
        name: unit.name.clone(),
        was,
        state: unit.state(),
        held: unit.load == "loaded" && !unit.name.ends_with(".target"),
        triggers: unit.triggers.clone(),
    }
}

async fn unknown(name: &str) -> Error {
    let similar = systemd::similar(name).await;
    refused(format!("there is no unit {name}"), None).hint(if similar.is_empty() {
        "`systemctl list-units --all` shows what there is.".to_owned()
    } else {
        format!("There are: {}.", similar.join(", "))
    })
}
