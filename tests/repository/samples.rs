//! Vaults that earlier versions wrote, stored in `tests/samples`, and read back completely by this one.
//!
//! Each folder `format-N` is the root of a `file://` repository with the vault of `host-1`: a tree and a stream in
//! three generations, the last with a divided file, and `identity.txt` and `expected.json` (plan, backup, source → BLAKE3 and length) beside it.
//! A sample is written once, by the version that introduced the format, and never again: it stands for what people
//! have in their buckets. To write the one of a new format:
//!
//! ```sh
//! BACKSTAY_WRITE_SAMPLE=1 cargo test --test repository samples::write
//! ```
//!
//! It refuses to touch a folder that exists.

use crate::data::{self, Random, Source, Tree, dir, file, stream, tree};
use crate::harness::{Machine, World, name};
use age::x25519;
use backstay::repository::access::{self, read_identity_file};
use backstay::repository::catalog::Catalog;
use backstay::repository::check::{self, Depth, Part};
use backstay::repository::reader::Reader;
use backstay::repository::selection::Selection;
use backstay::repository::vault::FORMAT;
use backstay::repository::writer::{Division, WriterOptions};
use backstay::storage::memory::MemoryStore;
use backstay::telemetry::monitor::Silent;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// By plan and id and then by source: BLAKE3 and length.
type Contents = BTreeMap<String, BTreeMap<String, (String, u64)>>;

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/samples")
}

fn folder(format: u32) -> PathBuf {
    samples().join(format!("format-{format}"))
}

/// Loads a folder into a store in memory, so that a sample is never written to.
fn load(root: &Path) -> Arc<MemoryStore> {
    fn walk(root: &Path, below: &Path, store: &MemoryStore) {
        for entry in std::fs::read_dir(below).unwrap().map(Result::unwrap) {
            if entry.path().is_dir() {
                walk(root, &entry.path(), store);
            } else {
                let key = entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                store.replace(&key, std::fs::read(entry.path()).unwrap());
            }
        }
    }
    let store = Arc::new(MemoryStore::new());
    walk(root, &root.join("host-1"), &store);
    store
}

#[test]
fn there_is_a_sample_of_every_format() {
    let present: Vec<u32> = (1..=FORMAT).filter(|f| folder(*f).join("expected.json").is_file()).collect();
    assert_eq!(present, (1..=FORMAT).collect::<Vec<_>>());
    assert_eq!(std::fs::read_dir(samples()).unwrap().count(), FORMAT as usize, "one folder per format, nothing else");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_sample_reads_back_completely() {
    for format in 1..=FORMAT {
        let root = folder(format);
        let store = load(&root);
        let unlock = read_identity_file(&root.join("identity.txt")).unwrap();
        let vault = access::open_with(store.clone(), &name("host-1"), &unlock).await.unwrap();
        let catalog = Catalog::new(Arc::new(vault), None);
        let reader = Reader::new(catalog.clone(), Arc::new(Silent)).unwrap();
        let expected: Contents = serde_json::from_slice(&std::fs::read(root.join("expected.json")).unwrap()).unwrap();
        let mut found = Contents::new();
        for manifest in catalog.all(None).await.unwrap() {
            let sources = found.entry(format!("{}/{}", manifest.plan, manifest.id)).or_default();
            for source in &manifest.sources {
                for artifact in &source.artifacts {
                    let bytes = reader.small(artifact).await.unwrap();
                    let hash = blake3::hash(&bytes).to_hex().to_string();
                    sources.insert(source.name.to_string(), (hash, bytes.len() as u64));
                    if artifact.media == "tar" {
                        let members = tar::Archive::new(&bytes[..]).entries().unwrap().map(Result::unwrap).count();
                        assert!(members > 5, "the tree is a plain tar");
                    }
                }
            }
        }
        assert_eq!(found, expected, "format {format}");
        divided_file(&reader).await;
        let report = check::check(&catalog, None, Depth::Read(Part::ALL), Arc::new(Silent)).await.unwrap();
        assert!(report.is_clean() && report.whole == 3, "format {format}: {report:?}");
    }
}

const HUGE: &str = "etc/app/huge.log";

/// Larger than any other file, and small where it is stored.
fn huge() -> Vec<u8> {
    let rows = |n: u32| format!("{n:07} a line of a log that says the same as the one before\n");
    (0..60_000).map(rows).collect::<String>().into_bytes()
}

/// The newest backup has a file whose entries go on in several segments; by its path all of it comes, and nothing else.
async fn divided_file(reader: &Reader) {
    let newest = reader.catalog().all(None).await.unwrap().pop().unwrap();
    let artifact = newest.sources.iter().flat_map(|s| &s.artifacts).find(|a| a.media == "tar").unwrap();
    let selection = Selection::of(HUGE);
    let segments = selection.segments(&artifact.segments);
    assert!(segments.iter().filter(|s| s.first.as_ref().is_some_and(|f| f.0 == HUGE.as_bytes())).count() >= 2);
    let (mut bytes, mut pieces) = (Vec::new(), reader.members(artifact, &selection, |_| true));
    while let Some(piece) = pieces.recv().await {
        bytes.extend_from_slice(&piece.unwrap());
    }
    let mut archive = tar::Archive::new(&bytes[..]);
    let mut members = archive.entries().unwrap();
    let (mut member, mut content) = (members.next().unwrap().unwrap(), Vec::new());
    std::io::Read::read_to_end(&mut member, &mut content).unwrap();
    assert!(member.path().unwrap() == Path::new(HUGE) && content == huge());
    assert!(members.next().is_none());
}

fn generations() -> Vec<Vec<Source>> {
    let mut random = Random::new(2026);
    let mut files = Tree::from([("etc/".to_owned(), dir()), ("etc/empty".to_owned(), file(""))]);
    for i in 0..12 {
        let text = format!("option_{i} = {}\n", random.next()).repeat(1 + random.below(60));
        files.insert(format!("etc/app/{i:02}.conf"), file(text));
    }
    files.insert(format!("etc/{}/deep", "long-name".repeat(9)), file("found\n"));
    let mut bytes: Vec<u8> =
        (0..20_000u32).flat_map(|n| format!("{n}\t{}\n", n.wrapping_mul(2_654_435_761)).into_bytes()).collect();
    let mut all = vec![vec![tree("etc", &files), stream("db", bytes.clone())]];
    files.remove("etc/app/03.conf");
    files.insert("etc/app/new.conf".into(), file("new = true\n"));
    bytes.extend_from_slice(b"one more row\n");
    all.push(vec![tree("etc", &files), stream("db", bytes.clone())]);
    let moved = files.remove("etc/app/05.conf").unwrap();
    files.insert("etc/app/renamed.conf".into(), moved);
    bytes.splice(200_000..200_000, *b"a row in between\n");
    files.insert(HUGE.into(), file(huge()));
    all.push(vec![tree("etc", &files), stream("db", bytes)]);
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn write() {
    if std::env::var_os("BACKSTAY_WRITE_SAMPLE").is_none() {
        return;
    }
    let root = folder(FORMAT);
    assert!(!root.exists(), "{} exists and is never written again", root.display());
    let world = World::of("host-1", "2026-01-05T02:00:00Z", x25519::Identity::generate()).await;
    let machine = world.machine("sample").await;
    let mut contents = Contents::new();
    for sources in generations() {
        // Divided at once, so that a few chunks are enough; a reader need not know where.
        let options = WriterOptions { division: Division { greatest: 2 }, ..Machine::options() };
        let mut run = machine.begin_with("erp", options).await.unwrap();
        run.feed(&sources).await;
        let manifest = run.commit().await.unwrap();
        let sources = data::expected(&sources);
        let hashes = sources.iter().map(|(n, b)| (n.clone(), (blake3::hash(b).to_hex().to_string(), b.len() as u64)));
        contents.insert(format!("{}/{}", manifest.plan, manifest.id), hashes.collect());
        world.clock.hours(24);
    }
    for (key, body) in world.store.snapshot() {
        let path = root.join(key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, body).unwrap();
    }
    let catalog = world.person().await;
    let vault = catalog.vault();
    let identity = root.join("identity.txt");
    access::write_identity_file(&identity, &world.recovery, "recovery", &world.host, &vault.header, &vault.secret)
        .unwrap();
    std::fs::write(root.join("expected.json"), serde_json::to_vec_pretty(&contents).unwrap()).unwrap();
}
