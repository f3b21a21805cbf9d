//! One restore from its beginning to its end, or from where a crash left it.

use super::asked::{Asked, asked_of};
use super::engine::{Ended, Engine, SWAP, Step};
use super::flow::With;
use super::hooks::once;
use super::journal::{Begin, Journal, Record, State};
use super::report;
use super::resource::{Compared, Previous, Resource};
use super::steps;
use crate::config::checks::When;
use crate::error::{Error, Kind, Result};
use crate::model::{BackupId, Name};
use crate::telemetry::monitor::{Event, Monitor};
use jiff::Timestamp;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A pause between two looks whether something answers.
const LOOK: Duration = Duration::from_millis(250);

/// The journal of the restore that is open on this host, if one is.
pub fn journal_file(state_dir: &Path) -> PathBuf {
    state_dir.join("restore.journal")
}

/// Where the journals of ended restores are kept.
pub fn history(state_dir: &Path) -> PathBuf {
    state_dir.join("restores")
}

/// A restore that is under way.
pub struct Restore {
    engine: Engine,
    resources: Vec<Arc<dyn Resource>>,
    state_dir: PathBuf,
}

/// An id for a restore that begins now; in the form of a backup's, since it too is a moment and a random tail.
pub fn new_id() -> BackupId {
    BackupId::new(Timestamp::now())
}

impl Restore {
    /// Begins: from here on there is a journal.
    ///
    /// # Errors
    /// [`Kind::Busy`] when another restore is open on this host.
    pub fn begin(with: &With<'_>, plan: &Name, asked: &Asked) -> Result<Self> {
        let file = journal_file(&with.state_dir);
        if file.exists() {
            return Err(open_restore(&file));
        }
        let steps = steps_of(asked, with)?;
        let begin = Begin {
            id: with.id.clone(),
            plan: plan.clone(),
            backup: with.backup.clone(),
            asked: json!(asked),
            steps: steps.iter().map(|s| s.name()).collect(),
        };
        let engine = Engine::new(steps, Journal::begin(&file, begin)?, with.monitor.clone())?;
        Ok(Restore { engine, resources: with.resources.to_vec(), state_dir: with.state_dir.clone() })
    }

    /// Takes up a journal that is there.
    ///
    /// # Errors
    /// [`Kind::Internal`] when it is of other steps.
    pub fn take_up(with: &With<'_>, journal: Journal) -> Result<Self> {
        let steps = steps_of(&asked_of(&journal)?, with)?;
        let engine = Engine::new(steps, journal, with.monitor.clone())?;
        Ok(Restore { engine, resources: with.resources.to_vec(), state_dir: with.state_dir.clone() })
    }

    /// Goes on, and closes the journal when it ended. Asked to stop meanwhile, it goes back.
    ///
    /// # Errors
    /// When the journal cannot be written; it can be taken up later.
    pub async fn run(&mut self, stopped: impl Future<Output = &'static str>) -> Result<Ended> {
        let signal = tokio::select! {
            ended = self.engine.run() => return self.close(ended?),
            signal = stopped => signal,
        };
        let why = format!("stopped by {signal}");
        let ended = match self.engine.go_back(&why).await? {
            Ended::Unwound(_) => Ended::Unwound(Error::new(Kind::Interrupted, why)),
            other => other,
        };
        self.close(ended)
    }

    /// Goes back.
    ///
    /// # Errors
    /// As [`Restore::run`].
    pub async fn unwind(&mut self) -> Result<Ended> {
        let ended = self.engine.go_back("asked to go back").await?;
        self.close(ended)
    }

    /// Goes back because of an error that no step had.
    ///
    /// # Errors
    /// As [`Restore::run`].
    pub async fn go_back(&mut self, why: Error) -> Result<Ended> {
        let ended = match self.engine.go_back(&why.one_line()).await? {
            Ended::Unwound(_) => Ended::Unwound(why),
            other => other,
        };
        self.close(ended)
    }

    fn close(&self, ended: Ended) -> Result<Ended> {
        let journal = self.engine.journal();
        if journal.state().is_closed() {
            once::forget(&self.state_dir, journal.about().id.as_str())?;
            let history = history(&self.state_dir);
            let to = history.join(format!("{}.journal", journal.about().id));
            std::fs::create_dir_all(&history)
                .and_then(|()| std::fs::rename(journal.path(), &to))
                .and_then(|()| std::fs::File::open(&self.state_dir)?.sync_all())
                .map_err(|e| Error::io("the journal of the restore cannot be put away", &to, e).kind(Kind::Restore))?;
        }
        Ok(ended)
    }

    /// Holds what is staged and not yet live against the facts once more: it may have lain there through a power cut. What hooks have
    /// changed need not be like the facts any more, and is left at that.
    ///
    /// # Errors
    /// [`Kind::Mismatch`] with what differs; nothing was changed.
    pub async fn verify_again(&self) -> Result<()> {
        let journal = self.engine.journal();
        let is_hook = |step: &str| step.starts_with(When::AfterStage.key());
        if journal.about().steps.iter().any(|step| is_hook(step) && journal.began(step).is_some()) {
            return Ok(());
        }
        for resource in &self.resources {
            let done = |step: String| journal.position(&step).and_then(|n| journal.done(n));
            let begun = journal.position(&steps::swap_name(&**resource)).and_then(|n| journal.begun(n));
            if begun.is_some() || done(steps::verify_name(&**resource)).is_none() {
                continue;
            }
            if let Some(staged) = done(steps::stage_name(&**resource)) {
                steps::held_against_facts(&**resource, staged).await?;
            }
        }
        Ok(())
    }

    /// The step that failed, when one did.
    pub fn failed_step(&self) -> Option<&str> {
        let journal = self.engine.journal();
        let failed = journal.entries().iter().rev().find_map(|e| match &e.record {
            Record::Failed(n, _) => Some(*n),
            _ => None,
        });
        failed.and_then(|n| journal.about().steps.get(n)).map(String::as_str)
    }

    /// The journal.
    pub fn journal(&self) -> &Journal {
        self.engine.journal()
    }

    /// The verification: each line of each resource.
    pub fn compared(&self) -> Vec<Compared> {
        let journal = self.engine.journal();
        let names = journal.about().steps.iter().enumerate();
        let verified = names.filter(|(_, name)| name.starts_with("verify ")).filter_map(|(n, _)| journal.done(n));
        verified.filter_map(|note| serde_json::from_value::<Vec<Compared>>(note.clone()).ok()).flatten().collect()
    }

    /// What is kept of what was there before.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub async fn previous(&self) -> Result<Vec<Previous>> {
        let mut previous = Vec::new();
        for resource in &self.resources {
            let journal = self.engine.journal();
            let name = steps::swap_name(&**resource);
            let note = journal.about().steps.iter().position(|s| *s == name).and_then(|n| journal.done(n));
            if let Some(note) = note {
                previous.extend(resource.previous(note).await?);
            }
        }
        Ok(previous)
    }

    /// What of owner, grants and settings could not be given to databases.
    pub fn not_given(&self) -> Vec<String> {
        let journal = self.engine.journal();
        let names = journal.about().steps.iter().enumerate();
        let swaps = names.filter(|(_, name)| name.starts_with(SWAP)).filter_map(|(n, _)| journal.done(n));
        swaps.flat_map(report::not_given).collect()
    }

    /// Notes of the staging steps, for the report.
    pub fn staged(&self) -> Vec<(&str, &serde_json::Value)> {
        let journal = self.engine.journal();
        let names = journal.about().steps.iter().enumerate();
        names
            .filter(|(_, s)| s.starts_with("stage "))
            .filter_map(|(n, s)| Some((s.as_str(), journal.done(n)?)))
            .collect()
    }
}

/// The steps of what is asked for.
///
/// # Errors
/// When a rollback's restore is not known.
pub fn steps_of(asked: &Asked, with: &With<'_>) -> Result<Vec<Box<dyn Step>>> {
    let around = asked.flow.around(with);
    match &asked.rollback_of {
        None => Ok(steps::of_restore(with.resources, around)),
        Some(id) => {
            let back = super::rollback::steps(with.resources, &super::rollback::past(&with.state_dir, id)?);
            Ok(steps::of_exchange(back, around.away, around.swapped, around.back))
        }
    }
}

/// True when everything is staged, so that going on needs no backup any more.
pub fn is_staged(journal: &Journal) -> bool {
    let staging = journal.about().steps.iter().filter(|s| s.starts_with("stage ")).count();
    match journal.state() {
        State::Between(n) | State::Within(n) => *n >= staging,
        _ => false,
    }
}

/// Where a boot finds a restore, and which way that leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Everything is staged, or needs only what is at hand: on.
    Forward,
    /// Staging was not complete, or it was going back already.
    Back,
    /// Somebody must look.
    Leave,
}

/// Which way to go with a journal that is found at boot. `reads`: an identity is at hand, so that a backup can be read.
pub fn way_at_boot(journal: &Journal, asked: &Asked, reads: bool) -> Way {
    match journal.state() {
        State::Stuck(_) => Way::Leave,
        // Going back loads the safety backup.
        State::Unwinding(_) if asked.goes_back_by_reading() && !reads => Way::Leave,
        State::Unwinding(_) => Way::Back,
        // A rollback loads nothing.
        _ if asked.in_place.is_some() && asked.rollback_of.is_none() => match (reads, asked.goes_back_by_reading()) {
            (true, _) => Way::Forward,
            (false, true) => Way::Leave,
            (false, false) => Way::Back,
        },
        _ if is_staged(journal) => Way::Forward,
        _ => Way::Back,
    }
}

/// Waits until everything that is to be worked with answers: after a boot, servers and daemons take their time.
///
/// # Errors
/// The last one that did not answer when the time is over; nothing was touched.
pub async fn wait_until_all_answer(
    resources: &[Arc<dyn Resource>],
    limit: Duration,
    monitor: &dyn Monitor,
) -> Result<()> {
    let started = Instant::now();
    for resource in resources {
        let mut told = false;
        while let Err(e) = resource.answers().await {
            if started.elapsed() > limit {
                return Err(e.kind(Kind::Restore));
            }
            if !told {
                monitor.event(Event::Warning(format!("waiting for {}: {}", resource.label(), e.one_line())));
                told = true;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
    Ok(())
}

/// The error of every command that must not run beside an open restore.
pub fn open_restore(file: &Path) -> Error {
    Error::new(Kind::Busy, "a restore of this host was interrupted and is still open")
        .at(file.display())
        .hint("`backstay restore --resume` finishes it, `backstay restore --unwind` takes it back.")
}

/// Why a restore failed, in the words of its journal.
pub fn why_failed(journal: &Journal) -> Option<String> {
    journal.entries().iter().rev().find_map(|e| match &e.record {
        Record::Failed(_, why) => Some(why.clone()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery::asked::Safety;
    use crate::recovery::flow::Flow;
    use crate::sources::postgres::load::What;

    fn asked(in_place: Option<Safety>) -> Asked {
        Asked {
            by: String::new(),
            parts: Vec::new(),
            no_owner: false,
            no_privileges: false,
            assume_space: None,
            what: What::All,
            in_place,
            fresh_cluster: false,
            taken: None,
            flow: Flow::default(),
            rollback_of: None,
        }
    }

    #[test]
    fn a_boot_goes_on_when_all_is_staged_and_back_when_not_and_leaves_what_it_cannot_do() {
        let dir = tempfile::tempdir().unwrap();
        let steps = ["stage a", "stage b", "swap a", "swap b"];
        let at = |records: &[Record]| {
            let begin = Begin {
                id: BackupId::new(Timestamp::UNIX_EPOCH),
                plan: "erp".parse().unwrap(),
                backup: BackupId::new(Timestamp::UNIX_EPOCH),
                asked: json!(asked(None)),
                steps: steps.map(str::to_owned).to_vec(),
            };
            let path = dir.path().join("j");
            let _ = std::fs::remove_file(&path);
            let mut journal = Journal::begin(&path, begin).unwrap();
            records.iter().for_each(|r| journal.write(r.clone()).unwrap());
            journal
        };
        let note = || serde_json::Value::Null;
        let done = |n: usize| [Record::Doing(n, note()), Record::Done(n, note())];
        let in_place = || asked(Some(Safety::Waived));
        let staging = at(&[&done(0)[..], &[Record::Doing(1, note())]].concat());
        let staged = at(&[done(0), done(1)].concat());
        let swapping = at(&[&[done(0), done(1)].concat()[..], &[Record::Doing(2, note())]].concat());
        let failed = [Record::Doing(0, note()), Record::Failed(0, "x".into())];
        let back = at(&failed);
        let stuck = at(&[&failed[..], &[Record::Stuck(0, "y".into())]].concat());
        // With or without an identity at hand.
        for reads in [false, true] {
            let way = |journal: &Journal| way_at_boot(journal, &asked(None), reads);
            assert_eq!(way(&staging), Way::Back);
            assert_eq!((way(&staged), way(&swapping)), (Way::Forward, Way::Forward));
            assert_eq!((way(&back), way(&stuck)), (Way::Back, Way::Leave));
        }
        // What was dropped can only be loaded again with one.
        for journal in [&staging, &swapping] {
            assert_eq!(way_at_boot(journal, &in_place(), true), Way::Forward);
            assert_eq!(way_at_boot(journal, &in_place(), false), Way::Leave);
        }
        // A rollback loads nothing: it needs none.
        let rollback = Asked {
            rollback_of: Some(BackupId::new(Timestamp::UNIX_EPOCH)),
            ..asked(Some(Safety::ColdCopy { to: None }))
        };
        for reads in [false, true] {
            assert_eq!(way_at_boot(&swapping, &rollback, reads), Way::Forward);
            assert_eq!(way_at_boot(&back, &rollback, reads), Way::Back);
        }
        assert_eq!(
            (way_at_boot(&back, &in_place(), true), way_at_boot(&back, &in_place(), false)),
            (Way::Back, Way::Leave)
        );
    }
}
