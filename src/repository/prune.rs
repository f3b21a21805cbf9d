//! Prune: deleting what no backup names, in two phases and without a lock.
//!
//! Phase one writes a *condemned* record with the keys of packs and segments that no manifest names, and the
//! store's time C. Phase two, in a later prune, deletes them, no earlier than C + G (the vault's grace time), and
//! after all manifests were read again; what one of them names by then stays.
//!
//! Why nothing is lost: a run takes the store's time S first, then reads manifests and condemned records, never
//! names a pack that is condemned, and refuses to commit after S + G less a margin. If the record was written
//! before the run read it, the run does not name the pack. If it was written later, then C > S, so the run has
//! committed, or given up, before C + G, and phase two sees its manifest.
//!
//! Several prunes may run side by side. When one has deleted what a record names, it replaces the record by a
//! *carried out* one, which forbids the names for another grace time: content that comes back meanwhile is stored
//! as a later generation, where a prune that still works on the old record does not find it.
//!
//! A later generation of a pack or segment that is named and marked as damaged is what its backups live by; no
//! manifest names it, and it is not garbage.
//!
//! Prune refuses to go on when one manifest or segment cannot be read, when none is found, or when more than a
//! set share of the bytes would go: each of these more often means a fault than garbage.

use super::catalog::Catalog;
use super::condemned::{Condemned, Records};
use super::layout;
use super::marks;
use super::record::RecordKind;
use super::segment::SegmentRef;
use super::vault::Vault;
use crate::error::{Error, Kind, Result};
use crate::model::{BackupId, PackId, PackKey};
use crate::storage::DeleteOutcome;
use futures::{StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::pin::pin;

/// Packs named in one condemned record.
const PER_RECORD: usize = 20_000;
/// Objects stored less long ago than this are most likely those of a run under way, and are left for a later
/// prune. Only a courtesy: condemning them would lose nothing, but the next run would store them again.
const YOUNG: SignedDuration = SignedDuration::from_hours(12);

/// What a prune may do.
#[derive(Clone, Copy, Debug)]
pub struct PruneOptions {
    /// Refuse when more than this share of the vault's bytes would be condemned.
    pub max_share: f64,
    /// Say what would happen and do nothing.
    pub dry_run: bool,
}

/// What a prune did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PruneReport {
    /// Objects in use.
    pub live_objects: u64,
    /// Their bytes.
    pub live_bytes: u64,
    /// Objects condemned by this prune.
    pub condemned_objects: u64,
    /// Their bytes.
    pub condemned_bytes: u64,
    /// Objects condemned earlier whose grace time is not over.
    pub waiting_objects: u64,
    /// Objects deleted.
    pub deleted_objects: u64,
    /// Condemned objects that a backup names by now; they stay.
    pub rescued_objects: u64,
    /// Objects that a lock of the store keeps.
    pub retained_objects: u64,
    /// Damaged condemned records: what they named is condemned anew, and they go two grace times after they were stored.
    pub unreadable_records: u64,
    /// When the earliest waiting objects may go.
    pub next: Option<Timestamp>,
}

/// What manifests name.
#[derive(Default)]
struct Live {
    packs: HashSet<PackKey>,
    segments: HashSet<PackKey>,
    /// Named and marked as damaged: every generation of these stays.
    replaced: HashSet<PackId>,
}

impl Live {
    fn has_pack(&self, key: &PackKey) -> bool {
        self.packs.contains(key) || self.replaced.contains(&key.id)
    }

    fn has_segment(&self, key: &PackKey) -> bool {
        self.segments.contains(key) || self.replaced.contains(&key.id)
    }
}

async fn live(catalog: &Catalog, segments: HashMap<PackKey, SegmentRef>, damaged: &HashSet<PackKey>) -> Result<Live> {
    let mut live = Live::default();
    // The manifests were read by now, and a segment never changes: the order among these does not matter.
    let mut read = pin!(catalog.read(segments.into_values().collect()));
    while let Some((reference, segment)) = read.next().await {
        let segment = segment.map_err(|e| {
            e.do_instead("Prune stops here, since what this segment names is unknown. Run `backstay check`.")
        })?;
        live.segments.insert(reference.object);
        live.packs.extend(segment.packs.iter().map(|p| p.key));
    }
    let named = |key: &&PackKey| live.packs.contains(key) || live.segments.contains(key);
    live.replaced = damaged.iter().filter(named).map(|key| key.id).collect();
    Ok(live)
}

/// Runs both phases: deletes what was condemned long enough ago, then condemns what is garbage now.
///
/// # Errors
/// [`Kind::Refused`] in the cases above, and every error of the store. Nothing is deleted before all manifests
/// were read.
pub async fn prune(catalog: &Catalog, options: PruneOptions) -> Result<PruneReport> {
    let vault = catalog.vault();
    let records = Records::read(vault).await?;
    let now = vault.now().await?;
    let (mut manifests, mut segments) = (HashSet::new(), HashMap::new());
    let each = catalog.visit(None, |plan, id, manifest| {
        segments.extend(manifest?.segments().map(|s| (s.object, s.clone())));
        manifests.insert((plan, id));
        Ok(())
    });
    each.await.map_err(|e| e.do_instead("Prune stops when a manifest cannot be read: what it names is unknown. Run `backstay check`; `backstay forget` can remove a manifest that is beyond help."))?;
    if manifests.is_empty() {
        return Err(Error::new(Kind::Refused, "no backup was found, so everything would be garbage")
            .at(vault.full_key(layout::BACKUPS))
            .hint("If the vault is to be emptied, delete it in the store itself."));
    }
    let damaged = marks::damaged(vault).await?;
    let live = live(catalog, segments, &damaged).await?;
    let mut report = PruneReport { unreadable_records: records.unreadable.len() as u64, ..PruneReport::default() };
    // What a damaged record named is condemned anew below. After two grace times nobody acts on it any more: runs that
    // began before it have ended, and a prune that could read it has carried it out.
    for damaged in records.unreadable.iter().filter(|u| now >= u.stored + vault.grace() + vault.grace()) {
        if !options.dry_run {
            vault.delete(&damaged.key).await?;
        }
    }

    // One record after the other, and within one first the objects, then the record that forbids their names, then the
    // removal of the old one: a kill at any moment leaves the names forbidden.
    let mut still_condemned: HashSet<PackKey> = HashSet::new();
    for (key, record) in &records.readable {
        let due = record.at + vault.grace();
        if record.carried_out {
            if now >= due && !options.dry_run {
                vault.delete(key).await?;
            }
            continue;
        }
        if now < due {
            report.waiting_objects += (record.packs.len() + record.segments.len()) as u64;
            report.next = Some(report.next.map_or(due, |n| n.min(due)));
            still_condemned.extend(record.packs.iter().chain(&record.segments));
            continue;
        }
        let stay = carry_out(vault, key, record, &live, options.dry_run, &mut report).await?;
        if stay {
            still_condemned.extend(record.packs.iter().chain(&record.segments));
        }
    }
    let present = condemn(vault, &live, &still_condemned, &damaged, options, &mut report).await?;
    if !options.dry_run {
        // A mark on an object that is gone and that nobody names tells nobody anything.
        let idle = damaged.iter().filter(|m| !present.contains(m) && !live.has_pack(m) && !live.has_segment(m));
        let marks: Vec<String> = idle.map(layout::damaged).collect();
        vault.delete_all(marks).try_for_each(|_| async { Ok(()) }).await?;
        catalog.sweep_cache(&live.segments.iter().map(|s| s.id).collect(), &manifests);
    }
    Ok(report)
}

/// Phase two for one record; true when its objects are still there.
async fn carry_out(
    vault: &Vault,
    key: &str,
    record: &Condemned,
    live: &Live,
    dry_run: bool,
    report: &mut PruneReport,
) -> Result<bool> {
    let pick = |all: &[PackKey], lives: &dyn Fn(&PackKey) -> bool| -> Vec<PackKey> {
        all.iter().filter(|key| !lives(key)).copied().collect()
    };
    let packs = pick(&record.packs, &|key| live.has_pack(key));
    let segments = pick(&record.segments, &|key| live.has_segment(key));
    let doomed: Vec<String> = packs.iter().map(layout::pack).chain(segments.iter().map(layout::meta)).collect();
    report.rescued_objects += (record.packs.len() + record.segments.len() - doomed.len()) as u64;
    if dry_run {
        report.deleted_objects += doomed.len() as u64;
        return Ok(true);
    }
    let mut retained = 0;
    let mut deleted = pin!(vault.delete_all(doomed));
    while let Some(result) = deleted.next().await {
        match result?.1 {
            DeleteOutcome::Gone => report.deleted_objects += 1,
            DeleteOutcome::Retained => retained += 1,
        }
    }
    report.retained_objects += retained;
    // While a lock keeps an object, the record keeps it condemned; a later prune tries again.
    if retained > 0 {
        return Ok(true);
    }
    if !packs.is_empty() || !segments.is_empty() {
        write_record(vault, packs, segments, true).await?;
    }
    vault.delete(key).await?;
    Ok(false)
}

/// Writes a condemned record. The time is taken for each one anew: it must not lie long before the record can
/// be seen.
async fn write_record(vault: &Vault, packs: Vec<PackKey>, segments: Vec<PackKey>, carried_out: bool) -> Result<()> {
    let at = vault.now().await?;
    let record = Condemned { format: 1, at, packs, segments, carried_out };
    let key = layout::record(layout::CONDEMNED, &BackupId::new(at));
    vault.write_record(RecordKind::Condemned, &key, &record).await?;
    Ok(())
}

/// Phase one; which of the objects marked as damaged are stored.
async fn condemn(
    vault: &Vault,
    live: &Live,
    condemned: &HashSet<PackKey>,
    damaged: &HashSet<PackKey>,
    options: PruneOptions,
    report: &mut PruneReport,
) -> Result<HashSet<PackKey>> {
    let young = YOUNG.min(vault.grace());
    let now = vault.now().await?;
    let (mut packs, mut segments, mut present) = (Vec::new(), Vec::new(), HashSet::new());
    // By prefix, so that the names of a large vault are never in memory at once. The listings have no order among them:
    // each comes after the manifests and after `now`, and nothing is written before the last one.
    let folders = (0..=255u8).flat_map(|fan| [layout::PACKS, layout::META].map(|f| format!("{f}{fan:02x}/"))).collect();
    let mut listings = pin!(vault.lists(folders));
    while let Some(listed) = listings.next().await {
        for object in listed? {
            let Some(key) = object.key.rsplit('/').next().and_then(|n| n.parse::<PackKey>().ok()) else { continue };
            let (lives, list) = if object.key.starts_with(layout::PACKS) {
                (live.has_pack(&key), &mut packs)
            } else {
                (live.has_segment(&key), &mut segments)
            };
            present.extend(damaged.get(&key));
            if lives {
                report.live_objects += 1;
                report.live_bytes += object.size;
            } else if !condemned.contains(&key) && now.duration_since(object.modified) >= young {
                list.push(key);
                report.condemned_objects += 1;
                report.condemned_bytes += object.size;
            }
        }
    }
    let total = report.live_bytes + report.condemned_bytes;
    if total > 0 && report.condemned_bytes as f64 > options.max_share * total as f64 {
        return Err(Error::new(
            Kind::Refused,
            format!(
                "{} of {} would be condemned, more than the share of {:.0} % that is allowed",
                crate::model::size::human(report.condemned_bytes),
                crate::model::size::human(total),
                options.max_share * 100.0
            ),
        )
        .hint("If that is right (after forgetting many backups), allow it with --max-share 100."));
    }
    if options.dry_run || report.condemned_objects == 0 {
        return Ok(present);
    }
    let mut packs = packs.chunks(PER_RECORD);
    let mut segments = segments.chunks(PER_RECORD);
    loop {
        let (p, s) = (packs.next().unwrap_or_default(), segments.next().unwrap_or_default());
        if p.is_empty() && s.is_empty() {
            return Ok(present);
        }
        write_record(vault, p.to_vec(), s.to_vec(), false).await?;
    }
}
