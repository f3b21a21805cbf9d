//! A vault in memory with a clock that tests set, machines that back up into it, and restores that compare.
//!
//! A machine has what a host has: a connection, a trust file, a cache, an upload journal. `feed` drives the
//! writer exactly as sources do: unchanged files of the newest complete backup are reused, small ones are given
//! whole, large ones and streams through a reader.

use crate::data::{self, Content, Random, Source, Tree};
use crate::gate::Gate;
use age::x25519;
use backstay::error::{Error, Kind, Result};
use backstay::model::{BackupId, Name};
use backstay::repository::access::{self, KeyRecipient, NewVault, Unlock};
use backstay::repository::catalog::Catalog;
use backstay::repository::check::{self, CheckReport, Depth, Part};
use backstay::repository::manifest::Manifest;
use backstay::repository::prune::{self, PruneOptions, PruneReport};
use backstay::repository::reader::Reader;
use backstay::repository::segment::{Bytes, FileEntry, FileType};
use backstay::repository::vault::Vault;
use backstay::repository::writer::{ArtifactWriter, BackupWriter, BaseSegment, Outcome, WriterOptions};
use backstay::storage::memory::MemoryStore;
use backstay::telemetry::monitor::Silent;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Grace time of the vaults here.
pub const GRACE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// A name.
pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// A clock that stands until it is moved.
#[derive(Clone)]
pub struct Clock(Arc<Mutex<Timestamp>>);

impl Clock {
    /// What it shows.
    pub fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }

    /// Moves it.
    pub fn advance(&self, by: SignedDuration) {
        *self.0.lock().unwrap() += by;
    }

    /// Moves it by hours.
    pub fn hours(&self, hours: i64) {
        self.advance(SignedDuration::from_hours(hours));
    }
}

/// A machine's own clock: right by the store's until somebody sets it wrong.
#[derive(Clone)]
pub struct HostClock {
    store: Clock,
    off: Arc<Mutex<SignedDuration>>,
}

impl HostClock {
    /// What it shows.
    pub fn now(&self) -> Timestamp {
        self.store.now() + *self.off.lock().unwrap()
    }

    /// Lets it be wrong by this from now on; zero sets it right.
    pub fn is_off_by(&self, off: SignedDuration) {
        *self.off.lock().unwrap() = off;
    }
}

/// A vault and everything around it.
pub struct World {
    /// The store behind all connections.
    pub store: Arc<MemoryStore>,
    /// The store's clock.
    pub clock: Clock,
    /// State directories.
    pub dir: tempfile::TempDir,
    /// The recovery identity.
    pub recovery: x25519::Identity,
    /// The host's name.
    pub host: Name,
}

/// A machine that backs up or prunes.
pub struct Machine {
    /// Its line to the store.
    pub gate: Arc<Gate>,
    /// The vault as this machine sees it.
    pub catalog: Catalog,
    /// Its machine id.
    pub id: String,
    /// Its upload journal.
    pub journal: PathBuf,
    /// Its cache, if it has one.
    pub cache: Option<PathBuf>,
    /// Its clock.
    pub clock: HostClock,
}

impl World {
    /// A new vault with one recovery key.
    pub async fn new() -> Self {
        Self::of("host-1", "2026-01-05T02:00:00Z", x25519::Identity::generate()).await
    }

    /// A new vault of a host, made at a time, with this recovery key.
    pub async fn of(host: &str, at: &str, recovery: x25519::Identity) -> Self {
        let clock = Clock(Arc::new(Mutex::new(at.parse().unwrap())));
        let shown = clock.clone();
        let store = Arc::new(MemoryStore::with_clock(Arc::new(move || shown.now())));
        // Listings take several pages, as those of a real store do.
        store.set_page_size(7);
        let world = World { store, clock, dir: tempfile::tempdir().unwrap(), recovery, host: name(host) };
        let vault = world.init().await.unwrap();
        access::write_trust(&world.trust(), &vault).unwrap();
        world
    }

    /// Makes the vault.
    pub async fn init(&self) -> Result<Vault> {
        let keys = [(name("recovery"), "recovery", KeyRecipient::X25519(self.recovery.to_public()))];
        NewVault::generate(self.clock.now(), GRACE).write(self.store.clone(), self.host.clone(), &keys).await
    }

    /// The host's trust file.
    pub fn trust(&self) -> PathBuf {
        self.dir.path().join("trust.json")
    }

    /// What a person opens the vault with.
    pub fn unlock(&self) -> Unlock {
        Unlock::Identities(vec![self.recovery.clone()], None)
    }

    /// A sealed machine with a cache, by the trust file.
    pub async fn machine(&self, id: &str) -> Machine {
        let cache = Some(self.dir.path().join(id).join("cache"));
        self.machine_with(id, cache).await
    }

    /// A sealed machine.
    pub async fn machine_with(&self, id: &str, cache: Option<PathBuf>) -> Machine {
        let gate = Gate::new(self.store.clone());
        let vault = access::open_on_host(gate.clone(), &self.host, &self.trust(), None).await.unwrap();
        Machine {
            gate,
            catalog: Catalog::new(Arc::new(vault), cache.clone()),
            id: id.to_owned(),
            journal: self.dir.path().join(id).join("uploads"),
            cache,
            clock: HostClock { store: self.clock.clone(), off: Arc::default() },
        }
    }

    /// A reader of what a person opens, without a cache, over a connection of its own.
    pub async fn reader(&self) -> (Reader, Arc<Gate>) {
        let gate = Gate::new(self.store.clone());
        let vault = access::open_with(gate.clone(), &self.host, &self.unlock()).await.unwrap();
        (Reader::new(Catalog::new(Arc::new(vault), None), Arc::new(Silent)).unwrap(), gate)
    }

    /// A person with the recovery identity, without a cache.
    pub async fn person(&self) -> Catalog {
        let vault = access::open_with(self.store.clone(), &self.host, &self.unlock()).await.unwrap();
        Catalog::new(Arc::new(vault), None)
    }

    /// Prunes as a person does, from elsewhere.
    pub async fn prune(&self) -> Result<PruneReport> {
        prune::prune(&self.person().await, PruneOptions { max_share: 1.0, dry_run: false }).await
    }

    /// Reads everything and marks what is damaged.
    pub async fn check(&self) -> CheckReport {
        check::check(&self.person().await, None, Depth::Read(Part::ALL), Arc::new(Silent)).await.unwrap()
    }

    /// Looks at names and sizes alone, as a person does or as a sealed host.
    pub async fn glance(&self, catalog: &Catalog) -> CheckReport {
        check::check(&catalog.clone(), None, Depth::Structure, Arc::new(Silent)).await.unwrap()
    }

    /// The store's key of a key below the vault.
    pub fn key(&self, key: &str) -> String {
        format!("{}/{key}", self.host)
    }

    /// All keys below a folder of the vault.
    pub fn keys(&self, folder: &str) -> Vec<String> {
        let prefix = self.key(folder);
        self.store.snapshot().into_keys().filter(|k| k.starts_with(&prefix)).collect()
    }

    /// Bytes stored below a folder of the vault.
    pub fn bytes(&self, folder: &str) -> usize {
        let prefix = self.key(folder);
        self.store.snapshot().iter().filter(|(k, _)| k.starts_with(&prefix)).map(|(_, b)| b.len()).sum()
    }

    /// Prunes, waits for the grace time, prunes again.
    pub async fn prune_out(&self) {
        self.clock.hours(24);
        self.prune().await.unwrap();
        self.clock.advance(GRACE);
        self.prune().await.unwrap();
    }
}

/// A run between begin and commit.
pub struct Run {
    /// The writer.
    pub writer: BackupWriter,
    outcomes: Vec<Outcome>,
    clock: HostClock,
}

impl Machine {
    /// Options of a small machine.
    pub fn options() -> WriterOptions {
        WriterOptions { level: 1, threads: 2, uploads: 4, ..WriterOptions::default() }
    }

    /// Begins a run.
    pub async fn begin(&self, plan: &str) -> Result<Run> {
        self.begin_with(plan, Self::options()).await
    }

    /// Begins a run with options.
    pub async fn begin_with(&self, plan: &str, options: WriterOptions) -> Result<Run> {
        let now = self.clock.now();
        let writer = BackupWriter::begin(
            self.catalog.clone(),
            name(plan),
            self.id.clone(),
            options,
            &self.journal,
            Arc::new(Silent),
            now,
        )
        .await?;
        Ok(Run { writer, outcomes: Vec::new(), clock: self.clock.clone() })
    }

    /// A whole run, remembered.
    pub async fn remembered(&self, expected: &mut Expected, plan: &str, sources: &[Source]) -> Manifest {
        let manifest = self.backup(plan, sources).await.unwrap();
        remember(expected, &manifest, sources);
        manifest
    }

    /// A whole run.
    pub async fn backup(&self, plan: &str, sources: &[Source]) -> Result<Manifest> {
        let mut run = self.begin(plan).await?;
        run.feed(sources).await;
        run.commit().await
    }
}

impl Run {
    /// Reads all sources into the run.
    pub async fn feed(&mut self, sources: &[Source]) {
        for source in sources.iter().cloned() {
            let writer = self.writer.clone();
            let result = tokio::task::spawn_blocking({
                let source = source.clone();
                move || deliver(&writer, &source).map(|artifact| vec![artifact])
            });
            self.outcomes.push(Outcome {
                name: name(&source.name),
                kind: "test".into(),
                result: result.await.unwrap(),
                facts: serde_json::Value::Null,
                warnings: vec![],
                seconds: 0.0,
            });
        }
    }

    /// Reads a real source into the run.
    pub async fn read(&mut self, named: &str, source: &dyn backstay::sources::Source) {
        let alone = backstay::sources::window::Window::always();
        let delivered = source.read(&name(named), &self.writer, Arc::new(Silent), &alone).await;
        let (result, facts, warnings) = match delivered {
            Ok(d) => (Ok(d.artifacts), d.facts, d.warnings),
            Err(e) => (Err(e), serde_json::Value::Null, vec![]),
        };
        let kind = source.kind().into();
        self.outcomes.push(Outcome { name: name(named), kind, result, facts, warnings, seconds: 0.0 });
    }

    /// Commits.
    pub async fn commit(self) -> Result<Manifest> {
        self.writer.commit(self.outcomes, true, self.clock.now()).await
    }
}

fn deliver(writer: &BackupWriter, source: &Source) -> Result<backstay::repository::writer::PendingArtifact> {
    let mut artifact = match &source.content {
        Content::Stream(_) => writer.artifact("stream", "sql"),
        Content::Tree(_) | Content::Broken(_) => writer.artifact("tree", "tar"),
    };
    match &source.content {
        Content::Stream(bytes) => artifact.stream(&mut &bytes[..])?,
        Content::Tree(files) => {
            members(writer, &mut artifact, &name(&source.name), files)?;
            artifact.trailer(&data::END)?;
        }
        Content::Broken(files) => {
            members(writer, &mut artifact, &name(&source.name), files)?;
            return Err(Error::new(Kind::Source, "the source broke"));
        }
    }
    artifact.finish()
}

/// The entries of each member.
type Base = HashMap<Vec<u8>, Vec<(Arc<BaseSegment>, usize)>>;

fn base_of(writer: &BackupWriter, source: &Name) -> Base {
    let mut found = Base::new();
    for reference in writer.base(source, "tree").map(|a| a.segments.clone()).unwrap_or_default() {
        // As sources do: what cannot be compared with is read.
        let Ok(segment) = writer.base_segment(&reference) else {
            // It may go on with a file that began before it.
            reference.first.iter().for_each(|path| drop(found.remove(&path.0)));
            continue;
        };
        for (i, entry) in segment.segment.entries.iter().enumerate() {
            if let Some(path) = entry.path() {
                found.entry(path.0.clone()).or_default().push((segment.clone(), i));
            }
        }
    }
    found
}

fn members(writer: &BackupWriter, artifact: &mut ArtifactWriter, source: &Name, files: &Tree) -> Result<()> {
    let base = base_of(writer, source);
    for (path, file) in files {
        let header = data::header(path, file);
        let size = file.content.as_ref().map_or(0, Vec::len);
        let entry = FileEntry {
            path: Bytes(path.clone().into_bytes()),
            kind: if file.content.is_some() { FileType::File } else { FileType::Dir },
            size: size as u64,
            mtime: file.version,
            ctime: Some(file.version),
            inode: 1,
            mode: 0o644,
            uid: 0,
            gid: 0,
            link: None,
            header: header.len() as u32,
            blob: None,
            read_day: 20_000,
        };
        if let Some(before) = base.get(path.as_bytes()) {
            let (segment, index) = &before[0];
            let first = segment.segment.entries[*index].file.as_ref();
            let same = first.is_some_and(|f| f.ctime == entry.ctime && f.size == entry.size);
            if same && before.iter().all(|(s, i)| artifact.reusable(s, &s.segment.entries[*i])) {
                before.iter().try_for_each(|(s, i)| artifact.reuse(s, *i))?;
                continue;
            }
        }
        match &file.content {
            Some(content) if content.len() >= data::LARGE => {
                artifact.large(entry, &header, content.len() as u64, &mut &content[..])?
            }
            Some(content) if !content.is_empty() => artifact.small(entry, &header, content)?,
            _ => artifact.member(entry, &header)?,
        }
    }
    Ok(())
}

/// What backups must give back: by plan and id, the bytes by source.
pub type Expected = BTreeMap<(Name, BackupId), Arc<BTreeMap<String, Vec<u8>>>>;

/// Remembers what a backup must give back.
pub fn remember(expected: &mut Expected, manifest: &Manifest, sources: &[Source]) {
    expected.insert((manifest.plan.clone(), manifest.id.clone()), Arc::new(data::expected(sources)));
}

/// Waits for something that comes by itself, and says what did not come within a minute.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(60), async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    waited.await.expect(what);
}

/// A new vault, a machine that backs up into it, and nothing to remember yet.
pub async fn started() -> (World, Machine, Expected) {
    let world = World::new().await;
    let machine = world.machine("m").await;
    (world, machine, Expected::new())
}

/// Reads all artifacts of a backup and compares them.
///
/// # Panics
/// When bytes come back that are not the ones that went in: worse than any error.
pub async fn restore(reader: &Reader, manifest: &Manifest, expected: &BTreeMap<String, Vec<u8>>) -> Result<()> {
    let mut complete: Vec<&str> =
        manifest.sources.iter().filter(|s| s.is_complete()).map(|s| s.name.as_str()).collect();
    complete.sort_unstable();
    assert_eq!(complete, expected.keys().map(String::as_str).collect::<Vec<_>>(), "sources of {}", manifest.id);
    for source in manifest.sources.iter().filter(|s| s.is_complete()) {
        let wanted = &expected[source.name.as_str()];
        for artifact in &source.artifacts {
            let bytes = reader.small(artifact).await?;
            assert!(bytes == *wanted, "{} {}: wrong bytes came back without an error", manifest.id, source.name);
            assert_eq!(artifact.bytes, wanted.len() as u64);
            assert_eq!(artifact.segments.iter().map(|s| s.bytes).sum::<u64>(), artifact.bytes);
            if let Some(hash) = &artifact.blake3 {
                assert_eq!(*hash, blake3::hash(wanted).to_hex().to_string());
            }
        }
    }
    Ok(())
}

/// Restores every backup of a catalog with a fresh reader; the errors by backup.
pub async fn restore_all(catalog: &Catalog, expected: &Expected) -> BTreeMap<(Name, BackupId), Error> {
    let reader = Reader::new(catalog.clone(), Arc::new(Silent)).unwrap();
    let mut failed = BTreeMap::new();
    for (plan, id, manifest) in catalog.each(None).await.unwrap() {
        let result = match manifest {
            Ok(m) => restore(&reader, &m, &expected[&(plan.clone(), id.clone())]).await,
            Err(e) => Err(e),
        };
        if let Err(e) = result {
            failed.insert((plan, id), e);
        }
    }
    failed
}

/// A tree of small files in folders.
pub fn small_tree(random: &mut Random, files: usize, size: usize) -> Tree {
    let mut tree = Tree::new();
    tree.insert("data/".into(), data::dir());
    for i in 0..files {
        let length = 1 + random.below(size);
        tree.insert(format!("data/{:03}", i), data::file(random.noise(length)));
    }
    tree
}
