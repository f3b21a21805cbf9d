//! What restores of this host kept, and until when.

use crate::cli::rollback::resources_of;
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::model::{BackupId, Name};
use crate::recovery::resource::Previous;
use crate::recovery::rollback::{self, Past};
use jiff::Timestamp;
use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long each restore's copies may take to be measured; those of a database server have to be asked for.
const LIMIT: Duration = Duration::from_secs(10);
/// How long one tree may take; without its size it is shown all the same.
const WALK: Duration = Duration::from_secs(4);

/// What one restore kept.
pub(super) struct Kept {
    /// Which.
    pub restore: BackupId,
    /// Of which plan.
    pub plan: Name,
    /// From when on `cleanup` drops it; nothing for a plan that is not configured any more.
    pub until: Option<Timestamp>,
    /// Its names and sizes.
    pub copies: Vec<Previous>,
    /// Why they are not known.
    pub unknown: Option<String>,
}

/// Those of all restores that keep something. A journal that cannot be read is told as a problem.
pub(super) async fn all(config: &Config) -> Vec<Kept> {
    let mut found = Vec::new();
    for past in &rollback::pasts(&config.state_dir).unwrap_or_default() {
        let about = past.journal().about();
        for left in past.left() {
            let copy = Previous { name: left.place.display().to_string(), bytes: None };
            let (restore, plan) = (about.id.clone(), about.plan.clone());
            // What others wrote has no end of its own.
            found.push(Kept { restore, plan, until: None, copies: vec![measured(copy).await], unknown: None });
        }
        let taken_back = past.rolled_back_by.is_some() || past.keeps_what_failed();
        if past.cleaned || past.rollback_of().is_some() || !(past.stands() || taken_back) {
            continue;
        }
        let late = |_| Err(Error::new(Kind::Internal, "its size was not told in time"));
        let looked = match taken_back {
            true => resources_of(config, past).await.map(|resources| rollback::restored_copies(past, &resources)),
            false => tokio::time::timeout(LIMIT, copies(config, past)).await.unwrap_or_else(late),
        };
        let keep = config.plans.get(&about.plan).map(|plan| plan.restore.keep_previous);
        let (copies, unknown) = match looked {
            // Nothing was there before it, or it was done in place.
            Ok(copies) if copies.is_empty() => continue,
            Ok(copies) => (copies, None),
            Err(e) => (Vec::new(), Some(e.one_line())),
        };
        found.push(Kept {
            restore: about.id.clone(),
            plan: about.plan.clone(),
            until: keep.and_then(|keep| past.ended().checked_add(keep).ok()),
            copies,
            unknown,
        });
    }
    found
}

async fn copies(config: &Config, past: &Past) -> Result<Vec<Previous>> {
    let mut copies = Vec::new();
    for copy in rollback::kept(past, &resources_of(config, past).await?).await? {
        copies.push(measured(copy).await);
    }
    Ok(copies)
}

/// Of trees only the place is known.
async fn measured(copy: Previous) -> Previous {
    if copy.bytes.is_some() || !copy.name.starts_with('/') {
        return copy;
    }
    let path = PathBuf::from(&copy.name);
    let walk = tokio::task::spawn_blocking(move || on_disk(&path));
    let bytes = tokio::time::timeout(WALK, walk).await.ok().and_then(|walked| walked.ok()?);
    Previous { bytes, ..copy }
}

/// What would be free without a tree: the blocks of its files, each file once, on this file system.
fn on_disk(tree: &Path) -> Option<u64> {
    let root = std::fs::symlink_metadata(tree).ok()?;
    let (mut bytes, mut linked, mut todo) = (0, HashSet::new(), vec![tree.to_owned()]);
    while let Some(path) = todo.pop() {
        let Ok(meta) = std::fs::symlink_metadata(&path) else { continue };
        if meta.dev() != root.dev() || (meta.nlink() > 1 && !meta.is_dir() && !linked.insert(meta.ino())) {
            continue;
        }
        bytes += meta.blocks() * 512;
        if meta.is_dir() {
            todo.extend(std::fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_measured_by_its_blocks_and_a_linked_file_once() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("below")).unwrap();
        std::fs::write(dir.path().join("below/file"), vec![1; 100_000]).unwrap();
        let before = on_disk(dir.path()).unwrap();
        assert!((100_000..200_000).contains(&before), "{before}");
        std::fs::hard_link(dir.path().join("below/file"), dir.path().join("again")).unwrap();
        assert!(on_disk(dir.path()).unwrap() - before < 20_000);
        assert_eq!(on_disk(&dir.path().join("none")), None);
    }
}
