//! The store's clock decides, and a clock that is wrong loses nothing: neither a host's nor the store's own.

use crate::data::{Random, file, stream, tree};
use crate::harness::{GRACE, restore_all, small_tree, started};
use crate::pruning::forget;
use backstay::error::Kind;
use backstay::model::{BackupId, Name};
use backstay::repository::condemned::condemned_records;
use backstay::repository::manifest::Manifest;
use backstay::repository::prune::{self, PruneOptions};
use backstay::repository::retention::{self, Keep, Respect};
use backstay::repository::{claims, marks};
use jiff::{SignedDuration, Timestamp};

const YEAR: SignedDuration = SignedDuration::from_hours(365 * 24);

/// What `forget` would do at a time of the store: what stays and what goes, oldest first.
fn judged(manifests: &[Manifest], keep: &Keep, now: Timestamp) -> (Vec<BackupId>, Vec<(Name, BackupId)>) {
    let verdicts = retention::decide(manifests, keep, &Respect::default(), now).unwrap();
    let (stays, goes): (Vec<_>, Vec<_>) = verdicts.into_iter().partition(|v| !v.reasons.is_empty());
    (stays.into_iter().map(|v| v.id).collect(), goes.into_iter().map(|v| (v.plan, v.id)).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hosts_clock_that_is_a_year_off_changes_neither_order_nor_age_nor_grace_time() {
    let (world, machine, mut expected) = started().await;
    let mut random = Random::new(1);
    let mut files = small_tree(&mut random, 10, 3000);
    let mut made: Vec<Manifest> = Vec::new();
    let right = SignedDuration::ZERO;
    for (day, off) in [right, YEAR, right, -YEAR, -YEAR, YEAR, right].into_iter().enumerate() {
        machine.clock.is_off_by(off);
        files.insert(format!("data/new-{day}"), file(random.noise(2000)));
        let sources = [tree("files", &files), stream("db", random.noise(20_000))];
        let manifest = machine.remembered(&mut expected, "erp", &sources).await;
        let now = world.clock.now();
        assert_eq!((manifest.store_time, manifest.started, manifest.finished), (now, now + off, now + off));
        if let Some(before) = made.last() {
            assert!(manifest.id > before.id, "{} does not come after {}", manifest.id, before.id);
            assert_eq!(manifest.predecessor.as_ref(), Some(&before.id));
        }
        made.push(manifest);
        world.clock.hours(24);
    }
    let report = world.check().await;
    assert!(report.is_clean() && report.whole == 7, "{report:?}");
    // Rules count days of the store, whose last three are these, and ages too.
    let vault = machine.catalog.vault();
    let last: Vec<BackupId> = made[4..].iter().map(|m| m.id.clone()).collect();
    let mut goes = Vec::new();
    for keep in [
        Keep { daily: 3, ..Keep::default() },
        Keep { within: Some(SignedDuration::from_hours(3 * 24)), ..Keep::default() },
    ] {
        let all = machine.catalog.all(None).await.unwrap();
        let verdict = judged(&all, &keep, vault.now().await.unwrap());
        assert_eq!(verdict.0, last);
        goes = verdict.1;
    }
    // A machine whose clock is a year ahead forgets and prunes: it writes down the store's time, and waits by it.
    machine.clock.is_off_by(YEAR);
    assert_eq!(marks::forget(vault, &goes).await.unwrap().removed.len(), 4);
    let options = PruneOptions { max_share: 1.0, dry_run: false };
    let condemned = prune::prune(&machine.catalog, options).await.unwrap().condemned_objects;
    assert!(condemned > 0);
    let records = condemned_records(vault).await.unwrap();
    assert!(records.iter().all(|(_, record)| record.at == world.clock.now()));
    assert_eq!(marks::record_proof(vault, "recovery").await.unwrap(), world.clock.now());
    assert_eq!(claims::take(vault, "m", [], "test").await.unwrap().at, world.clock.now());
    world.clock.advance(GRACE - SignedDuration::from_mins(1));
    assert_eq!(prune::prune(&machine.catalog, options).await.unwrap().deleted_objects, 0);
    world.clock.advance(SignedDuration::from_mins(2));
    assert_eq!(prune::prune(&machine.catalog, options).await.unwrap().deleted_objects, condemned);
    assert!(restore_all(&world.person().await, &expected).await.is_empty());
    assert!(world.check().await.is_clean());
}

/// The clock of a directory is that of the host which it is on.
#[tokio::test(flavor = "multi_thread")]
async fn a_stores_clock_that_jumps_a_year_and_back_loses_nothing_that_a_backup_names() {
    let (world, machine, mut expected) = started().await;
    let mut random = Random::new(2);
    let shared = [stream("db", random.noise(60_000))];
    let gone = machine.backup("erp", &shared).await.unwrap();
    let kept = [stream("db", random.noise(60_000))];
    machine.remembered(&mut expected, "other", &kept).await;
    world.clock.hours(24);
    // Under way when it happens, and about to name what is condemned meanwhile.
    let mut running = machine.begin("erp").await.unwrap();
    running.feed(&shared).await;
    forget(&machine, &gone).await;
    let condemned = world.prune().await.unwrap().condemned_objects;
    world.clock.advance(YEAR);
    assert_eq!(world.prune().await.unwrap().deleted_objects, condemned, "by this clock the grace time is over");
    assert_eq!(running.commit().await.unwrap_err().kind, Kind::Refused);
    let newest = machine.remembered(&mut expected, "erp", &shared).await;
    assert!(newest.stats.shipped > 60_000, "what was deleted was named again");
    assert!(restore_all(&world.person().await, &expected).await.is_empty());
    // Set right again, it lies before the newest backup: rules stand still, and backups go on.
    world.clock.advance(-YEAR);
    let all = machine.catalog.all(Some(&newest.plan)).await.unwrap();
    let within = Keep { within: Some(SignedDuration::from_hours(24)), ..Keep::default() };
    let refused = retention::decide(&all, &within, &Respect::default(), world.clock.now()).unwrap_err();
    assert!(refused.kind == Kind::Refused && refused.what.contains("future"), "{refused}");
    let next = machine.remembered(&mut expected, "erp", &shared).await;
    assert!(next.id > newest.id && next.store_time < newest.store_time);
    assert!(restore_all(&world.person().await, &expected).await.is_empty());
}
