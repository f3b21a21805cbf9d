//! What a restore will do, before it does anything: a pure function of what was looked at.

use super::report::{AWAY, BACK, Report, forecast};
use super::resource::{Findings, Live, Space};
use crate::model::{BackupId, Name};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::path::PathBuf;

/// What is done to the application around the exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Told {
    /// What is stopped, in order.
    pub stops: Vec<String>,
    /// What of `stop` goes on, as `container:NAME`: it shows the page, or serves data of the plan.
    pub goes_on: Vec<String>,
    /// Of those that stop, what starts only after the checks.
    pub after_checks: Vec<String>,
    /// Server names that answer 503 meanwhile.
    pub maintenance: Vec<String>,
    /// Checks after the start.
    pub checks: Vec<String>,
    /// Hooks, with when they run.
    pub hooks: Vec<String>,
    /// Caches and queues that are emptied, with what they hold now.
    pub flushes: Vec<String>,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

/// One thing that is replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Target {
    /// Its label.
    pub target: String,
    /// Bytes that staging takes, by place.
    pub space: Vec<Room>,
    /// Its swap takes a time that grows with the data.
    pub slow_swap: bool,
    /// What becomes of what is live now.
    pub live: Live,
    /// Who uses it and is not stopped: the restore would be refused.
    pub users: Vec<String>,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

/// Room on one file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Room {
    /// Where.
    pub place: PathBuf,
    /// Bytes.
    pub needed: u64,
    /// Bytes; nothing when nobody can tell.
    pub free: Option<u64>,
}

impl From<&Space> for Room {
    fn from(s: &Space) -> Self {
        Room { place: s.place.clone(), needed: s.needed, free: s.free }
    }
}

/// One step with what it took the last time. Seconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Planned {
    /// Its name.
    pub step: String,
    /// Seconds.
    pub expected: Option<f64>,
}

/// The whole.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outline {
    /// Plan.
    pub plan: Name,
    /// Backup.
    pub backup: BackupId,
    /// The restore that is taken back, when it is a rollback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollback_of: Option<BackupId>,
    /// When the backup began, or the restore that is taken back ended. What was written between then and the stop will not be
    /// live.
    pub begun: Timestamp,
    /// How long ago that is. Seconds.
    pub age: i64,
    /// What is replaced.
    pub targets: Vec<Target>,
    /// What is done to the application.
    #[serde(flatten)]
    pub application: Told,
    /// Every step, in order.
    pub steps: Vec<Planned>,
    /// The restore whose durations are the forecast.
    pub measured_by: Option<BackupId>,
    /// All of it. Seconds.
    pub expected: Option<f64>,
    /// For how long the application will be away. Seconds; nothing when it never is, or when nobody knows.
    pub expected_outage: Option<f64>,
    /// How long what was live is kept.
    pub keep_previous: Option<i64>,
}

/// What was looked at, for [`outline`].
pub struct Looked<'a> {
    /// Plan.
    pub plan: &'a Name,
    /// Backup.
    pub backup: &'a BackupId,
    /// The restore that is taken back.
    pub rollback_of: Option<&'a BackupId>,
    /// When the backup began, or that restore ended.
    pub begun: Timestamp,
    /// Each resource with what was found.
    pub found: &'a [(String, Findings)],
    /// Names of the steps.
    pub steps: Vec<String>,
    /// What is done to the application.
    pub told: Told,
    /// The last completed restore of this plan.
    pub last: Option<&'a Report>,
    /// What the steps of a later drill of this plan took. Seconds.
    pub drilled: &'a [(String, f64)],
    /// How long what was live is kept.
    pub keep_previous: Option<SignedDuration>,
    /// The time.
    pub now: Timestamp,
}

/// Makes the outline.
pub fn outline(looked: Looked<'_>) -> Outline {
    let drilled = |step: &str| looked.drilled.iter().find(|(name, _)| name == step).map(|(_, seconds)| *seconds);
    let known = |step: &str| drilled(step).or_else(|| looked.last.and_then(|last| forecast(last)(step)));
    let steps: Vec<Planned> = looked.steps.iter().map(|s| Planned { step: s.clone(), expected: known(s) }).collect();
    let all: Vec<f64> = steps.iter().filter_map(|s| s.expected).collect();
    let between = |from: &[&str], to: &[&str]| {
        let first = steps.iter().position(|s| from.contains(&s.step.as_str()))?;
        let last = steps.iter().rposition(|s| to.contains(&s.step.as_str()))?;
        steps.get(first..=last)?.iter().map(|s| s.expected).sum::<Option<f64>>()
    };
    let target = |(label, f): &(String, Findings)| Target {
        target: label.clone(),
        space: f.space.iter().map(Room::from).collect(),
        slow_swap: f.slow_swap,
        live: f.live,
        users: f.users.clone(),
        warnings: f.warnings.clone(),
    };
    Outline {
        plan: looked.plan.clone(),
        backup: looked.backup.clone(),
        rollback_of: looked.rollback_of.cloned(),
        begun: looked.begun,
        age: looked.now.duration_since(looked.begun).as_secs(),
        targets: looked.found.iter().map(target).collect(),
        application: looked.told,
        expected_outage: between(AWAY, BACK),
        measured_by: looked.last.filter(|_| !all.is_empty()).map(|last| last.id.clone()),
        expected: (!all.is_empty() && all.len() == steps.len()).then(|| all.iter().sum()),
        keep_previous: looked.keep_previous.map(|d| d.as_secs()),
        steps,
    }
}
