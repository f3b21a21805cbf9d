//! What a command came to, in figures. Kept in run records, sent to webhooks, and the source of metrics.

use crate::model::{BackupId, Name};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The figures of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "kebab-case")]
pub enum Report {
    /// A backup was committed.
    Backup(Backup),
    /// A check was carried out.
    Check(Check),
    /// Retention was applied.
    Forget(Forget),
    /// A vault was pruned.
    Prune(Prune),
    /// Keys were proven.
    KeyCheck {
        /// Their names.
        keys: Vec<String>,
    },
    /// Data came back, or a drill showed that it would.
    Restore(Restore),
}

/// A committed backup. Sizes are bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Backup {
    /// Whether all sources of the plan were to be backed up.
    pub whole_plan: bool,
    /// Length of all data.
    pub bytes: u64,
    /// Read from sources.
    pub read: u64,
    /// Not stored before, uncompressed.
    pub new: u64,
    /// Uploaded.
    pub shipped: u64,
    /// New packs.
    pub packs: u64,
    /// Packs that were stored again in place of damaged ones.
    pub repaired: u64,
    /// Its sources.
    pub sources: Vec<Source>,
}

/// One source of a backup.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// Name.
    pub name: Name,
    /// Kind: `files`, `postgres`.
    pub kind: String,
    /// Why it failed, if it did.
    pub error: Option<String>,
    /// Bytes of its data.
    pub bytes: u64,
    /// Files, for those kinds that count them.
    pub files: Option<u64>,
    /// Seconds that it took.
    pub seconds: f64,
}

/// What a check saw.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Backups looked at.
    pub backups: u64,
    /// Those that can be restored as far as the check looked.
    pub whole: u64,
    /// Damaged or missing objects, key files included.
    pub damaged: u64,
    /// Backups that are named by a later one and are gone.
    pub missing_predecessors: u64,
    /// Packs that backups name.
    pub packs: u64,
    /// Their bytes in the store.
    pub pack_bytes: u64,
    /// Packs that were read.
    pub packs_read: u64,
    /// Bytes that were read.
    pub bytes_read: u64,
}

/// What retention did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Forget {
    /// Backups removed.
    pub removed: u64,
    /// Backups that a lock of the store keeps, or credentials that may not delete.
    pub retained: u64,
    /// Backups that the rules keep, by plan.
    pub kept: BTreeMap<Name, u64>,
}

/// What prune did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Prune {
    /// Objects in use.
    pub live_objects: u64,
    /// Their bytes.
    pub live_bytes: u64,
    /// Objects that this run condemned.
    pub condemned_objects: u64,
    /// Their bytes.
    pub condemned_bytes: u64,
    /// Objects that wait for the grace time.
    pub waiting_objects: u64,
    /// Objects deleted.
    pub deleted_objects: u64,
    /// Objects that a lock of the store keeps.
    pub retained_objects: u64,
}

/// What a restore or a drill brought back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Restore {
    /// The backup.
    pub backup: Option<BackupId>,
    /// Whether it was all of the plan: only that proves the plan.
    pub whole_plan: bool,
    /// Facts of the backup that were compared.
    pub compared: u64,
    /// Rows of tables that were compared.
    pub rows: u64,
    /// Bytes of data.
    pub bytes: u64,
}
