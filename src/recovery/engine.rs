//! Runs the steps of a restore: forward, and back when one fails.
//!
//! For each step: it decides what its effect and its undo need, that goes to the journal, then comes the effect, then
//! that it happened. A failure undoes in reverse, the failed step included. A failed undo stops everything: both copies
//! stay, and what is left to do is said. A crash leaves a journal, with which the same steps go on or go back.

use super::journal::{Journal, Record, State};
use super::resource::Note;
use crate::error::{Error, Kind, Result};
use crate::telemetry::monitor::{Event, Monitor};
use async_trait::async_trait;
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Instant;

/// One step. Its effects are idempotent: after a crash they are done again with the same note.
#[async_trait]
pub trait Step: Send + Sync {
    /// For plan, journal, report and messages. Unique within a restore.
    fn name(&self) -> String;

    /// Looks, and decides what doing and undoing need. No effect.
    async fn prepare(&self, notes: &Notes<'_>) -> Result<Note>;

    /// The effect. Gives what later steps need.
    async fn act(&self, note: &Note) -> Result<Note>;

    /// Takes the effect back, however much of it there is.
    async fn undo(&self, note: &Note) -> Result<()>;

    /// What somebody must do by hand when the undo fails.
    fn by_hand(&self, note: &Note) -> Vec<String>;

    /// What its undo has left on purpose, and where; also when it counts as undone because it outlives that.
    fn kept_by_undo(&self, _note: &Note) -> Vec<String> {
        Vec::new()
    }

    /// True when what it made must outlive an undo once the application has run on it: it may have written there, and
    /// nobody but the operator may throw that away. The step then counts as undone, and `cleanup` does it later.
    fn outlives_a_start(&self) -> bool {
        false
    }
}

/// How the names of steps begin that put restored data in place.
pub const SWAP: &str = "swap ";
/// The step with which the application runs on restored data.
pub const START: &str = "start the application";

/// What earlier steps left for later ones.
pub struct Notes<'a>(&'a Journal);

impl Notes<'_> {
    /// The note of a step that is done.
    ///
    /// # Errors
    /// [`Kind::Internal`] when there is none.
    pub fn of(&self, step: &str) -> Result<&Note> {
        let position = self.0.about().steps.iter().position(|s| s == step);
        position
            .and_then(|n| self.0.done(n))
            .ok_or_else(|| Error::new(Kind::Internal, format!("the journal has nothing of the step {step}")))
    }

    /// When a step began, the last time it did.
    pub fn began(&self, step: &str) -> Option<Timestamp> {
        self.0.began(step)
    }
}

/// Whether the application may have worked with restored data: it was started, or never stopped while something was
/// swapped.
pub fn was_live(journal: &Journal) -> bool {
    let steps = &journal.about().steps;
    if steps.iter().any(|s| s == START) {
        return journal.began(START).is_some();
    }
    steps.iter().enumerate().any(|(n, s)| s.starts_with(SWAP) && journal.done(n).is_some())
}

/// How it ended.
#[derive(Debug)]
pub enum Ended {
    /// Restored.
    Committed,
    /// Everything is as it was; this failed.
    Unwound(Error),
    /// An undo failed: nothing more was touched.
    Stuck {
        /// What had failed first.
        failed: String,
        /// The step whose undo failed.
        step: String,
        /// Why.
        error: Error,
        /// What is left to do by hand, in order.
        left: Vec<String>,
    },
}

/// A restore that is under way.
pub struct Engine {
    steps: Vec<Box<dyn Step>>,
    journal: Journal,
    monitor: Arc<dyn Monitor>,
}

impl Engine {
    /// Steps with their journal.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the journal is of other steps.
    pub fn new(steps: Vec<Box<dyn Step>>, journal: Journal, monitor: Arc<dyn Monitor>) -> Result<Self> {
        let names: Vec<String> = steps.iter().map(|s| s.name()).collect();
        if names != journal.about().steps {
            return Err(Error::new(Kind::Internal, "the journal is of a restore with other steps")
                .at(journal.path().display())
                .because(format!("{:?} instead of {names:?}", journal.about().steps)));
        }
        Ok(Engine { steps, journal, monitor })
    }

    /// The journal.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Goes on from where the journal stands: forward, or back when it was going back.
    ///
    /// # Errors
    /// When the journal cannot be written: then nothing more was touched, and it can be gone on with later.
    pub async fn run(&mut self) -> Result<Ended> {
        loop {
            let step = match self.journal.state().clone() {
                State::Between(n) if n == self.steps.len() => {
                    self.journal.write(Record::Committed)?;
                    if let Some(outage) = super::report::outage(&self.journal) {
                        self.monitor.event(Event::Outage(outage.seconds));
                    }
                    return Ok(Ended::Committed);
                }
                State::Between(n) | State::Within(n) => n,
                State::Committed => return Ok(Ended::Committed),
                _ => return self.unwind().await,
            };
            if let Err(e) = self.forward(step).await? {
                self.monitor.event(Event::Warning(format!("{} failed: {}", self.steps[step].name(), e.one_line())));
                self.journal.write(Record::Failed(step, e.one_line()))?;
                return Ok(match self.unwind().await? {
                    Ended::Unwound(_) => Ended::Unwound(e),
                    other => other,
                });
            }
        }
    }

    /// Goes forward through all steps and commits nothing: whoever only tries goes back next. Gives the error of the step
    /// that failed.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub async fn try_all(&mut self) -> Result<Option<Error>> {
        while let State::Between(n) = *self.journal.state()
            && n < self.steps.len()
        {
            if let Err(e) = self.forward(n).await? {
                self.journal.write(Record::Failed(n, e.one_line()))?;
                return Ok(Some(e));
            }
        }
        Ok(None)
    }

    /// One step forward. The inner error is the step's own.
    async fn forward(&mut self, n: usize) -> Result<Result<()>> {
        let step = &self.steps[n];
        let name = step.name();
        self.monitor.event(Event::StepStarted(name.clone()));
        let started = Instant::now();
        let result = self.take(n).await;
        let told = match &result {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) | Err(e) => Err(e.one_line()),
        };
        self.monitor.event(Event::StepEnded(name, started.elapsed().as_secs_f64(), told));
        result
    }

    async fn take(&mut self, n: usize) -> Result<Result<()>> {
        let step = &self.steps[n];
        let note = match (self.journal.state(), self.journal.begun(n)) {
            (State::Within(_), Some(note)) => note.clone(),
            _ => {
                let note = match step.prepare(&Notes(&self.journal)).await {
                    Ok(note) => note,
                    Err(e) => return Ok(Err(e)),
                };
                self.journal.write(Record::Doing(n, note.clone()))?;
                note
            }
        };
        match step.act(&note).await {
            Ok(done) => {
                self.journal.write(Record::Done(n, done))?;
                Ok(Ok(()))
            }
            Err(e) => Ok(Err(e)),
        }
    }

    /// Undoes everything that was done, whoever asks for it.
    ///
    /// # Errors
    /// When the journal cannot be written.
    pub async fn go_back(&mut self, why: &str) -> Result<Ended> {
        if let State::Between(n) | State::Within(n) = *self.journal.state() {
            self.journal.write(Record::Failed(n, why.to_owned()))?;
        }
        self.unwind().await
    }

    async fn unwind(&mut self) -> Result<Ended> {
        let failed = self.journal.entries().iter().rev().find_map(|e| match &e.record {
            Record::Failed(_, why) => Some(why.clone()),
            _ => None,
        });
        let failed = failed.unwrap_or_default();
        loop {
            let n = match *self.journal.state() {
                State::Unwinding(0) => {
                    self.journal.write(Record::Unwound)?;
                    return Ok(Ended::Unwound(Error::new(Kind::Restore, failed)));
                }
                State::Unwinding(n) => n - 1,
                State::Stuck(n) => n,
                State::Committed => return Ok(Ended::Committed),
                _ => return Ok(Ended::Unwound(Error::new(Kind::Restore, failed))),
            };
            let step = &self.steps[n];
            // A step that was prepared and not begun has no effect.
            if let Some(note) = self.journal.begun(n).cloned() {
                let outlives = step.outlives_a_start() && was_live(&self.journal);
                let undone = if outlives { Ok(()) } else { self.undo(n, &note).await };
                if let Err(error) = undone {
                    let left = (0..=n)
                        .rev()
                        .filter_map(|k| Some((k, self.journal.begun(k)?)))
                        .flat_map(|(k, note)| self.steps[k].by_hand(note))
                        .collect();
                    let name = step.name();
                    self.journal.write(Record::Stuck(n, error.one_line()))?;
                    return Ok(Ended::Stuck { failed, step: name, error, left });
                }
                let left = step.kept_by_undo(&note);
                left.iter().for_each(|told| self.monitor.event(Event::Warning(told.clone())));
                // Whoever hears it now may be nobody: at a boot it is in a log.
                if !left.is_empty() {
                    self.journal.write(Record::Kept(n, left))?;
                }
            }
            self.journal.write(Record::Undone(n))?;
        }
    }

    /// Takes one step back, and tells of it.
    async fn undo(&self, n: usize, note: &Note) -> Result<()> {
        let name = format!("undo: {}", self.steps[n].name());
        self.monitor.event(Event::StepStarted(name.clone()));
        let started = Instant::now();
        let undone = self.steps[n].undo(note).await;
        let told = undone.as_ref().copied().map_err(Error::one_line);
        self.monitor.event(Event::StepEnded(name, started.elapsed().as_secs_f64(), told));
        undone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BackupId;
    use crate::recovery::journal::Begin;
    use crate::telemetry::monitor::Silent;
    use serde_json::json;

    /// A step that makes what outlives a start, or one that fails.
    struct Fake {
        name: &'static str,
        fails: bool,
    }

    #[async_trait]
    impl Step for Fake {
        fn name(&self) -> String {
            self.name.to_owned()
        }

        async fn prepare(&self, _: &Notes<'_>) -> Result<Note> {
            Ok(json!(self.name))
        }

        async fn act(&self, note: &Note) -> Result<Note> {
            if self.fails { Err(Error::new(Kind::Restore, "no")) } else { Ok(note.clone()) }
        }

        async fn undo(&self, _: &Note) -> Result<()> {
            if self.outlives_a_start() { Err(Error::new(Kind::Restore, "it was thrown away")) } else { Ok(()) }
        }

        fn by_hand(&self, _: &Note) -> Vec<String> {
            Vec::new()
        }

        fn kept_by_undo(&self, note: &Note) -> Vec<String> {
            if self.outlives_a_start() { vec![format!("what others wrote: {note}")] } else { Vec::new() }
        }

        fn outlives_a_start(&self) -> bool {
            self.name.starts_with("stage ")
        }
    }

    #[tokio::test]
    async fn what_an_undo_leaves_is_told_also_of_a_step_that_outlives_it() {
        let dir = tempfile::tempdir().unwrap();
        let fake = |name, fails| Box::new(Fake { name, fails }) as Box<dyn Step>;
        let steps = vec![fake("stage a", false), fake("swap a", false), fake(START, true)];
        let begin = Begin {
            id: BackupId::new(Timestamp::UNIX_EPOCH),
            plan: "erp".parse().unwrap(),
            backup: BackupId::new(Timestamp::UNIX_EPOCH),
            asked: json!(null),
            steps: steps.iter().map(|s| s.name()).collect(),
        };
        let journal = Journal::begin(&dir.path().join("j"), begin).unwrap();
        let mut engine = Engine::new(steps, journal, Arc::new(Silent)).unwrap();
        assert!(matches!(engine.run().await.unwrap(), Ended::Unwound(_)));
        let entries = engine.journal().entries();
        let kept: Vec<_> = entries.iter().filter(|e| matches!(e.record, Record::Kept(..))).map(|e| &e.record).collect();
        assert_eq!(kept, [&Record::Kept(0, vec!["what others wrote: \"stage a\"".to_owned()])]);
    }
}
