//! The way out: byte streams and files become blobs, packs, recipes and at last a manifest.
//!
//! The order of effects is the promise: packs first, then the segments that name them, then the manifest that
//! names the segments, read back and compared. A kill at any moment leaves packs that nothing names, and the
//! upload journal, from which the next run takes them up.
//!
//! One [`BackupWriter`] serves one run. Each artifact has its own [`ArtifactWriter`], used from a thread that
//! may block; sealing and uploading go on beside it, bounded by a budget of bytes.

pub mod division;
pub mod journal;
pub mod known;
pub mod pack;
pub mod recipe;
pub mod repair;
pub mod slot;
pub mod usage;

mod artifact;
mod begin;
mod commit;
mod late;
mod ship;

pub use artifact::{ArtifactWriter, PendingArtifact};
pub use commit::Outcome;
pub use division::Division;
pub use recipe::BaseSegment;

use super::catalog::Catalog;
use super::chunker::Chunker;
use super::condemned::Doubt;
use super::manifest::{Artifact, Manifest, SourceRecord, SourceState};
use super::segment::{Segment, SegmentRef};
use super::vault::Vault;
use crate::error::{Error, Result};
use crate::model::{BackupId, Name, PackId, PackKey};
use crate::telemetry::monitor::Monitor;
use futures::StreamExt;
use jiff::Timestamp;
use journal::UploadJournal;
use known::Known;
use pack::{OpenPack, Sealer};
use repair::Repair;
use slot::InFlight;
use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// How a run works. The defaults suit a host of any size.
#[derive(Clone, Debug)]
pub struct WriterOptions {
    /// zstd level of packs.
    pub level: i32,
    /// Open and compare each sealed pack before it is uploaded.
    pub verify: bool,
    /// Packs that are sealed at the same time.
    pub threads: usize,
    /// Objects that are uploaded at the same time.
    pub uploads: usize,
    /// Bytes of packs on their way, plain and sealed together.
    pub memory: usize,
    /// Go on under a name that another machine has written to.
    pub take_over: bool,
    /// Where large files are divided.
    pub division: Division,
    /// Entries of an artifact that may wait for its open pack before that is sealed as it is.
    pub waiting: usize,
    /// What is written was made by somebody else, at another time.
    pub imported: Option<Imported>,
    /// What this host committed last of this plan, and the store does not show.
    pub unseen: Option<BackupId>,
}

/// Where a backup comes from that another script made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The layout and the set: `nightly:20260104_020000`.
    pub from: String,
    /// When it was made.
    pub time: Timestamp,
}

impl Default for WriterOptions {
    fn default() -> Self {
        WriterOptions {
            level: 2,
            verify: true,
            threads: crate::model::cores(),
            uploads: 8,
            memory: 56 << 20,
            take_over: false,
            division: Division::default(),
            waiting: 50_000,
            imported: None,
            unseen: None,
        }
    }
}

#[derive(Default)]
struct Counters {
    read: AtomicU64,
    new: AtomicU64,
    shipped: AtomicU64,
    packs: AtomicU64,
    repaired: AtomicU64,
}

/// The known blobs, and whether earlier backups were looked up already.
struct KnownState {
    known: Known,
    loaded: bool,
}

struct Shared {
    vault: Arc<Vault>,
    catalog: Catalog,
    options: WriterOptions,
    plan: Name,
    id: BackupId,
    /// The store's clock when the run began, before anything was read.
    store_time: Timestamp,
    /// When that was, by a clock that nobody sets.
    begun: std::time::Instant,
    started: Timestamp,
    machine: String,
    sealer: Sealer,
    chunker: Chunker,
    known: Mutex<KnownState>,
    repair: Mutex<Repair>,
    /// Lowest generation that may be stored, for names of which an earlier one is condemned or damaged; packs and
    /// segments alike.
    generations: HashMap<PackId, u32>,
    /// Lowest generation that may be stored of any name.
    lowest: u32,
    /// What damaged condemned records leave in doubt.
    doubt: Option<Doubt>,
    /// Packs and segments that are marked as damaged.
    damaged: HashSet<PackKey>,
    /// Segments of the manifests that this run has read, by name, less the condemned and the damaged.
    segments: HashMap<PackId, SegmentRef>,
    /// Manifests of the plan, newest first.
    earlier: Vec<Manifest>,
    journal: Mutex<UploadJournal>,
    tail: Mutex<OpenPack>,
    budget: Arc<Semaphore>,
    cpu: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
    in_flight: InFlight,
    failure: Mutex<Option<Error>>,
    counters: Counters,
    monitor: Arc<dyn Monitor>,
    runtime: Handle,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One run of a plan.
#[derive(Clone)]
pub struct BackupWriter {
    shared: Arc<Shared>,
}

impl BackupWriter {
    /// The id that this run will have when it commits.
    pub fn id(&self) -> &BackupId {
        &self.shared.id
    }

    /// The newest backup of the plan in which a source is complete, and its artifact of that name: what an
    /// unchanged file is compared with.
    pub fn base(&self, source: &Name, artifact: &str) -> Option<&Artifact> {
        let record =
            self.shared.spared().filter_map(|m| m.source(source)).find(|s| s.state == SourceState::Complete)?;
        record.artifacts.iter().find(|a| a.name == artifact)
    }

    /// Bytes of a source in that backup: about what it has now.
    pub fn usual_bytes(&self, source: &Name) -> Option<u64> {
        let mut records = self.shared.earlier.iter().filter_map(|m| m.source(source));
        records.find(|s| s.state == SourceState::Complete).map(SourceRecord::bytes)
    }

    /// Reads a segment of a base artifact. Blocks.
    pub fn base_segment(&self, reference: &SegmentRef) -> Result<Arc<BaseSegment>> {
        self.shared.runtime.block_on(self.shared.base_segment(reference))
    }

    /// Begins an artifact.
    pub fn artifact(&self, name: &str, media: &str) -> ArtifactWriter {
        ArtifactWriter::new(self.shared.clone(), name, media)
    }

    /// Counts bytes that a source read, for the manifest and for the progress.
    pub fn count_read(&self, bytes: u64) {
        self.shared.counters.read.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Shared {
    async fn base_segment(&self, reference: &SegmentRef) -> Result<Arc<BaseSegment>> {
        let segment = self.catalog.segment(reference).await?;
        let lasting = self.segments.contains_key(&reference.object.id);
        Ok(Arc::new(BaseSegment { reference: reference.clone(), segment, lasting }))
    }

    /// Shows the segments in which this run looks for known blobs, until told to stop: those of this plan's last
    /// backups, and of the newest one of each other plan.
    async fn each_earlier_segment(&self, mut f: impl FnMut(&SegmentRef, &Segment) -> bool) -> Result<()> {
        let mut manifests: Vec<Manifest> = self.spared().cloned().collect();
        let mut newest: HashMap<Name, BackupId> = HashMap::new();
        for (plan, id) in self.catalog.ids(None).await? {
            if plan != self.plan {
                newest.insert(plan, id);
            }
        }
        for (plan, id) in newest {
            manifests.extend(self.catalog.manifest(&plan, &id).await.ok().filter(|m| begin::spared(self.doubt, m)));
        }
        let mut seen = HashSet::new();
        // Streams first: the table is bounded, and a dump has few chunks that are each worth much.
        let (streams, trees): (Vec<_>, Vec<_>) =
            manifests.iter().flat_map(Manifest::segments).partition(|s| s.first.is_none());
        let once = streams.into_iter().chain(trees).filter(|s| seen.insert(s.object)).cloned().collect();
        // Read ahead and shown in this order, which decides what is in the table when that is full.
        let mut read = pin!(self.catalog.read(once));
        while let Some((reference, segment)) = read.next().await {
            // A segment that cannot be read only means that its blobs are stored again.
            if let Ok(segment) = segment
                && !f(&reference, &segment)
            {
                break;
            }
        }
        Ok(())
    }

    /// The earlier backups whose packs may be named again.
    fn spared(&self) -> impl Iterator<Item = &Manifest> {
        self.earlier.iter().filter(|m| begin::spared(self.doubt, m))
    }

    /// The lowest generation that may be stored of a name.
    fn lowest_generation(&self, id: &PackId) -> u32 {
        self.generations.get(id).copied().unwrap_or(0).max(self.lowest)
    }

    /// The first error of a seal or upload that went on beside the sources.
    fn failed(&self) -> Result<()> {
        match &*lock(&self.failure) {
            Some(e) => Err(e.again()),
            None => Ok(()),
        }
    }

    fn fail(&self, error: Error) {
        lock(&self.failure).get_or_insert(error);
    }
}
