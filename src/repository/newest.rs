//! What this host committed last, of each plan: a note beside its caches, by which a store is noticed that hides it.
//!
//! Predecessor links tell of every backup that is gone but the newest one. When that is missing, the next backup names it
//! nevertheless, so that the gap stays to be seen when this note has long gone on.

use super::catalog::Catalog;
use super::marks;
use crate::error::Result;
use crate::io::durable;
use crate::model::{BackupId, Name, VaultId};
use std::io;
use std::path::{Path, PathBuf};

/// By vault: that of another repository knows nothing of this one's.
fn folder(state_dir: &Path, vault: VaultId) -> PathBuf {
    state_dir.join("newest").join(vault.to_string())
}

/// Notes a backup as the newest one of its plan.
///
/// # Errors
/// Those of the file system.
pub fn note(state_dir: &Path, vault: VaultId, plan: &Name, id: &BackupId) -> io::Result<()> {
    let folder = folder(state_dir, vault);
    durable::make_folder(&folder, 0o755)?;
    durable::replace(&folder.join(plan.as_str()), id.as_str().as_bytes(), 0o644)
}

/// What is noted, by plan.
fn noted(state_dir: &Path, vault: VaultId) -> Vec<(Name, BackupId)> {
    let files = std::fs::read_dir(folder(state_dir, vault)).into_iter().flatten().flatten();
    let read = files.filter_map(|file| {
        let plan = file.file_name().to_str()?.parse().ok()?;
        Some((plan, std::fs::read_to_string(file.path()).ok()?.trim().parse().ok()?))
    });
    let mut noted: Vec<(Name, BackupId)> = read.collect();
    noted.sort();
    noted
}

/// The backups that this host committed last, of one plan or of all, that are neither listed nor forgotten: the store hides
/// them, shows an old state, or somebody deleted them.
///
/// # Errors
/// Those of the store.
pub async fn hidden(catalog: &Catalog, state_dir: &Path, plan: Option<&Name>) -> Result<Vec<(Name, BackupId)>> {
    let mut noted = noted(state_dir, catalog.vault().header.vault);
    noted.retain(|(of, _)| plan.is_none_or(|plan| plan == of));
    if noted.is_empty() {
        return Ok(noted);
    }
    let listed = catalog.ids(plan).await?;
    noted.retain(|backup| !listed.contains(backup));
    marks::not_forgotten(catalog.vault(), &mut noted).await?;
    Ok(noted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_backup_is_noted_in_a_file_that_is_never_there_in_part() {
        let dir = tempfile::tempdir().unwrap();
        let (vault, other) = (VaultId([1; 16]), VaultId([2; 16]));
        let (plan, before): (Name, _) = ("erp".parse().unwrap(), dir.path().join("before"));
        let [first, second] = [1, 2].map(|s| BackupId::new(jiff::Timestamp::from_second(s).unwrap()));
        note(dir.path(), vault, &plan, &first).unwrap();
        std::fs::hard_link(folder(dir.path(), vault).join("erp"), &before).unwrap();
        note(dir.path(), vault, &plan, &second).unwrap();
        assert_eq!(noted(dir.path(), vault), [(plan, second)]);
        assert_eq!(std::fs::read_to_string(&before).unwrap(), first.as_str());
        assert_eq!(noted(dir.path(), other), []);
    }
}
