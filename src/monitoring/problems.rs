//! What of an [`Overview`] needs somebody, the worst first. The page, `status` and the line for systemd say the same.

use super::overview::{Drilled, Overview, Plan};
use super::view::Key;
use crate::error::Kind;
use crate::model::{Name, size, time};
use crate::repository::drills::Outcome;
use crate::telemetry::monitor::Verb;
use crate::telemetry::runs::{Ending, Record};
use jiff::{SignedDuration, Timestamp};

/// A recovery key should be proven this often.
pub const PROVE_KEYS_EVERY: SignedDuration = SignedDuration::from_hours(24 * 90);
/// Data of less than one part in so many of what is usual is suspicious.
const SUSPICIOUS: u64 = 4;

/// How bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Data may be lost, or is not safe.
    Bad,
    /// It will be bad, or nobody knows.
    Notice,
}

impl Severity {
    /// As `--json` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Bad => "bad",
            Severity::Notice => "notice",
        }
    }
}

/// Something that needs somebody.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// How bad.
    pub severity: Severity,
    /// What, in a sentence without its full stop.
    pub what: String,
    /// What to do.
    pub todo: String,
}

/// All of them, the worst first.
pub fn problems(o: &Overview) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut add = |severity, what: String, todo: &str| found.push(Problem { severity, what, todo: todo.to_owned() });
    use Severity::{Bad, Notice};
    if o.open_restore.is_some() {
        add(
            Bad,
            "a restore is open: it was begun, and neither finished nor taken back".into(),
            "backstay restore --resume, or --unwind",
        );
    }
    for (name, plan) in &o.plans {
        old(o, name, plan, &mut add);
        small(o, name, plan, &mut add);
        drilled_elsewhere(o, name, &mut add);
    }
    for view in o.others.iter().filter_map(|(_, view)| view.as_ref()) {
        for drill in view.drills.iter().filter(|d| d.outcome == Outcome::Failed) {
            if view.drill(&drill.plan) == Some(drill) {
                let what =
                    format!("the last drill of plan {} of host {} failed, on {}", drill.plan, view.host, drill.machine);
                add(Bad, what, "look at its messages, and drill again");
            }
        }
    }
    for record in o.records.iter().filter(|r| r.host == o.host) {
        failed(record, &mut add);
    }
    if let Some(view) = &o.view {
        if view.missing > 0 {
            let n = size::plural(view.missing, "backup");
            add(Bad, format!("missing from the repository, and nobody forgot: {n}"), "backstay check");
        }
        if !view.unreadable.is_empty() {
            let n = size::plural(view.unreadable.len() as u64, "backup");
            add(Bad, format!("{n} cannot be read"), "backstay check");
        }
        if view.damaged > 0 {
            let n = size::plural(view.damaged, "damaged object");
            let backups = size::plural(view.incomplete.len() as u64, "backup");
            let what = format!("{backups} cannot be restored in full: {n} not stored again yet");
            add(Bad, what, "back up, which stores again what the host still has; then backstay check");
        }
    }
    for trouble in &o.troubles {
        add(Notice, trouble.clone(), "mend the file, or remove it");
    }
    found.extend(stale_keys(o));
    found.sort();
    found
}

/// Recovery keys that nobody has proven for long, or ever.
pub fn stale_keys(o: &Overview) -> Vec<Problem> {
    let keys = o.view.iter().flat_map(|view| &view.keys).filter(|key| key.role == "recovery");
    let stale = keys.filter(|key| key.proven.is_none_or(|at| o.now.duration_since(at) > PROVE_KEYS_EVERY));
    let problem = |key: &Key| {
        let what = match key.proven {
            None => format!("recovery key {} was never proven to open the vault", key.name),
            Some(at) => format!("recovery key {} was last proven {}", key.name, time::ago(at, o.now)),
        };
        let todo = "backstay --identity FILE key check, where it is kept".to_owned();
        Problem { severity: Severity::Notice, what, todo }
    };
    stale.map(problem).collect()
}

type Add<'a> = dyn FnMut(Severity, String, &str) + 'a;

/// By the repository and not by what this host remembers to have done.
fn old(o: &Overview, name: &Name, plan: &Plan, add: &mut Add<'_>) {
    let Some(view) = &o.view else {
        let what = format!("plan {name}: the repository was never seen by this host");
        return add(Severity::Notice, what, "backstay backup, or backstay list");
    };
    let Some(newest) = view.newest_complete(name) else {
        let what = format!("plan {name} has no complete backup");
        return add(Severity::Bad, what, &format!("backstay backup {name}"));
    };
    let age = o.now.duration_since(newest.at);
    let limit = SignedDuration::try_from(plan.max_age).unwrap_or(SignedDuration::MAX);
    if age > limit {
        let what = format!(
            "the newest complete backup of plan {name} is {} old, and {} is the goal",
            time::words(age),
            time::words(limit)
        );
        add(Severity::Bad, what, &format!("backstay backup {name}"));
    }
}

fn small(o: &Overview, name: &Name, plan: &Plan, add: &mut Add<'_>) {
    let Some(view) = &o.view else { return };
    for (source, _) in &plan.sources {
        if let Some((backup, bytes, Some(usual))) = view.sizes(name, source)
            && bytes < usual / SUSPICIOUS
        {
            let (bytes, usual) = (size::human(bytes), size::human(usual));
            let what = format!("source {source} of plan {name} has {bytes} in its newest backup, and usually {usual}");
            add(Severity::Bad, what, &format!("look; when it is right: backstay hold {} --acknowledge", backup.id));
        }
    }
}

/// Drills of this host that another machine did; its own are in its records.
fn drilled_elsewhere(o: &Overview, name: &Name, add: &mut Add<'_>) {
    if let Some(Drilled { good: false, machine: Some(machine), at, .. }) = o.drill(name) {
        let what = format!("the last drill of plan {name}, {} on {machine}, failed", time::ago(at, o.now));
        add(Severity::Bad, what, "look at its messages there, and drill again");
    }
}

fn failed(record: &Record, add: &mut Add<'_>) {
    let Some(last) = record.last.as_ref().filter(|last| last.ending != Ending::Success) else { return };
    // Somebody sat before it, was told so, and nothing was touched.
    let nothing_done = [Kind::Usage, Kind::NotFound, Kind::Refused].map(|k| Some(k.exit_code()));
    if matches!(record.verb, Verb::Restore | Verb::Rollback) && nothing_done.contains(&last.exit_code) {
        return;
    }
    let of = record.plan.as_ref().map(|plan| format!(" of plan {plan}")).unwrap_or_default();
    let mut sources = 0;
    for (name, source) in &record.sources {
        if let (Verb::Backup, Some(why)) = (record.verb, &source.error) {
            sources += 1;
            add(Severity::Bad, format!("source {name}{of} failed: {why}"), "mend the cause, and back up again");
        }
    }
    let of_sources = [Kind::Partial, Kind::Source].map(|k| Some(k.exit_code()));
    if sources > 0 && of_sources.contains(&last.exit_code) {
        return;
    }
    let why = last.error.as_deref().unwrap_or("for an unknown reason");
    let what = match last.ending {
        Ending::Killed => format!("the last {}{of}, begun {}, was killed", record.verb, time::utc(last.started)),
        _ => format!("the last {}{of} failed: {why}", record.verb),
    };
    let severity = match record.verb {
        Verb::Backup | Verb::Restore | Verb::Rollback | Verb::Drill | Verb::Check => Severity::Bad,
        _ => Severity::Notice,
    };
    add(severity, what, "look at its messages, and run it again");
}

/// When something happened, in words.
pub fn when(at: Option<Timestamp>, now: Timestamp) -> String {
    at.map_or_else(|| "never".to_owned(), |at| time::ago(at, now))
}
