//! The way out: byte streams and files become blobs, packs, recipes and at last a manifest.
//!
//! The order of effects is the promise: packs first, then the segments that name them, then the manifest that
//! names the segments, read back and compared. A kill at any moment leaves packs that nothing names, and the
//! upload journal, from which the next run takes them up.
//!
//! One [`BackupWriter`] serves one run. Each artifact has its own [`ArtifactWriter`], used from a thread that
//! may block; sealing and uploading go on beside it, bounded by a budget of bytes.

pub mod journal;
pub mod known;
pub mod pack;
pub mod recipe;
pub mod repair;
pub mod slot;

mod artifact;
mod commit;
mod late;
mod ship;

pub use artifact::{ArtifactWriter, PendingArtifact};
pub use commit::Outcome;
pub use recipe::{BaseSegment, Division};

use super::catalog::Catalog;
use super::chunker::Chunker;
use super::condemned::{Doubt, Records};
use super::layout;
use super::manifest::{Artifact, Manifest, SourceState};
use super::marks;
use super::segment::{Segment, SegmentRef};
use super::vault::Vault;
use crate::error::{Error, Kind, Result};
use crate::model::ids::PackPrefix;
use crate::model::{BackupId, Name, PackId, PackKey};
use crate::telemetry::monitor::{Event, Monitor};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use journal::UploadJournal;
use known::Known;
use pack::{OpenPack, Sealer};
use repair::Repair;
use slot::InFlight;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// Earlier backups of the same plan whose blobs are looked up.
const LOOK_BACK: usize = 7;

/// Generations of which a run in doubt draws one; see [`Doubt`]. Ordinary ones count from zero and stay small.
const DOUBTED_GENERATIONS: std::ops::Range<u32> = 1 << 16..1 << 31;

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
}

impl Default for WriterOptions {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        WriterOptions {
            level: 2,
            verify: true,
            threads,
            uploads: 8,
            memory: 56 << 20,
            take_over: false,
            division: Division::default(),
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
    /// Begins a run: takes the store's time first, then reads what is condemned, and only then what exists. (In
    /// this order nothing can be deleted that the run will name. Were the manifests read first, one of them could
    /// be forgotten and its condemned packs deleted together with their record before the records are read; see
    /// [`super::prune`].)
    ///
    /// # Errors
    /// [`Kind::Refused`] when another machine writes under this host's name.
    pub async fn begin(
        catalog: Catalog,
        plan: Name,
        machine: String,
        options: WriterOptions,
        journal: &Path,
        monitor: Arc<dyn Monitor>,
        started: Timestamp,
    ) -> Result<Self> {
        let vault = catalog.vault().clone();
        let epoch = vault.epoch()?.clone();
        let begun = std::time::Instant::now();
        let store_time = vault.now().await?;
        let records = Records::read(&vault).await?;
        let doubt = records.doubt();
        for damaged in &records.unreadable {
            monitor.event(Event::Warning(format!(
                "{}: what older backups share is stored anew until a prune may remove this record",
                damaged.why.one_line()
            )));
        }
        let (mut condemned, mut condemned_segments) = (HashSet::new(), HashSet::new());
        for (_, record) in records.readable {
            condemned.extend(record.packs);
            condemned_segments.extend(record.segments);
        }
        let damaged = marks::damaged(&vault).await?;
        let (mut ids, others): (Vec<_>, Vec<_>) = catalog.ids(None).await?.into_iter().partition(|(p, _)| *p == plan);
        ids.reverse();
        let id = BackupId::after(started, ids.first().map(|(_, newest)| newest));
        let mut earlier = Vec::new();
        for (plan, id) in ids.into_iter().take(LOOK_BACK) {
            match catalog.manifest(&plan, &id).await {
                Ok(manifest) => earlier.push(manifest),
                // A damaged manifest is check's business; the run stores again what only that one named.
                Err(e) if e.kind == Kind::Damaged => monitor.event(Event::Warning(e.one_line())),
                // Forgotten since it was listed.
                Err(e) if e.kind == Kind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        if !options.take_over {
            own_name(&catalog, earlier.first(), others, &machine, &*monitor).await?;
        }
        let mut generations = HashMap::new();
        for pack in condemned.iter().chain(&damaged).chain(&condemned_segments) {
            let next = generations.entry(pack.id).or_insert(0);
            *next = (*next).max(pack.generation + 1);
        }
        let forbidden: HashSet<PackKey> = condemned.union(&damaged).copied().collect();
        let sparse: HashSet<PackPrefix> =
            earlier.first().map(|m| m.sparse_packs.iter().copied().collect()).unwrap_or_default();
        let mut known = Known::new(forbidden, sparse);
        let (journal, uploaded) = UploadJournal::open(journal)?;
        for entry in &uploaded {
            // A pack is condemned after it was stored, and is deleted a grace time after that: one that is younger
            // is there, or its record was seen above. What is condemned from now on outlives this run.
            let young = store_time.duration_since(entry.at).as_secs().abs() < vault.grace().as_secs();
            let safe = doubt.is_none() && young;
            if entry.vault == vault.header.vault && entry.pack.epoch <= epoch.number && safe {
                known.add_pack(entry.pack, &entry.blobs);
            }
        }
        let lasting = |s: &&SegmentRef| !condemned_segments.contains(&s.object) && !damaged.contains(&s.object);
        let segments = earlier
            .iter()
            .filter(|m| spared(doubt, m))
            .flat_map(Manifest::segments)
            .filter(lasting)
            .map(|s| (s.object.id, s.clone()))
            .collect();
        // Names that a damaged record may forbid are not used either: no object ever had such a generation.
        let lowest = if doubt.is_some() { rand::random_range(DOUBTED_GENERATIONS) } else { 0 };
        let sealer = Sealer::new(vault.secret.clone(), epoch.recipient, options.level, options.verify);
        let shared = Shared {
            chunker: Chunker::new(&vault.secret),
            id,
            store_time,
            begun,
            started,
            machine,
            sealer,
            known: Mutex::new(KnownState { known, loaded: false }),
            repair: Mutex::new(Repair::new(unreplaced(&vault, &damaged, &generations).await?)),
            generations,
            lowest,
            doubt,
            damaged,
            segments,
            earlier,
            journal: Mutex::new(journal),
            tail: Mutex::new(OpenPack::default()),
            budget: Arc::new(Semaphore::new(options.memory >> 10)),
            cpu: Arc::new(Semaphore::new(options.threads.max(1))),
            uploads: Arc::new(Semaphore::new(options.uploads.max(1))),
            in_flight: InFlight::default(),
            failure: Mutex::new(None),
            counters: Counters::default(),
            monitor,
            runtime: Handle::current(),
            vault,
            catalog,
            options,
            plan,
        };
        let writer = BackupWriter { shared: Arc::new(shared) };
        if !lock(&writer.shared.repair).is_idle() {
            let shared = &writer.shared;
            shared
                .each_earlier_segment(|s| {
                    lock(&shared.repair).learn(s);
                    true
                })
                .await?;
        }
        Ok(writer)
    }

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

/// Whether no damaged condemned record can name what this backup names.
fn spared(doubt: Option<Doubt>, manifest: &Manifest) -> bool {
    doubt.is_none_or(|d| d.spares(manifest.store_time))
}

/// Makes sure that the newest backup of the host, of whatever plan, is of this machine. One manifest of each other plan
/// is read.
///
/// # Errors
/// [`Kind::Refused`] when it is another machine's: a clone, or one that was replaced.
async fn own_name(
    catalog: &Catalog,
    of_plan: Option<&Manifest>,
    others: Vec<(Name, BackupId)>,
    machine: &str,
    monitor: &dyn Monitor,
) -> Result<()> {
    // Oldest first, so that the newest of each plan stays. Ids carry the hosts' clocks, which compare within a plan
    // only; between plans the store's time decides.
    let newest_ids: HashMap<Name, BackupId> = others.into_iter().collect();
    let mut newest = of_plan.cloned();
    for (plan, id) in newest_ids {
        match catalog.manifest(&plan, &id).await {
            Ok(m) if newest.as_ref().is_none_or(|n| n.store_time < m.store_time) => newest = Some(m),
            Ok(_) => {}
            // As for the plan's own.
            Err(e) if e.kind == Kind::Damaged => monitor.event(Event::Warning(e.one_line())),
            Err(e) if e.kind == Kind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    match newest {
        Some(m) if m.machine != machine => Err(Error::new(
            Kind::Refused,
            format!("another machine has written backup {} of plan {} under the name {}", m.id, m.plan, catalog.vault().host()),
        )
        .at(layout::manifest(&m.plan, &m.id))
        .hint("If this machine replaces that one, run once with --take-over; that holds for all plans. If it is a clone, give it a `host` name of its own.")),
        _ => Ok(()),
    }
}

/// The marked packs of which no later generation is stored that may be named: what there is to repair.
async fn unreplaced(
    vault: &Vault,
    damaged: &HashSet<PackKey>,
    generations: &HashMap<PackId, u32>,
) -> Result<HashSet<PackKey>> {
    let marked: Vec<PackKey> = damaged.iter().copied().collect();
    let lists = stream::iter(marked).map(|key| async move {
        let stored = vault.list(&layout::pack_generations(&key.id)).await?;
        let lowest = generations.get(&key.id).copied().unwrap_or(0);
        let good = stored.iter().filter_map(|o| layout::parse_pack(&o.key)).any(|k| k.generation >= lowest);
        Ok::<_, Error>((!good).then_some(key))
    });
    let found: Vec<Option<PackKey>> = lists.buffer_unordered(16).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

impl Shared {
    async fn base_segment(&self, reference: &SegmentRef) -> Result<Arc<BaseSegment>> {
        let segment = self.catalog.segment(reference).await?;
        let lasting = self.segments.contains_key(&reference.object.id);
        Ok(Arc::new(BaseSegment { reference: reference.clone(), segment, lasting }))
    }

    /// Shows the segments in which this run looks for known blobs, until told to stop: those of this plan's last
    /// backups, and of the newest one of each other plan.
    async fn each_earlier_segment(&self, mut f: impl FnMut(&Segment) -> bool) -> Result<()> {
        let mut manifests: Vec<Manifest> = self.spared().cloned().collect();
        let mut newest: HashMap<Name, BackupId> = HashMap::new();
        for (plan, id) in self.catalog.ids(None).await? {
            if plan != self.plan {
                newest.insert(plan, id);
            }
        }
        for (plan, id) in newest {
            manifests.extend(self.catalog.manifest(&plan, &id).await.ok().filter(|m| spared(self.doubt, m)));
        }
        let mut seen = HashSet::new();
        // Streams first: the table is bounded, and a dump has few chunks that are each worth much.
        let (streams, trees): (Vec<_>, Vec<_>) =
            manifests.iter().flat_map(Manifest::segments).partition(|s| s.first.is_none());
        for reference in streams.into_iter().chain(trees) {
            // A segment that cannot be read only means that its blobs are stored again.
            if seen.insert(reference.object)
                && let Ok(segment) = self.catalog.segment(reference).await
                && !f(&segment)
            {
                break;
            }
        }
        Ok(())
    }

    /// The earlier backups whose packs may be named again.
    fn spared(&self) -> impl Iterator<Item = &Manifest> {
        self.earlier.iter().filter(|m| spared(self.doubt, m))
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
