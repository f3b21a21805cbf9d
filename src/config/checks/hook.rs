//! `after_stage` and `after_swap`: what else is to be done with the restored data.

use super::InDatabase;
use super::raw::RawHook;
use super::read::{argv_of, in_database, one_word, some_time, wrong};
use crate::config::SourceConfig;
use crate::config::command::secrets_of;
use crate::config::explain::named;
use crate::config::secret::resolve;
use crate::error::Result;
use crate::model::Name;
use crate::sources::command::run::Runner;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a hook may take when nobody says otherwise: a migration of a large table takes its time.
const TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// When a hook runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// On what was staged, while the application still runs on the old data.
    AfterStage,
    /// On what is live, before the application starts.
    AfterSwap,
}

impl When {
    /// The key.
    pub fn key(self) -> &'static str {
        match self {
            When::AfterStage => "after_stage",
            When::AfterSwap => "after_swap",
        }
    }
}

/// A hook.
#[derive(Clone, Debug)]
pub struct Hook {
    /// Its name among those of its list. Holds no secret.
    pub name: String,
    /// When it runs.
    pub when: When,
    /// What it does.
    pub task: Task,
    /// How long it may take.
    pub timeout: Duration,
}

/// What a hook does.
#[derive(Clone, Debug)]
pub enum Task {
    /// Statements in one transaction.
    Sql {
        /// Where.
        place: Box<InDatabase>,
        /// What.
        text: Text,
        /// As whom; `None` is the owner of the database.
        role: Option<String>,
    },
    /// A program.
    Command {
        /// The program with its arguments.
        argv: Vec<String>,
        /// What takes it back.
        undo: Option<Vec<String>>,
        /// Where it runs.
        runner: Runner,
        /// The database that it works on.
        place: Option<Box<InDatabase>>,
        /// As whom; `None` is the owner of the database.
        role: Option<String>,
    },
}

/// Statements.
#[derive(Clone, Debug)]
pub enum Text {
    /// As they are.
    Given(String),
    /// In a file, which is read when they are needed.
    File(PathBuf),
}

impl Hook {
    /// The name of its step: `after_stage 1`.
    pub fn step(&self) -> String {
        format!("{} {}", self.when.key(), self.name)
    }

    /// Where its database is, if it has one.
    pub fn place(&self) -> Option<&InDatabase> {
        match &self.task {
            Task::Sql { place, .. } => Some(place),
            Task::Command { place, .. } => place.as_deref(),
        }
    }
}

/// All hooks of a list; two never have one name. `key` is the path of the list.
///
/// # Errors
/// [`crate::error::Kind::Config`] with the number of the hook, from 1.
pub fn hooks_of(
    raw: Vec<RawHook>,
    when: When,
    key: &str,
    dir: &Path,
    sources: &BTreeMap<Name, SourceConfig>,
) -> Result<Vec<Hook>> {
    let mut hooks: Vec<Hook> = Vec::new();
    for (n, mut raw) in raw.into_iter().enumerate() {
        raw.name.get_or_insert_with(|| (n + 1).to_string());
        let hook = hook_of(raw, when, &format!("{key}[{}]", n + 1), dir, sources)?;
        if hooks.iter().any(|h| h.name == hook.name) {
            return Err(named(wrong(format!("two hooks have the name {}", hook.name)), key));
        }
        hooks.push(hook);
    }
    Ok(hooks)
}

/// One hook. `sources` are those whose databases it may work on, `dir` that of relative files.
///
/// # Errors
/// [`crate::error::Kind::Config`] for what does not fit together.
pub fn hook_of(
    raw: RawHook,
    when: When,
    key: &str,
    dir: &Path,
    sources: &BTreeMap<Name, SourceConfig>,
) -> Result<Hook> {
    one_hook(raw, when, key, dir, sources).map_err(|e| named(e, key))
}

fn one_hook(raw: RawHook, when: When, key: &str, dir: &Path, sources: &BTreeMap<Name, SourceConfig>) -> Result<Hook> {
    let name = raw.name.unwrap_or_else(|| "1".to_owned());
    if name.trim().is_empty() || name.chars().any(char::is_control) {
        return Err(wrong(format!("`name` is {name:?}")).hint("Write some words."));
    }
    let timeout = some_time("timeout", raw.timeout.as_ref(), TIMEOUT)?;
    let role = raw.role.map(|role| one_word("role", role)).transpose()?;
    let text = match (raw.sql, raw.sql_file, raw.command.is_some()) {
        (Some(sql), None, false) if sql.trim().is_empty() => return Err(wrong("`sql` is empty")),
        (Some(sql), None, false) => Some(Text::Given(sql)),
        (None, Some(file), false) => Some(Text::File(resolve(&file, dir))),
        (None, None, true) => None,
        _ => {
            return Err(
                wrong("it is not clear what the hook does").hint("Set just one of `sql`, `sql_file` and `command`.")
            );
        }
    };
    let Some(argv) = raw.command else {
        let programs = [
            ("undo", raw.undo.is_some()),
            ("container", raw.container.is_some()),
            ("os_user", raw.os_user.is_some()),
            ("dir", raw.dir.is_some()),
            ("env", raw.env.is_some()),
            ("secrets", raw.secrets.is_some() || raw.secrets_file.is_some()),
        ];
        if let Some((key, _)) = programs.iter().find(|(_, set)| *set) {
            return Err(wrong(format!("`{key}` means nothing without `command`")));
        }
        let place = Box::new(in_database(raw.source, raw.database, sources)?);
        let Some(text) = text else { return Err(wrong("there is no SQL")) };
        return Ok(Hook { name, when, task: Task::Sql { place, text, role }, timeout });
    };
    if raw.undo.is_some() && when == When::AfterStage {
        return Err(wrong("`undo` means nothing after the staging")
            .hint("What was staged is dropped when the restore is taken back; use it in `after_swap`."));
    }
    // A program need not work on a database at all.
    let place = match raw.source.is_some() || raw.database.is_some() {
        true => Some(Box::new(in_database(raw.source, raw.database, sources)?)),
        false if role.is_some() => return Err(wrong("`role` is set without `source` or `database`")),
        false => None,
    };
    let (env, secrets) = (raw.env.unwrap_or_default(), raw.secrets.unwrap_or_default());
    let files = raw.secrets_file.unwrap_or_default();
    let runner = Runner {
        container: raw.container,
        os_user: raw.os_user,
        dir: raw.dir,
        secrets: secrets_of(&env, &secrets, &files, key, dir)?,
        env: env.into_iter().collect(),
    };
    let undo = raw.undo.map(|undo| argv_of("undo", undo)).transpose()?;
    let task = Task::Command { argv: argv_of("command", argv)?, undo, runner, place, role };
    Ok(Hook { name, when, task, timeout })
}
