//! What was asked for, in a form that a journal keeps: after a crash the resources and steps are made from it anew.

use super::chosen::Target as DatabaseTarget;
use super::flow::Flow;
use super::journal::Journal;
use super::wanted::WantedTables;
use crate::error::{Error, Kind, Result};
use crate::model::{BackupId, Name};
use crate::sources::postgres::load::What;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What was asked for; enough to make the resources anew after a crash.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// Who asked.
    pub by: String,
    /// Sources, with what of them.
    pub parts: Vec<Part>,
    /// Leave objects of databases to the connecting role.
    pub no_owner: bool,
    /// Leave out grants on objects of databases.
    pub no_privileges: bool,
    /// Free space where nobody can tell. Bytes.
    pub assume_space: Option<u64>,
    /// What of databases.
    #[serde(default)]
    pub what: What,
    /// Databases are dropped before they are loaded, and this stands for the live ones meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_place: Option<Safety>,
    /// The server does not start, and a new cluster takes its place.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fresh_cluster: bool,
    /// When the backup began: what was written since is not in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<Timestamp>,
    /// How the application is treated around the exchange.
    #[serde(default, skip_serializing_if = "Flow::is_empty")]
    pub flow: Flow,
    /// The restore that is taken back by this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_of: Option<BackupId>,
}

/// What stands for a live database that is dropped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Safety {
    /// A backup of it, taken right before.
    Backup(BackupId),
    /// The server's files, copied while it is stopped.
    ColdCopy {
        /// A directory of another disk; else the copy is beside them.
        to: Option<PathBuf>,
    },
    /// Nothing: there is no way back.
    Waived,
}

impl Safety {
    /// Whether going back takes a backup that is read.
    pub fn is_read(&self) -> bool {
        !matches!(self, Safety::ColdCopy { .. })
    }
}

/// What of one source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Paths of a `files` or `host` source.
    Files {
        /// Source.
        source: Name,
        /// Paths.
        paths: Vec<PathBuf>,
    },
    /// Volumes of a `volume` source: as it was named, and as it is to be.
    Volumes {
        /// Source.
        source: Name,
        /// Volume in the backup, and the one that is restored.
        targets: Vec<(String, String)>,
    },
    /// Images of an `image` source.
    Images {
        /// Source.
        source: Name,
    },
    /// The server of a `redis` source.
    Redis {
        /// Source.
        source: Name,
    },
    /// The output of a `command` source.
    Command {
        /// Source.
        source: Name,
        /// The database beside the live one that it is loaded into, of a source that is bound to one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<String>,
    },
    /// Databases of a `postgres` source.
    Databases {
        /// Source.
        source: Name,
        /// Databases.
        targets: Vec<DatabaseTarget>,
        /// The URL of another server than the source's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        server: Option<String>,
    },
    /// The rows of a database of a `postgres` source, into one that has its tables.
    Rows {
        /// Source.
        source: Name,
        /// The database in the backup.
        database: String,
        /// The database that is filled.
        into: String,
    },
    /// Tables of a database of a `postgres` source.
    Tables {
        /// Source.
        source: Name,
        /// Which, and where to.
        wanted: WantedTables,
    },
}

impl Part {
    /// The source that it is of.
    pub fn source(&self) -> &Name {
        match self {
            Part::Files { source, .. }
            | Part::Volumes { source, .. }
            | Part::Images { source }
            | Part::Redis { source }
            | Part::Command { source, .. }
            | Part::Databases { source, .. }
            | Part::Rows { source, .. }
            | Part::Tables { source, .. } => source,
        }
    }
}

impl Asked {
    /// Whether going back takes a backup that is read.
    pub fn goes_back_by_reading(&self) -> bool {
        self.in_place.as_ref().is_some_and(Safety::is_read)
    }

    /// Paths that are replaced.
    pub fn paths(&self) -> Vec<PathBuf> {
        let of = |part: &Part| match part {
            Part::Files { paths, .. } => paths.clone(),
            _ => Vec::new(),
        };
        self.parts.iter().flat_map(of).collect()
    }

    /// Sources of which something is replaced.
    pub fn sources(&self) -> Vec<Name> {
        self.parts.iter().map(|part| part.source().clone()).collect()
    }
}

/// What was asked for in a journal.
///
/// # Errors
/// [`Kind::Internal`] when this version cannot read it.
pub fn asked_of(journal: &Journal) -> Result<Asked> {
    serde_json::from_value(journal.about().asked.clone())
        .map_err(|e| Error::new(Kind::Internal, "the journal of the restore cannot be understood").because(e))
}
