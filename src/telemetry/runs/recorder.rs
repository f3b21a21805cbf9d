//! The listener that fills the run records.

use super::super::monitor::{Event, Failure, Monitor, Run};
use super::super::report::Report;
use super::super::scrub::scrub;
use super::process::Process;
use super::store::Store;
use super::{Attempt, Ending, Finished, Step};
use crate::error::Error;
use crate::model::{BackupId, Name};
use jiff::Timestamp;
use std::sync::{Mutex, PoisonError};

/// Writes a record when a run begins and when it ends; in between it only remembers.
pub struct Recorder {
    store: Store,
    me: Process,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    steps: Vec<Step>,
    sources: Vec<(Name, Timestamp)>,
    failed_sources: Vec<(Name, String)>,
    outage: Option<f64>,
    stood_still: Option<f64>,
    warnings: u64,
    backup: Option<BackupId>,
    report: Option<Report>,
    trouble: Vec<Error>,
    /// When a run was begun before this one.
    before: Option<Timestamp>,
}

impl Recorder {
    /// Into these records.
    pub fn new(store: Store) -> Self {
        Recorder { store, me: Process::this(), seen: Mutex::default() }
    }

    /// What could not be written, for the operator.
    pub fn trouble(&self) -> Vec<Error> {
        std::mem::take(&mut self.seen().trouble)
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, run: &Run) {
        let attempt = Attempt { at: run.at, process: self.me.clone(), whole: run.whole };
        let mut before = None;
        let written = self.store.change(run, |record| {
            before = record.last_attempt;
            record.begin(attempt);
        });
        let mut seen = self.seen();
        seen.before = before;
        seen.trouble.extend(written.err());
    }

    fn decline(&self, run: &Run) {
        let seen = std::mem::take(&mut *self.seen());
        let written = self.store.change(run, |record| record.decline(&self.me, seen.before));
        self.seen().trouble.extend(seen.trouble.into_iter().chain(written.err()));
    }

    fn end(&self, run: &Run, seconds: f64, result: Result<(), Failure>) {
        let seen = std::mem::take(&mut *self.seen());
        let backup = match &seen.report {
            Some(Report::Restore(restore)) => restore.backup.clone(),
            _ => seen.backup,
        };
        let finished = Finished {
            started: run.at,
            ended: Timestamp::now(),
            seconds: Some(seconds),
            ending: if result.is_ok() { Ending::Success } else { Ending::Failure },
            exit_code: Some(result.as_ref().err().map_or(0, |f| f.kind.exit_code())),
            error: result.err().map(|f| scrub(&f.text)),
            backup,
            steps: seen.steps,
            outage: seen.outage,
            stood_still: seen.stood_still,
            warnings: seen.warnings,
        };
        let written = self.store.change(run, |record| {
            for (name, at) in seen.sources {
                record.sources.entry(name).or_default().last_attempt = Some(at);
            }
            for (name, why) in seen.failed_sources {
                record.sources.entry(name).or_default().error = Some(scrub(&why));
            }
            record.end(&self.me, finished, seen.report.map(scrubbed));
        });
        let mut trouble = seen.trouble;
        trouble.extend(written.err());
        self.seen().trouble = trouble;
    }
}

/// The errors of sources go to a file and to a page: without secrets.
fn scrubbed(mut report: Report) -> Report {
    if let Report::Backup(backup) = &mut report {
        for source in &mut backup.sources {
            source.error = source.error.take().map(|e| scrub(&e));
        }
    }
    report
}

impl Monitor for Recorder {
    fn event(&self, event: Event) {
        match event {
            Event::Begun(run) => self.begin(&run),
            Event::Ended(run, seconds, result) => self.end(&run, seconds, result),
            Event::Declined(run) => self.decline(&run),
            Event::StepEnded(name, seconds, result) => {
                self.seen().steps.push(Step { name, seconds, failed: result.is_err() });
            }
            Event::SourceStarted(name) => self.seen().sources.push((name, Timestamp::now())),
            Event::SourceEnded(name, Err(why)) => self.seen().failed_sources.push((name, why)),
            Event::StoodStill(_, seconds) => {
                let mut seen = self.seen();
                seen.stood_still = Some(seen.stood_still.unwrap_or(0.0).max(seconds));
            }
            Event::Outage(seconds) => self.seen().outage = Some(seconds),
            Event::Warning(_) => self.seen().warnings += 1,
            Event::Committed(_, id) => self.seen().backup = Some(id),
            Event::Reported(report) => self.seen().report = Some(*report),
            Event::Stage(_)
            | Event::StepStarted(_)
            | Event::SourceEnded(_, Ok(()))
            | Event::Lost(_)
            | Event::Expect(_)
            | Event::Read(_)
            | Event::Shipped(_)
            | Event::Restored(_) => {}
        }
    }
}
