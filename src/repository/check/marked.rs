//! What earlier checks marked: it stays damaged for whoever does not read it, and is cleared of it by whoever reads it well.

use super::CheckReport;
use crate::error::{Kind, Result};
use crate::model::{PackKey, time};
use crate::repository::catalog::Catalog;
use crate::repository::condemned::Records;
use crate::repository::layout;
use crate::repository::marks::Mark;
use crate::repository::record::RecordKind;
use crate::repository::segment::PackInfo;
use crate::repository::vault::Vault;
use std::collections::{BTreeMap, HashSet};

/// Adds the marked packs to the bad ones, but for those that this check has proven; their marks are taken back, since a store
/// or a machine that reads badly once is no damage. Not taken back are marks on packs for which another generation stands in
/// (the backups may live by that one, and no manifest names it), nor on those that a prune may still delete.
pub(super) async fn judge(
    catalog: &Catalog,
    packs: &BTreeMap<PackKey, PackInfo>,
    (marked, proven, known_bad): (&HashSet<PackKey>, &HashSet<PackKey>, &HashSet<PackKey>),
    bad: &mut BTreeMap<PackKey, String>,
    report: &mut CheckReport,
) -> Result<()> {
    let vault = catalog.vault();
    let unproven: Vec<&PackKey> = marked.iter().filter(|key| !proven.contains(key) && !bad.contains_key(key)).collect();
    for key in unproven {
        bad.insert(*key, why(vault, key).await?);
    }
    if proven.is_empty() {
        return Ok(());
    }
    let records = Records::read(vault).await?;
    let condemned: HashSet<&PackKey> = records.readable.iter().flat_map(|(_, r)| &r.packs).collect();
    for info in proven.iter().filter_map(|key| packs.get(key)) {
        let (sound, also_bad) = super::sound_elsewhere(catalog, info, known_bad).await?;
        for (other, what) in also_bad {
            super::mark(vault, &other, &what, report).await?;
        }
        if sound {
            continue;
        }
        if !records.unreadable.is_empty() || condemned.contains(&info.key) {
            bad.insert(info.key, why(vault, &info.key).await?);
            continue;
        }
        match vault.delete(&layout::damaged(&info.key)).await {
            Ok(_) => report.taken_back += 1,
            // Credentials that may not delete leave it; whoever checks next without reading is told of it once more.
            Err(e) if e.denied => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// What the mark says.
async fn why(vault: &Vault, key: &PackKey) -> Result<String> {
    match vault.read_record::<Mark>(RecordKind::Damaged, &layout::damaged(key)).await {
        Ok(Some(mark)) => Ok(format!("marked as damaged {}: {}", time::utc(mark.at), mark.note)),
        Ok(None) => Ok("it was marked as damaged a moment ago".to_owned()),
        Err(e) if matches!(e.kind, Kind::Damaged | Kind::Key | Kind::Newer) => {
            Ok("marked as damaged, and the mark cannot be read".to_owned())
        }
        Err(e) => Err(e),
    }
}
