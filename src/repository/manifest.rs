//! The manifest: what one backup is. Written last; a backup exists exactly when its manifest does.

use super::segment::SegmentRef;
use crate::model::ids::PackPrefix;
use crate::model::{BackupId, Name, VaultId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The manifest of one committed run of a plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// Format version, 1.
    pub format: u32,
    /// The vault, for a reader by hand; the record's code binds it too.
    pub vault: VaultId,
    /// The host's name at the time.
    pub host: Name,
    /// A hash of the host's machine id: tells a cloned host from the original.
    pub machine: String,
    /// The plan.
    pub plan: Name,
    /// The backup's id.
    pub id: BackupId,
    /// The store's clock when the run began. Retention counts by this.
    pub store_time: Timestamp,
    /// The host's clock when the run began.
    pub started: Timestamp,
    /// The host's clock at commit.
    pub finished: Timestamp,
    /// The newest backup of the plan that the run saw: a gap in this chain means that manifests are missing.
    pub predecessor: Option<BackupId>,
    /// The epoch that this run sealed to.
    pub epoch: u32,
    /// Version of the agent that wrote it.
    pub agent: String,
    /// Whether the run covered all sources of the plan, or some by `--source`.
    pub whole_plan: bool,
    /// The sources of the run, each complete or failed.
    pub sources: Vec<SourceRecord>,
    /// What was read and shipped.
    pub stats: Stats,
    /// Packs (the first bytes of their names) of which this backup uses too little to go on using them; the next run
    /// stores that little again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sparse_packs: Vec<PackPrefix>,
    /// Set when the backup was made by another script and taken over. Its times are then those of its making, so that
    /// retention and `latest` see it where it belongs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported: Option<Import>,
    /// What the host had committed last of this plan, when the store did not show it and nobody had forgotten it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unseen: Option<BackupId>,
}

/// Plan and id of a backup, and one that was there before it.
pub type Link = (Name, BackupId, Option<BackupId>);

/// How a backup that another script made came here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    /// The layout and the set.
    pub from: String,
    /// The store's clock when it was taken over.
    pub at: Timestamp,
}

/// How a source ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceState {
    /// Every artifact is whole.
    Complete,
    /// It failed, for this reason; it has no artifacts.
    Failed(String),
}

/// One source of a backup.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SourceRecord {
    /// Name in the configuration.
    pub name: Name,
    /// Kind in the configuration: `files`, `postgres`.
    pub kind: String,
    /// How it ended.
    pub state: SourceState,
    /// Its byte streams, in the order in which a restore wants them.
    pub artifacts: Vec<Artifact>,
    /// What was true at backup time, by kind.
    #[serde(default)]
    pub facts: serde_json::Value,
    /// What an operator should know although the source is complete.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Seconds that the source took.
    pub seconds: f64,
}

impl SourceRecord {
    /// True when it can be restored.
    pub fn is_complete(&self) -> bool {
        self.state == SourceState::Complete
    }

    /// Bytes of all artifacts.
    pub fn bytes(&self) -> u64 {
        self.artifacts.iter().map(|a| a.bytes).sum()
    }
}

/// One byte stream.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Artifact {
    /// Name within the source: `tree`, `globals`, `db:erp`.
    pub name: String,
    /// What the bytes are: `tar`, `pg-custom`, `sql`, `toml`.
    pub media: String,
    /// Length.
    pub bytes: u64,
    /// BLAKE3 (not keyed) of the whole stream, when the run read all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blake3: Option<String>,
    /// The recipe.
    pub segments: Vec<SegmentRef>,
}

/// What a run read, shipped and reused. Bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Bytes of all artifacts.
    pub bytes: u64,
    /// Bytes read from the sources; less where unchanged files were not read again.
    pub read: u64,
    /// Bytes of new blobs before compression.
    pub new: u64,
    /// Bytes uploaded: packs and segments.
    pub shipped: u64,
    /// New packs.
    pub packs: u64,
    /// Packs that were stored again in place of a damaged generation.
    pub repaired: u64,
}

impl Manifest {
    /// The record of a source.
    pub fn source(&self, name: &Name) -> Option<&SourceRecord> {
        self.sources.iter().find(|s| s.name == *name)
    }

    /// True when the run covered the whole plan and every source is complete: what `latest` means.
    pub fn is_complete(&self) -> bool {
        self.whole_plan && self.sources.iter().all(SourceRecord::is_complete)
    }

    /// The manifest without recipes, facts and sparse packs: what lists and rules need, and next to nothing of the size.
    pub fn outline(mut self) -> Manifest {
        self.sparse_packs = Vec::new();
        for source in &mut self.sources {
            source.facts = serde_json::Value::Null;
            source.artifacts.iter_mut().for_each(|a| a.segments = Vec::new());
        }
        self
    }

    /// The backups that this one says were there before it, each with this one's own name.
    pub fn links(&self) -> impl Iterator<Item = Link> {
        let link = |before: Option<BackupId>| (self.plan.clone(), self.id.clone(), before);
        [Some(link(self.predecessor.clone())), self.unseen.clone().map(|id| link(Some(id)))].into_iter().flatten()
    }

    /// All segments of all artifacts.
    pub fn segments(&self) -> impl Iterator<Item = &SegmentRef> {
        self.sources.iter().flat_map(|s| &s.artifacts).flat_map(|a| &a.segments)
    }
}
