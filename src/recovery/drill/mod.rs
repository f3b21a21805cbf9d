//! A drill: a backup is restored into staging, held against its facts, looked at by the plan's queries, and thrown away.
//!
//! It is the first half of a restore, by the same resources and steps, and then everything back. What is staged lies in a
//! directory of the drill's own ([`place`]), databases on a server of its own ([`server`]: a [`cluster`] or a
//! [`container`]), so nothing live is touched, stopped or loaded. [`plan`] decides what goes where, [`choose`] which server,
//! [`resources`] makes what is staged: [`tree`], [`image`], [`redis`], [`output`], [`databases`], each an [`aside`].
//!
//! A journal says what was made. A drill that was killed is found by the next one, or by `cleanup`, and [`sweep`] removes what
//! it left. [`pick`] says which backup.

mod aside;
pub mod choose;
mod cluster;
mod container;
mod databases;
mod image;
mod output;
pub mod pick;
pub mod place;
pub mod plan;
mod redis;
mod resources;
pub mod server;
pub mod sweep;
mod tree;

use super::checks::context::Context;
use super::checks::step as check_steps;
use super::engine::{Ended, Engine, Notes, Step};
use super::journal::{Begin, Journal};
use super::report::{self, StepReport};
use super::resource::{Class, Compared, Resource};
use super::select;
use super::steps;
use crate::config::Config;
use crate::config::checks::{Check, What};
use crate::error::{Error, Kind, Result};
use crate::model::{BackupId, Name};
use crate::repository::manifest::Manifest;
use crate::repository::reader::Reader;
use crate::sources::postgres::GLOBALS;
use crate::telemetry::monitor::{Event, Monitor};
use jiff::SignedDuration;
use plan::Staging;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The journal of the drill that is under way on this machine, or was killed.
pub fn journal_file(state_dir: &Path) -> PathBuf {
    state_dir.join("drill.journal")
}

/// What a drill is made with.
pub struct With<'a> {
    /// Its id: names of what it makes.
    pub id: &'a BackupId,
    /// The backup.
    pub manifest: &'a Manifest,
    /// What goes where.
    pub staging: &'a Staging,
    /// The configuration, when it is that of the host whose backup this is.
    pub own: Option<&'a Config>,
    /// Queries of the plan.
    pub checks: &'a [Check],
    /// Reads the backup.
    pub reader: &'a Reader,
    /// Where the journal is.
    pub state_dir: &'a Path,
    /// Who listens.
    pub monitor: Arc<dyn Monitor>,
}

/// How a drill ended.
#[derive(Debug)]
pub struct Outcome {
    /// Why it failed, if it did.
    pub failure: Option<Error>,
    /// What was compared with the facts.
    pub compared: Vec<Compared>,
    /// How the queries came out.
    pub checks: Vec<serde_json::Value>,
    /// Every step that began.
    pub steps: Vec<StepReport>,
    /// Seconds, without what it took to throw everything away.
    pub seconds: f64,
}

/// A drill that is under way.
pub struct Drill {
    engine: Engine,
    file: PathBuf,
    plan: Name,
}

impl Drill {
    /// Begins: from here on there is a journal.
    ///
    /// # Errors
    /// When there is one already, or it cannot be written.
    pub async fn begin(with: With<'_>) -> Result<Self> {
        let dir = &with.staging.dir;
        let resources = resources::all(&with).await?;
        // The live servers of databases are looked at before anything is made; those of the drill's own are not there yet.
        let live = resources.iter().filter(|r| !r.scratch && r.resource.class() == Class::Database);
        for made in live {
            for warning in made.resource.preflight().await?.warnings {
                with.monitor.event(Event::Warning(format!("{}: {warning}", made.resource.label())));
            }
        }
        let mut all: Vec<Box<dyn Step>> = vec![Box::new(place::Make { dir: dir.clone() })];
        for server in &with.staging.servers {
            let start = server::Start { server: server.clone(), dir: dir.clone(), id: with.id.clone() };
            all.push(Box::new(start));
            if let Some(source) = &server.roles_of {
                let record = select::source(with.manifest, source)?;
                let globals = select::artifact(record, Some(GLOBALS))?.clone();
                let (server, dir, reader) = (server.clone(), dir.clone(), with.reader.clone());
                all.push(Box::new(server::Roles { server, dir, globals, reader }));
            }
        }
        let looked: Vec<_> = resources.iter().filter(|r| r.scratch).map(|r| r.resource.clone()).collect();
        all.extend(
            looked
                .into_iter()
                .map(|resource| Box::new(server::Look { resource, monitor: with.monitor.clone() }) as Box<dyn Step>),
        );
        let resources: Vec<Arc<dyn Resource>> = resources.into_iter().map(|r| r.resource).collect();
        all.extend(steps::of_drill(&resources, queries(&with, &resources)?));
        let file = journal_file(with.state_dir);
        let begin = Begin {
            id: with.id.clone(),
            plan: with.manifest.plan.clone(),
            backup: with.manifest.id.clone(),
            asked: json!(with.staging),
            steps: all.iter().map(|s| s.name()).collect(),
        };
        let engine = Engine::new(all, Journal::begin(&file, begin)?, with.monitor.clone())?;
        Ok(Drill { engine, file, plan: with.manifest.plan.clone() })
    }

    /// Does all of it within this time, unless it is stopped, and throws everything away, however it went.
    ///
    /// # Errors
    /// [`Kind::Stuck`] when something cannot be thrown away; the journal stays, and the next drill tries again.
    pub async fn run(mut self, limit: Duration, stopped: impl Future<Output = &'static str>) -> Result<Outcome> {
        let started = Instant::now();
        let failure = tokio::select! {
            tried = tokio::time::timeout(limit, self.engine.try_all()) => match tried {
                Ok(tried) => tried?,
                Err(_) => Some(self.too_long(limit)),
            },
            signal = stopped => Some(Error::new(Kind::Interrupted, format!("stopped by {signal}"))),
        };
        let seconds = started.elapsed().as_secs_f64();
        let why = failure.as_ref().map_or_else(|| "the drill is over".to_owned(), Error::one_line);
        if let Ended::Stuck { step, error, left, .. } = self.engine.go_back(&why).await? {
            return Err(stuck(&step, &error, &left));
        }
        let journal = self.engine.journal();
        let notes = |prefix: &'static str| {
            let named = journal.about().steps.iter().enumerate().filter(move |(_, s)| s.starts_with(prefix));
            named.filter_map(move |(n, _)| journal.done(n).cloned())
        };
        let compared = notes("verify ").filter_map(|n| serde_json::from_value::<Vec<Compared>>(n).ok()).flatten();
        let outcome = Outcome {
            compared: compared.collect(),
            checks: notes("check ").collect(),
            steps: report::steps(&journal.about().steps, journal.entries()),
            failure,
            seconds,
        };
        sweep::forget(&self.file)?;
        Ok(outcome)
    }

    fn too_long(&self, limit: Duration) -> Error {
        let limit = crate::model::time::words(SignedDuration::try_from(limit).unwrap_or(SignedDuration::MAX));
        Error::new(Kind::Restore, format!("the drill of plan {} took longer than {limit} and was given up", self.plan))
            .hint("Give it more time with --timeout, or `timeout` of the plan's [drill] section.")
    }
}

fn stuck(step: &str, error: &Error, left: &[String]) -> Error {
    Error::new(Kind::Stuck, format!("what the drill staged cannot be thrown away: undoing the step {step} failed"))
        .because(format!("{}\nleft to do:\n{}", error.one_line(), left.join("\n")))
        .hint("Mend the cause; the next drill, or `backstay cleanup`, tries again.")
}

/// The queries of the plan, on what is staged.
fn queries(with: &With<'_>, resources: &[Arc<dyn Resource>]) -> Result<Vec<Box<dyn Step>>> {
    let mut checks = Vec::new();
    for check in with.checks {
        let mut check = Check { before_swap: true, ..check.clone() };
        let What::Sql(query) = &mut check.what else { continue };
        if let Some(server) = with.staging.servers.iter().find(|s| s.source.as_str() == query.place.source) {
            query.place.server.address = server.address(&with.staging.dir)?;
        }
        checks.push(check);
    }
    let resources = resources.to_vec();
    let context = Arc::new(move |notes: &Notes<'_>| {
        let mut databases = Vec::new();
        for resource in &resources {
            databases.extend(resource.staged_as(notes.of(&steps::stage_name(&**resource))?)?.databases);
        }
        Ok(Context::drilled(databases))
    });
    Ok(check_steps::on_staging(&checks, &(context as _)))
}
