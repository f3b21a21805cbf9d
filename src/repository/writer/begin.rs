//! The beginning of a run: what is condemned, what there is, who writes here, what may be named again.

use super::journal::UploadJournal;
use super::known::Known;
use super::pack::{OpenPack, Sealer};
use super::repair::Repair;
use super::slot::InFlight;
use super::{BackupWriter, Counters, KnownState, Shared, WriterOptions, lock};
use crate::error::{Error, Kind, Result};
use crate::model::ids::PackPrefix;
use crate::model::{BackupId, Name, PackKey};
use crate::repository::catalog::Catalog;
use crate::repository::chunker::Chunker;
use crate::repository::condemned::{Doubt, Records};
use crate::repository::manifest::Manifest;
use crate::repository::segment::SegmentRef;
use crate::repository::{claims, damage, layout, marks};
use crate::telemetry::monitor::{Event, Monitor};
use jiff::Timestamp;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// Earlier backups of the same plan whose blobs are looked up.
const LOOK_BACK: usize = 7;

/// Generations of which a run in doubt draws one; see [`Doubt`]. Ordinary ones count from zero and stay small.
const DOUBTED_GENERATIONS: std::ops::Range<u32> = 1 << 16..1 << 31;

impl BackupWriter {
    /// Begins a run: takes the store's time first, then reads what is condemned, and only then what exists. (In
    /// this order nothing can be deleted that the run will name. Were the manifests read first, one of them could
    /// be forgotten and its condemned packs deleted together with their record before the records are read; see
    /// [`crate::repository::prune`].)
    ///
    /// # Errors
    /// [`Kind::Refused`] when another machine writes under this host's name.
    pub async fn begin(
        catalog: Catalog,
        plan: Name,
        machine: String,
        options: WriterOptions,
        journal: &Path,
        monitor: Arc<dyn Monitor>,
        started: Timestamp,
    ) -> Result<Self> {
        let vault = catalog.vault().clone();
        let epoch = vault.epoch()?.clone();
        let begun = std::time::Instant::now();
        let store_time = vault.now().await?;
        let records = Records::read(&vault).await?;
        let doubt = records.doubt();
        for damaged in &records.unreadable {
            monitor.event(Event::Warning(format!(
                "{}: what older backups share is stored anew until a prune may remove this record",
                damaged.why.one_line()
            )));
        }
        let (mut condemned, mut condemned_segments) = (HashSet::new(), HashSet::new());
        for (_, record) in records.readable {
            condemned.extend(record.packs);
            condemned_segments.extend(record.segments);
        }
        let damaged = marks::damaged(&vault).await?;
        let (mut ids, others): (Vec<_>, Vec<_>) = catalog.ids(None).await?.into_iter().partition(|(p, _)| *p == plan);
        ids.reverse();
        let id = match &options.imported {
            // It belongs where its time is, among those that are there.
            Some(imported) => BackupId::new(imported.time),
            None => {
                let listed = ids.first().map(|(_, newest)| newest);
                BackupId::after(started, listed.max(options.unseen.as_ref()))
            }
        };
        let mut earlier = Vec::new();
        for (plan, id) in ids.into_iter().take(LOOK_BACK) {
            match catalog.manifest(&plan, &id).await {
                Ok(manifest) => earlier.push(manifest),
                // A damaged manifest is check's business; the run stores again what only that one named.
                Err(e) if e.kind == Kind::Damaged => monitor.event(Event::Warning(e.one_line())),
                // Forgotten since it was listed.
                Err(e) if e.kind == Kind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        own_name(&catalog, earlier.first(), others, &machine, options.take_over, &*monitor).await?;
        let mut generations = HashMap::new();
        for pack in condemned.iter().chain(&damaged).chain(&condemned_segments) {
            let next = generations.entry(pack.id).or_insert(0);
            *next = (*next).max(pack.generation + 1);
        }
        let forbidden: HashSet<PackKey> = condemned.union(&damaged).copied().collect();
        let sparse: HashSet<PackPrefix> =
            earlier.first().map(|m| m.sparse_packs.iter().copied().collect()).unwrap_or_default();
        let mut known = Known::new(forbidden, sparse);
        let (journal, uploaded) = UploadJournal::open(journal)?;
        for entry in &uploaded {
            // A pack is condemned after it was stored, and is deleted a grace time after that: one that is younger
            // is there, or its record was seen above. What is condemned from now on outlives this run.
            let young = store_time.duration_since(entry.at).as_secs().abs() < vault.grace().as_secs();
            let safe = doubt.is_none() && young;
            if entry.vault == vault.header.vault && entry.pack.epoch <= epoch.number && safe {
                known.add_pack(entry.pack, &entry.blobs);
            }
        }
        let lasting = |s: &&SegmentRef| !condemned_segments.contains(&s.object) && !damaged.contains(&s.object);
        let segments = earlier
            .iter()
            .filter(|m| spared(doubt, m))
            .flat_map(Manifest::segments)
            .filter(lasting)
            .map(|s| (s.object.id, s.clone()))
            .collect();
        // Names that a damaged record may forbid are not used either: no object ever had such a generation.
        let lowest = if doubt.is_some() { rand::random_range(DOUBTED_GENERATIONS) } else { 0 };
        let sealer = Sealer::new(vault.secret.clone(), epoch.recipient, options.level, options.verify);
        let to_repair = damage::unreplaced(&vault, &damaged, |id| generations.get(id).copied().unwrap_or(0)).await?;
        let shared = Shared {
            chunker: Chunker::new(&vault.secret),
            id,
            store_time,
            begun,
            started,
            machine,
            sealer,
            known: Mutex::new(KnownState { known, loaded: false }),
            repair: Mutex::new(Repair::new(to_repair)),
            generations,
            lowest,
            doubt,
            damaged,
            segments,
            earlier,
            journal: Mutex::new(journal),
            tail: Mutex::new(OpenPack::default()),
            budget: Arc::new(Semaphore::new(options.memory >> 10)),
            cpu: Arc::new(Semaphore::new(options.threads.max(1))),
            uploads: Arc::new(Semaphore::new(options.uploads.max(1))),
            in_flight: InFlight::default(),
            failure: Mutex::new(None),
            counters: Counters::default(),
            monitor,
            runtime: Handle::current(),
            vault,
            catalog,
            options,
            plan,
        };
        let writer = BackupWriter { shared: Arc::new(shared) };
        if !lock(&writer.shared.repair).is_idle() {
            let shared = &writer.shared;
            shared
                .each_earlier_segment(|_, s| {
                    lock(&shared.repair).learn(s);
                    true
                })
                .await?;
        }
        Ok(writer)
    }
}

/// Whether no damaged condemned record can name what this backup names.
pub(super) fn spared(doubt: Option<Doubt>, manifest: &Manifest) -> bool {
    doubt.is_none_or(|d| d.spares(manifest.store_time))
}

/// Makes sure that the name is this machine's: by the claim that holds, or else by the newest backup of the host, of
/// whatever plan. One manifest of each other plan is read. Told to take over, it does.
///
/// # Errors
/// [`Kind::Refused`] when it is another machine's: this one is a clone, or was replaced.
async fn own_name(
    catalog: &Catalog,
    of_plan: Option<&Manifest>,
    others: Vec<(Name, BackupId)>,
    machine: &str,
    take_over: bool,
    monitor: &dyn Monitor,
) -> Result<()> {
    let vault = catalog.vault();
    let claim = claims::newest(vault).await?;
    match &claim {
        Some(claim) if claim.machine == machine => return Ok(()),
        Some(claim) if !take_over => return claims::only_for(claim, machine, vault),
        _ => {}
    }
    // Oldest first, so that the newest of each plan stays. Ids carry the hosts' clocks, which compare within a plan
    // only; between plans the store's time decides.
    let newest_ids: HashMap<Name, BackupId> = others.into_iter().collect();
    let mut newest = of_plan.cloned();
    for (plan, id) in newest_ids {
        match catalog.manifest(&plan, &id).await {
            Ok(m) if newest.as_ref().is_none_or(|n| n.store_time < m.store_time) => newest = Some(m),
            Ok(_) => {}
            // As for the plan's own.
            Err(e) if e.kind == Kind::Damaged => monitor.event(Event::Warning(e.one_line())),
            Err(e) if e.kind == Kind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    let other = newest.as_ref().is_some_and(|m| m.machine != machine);
    if take_over && (claim.is_some() || other) {
        let before = newest.map(|m| m.machine);
        return claims::take(vault, machine, before, "a backup took over").await.map(drop);
    }
    match newest {
        Some(m) if m.machine != machine => Err(Error::new(
            Kind::Refused,
            format!("another machine has written backup {} of plan {} under the name {}", m.id, m.plan, catalog.vault().host()),
        )
        .at(layout::manifest(&m.plan, &m.id))
        .hint("If this machine replaces that one, run once with --take-over; that holds for all plans. If it is a clone, give it a `host` name of its own.")),
        _ => Ok(()),
    }
}
