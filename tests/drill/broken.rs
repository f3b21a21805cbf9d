//! Drills that fail, each for its own reason, and loudly.

use crate::setup::{Host, of_drill};
use backstay::model::Name;
use backstay::repository::access::{self, read_identity_file};
use backstay::repository::catalog::Catalog;
use backstay::repository::layout;
use backstay::repository::manifest::Manifest;
use backstay::repository::record::RecordKind;
use backstay::repository::vault::Vault;
use backstay::storage::open::{StorageOptions, open};
use std::path::Path;
use std::sync::Arc;

pub async fn vault(host: &Host) -> Arc<Vault> {
    let store = open(&StorageOptions::new(format!("file://{}", host.world.at("repo"))), None).await.unwrap();
    let unlock = read_identity_file(Path::new(&host.world.at("recovery.key"))).unwrap();
    let name: Name = "test-host".parse().unwrap();
    Arc::new(access::open_with(store, &name, &unlock).await.unwrap())
}

#[test]
fn a_damaged_pack_fails_the_drill_with_its_code_its_metric_and_a_record() {
    let host = Host::new();
    let w = &host.world;
    host.backup("f");
    w.run(&["drill", "f"]).code(0);
    for pack in w.objects("packs") {
        let mut bytes = std::fs::read(&pack).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&pack, bytes).unwrap();
    }
    let failed = w.run(&["--json", "drill", "f"]).code(7);
    assert_eq!(failed.json()["outcome"], "failed");
    assert!(failed.err.contains("\"kind\":\"damaged\""), "{}", failed.err);
    let metrics = host.metrics();
    assert_eq!(metrics[&of_drill("last_exit_code", "f")], 7.0);
    assert!(metrics["backstay_restore_proven_timestamp_seconds{host=\"test-host\",plan=\"f\"}"] > 1.7e9);
    // What was proven once is not proven any more.
    let listed = w.run(&["list", "--plan", "f"]).code(0).says(&["a drill failed"]);
    assert!(!listed.out.contains("proven"), "{}", listed.out);
    host.is_clean();
    // What was found is marked, so that the next backup stores it again. One such is found by each drill.
    assert!(!w.objects("damaged").is_empty());
    for _ in 0..10 {
        host.backup("f");
        if w.run(&["drill", "f"]).code == 0 {
            return;
        }
    }
    panic!("it is not repaired: {:?}", w.run(&["drill", "f"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_back_is_held_against_the_facts() {
    let host = Host::new();
    let id = host.backup("p");
    let vault = vault(&host).await;
    let (plan, id): (Name, _) = ("p".parse().unwrap(), id.parse().unwrap());
    let mut m: Manifest = Catalog::new(vault.clone(), None).manifest(&plan, &id).await.unwrap();
    let db = m.sources.iter_mut().find(|s| s.name.as_str() == "db").unwrap();
    db.facts["databases"][0]["tables"][0]["rows"] = 5001.into();
    let key = layout::manifest(&plan, &id);
    std::fs::remove_file(host.world.path().join("repo/test-host").join(&key)).unwrap();
    vault.write_record(RecordKind::Manifest, &key, &m).await.unwrap();
    std::fs::remove_dir_all(host.world.at("state/cache")).unwrap();
    host.world.run(&["drill", "p"]).code(13).says(&["table shop.orders: 5,000 rows instead of 5,001 rows"]);
    assert_eq!(host.metrics()[&of_drill("last_exit_code", "p")], 13.0);
    host.is_clean();
}

#[test]
fn a_query_of_the_plan_that_fails_fails_the_drill_unless_it_is_skipped() {
    let mut host = Host::new();
    host.check = host.check.replace("min = 5000", "min = 5001");
    host.configure();
    host.backup("p");
    host.world.run(&["drill", "p"]).code(13).says(&["the check orders failed", "5000"]);
    host.is_clean();
    host.drill = "skip_checks = [\"orders\"]".to_owned();
    host.configure();
    host.world.run(&["drill", "p"]).code(0);
}

#[test]
fn too_little_room_is_told_before_anything_is_made() {
    let mut host = Host::new();
    host.backup("p");
    host.backup("f");
    let drills = host.world.path().join("drills");
    let before = std::fs::metadata(&drills).unwrap().modified().unwrap();
    host.drill = "max_bytes = \"1MiB\"".to_owned();
    host.configure();
    host.world.run(&["drill", "p"]).code(10).says(&["1.00 MiB is the limit", "max_bytes"]);
    host.world.run(&["drill", "f", "--max-bytes", "1kB"]).code(10).says(&["is the limit"]);
    assert_eq!(std::fs::metadata(&drills).unwrap().modified().unwrap(), before);
    host.is_clean();
    // It says nothing about the backup.
    assert!(host.world.objects("drills").is_empty());
    assert_eq!(host.metrics()[&of_drill("last_exit_code", "p")], 10.0);
}

#[test]
fn a_drill_that_takes_too_long_is_given_up_and_thrown_away() {
    let host = Host::new();
    host.world.file("large", crate::world::noise(12 << 20, 3));
    host.backup("f");
    let slow = ["drill", "f", "--timeout", "2s", "--limit-download", "1MiB"];
    host.world.run(&slow).code(12).says(&["took longer than 2.00 s", "--timeout"]);
    host.is_clean();
    assert!(host.world.objects("drills").is_empty());
}
