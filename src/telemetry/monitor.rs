//! The one way in which the work tells what it does. Progress bar, log, run records, Sentry, webhooks and tests are
//! listeners; none of them may slow the work down or fail it.

use super::report::Report;
use crate::error::{Error, Kind};
use crate::model::{BackupId, Name};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// A command whose outcome matters after it ended. The names are those of labels and files, and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// A backup of a plan.
    Backup,
    /// A restore.
    Restore,
    /// A restore that was taken back.
    Rollback,
    /// A restore for proof only.
    Drill,
    /// A check of the repository.
    Check,
    /// Retention.
    Forget,
    /// Deleting what nobody needs.
    Prune,
    /// The proof that an identity opens the vault.
    KeyCheck,
    /// Dropping what restores kept.
    Cleanup,
    /// Taking over backups that another script made.
    Import,
    /// Switching the page that clients see, by hand.
    Maintenance,
}

impl Verb {
    /// All of them.
    pub const ALL: &'static [Verb] = &[
        Verb::Backup,
        Verb::Restore,
        Verb::Rollback,
        Verb::Drill,
        Verb::Check,
        Verb::Forget,
        Verb::Prune,
        Verb::KeyCheck,
        Verb::Cleanup,
        Verb::Import,
        Verb::Maintenance,
    ];

    /// As labels and files spell it.
    pub fn name(self) -> &'static str {
        match self {
            Verb::Backup => "backup",
            Verb::Restore => "restore",
            Verb::Rollback => "rollback",
            Verb::Drill => "drill",
            Verb::Check => "check",
            Verb::Forget => "forget",
            Verb::Prune => "prune",
            Verb::KeyCheck => "key-check",
            Verb::Cleanup => "cleanup",
            Verb::Import => "import",
            Verb::Maintenance => "maintenance",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One run of a command, as long as it lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Which command.
    pub verb: Verb,
    /// Whose vault it works on.
    pub host: Name,
    /// The plan; nothing for what concerns a whole vault.
    pub plan: Option<Name>,
    /// When it began.
    pub at: Timestamp,
    /// False when some sources of the plan were picked: then it is not what the plan's schedule waits for.
    pub whole: bool,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.plan {
            Some(plan) => write!(f, "{} of plan {plan} on {}", self.verb, self.host),
            None => write!(f, "{} on {}", self.verb, self.host),
        }
    }
}

/// How a run failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What kind of error, which is also the exit code.
    pub kind: Kind,
    /// What happened, in one line.
    pub text: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Failure {
    /// The failure that an error is.
    pub fn of(e: &Error) -> Self {
        Failure { kind: e.kind, text: e.one_line(), hint: e.hint.clone() }
    }
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A command begins.
    Begun(Run),
    /// A command ended after so many seconds.
    Ended(Run, f64, Result<(), Failure>),
    /// A command was begun and given up by whoever was asked to confirm it: nothing was done, so it is no run.
    Declined(Run),
    /// A run is found that began, never ended, and whose process is gone.
    Lost(Run),
    /// A stage of a command begins, in words for the operator: `manifests`.
    Stage(String),
    /// A step of a restore or a drill begins: `stage tree`, or `undo: stage tree`.
    StepStarted(String),
    /// A step ended after so many seconds; the text is why it failed.
    StepEnded(String, f64, Result<(), String>),
    /// A source begins.
    SourceStarted(Name),
    /// A source ended; the text is why it failed.
    SourceEnded(Name, Result<(), String>),
    /// A group of sources, or one, needed the application to stand still for so many seconds, until it was put back.
    StoodStill(String, f64),
    /// A restore kept the application from its data for so many seconds.
    Outage(f64),
    /// About how many bytes more will come than was said before, once that is known.
    Expect(u64),
    /// Bytes of input that were read, or known to be unchanged without reading.
    Read(u64),
    /// Bytes that went to the store.
    Shipped(u64),
    /// Bytes that came from the store or were written to their target.
    Restored(u64),
    /// Something that the operator should know and that fails nothing.
    Warning(String),
    /// A backup exists.
    Committed(Name, BackupId),
    /// What the command came to, in figures.
    Reported(Box<Report>),
}

/// A listener.
pub trait Monitor: Send + Sync {
    /// Called from any thread, often; must return at once.
    fn event(&self, event: Event);
}

/// Listens to nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Monitor for Silent {
    fn event(&self, _: Event) {}
}

/// Passes every event on to several listeners, in their order.
#[derive(Clone)]
pub struct Fan(Vec<Arc<dyn Monitor>>);

impl Fan {
    /// To these.
    pub fn new(listeners: Vec<Arc<dyn Monitor>>) -> Self {
        Fan(listeners)
    }
}

impl Monitor for Fan {
    fn event(&self, event: Event) {
        if let Some((last, others)) = self.0.split_last() {
            others.iter().for_each(|listener| listener.event(event.clone()));
            last.event(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Monitor for Heard {
        fn event(&self, event: Event) {
            self.0.lock().unwrap().push(format!("{event:?}"));
        }
    }

    #[test]
    fn every_listener_hears_everything() {
        let heard = [Arc::new(Heard::default()), Arc::new(Heard::default())];
        let fan = Fan::new(heard.iter().map(|h| h.clone() as Arc<dyn Monitor>).collect());
        fan.event(Event::Stage("one".into()));
        fan.event(Event::Read(2));
        for listener in &heard {
            assert_eq!(*listener.0.lock().unwrap(), ["Stage(\"one\")", "Read(2)"]);
        }
        Fan::new(Vec::new()).event(Event::Read(1));
    }

    #[test]
    fn names_of_verbs_are_unique_and_those_of_their_files() {
        let names: std::collections::BTreeSet<&str> = Verb::ALL.iter().map(|v| v.name()).collect();
        assert_eq!(names.len(), Verb::ALL.len());
        for verb in Verb::ALL {
            assert_eq!(serde_json::to_string(verb).unwrap(), format!("{:?}", verb.name()));
        }
    }
}
