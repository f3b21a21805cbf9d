//! What a check that read has marked: later checks that read little or nothing know it, until it is healed or disproved.

use crate::data::{Random, stream, tree};
use crate::harness::{Expected, GRACE, Machine, World, name, restore_all, small_tree, started};
use backstay::error::Kind;
use backstay::model::PackKey;
use backstay::repository::catalog::Catalog;
use backstay::repository::check::{self, Depth, Part};
use backstay::repository::damage::{self, Lacking};
use backstay::repository::{layout, marks};
use backstay::storage::{ErrorKind, StorageError};
use backstay::telemetry::monitor::Silent;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

/// Changes a byte in the middle of an object.
fn flip(world: &World, key: &str) {
    let mut body = world.store.raw(key).unwrap().to_vec();
    let middle = body.len() / 2;
    body[middle] ^= 1;
    world.store.replace(key, body);
}

/// A sealed machine's view without a cache.
fn sealed(machine: &Machine) -> Catalog {
    Catalog::new(machine.catalog.vault().clone(), None)
}

/// Two backups of one stream, each with a pack of its own; the packs in the order of the backups.
async fn two() -> (World, Machine, Expected, Vec<PackKey>) {
    let (world, machine, mut expected) = started().await;
    let mut packs = Vec::new();
    for seed in 1..3 {
        let manifest = machine.remembered(&mut expected, "erp", &[stream("db", Random::new(seed).noise(5000))]).await;
        let segment = machine.catalog.segment(manifest.segments().next().unwrap()).await.unwrap();
        packs.push(segment.packs[0].key);
        world.clock.hours(1);
    }
    (world, machine, expected, packs)
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_that_was_found_is_known_to_every_later_check_and_to_retention() {
    let (world, machine, expected, packs) = two().await;
    flip(&world, &world.key(&layout::pack(&packs[1])));
    // Names and sizes are as they should be.
    assert!(world.glance(&world.person().await).await.is_clean());
    assert_eq!(world.check().await.whole, 1);
    for catalog in [world.person().await, sealed(&machine)] {
        let glance = world.glance(&catalog).await;
        assert_eq!((glance.whole, glance.findings.len(), glance.unmarked), (1, 1, 0), "{glance:?}");
        assert!(glance.findings[0].what.contains("marked as damaged 2026-01-05"), "{}", glance.findings[0].what);
        assert!(glance.findings[0].what.contains("CRC"), "{}", glance.findings[0].what);
    }
    let newest = expected.keys().max_by_key(|(_, id)| id.clone()).unwrap().clone();
    let lost = damage::unhealed(machine.catalog.vault()).await.unwrap();
    let lacking = damage::lacking(&machine.catalog, None, &lost).await.unwrap();
    let sources = HashSet::from([(newest.0.clone(), newest.1, name("db"))]);
    assert_eq!(lacking, Lacking { sources, objects: HashSet::from([packs[1]]) });
    assert_eq!(damage::lacking(&machine.catalog, Some(&name("other")), &lost).await.unwrap(), Lacking::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_marked_pack_is_read_by_every_share_and_its_mark_goes_when_it_reads_well() {
    let (world, machine, _, packs) = two().await;
    let pack = world.key(&layout::pack(&packs[1]));
    let good = world.store.raw(&pack).unwrap();
    flip(&world, &pack);
    assert_eq!(world.check().await.whole, 1);
    let share = async || {
        let part = Part::after(Some(Path::new("/nowhere")), 1e-9);
        check::check(&world.person().await, None, Depth::Read(part), Arc::new(Silent)).await.unwrap()
    };
    let report = share().await;
    assert_eq!((report.whole, report.packs_read, report.taken_back), (1, 1, 0), "{report:?}");
    // It was the store, or a cable.
    world.store.replace(&pack, good);
    assert_eq!(world.glance(&sealed(&machine)).await.whole, 1);
    let report = share().await;
    assert_eq!((report.whole, report.packs_read, report.taken_back), (2, 1, 1), "{report:?}");
    assert!(report.is_clean() && world.keys(layout::DAMAGED).is_empty());
    assert!(world.glance(&sealed(&machine)).await.is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mark_of_a_pack_that_another_generation_replaces_or_that_is_condemned_stays() {
    let (world, machine, mut expected, packs) = two().await;
    let pack = world.key(&layout::pack(&packs[1]));
    let good = world.store.raw(&pack).unwrap();
    flip(&world, &pack);
    world.check().await;
    machine.remembered(&mut expected, "erp", &[stream("db", Random::new(2).noise(5000))]).await;
    world.store.replace(&pack, good);
    let report = world.check().await;
    assert!(report.is_clean() && report.taken_back == 0, "{report:?}");
    assert_eq!(world.keys(layout::DAMAGED).len(), 1);

    // Condemned, and a manifest that came too late names it: a prune that did not see that one still deletes it.
    let (world, machine, _, packs) = two().await;
    let vault = machine.catalog.vault();
    let forgotten: Vec<_> = machine.catalog.ids(None).await.unwrap().into_iter().take(1).collect();
    let manifest = world.key(&layout::manifest(&forgotten[0].0, &forgotten[0].1));
    let late = world.store.raw(&manifest).unwrap();
    marks::forget(vault, &forgotten).await.unwrap();
    world.clock.hours(24);
    assert_eq!(world.prune().await.unwrap().condemned_objects, 2);
    world.store.replace(&manifest, late);
    marks::mark_damaged(vault, &packs[0], marks::LATE).await.unwrap();
    let report = world.check().await;
    assert_eq!((report.whole, report.taken_back), (1, 0), "{report:?}");
    assert!(report.findings[0].what.contains("condemned before"), "{report:?}");
    // Nor while one that read it may still be at work, though its record is gone.
    for record in world.keys(layout::CONDEMNED) {
        world.store.remove(&record);
    }
    assert_eq!(world.check().await.taken_back, 0);
    world.clock.advance(GRACE + GRACE);
    world.clock.hours(1);
    let report = world.check().await;
    assert!(report.taken_back == 1 && report.is_clean(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stand_in_that_is_damaged_too_is_marked_and_stored_once_more() {
    let (world, machine, mut expected) = started().await;
    let sources = [stream("db", Random::new(1).noise(30_000)), tree("files", &small_tree(&mut Random::new(2), 5, 900))];
    machine.remembered(&mut expected, "erp", &sources).await;
    for round in 1..4 {
        world.clock.hours(1);
        for pack in world.keys("packs/") {
            flip(&world, &pack);
        }
        assert_eq!(world.check().await.whole, 0, "round {round}");
        assert_eq!(world.glance(&sealed(&machine)).await.whole, 0, "round {round}");
        machine.remembered(&mut expected, "erp", &sources).await;
        let failed = restore_all(&world.person().await, &expected).await;
        assert!(failed.is_empty(), "round {round}: {failed:?}");
        assert!(world.check().await.is_clean(), "round {round}");
        for pack in world.keys("packs/") {
            let key = layout::parse_pack(&pack["host-1/".len()..]).unwrap();
            if key.generation < round {
                world.store.remove(&pack);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn false_marks_on_segments_and_on_stand_ins_go_when_those_are_read() {
    let (world, machine, mut expected, packs) = two().await;
    let vault = machine.catalog.vault();
    let newest = machine.catalog.all(None).await.unwrap().pop().unwrap();
    let segment = newest.segments().next().unwrap().object;
    marks::mark_damaged(vault, &segment, "a bad cable").await.unwrap();
    assert_eq!(damage::unhealed(vault).await.unwrap(), HashSet::from([segment]));
    // Every check reads segments.
    let report = world.glance(&sealed(&machine)).await;
    assert!(report.is_clean() && report.taken_back == 1, "{report:?}");
    assert!(world.keys(layout::DAMAGED).is_empty());

    // The second generation stands in for the first, and is called damaged.
    flip(&world, &world.key(&layout::pack(&packs[1])));
    world.check().await;
    machine.remembered(&mut expected, "erp", &[stream("db", Random::new(2).noise(5000))]).await;
    assert!(world.check().await.is_clean() && damage::unhealed(vault).await.unwrap().is_empty());
    let other = PackKey { generation: 1, ..packs[1] };
    assert!(world.store.raw(&world.key(&layout::pack(&other))).is_some());
    marks::mark_damaged(vault, &other, "a bad cable").await.unwrap();
    assert_eq!(damage::unhealed(vault).await.unwrap(), HashSet::from([packs[1], other]));
    let report = world.check().await;
    assert!(report.is_clean() && report.taken_back == 1, "{report:?}");
    assert_eq!(world.keys(layout::DAMAGED), [world.key(&layout::damaged(&packs[1]))]);
    assert!(damage::unhealed(vault).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_generation_stands_in_as_well_as_a_later_one() {
    let (world, machine, _, packs) = two().await;
    let vault = machine.catalog.vault();
    let later = PackKey { generation: 1, ..packs[1] };
    let body = world.store.raw(&world.key(&layout::pack(&packs[1]))).unwrap();
    world.store.replace(&world.key(&layout::pack(&later)), body);
    marks::mark_damaged(vault, &later, "why").await.unwrap();
    assert!(damage::unhealed(vault).await.unwrap().is_empty());
    marks::mark_damaged(vault, &packs[1], "why").await.unwrap();
    assert_eq!(damage::unhealed(vault).await.unwrap(), HashSet::from([packs[1], later]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_that_a_lock_keeps_is_not_said_to_be_gone_and_an_error_of_the_store_is_no_verdict() {
    let (world, machine, _, packs) = two().await;
    let vault = machine.catalog.vault();
    marks::mark_damaged(vault, &packs[0], "why").await.unwrap();
    world.store.lock(&world.key(&layout::damaged(&packs[0])));
    let report = world.check().await;
    assert_eq!((report.taken_back, report.marks_kept, report.is_clean()), (0, 1, true), "{report:?}");
    let lost = damage::unhealed(vault).await.unwrap();
    assert_eq!(lost, HashSet::from([packs[0]]));
    let catalog = sealed(&machine);
    world.store.set_fault(|op, key| {
        let manifest = op == "get" && key.contains("/backups/");
        manifest.then(|| StorageError::new(ErrorKind::Unavailable, op, key, "a cable"))
    });
    let error = damage::lacking(&catalog, None, &lost).await.unwrap_err();
    assert_eq!(error.kind, Kind::Storage);
}
