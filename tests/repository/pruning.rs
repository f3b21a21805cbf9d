//! Prune deletes garbage and nothing else, whatever runs beside it.

use crate::data::{self, Random, stream, tree};
use crate::gate::Gate;
use crate::harness::{Expected, GRACE, Machine, World, remember, restore_all, small_tree, started};
use backstay::error::Kind;
use backstay::repository::catalog::Catalog;
use backstay::repository::manifest::Manifest;
use backstay::repository::prune::{self, PruneOptions};
use backstay::repository::{access, layout, marks};
use jiff::SignedDuration;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The packs that the manifests of a vault name.
pub async fn named_packs(world: &World) -> BTreeSet<String> {
    let catalog = world.person().await;
    let mut named = BTreeSet::new();
    for manifest in catalog.all(None).await.unwrap() {
        for reference in manifest.segments() {
            named.extend(
                catalog.segment(reference).await.unwrap().packs.iter().map(|p| world.key(&layout::pack(&p.key))),
            );
        }
    }
    named
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    Random::new(seed).noise(length)
}

/// Forgets one backup.
pub async fn forget(machine: &Machine, manifest: &Manifest) {
    let report = marks::forget(machine.catalog.vault(), &[(manifest.plan.clone(), manifest.id.clone())]).await.unwrap();
    assert_eq!(report.removed.len(), 1);
}

fn pruning(max_share: f64) -> PruneOptions {
    PruneOptions { max_share, dry_run: false }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_prunes_beyond_the_grace_time_leave_what_manifests_name_and_nothing_else() {
    let (world, machine, mut expected) = started().await;
    let mut manifests = Vec::new();
    for i in 0..4 {
        let sources =
            [tree("files", &small_tree(&mut Random::new(i + 1), 20, 4000)), stream("db", noise(i + 50, 60_000))];
        let manifest = machine.remembered(&mut expected, "erp", &sources).await;
        manifests.push(manifest);
        world.clock.hours(24);
    }
    forget(&machine, &manifests[1]).await;
    let before = world.keys("packs/").len();
    let first = world.prune().await.unwrap();
    assert!(first.condemned_objects > 0 && first.deleted_objects == 0, "{first:?}");
    assert_eq!(world.keys("packs/").len(), before, "nothing goes in the first phase");
    world.clock.advance(GRACE - SignedDuration::from_secs(1));
    assert_eq!(world.prune().await.unwrap().deleted_objects, 0, "one second too early");
    world.clock.hours(1);
    let last = world.prune().await.unwrap();
    assert_eq!(last.deleted_objects, first.condemned_objects);
    assert_eq!(world.keys("packs/").into_iter().collect::<BTreeSet<_>>(), named_packs(&world).await);
    assert!(restore_all(&world.person().await, &expected).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_began_before_the_record_is_rescued_and_one_that_began_after_stores_again() {
    let (world, machine, mut expected) = started().await;
    let old = [stream("db", noise(1, 100_000))];
    let first = machine.backup("erp", &old).await.unwrap();
    let other = [stream("db", noise(2, 100_000))];
    machine.remembered(&mut expected, "other", &other).await;
    world.clock.hours(24);

    // Begins while the first backup is there, and names its pack after that backup is gone and its pack condemned.
    let mut running = machine.begin("erp").await.unwrap();
    running.feed(&old).await;
    forget(&machine, &first).await;
    world.clock.hours(1);
    assert_eq!(world.prune().await.unwrap().condemned_objects, 2);
    let late = world.machine_with("m", None).await.backup("erp", &old).await.unwrap();
    assert!(late.stats.shipped > 100_000, "a condemned pack was named again");
    remember(&mut expected, &late, &old);
    world.clock.hours(24 * 5);
    let manifest = running.commit().await.unwrap();
    assert_eq!(manifest.stats.packs, 0);
    remember(&mut expected, &manifest, &old);
    world.clock.hours(24 * 3);
    let report = world.prune().await.unwrap();
    assert_eq!((report.rescued_objects, report.deleted_objects), (2, 0), "{report:?}");
    assert!(restore_all(&world.person().await, &expected).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_prune_does_not_delete_what_was_stored_after_a_faster_one_had_carried_out_the_same_record() {
    let (world, machine, mut expected) = started().await;
    let sources = [stream("db", noise(1, 100_000))];
    let gone = machine.backup("erp", &sources).await.unwrap();
    let others = [stream("db", noise(2, 1000))];
    machine.remembered(&mut expected, "erp", &others).await;
    forget(&machine, &gone).await;
    world.clock.hours(24);
    world.prune().await.unwrap();
    world.clock.advance(GRACE);

    let gate = Gate::new(world.store.clone());
    let vault = access::open_with(gate.clone(), &world.host, &world.unlock()).await.unwrap();
    gate.stops_before("delete", "packs/");
    let slow = tokio::spawn(async move { prune::prune(&Catalog::new(Arc::new(vault), None), pruning(1.0)).await });
    gate.reached.acquire().await.unwrap().forget();
    world.prune().await.unwrap();
    world.clock.advance(SignedDuration::from_mins(5));
    world.prune().await.unwrap();
    let again = world.machine("m").await.backup("erp", &sources).await.unwrap();
    remember(&mut expected, &again, &sources);
    gate.go_on.add_permits(1);
    slow.await.unwrap().unwrap();
    let failed = restore_all(&world.person().await, &expected).await;
    assert!(failed.is_empty(), "{failed:?}");
}

/// A pack is condemned, named all the same by a run that began before, and its backup forgotten again: phase two
/// then deletes pack and record at once. A run whose two readings lie around that must not name the pack.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_safe_wherever_forget_and_prune_fall_between_its_readings() {
    for reading in [layout::CONDEMNED, layout::BACKUPS] {
        let world = World::new().await;
        let machine = world.machine("m").await;
        let mut expected = Expected::new();
        let sources = [stream("db", noise(1, 100_000))];
        let first = machine.backup("erp", &sources).await.unwrap();
        let others = [stream("db", noise(3, 1000))];
        machine.remembered(&mut expected, "other", &others).await;
        world.clock.hours(24);
        let mut running = machine.begin("erp").await.unwrap();
        running.feed(&sources).await;
        forget(&machine, &first).await;
        world.clock.hours(1);
        world.prune().await.unwrap();
        let rescued = running.commit().await.unwrap();
        world.clock.advance(GRACE);

        let run = Arc::new(world.machine("m").await);
        run.gate.stops_before("list", reading);
        let task = {
            let (run, sources) = (run.clone(), sources.clone());
            tokio::spawn(async move { run.backup("erp", &sources).await })
        };
        run.gate.reached.acquire().await.unwrap().forget();
        forget(&machine, &rescued).await;
        assert!(world.prune().await.unwrap().deleted_objects > 0);
        run.gate.go_on.add_permits(1);
        let manifest = task.await.unwrap().unwrap();
        remember(&mut expected, &manifest, &sources);
        let failed = restore_all(&world.person().await, &expected).await;
        assert!(failed.is_empty(), "held before {reading}: {failed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prune_stops_at_what_it_cannot_read_and_at_too_large_a_share() {
    let world = World::new().await;
    let machine = world.machine("m").await;
    let a = machine.backup("erp", &[stream("db", noise(1, 100_000))]).await.unwrap();
    let b = machine.backup("erp", &[stream("db", noise(2, 1000))]).await.unwrap();
    forget(&machine, &a).await;
    world.clock.hours(24);
    let catalog = world.person().await;
    let before = world.store.snapshot();
    let error = prune::prune(&catalog, pruning(0.5)).await.unwrap_err();
    assert_eq!(error.kind, Kind::Refused);
    let dry = prune::prune(&catalog, PruneOptions { max_share: 1.0, dry_run: true }).await.unwrap();
    assert!(dry.condemned_objects > 0);
    assert_eq!(world.store.snapshot(), before);

    let key = world.key(&layout::manifest(&b.plan, &b.id));
    let body = world.store.raw(&key).unwrap();
    world.store.replace(&key, body.slice(..body.len() - 1));
    let error = world.prune().await.unwrap_err();
    assert!(error.kind == Kind::Damaged && error.to_string().contains(b.id.as_str()), "{error}");
    world.store.replace(&key, body);
    let segment = b.segments().next().unwrap();
    world.store.remove(&world.key(&layout::meta(&segment.object)));
    assert_eq!(world.prune().await.unwrap_err().kind, Kind::Damaged);

    world.store.remove(&key);
    assert_eq!(world.prune().await.unwrap_err().kind, Kind::Refused, "no backup found is no reason to delete all");
    assert!(world.keys("condemned/").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_object_stays_condemned_by_one_record_until_the_lock_ends() {
    let world = World::new().await;
    let machine = world.machine("m").await;
    let a = machine.backup("erp", &[stream("db", noise(1, 100_000))]).await.unwrap();
    let locked = world.keys("packs/");
    machine.backup("erp", &[stream("db", noise(2, 1000))]).await.unwrap();
    forget(&machine, &a).await;
    locked.iter().for_each(|k| world.store.lock(k));
    world.prune_out().await;
    let report = world.prune().await.unwrap();
    assert_eq!((report.retained_objects, report.condemned_objects), (1, 0), "{report:?}");
    assert_eq!(world.keys("condemned/").len(), 1);
    assert!(world.store.raw(&locked[0]).is_some());
    locked.iter().for_each(|k| world.store.unlock(k));
    world.prune().await.unwrap();
    assert!(world.store.raw(&locked[0]).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stand_in_of_a_damaged_pack_is_not_garbage() {
    let (world, machine, mut expected) = started().await;
    let sources = [stream("db", noise(1, 100_000))];
    machine.remembered(&mut expected, "erp", &sources).await;
    let pack = world.keys("packs/").pop().unwrap();
    world.store.remove(&pack);
    assert_eq!(world.check().await.whole, 0);
    world.clock.hours(1);
    let second = machine.backup("erp", &sources).await.unwrap();
    world.clock.hours(1);
    let changed = [stream("db", noise(5, 100_000))];
    machine.remembered(&mut expected, "erp", &changed).await;
    // The only manifest that names the stand-in goes; the first backup still lives by it.
    forget(&machine, &second).await;
    assert_eq!(world.check().await.whole, 2);
    world.prune_out().await;
    world.prune_out().await;
    let failed = restore_all(&world.person().await, &expected).await;
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(world.check().await.whole, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_entry_does_not_bring_back_a_condemned_pack() {
    let (world, machine, mut expected) = started().await;
    let kept_sources = [stream("db", noise(2, 1000))];
    machine.remembered(&mut expected, "erp", &kept_sources).await;
    let sources = [stream("db", noise(1, 100_000))];
    // Shipped and never committed; pruned at the first moment at which it is not young.
    let mut run = machine.begin("erp").await.unwrap();
    run.feed(&sources).await;
    machine.gate.dies_after(1);
    run.commit().await.unwrap_err();
    assert_eq!(world.keys("packs/").len(), 2);
    world.clock.hours(13);
    assert_eq!(world.prune().await.unwrap().condemned_objects, 1);
    world.clock.hours(24);
    let machine = world.machine("m").await;
    let again = machine.remembered(&mut expected, "erp", &sources).await;
    assert!(again.stats.shipped > 100_000);
    world.clock.advance(GRACE);
    world.prune().await.unwrap();
    assert!(restore_all(&world.person().await, &expected).await.is_empty());
    let generation = named_packs(&world).await.iter().filter(|k| k.ends_with("-1")).count();
    assert_eq!(generation, 1, "the content lies in generation 1 now");
}

/// A run that begins after the record was written may not name what it condemns, although a backup that was rescued
/// still does: that backup can be forgotten while the run goes on.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_condemned_before_a_run_began_is_not_named_by_it_although_a_backup_still_names_it() {
    // With the packs named by another plan too, only the segment is condemned.
    for packs_live_elsewhere in [false, true] {
        let world = World::new().await;
        let machine = world.machine("m").await;
        let mut expected = Expected::new();
        let bytes = noise(1, 1_500_000);
        let sources = [stream("db", bytes.clone())];
        let first = machine.backup("erp", &sources).await.unwrap();
        let elsewhere = data::Tree::from([("data/copy".to_owned(), data::file(bytes))]);
        let others = [if packs_live_elsewhere { tree("files", &elsewhere) } else { stream("db", noise(3, 1000)) }];
        machine.remembered(&mut expected, "other", &others).await;
        world.clock.hours(24);
        let mut running = machine.begin("erp").await.unwrap();
        running.feed(&sources).await;
        forget(&machine, &first).await;
        world.clock.hours(1);
        world.prune().await.unwrap();
        let rescued = running.commit().await.unwrap();
        world.clock.advance(GRACE - SignedDuration::from_hours(2));
        let mut late = machine.begin("erp").await.unwrap();
        late.feed(&sources).await;
        forget(&machine, &rescued).await;
        world.clock.hours(3);
        assert!(world.prune().await.unwrap().deleted_objects > 0);
        let manifest = late.commit().await.unwrap();
        remember(&mut expected, &manifest, &sources);
        let failed = restore_all(&world.person().await, &expected).await;
        assert!(failed.is_empty(), "{packs_live_elsewhere}: {failed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_journal_does_not_name_what_is_long_gone() {
    let (world, machine, mut expected) = started().await;
    let kept_sources = [stream("db", noise(2, 1000))];
    machine.remembered(&mut expected, "other", &kept_sources).await;
    let sources = [stream("db", noise(1, 100_000))];
    let mut run = machine.begin("erp").await.unwrap();
    run.feed(&sources).await;
    machine.gate.dies_after(1);
    run.commit().await.unwrap_err();
    for _ in 0..3 {
        world.clock.advance(GRACE);
        world.prune().await.unwrap();
    }
    assert!(world.keys("packs/").len() == 1 && world.keys(layout::CONDEMNED).is_empty());
    let again = world.machine("m").await.backup("erp", &sources).await.unwrap();
    remember(&mut expected, &again, &sources);
    let failed = restore_all(&world.person().await, &expected).await;
    assert!(failed.is_empty(), "{failed:?}");
}
