//! Random histories of a vault against a model of what must be true after each step.
//!
//! Steps are backups of two plans with shared and changing data, a run that stays open while other things happen,
//! kills, lost journals and caches, forgetting, pruning from elsewhere, checks, damage, and a clock that jumps. In some
//! of them a second machine takes the host's name over, and the first one takes it back, each with what it remembers.
//! After every step each backup restores byte for byte if, by the model, all it needs is stored soundly, and gives
//! an error otherwise. What was whole stays whole until something is damaged. At the end everything that the host
//! still has is repaired, and two prunes leave nothing that no manifest needs.
//!
//! `BACKSTAY_SEED=17 cargo test --test repository model` repeats one history.

use crate::data::{Random, Source, Tree, dir, file, mutate, stream, tree};
use crate::harness::{Expected, GRACE, Machine, Run, World, remember, restore_all};
use backstay::error::Kind;
use backstay::model::{BackupId, Name, PackId};
use backstay::repository::catalog::Catalog;
use backstay::repository::manifest::Manifest;
use backstay::repository::writer::WriterOptions;
use backstay::repository::{layout, marks};
use futures::FutureExt;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};

const STEPS: usize = 60;
const PLANS: [&str; 2] = ["erp", "edms"];

type Key = (Name, BackupId);

/// What the model knows of a backup.
struct Backup {
    /// The folders' prefixes under which some generation must be sound.
    needs: BTreeSet<String>,
    whole: bool,
}

struct Open {
    run: Run,
    plan: &'static str,
    sources: Vec<Source>,
    fed: usize,
    begun: Timestamp,
}

struct Model {
    world: World,
    /// The one that has the host's name.
    machine: Machine,
    /// Whether there is a second one, and damage to marks.
    two: bool,
    random: Random,
    data: BTreeMap<&'static str, (Tree, Vec<u8>)>,
    expected: Expected,
    backups: BTreeMap<Key, Backup>,
    /// Bodies that the model has put in place of sound ones.
    bad: HashMap<String, bytes::Bytes>,
    open: Option<Open>,
    /// The store after the last step that changed it.
    stored: BTreeMap<String, bytes::Bytes>,
    log: Arc<Mutex<Vec<String>>>,
}

impl Model {
    async fn new(seed: u64, two: bool, log: Arc<Mutex<Vec<String>>>) -> Self {
        let world = World::new().await;
        let machine = world.machine("m").await;
        let mut random = Random::new(seed);
        let shared = random.noise(3000);
        let data = PLANS.map(|plan| {
            let mut files = Tree::from([("data/".to_owned(), dir()), ("data/shared".to_owned(), file(shared.clone()))]);
            for i in 0..8 {
                let length = random.below(6000);
                files.insert(format!("data/{i}"), file(random.noise(length)));
            }
            let length = 100_000 + random.below(50_000);
            (plan, (files, random.noise(length)))
        });
        let (expected, backups, bad, stored) = Default::default();
        Model { world, machine, two, random, data: data.into(), expected, backups, bad, open: None, stored, log }
    }

    fn say(&self, text: String) {
        self.log.lock().unwrap().push(text);
    }

    /// Changes a plan's data a little and gives its sources.
    fn sources(&mut self, plan: &'static str) -> Vec<Source> {
        let other = PLANS[usize::from(plan == PLANS[0])];
        let borrowed = self.data[other].0.values().filter_map(|f| f.content.clone()).max_by_key(Vec::len);
        let random = &mut self.random;
        let (files, bytes) = self.data.get_mut(plan).unwrap();
        mutate(random, files, bytes, &borrowed.unwrap_or_default());
        vec![tree("files", files), stream("db", bytes.clone())]
    }

    async fn committed(&mut self, manifest: &Manifest, sources: &[Source]) {
        remember(&mut self.expected, manifest, sources);
        let catalog = self.world.person().await;
        let mut needs = BTreeSet::new();
        for reference in manifest.segments() {
            needs.insert(layout::meta_generations(&reference.object.id));
            // The machine's cache has what the run wrote, also where the store's copy was hit.
            let segment = match self.machine.catalog.segment(reference).await {
                Err(_) => catalog.segment(reference).await,
                cached => cached,
            };
            let packs = segment.map(|s| s.packs.iter().map(|p| p.key.id).collect::<Vec<PackId>>()).unwrap_or_default();
            needs.extend(packs.iter().map(layout::pack_generations));
        }
        let whole = self.is_whole(&needs);
        self.say(format!("  -> {} {}", manifest.id, if whole { "whole" } else { "hit" }));
        self.backups.insert((manifest.plan.clone(), manifest.id.clone()), Backup { needs, whole });
    }

    fn is_whole(&self, needs: &BTreeSet<String>) -> bool {
        let stored = self.world.store.snapshot();
        let sound = |key: &String, body: &bytes::Bytes| self.bad.get(key) != Some(body);
        needs.iter().all(|prefix| {
            let prefix = self.world.key(prefix);
            stored.range(prefix.clone()..).take_while(|(k, _)| k.starts_with(&prefix)).any(|(k, b)| sound(k, b))
        })
    }

    async fn reconnect(&mut self) {
        self.machine = self.world.machine(&self.machine.id).await;
    }

    async fn step(&mut self) {
        let plan = PLANS[self.random.below(2)];
        match self.random.below(if self.two { 22 } else { 20 }) {
            20 | 21 => self.take_over(plan).await,
            0..=5 => self.backup(plan).await,
            6 | 7 => self.open_or_feed(plan).await,
            8 => self.commit_open().await,
            9 => self.killed(plan).await,
            10 | 11 => self.forget().await,
            12 | 13 => self.prune().await,
            14..=16 => {
                let hours = [1, 5, 13, 13, 30, 24 * 3, 24 * 8, 24 * 20][self.random.below(8)];
                self.say(format!("{hours} hours"));
                self.world.clock.hours(hours);
            }
            17 => self.damage().await,
            18 => self.check().await,
            _ if self.open.is_none() => self.race(plan).await,
            _ => self.world.store.set_page_size(1 + self.random.below(9)),
        }
        let stored = self.world.store.snapshot();
        if stored != self.stored {
            self.stored = stored;
            self.invariant().await;
        }
    }

    async fn backup(&mut self, plan: &'static str) {
        let sources = self.sources(plan);
        self.say(format!("backup {plan}"));
        self.world.clock.advance(SignedDuration::from_mins(10));
        let manifest = self.machine.backup(plan, &sources).await.unwrap();
        self.committed(&manifest, &sources).await;
    }

    /// The other machine backs up under the host's name. The one that it replaces commits nothing any more.
    async fn take_over(&mut self, plan: &'static str) {
        if self.backups.is_empty() {
            return;
        }
        let sources = self.sources(plan);
        let other = self.world.machine(if self.machine.id == "m" { "n" } else { "m" }).await;
        self.say(format!("{} takes over with {plan}", other.id));
        self.world.clock.advance(SignedDuration::from_mins(10));
        let options = WriterOptions { take_over: true, ..Machine::options() };
        let mut run = other.begin_with(plan, options).await.unwrap();
        run.feed(&sources).await;
        let manifest = run.commit().await.unwrap();
        let replaced = std::mem::replace(&mut self.machine, other);
        self.committed(&manifest, &sources).await;
        if let Some(mut open) = self.open.take() {
            open.run.feed(&open.sources[open.fed..]).await;
            assert_eq!(open.run.commit().await.unwrap_err().kind, Kind::Refused);
        }
        assert_eq!(replaced.backup(plan, &sources).await.unwrap_err().kind, Kind::Refused);
    }

    async fn open_or_feed(&mut self, plan: &'static str) {
        if let Some(open) = &mut self.open {
            if open.fed == 0 {
                let some = open.sources[..1].to_vec();
                open.run.feed(&some).await;
                open.fed = 1;
                self.say("feed the open run".into());
            }
            return;
        }
        let sources = self.sources(plan);
        let begun = self.world.clock.now();
        let mut run = self.machine.begin(plan).await.unwrap();
        let fed = self.random.below(3);
        run.feed(&sources[..fed]).await;
        self.say(format!("open {plan}, {fed} sources fed"));
        self.open = Some(Open { run, plan, sources, fed, begun });
    }

    async fn commit_open(&mut self) {
        let Some(mut open) = self.open.take() else { return };
        open.run.feed(&open.sources[open.fed..]).await;
        let elapsed = self.world.clock.now().duration_since(open.begun);
        self.say(format!("commit the open run of {} after {elapsed}", open.plan));
        match open.run.commit().await {
            Ok(manifest) => self.committed(&manifest, &open.sources).await,
            Err(e) => {
                assert_eq!(e.kind, Kind::Refused, "{e}");
                assert!(elapsed > GRACE - SignedDuration::from_secs(GRACE.as_secs() / 8), "refused too early: {e}");
            }
        }
    }

    /// A run names what is condemned while it goes on, and the prune after the grace time must see that.
    async fn race(&mut self, plan: &'static str) {
        self.backup(plan).await;
        let (files, bytes) = &self.data[plan];
        let sources = vec![tree("files", files), stream("db", bytes.clone())];
        let begun = self.world.clock.now();
        let mut run = self.machine.begin(plan).await.unwrap();
        run.feed(&sources).await;
        self.open = Some(Open { run, plan, sources, fed: 2, begun });
        let of_plan: Vec<Key> = self.backups.keys().filter(|k| k.0.as_str() == plan).cloned().collect();
        self.say(format!("race: {plan} is forgotten under an open run"));
        marks::forget(self.machine.catalog.vault(), &of_plan).await.unwrap();
        of_plan.iter().for_each(|k| drop(self.backups.remove(k)));
        self.world.clock.hours(13);
        self.prune().await;
        self.world.store.set_page_size(1 + self.random.below(9));
        self.commit_open().await;
        self.world.clock.advance(GRACE);
        self.prune().await;
    }

    async fn killed(&mut self, plan: &'static str) {
        let sources = self.sources(plan);
        let puts = self.random.below(8) as i64;
        self.say(format!("{plan} killed after {puts} puts"));
        // The open run shares the line and dies with it.
        self.open = None;
        if let Ok(mut run) = self.machine.begin(plan).await {
            self.machine.gate.dies_after(puts);
            run.feed(&sources).await;
            if let Ok(manifest) = run.commit().await {
                self.committed(&manifest, &sources).await;
            }
        }
        // A manifest may have been the last put.
        let catalog = self.world.person().await;
        for (plan, id) in catalog.ids(None).await.unwrap() {
            if !self.backups.contains_key(&(plan.clone(), id.clone())) {
                let manifest = catalog.manifest(&plan, &id).await.unwrap();
                self.committed(&manifest, &sources).await;
            }
        }
        if self.random.one_in(2) {
            let _ = std::fs::remove_file(&self.machine.journal);
            self.say("  journal lost".into());
        }
        if self.random.one_in(3) {
            let _ = std::fs::remove_dir_all(self.machine.cache.as_ref().unwrap());
            self.say("  cache lost".into());
        }
        self.reconnect().await;
    }

    async fn forget(&mut self) {
        if self.backups.len() < 4 {
            return;
        }
        for _ in 0..1 + self.backups.len() / 4 {
            let key = self.backups.keys().nth(self.random.below(self.backups.len())).unwrap().clone();
            self.say(format!("forget {}", key.1));
            marks::forget(self.machine.catalog.vault(), std::slice::from_ref(&key)).await.unwrap();
            self.backups.remove(&key);
        }
    }

    async fn prune(&mut self) {
        match self.world.prune().await {
            Ok(report) => self.say(format!("prune {report:?}")),
            Err(e) => {
                self.say(format!("prune refused: {}", e.one_line()));
                let hit = self.backups.values().any(|b| !b.whole);
                assert!(self.backups.is_empty() || hit, "prune failed for no reason: {e}");
            }
        }
    }

    async fn damage(&mut self) {
        for _ in 0..1 + self.random.below(3) {
            let mark = self.two && self.random.one_in(5);
            let folder = match mark {
                true => layout::DAMAGED,
                false if self.random.one_in(4) => layout::META,
                false => layout::PACKS,
            };
            let keys = self.world.keys(folder);
            if keys.is_empty() {
                break;
            }
            let key = keys[self.random.below(keys.len())].clone();
            let mut body = self.world.store.raw(&key).unwrap().to_vec();
            // Without its mark, what replaced a damaged pack is garbage to a prune: who deletes it deletes a pack.
            let how = if mark { 1 + self.random.below(2) } else { self.random.below(3) };
            match how {
                0 => drop(self.world.store.remove(&key)),
                1 => {
                    let at = self.random.below(body.len());
                    body[at] ^= 1 << self.random.below(8);
                }
                _ => body.truncate(self.random.below(body.len())),
            }
            self.say(format!("damage {key} ({})", ["deleted", "flipped", "cut"][how]));
            if how > 0 {
                self.world.store.replace(&key, body.clone());
                self.bad.insert(key, body.into());
            }
        }
        let now: Vec<(Key, bool)> = self.backups.iter().map(|(k, b)| (k.clone(), self.is_whole(&b.needs))).collect();
        for (key, whole) in now {
            self.backups.get_mut(&key).unwrap().whole = whole;
        }
        if self.random.one_in(2) {
            self.check().await;
        }
    }

    async fn check(&mut self) {
        let report = self.world.check().await;
        self.say(format!("check: {} of {} whole", report.whole, report.backups));
        let broken: BTreeSet<String> =
            self.backups.iter().filter(|(_, b)| !b.whole).map(|((p, id), _)| format!("{p}/{id}")).collect();
        assert_eq!(report.broken.keys().cloned().collect::<BTreeSet<_>>(), broken, "{:?}", report.findings);
        assert!(report.missing_predecessors.is_empty());
        // Whoever reads nothing knows it from then on, without an identity too.
        let sealed = Catalog::new(self.machine.catalog.vault().clone(), None);
        for catalog in [self.world.person().await, sealed] {
            let glance = self.world.glance(&catalog).await;
            assert_eq!(glance.broken, report.broken, "{:?}", glance.findings);
        }
    }

    async fn invariant(&mut self) {
        let failed = restore_all(&self.world.person().await, &self.expected).await;
        let mut healed = Vec::new();
        for (key, backup) in &self.backups {
            let whole = self.is_whole(&backup.needs);
            assert!(whole || !backup.whole, "{} lost something that nobody damaged", key.1);
            assert_eq!(failed.get(key).map(|e| e.one_line()).is_none(), whole, "{}: {:?}", key.1, failed.get(key));
            if whole && !backup.whole {
                healed.push(key.clone());
            }
        }
        for key in healed {
            self.say(format!("  {} is whole again", key.1));
            self.backups.get_mut(&key).unwrap().whole = true;
        }
        assert!(failed.values().all(|e| e.kind == Kind::Damaged));
    }

    /// All that the host still has is repaired, and all garbage goes.
    async fn settle(&mut self) {
        self.open = None;
        self.say("settle".into());
        self.check().await;
        for plan in PLANS {
            self.backup(plan).await;
        }
        self.invariant().await;
        self.check().await;
        for plan in PLANS {
            let newest = self.backups.iter().rfind(|((p, _), _)| p.as_str() == plan).unwrap();
            assert!(newest.1.whole, "a backup made after a check is whole");
        }
        let hit: Vec<Key> = self.backups.iter().filter(|(_, b)| !b.whole).map(|(k, _)| k.clone()).collect();
        marks::forget(self.machine.catalog.vault(), &hit).await.unwrap();
        hit.iter().for_each(|k| drop(self.backups.remove(k)));
        for _ in 0..3 {
            self.world.clock.advance(GRACE);
            self.prune().await;
            self.invariant().await;
        }
        let needed: BTreeSet<String> =
            self.backups.values().flat_map(|b| &b.needs).map(|prefix| self.world.key(prefix)).collect();
        for key in self.world.keys("packs/").iter().chain(&self.world.keys("meta/")) {
            let prefix = format!("{}-", key.rsplit_once('-').unwrap().0);
            assert!(needed.contains(&prefix), "{key} is garbage and was not deleted");
        }
        self.world.clock.advance(GRACE);
        self.prune().await;
        assert!(self.world.keys(layout::CONDEMNED).is_empty(), "records of what is long gone");
    }
}

fn run(seeds: std::ops::Range<u64>, two: bool) {
    let only = std::env::var("BACKSTAY_SEED").ok().map(|s| s.parse::<u64>().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for seed in seeds.filter(|s| only.is_none_or(|o| o == *s)) {
        let log = Arc::new(Mutex::new(Vec::new()));
        let history = async {
            let mut model = Model::new(seed, two, log.clone()).await;
            for step in 0..STEPS {
                model.say(format!("-- {step}"));
                model.step().await;
            }
            model.settle().await;
        };
        if let Err(panic) = runtime.block_on(AssertUnwindSafe(history).catch_unwind()) {
            let why = panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "see above".into());
            panic!("seed {seed}: {why}\n{}", log.lock().unwrap().join("\n"));
        }
    }
}

#[test]
fn histories_1_to_10() {
    run(1..11, false);
}

#[test]
fn histories_11_to_20() {
    run(11..21, false);
}

#[test]
fn histories_21_to_30() {
    run(21..31, false);
}

#[test]
fn histories_31_to_40() {
    run(31..41, false);
}

#[test]
fn histories_41_to_45_with_a_second_machine() {
    run(41..46, true);
}

#[test]
fn histories_46_to_50_with_a_second_machine() {
    run(46..51, true);
}
