//! Checks that read a share of the packs come round, however often they run.

use crate::data::{Random, stream};
use crate::harness::{World, started};
use backstay::repository::check::{self, Depth, Part};
use backstay::telemetry::monitor::Silent;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// One check of a share; the packs that it found damaged. What others marked it would read in any case.
async fn read_share(world: &World, note: &Path, share: f64) -> BTreeSet<String> {
    for mark in world.keys("damaged/") {
        world.store.remove(&mark);
    }
    let part = Part::after(Some(note), share);
    let report = check::check(&world.person().await, None, Depth::Read(part), Arc::new(Silent)).await.unwrap();
    part.note(note).unwrap();
    let found: BTreeSet<String> = report.findings.into_iter().map(|f| world.key(&f.object)).collect();
    assert_eq!(found.len() as u64, report.packs_read, "every pack that was read is damaged");
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_reads_everything_within_as_many_checks_as_it_promises_on_any_schedule() {
    let (world, machine, _) = started().await;
    let mut random = Random::new(1);
    for _ in 0..30 {
        machine.backup("erp", &[stream("db", random.noise(3000))]).await.unwrap();
        world.clock.hours(1);
    }
    let packs: BTreeSet<String> = world.keys("packs/").into_iter().collect();
    assert!(packs.len() >= 30);
    for key in &packs {
        let mut body = world.store.raw(key).unwrap().to_vec();
        let middle = body.len() / 2;
        body[middle] ^= 1;
        world.store.replace(key, body);
    }
    // Once a week, several times a day, once a month: seven parts of 15 %, by time, would be the same one each week.
    for (hours, machine) in [(7 * 24, "weekly"), (5, "often"), (30 * 24, "monthly")] {
        let note = world.dir.path().join(machine).join("checked");
        let mut found = BTreeSet::new();
        for _ in 0..7 {
            let part = read_share(&world, &note, 0.15).await;
            assert!(part.len() < packs.len() / 2, "{} of {}", part.len(), packs.len());
            found.extend(part);
            world.clock.hours(hours);
        }
        assert_eq!(found, packs, "{machine}");
    }
    // A share that changes goes on where the other ended.
    let note = world.dir.path().join("changing").join("checked");
    let mut found = BTreeSet::new();
    for share in [0.3, 0.1, 0.4, 0.2] {
        found.extend(read_share(&world, &note, share).await);
    }
    assert_eq!(found, packs);
}
