//! Check: is what manifests promise really there?
//!
//! *Structure* needs no identity: every manifest, every segment, and for every pack that it exists with the
//! recorded size. *Read* downloads packs too: with an identity each is opened and compared with its name, without
//! one (for whoever calls this without the command line, which asks for an identity) its CRC is compared. A [`Part`]
//! of the packs follows the one before it, so that twenty checks of 5 % read everything.
//! A damaged pack is marked, and the next backup stores it again from live data. What is marked counts as damaged in every
//! later check, however little that one reads, until another generation stands in or it reads well again.

mod keys;
mod marked;
mod part;

pub use part::Part;

use super::catalog::Catalog;
use super::damage;
use super::layout;
use super::marks;
use super::reader;
use super::segment::{PackInfo, Segment, SegmentRef};
use super::vault::Vault;
use crate::error::{Error, Kind, Result};
use crate::model::{BackupId, Name, PackKey};
use crate::telemetry::monitor::{Event, Monitor};
use futures::{StreamExt, stream};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;

/// Packs and segments read at the same time.
const PARALLEL: usize = 8;

/// How far to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Structure only.
    Structure,
    /// Read these packs too.
    Read(Part),
}

/// What is wrong with one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The object's key below the vault.
    pub object: String,
    /// What is wrong, in words.
    pub what: String,
}

/// What a check found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct CheckReport {
    /// Backups looked at.
    pub backups: u64,
    /// Of those, the ones that can be restored as far as this check looked.
    pub whole: u64,
    /// Segments read.
    pub segments: u64,
    /// Packs named.
    pub packs: u64,
    /// Their bytes in the store.
    pub pack_bytes: u64,
    /// Packs read.
    pub packs_read: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// True when packs were opened, false when only their CRC could be compared.
    pub opened: bool,
    /// Damaged objects that could not be marked, since these credentials may not write.
    pub unmarked: u64,
    /// Damaged or missing objects.
    pub findings: Vec<Finding>,
    /// Backups that those make incomplete, with the number of objects.
    pub broken: BTreeMap<String, u64>,
    /// Packs and segments whose named generation is damaged and that another generation replaces.
    pub healed: u64,
    /// Objects that an earlier check had marked, that read well, and whose marks were therefore taken back.
    pub taken_back: u64,
    /// The same whose marks stay, by a lock of the store or because these credentials may not delete.
    pub marks_kept: u64,
    /// Key files looked at.
    pub key_files: u64,
    /// What is wrong with key files, their labels and canaries.
    pub keys: Vec<Finding>,
    /// Key epochs to which no sound key file is left.
    pub closed_epochs: Vec<u32>,
    /// Manifests that are named as predecessor, are gone, and that nobody forgot.
    pub missing_predecessors: Vec<(Name, BackupId)>,
}

impl CheckReport {
    /// True when nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty() && self.keys.is_empty() && self.missing_predecessors.is_empty()
    }
}

/// Runs a check. Read everything from the store: give a catalog without a cache.
pub async fn check(
    catalog: &Catalog,
    plan: Option<&Name>,
    depth: Depth,
    monitor: Arc<dyn Monitor>,
) -> Result<CheckReport> {
    let vault = catalog.vault();
    let mut report = CheckReport { opened: vault.can_read_packs(), ..CheckReport::default() };
    monitor.event(Event::Stage("keys".into()));
    keys::keys(vault, &mut report).await?;
    let (mut seen, mut links, mut segments) = (HashSet::new(), Vec::new(), BTreeMap::new());
    let mut broken: BTreeMap<(Name, BackupId), u64> = BTreeMap::new();
    monitor.event(Event::Stage("manifests".into()));
    catalog
        .visit(plan, |plan, id, manifest| {
            report.backups += 1;
            match manifest {
                Ok(m) => {
                    segments.extend(m.segments().map(|s| (s.object, s.clone())));
                    links.extend(m.links());
                    seen.insert((plan, id));
                }
                Err(e) if matches!(e.kind, Kind::Damaged | Kind::Key) => {
                    links.push((plan.clone(), id.clone(), None));
                    report.findings.push(finding(layout::manifest(&plan, &id), &e));
                    *broken.entry((plan, id)).or_default() += 1;
                }
                Err(e) => return Err(e),
            }
            Ok(())
        })
        .await?;
    if plan.is_none() {
        report.missing_predecessors = marks::missing_links(vault, &links).await?;
    }
    monitor.event(Event::Stage("segments".into()));
    let known_bad = marks::damaged(vault).await?;
    let (packs, mut bad_segments, proven_segments) = read_segments(catalog, &segments, &known_bad, &mut report).await?;
    marked::judge_segments(catalog, &proven_segments, &mut bad_segments, &mut report).await?;
    report.packs = packs.len() as u64;
    report.pack_bytes = packs.values().map(|p| u64::from(p.sealed)).sum();
    monitor.event(Event::Stage("packs".into()));
    let bad = structure(catalog, &packs).await?;
    let mut bad: BTreeMap<PackKey, String> = bad.into_iter().collect();
    let marked: HashSet<PackKey> = known_bad.iter().filter(|key| packs.contains_key(key)).copied().collect();
    let mut proven = HashSet::new();
    if let Depth::Read(part) = depth {
        proven = read_packs(catalog, &packs, (part, &marked), &mut bad, &mut report, &monitor).await?;
    }
    marked::judge(catalog, &packs, (&marked, &proven, &known_bad), &mut bad, &mut report).await?;
    let mut lost = HashSet::new();
    let known_bad = &known_bad;
    let doubtful = bad.iter().filter_map(|(key, what)| Some((packs.get(key)?, what)));
    let mut looked = stream::iter(doubtful)
        .map(|(info, what)| async move { (info.key, what, sound_elsewhere(catalog, info, known_bad).await) })
        .buffered(PARALLEL);
    while let Some((key, what, elsewhere)) = looked.next().await {
        let elsewhere = elsewhere?;
        if !marked.contains(&key) {
            mark(vault, &key, what, &mut report).await?;
        }
        elsewhere.note(vault, &packs, &mut report).await?;
        if elsewhere.sound {
            report.healed += 1;
            continue;
        }
        let what = if what == marked::MARKED { marked::why(vault, &key).await? } else { what.clone() };
        report.findings.push(Finding { object: layout::pack(&key), what });
        lost.insert(key);
    }
    drop(looked);
    drop(packs);
    blame(catalog, (plan, &seen), &segments, &bad_segments, &lost, &mut broken).await?;
    report.whole = report.backups - broken.len() as u64;
    report.broken = broken.into_iter().map(|((plan, id), n)| (format!("{plan}/{id}"), n)).collect();
    Ok(report)
}

/// Packs that these segments name and that are not there in their size, nor in another generation. A quick look, before
/// a restore.
///
/// # Errors
/// [`Kind::Damaged`] for a segment that cannot be read, and those of the store.
pub async fn missing(catalog: &Catalog, references: Vec<SegmentRef>) -> Result<Vec<Finding>> {
    let mut packs = BTreeMap::new();
    let mut read = pin!(catalog.read(references));
    while let Some((_, segment)) = read.next().await {
        packs.extend(segment?.packs.iter().map(|info| (info.key, *info)));
    }
    let mut missing = Vec::new();
    for (key, what) in structure(catalog, &packs).await? {
        let Some(info) = packs.get(&key) else { continue };
        if !sound_elsewhere(catalog, info, &HashSet::new()).await?.sound {
            missing.push(Finding { object: layout::pack(&key), what });
        }
    }
    Ok(missing)
}

fn finding(object: String, e: &Error) -> Finding {
    Finding { object, what: e.cause.as_ref().map_or(e.what.clone(), |c| format!("{}: {c}", e.what)) }
}

/// Marks an object as damaged, for the next backup to repair. A machine that may only read reports all the same.
async fn mark(vault: &Vault, key: &PackKey, what: &str, report: &mut CheckReport) -> Result<()> {
    match marks::mark_damaged(vault, key, what).await {
        Err(e) if e.denied => {
            report.unmarked += 1;
            Ok(())
        }
        other => other,
    }
}

/// Finds the backups that lost objects make incomplete. Which backup uses which pack is not kept while everything is
/// read (3 million packs in 1,000 backups would take gigabytes); when something is lost, segments and manifests are
/// read again.
async fn blame(
    catalog: &Catalog,
    (plan, seen): (Option<&Name>, &HashSet<(Name, BackupId)>),
    segments: &BTreeMap<PackKey, SegmentRef>,
    bad_segments: &HashSet<PackKey>,
    lost: &HashSet<PackKey>,
    broken: &mut BTreeMap<(Name, BackupId), u64>,
) -> Result<()> {
    if bad_segments.is_empty() && lost.is_empty() {
        return Ok(());
    }
    let mut lacking: HashMap<PackKey, Vec<PackKey>> = bad_segments.iter().map(|s| (*s, vec![*s])).collect();
    if !lost.is_empty() {
        let readable = segments.values().filter(|s| !bad_segments.contains(&s.object)).cloned().collect();
        lacking.extend(damage::naming(catalog, readable, lost).await?);
    }
    catalog
        .visit(plan, |plan, id, manifest| {
            // One that cannot be read is broken already, and one that came meanwhile was not looked at.
            let manifest = damage::readable(manifest)?;
            let (Some(m), true) = (manifest, seen.contains(&(plan.clone(), id.clone()))) else { return Ok(()) };
            let gone: HashSet<&PackKey> = m.segments().filter_map(|s| lacking.get(&s.object)).flatten().collect();
            if !gone.is_empty() {
                *broken.entry((plan, id)).or_default() += gone.len() as u64;
            }
            Ok(())
        })
        .await
}

/// Reads every segment once: what packs they name, which segments are beyond help, and which are marked and good.
async fn read_segments(
    catalog: &Catalog,
    segments: &BTreeMap<PackKey, SegmentRef>,
    known_bad: &HashSet<PackKey>,
    report: &mut CheckReport,
) -> Result<(BTreeMap<PackKey, PackInfo>, HashSet<PackKey>, Vec<SegmentRef>)> {
    let mut packs = BTreeMap::new();
    let (mut bad, mut proven) = (HashSet::new(), Vec::new());
    let mut read = stream::iter(segments.values())
        .map(|reference| async move {
            let body = catalog.stored_body(&reference.object).await;
            (body.and_then(|b| Segment::decode(&b, &layout::meta(&reference.object))), reference)
        })
        .buffer_unordered(PARALLEL);
    while let Some((mut segment, reference)) = read.next().await {
        report.segments += 1;
        if segment.is_ok() && known_bad.contains(&reference.object) {
            proven.push(reference.clone());
        }
        if let Err(e) = &segment
            && matches!(e.kind, Kind::Damaged | Kind::Key)
        {
            // One that no key opens may be a stranger's; who lacks a key must not call it so for others.
            if e.kind == Kind::Damaged {
                mark(catalog.vault(), &reference.object, &e.what, report).await?;
            }
            if let Some(body) = catalog.body_elsewhere(reference).await? {
                segment = Segment::decode(&body, &layout::meta(&reference.object));
                report.healed += 1;
            }
        }
        match segment {
            Ok(segment) => {
                packs.extend(segment.packs.iter().map(|info| (info.key, *info)));
            }
            Err(e) if matches!(e.kind, Kind::Damaged | Kind::Key) => {
                report.findings.push(finding(layout::meta(&reference.object), &e));
                bad.insert(reference.object);
            }
            Err(e) => return Err(e),
        }
    }
    Ok((packs, bad, proven))
}

/// Compares listed sizes with recorded ones. Folders are listed side by side and compared in order; only a few of them
/// are in memory at once.
async fn structure(catalog: &Catalog, packs: &BTreeMap<PackKey, PackInfo>) -> Result<Vec<(PackKey, String)>> {
    let mut bad = Vec::new();
    let mut expected = packs.iter().peekable();
    let folders = (0..=255u8).map(|fan| format!("{}{fan:02x}/", layout::PACKS)).collect();
    let mut listings = pin!(catalog.vault().lists(folders).zip(stream::iter(0..=255u8)));
    while let Some((listed, fan)) = listings.next().await {
        let listed: HashMap<String, u64> = listed?.into_iter().map(|o| (o.key, o.size)).collect();
        while let Some((key, info)) = expected.next_if(|(key, _)| key.id.0[0] == fan) {
            match listed.get(&layout::pack(key)) {
                None => bad.push((*key, "the pack is missing".to_owned())),
                Some(size) if *size != u64::from(info.sealed) => {
                    bad.push((*key, format!("the pack has {size} bytes instead of {}", info.sealed)))
                }
                Some(_) => {}
            }
        }
    }
    Ok(bad)
}

/// Reads the packs of a part, and whatever is marked; which of the marked ones were opened and are what they should be.
async fn read_packs(
    catalog: &Catalog,
    packs: &BTreeMap<PackKey, PackInfo>,
    (part, marked): (Part, &HashSet<PackKey>),
    bad: &mut BTreeMap<PackKey, String>,
    report: &mut CheckReport,
    monitor: &Arc<dyn Monitor>,
) -> Result<HashSet<PackKey>> {
    let mut proven = HashSet::new();
    let chosen = |p: &&PackInfo| (part.has(&p.key) || marked.contains(&p.key)) && !bad.contains_key(&p.key);
    let todo: Vec<PackInfo> = packs.values().filter(chosen).copied().collect();
    monitor.event(Event::Expect(todo.iter().map(|p| u64::from(p.sealed)).sum()));
    let mut read = stream::iter(todo)
        .map(|info| async move { (info, read_pack(catalog, &info).await) })
        .buffer_unordered(PARALLEL);
    while let Some((info, result)) = read.next().await {
        report.packs_read += 1;
        report.bytes_read += u64::from(info.sealed);
        monitor.event(Event::Read(u64::from(info.sealed)));
        match result {
            Ok(opened) => proven.extend(marked.get(&info.key).filter(|_| opened)),
            Err(e) if e.kind == Kind::Damaged => {
                bad.insert(info.key, finding(String::new(), &e).what);
            }
            Err(e) => return Err(e),
        }
    }
    Ok(proven)
}

/// Reads one pack: opened when an identity of its epoch is at hand, else by its CRC; whether it was opened.
async fn read_pack(catalog: &Catalog, info: &PackInfo) -> Result<bool> {
    let vault = catalog.vault().clone();
    let name = layout::pack(&info.key);
    let sealed = vault.get_raw(&name).await?.ok_or_else(|| Error::damaged(&name, "the pack is missing"))?;
    if crc32c::crc32c(&sealed) != info.crc {
        return Err(Error::damaged(&name, "the pack has other bytes than were stored (CRC)"));
    }
    if !vault.epochs().iter().any(|e| e.number == info.epoch && e.identity.is_some()) {
        return Ok(false);
    }
    let info = *info;
    let opened = tokio::task::spawn_blocking(move || reader::open_pack(&vault, &info, &name, sealed).map(|_| true));
    opened.await.map_err(|_| Error::new(Kind::Internal, "a checking task is gone"))?
}

/// What other generations of a pack are worth.
#[derive(Default)]
struct Elsewhere {
    /// One of them can stand in.
    sound: bool,
    /// Those that turned out to be damaged, and how.
    bad: Vec<(PackKey, String)>,
    /// Those that are marked, and are not damaged.
    good: Vec<PackKey>,
}

impl Elsewhere {
    /// Sets marks on what is damaged, since the next backup would take it for the repaired one, and takes those back that are
    /// wrong. Named packs are judged by themselves.
    async fn note(&self, vault: &Vault, packs: &BTreeMap<PackKey, PackInfo>, report: &mut CheckReport) -> Result<()> {
        for (key, what) in &self.bad {
            mark(vault, key, what, report).await?;
        }
        for key in self.good.iter().filter(|key| !packs.contains_key(key)) {
            marked::take_back(vault, key, report).await?;
        }
        Ok(())
    }
}

/// Whether another generation of the pack can stand in. Without an identity that cannot be known, and one that exists and is
/// not marked is believed: it was stored by a host, and no check found it bad.
async fn sound_elsewhere(catalog: &Catalog, info: &PackInfo, known_bad: &HashSet<PackKey>) -> Result<Elsewhere> {
    let vault = catalog.vault();
    let others = reader::generations(catalog, info).await?.into_iter().filter(|key| *key != info.key);
    let (marked, plain): (Vec<_>, Vec<_>) = others.partition(|key| known_bad.contains(key));
    let mut found = Elsewhere::default();
    let all_open = vault.locked.is_none() && vault.epochs().iter().all(|e| e.identity.is_some());
    if !vault.can_read_packs() {
        found.sound = !plain.is_empty();
        return Ok(found);
    }
    for key in plain.into_iter().chain(marked) {
        let name = layout::pack(&key);
        let Some(sealed) = vault.get_raw(&name).await? else { continue };
        let any_epoch = PackInfo { epoch: vault.epoch()?.number, ..*info };
        let opened = tokio::task::spawn_blocking({
            let vault = vault.clone();
            move || reader::open_pack(&vault, &any_epoch, &name, sealed).map(drop)
        });
        match opened.await.map_err(|_| Error::new(Kind::Internal, "a checking task is gone"))? {
            Ok(()) => {
                found.sound = true;
                found.good.extend(known_bad.get(&key));
                return Ok(found);
            }
            // Which epoch it is sealed to is not recorded: one that stays closed may be of an epoch that is not open here.
            Err(e)
                if e.kind == Kind::Damaged && !known_bad.contains(&key) && (e.what != reader::STRANGER || all_open) =>
            {
                found.bad.push((key, finding(String::new(), &e).what));
            }
            Err(_) => {}
        }
    }
    Ok(found)
}
