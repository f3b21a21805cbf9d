//! When it cannot be known what a prune may delete: a damaged condemned record, and a manifest that comes too late.

use crate::data::{Random, stream, tree};
use crate::harness::{GRACE, World, remember, restore_all, small_tree, started};
use crate::pruning::forget;
use backstay::error::Kind;
use backstay::repository::condemned::Condemned;
use backstay::repository::record::RecordKind;
use backstay::storage::{ErrorKind, StorageError};
use jiff::SignedDuration;

fn noise(seed: u64) -> Vec<u8> {
    Random::new(seed).noise(100_000)
}

fn damage(world: &World, key: &str) -> Vec<u8> {
    let good = world.store.raw(key).unwrap().to_vec();
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    world.store.replace(key, bad);
    good
}

fn generations(world: &World, folder: &str) -> Vec<u32> {
    world.keys(folder).iter().map(|k| k.rsplit_once('-').unwrap().1.parse().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_condemned_record_costs_one_full_backup_at_most_and_goes_by_itself() {
    let (world, machine, mut expected) = started().await;
    let sources = [stream("db", noise(1)), tree("files", &small_tree(&mut Random::new(2), 10, 3000))];
    let gone = machine.backup("erp", &[stream("db", noise(9))]).await.unwrap();
    world.clock.hours(1);
    let before = machine.remembered(&mut expected, "erp", &sources).await;
    forget(&machine, &gone).await;
    world.clock.hours(24);
    world.prune().await.unwrap();
    let record = world.keys("condemned/").pop().unwrap();
    damage(&world, &record);
    world.clock.hours(2);
    // Nothing of before may be named: all is read and stored, under names that no record can forbid.
    let (packs, segments) = (world.keys("packs/"), world.keys("meta/"));
    let full = machine.remembered(&mut expected, "erp", &sources).await;
    assert_eq!(full.stats.new, before.stats.new);
    assert!(
        generations(&world, "packs/").iter().filter(|g| **g >= 1 << 16).count()
            >= world.keys("packs/").len() - packs.len()
    );
    assert!(full.segments().all(|s| s.object.generation >= 1 << 16 && s.object.generation < 1 << 31));
    assert!(world.keys("meta/").len() == segments.len() + full.segments().count());
    // That one began after the record: what it names is safe, and the next one is cheap again.
    world.clock.hours(24);
    let next = machine.remembered(&mut expected, "erp", &sources).await;
    assert_eq!((next.stats.new, next.stats.packs), (0, 0), "{:?}", next.stats);
    // Prune goes on, and removes the record when nobody can act on it any more.
    let report = world.prune().await.unwrap();
    assert!(report.unreadable_records == 1 && report.condemned_objects > 0, "{report:?}");
    world.clock.advance(GRACE);
    world.prune().await.unwrap();
    assert!(world.keys("condemned/").contains(&record));
    world.clock.advance(GRACE);
    world.prune().await.unwrap();
    assert!(!world.keys("condemned/").contains(&record));
    let failed = restore_all(&world.person().await, &expected).await;
    assert!(failed.is_empty(), "{failed:?}");
    assert!(world.check().await.is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_that_only_a_damaged_record_condemns_is_not_named_again() {
    let (world, machine, mut expected) = started().await;
    let sources = [stream("db", noise(1))];
    let other = [stream("other", noise(2))];
    machine.remembered(&mut expected, "other", &other).await;
    let first = machine.backup("erp", &sources).await.unwrap();
    world.clock.hours(24);
    // A run that began before the record names the pack that it condemns.
    let mut run = machine.begin("erp").await.unwrap();
    run.feed(&sources).await;
    forget(&machine, &first).await;
    world.prune().await.unwrap();
    let second = run.commit().await.unwrap();
    let record = world.keys("condemned/").pop().unwrap();
    let good = damage(&world, &record);
    world.clock.hours(30);
    let mut run = machine.begin("erp").await.unwrap();
    run.feed(&sources).await;
    // Somebody who can read the record carries it out.
    world.store.replace(&record, good);
    forget(&machine, &second).await;
    world.clock.advance(GRACE - SignedDuration::from_hours(29));
    assert!(world.prune().await.unwrap().deleted_objects > 0);
    let third = run.commit().await.unwrap();
    remember(&mut expected, &third, &sources);
    let failed = restore_all(&world.person().await, &expected).await;
    assert!(failed.is_empty(), "{failed:?}");
}

/// A run whose manifest waits in the line while a prune deletes what it names. `deletes` says whether the host may.
async fn too_late(deletes: bool) {
    let (world, machine, mut expected) = started().await;
    machine.remembered(&mut expected, "other", &[stream("other", noise(2))]).await;
    let sources = [stream("db", noise(1))];
    let first = machine.backup("erp", &sources).await.unwrap();
    world.clock.hours(24);
    let mut run = machine.begin("erp").await.unwrap();
    let id = run.writer.id().clone();
    run.feed(&sources).await;
    machine.gate.stops_before("put", "backups/");
    let committing = tokio::spawn(run.commit());
    machine.gate.reached.acquire().await.unwrap().forget();
    forget(&machine, &first).await;
    world.clock.hours(1);
    world.prune().await.unwrap();
    world.clock.advance(GRACE);
    assert!(world.prune().await.unwrap().deleted_objects > 0);
    if !deletes {
        world.store.set_fault(|op, key| {
            (op == "delete").then(|| StorageError::new(ErrorKind::Denied, op, key, "append-only"))
        });
    }
    machine.gate.go_on.add_permits(1);
    let error = committing.await.unwrap().unwrap_err();
    world.store.clear_faults();
    assert!(error.kind == Kind::Refused && error.to_string().contains("were condemned"), "{error}");
    let there = world.keys("backups/erp/").iter().any(|k| k.ends_with(id.as_str()));
    assert_eq!(there, !deletes);
    assert_eq!(world.keys("damaged/").is_empty(), deletes);
    // The next one does not trust it.
    let next = machine.remembered(&mut expected, "erp", &sources).await;
    if !deletes {
        forget(&machine, &machine.catalog.manifest(&next.plan, &id).await.unwrap()).await;
    }
    let failed = restore_all(&world.person().await, &expected).await;
    assert!(failed.is_empty(), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_comes_too_late_is_taken_back() {
    too_late(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_only_host_marks_what_its_late_manifest_lacks() {
    too_late(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_manifest_of_which_nothing_was_condemned_is_good() {
    let (world, machine, mut expected) = started().await;
    let sources = [stream("db", noise(1))];
    for late in [GRACE, GRACE + GRACE] {
        let mut run = machine.begin("erp").await.unwrap();
        run.feed(&sources).await;
        machine.gate.stops_before("put", "backups/");
        let committing = tokio::spawn(run.commit());
        machine.gate.reached.acquire().await.unwrap().forget();
        world.clock.advance(late);
        machine.gate.go_on.add_permits(1);
        match committing.await.unwrap() {
            Ok(manifest) if late == GRACE => remember(&mut expected, &manifest, &sources),
            // Records may have come and gone.
            Err(e) if late > GRACE => assert!(e.to_string().contains("is not known"), "{e}"),
            other => panic!("{late}: {other:?}"),
        }
    }
    assert!(restore_all(&world.person().await, &expected).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_others_can_read_stops_the_run() {
    let world = World::new().await;
    let machine = world.machine("m").await;
    let person = world.person().await;
    // The host was not told of the new epoch.
    let rotated = backstay::repository::keyring::rotate(person.vault(), None, None).await.unwrap();
    let at = world.clock.now();
    let record = Condemned { format: 1, at, packs: vec![], segments: vec![], carried_out: false };
    let key = "condemned/20260105T020000Z-000000";
    rotated.write_record(RecordKind::Condemned, key, &record).await.unwrap();
    assert_eq!(machine.backup("erp", &[stream("db", "x")]).await.unwrap_err().kind, Kind::Key);
}
