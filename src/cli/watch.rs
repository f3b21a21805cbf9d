//! Watching a command: who listens from its beginning to its end, and who is told at the end. Nothing of this fails a
//! command or changes its exit code; what does not work is a warning.

use super::context::Context;
use super::due::{self, Due};
use super::output::warning as warn;
use crate::config::{Config, load};
use crate::error::{Error, Kind, Result};
use crate::model::{Name, time};
use crate::monitoring::deliver;
use crate::monitoring::view::View;
use crate::telemetry::hooks::Hooks;
use crate::telemetry::monitor::{Event, Failure, Fan, Monitor, Run, Verb};
use crate::telemetry::runs::recorder::Recorder;
use crate::telemetry::runs::store::Store;
use crate::telemetry::scrub;
use crate::telemetry::sentry::{ScheduleOf, Sentry};
use jiff::Timestamp;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// After a command the repository is looked at, for metrics; so long at most.
const LOOK: Duration = Duration::from_secs(20);

/// What a command line is about, as far as it tells.
pub struct About {
    /// Which command.
    pub verb: Verb,
    /// What of the vault.
    pub of: Of,
    /// False when some sources of the plan were picked.
    pub whole: bool,
}

/// What of the vault a command is about.
pub enum Of {
    /// All of it.
    Vault,
    /// A plan: the one that is named, or the only one.
    Plan(Option<String>),
    /// The plan of a journal, which shows later.
    Later,
}

impl About {
    /// A command on a whole vault, or on the plan that is named.
    pub fn vault_or(verb: Verb, plan: Option<&String>) -> Self {
        About { verb, of: plan.map_or(Of::Vault, |plan| Of::Plan(Some(plan.clone()))), whole: true }
    }

    /// A command on one plan.
    pub fn plan(verb: Verb, plan: Option<&String>, whole: bool) -> Self {
        About { verb, of: Of::Plan(plan.cloned()), whole }
    }
}

/// Those who are told elsewhere.
pub struct Told {
    sentry: Option<Arc<Sentry>>,
    hooks: Option<Arc<Hooks>>,
}

impl Told {
    /// What is configured. Whoever cannot be told is a warning.
    pub fn start(config: &Config, due: Due) -> Self {
        scrub::register_environment();
        let schedule: ScheduleOf = Arc::new(move |plan| due.get(plan).cloned());
        let start = |options: &crate::telemetry::sentry::Options| Sentry::start(options.clone(), schedule);
        let sentry = warned(config.sentry.as_ref().map(start).transpose()).flatten();
        let hooks = (!config.hooks.is_empty()).then(|| Hooks::start(config.hooks.clone()));
        Told { sentry: sentry.map(Arc::new), hooks: warned(hooks.transpose()).flatten().map(Arc::new) }
    }

    /// As listeners.
    pub fn listeners(&self) -> Vec<Arc<dyn Monitor>> {
        let sentry = self.sentry.iter().map(|s| s.clone() as Arc<dyn Monitor>);
        sentry.chain(self.hooks.iter().map(|h| h.clone() as Arc<dyn Monitor>)).collect()
    }

    /// Waits until everything is told, each for a while.
    pub async fn finish(&self) {
        let sentry = async {
            match &self.sentry {
                Some(sentry) => sentry.flush().await,
                None => true,
            }
        };
        let hooks = async {
            match &self.hooks {
                Some(hooks) => hooks.finish().await,
                None => Vec::new(),
            }
        };
        let (sent, warnings) = tokio::join!(sentry, hooks);
        warnings.iter().for_each(|text| warn(text));
        if !sent {
            warn("Sentry does not answer; what it was to be told is lost");
        }
    }
}

/// The value, or a warning.
fn warned<T>(result: Result<T>) -> Option<T> {
    result.inspect_err(|e| warn(&e.one_line())).ok()
}

/// A command that is watched.
pub struct Watch {
    config: Config,
    /// The same without `--host`: metrics are this machine's, whosever vault it works on.
    local: Config,
    about: About,
    told: Told,
    recorder: Arc<Recorder>,
    fan: Arc<Fan>,
    at: Timestamp,
    started: Instant,
    begun: Mutex<Option<Run>>,
}

impl Watch {
    /// Begins to watch, where there is a configuration to say for whom. Not when another repository than the configured
    /// one is meant: what happens there says nothing about this host's backups.
    pub async fn begin(context: &Context, about: About) -> Option<Self> {
        let plain = load::load(&context.global.config).ok()?;
        if context.global.repository.as_ref().is_some_and(|url| *url != plain.storage.url) {
            return None;
        }
        let config = context.config().ok()?;
        let store = Store::new(&config.state_dir);
        // Only a backup checks in.
        let due = if about.verb == Verb::Backup { due::of(&config).await } else { Due::default() };
        let told = Told::start(&config, due);
        let recorder = Arc::new(Recorder::new(store.clone()));
        let mut listeners = told.listeners();
        listeners.push(recorder.clone());
        let fan = Arc::new(Fan::new(listeners));
        for run in warned(store.close_lost()).unwrap_or_default() {
            warn(&format!("the {run}, begun {}, was killed, or the machine went down", time::utc(run.at)));
            fan.event(Event::Lost(run));
        }
        let watch = Watch {
            config,
            local: plain,
            about,
            told,
            recorder,
            fan,
            at: Timestamp::now(),
            started: Instant::now(),
            begun: Mutex::new(None),
        };
        match &watch.about.of {
            Of::Vault => watch.settle(None),
            Of::Later => {}
            Of::Plan(named) => {
                let known = watch.known(named.as_deref());
                known.into_iter().for_each(|plan| watch.settle(Some(plan)));
            }
        }
        Some(watch)
    }

    /// The configured plan of this name, or the only one. A name that nobody knows is a mistake and no run.
    fn known(&self, named: Option<&str>) -> Option<Name> {
        let mut plans = self.config.plans.keys();
        match named {
            Some(named) => plans.find(|plan| plan.as_str() == named).cloned(),
            None => plans.next().filter(|_| self.config.plans.len() == 1).cloned(),
        }
    }

    /// Says which plan the command is about, once that is known: with that it begins for everybody who listens.
    pub fn settle(&self, plan: Option<Name>) {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        if begun.is_some() {
            return;
        }
        let About { verb, whole, .. } = self.about;
        let run = Run { verb, host: self.config.host.clone(), plan, at: self.at, whole };
        *begun = Some(run.clone());
        drop(begun);
        self.fan.event(Event::Begun(run));
        // A command that is killed has at least begun.
        warned(deliver::textfile(&self.local));
    }

    /// The command was given up before it did anything.
    pub fn decline(&self) {
        let run = self.begun.lock().unwrap_or_else(PoisonError::into_inner).take();
        run.into_iter().for_each(|run| self.fan.event(Event::Declined(run)));
    }

    /// Those who listen.
    pub fn listeners(&self) -> Arc<dyn Monitor> {
        self.fan.clone()
    }

    /// The command ended: everybody is told, and metrics are written.
    pub async fn ended(&self, result: &Result<ExitCode>) {
        let begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(run) = begun else {
            // There may be something to tell all the same: of a run that was killed, or given up.
            warned(deliver::textfile(&self.config));
            return self.told.finish().await;
        };
        let failure = match result {
            Ok(code) if *code == ExitCode::SUCCESS => None,
            Ok(code) => Some(failure_of(*code)),
            Err(e) => Some(Failure::of(e)),
        };
        let kind = failure.as_ref().map(|f| f.kind);
        let verb = run.verb;
        self.fan.event(Event::Ended(run, self.started.elapsed().as_secs_f64(), failure.map_or(Ok(()), Err)));
        let changes = [Verb::Backup, Verb::Check, Verb::Forget, Verb::Prune, Verb::KeyCheck, Verb::Import, Verb::Drill];
        let changes = changes.contains(&verb);
        let done = matches!(kind, None | Some(Kind::Partial | Kind::Damaged | Kind::Mismatch));
        if changes && done && self.config.trust_file().exists() {
            warned(View::look(&self.config, LOOK).await);
        }
        let (failed, ()) = tokio::join!(deliver::deliver(&self.local), self.told.finish());
        let trouble: Vec<Error> = self.recorder.trouble().into_iter().chain(failed).collect();
        trouble.iter().for_each(|e| warn(&e.one_line()));
    }
}

/// A command that printed what is wrong itself, and told by its exit code only.
fn failure_of(code: ExitCode) -> Failure {
    let row = Kind::ALL.iter().find(|row| ExitCode::from(row.1) == code);
    let (kind, text) = row.map_or((Kind::Internal, "it failed"), |row| (row.0, row.3));
    Failure { kind, text: text.to_owned(), hint: None }
}
