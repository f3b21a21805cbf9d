//! One moment for all sources of a group: stopped together, let go together, measured.

use super::quiesce::Quiet;
use crate::error::{Error, Kind, Result};
use crate::host::docker::Docker;
use crate::model::Name;
use crate::sources::Source;
use crate::sources::window::{self, Hold, Shutter, Who, Window};
use crate::telemetry::monitor::{Event, Monitor};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Sources that share a moment.
pub struct Moment {
    /// The configured name of the group, when there is one.
    group: Option<String>,
    members: Vec<Name>,
    holds: Result<BTreeMap<Who, Hold>>,
    shutter: Shutter,
}

/// What a moment came to.
pub struct Told {
    /// The sources.
    pub members: Vec<Name>,
    /// For the facts of each: `None` when nobody stood still and nobody was asked to share.
    pub facts: Option<serde_json::Value>,
    /// Why not everybody runs again.
    pub failed: Option<Error>,
}

/// Puts sources into moments: by their configured groups, and those together that want the same one still, since
/// nobody can be stopped and running. Gives each source's window by its name.
pub async fn plan(
    sources: &[(Name, Arc<dyn Source>)],
    groups: &BTreeMap<Name, String>,
) -> (Vec<Moment>, BTreeMap<Name, Window>) {
    let mut moments: Vec<Moment> = Vec::new();
    for (name, source) in sources {
        let holds = source.holds().await.map(|holds| merge(BTreeMap::new(), holds));
        let group = groups.get(name).cloned();
        let new = Moment { group, members: vec![name.clone()], holds, shutter: Shutter::new() };
        let (mut same, others): (Vec<Moment>, Vec<Moment>) = moments.into_iter().partition(|m| m.meets(&new));
        same.push(new);
        moments = others;
        moments.extend(same.into_iter().reduce(Moment::join));
    }
    for moment in &mut moments {
        if let Err(e) = needed_ones_run(moment, sources).await {
            moment.holds = Err(e);
        }
    }
    let windows = moments.iter().flat_map(|m| m.members.iter().map(|n| (n.clone(), m.shutter.window()))).collect();
    (moments, windows)
}

fn merge(mut all: BTreeMap<Who, Hold>, more: impl IntoIterator<Item = Hold>) -> BTreeMap<Who, Hold> {
    for hold in more {
        let kept = all.entry(hold.who.clone()).or_insert_with(|| hold.clone());
        kept.how = kept.how.max(hold.how);
    }
    all
}

/// What a source needs to run must not be stopped for another one.
async fn needed_ones_run(moment: &Moment, sources: &[(Name, Arc<dyn Source>)]) -> Result<()> {
    let Ok(holds) = &moment.holds else { return Ok(()) };
    let needed: Vec<(&Name, String)> =
        sources.iter().flat_map(|(name, s)| s.needs().into_iter().map(move |n| (name, n))).collect();
    if holds.is_empty() || needed.is_empty() {
        return Ok(());
    }
    let docker = Docker::connect().await?;
    for (name, reference) in needed {
        // Whether it is there at all is for the source itself to say.
        let Ok(container) = docker.find(&reference).await else { continue };
        let service = container.swarm_service().map(|s| Who::Service(s.to_owned()));
        let who = [Some(Who::Container(container.name.clone())), service].into_iter().flatten();
        if let Some(who) = who.into_iter().find(|who| holds.contains_key(who)) {
            return Err(Error::new(
                Kind::Source,
                format!("{who} would be stopped or paused, and source {name} needs it"),
            )
            .hint(
                "Leave its volume out (the dump has its content), or read the volume with `while_reading = \"run\"`.",
            ));
        }
    }
    Ok(())
}

impl Moment {
    fn meets(&self, other: &Moment) -> bool {
        let shared = match (&self.holds, &other.holds) {
            (Ok(a), Ok(b)) => a.keys().any(|who| b.contains_key(who)),
            _ => false,
        };
        shared || (self.group.is_some() && self.group == other.group)
    }

    fn join(mut self, other: Moment) -> Moment {
        self.members.extend(other.members);
        self.group = match (self.group, other.group) {
            (Some(a), Some(b)) if a != b => Some(format!("{a}, {b}")),
            (a, b) => a.or(b),
        };
        self.holds = match (self.holds, other.holds) {
            (Ok(a), Ok(b)) => Ok(merge(a, b.into_values())),
            (Err(e), _) | (_, Err(e)) => Err(e),
        };
        self
    }

    fn label(&self) -> String {
        let members: Vec<&str> = self.members.iter().map(Name::as_str).collect();
        self.group.as_ref().map_or_else(|| members.join(", "), |group| format!("group {group}"))
    }

    /// Makes everybody stand still, opens the window, waits until all sources are done, and puts everybody back.
    pub async fn keep(self, state_dir: &Path, monitor: Arc<dyn Monitor>) -> Told {
        let label = self.label();
        let Moment { group, members, holds, shutter } = self;
        let holds: Vec<Hold> = match holds {
            Ok(holds) => holds.into_values().collect(),
            Err(e) => {
                shutter.open(Err(e)).await;
                return Told { members, facts: None, failed: None };
            }
        };
        if holds.is_empty() && group.is_none() {
            shutter.open(Ok(window::Moment::Any)).await;
            return Told { members, facts: None, failed: None };
        }
        let started = Instant::now();
        let quiet = match still(&holds, state_dir, &*monitor).await {
            Ok(quiet) => quiet,
            Err(e) => {
                shutter.open(Err(e)).await;
                return Told { members, facts: None, failed: None };
            }
        };
        shutter.open(Ok(window::Moment::Once)).await;
        let failed = match quiet {
            Some(quiet) => quiet.release(false).await.err(),
            None => None,
        };
        // Told at once: when no source is complete, the run ends with that error and not with this one.
        if let Some(e) = &failed {
            monitor.event(Event::Warning(e.to_string()));
        }
        let seconds = started.elapsed().as_secs_f64();
        monitor.event(Event::StoodStill(label, seconds));
        let still: BTreeSet<String> = holds.iter().map(|h| h.who.to_string()).collect();
        let facts = serde_json::json!({ "group": group, "seconds": seconds, "still": still, "with": members });
        Told { members, facts: Some(facts), failed }
    }
}

/// Makes everybody stand still; on a failure whoever is still goes on at once.
async fn still(holds: &[Hold], state_dir: &Path, monitor: &dyn Monitor) -> Result<Option<Quiet>> {
    if holds.is_empty() {
        return Ok(None);
    }
    let mut quiet = Quiet::begin(Docker::connect().await?, state_dir)?;
    match quiet.hold(holds, monitor).await {
        Ok(()) => Ok(Some(quiet)),
        Err(e) => match quiet.release(true).await {
            Ok(()) => Err(e),
            Err(back) => Err(e.hint(back.to_string())),
        },
    }
}
