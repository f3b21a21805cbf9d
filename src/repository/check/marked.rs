//! What earlier checks marked: it stays damaged for whoever does not read it, and is cleared of it by whoever reads it well.
//!
//! A mark is taken back when the object is good and nothing else depends on the mark: no other generation stands in (backups
//! may live by that one, and no manifest names it), and no prune may still delete the object.

use super::{CheckReport, Finding};
use crate::error::{Kind, Result};
use crate::model::{PackKey, time};
use crate::repository::catalog::Catalog;
use crate::repository::condemned::Records;
use crate::repository::layout;
use crate::repository::marks::{self, Mark};
use crate::repository::record::RecordKind;
use crate::repository::segment::{PackInfo, SegmentRef};
use crate::repository::vault::Vault;
use crate::storage::DeleteOutcome;
use std::collections::{BTreeMap, HashSet};

/// In place of what is wrong with a pack that was not read: what the mark says, which is asked for only when it counts.
pub(super) const MARKED: &str = "";

/// Adds the marked packs to the bad ones, but for those that this check has proven.
pub(super) async fn judge(
    catalog: &Catalog,
    packs: &BTreeMap<PackKey, PackInfo>,
    (marked, proven, known_bad): (&HashSet<PackKey>, &HashSet<PackKey>, &HashSet<PackKey>),
    bad: &mut BTreeMap<PackKey, String>,
    report: &mut CheckReport,
) -> Result<()> {
    for key in marked.iter().filter(|key| !proven.contains(key)) {
        bad.entry(*key).or_insert_with(|| MARKED.to_owned());
    }
    if proven.is_empty() {
        return Ok(());
    }
    let vault = catalog.vault();
    let records = Records::read(vault).await?;
    for info in proven.iter().filter_map(|key| packs.get(key)) {
        let elsewhere = super::sound_elsewhere(catalog, info, known_bad).await?;
        elsewhere.note(vault, packs, report).await?;
        if elsewhere.sound {
            continue;
        }
        match may_go(vault, &records, &info.key).await? {
            true => take_back(vault, &info.key, report).await?,
            false => drop(bad.insert(info.key, MARKED.to_owned())),
        }
    }
    Ok(())
}

/// The same for segments, which every check reads.
pub(super) async fn judge_segments(
    catalog: &Catalog,
    proven: &[SegmentRef],
    bad: &mut HashSet<PackKey>,
    report: &mut CheckReport,
) -> Result<()> {
    if proven.is_empty() {
        return Ok(());
    }
    let vault = catalog.vault();
    let records = Records::read(vault).await?;
    for reference in proven {
        let key = &reference.object;
        if catalog.body_elsewhere(reference).await?.is_some() {
            continue;
        }
        if may_go(vault, &records, key).await? {
            take_back(vault, key, report).await?;
        } else {
            bad.insert(*key);
            report.findings.push(Finding { object: layout::meta(key), what: why(vault, key).await? });
        }
    }
    Ok(())
}

/// Takes a mark back.
pub(super) async fn take_back(vault: &Vault, key: &PackKey, report: &mut CheckReport) -> Result<()> {
    match vault.delete(&layout::damaged(key)).await {
        Ok(DeleteOutcome::Gone) => report.taken_back += 1,
        Ok(DeleteOutcome::Retained) => report.marks_kept += 1,
        Err(e) if e.denied => report.marks_kept += 1,
        Err(e) => return Err(e),
    }
    Ok(())
}

/// Whether no prune may still delete an object that a manifest names: one that read the manifests before that one was
/// visible acts within two grace times.
async fn may_go(vault: &Vault, records: &Records, key: &PackKey) -> Result<bool> {
    let condemned = records.readable.iter().any(|(_, r)| r.packs.contains(key) || r.segments.contains(key));
    if condemned || !records.unreadable.is_empty() {
        return Ok(false);
    }
    match mark_on(vault, key).await? {
        Some(mark) if mark.note == marks::LATE => Ok(vault.now().await? > mark.at + vault.grace() + vault.grace()),
        _ => Ok(true),
    }
}

/// What the mark says.
pub(super) async fn why(vault: &Vault, key: &PackKey) -> Result<String> {
    Ok(match mark_on(vault, key).await? {
        Some(mark) => format!("marked as damaged {}: {}", time::utc(mark.at), mark.note),
        None => "marked as damaged, and the mark cannot be read".to_owned(),
    })
}

/// The mark on an object; nothing for one that went meanwhile, or that says nothing since it is not authentic.
async fn mark_on(vault: &Vault, key: &PackKey) -> Result<Option<Mark>> {
    match vault.read_record::<Mark>(RecordKind::Damaged, &layout::damaged(key)).await {
        Err(e) if matches!(e.kind, Kind::Damaged | Kind::Key | Kind::Newer) => Ok(None),
        read => read,
    }
}
