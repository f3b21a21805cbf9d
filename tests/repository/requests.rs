//! How many requests there are, and how many at once: a store that is far away takes its time for each.

use crate::data::{Random, file, stream, tree};
use crate::harness::{Expected, Machine, World, name, remember, restore_all, small_tree};
use backstay::repository::check::{self, Depth};
use backstay::repository::layout;
use backstay::repository::marks;
use backstay::repository::prune::{self, PruneOptions};
use backstay::repository::writer::WriterOptions;
use backstay::telemetry::monitor::Silent;
use std::sync::{Arc, Mutex};

/// A machine without a cache, and some backups.
async fn distant() -> (World, Machine) {
    let world = World::new().await;
    let machine = world.machine_with("m", None).await;
    let mut random = Random::new(1);
    for _ in 0..20 {
        machine.backup("erp", &[stream("db", random.noise(9000))]).await.unwrap();
        world.clock.hours(1);
    }
    (world, machine)
}

#[tokio::test(flavor = "multi_thread")]
async fn check_and_prune_list_and_read_side_by_side_and_not_all_at_once() {
    let (_world, machine) = distant().await;
    let dry = PruneOptions { max_share: 1.0, dry_run: true };
    for op in ["list", "get"] {
        machine.gate.takes(op, 2);
        let report = check::check(&machine.catalog, None, Depth::Structure, Arc::new(Silent)).await.unwrap();
        assert!(report.is_clean() && report.whole == 20, "{report:?}");
        assert!((9..=16).contains(&machine.gate.most_at_once()), "check: {} {op}", machine.gate.most_at_once());
        machine.gate.takes(op, 2);
        prune::prune(&machine.catalog, dry).await.unwrap();
        assert!((9..=16).contains(&machine.gate.most_at_once()), "prune: {} {op}", machine.gate.most_at_once());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_neither_lists_packs_nor_reads_one() {
    let (world, machine) = distant().await;
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = asked.clone();
    world.store.set_fault(move |op, key| {
        if matches!(op, "list" | "get" | "stat") && key.contains("/packs/") {
            log.lock().unwrap().push(format!("{op} {key}"));
        }
        None
    });
    let sources = [stream("db", Random::new(1).noise(9000)), tree("files", &small_tree(&mut Random::new(2), 20, 3000))];
    for _ in 0..2 {
        machine.backup("erp", &sources).await.unwrap();
        world.clock.hours(1);
    }
    assert!(asked.lock().unwrap().is_empty(), "{:?}", asked.lock().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn forget_deletes_side_by_side_and_reports_in_order() {
    let (world, machine) = distant().await;
    let mut doomed = machine.catalog.ids(Some(&name("erp"))).await.unwrap();
    doomed.pop();
    world.store.lock(&world.key(&layout::manifest(&doomed[4].0, &doomed[4].1)));
    machine.gate.takes("delete", 2);
    let report = marks::forget(machine.catalog.vault(), &doomed).await.unwrap();
    assert!((9..=16).contains(&machine.gate.most_at_once()), "{} at once", machine.gate.most_at_once());
    assert_eq!(report.retained, [doomed.remove(4)]);
    assert_eq!(report.removed, doomed);
    assert_eq!(world.keys("backups/").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_behind_a_pack_that_is_on_its_way_does_not_make_a_pack_of_each_file() {
    let world = World::new().await;
    let machine = world.machine("m").await;
    let mut random = Random::new(2);
    let mut files = small_tree(&mut random, 40, 3000);
    // Fills the first pack exactly, and comes before the small ones, which wait for it.
    files.insert("data/!".into(), file(random.noise(4 << 20)));
    files.remove("data/");
    let sources = [tree("files", &files)];
    machine.gate.stops_before("put", "/packs/");
    let mut run = machine.begin_with("erp", WriterOptions { waiting: 5, ..Machine::options() }).await.unwrap();
    run.feed(&sources).await;
    machine.gate.go_on.add_permits(1);
    let manifest = run.commit().await.unwrap();
    assert!(manifest.stats.packs <= 3, "{:?}", manifest.stats);
    let mut expected = Expected::new();
    remember(&mut expected, &manifest, &sources);
    assert!(restore_all(&world.person().await, &expected).await.is_empty());
}
