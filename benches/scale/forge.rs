//! Forging a vault: everything but the bytes in packs is what the writer would have left.

use super::Shape;
use backstay::error::{Error, Kind, Result};
use backstay::model::{BackupId, BlobId, Name, PackId, PackKey};
use backstay::repository::access::{self, KeyRecipient, NewVault};
use backstay::repository::catalog::Catalog;
use backstay::repository::layout;
use backstay::repository::manifest::{Artifact, Manifest, SourceRecord, SourceState, Stats};
use backstay::repository::record::{Audience, RecordKind};
use backstay::repository::segment::{Bytes, FileEntry, FileType, PackInfo, SegmentRef};
use backstay::repository::vault::Vault;
use backstay::repository::writer::pack;
use backstay::repository::writer::recipe::{Finished, Piece, RecipeBuilder};
use backstay::repository::writer::slot::Home;
use jiff::{SignedDuration, Timestamp};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub const HOST: &str = "scale";
pub const PLAN: &str = "p";
pub const SOURCE: &str = "data";
pub const MACHINE: &str = "scale";
/// Bytes of a tar header with its PAX part, as nearly every file has one.
const HEADER: u64 = 1536;
/// Files in one folder.
const FOLDER: u64 = 250;

pub fn root(shape: &Shape) -> PathBuf {
    shape.dir.join("repository")
}
pub fn state(shape: &Shape) -> PathBuf {
    shape.dir.join("state")
}
pub fn identity(shape: &Shape) -> PathBuf {
    shape.dir.join("recovery.key")
}
pub fn trust(shape: &Shape) -> PathBuf {
    state(shape).join("trust").join(format!("{HOST}.json"))
}

/// Which version of which file: the backup in which it changed last, and its number among those that did.
#[derive(Clone, Copy, PartialEq)]
struct Version {
    backup: u32,
    index: u32,
}

fn hash(parts: &[u64]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for p in parts {
        hasher.update(&p.to_le_bytes());
    }
    hasher.finalize()
}
fn number(parts: &[u64]) -> u64 {
    let h = hash(parts);
    u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|i| h.as_bytes()[i]))
}

/// The files that change in a backup: one run of them in each part of the tree. Whole packs change: of one that is used
/// in part, a run stores the rest again, and here no run has come by that could have.
pub fn changes(shape: &Shape, backup: u64) -> Vec<Range<u64>> {
    let pack = per_pack(shape);
    let packs = shape.files / pack;
    let length = ((shape.files as f64 * shape.change / shape.places as f64 / pack as f64).ceil() as u64).max(1);
    (0..shape.places)
        .filter_map(|p| {
            let part = packs * p / shape.places..packs * (p + 1) / shape.places;
            let length = length.min(part.end - part.start);
            let start = part.start + number(&[backup, p]) % (part.end - part.start - length + 1);
            (length > 0).then_some(start * pack..(start + length) * pack)
        })
        .collect()
}

pub fn path(file: u64) -> String {
    format!(
        "srv/data/projects-of-the-year-{:06}/folder-{:04}/document-{file:010}.pdf",
        file / FOLDER / 100,
        file / FOLDER % 100
    )
}

/// Bytes of a file in the tar.
fn member(shape: &Shape) -> u64 {
    HEADER + shape.file_bytes.next_multiple_of(512)
}
fn per_pack(shape: &Shape) -> u64 {
    (pack::TARGET as u64).div_ceil(member(shape))
}

/// The pack that holds a version of a file. Of so many files of one backup, the last pack has what is left.
fn pack_of(shape: &Shape, version: Version, of: u64) -> PackInfo {
    let n = u64::from(version.index) / per_pack(shape);
    let files = per_pack(shape).min(of - n * per_pack(shape));
    let plain = files * member(shape);
    let id = PackId(*hash(&[1 << 63, u64::from(version.backup), n]).as_bytes());
    // As if it compressed to 70 %.
    PackInfo {
        key: PackKey { id, generation: 0 },
        epoch: 1,
        plain: plain as u32,
        sealed: (plain * 7 / 10) as u32,
        crc: 0,
    }
}

/// Bytes of all packs together, by their records.
pub fn nominal(shape: &Shape) -> u64 {
    let changed: u64 = (1..shape.backups).flat_map(|b| changes(shape, b)).map(|r| r.end - r.start).sum();
    (shape.files + changed) * member(shape) * 7 / 10
}

fn entry(shape: &Shape, file: u64, version: Version, of: u64) -> (FileEntry, Vec<Piece>) {
    let blob = BlobId(number_bytes(&[2 << 62, file, u64::from(version.backup)]));
    let at = 1_700_000_000_000_000_000 + (file as i64) * 1_000_003 + i64::from(version.backup) * 86_400_000_000_000;
    let entry = FileEntry {
        path: Bytes(path(file).into_bytes()),
        kind: FileType::File,
        size: shape.file_bytes,
        mtime: at,
        ctime: Some(at + 5_000_017),
        inode: 1_000_000 + file * 7,
        mode: 0o644,
        uid: 1000,
        gid: 1000,
        link: None,
        header: HEADER as u32,
        blob: Some(blob),
        read_day: 20_000,
    };
    let offset = u64::from(version.index) % per_pack(shape) * member(shape);
    let home = Home::Stored(pack_of(shape, version, of));
    (entry, vec![Piece { home, offset: offset as u32, length: member(shape) as u32, blob: None }])
}
fn number_bytes(parts: &[u64]) -> [u8; 16] {
    let h = hash(parts);
    let mut out = [0; 16];
    out.copy_from_slice(&h.as_bytes()[..16]);
    out
}

struct Forge<'a> {
    shape: &'a Shape,
    vault: Arc<Vault>,
    catalog: Catalog,
    versions: Vec<Version>,
    /// Changed files of each backup.
    changed: Vec<u64>,
    segments: Vec<(Range<u64>, SegmentRef)>,
    meta: (u64, u64),
    packs: u64,
}

/// Makes the vault; what it has become, in words.
pub async fn forge(shape: &Shape) -> Result<String> {
    let io = |e| Error::io("cannot write below", &shape.dir, e);
    let store = backstay::storage::fs::FsStore::new(&root(shape), std::time::Duration::from_secs(600))?;
    store.create_root().await?;
    let host: Name = HOST.parse()?;
    let new = NewVault::generate(Timestamp::now(), SignedDuration::from_hours(7 * 24));
    let person = age::x25519::Identity::generate();
    access::write_identity_file(&identity(shape), &person, "recovery", &host, &new.header, &new.secret)?;
    let keys = [("recovery".parse()?, "recovery", KeyRecipient::X25519(person.to_public()))];
    let vault = Arc::new(new.write(Arc::new(store), host, &keys).await?);
    access::write_trust(&trust(shape), &vault)?;
    fs::write(shape.dir.join("backstay.toml"), config(shape)).map_err(io)?;
    for folder in [layout::PACKS, layout::META] {
        for fan in 0..=255u8 {
            fs::create_dir_all(root(shape).join(HOST).join(format!("{folder}{fan:02x}"))).map_err(io)?;
        }
    }
    fs::create_dir_all(root(shape).join(HOST).join(format!("{}{PLAN}", layout::BACKUPS))).map_err(io)?;
    let cache = state(shape).join("cache").join(vault.header.vault.to_string());
    let catalog = Catalog::new(vault.clone(), Some(cache));
    let mut forge = Forge {
        shape,
        vault,
        catalog,
        versions: (0..shape.files).map(|i| Version { backup: 0, index: i as u32 }).collect(),
        changed: vec![shape.files],
        segments: Vec::new(),
        meta: (0, 0),
        packs: 0,
    };
    forge.first()?;
    let mut newest = None;
    let mut manifests = 0;
    for backup in 0..shape.backups {
        if backup > 0 {
            forge.next(backup)?;
        }
        let (id, size) = forge.manifest(backup, newest.take())?;
        newest = Some(id);
        manifests += size;
        if backup % 100 == 99 {
            eprintln!("forged {} backups", backup + 1);
        }
    }
    let human = backstay::model::size::human;
    Ok(format!(
        "{} packs of {} by their records; {} segments of {}, {} of them in one backup; manifests of {}, {} each",
        forge.packs,
        human(nominal(shape)),
        forge.meta.0,
        human(forge.meta.1),
        forge.segments.len(),
        human(manifests),
        human(manifests / shape.backups)
    ))
}

fn config(shape: &Shape) -> String {
    format!(
        "host = \"{HOST}\"\nstate_dir = \"{}\"\n[repository]\nurl = \"file://{}\"\n[keys]\nidentity_file = \"{}\"\n[sources.{SOURCE}]\nkind = \"files\"\npaths = [\"/srv/data\"]\n[plans.{PLAN}]\nsources = [\"{SOURCE}\"]\n",
        state(shape).display(),
        root(shape).display(),
        identity(shape).display()
    )
}

impl Forge<'_> {
    /// Straight into the file: no sync for millions of objects that nobody needs tomorrow.
    fn write(&self, key: &str, body: &[u8]) -> Result<()> {
        let path = root(self.shape).join(HOST).join(key);
        fs::write(&path, body).map_err(|e| Error::io("cannot write", &path, e))
    }

    fn pack(&mut self, info: &PackInfo) -> Result<()> {
        let path = root(self.shape).join(HOST).join(layout::pack(&info.key));
        let made = fs::File::create(&path).and_then(|f| f.set_len(u64::from(info.sealed)));
        self.packs += 1;
        made.map_err(|e| Error::io("cannot make", Path::new(&path), e))
    }

    fn segment(&mut self, finished: Finished) -> Result<SegmentRef> {
        let Finished::New { body, entries, bytes, first } = finished else {
            return Err(Error::new(Kind::Internal, "a forged segment is always new"));
        };
        let object = PackKey { id: self.vault.secret.name_of(&body), generation: 0 };
        let key = layout::meta(&object);
        let sealed = self.vault.seal_record(RecordKind::Segment, Audience::Catalog, &key, &body)?;
        self.write(&key, &sealed)?;
        // The host that wrote it has it in its cache.
        self.catalog.keep_segment(&object.id, &body);
        self.meta = (self.meta.0 + 1, self.meta.1 + sealed.len() as u64);
        Ok(SegmentRef { object, sealed: sealed.len() as u32, crc: crc32c::crc32c(&sealed), entries, bytes, first })
    }

    fn push(&self, recipe: &mut RecipeBuilder, file: u64) -> Result<()> {
        let version = self.versions[file as usize];
        let (entry, pieces) = entry(self.shape, file, version, self.changed[version.backup as usize]);
        recipe.push(Some(entry), pieces)
    }

    fn packs_of(&mut self, backup: u64) -> Result<()> {
        let of = self.changed[backup as usize];
        for n in 0..of.div_ceil(per_pack(self.shape)) {
            let first = Version { backup: backup as u32, index: (n * per_pack(self.shape)) as u32 };
            self.pack(&pack_of(self.shape, first, of))?;
        }
        Ok(())
    }

    fn first(&mut self) -> Result<()> {
        self.packs_of(0)?;
        eprintln!("forged {} packs", self.packs);
        let mut recipe = RecipeBuilder::default();
        let mut from = 0;
        for file in 0..self.shape.files {
            self.push(&mut recipe, file)?;
            if file + 1 == self.shape.files {
                recipe.end()?;
            }
            for finished in recipe.take_finished() {
                let reference = self.segment(finished)?;
                let to = from + u64::from(reference.entries);
                self.segments.push((from..to, reference));
                from = to;
            }
        }
        eprintln!("forged {} segments", self.segments.len());
        Ok(())
    }

    fn next(&mut self, backup: u64) -> Result<()> {
        let runs = changes(self.shape, backup);
        let mut index = 0;
        for file in runs.iter().cloned().flatten() {
            self.versions[file as usize] = Version { backup: backup as u32, index };
            index += 1;
        }
        self.changed.push(u64::from(index));
        self.packs_of(backup)?;
        let touched: Vec<usize> = (0..self.segments.len())
            .filter(|s| runs.iter().any(|r| r.start < self.segments[*s].0.end && self.segments[*s].0.start < r.end))
            .collect();
        for s in touched {
            let mut recipe = RecipeBuilder::default();
            for file in self.segments[s].0.clone() {
                self.push(&mut recipe, file)?;
            }
            recipe.end()?;
            // Where a segment ends depends on paths alone, and these are what they were.
            let mut finished = recipe.take_finished();
            match (finished.pop(), finished.is_empty()) {
                (Some(only), true) => self.segments[s].1 = self.segment(only)?,
                _ => return Err(Error::new(Kind::Internal, "a segment fell apart")),
            }
        }
        Ok(())
    }

    fn manifest(&self, backup: u64, predecessor: Option<BackupId>) -> Result<(BackupId, u64)> {
        // One each night, the last one yesterday.
        let at = Timestamp::now() - SignedDuration::from_hours(24 * (self.shape.backups - backup) as i64);
        let bytes = self.shape.files * member(self.shape);
        let artifact = Artifact {
            name: "tree".into(),
            media: "tar".into(),
            bytes,
            blake3: None,
            segments: self.segments.iter().map(|(_, s)| s.clone()).collect(),
        };
        let source = SourceRecord {
            name: SOURCE.parse()?,
            kind: "files".into(),
            state: SourceState::Complete,
            artifacts: vec![artifact],
            facts: serde_json::json!({ "paths": ["/srv/data"], "files": self.shape.files }),
            warnings: vec![],
            seconds: 1.0,
        };
        let id = BackupId::new(at);
        let manifest = Manifest {
            format: 1,
            vault: self.vault.header.vault,
            host: HOST.parse()?,
            machine: MACHINE.into(),
            plan: PLAN.parse()?,
            id: id.clone(),
            store_time: at,
            started: at,
            finished: at + SignedDuration::from_mins(10),
            predecessor,
            epoch: 1,
            agent: "forged".into(),
            whole_plan: true,
            sources: vec![source],
            stats: Stats { bytes, ..Stats::default() },
            sparse_packs: vec![],
            imported: None,
            unseen: None,
        };
        let key = layout::manifest(&manifest.plan, &id);
        let body = serde_json::to_vec(&manifest)
            .map_err(|e| Error::new(Kind::Internal, "encoding a manifest failed").because(e))?;
        let sealed = self.vault.seal_record(RecordKind::Manifest, Audience::Catalog, &key, &body)?;
        self.write(&key, &sealed)?;
        Ok((id, sealed.len() as u64))
    }
}
