//! How the phases of a recovery went, by its journal.

use super::journal::{Entry, Record};
use super::phase::Phase;
use serde::Serialize;

/// How a phase went.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Took {
    /// The phase.
    pub phase: String,
    /// Seconds of work, of all tries that ended.
    pub seconds: f64,
    /// How often it was begun.
    pub tries: usize,
    /// Whether it is done.
    pub done: bool,
    /// What the operator should know of it.
    pub notes: Vec<String>,
}

/// How one went, by all records.
pub fn of(phase: &Phase, entries: &[Entry]) -> Took {
    let mut took = Took { phase: phase.to_string(), seconds: 0.0, tries: 0, done: false, notes: Vec::new() };
    let mut since = None;
    for entry in entries {
        match &entry.record {
            Record::Doing(p) if p == phase => {
                took.tries += 1;
                since = Some(entry.at);
            }
            Record::Done(p, _) | Record::Failed(p, _) if p == phase => {
                let spent = since.take().map(|from| entry.at.duration_since(from).as_secs_f64());
                took.seconds += spent.unwrap_or_default();
                took.done = matches!(&entry.record, Record::Done(..));
                if let Record::Done(_, notes) = &entry.record {
                    took.notes.clone_from(notes);
                }
            }
            _ => {}
        }
    }
    took
}
