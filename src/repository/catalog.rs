//! Reading manifests and segments, through a cache on disk.
//!
//! What a store lists is the truth about which backups exist; the cache only saves reading the same bytes
//! again. Manifests are cached sealed and authenticated on each use; segments are cached by their name, which is
//! the keyed hash of their body, and compared with it on each use. So a damaged cache costs a download and
//! nothing else. A reader without a folder keeps a bounded part of the segments in memory, since it reads each twice.

use super::layout;
use super::manifest::Manifest;
use super::record::{self, RecordKind};
use super::segment::{Segment, SegmentRef};
use super::vault::{Vault, parse_record};
use crate::error::{Error, Kind, Result};
use crate::model::{BackupId, Name, PackId, PackKey};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Requests in flight when many small objects are read.
const PARALLEL: usize = 16;
/// Bytes of segments, compressed, that are kept in memory in place of a cache folder: those of about a million files.
const KEPT: usize = 48 << 20;
/// The greatest size of a segment's body.
const MAX_SEGMENT: usize = record::MAX_BODY;

/// Reads what backups exist and what is in them.
#[derive(Clone, Debug)]
pub struct Catalog {
    vault: Arc<Vault>,
    cache: Cache,
}

/// Where what was read is kept.
#[derive(Clone, Debug)]
enum Cache {
    Nowhere,
    Folder(PathBuf),
    Memory(Arc<Mutex<Kept>>),
}

/// Segments, compressed as in the folder, until they are [`KEPT`] bytes. What is there stays: whoever reads a long list
/// twice finds its beginning, where the newest ones would be gone when they are asked for.
#[derive(Debug, Default)]
struct Kept {
    frames: HashMap<PackId, Vec<u8>>,
    bytes: usize,
}

impl Cache {
    fn folder(&self) -> Option<&Path> {
        match self {
            Cache::Folder(path) => Some(path),
            Cache::Nowhere | Cache::Memory(_) => None,
        }
    }
}

impl Catalog {
    /// A catalog of a vault; without a cache folder everything is read from the store, as `check` wants it.
    pub fn new(vault: Arc<Vault>, cache: Option<PathBuf>) -> Self {
        Catalog { vault, cache: cache.map_or(Cache::Nowhere, Cache::Folder) }
    }

    /// The same for whom reads segments several times: without a folder, some are kept in memory.
    #[must_use]
    pub fn remembering(mut self) -> Self {
        if let Cache::Nowhere = self.cache {
            self.cache = Cache::Memory(Arc::default());
        }
        self
    }

    /// The vault.
    pub fn vault(&self) -> &Arc<Vault> {
        &self.vault
    }

    /// The backups that exist, oldest first by id, of one plan or of all.
    pub async fn ids(&self, plan: Option<&Name>) -> Result<Vec<(Name, BackupId)>> {
        let folder = plan.map_or(layout::BACKUPS.to_owned(), |p| format!("{}{p}/", layout::BACKUPS));
        let mut ids: Vec<_> =
            self.vault.list(&folder).await?.iter().filter_map(|o| layout::parse_manifest(&o.key)).collect();
        ids.sort_by(|a, b| (&a.1, &a.0).cmp(&(&b.1, &b.0)));
        Ok(ids)
    }

    /// One manifest.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is none, [`Kind::Damaged`] when it is not authentic.
    pub async fn manifest(&self, plan: &Name, id: &BackupId) -> Result<Manifest> {
        let key = layout::manifest(plan, id);
        let cached = self.cache.folder().map(|c| c.join("manifests").join(plan.as_str()).join(id.as_str()));
        if let Some(sealed) = cached.as_ref().and_then(|p| std::fs::read(p).ok())
            && let Ok(body) = self.vault.open_record(RecordKind::Manifest, &key, &sealed)
        {
            return check_manifest(&key, plan, id, parse_record(&key, &body)?);
        }
        let sealed = self.vault.get_raw(&key).await?.ok_or_else(|| {
            Error::new(Kind::NotFound, format!("there is no backup {id} of plan {plan}"))
                .at(&key)
                .hint("`backstay list` shows what is there.")
        })?;
        let body = self.vault.open_record(RecordKind::Manifest, &key, &sealed)?;
        let manifest = check_manifest(&key, plan, id, parse_record(&key, &body)?)?;
        if let Some(path) = cached {
            keep(&path, &sealed);
        }
        Ok(manifest)
    }

    /// Shows all manifests of one plan or of all, oldest first, each with its own result: a listing shows the readable
    /// ones and names the others. Only a few are in memory at once: those of a large vault together are gigabytes.
    pub async fn visit(
        &self,
        plan: Option<&Name>,
        mut f: impl FnMut(Name, BackupId, Result<Manifest>) -> Result<()>,
    ) -> Result<()> {
        let ids = self.ids(plan).await?;
        let mut all = stream::iter(ids)
            .map(|(plan, id)| async move {
                let manifest = self.manifest(&plan, &id).await;
                (plan, id, manifest)
            })
            .buffered(PARALLEL);
        while let Some((plan, id, manifest)) = all.next().await {
            f(plan, id, manifest)?;
        }
        Ok(())
    }

    /// The same in a list, for whom needs all of each.
    pub async fn each(&self, plan: Option<&Name>) -> Result<Vec<(Name, BackupId, Result<Manifest>)>> {
        let mut all = Vec::new();
        self.visit(plan, |plan, id, manifest| {
            all.push((plan, id, manifest));
            Ok(())
        })
        .await?;
        Ok(all)
    }

    /// All manifests of one plan or of all; one that cannot be read fails the whole call.
    pub async fn all(&self, plan: Option<&Name>) -> Result<Vec<Manifest>> {
        self.each(plan).await?.into_iter().map(|(_, _, m)| m).collect()
    }

    /// The same without recipes.
    pub async fn outlines(&self, plan: Option<&Name>) -> Result<Vec<Manifest>> {
        let mut all = Vec::new();
        self.visit(plan, |_, _, manifest| {
            all.push(manifest?.outline());
            Ok(())
        })
        .await?;
        Ok(all)
    }

    /// One segment.
    pub async fn segment(&self, reference: &SegmentRef) -> Result<Segment> {
        let key = layout::meta(&reference.object);
        let body = self.segment_body(reference, &key).await?;
        Segment::decode(&body, &key)
    }

    async fn segment_body(&self, reference: &SegmentRef, key: &str) -> Result<Vec<u8>> {
        if let Some(body) = self.cached_body(reference) {
            return Ok(body);
        }
        let body = match self.stored_body(&reference.object).await {
            Ok(body) => body,
            // What no key opens may be a stranger's, put in the place of ours.
            Err(e) if matches!(e.kind, Kind::Damaged | Kind::Key) => {
                self.body_elsewhere(reference).await?.ok_or_else(|| e.at(key))?
            }
            Err(e) => return Err(e),
        };
        self.keep_segment(&reference.object.id, &body);
        Ok(body)
    }

    /// The body of a segment from the cache, if it is there and sound.
    pub fn cached_body(&self, reference: &SegmentRef) -> Option<Vec<u8>> {
        let frame = match &self.cache {
            Cache::Nowhere => return None,
            Cache::Folder(cache) => std::fs::read(cached_segment(cache, &reference.object.id)).ok()?,
            Cache::Memory(kept) => {
                kept.lock().unwrap_or_else(PoisonError::into_inner).frames.get(&reference.object.id)?.clone()
            }
        };
        let body = record::decompress(&frame, MAX_SEGMENT).ok()?;
        (self.vault.secret.name_of(&body) == reference.object.id).then_some(body)
    }

    /// The body of exactly this stored object: no cache, no other generation.
    ///
    /// # Errors
    /// [`Kind::Damaged`] naming it.
    pub async fn stored_body(&self, object: &PackKey) -> Result<Vec<u8>> {
        let key = &layout::meta(object);
        let sealed = self.vault.get_raw(key).await?.ok_or_else(|| Error::damaged(key, "the segment is missing"))?;
        let body = self.vault.open_record(RecordKind::Segment, key, &sealed)?;
        if self.vault.secret.name_of(&body) != object.id {
            return Err(Error::damaged(key, "the segment does not hold what its name says"));
        }
        Ok(body)
    }

    /// The body from another stored generation of the same name.
    pub async fn body_elsewhere(&self, reference: &SegmentRef) -> Result<Option<Vec<u8>>> {
        let stored = self.vault.list(&layout::meta_generations(&reference.object.id)).await?;
        for other in stored.iter().filter_map(|o| layout::parse_meta(&o.key)).filter(|k| *k != reference.object) {
            if let Ok(body) = self.stored_body(&other).await {
                return Ok(Some(body));
            }
        }
        Ok(None)
    }

    /// Puts a segment into the cache; a full disk only costs a download later.
    pub fn keep_segment(&self, id: &PackId, body: &[u8]) {
        if let Cache::Nowhere = self.cache {
            return;
        }
        let Ok(frame) = zstd::bulk::compress(body, 1) else { return };
        match &self.cache {
            Cache::Nowhere => {}
            Cache::Folder(cache) => keep(&cached_segment(cache, id), &frame),
            Cache::Memory(kept) => {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.bytes + frame.len() <= KEPT && !kept.frames.contains_key(id) {
                    kept.bytes += frame.len();
                    kept.frames.insert(*id, frame);
                }
            }
        }
    }

    /// Segments in the order of their references, a few of them read ahead.
    pub fn read(
        &self,
        references: Vec<SegmentRef>,
    ) -> impl Stream<Item = (SegmentRef, Result<Segment>)> + Send + use<> {
        let catalog = self.clone();
        stream::iter(references)
            .map(move |reference| {
                let catalog = catalog.clone();
                async move {
                    let segment = catalog.segment(&reference).await;
                    (reference, segment)
                }
            })
            .buffered(PARALLEL)
    }

    /// All of these segments.
    pub async fn segments(&self, references: &[SegmentRef]) -> Result<Vec<Segment>> {
        self.read(references.to_vec()).map(|(_, segment)| segment).try_collect().await
    }

    /// Removes from the cache all but these segments and manifests.
    pub fn sweep_cache(&self, segments: &HashSet<PackId>, manifests: &HashSet<(Name, BackupId)>) {
        let Some(cache) = self.cache.folder() else { return };
        let manifests: HashSet<(&str, &str)> = manifests.iter().map(|(p, id)| (p.as_str(), id.as_str())).collect();
        for entry in read_two_levels(&cache.join("meta")) {
            if !entry.1.parse::<PackId>().is_ok_and(|id| segments.contains(&id)) {
                let _ = std::fs::remove_file(cache.join("meta").join(&entry.0).join(&entry.1));
            }
        }
        for entry in read_two_levels(&cache.join("manifests")) {
            if !manifests.contains(&(entry.0.as_str(), entry.1.as_str())) {
                let _ = std::fs::remove_file(cache.join("manifests").join(&entry.0).join(&entry.1));
            }
        }
    }
}

fn read_two_levels(folder: &Path) -> Vec<(String, String)> {
    let names = |p: &Path| -> Vec<String> {
        std::fs::read_dir(p)
            .map(|d| d.flatten().filter_map(|e| e.file_name().into_string().ok()).collect())
            .unwrap_or_default()
    };
    names(folder).into_iter().flat_map(|a| names(&folder.join(&a)).into_iter().map(move |b| (a.clone(), b))).collect()
}

fn cached_segment(cache: &Path, id: &PackId) -> PathBuf {
    let name = id.to_string();
    cache.join("meta").join(&name[..2]).join(name)
}

fn keep(path: &Path, bytes: &[u8]) {
    let write = || -> std::io::Result<()> {
        let parent = path.parent().ok_or(std::io::ErrorKind::InvalidInput)?;
        std::fs::create_dir_all(parent)?;
        let sibling = parent.join(format!(".new-{:016x}", rand::random::<u64>()));
        std::fs::write(&sibling, bytes).and_then(|()| std::fs::rename(&sibling, path)).inspect_err(|_| {
            let _ = std::fs::remove_file(&sibling);
        })
    };
    // The cache is a convenience: what cannot be written is read from the store next time. Hence it is not synced as by
    // `io::durable` either: what a power cut leaves is not authentic, and read from the store as well.
    let _ = write();
}

fn check_manifest(key: &str, plan: &Name, id: &BackupId, manifest: Manifest) -> Result<Manifest> {
    if manifest.plan != *plan || manifest.id != *id {
        return Err(Error::damaged(key, "the manifest speaks of another backup"));
    }
    Ok(manifest)
}
