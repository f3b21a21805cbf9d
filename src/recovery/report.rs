//! What a restore leaves for those who ask later: a pure function of its journal.

use super::asked::{Asked, asked_of};
use super::engine::{START, SWAP};
use super::journal::{Entry, Journal, Record, State};
use super::resource::Compared;
use crate::error::Result;
use crate::model::{BackupId, Name};
use jiff::Timestamp;
use serde::Serialize;

/// Steps that take the application away; the first of them that is there begins the outage.
pub const AWAY: &[&str] = &["maintenance on", "hold the application", QUIET];
/// Steps that give it back; the last of them that is there ends the outage.
pub const BACK: &[&str] = &[START, "start the rest of the application", "maintenance off"];
/// From here on nothing more is written to what was live.
const QUIET: &str = "stop the application";

/// How a restore ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// What was asked for is live.
    Restored,
    /// Everything is as it was.
    Undone,
    /// An undo failed.
    Stuck,
    /// It was interrupted, and waits.
    Open,
}

/// How one step went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Went {
    /// Done.
    Done,
    /// It failed, and was undone.
    Failed,
    /// Done, and undone later.
    Undone,
    /// In the middle of it.
    Open,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepReport {
    /// Its name.
    pub name: String,
    /// When it began.
    pub began: Timestamp,
    /// What it took, without the undo. Seconds.
    pub seconds: f64,
    /// What its undo took. Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undo_seconds: Option<f64>,
    /// How it went.
    pub went: Went,
}

/// A span of time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Span {
    /// From.
    pub from: Timestamp,
    /// To.
    pub to: Timestamp,
    /// Between them. Seconds.
    pub seconds: f64,
}

impl Span {
    fn new(from: Timestamp, to: Timestamp) -> Self {
        Span { from, to, seconds: seconds(from, to) }
    }
}

/// A restore as it went.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The restore.
    pub id: BackupId,
    /// Plan.
    pub plan: Name,
    /// The backup that was restored.
    pub backup: BackupId,
    /// Who asked.
    pub by: String,
    /// The restore that this one took back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollback_of: Option<BackupId>,
    /// From the first record to the last.
    pub whole: Span,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// When the application was away; nothing when it never was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outage: Option<Span>,
    /// What was written in this time is not in what was restored; it is in what was kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<Span>,
    /// Every step that began.
    pub steps: Vec<StepReport>,
    /// The comparison with the facts of the backup.
    pub verified: Vec<Compared>,
    /// What the connecting role may not make, and so was left out of databases.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    /// What of owner, grants and settings could not be given to databases, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_given: Vec<String>,
    /// What the tools of a database said although they succeeded.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// What taking it back has left on purpose, and where.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kept: Vec<String>,
    /// Checks of the application, as their steps left them.
    pub checks: Vec<serde_json::Value>,
}

fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64().max(0.0)
}

/// What stands under this key of a note, as far as it is a list of texts.
pub fn texts(note: &serde_json::Value, key: &str) -> Vec<String> {
    let list = note.get(key).and_then(|v| v.as_array()).into_iter().flatten();
    list.filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

/// The note of what was staged, behind those of its databases.
pub fn each(staged: &serde_json::Value) -> impl Iterator<Item = &serde_json::Value> {
    staged.get("databases").and_then(|v| v.as_array()).into_iter().flatten().chain([staged])
}

/// What of owner, grants and settings could not be given to databases, out of the note of the step that puts them in
/// place.
pub fn not_given(swap: &serde_json::Value) -> Vec<String> {
    let given = |list: &str, key: &str| -> Vec<String> {
        let databases = swap.get(list).and_then(|v| v.as_array()).into_iter().flatten();
        let told = databases.flat_map(|of| {
            let name = of.get("live").and_then(|v| v.as_str()).unwrap_or_default();
            texts(of, key).into_iter().map(move |what| format!("database {name}: {what}"))
        });
        told.collect()
    };
    [given("exchanges", "left_out"), given("databases", "not_given")].concat()
}

/// Reads a journal.
///
/// # Errors
/// When this version cannot understand what was asked for.
pub fn of(journal: &Journal) -> Result<Report> {
    let about = journal.about();
    let asked: Asked = asked_of(journal)?;
    let entries = journal.entries();
    let (first, last) = (entries.first().map(|e| e.at), entries.last().map(|e| e.at));
    let whole = Span::new(first.unwrap_or_default(), last.unwrap_or_default());
    let outcome = match journal.state() {
        State::Committed => Outcome::Restored,
        State::Unwound => Outcome::Undone,
        State::Stuck(_) => Outcome::Stuck,
        _ => Outcome::Open,
    };
    let names = |prefix: &str| -> Vec<serde_json::Value> {
        let named = about.steps.iter().enumerate().filter(|(_, s)| s.starts_with(prefix));
        named.filter_map(|(n, _)| journal.done(n).cloned()).collect()
    };
    let verified = names("verify ").into_iter().filter_map(|n| serde_json::from_value::<Vec<Compared>>(n).ok());
    let staged = names("stage ");
    let all = |key: &str| staged.iter().flat_map(each).flat_map(|of| texts(of, key)).collect();
    let stopped = journal.began(QUIET);
    Ok(Report {
        id: about.id.clone(),
        plan: about.plan.clone(),
        backup: about.backup.clone(),
        by: asked.by,
        rollback_of: asked.rollback_of,
        whole,
        outcome,
        failure: super::restore::why_failed(journal),
        outage: outage(journal),
        lost: asked.taken.filter(|_| outcome == Outcome::Restored).map(|t| Span::new(t, stopped.unwrap_or(whole.to))),
        steps: steps(&about.steps, entries),
        verified: verified.flatten().collect(),
        left_out: all("left_out"),
        not_given: names(SWAP).iter().flat_map(not_given).collect(),
        warnings: all("warnings"),
        kept: kept(entries),
        checks: names("check "),
    })
}

/// What undos have left, each once: one that a crash interrupted says it again.
pub fn kept(entries: &[Entry]) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for entry in entries {
        let Record::Kept(_, left) = &entry.record else { continue };
        for told in left {
            if !kept.contains(told) {
                kept.push(told.clone());
            }
        }
    }
    kept
}

/// From the first step that took the application away to the last that gave it back, or to the undo of that first one.
/// Where nothing is stopped or hidden, the first swap takes it away, and it is back when the restore ends.
pub fn outage(journal: &Journal) -> Option<Span> {
    let swap = journal.about().steps.iter().find(|s| s.starts_with(SWAP)).map(String::as_str);
    let from = AWAY.iter().copied().chain(swap).find_map(|step| Some((step, journal.began(step)?)));
    let (step, from) = from?;
    let back = BACK.iter().rev().find_map(|step| journal.ended(step));
    let undone = journal.position(step).and_then(|n| {
        journal.entries().iter().rev().find(|e| matches!(e.record, Record::Undone(k) if k == n)).map(|e| e.at)
    });
    Some(Span::new(from, undone.or(back).or(journal.entries().last().map(|e| e.at))?))
}

pub(super) fn steps(names: &[String], entries: &[Entry]) -> Vec<StepReport> {
    let mut steps: Vec<Option<StepReport>> = vec![None; names.len()];
    let mut before: Option<Timestamp> = None;
    for entry in entries {
        match &entry.record {
            Record::Doing(n, _) => {
                let known = steps[*n].as_ref().map(|s| s.began);
                let began = known.unwrap_or(entry.at);
                let name = names[*n].clone();
                steps[*n] = Some(StepReport { name, began, seconds: 0.0, undo_seconds: None, went: Went::Open });
            }
            Record::Done(n, _) => {
                if let Some(step) = &mut steps[*n] {
                    (step.seconds, step.went) = (seconds(step.began, entry.at), Went::Done);
                }
            }
            Record::Failed(n, _) => {
                if let Some(step) = steps.get_mut(*n).and_then(Option::as_mut).filter(|s| s.went == Went::Open) {
                    (step.seconds, step.went) = (seconds(step.began, entry.at), Went::Failed);
                }
            }
            // A part of the undo that comes to its end right behind it.
            Record::Kept(..) => continue,
            Record::Undone(n) => {
                if let Some(step) = &mut steps[*n] {
                    step.undo_seconds = before.map(|b| seconds(b, entry.at));
                    if step.went == Went::Done {
                        step.went = Went::Undone;
                    }
                }
            }
            _ => {}
        }
        before = Some(entry.at);
    }
    steps.into_iter().flatten().collect()
}

/// What each step took in the restore before, for a forecast. Seconds.
pub fn forecast(last: &Report) -> impl Fn(&str) -> Option<f64> + '_ {
    |name| last.steps.iter().find(|s| s.name == name && s.went == Went::Done).map(|s| s.seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn entry(second: i64, record: Record) -> Entry {
        Entry { at: at(second), record }
    }

    #[test]
    fn what_was_left_out_of_databases_is_found_in_their_notes() {
        let notes = [
            json!({ "databases": [{ "left_out": ["EVENT TRIGGER x"], "warnings": [] }, { "left_out": ["COMMENT y"] }] }),
            json!({ "left_out": ["CAST z"], "paths": [{ "left_out": [["sockets", 2]] }] }),
            json!(null),
        ];
        let all = |key: &str| notes.iter().flat_map(each).flat_map(|of| texts(of, key)).collect::<Vec<_>>();
        assert_eq!(all("left_out"), ["EVENT TRIGGER x", "COMMENT y", "CAST z"]);
        assert!(all("warnings").is_empty());
    }

    #[test]
    fn what_a_database_could_not_be_given_is_found_in_the_note_of_its_exchange() {
        let exchanged = json!({ "exchanges": [{ "live": "erp", "left_out": ["owner: no"] }, { "live": "crm" }] });
        assert_eq!(not_given(&exchanged), ["database erp: owner: no"]);
        let in_place = json!({ "databases": [{ "live": "erp", "not_given": ["a", "b"] }], "roles": ["x"] });
        assert_eq!(not_given(&in_place), ["database erp: a", "database erp: b"]);
        assert!(not_given(&json!(null)).is_empty());
    }

    #[test]
    fn what_an_undo_has_left_is_told_once() {
        let left = |text: &str| entry(0, Record::Kept(0, vec![text.to_owned()]));
        assert_eq!(kept(&[left("a"), left("b"), entry(1, Record::Undone(0)), left("a")]), ["a", "b"]);
    }

    #[test]
    fn steps_are_told_with_what_they_and_their_undo_took() {
        let names = ["stage a".to_owned(), "stop".to_owned(), "swap a".to_owned()];
        let told = steps(
            &names,
            &[
                entry(0, Record::Doing(0, json!(null))),
                entry(10, Record::Done(0, json!(null))),
                entry(10, Record::Doing(1, json!(null))),
                // Killed, and taken up again.
                entry(20, Record::Doing(1, json!(null))),
                entry(22, Record::Done(1, json!(null))),
                entry(22, Record::Doing(2, json!(null))),
                entry(25, Record::Failed(2, "no".into())),
                entry(26, Record::Kept(2, vec!["x".into()])),
                entry(26, Record::Undone(2)),
                entry(30, Record::Undone(1)),
                entry(31, Record::Undone(0)),
            ],
        );
        let short: Vec<_> = told.iter().map(|s| (s.name.as_str(), s.seconds, s.undo_seconds, s.went)).collect();
        assert_eq!(
            short,
            [
                ("stage a", 10.0, Some(1.0), Went::Undone),
                ("stop", 12.0, Some(4.0), Went::Undone),
                ("swap a", 3.0, Some(1.0), Went::Failed),
            ]
        );
    }
}
