//! What else a plan does with the restored data: statements or programs, on what was staged (`after_stage`: migrate,
//! anonymise), and on what is live before the application starts (`after_swap`).
//!
//! A hook of `after_stage` never sees a live database: one that is not part of the restore is left alone. [`sql`] runs
//! in one transaction, and once, also when the power fails in between ([`once`]). A program may run again after a
//! crash, and must be able to. [`step`] makes steps of a restore of them.

mod command;
pub mod once;
mod sql;
pub mod step;

use super::checks::context::Renamed;
use crate::config::checks::{Hook, Task, Text, When};
use crate::error::{Error, Kind, Result};
use crate::host::docker::Docker;
use crate::sources::postgres::connect::literal;
use crate::sources::postgres::session::Session;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A path that is restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// Where it belongs.
    pub live: PathBuf,
    /// Where it was staged.
    pub staging: PathBuf,
}

/// What a hook knows of the restore that it belongs to. It goes through the journal and holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookContext {
    /// The backup's id.
    pub backup: String,
    /// The restore's id.
    pub restore: String,
    /// The state directory.
    pub state_dir: PathBuf,
    /// Databases that are restored.
    #[serde(default)]
    pub databases: Vec<Renamed>,
    /// Paths that are restored.
    #[serde(default)]
    pub paths: Vec<Placed>,
}

/// The database that a hook works on.
#[derive(Clone, Debug)]
struct Target {
    /// Its own name.
    live: String,
    /// Its name while the hook runs.
    now: String,
}

/// What a hook did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Why it did nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

impl Hook {
    /// The database that is meant. Outer `None`: it is not part of this restore; inner: the hook has none.
    fn target(&self, context: &HookContext) -> Option<Option<Target>> {
        let Some(place) = self.place() else { return Some(None) };
        let renamed = context.databases.iter().find(|r| r.source == place.source && r.live == place.database)?;
        let now = match self.when {
            When::AfterStage => renamed.staging.clone(),
            When::AfterSwap => renamed.live.clone(),
        };
        Some(Some(Target { live: renamed.live.clone(), now }))
    }

    /// Does it.
    ///
    /// # Errors
    /// [`Kind::Restore`] with what the server or the program said.
    pub async fn run(&self, context: &HookContext) -> Result<Done> {
        let started = std::time::Instant::now();
        let took = || u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let Some(target) = self.target(context) else {
            let database = self.place().map(|place| place.database.clone()).unwrap_or_default();
            return Ok(Done { skipped: Some(format!("database {database} is not restored")), took_ms: took() });
        };
        let work = async {
            match (&self.task, target) {
                (Task::Sql { place, text, role }, Some(target)) => {
                    sql::run(self, place, &target, text, role.as_deref(), context).await
                }
                (Task::Sql { .. }, None) => Err(Error::new(Kind::Internal, "a hook with SQL has no database")),
                (Task::Command { .. }, target) => command::run(self, target.as_ref(), context).await,
            }
        };
        let late = |_| {
            Err(Error::new(
                Kind::Restore,
                format!("it did not end within {} seconds and was stopped", self.timeout.as_secs_f64()),
            )
            .hint("Look what it waits for, or give it more time with `timeout`."))
        };
        let done = tokio::time::timeout(self.timeout, work).await.unwrap_or_else(late);
        done.map_err(|e| self.says(e))?;
        Ok(Done { skipped: None, took_ms: took() })
    }

    /// Takes it back: runs its `undo`, if it has one.
    ///
    /// # Errors
    /// [`Kind::Restore`] with what the program said.
    pub async fn take_back(&self, context: &HookContext) -> Result<()> {
        let (Task::Command { undo: Some(undo), .. }, Some(target)) = (&self.task, self.target(context)) else {
            return Ok(());
        };
        let late = |_| Err(Error::new(Kind::Restore, "`undo` did not end in time and was stopped"));
        let undone = tokio::time::timeout(self.timeout, command::undo(self, undo, target.as_ref(), context)).await;
        undone.unwrap_or_else(late).map_err(|e| self.says(e))
    }

    fn says(&self, e: Error) -> Error {
        let what = format!("the hook {} failed: {}", self.step(), e.what);
        Error { what, ..e }.kind(Kind::Restore)
    }

    /// Looks whether the hook can work at all, before anything is touched.
    ///
    /// # Errors
    /// [`Kind::Refused`] with what is missing.
    pub async fn preflight(&self) -> Result<()> {
        let looked = match &self.task {
            Task::Sql { text, .. } => text.read().map(drop),
            Task::Command { argv, undo, runner, .. } => {
                let missing = [Some(argv), undo.as_ref()].into_iter().flatten().find(|argv| !runner.finds(argv));
                match (missing.and_then(|argv| argv.first()), &runner.container) {
                    (Some(program), _) => Err(Error::new(Kind::Refused, format!("the program {program} is not there"))
                        .hint(format!("Install {program}, or correct its path."))),
                    (None, Some(container)) if self.when == When::AfterStage => {
                        Docker::connect().await?.find(container).await.map(drop)
                    }
                    // What runs after the swap may have stopped, and may not be there yet.
                    _ => Ok(()),
                }
            }
        };
        looked.map_err(|e| {
            let what = format!("the hook {} cannot work: {}", self.step(), e.what);
            Error { what, ..e }.kind(Kind::Refused)
        })
    }
}

impl Text {
    /// The statements.
    ///
    /// # Errors
    /// When the file cannot be read.
    fn read(&self) -> Result<String> {
        let read = |path: &Path| {
            std::fs::read_to_string(path).map_err(|e| Error::io("the file of `sql_file` cannot be read", path, e))
        };
        match self {
            Text::Given(text) => Ok(text.clone()),
            Text::File(path) => read(path),
        }
    }
}

/// The role that works on a database: the one given, or its owner, since what another makes would not be the
/// application's. `None` when that is who we are.
///
/// # Errors
/// [`Kind::Restore`] when the server does not tell.
async fn role_of(session: &Session, target: &Target, given: Option<&str>, us: &str) -> Result<Option<String>> {
    let role = match given {
        Some(role) => role.to_owned(),
        None => {
            // The owner of what is staged is changed with its name only.
            let (live, now) = (literal(&target.live), literal(&target.now));
            let from = format!("FROM pg_database WHERE datname IN ({live}, {now}) ORDER BY datname <> {live} LIMIT 1");
            let row = session.row("pg_get_userbyid(datdba)", &from).await;
            row.map_err(|e| e.says("the server does not tell whose the database is").kind(Kind::Restore))?.text(0)
        }
    };
    Ok((role != us).then_some(role))
}
