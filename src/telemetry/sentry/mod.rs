//! Sentry: errors with what went on before them, restores as transactions with a span for each step, and check-ins by
//! which it notices a backup that did not come.
//!
//! [`gate`] is the one way out: a queue that scrubs whatever passes and waits for nobody. [`events`] builds what is sent.
//! A Sentry that cannot be reached costs the bound of the last flush and changes no outcome.

mod events;
mod gate;

use super::monitor::{Event, Failure, Monitor, Run, Verb};
use super::report::Report;
use super::scrub::register;
use crate::error::{Error, Kind, Result};
use crate::model::{BackupId, Name};
use events::{Crumbs, Span};
use gate::Gate;
use sentry::protocol::{Level, MonitorCheckInStatus, SpanStatus};
use sentry::types::{Dsn, Uuid};
use sentry::{ClientInitGuard, ClientOptions};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// How long the end of a command waits for Sentry.
pub const FLUSH: Duration = Duration::from_secs(2);

/// What is configured.
#[derive(Clone)]
pub struct Options {
    /// Where to, with the public key.
    pub dsn: String,
    /// `production`, `staging`.
    pub environment: String,
    /// Send restores and drills as transactions.
    pub traces: bool,
    /// This host's name.
    pub host: String,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("environment", &self.environment).field("traces", &self.traces).finish()
    }
}

/// When a plan is due, and how much later it may begin and end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Five fields, as cron writes them.
    pub crontab: String,
    /// It may begin so much later.
    pub margin: Duration,
    /// It may take so long.
    pub max_runtime: Duration,
    /// The zone of the fields.
    pub timezone: Option<String>,
}

impl Schedule {
    /// Checks the five fields.
    ///
    /// # Errors
    /// [`Kind::Config`].
    pub fn check_crontab(text: &str) -> Result<()> {
        events::crontab(text).map(|_| ()).ok_or_else(|| {
            Error::new(Kind::Config, format!("{text:?} is no schedule"))
                .hint("Write the five fields of cron: \"0 3 * * *\" is at 3 every night.")
        })
    }
}

/// Who knows when a plan is due.
pub type ScheduleOf = Arc<dyn Fn(&Name) -> Option<Schedule> + Send + Sync>;

/// The listener.
pub struct Sentry {
    client: ClientInitGuard,
    options: Options,
    schedule: ScheduleOf,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    crumbs: Crumbs,
    begun: Option<(SystemTime, Option<Uuid>)>,
    step: Option<(String, SystemTime)>,
    failed_step: Option<String>,
    spans: Vec<Span>,
    failed_sources: Vec<(Name, String)>,
    backup: Option<BackupId>,
}

impl Sentry {
    /// Opens the way out, on the runtime that is running.
    ///
    /// # Errors
    /// [`Kind::Config`] for a DSN that is none.
    pub fn start(options: Options, schedule: ScheduleOf) -> Result<Self> {
        register(&options.dsn);
        let dsn: Dsn = options.dsn.parse().map_err(|e: sentry::types::ParseDsnError| {
            Error::new(Kind::Config, "`sentry.dsn` is no DSN")
                .because(e.to_string())
                .hint("Copy it from the project's settings: https://KEY@HOST/PROJECT.")
        })?;
        let gate = Arc::new(Gate::open(&dsn)?);
        let client = sentry::init(
            ClientOptions::new()
                .dsn(&options.dsn)
                .release(concat!("backstay@", env!("CARGO_PKG_VERSION")))
                .environment(options.environment.clone())
                .server_name(options.host.clone())
                .transport(gate)
                .shutdown_timeout(Duration::ZERO),
        );
        Ok(Sentry { client, options, schedule, seen: Mutex::default() })
    }

    /// Waits until everything is sent, at most [`FLUSH`]; whether it was.
    pub async fn flush(self: &Arc<Self>) -> bool {
        let this = self.clone();
        tokio::task::spawn_blocking(move || this.client.flush(Some(FLUSH))).await.unwrap_or(false)
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, run: &Run) {
        let check_in = self.check_in(run, Uuid::new_v4(), MonitorCheckInStatus::InProgress, None);
        *self.seen() = Seen { begun: Some((SystemTime::now(), check_in)), ..Seen::default() };
        sentry::configure_scope(|scope| {
            scope.set_tag("verb", run.verb);
            run.plan.iter().for_each(|plan| scope.set_tag("plan", plan));
        });
    }

    /// Tells that a scheduled backup began or ended; nothing for any other run.
    fn check_in(&self, run: &Run, id: Uuid, status: MonitorCheckInStatus, seconds: Option<f64>) -> Option<Uuid> {
        let plan = run.plan.as_ref().filter(|_| run.verb == Verb::Backup && run.whole)?;
        let schedule = (self.schedule)(plan)?;
        let item = events::check_in(run, plan, &schedule, (id, status, seconds), &self.options.environment)?;
        self.client.send_envelope(item);
        Some(id)
    }

    fn end(&self, run: &Run, seconds: f64, result: &std::result::Result<(), Failure>) {
        let seen = std::mem::take(&mut *self.seen());
        if let Some((_, Some(id))) = seen.begun {
            let status = if result.is_ok() { MonitorCheckInStatus::Ok } else { MonitorCheckInStatus::Error };
            self.check_in(run, id, status, Some(seconds));
        }
        if let (true, Verb::Restore | Verb::Drill | Verb::Rollback, Some((begun, _))) =
            (self.options.traces, run.verb, seen.begun)
        {
            let status = if result.is_ok() { SpanStatus::Ok } else { SpanStatus::InternalError };
            let about = (run, seen.backup.as_ref(), &self.options);
            self.client.send_envelope(events::transaction(about, begun, status, &seen.spans));
        }
        let Err(failure) = result else { return };
        let tags = |source: Option<&Name>| {
            let mut tags = events::tags(run);
            tags.insert("kind".into(), failure.kind.name().into());
            let step = seen.failed_step.clone().or_else(|| seen.step.as_ref().map(|(name, _)| name.clone()));
            let more = [
                ("step", step),
                ("source", source.map(Name::to_string)),
                ("backup", seen.backup.as_ref().map(BackupId::to_string)),
            ];
            tags.extend(more.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
            tags
        };
        let level = level(failure.kind);
        for (source, why) in &seen.failed_sources {
            let failed = Failure { kind: failure.kind, text: why.clone(), hint: None };
            let event = events::error(run, &failed, level, tags(Some(source)), &seen.crumbs);
            self.client.capture_event(event, None);
        }
        // What failed sources already say is not said twice.
        if seen.failed_sources.is_empty() || !matches!(failure.kind, Kind::Partial | Kind::Source) {
            self.client.capture_event(events::error(run, failure, level, tags(None), &seen.crumbs), None);
        }
    }
}

/// What somebody asked for is no error; a restore that could not be taken back is the worst that there is.
fn level(kind: Kind) -> Level {
    match kind {
        Kind::Interrupted => Level::Warning,
        Kind::Stuck => Level::Fatal,
        _ => Level::Error,
    }
}

impl Monitor for Sentry {
    fn event(&self, event: Event) {
        let crumb = |category: &'static str, level: Level, text: String| self.seen().crumbs.add(category, level, text);
        match event {
            Event::Begun(run) => self.begin(&run),
            Event::Ended(run, seconds, result) => self.end(&run, seconds, &result),
            Event::Declined(_) => *self.seen() = Seen::default(),
            Event::Lost(run) => {
                let text = format!("the {run} that was begun {} was killed, or the machine went down", run.at);
                let failure = Failure { kind: Kind::Interrupted, text, hint: None };
                let event = events::error(&run, &failure, Level::Error, events::tags(&run), &Crumbs::default());
                self.client.capture_event(event, None);
            }
            Event::Stage(what) => crumb("stage", Level::Info, what),
            Event::StepStarted(name) => {
                let mut seen = self.seen();
                seen.crumbs.add("step", Level::Info, name.clone());
                seen.step = Some((name, SystemTime::now()));
            }
            Event::StepEnded(name, seconds, result) => {
                let mut seen = self.seen();
                let now = SystemTime::now();
                let began = match seen.step.take() {
                    Some((started, at)) if started == name => at,
                    _ => now - Duration::try_from_secs_f64(seconds).unwrap_or_default(),
                };
                if let Err(why) = &result {
                    seen.crumbs.add("step", Level::Error, format!("{name} failed: {why}"));
                    // The first to fail is the cause; what fails on the way back follows from it.
                    seen.failed_step.get_or_insert_with(|| name.clone());
                }
                seen.spans.push(Span { name, began, ended: now, failed: result.is_err() });
            }
            Event::SourceStarted(name) => crumb("source", Level::Info, format!("{name} begins")),
            Event::SourceEnded(name, Ok(())) => crumb("source", Level::Info, format!("{name} done")),
            Event::SourceEnded(name, Err(why)) => {
                crumb("source", Level::Error, format!("{name} failed: {why}"));
                self.seen().failed_sources.push((name, why));
            }
            Event::StoodStill(who, seconds) => {
                crumb("application", Level::Info, format!("{who} stood still for {seconds:.1} s"));
            }
            Event::Outage(seconds) => crumb("application", Level::Info, format!("outage of {seconds:.1} s")),
            Event::Warning(text) => crumb("warning", Level::Warning, text),
            Event::Committed(plan, id) => {
                crumb("backup", Level::Info, format!("{id} of plan {plan} committed"));
                self.seen().backup = Some(id);
            }
            Event::Reported(report) => {
                if let Report::Restore(restore) = *report {
                    self.seen().backup = restore.backup;
                }
            }
            Event::Expect(_) | Event::Read(_) | Event::Shipped(_) | Event::Restored(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restore_that_could_not_be_taken_back_is_worse_than_one_that_failed() {
        assert_eq!((level(Kind::Stuck), level(Kind::Restore)), (Level::Fatal, Level::Error));
        assert_eq!(level(Kind::Interrupted), Level::Warning);
    }
}
