//! What is recorded in the repository, and who is believed.

use crate::broken::vault;
use crate::setup::Host;
use backstay::model::Name;
use backstay::repository::access;
use backstay::repository::drills::{Drills, Figures, Outcome, record};
use backstay::repository::layout;
use backstay::repository::record::RecordKind;
use backstay::repository::vault::Vault;
use backstay::storage::open::{StorageOptions, open};
use std::path::Path;

/// The vault as a sealed host has it: the vault's secret, and no identity.
async fn sealed(host: &Host) -> Vault {
    let store = open(&StorageOptions::new(format!("file://{}", host.world.at("repo"))), None).await.unwrap();
    let name: Name = "test-host".parse().unwrap();
    let trust = host.world.at("state/trust/test-host.json");
    access::open_on_host(store, &name, Path::new(&trust), None).await.unwrap()
}

fn figures() -> Figures {
    Figures {
        outcome: Outcome::Proven,
        machine: "m".into(),
        seconds: 1.0,
        compared: 1,
        rows: 1,
        bytes: 1,
        note: String::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_record_and_a_replayed_one_count_for_nothing() {
    let host = Host::new();
    let w = &host.world;
    let (first, second) = (host.backup("f"), host.backup("f"));
    w.run(&["drill", "f", "--backup", &first]).code(0);
    let proven = w.objects("drills").pop().unwrap();
    // Replayed: the record of one backup under the name of another.
    let replayed =
        proven.parent().unwrap().join(proven.file_name().unwrap().to_str().unwrap().replace(&first, &second));
    std::fs::copy(&proven, &replayed).unwrap();
    let listed = w.run(&["list", "--plan", "f"]).code(0).says(&["counts for nothing", "not authentic"]);
    assert_eq!(listed.out.matches("proven").count(), 1, "{}", listed.out);
    std::fs::remove_file(&replayed).unwrap();
    // Forged: by somebody who has everything that a sealed host has.
    let sealed = sealed(&host).await;
    let (plan, id): (Name, _) = ("f".parse().unwrap(), second.parse().unwrap());
    assert!(record(&sealed, &plan, &id, figures()).await.is_err());
    let at = sealed.now().await.unwrap();
    let key = layout::about_backup(layout::DRILLS, &plan, &id, &backstay::model::BackupId::new(at));
    for epoch in [1, 9] {
        let forged = serde_json::json!({
            "format": 1, "at": at, "outcome": "proven", "machine": "m", "seconds": 1.0, "compared": 1, "rows": 1, "bytes": 1,
            "agent": "x", "epoch": epoch, "vouched": "ab".repeat(32),
        });
        sealed.write_record(RecordKind::Drill, &key, &forged).await.unwrap();
        let listed = w.run(&["list", "--plan", "f"]).code(0).says(&["counts for nothing", "vouches for this drill"]);
        assert_eq!(listed.out.matches("proven").count(), 1, "{}", listed.out);
        // Who holds no identity cannot tell.
        assert!(Drills::read(&sealed, None).await.unwrap().proof(&plan, &id).is_some());
        std::fs::remove_file(w.path().join("repo/test-host").join(&key)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotten_record_lets_no_proven_backup_go() {
    let host = Host::new();
    let w = &host.world;
    let ids: Vec<String> = (0..3).map(|_| host.backup("f")).collect();
    w.run(&["drill", "f", "--backup", &ids[1]]).code(0);
    let path = w.objects("drills").pop().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    w.run(&["forget", "--plan", "f"]).code(0).says(&["counts for nothing"]);
    let listed = w.run(&["list", "--plan", "f"]).code(0);
    assert!(listed.out.contains(&ids[1]) && !listed.out.contains(&ids[0]), "{}", listed.out);
    // A record that a holder of the identity writes is believed by everybody.
    let vault = vault(&host).await;
    let (plan, id): (Name, _) = ("f".parse().unwrap(), ids[2].parse().unwrap());
    record(&vault, &plan, &id, figures()).await.unwrap();
    assert!(Drills::read(&sealed(&host).await, Some(&plan)).await.unwrap().proof(&plan, &id).is_some());
    w.run(&["forget", "--plan", "f"]).code(0);
    let listed = w.run(&["list", "--plan", "f"]).code(0);
    assert!(listed.out.contains(&ids[2]) && !listed.out.contains(&ids[1]), "{}", listed.out);
}
