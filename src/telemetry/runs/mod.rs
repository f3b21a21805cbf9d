//! Run records: for each host, command and plan one small file that says when it was last begun, how it last ended, and
//! when it last succeeded. Metrics are made of them, so they survive restarts, a failed run never refreshes a time of
//! success, and a run that was killed is noticed by whoever looks next.
//!
//! [`store`] reads and writes the files, [`recorder`] is the listener that fills them, [`process`] tells whether the
//! process of an open run still lives.

pub mod process;
pub mod recorder;
pub mod store;

use super::monitor::{Run, Verb};
use super::report::Report;
use crate::model::{BackupId, Name};
use jiff::Timestamp;
use process::Process;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything that is known about one command on one plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Whose vault.
    pub host: Name,
    /// Which command.
    pub verb: Verb,
    /// The plan; nothing for what concerns a whole vault.
    pub plan: Option<Name>,
    /// The run that has begun and not ended.
    pub open: Option<Attempt>,
    /// When it was begun last.
    pub last_attempt: Option<Timestamp>,
    /// How it ended last.
    pub last: Option<Finished>,
    /// When it succeeded last: when that run began, and when it ended.
    pub last_success: Option<Success>,
    /// When a run last proved that the whole plan can be restored.
    #[serde(default)]
    pub last_proven: Option<Timestamp>,
    /// The figures of the last run that had some, and when.
    pub last_report: Option<(Timestamp, Report)>,
    /// How often it ended how.
    #[serde(default)]
    pub counts: Counts,
    /// Its sources, for a backup.
    #[serde(default)]
    pub sources: BTreeMap<Name, Source>,
}

/// A run that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// When.
    pub at: Timestamp,
    /// Who carries it out.
    pub process: Process,
    /// False when some sources of the plan were picked.
    pub whole: bool,
}

/// When something succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Success {
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// As it should.
    Success,
    /// With an error.
    Failure,
    /// Without a word: its process is gone.
    Killed,
}

/// A run that has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    /// When it began.
    pub started: Timestamp,
    /// When it ended; for a killed one, when that was noticed.
    pub ended: Timestamp,
    /// Seconds; nothing for a killed one.
    pub seconds: Option<f64>,
    /// How.
    pub ending: Ending,
    /// Exit code; nothing for a killed one.
    pub exit_code: Option<u8>,
    /// Why it failed, in one line without secrets.
    pub error: Option<String>,
    /// The backup that it made or restored.
    pub backup: Option<BackupId>,
    /// Steps of a restore, in order.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// Seconds in which the application could not use its data.
    pub outage: Option<f64>,
    /// Seconds in which the application stood still for a backup; the longest moment.
    pub stood_still: Option<f64>,
    /// How many warnings there were.
    #[serde(default)]
    pub warnings: u64,
}

/// A step of a restore.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// Seconds.
    pub seconds: f64,
    /// Whether it failed.
    pub failed: bool,
}

/// How often a command ended how, ever since the record was begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// As it should.
    pub success: u64,
    /// With an error.
    pub failure: u64,
    /// Without a word.
    pub killed: u64,
    /// Bytes that its runs shipped.
    pub shipped: u64,
    /// Bytes that its runs read.
    pub read: u64,
}

/// A source in the record of a backup.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// Kind, once a backup told.
    #[serde(default)]
    pub kind: String,
    /// When it was begun last.
    pub last_attempt: Option<Timestamp>,
    /// When a run that committed it ended last.
    pub last_success: Option<Timestamp>,
    /// Seconds, when it succeeded last.
    pub seconds: f64,
    /// Bytes, when it succeeded last.
    pub bytes: u64,
    /// Files, when it succeeded last.
    pub files: Option<u64>,
    /// Why it failed last, if that was the last time.
    pub error: Option<String>,
}

impl Record {
    /// A record of nothing yet.
    pub fn new(run: &Run) -> Self {
        Record {
            host: run.host.clone(),
            verb: run.verb,
            plan: run.plan.clone(),
            open: None,
            last_attempt: None,
            last: None,
            last_success: None,
            last_proven: None,
            last_report: None,
            counts: Counts::default(),
            sources: BTreeMap::new(),
        }
    }

    /// Notes the beginning of a run. One that is under way in another process stays the open one.
    pub fn begin(&mut self, attempt: Attempt) {
        self.last_attempt = Some(attempt.at);
        if self.open.as_ref().is_none_or(|open| !open.process.is_alive()) {
            self.open = Some(attempt);
        }
    }

    /// Forgets the beginning of a run that was given up before it did anything; `before` is when one was begun before it.
    pub fn decline(&mut self, mine: &Process, before: Option<Timestamp>) {
        if self.open.take_if(|open| open.process == *mine).is_some() {
            self.last_attempt = before;
        }
    }

    /// Notes the end of a run. Sources count as succeeded only with a backup that was committed, and the plan only with
    /// one that was whole.
    pub fn end(&mut self, mine: &Process, finished: Finished, report: Option<Report>) {
        if self.open.as_ref().is_some_and(|open| open.process == *mine) {
            self.open = None;
        }
        match finished.ending {
            Ending::Success => self.counts.success += 1,
            Ending::Failure => self.counts.failure += 1,
            Ending::Killed => self.counts.killed += 1,
        }
        let mut whole = true;
        if let Some(Report::Backup(backup)) = &report {
            whole = backup.whole_plan;
            self.counts.shipped += backup.shipped;
            self.counts.read += backup.read;
            for figures in &backup.sources {
                let source = self.sources.entry(figures.name.clone()).or_default();
                source.kind.clone_from(&figures.kind);
                source.error.clone_from(&figures.error);
                if figures.error.is_none() {
                    source.last_success = Some(finished.ended);
                    (source.seconds, source.bytes, source.files) = (figures.seconds, figures.bytes, figures.files);
                }
            }
        }
        if finished.ending == Ending::Success && whole {
            self.last_success = Some(Success { started: finished.started, ended: finished.ended });
        }
        if let (Some(Report::Restore(restore)), Ending::Success) = (&report, finished.ending)
            && restore.whole_plan
        {
            self.last_proven = Some(finished.ended);
        }
        if let Some(report) = report {
            self.last_report = Some((finished.ended, report));
        }
        self.last = Some(finished);
    }

    /// When the open run has lost its process: closes it and gives it.
    pub fn close_lost(&mut self, now: Timestamp) -> Option<Run> {
        let open = self.open.take_if(|open| !open.process.is_alive())?;
        let finished = Finished {
            started: open.at,
            ended: now,
            seconds: None,
            ending: Ending::Killed,
            exit_code: None,
            error: Some("it was killed, or the machine went down".to_owned()),
            backup: None,
            steps: Vec::new(),
            outage: None,
            stood_still: None,
            warnings: 0,
        };
        self.end(&open.process, finished, None);
        Some(Run { verb: self.verb, host: self.host.clone(), plan: self.plan.clone(), at: open.at, whole: open.whole })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::report::{Backup, Source as Figures};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn record() -> Record {
        let (host, plan) = ("h".parse().unwrap(), "p".parse().unwrap());
        Record::new(&Run { verb: Verb::Backup, host, plan: Some(plan), at: at(0), whole: true })
    }

    fn finished(ending: Ending, second: i64) -> Finished {
        Finished {
            started: at(second - 5),
            ended: at(second),
            seconds: Some(5.0),
            ending,
            exit_code: Some(u8::from(ending != Ending::Success)),
            error: None,
            backup: None,
            steps: Vec::new(),
            outage: None,
            stood_still: None,
            warnings: 0,
        }
    }

    fn report(whole_plan: bool, error: Option<&str>) -> Option<Report> {
        let source = Figures {
            name: "db".parse().unwrap(),
            kind: "postgres".into(),
            error: error.map(str::to_owned),
            bytes: 7,
            files: None,
            seconds: 1.0,
        };
        Some(Report::Backup(Backup { whole_plan, shipped: 3, sources: vec![source], ..Backup::default() }))
    }

    #[test]
    fn only_a_whole_success_refreshes_the_time_of_success() {
        let me = Process::this();
        let db: Name = "db".parse().unwrap();
        let mut r = record();
        r.end(&me, finished(Ending::Success, 100), report(true, None));
        let good = Some(Success { started: at(95), ended: at(100) });
        assert_eq!((r.last_success, r.sources[&db].last_success), (good, Some(at(100))));
        r.end(&me, finished(Ending::Failure, 200), report(true, Some("gone")));
        r.end(&me, finished(Ending::Failure, 300), None);
        assert_eq!((r.last_success, r.sources[&db].last_success), (good, Some(at(100))));
        assert_eq!(r.sources[&db].error.as_deref(), Some("gone"));
        // Some sources of a plan are not the plan.
        r.end(&me, finished(Ending::Success, 400), report(false, None));
        assert_eq!((r.last_success, r.sources[&db].last_success), (good, Some(at(400))));
        assert_eq!((r.counts.success, r.counts.failure, r.counts.shipped), (2, 2, 9));
    }

    #[test]
    fn a_run_whose_process_is_gone_is_found_once_and_a_living_one_is_left() {
        let mut r = record();
        r.begin(Attempt { at: at(10), process: Process::this(), whole: true });
        assert_eq!(r.close_lost(at(20)), None);
        let gone = Process { boot: "another boot".into(), ..Process::this() };
        r.open = Some(Attempt { at: at(10), process: gone, whole: true });
        assert_eq!(r.close_lost(at(20)).unwrap().at, at(10));
        assert_eq!(r.close_lost(at(30)), None);
        assert_eq!((r.counts.killed, r.last.unwrap().ending, r.last_success), (1, Ending::Killed, None));
    }

    #[test]
    fn a_run_that_was_given_up_leaves_what_was_there_before() {
        let me = Process::this();
        let mut r = record();
        r.begin(Attempt { at: at(10), process: me.clone(), whole: true });
        r.end(&me, finished(Ending::Success, 15), report(true, None));
        let before = r.clone();
        r.begin(Attempt { at: at(20), process: me.clone(), whole: true });
        r.decline(&me, before.last_attempt);
        assert_eq!(r, before);
    }

    #[test]
    fn a_second_run_beside_a_living_one_does_not_take_its_place() {
        let mut r = record();
        let first = Process::this();
        r.begin(Attempt { at: at(10), process: first.clone(), whole: true });
        let second = Process { pid: first.pid + 1, ..first.clone() };
        r.begin(Attempt { at: at(11), process: second.clone(), whole: true });
        r.end(&second, finished(Ending::Failure, 12), None);
        assert_eq!(r.open.as_ref().unwrap().process, first);
        r.end(&first, finished(Ending::Success, 20), report(true, None));
        assert_eq!((r.open, r.last_attempt), (None, Some(at(11))));
    }
}
