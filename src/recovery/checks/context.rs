//! What a check or a hook knows of the restore that it belongs to. It goes through the journal, so it holds names and
//! moments, and no secret.

use super::logfile::Mark;
use crate::config::checks::{Check, LogOf, What};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A database that is restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renamed {
    /// The source that knows its server.
    pub source: String,
    /// Its own name.
    pub live: String,
    /// The name under which it was staged.
    pub staging: String,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    /// When the application was started: logs are read from here on.
    pub since: Timestamp,
    /// Databases that are asked under their staging names; empty once they are live.
    #[serde(default)]
    pub staging: Vec<Renamed>,
    /// Whether it is what was staged that is looked at. A check of a database that is not in `staging` then has nothing
    /// to do.
    #[serde(default)]
    pub before_swap: bool,
    /// Where log files ended before the start.
    #[serde(default)]
    pub marks: Marks,
    /// Whether it is a drill: then what fails for want of an answer must not speak against the backup.
    #[serde(default)]
    pub drill: bool,
}

/// Where log files ended at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks(pub(super) BTreeMap<PathBuf, Mark>);

impl Marks {
    /// Looks at the log files of these checks. Call it before the application starts, and keep it in a note: what they
    /// hold by then is not the start's.
    pub fn of(checks: &[Check]) -> Self {
        let files = checks.iter().filter_map(|check| match &check.what {
            What::Log(log) => match &log.of {
                LogOf::File(path) => Some(path),
                _ => None,
            },
            _ => None,
        });
        Marks(files.map(|path| (path.clone(), Mark::of(path))).collect())
    }
}

impl Context {
    /// After the application was started at this moment.
    pub fn live(since: Timestamp, marks: Marks) -> Self {
        Context { since, staging: Vec::new(), before_swap: false, marks, drill: false }
    }

    /// On what was staged.
    pub fn staged(databases: Vec<Renamed>) -> Self {
        let marks = Marks::default();
        Context { since: Timestamp::now(), staging: databases, before_swap: true, marks, drill: false }
    }

    /// On what a drill has staged.
    pub fn drilled(databases: Vec<Renamed>) -> Self {
        Context { drill: true, ..Context::staged(databases) }
    }

    /// The present name of a database; `None` when it is not part of what is looked at.
    pub fn name_of(&self, source: &str, database: &str) -> Option<String> {
        let renamed = self.staging.iter().find(|r| r.source == source && r.live == database);
        match renamed {
            Some(renamed) => Some(renamed.staging.clone()),
            None => (!self.before_swap).then(|| database.to_owned()),
        }
    }
}
