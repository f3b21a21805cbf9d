//! What marked damage means for backups: which marked objects nothing stands in for, and which backups need one of them.
//!
//! A check that read an object marked it, and the next backup stores it again from what the host still has. Until then,
//! and for good where the data is gone, a backup that names it cannot be restored in full.

use super::catalog::Catalog;
use super::layout;
use super::manifest::{Manifest, SourceRecord};
use super::marks;
use super::segment::SegmentRef;
use super::vault::Vault;
use crate::error::{Error, Kind, Result};
use crate::model::{BackupId, Name, PackId, PackKey};
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::pin::pin;

/// Listings at the same time.
const PARALLEL: usize = 16;

/// Of these marked packs and segments those of which no later generation is stored: from the one on that `lowest` names.
///
/// # Errors
/// Those of the store.
pub async fn unreplaced(
    vault: &Vault,
    marked: &HashSet<PackKey>,
    lowest: impl Fn(&PackId) -> u32 + Sync,
) -> Result<HashSet<PackKey>> {
    let lowest = &lowest;
    let marked: Vec<PackKey> = marked.iter().copied().collect();
    let lists = stream::iter(marked).map(|key| async move {
        let stored = stored(vault, &key.id).await?;
        Ok::<_, Error>((!stored.iter().any(|k| k.generation >= lowest(&key.id))).then_some(key))
    });
    let found: Vec<Option<PackKey>> = lists.buffer_unordered(PARALLEL).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

/// The marked packs and segments for which no stored generation stands in that is not marked itself. By names alone, as a
/// sealed host can: a generation was stored by a host, and no check found it bad.
///
/// # Errors
/// Those of the store.
pub async fn unhealed(vault: &Vault) -> Result<HashSet<PackKey>> {
    let marked = marks::damaged(vault).await?;
    let ids: HashSet<PackId> = marked.iter().map(|key| key.id).collect();
    let lists = stream::iter(ids).map(|id| async move { Ok::<_, Error>((id, stored(vault, &id).await?)) });
    let stored: Vec<(PackId, Vec<PackKey>)> = lists.buffer_unordered(PARALLEL).try_collect().await?;
    let good = stored.iter().filter(|(_, keys)| keys.iter().any(|key| !marked.contains(key)));
    let healed: HashSet<PackId> = good.map(|(id, _)| *id).collect();
    Ok(marked.into_iter().filter(|key| !healed.contains(&key.id)).collect())
}

/// All stored generations of a pack or segment.
async fn stored(vault: &Vault, id: &PackId) -> Result<Vec<PackKey>> {
    let mut stored = vault.list(&layout::pack_generations(id)).await?;
    stored.extend(vault.list(&layout::meta_generations(id)).await?);
    Ok(stored.iter().filter_map(|o| layout::parse_pack(&o.key).or_else(|| layout::parse_meta(&o.key))).collect())
}

/// Which of these segments name lost packs, and which packs each.
///
/// # Errors
/// Those of the store. A segment that cannot be read names itself.
pub async fn naming(
    catalog: &Catalog,
    segments: Vec<SegmentRef>,
    lost: &HashSet<PackKey>,
) -> Result<HashMap<PackKey, Vec<PackKey>>> {
    let mut lacking = HashMap::new();
    let mut read = pin!(catalog.read(segments));
    while let Some((reference, segment)) = read.next().await {
        let segment = match segment {
            // Then nobody knows what it names, and the backup lacks the segment itself.
            Err(e) if matches!(e.kind, Kind::Damaged | Kind::Key) => {
                lacking.insert(reference.object, vec![reference.object]);
                continue;
            }
            other => other?,
        };
        let gone: Vec<PackKey> = segment.packs.iter().map(|p| p.key).filter(|k| lost.contains(k)).collect();
        if !gone.is_empty() {
            lacking.insert(reference.object, gone);
        }
    }
    Ok(lacking)
}

/// What backups lack.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Lacking {
    /// The sources of backups that cannot be restored in full: plan, backup, source.
    pub sources: HashSet<(Name, BackupId, Name)>,
    /// The lost objects that they need.
    pub objects: HashSet<PackKey>,
}

impl Lacking {
    /// The backups that those sources belong to.
    pub fn backups(&self) -> BTreeSet<(Name, BackupId)> {
        self.sources.iter().map(|(plan, id, _)| (plan.clone(), id.clone())).collect()
    }

    /// The sources of one backup, by name.
    pub fn sources_of(&self, plan: &Name, id: &BackupId) -> Vec<Name> {
        let mut sources: Vec<Name> =
            self.sources.iter().filter(|(p, b, _)| (p, b) == (plan, id)).map(|(_, _, s)| s.clone()).collect();
        sources.sort();
        sources
    }
}

/// What backups, of one plan or of all, lack when these objects are lost. Nothing is read when none is.
///
/// # Errors
/// Those of the store. A manifest that cannot be read is passed over.
pub async fn lacking(catalog: &Catalog, plan: Option<&Name>, lost: &HashSet<PackKey>) -> Result<Lacking> {
    let mut found = Lacking::default();
    if lost.is_empty() {
        return Ok(found);
    }
    let mut segments: BTreeMap<PackKey, SegmentRef> = BTreeMap::new();
    catalog
        .visit(plan, |_, _, manifest| {
            let manifest = readable(manifest)?;
            segments.extend(manifest.iter().flat_map(Manifest::segments).map(|s| (s.object, s.clone())));
            Ok(())
        })
        .await?;
    // A segment is lost by its own mark too, though this host may have it in its cache.
    found.objects = segments.keys().filter(|s| lost.contains(s)).copied().collect();
    let naming = naming(catalog, segments.into_values().collect(), lost).await?;
    found.objects.extend(naming.values().flatten());
    catalog
        .visit(plan, |plan, id, manifest| {
            for source in readable(manifest)?.iter().flat_map(|m| &m.sources) {
                if needs(source, &naming, lost) {
                    found.sources.insert((plan.clone(), id.clone(), source.name.clone()));
                }
            }
            Ok(())
        })
        .await?;
    Ok(found)
}

/// The sources of one backup that lack something when these objects are lost. Of other backups nothing is read.
///
/// # Errors
/// Those of the store.
pub async fn sources_lacking(catalog: &Catalog, manifest: &Manifest, lost: &HashSet<PackKey>) -> Result<Vec<Name>> {
    if lost.is_empty() {
        return Ok(Vec::new());
    }
    let segments: BTreeMap<PackKey, SegmentRef> = manifest.segments().map(|s| (s.object, s.clone())).collect();
    let naming = naming(catalog, segments.into_values().collect(), lost).await?;
    Ok(manifest.sources.iter().filter(|s| needs(s, &naming, lost)).map(|s| s.name.clone()).collect())
}

/// Whether a source names a lost segment, or one that names lost packs.
fn needs(source: &SourceRecord, naming: &HashMap<PackKey, Vec<PackKey>>, lost: &HashSet<PackKey>) -> bool {
    let mut segments = source.artifacts.iter().flat_map(|a| &a.segments);
    segments.any(|s| naming.contains_key(&s.object) || lost.contains(&s.object))
}

/// A manifest, or nothing for one that is damaged, closed, or forgotten since it was listed.
///
/// # Errors
/// Those of the store.
pub fn readable(manifest: Result<Manifest>) -> Result<Option<Manifest>> {
    match manifest {
        Ok(m) => Ok(Some(m)),
        Err(e) if matches!(e.kind, Kind::Damaged | Kind::Key | Kind::NotFound) => Ok(None),
        Err(e) => Err(e),
    }
}
