//! Small records about backups, packs and keys: holds, acknowledgements, forgotten manifests, damage marks,
//! proven identities. Each is one object, written once; a mark is taken back by deleting its object.

use super::layout;
use super::manifest::Link;
use super::record::RecordKind;
use super::vault::Vault;
use crate::error::Result;
use crate::model::{BackupId, Name, PackKey};
use crate::storage::DeleteOutcome;
use futures::{StreamExt, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::pin::pin;

/// When a mark was made, and why.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mark {
    /// Format version, 1.
    pub format: u32,
    /// The store's clock.
    pub at: Timestamp,
    /// What the operator gave as reason, or what was found.
    pub note: String,
}

/// A manifest that was removed on purpose.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Forgotten {
    /// Format version, 1.
    pub format: u32,
    /// The store's clock.
    pub at: Timestamp,
    /// The removed manifests.
    pub backups: Vec<(Name, BackupId)>,
}

async fn mark(vault: &Vault, note: &str) -> Result<Mark> {
    Ok(Mark { format: 1, at: vault.now().await?, note: note.to_owned() })
}

/// Sets a hold (or, with another folder, another mark) on a backup.
pub async fn set(vault: &Vault, folder: &str, kind: RecordKind, plan: &Name, id: &BackupId, note: &str) -> Result<()> {
    let mark = mark(vault, note).await?;
    let key = layout::about_backup(folder, plan, id, &BackupId::new(mark.at));
    vault.write_record(kind, &key, &mark).await?;
    Ok(())
}

/// Takes back every mark of a folder on a backup; how many there were.
pub async fn release(vault: &Vault, folder: &str, plan: &Name, id: &BackupId) -> Result<usize> {
    let mut released = 0;
    for object in vault.list(&format!("{folder}{plan}/{id}~")).await? {
        if vault.delete(&object.key).await? == DeleteOutcome::Gone {
            released += 1;
        }
    }
    Ok(released)
}

/// The backups that carry a mark of a folder. Each mark is authenticated: a store cannot make one up.
pub async fn marked(vault: &Vault, folder: &str, kind: RecordKind) -> Result<HashSet<(Name, BackupId)>> {
    let mut found = HashSet::new();
    let mut read = pin!(vault.records::<Mark>(kind, folder).await?);
    while let Some((object, mark)) = read.next().await {
        if let Some(about) = layout::parse_about_backup(folder, &object.key) {
            mark?;
            found.insert(about);
        }
    }
    Ok(found)
}

/// The note of a mark on what is not damaged, and may be deleted by a prune that did not see the manifest in time.
pub const LATE: &str = "condemned before the manifest was visible";

/// Marks a pack as damaged; marking it twice is no error.
pub async fn mark_damaged(vault: &Vault, pack: &PackKey, note: &str) -> Result<()> {
    let mark = mark(vault, note).await?;
    vault.write_record(RecordKind::Damaged, &layout::damaged(pack), &mark).await?;
    Ok(())
}

/// The packs that are marked as damaged.
pub async fn damaged(vault: &Vault) -> Result<HashSet<PackKey>> {
    Ok(vault
        .list(layout::DAMAGED)
        .await?
        .iter()
        .filter_map(|o| o.key.strip_prefix(layout::DAMAGED)?.parse().ok())
        .collect())
}

/// What became of each manifest that was to be forgotten.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ForgetReport {
    /// Removed.
    pub removed: Vec<(Name, BackupId)>,
    /// Kept by a lock of the store, or by credentials that may not delete.
    pub retained: Vec<(Name, BackupId)>,
}

/// Removes manifests: the record that explains the gap first, then the manifests.
pub async fn forget(vault: &Vault, backups: &[(Name, BackupId)]) -> Result<ForgetReport> {
    let mut report = ForgetReport::default();
    explain(vault, backups).await?;
    // Side by side: the record names all of them, so any part of them may be gone when this is killed.
    let manifests = backups.iter().map(|(plan, id)| layout::manifest(plan, id)).collect();
    let mut deleted = pin!(vault.delete_all(manifests).zip(stream::iter(backups)));
    while let Some((outcome, backup)) = deleted.next().await {
        match outcome {
            Ok((_, DeleteOutcome::Gone)) => report.removed.push(backup.clone()),
            Ok((_, DeleteOutcome::Retained)) => report.retained.push(backup.clone()),
            // Credentials that may not delete are how a host is made append-only; a machine that may forgets them.
            Err(e) if e.denied => report.retained.push(backup.clone()),
            Err(e) => return Err(e),
        }
    }
    Ok(report)
}

/// Backups that a later one names as being before it, that are not there, and that nobody forgot: a store that hides
/// manifests, or somebody who deleted them by hand. One that cannot be read is there; it has no link of its own.
pub async fn missing_links(vault: &Vault, links: &[Link]) -> Result<Vec<(Name, BackupId)>> {
    let present: HashSet<(&Name, &BackupId)> = links.iter().map(|(plan, id, _)| (plan, id)).collect();
    let mut missing: Vec<(Name, BackupId)> = links
        .iter()
        .filter_map(|(plan, _, predecessor)| Some((plan.clone(), predecessor.clone()?)))
        .filter(|(plan, id)| !present.contains(&(plan, id)))
        .collect();
    not_forgotten(vault, &mut missing).await?;
    Ok(missing)
}

/// Records that these backups are gone, or are about to go, on purpose.
pub async fn explain(vault: &Vault, backups: &[(Name, BackupId)]) -> Result<()> {
    if backups.is_empty() {
        return Ok(());
    }
    let at = vault.now().await?;
    let record = Forgotten { format: 1, at, backups: backups.to_vec() };
    vault.write_record(RecordKind::Forgotten, &layout::record(layout::FORGOTTEN, &BackupId::new(at)), &record).await?;
    Ok(())
}

/// Leaves of these backups those that nobody forgot.
pub async fn not_forgotten(vault: &Vault, missing: &mut Vec<(Name, BackupId)>) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let mut forgotten = HashSet::new();
    let mut read = pin!(vault.records::<Forgotten>(RecordKind::Forgotten, layout::FORGOTTEN).await?);
    while let Some((_, record)) = read.next().await {
        forgotten.extend(record?.backups);
    }
    missing.retain(|m| !forgotten.contains(m));
    Ok(())
}

/// Records that an identity was proven.
pub async fn record_proof(vault: &Vault, key_name: &str) -> Result<Timestamp> {
    let mark = mark(vault, key_name).await?;
    let key = layout::record(layout::PROVEN, &BackupId::new(mark.at));
    vault.write_record(RecordKind::Proven, &key, &mark).await?;
    Ok(mark.at)
}

/// When each key was last proven, by the key's name.
pub async fn proofs(vault: &Vault) -> Result<std::collections::BTreeMap<String, Timestamp>> {
    let mut last = std::collections::BTreeMap::new();
    let mut read = pin!(vault.records::<Mark>(RecordKind::Proven, layout::PROVEN).await?);
    while let Some((_, mark)) = read.next().await {
        let mark = mark?;
        let at = last.entry(mark.note).or_insert(mark.at);
        *at = mark.at.max(*at);
    }
    Ok(last)
}
