//! What `check` finds damaged, the next backups make whole from live data, and what they cannot they say.

use crate::data::{Content, File, Random, Source, Tree, dir, file, stream, tree};
use crate::harness::{Expected, World, remember, restore_all, small_tree, started};
use backstay::error::Kind;
use backstay::repository::layout;

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_pack_of_a_tree_comes_back_for_old_backups_too() {
    let (world, machine, mut expected) = started().await;
    // Folders, empty files and the tar's end are in the pack as well.
    let mut files = small_tree(&mut Random::new(3), 12, 3000);
    files.insert("data/empty".into(), file(""));
    files.insert("data/folder/".into(), dir());
    let sources = [tree("files", &files)];
    for _ in 0..2 {
        machine.remembered(&mut expected, "erp", &sources).await;
        world.clock.hours(1);
    }
    let packs = world.keys("packs/");
    assert_eq!(packs.len(), 1);
    world.store.remove(&packs[0]);
    let failed = restore_all(&world.person().await, &expected).await;
    assert_eq!(failed.len(), 2);
    assert!(failed.values().all(|e| e.kind == Kind::Damaged && e.to_string().contains(&packs[0]["host-1/".len()..])));
    let report = world.check().await;
    assert_eq!((report.whole, report.findings.len()), (0, 1));
    world.clock.hours(1);
    machine.remembered(&mut expected, "erp", &sources).await;
    let failed = restore_all(&world.person().await, &expected).await;
    assert!(failed.is_empty(), "{failed:?}");
    let report = world.check().await;
    assert_eq!((report.whole, report.findings.len(), report.healed), (3, 0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repaired_pack_is_not_repaired_again_by_every_run() {
    let world = World::new().await;
    let machine = world.machine("m").await;
    let sources =
        [stream("db", Random::new(1).noise(300_000)), tree("files", &small_tree(&mut Random::new(3), 5, 3000))];
    machine.backup("erp", &sources).await.unwrap();
    for pack in world.keys("packs/") {
        world.store.remove(&pack);
    }
    world.check().await;
    world.clock.hours(1);
    machine.backup("erp", &sources).await.unwrap();
    let after_first = world.keys("packs/");
    for _ in 0..3 {
        world.clock.hours(24);
        let manifest = machine.backup("erp", &sources).await.unwrap();
        assert_eq!((manifest.stats.packs, manifest.stats.repaired), (0, 0));
    }
    assert_eq!(world.keys("packs/"), after_first);
    let ids: std::collections::BTreeSet<&str> = after_first.iter().map(|k| k.rsplit_once('-').unwrap().0).collect();
    assert_eq!(ids.len(), after_first.len(), "one stand-in per pack: {after_first:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_damaged_packs_than_one_run_rebuilds_are_rebuilt_by_the_runs_after_it() {
    let (world, machine, mut expected) = started().await;
    let mut random = Random::new(9);
    // Nine packs of files: each run adds one of its own.
    let mut files = Tree::new();
    for i in 0..9 {
        files.insert(format!("data/{i}"), file(random.noise(20_000)));
        let sources = [tree("files", &files)];
        machine.remembered(&mut expected, "erp", &sources).await;
        world.clock.hours(1);
    }
    let packs = world.keys("packs/");
    assert_eq!(packs.len(), 9);
    for pack in &packs {
        world.store.remove(pack);
    }
    assert_eq!(world.check().await.whole, 0);
    let sources = [tree("files", &files)];
    for _ in 0..4 {
        machine.remembered(&mut expected, "erp", &sources).await;
        world.clock.hours(1);
    }
    let failed = restore_all(&world.person().await, &expected).await;
    // The ends of the earlier tars lie in packs that no longer exist anywhere else, hence all are needed.
    assert!(failed.len() <= 2, "{:?}", failed.keys());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_segment_does_not_get_into_the_next_backup_and_old_backups_heal() {
    for with_cache in [true, false] {
        let world = World::new().await;
        let machine = world.machine("m").await;
        let mut expected = Expected::new();
        let sources =
            [stream("db", Random::new(1).noise(400_000)), tree("files", &small_tree(&mut Random::new(2), 9, 900))];
        let first = machine.remembered(&mut expected, "erp", &sources).await;
        world.clock.hours(1);
        for segment in first.segments() {
            world.store.remove(&world.key(&layout::meta(&segment.object)));
        }
        let report = world.check().await;
        assert_eq!((report.whole, report.findings.len()), (0, 2), "{:?}", report.findings);
        if !with_cache {
            std::fs::remove_dir_all(machine.cache.as_ref().unwrap()).unwrap();
        }
        let second = machine.remembered(&mut expected, "erp", &sources).await;
        let failed = restore_all(&world.person().await, &expected).await;
        assert!(!failed.contains_key(&(second.plan.clone(), second.id.clone())), "cache {with_cache}: {failed:?}");
        if with_cache {
            assert!(failed.is_empty(), "{failed:?}");
            assert_eq!(world.check().await.whole, 2);
            world.prune_out().await;
            world.prune_out().await;
            assert!(restore_all(&world.person().await, &expected).await.is_empty());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_host_no_longer_has_stays_damaged_and_is_named() {
    let (world, machine, mut expected) = started().await;
    let old = [stream("db", Random::new(1).noise(300_000))];
    let first = machine.remembered(&mut expected, "erp", &old).await;
    let pack = world.keys("packs/").pop().unwrap();
    let body = world.store.raw(&pack).unwrap();
    world
        .store
        .replace(&pack, [&body[..body.len() / 2], &[body[body.len() / 2] ^ 1], &body[body.len() / 2 + 1..]].concat());
    world.check().await;
    let new = [stream("db", Random::new(2).noise(300_000))];
    machine.remembered(&mut expected, "erp", &new).await;
    let failed = restore_all(&world.person().await, &expected).await;
    assert_eq!(failed.keys().collect::<Vec<_>>(), [&(first.plan.clone(), first.id.clone())]);
    let report = world.check().await;
    assert_eq!((report.backups, report.whole), (2, 1));
    assert_eq!(report.broken.keys().collect::<Vec<_>>(), [&format!("erp/{}", first.id)]);
    assert!(report.findings[0].object.ends_with(pack.rsplit('/').next().unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_breaks_does_not_take_another_one_with_it() {
    // Both have a file of the same content. The broken source reads it first and never ships its open pack.
    let world = World::new().await;
    let machine = world.machine("m").await;
    let shared = file(Random::new(4).noise(5000));
    let only = |f: &File| Tree::from([("data/same".to_owned(), f.clone())]);
    let sources = [Source { name: "a".into(), content: Content::Broken(only(&shared)) }, tree("b", &only(&shared))];
    let manifest = machine.backup("erp", &sources).await.unwrap();
    assert!(!manifest.is_complete() && manifest.source(&"b".parse().unwrap()).unwrap().is_complete());
    let mut expected = Expected::new();
    remember(&mut expected, &manifest, &sources);
    assert!(restore_all(&world.person().await, &expected).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_pack_that_cannot_be_rebuilt_is_not_named_again() {
    let (world, machine, mut expected) = started().await;
    let mut bytes = Random::new(1).noise(3 << 20);
    let first = [stream("db", bytes.clone())];
    machine.remembered(&mut expected, "erp", &first).await;
    let packs = world.keys("packs/");
    assert_eq!(packs.len(), 1);
    world.store.remove(&packs[0]);
    world.check().await;
    world.clock.hours(1);
    // The end is another one, most chunks are the same.
    let end = bytes.len() - 1000;
    bytes[end..].fill(7);
    let second = [stream("db", bytes)];
    let manifest = machine.remembered(&mut expected, "erp", &second).await;
    let failed = restore_all(&world.person().await, &expected).await;
    assert_eq!(failed.len(), 1, "the second backup is whole: {failed:?}");
    assert!(!failed.contains_key(&(manifest.plan, manifest.id)));
}

/// The check cannot read the segment and does not know of the pack; the cache still has the segment.
#[tokio::test(flavor = "multi_thread")]
async fn a_pack_that_only_a_damaged_segment_names_is_not_trusted() {
    let (world, machine, mut expected) = started().await;
    let sources =
        [stream("db", Random::new(1).noise(400_000)), tree("files", &small_tree(&mut Random::new(2), 9, 900))];
    machine.remembered(&mut expected, "erp", &sources).await;
    world.clock.hours(1);
    for key in [world.keys("meta/"), world.keys("packs/")].concat() {
        world.store.remove(&key);
    }
    world.check().await;
    let second = machine.remembered(&mut expected, "erp", &sources).await;
    let failed = restore_all(&world.person().await, &expected).await;
    assert!(!failed.contains_key(&(second.plan, second.id)), "{failed:?}");
}
