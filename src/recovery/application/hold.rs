//! Keeping what was stopped from starting before its time, over a reboot too: units by a condition, containers by their
//! restart policy. A service of a swarm stays as it is scaled.

use super::snapshot::{Item, Snapshot, Who};
use super::{PATIENCE, start};
use crate::error::{Error, Kind, Result};
use crate::host::docker::Docker;
use crate::host::systemd::{self, hold};
use crate::recovery::by_hand;
use crate::telemetry::monitor::{Event, Monitor};

/// What Docker does by itself with a container that is held.
const NEVER: &str = "no";

/// The daemon, when one of these is its own.
pub(super) async fn docker(items: &[&Item]) -> Result<Option<Docker>> {
    let is_service = |item: &&Item| matches!(item.who, Who::Service(_));
    if items.iter().all(|item| matches!(item.who, Who::Unit(_))) {
        return Ok(None);
    }
    Docker::connect_within(PATIENCE, items.iter().any(is_service)).await.map(Some).map_err(|e| e.kind(Kind::Restore))
}

pub(super) fn gone(item: &Item, monitor: &dyn Monitor) {
    monitor.event(Event::Warning(format!("{} is gone: something removed it", item.who.label())));
}

/// Holds everything. Nothing stops by that.
///
/// # Errors
/// When something cannot be held; then nothing of it must be stopped.
pub(super) async fn put(items: &[&Item], monitor: &dyn Monitor) -> Result<()> {
    let units: Vec<&str> = items
        .iter()
        .filter_map(|item| match &item.who {
            Who::Unit(u) if u.held => Some(u.name.as_str()),
            _ => None,
        })
        .collect();
    for unit in &units {
        hold::put(unit)?;
    }
    if !units.is_empty() {
        systemd::reload().await?;
    }
    for unit in units {
        let known = systemd::look(unit).await?;
        // Its file may be gone meanwhile; then it starts nevermore.
        if known.exists() && !known.drop_ins.contains(&hold::file(unit)) {
            return Err(Error::new(Kind::Restore, format!("systemd does not see that {unit} is held"))
                .at(hold::file(unit).display())
                .hint("`systemctl cat` shows the files that it reads."));
        }
    }
    if let Some(docker) = docker(items).await? {
        for item in items {
            let Who::Container(c) = &item.who else { continue };
            if c.restart != NEVER && !docker.set_restart(&c.name, NEVER).await? {
                gone(item, monitor);
            }
        }
    }
    Ok(())
}

/// Releases everything. Nothing starts by that.
///
/// # Errors
/// With all that cannot be released.
pub(super) async fn take(items: &[&Item], monitor: &dyn Monitor) -> Result<()> {
    let mut wrong = Vec::new();
    wrong.extend(take_units(items).await.err());
    if let Some(docker) = docker(items).await? {
        for item in items {
            let Who::Container(c) = &item.who else { continue };
            match docker.set_restart(&c.name, &c.restart).await {
                Ok(true) => {}
                Ok(false) => gone(item, monitor),
                Err(e) => wrong.push(e),
            }
        }
    }
    start::all(wrong)
}

/// Releases units.
///
/// # Errors
/// When a file cannot be removed.
pub(super) async fn take_units(items: &[&Item]) -> Result<()> {
    let mut any = false;
    for item in items {
        if let Who::Unit(u) = &item.who {
            any |= hold::take(&u.name)?;
        }
    }
    // The condition is met from now on; that it stands no longer in the unit is for whoever looks at it.
    if any { systemd::reload().await } else { Ok(()) }
}

/// The commands that release everything.
pub(super) fn by_hand(snapshot: &Snapshot) -> Vec<String> {
    let mut lines = Vec::new();
    for item in &snapshot.items {
        match &item.who {
            Who::Unit(u) if u.held => lines.push(format!("rm -f {}", by_hand::quoted(&hold::file(&u.name)))),
            _ => {}
        }
    }
    if !lines.is_empty() {
        lines.push("systemctl daemon-reload".to_owned());
    }
    for item in &snapshot.items {
        match &item.who {
            Who::Container(c) if c.restart != NEVER => {
                lines.push(format!("docker update --restart={} {}", c.restart, c.name));
            }
            _ => {}
        }
    }
    lines
}
