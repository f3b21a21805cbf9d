//! What must not go on is refused in time, and what was interrupted goes on the next time.

use crate::data::{Random, stream, tree};
use crate::gate::Gate;
use crate::harness::{Expected, GRACE, Machine, World, name, remember, restore_all, small_tree};
use age::x25519;
use backstay::error::Kind;
use backstay::repository::access::{self, KeyRecipient, NewVault, Unlock};
use backstay::repository::record::RecordKind;
use backstay::repository::writer::WriterOptions;
use backstay::repository::{claims, layout, marks, vault};
use backstay::storage::fs::FsStore;
use backstay::storage::{ErrorKind, ObjectStore, StorageError};
use jiff::SignedDuration;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const MIB: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_identity_opens_nothing_and_another_vault_is_not_trusted() {
    let world = World::new().await;
    let stranger = Unlock::Identities(vec![x25519::Identity::generate()], None);
    let error = access::open_with(world.store.clone(), &world.host, &stranger).await.unwrap_err();
    assert_eq!(error.kind, Kind::Key);
    let marked = Unlock::Identities(vec![world.recovery.clone()], Some("0000-0000-0000-0000".into()));
    let error = access::open_with(world.store.clone(), &world.host, &marked).await.unwrap_err();
    assert_eq!(error.kind, Kind::Damaged, "the identity file names another fingerprint");

    let other = World::new().await;
    let error = access::open_on_host(other.store.clone(), &world.host, &world.trust(), None).await.unwrap_err();
    assert_eq!(error.kind, Kind::Refused);
    let error = access::open_on_host(other.store.clone(), &world.host, &world.trust(), Some(&other.unlock()))
        .await
        .unwrap_err();
    assert_eq!(error.kind, Kind::Refused);
    let nowhere = name("host-2");
    let error = access::open_with(world.store.clone(), &nowhere, &world.unlock()).await.unwrap_err();
    assert_eq!(error.kind, Kind::NotFound);
    let error = access::open_on_host(world.store.clone(), &world.host, &world.dir.path().join("none"), None).await;
    assert_eq!(error.unwrap_err().kind, Kind::Key);
}

#[tokio::test(flavor = "multi_thread")]
async fn key_files_with_another_secret_or_recipient_are_not_taken_over_from_the_store() {
    // The store presents a vault of its own with our vault's id, sealed to our recovery key.
    let world = World::new().await;
    let other = World::new().await;
    let ours: serde_json::Value = serde_json::from_slice(&world.store.raw("host-1/vault.json").unwrap()).unwrap();
    let mut made = access::NewVault::generate(world.clock.now(), GRACE);
    made.header.vault = ours["vault"].as_str().unwrap().parse().unwrap();
    let keys = [(name("recovery"), "recovery", access::KeyRecipient::X25519(world.recovery.to_public()))];
    other.store.remove("host-1/vault.json");
    made.write(other.store.clone(), world.host.clone(), &keys).await.unwrap();
    let error = access::open_on_host(other.store.clone(), &world.host, &world.trust(), Some(&world.unlock())).await;
    assert_eq!(error.unwrap_err().kind, Kind::Refused);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_format_is_named_and_left_alone() {
    let world = World::new().await;
    let machine = world.machine("m").await;
    let mut manifest = machine.backup("erp", &[stream("db", "x")]).await.unwrap();
    let key = layout::manifest(&manifest.plan, &manifest.id);
    world.store.remove(&world.key(&key));
    // It still parses as what is known here, and may mean something else.
    manifest.format = vault::FORMAT + 1;
    machine.catalog.vault().write_record(RecordKind::Manifest, &key, &manifest).await.unwrap();
    let catalog = world.person().await;
    assert_eq!(catalog.manifest(&manifest.plan, &manifest.id).await.unwrap_err().kind, Kind::Newer);
    assert_eq!(world.prune().await.unwrap_err().kind, Kind::Newer);

    let key = world.key(layout::VAULT);
    let text = String::from_utf8(world.store.raw(&key).unwrap().to_vec()).unwrap();
    world.store.replace(&key, text.replace("\"format\": 1", "\"format\": 2, \"more\": {}"));
    let error = access::open_with(world.store.clone(), &world.host, &world.unlock()).await.unwrap_err();
    assert_eq!(error.kind, Kind::Newer);
    let error = access::open_on_host(world.store.clone(), &world.host, &world.trust(), None).await.unwrap_err();
    assert_eq!(error.kind, Kind::Newer);
}

#[tokio::test(flavor = "multi_thread")]
async fn init_never_touches_a_vault_not_even_one_that_lost_its_header() {
    let world = World::new().await;
    let machine = world.machine("m").await;
    machine.backup("erp", &[stream("db", "x")]).await.unwrap();
    let before = world.store.snapshot();
    assert_eq!(world.init().await.unwrap_err().kind, Kind::Refused);
    assert_eq!(world.store.snapshot(), before);
    let header = world.store.raw("host-1/vault.json").unwrap();
    world.store.remove("host-1/vault.json");
    assert_eq!(world.init().await.unwrap_err().kind, Kind::Refused);
    world.store.replace("host-1/vault.json", header);
    assert_eq!(world.store.snapshot(), before, "the key files are still there");
    // Key files that were left by a killed init are in nobody's way.
    let fresh = World::new().await;
    fresh.store.remove("host-1/vault.json");
    fresh.init().await.unwrap();
    assert!(fresh.keys("keys/0001/").is_empty() && fresh.keys("keys/0002/").len() == 3);
    access::open_with(fresh.store.clone(), &fresh.host, &fresh.unlock()).await.unwrap();
}

/// Two at once, each stopped and let go at every point where it matters.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_inits_at_once_one_makes_the_vault_and_nothing_of_the_other_stays() {
    let points = [("list", "keys"), ("put", "canary"), ("put", ".age"), ("put", ".label"), ("put", "vault.json")];
    for (op, part) in points {
        let world = World::new().await;
        for key in world.store.snapshot().keys() {
            world.store.remove(key);
        }
        let gate = Gate::new(world.store.clone());
        gate.stops_before(op, part);
        let slow = x25519::Identity::generate();
        let keys = [(name("recovery"), "recovery", KeyRecipient::X25519(slow.to_public()))];
        let (line, host, now) = (gate.clone(), world.host.clone(), world.clock.now());
        let stopped = tokio::spawn(async move { NewVault::generate(now, GRACE).write(line, host, &keys).await });
        gate.reached.acquire().await.unwrap().forget();
        world.init().await.unwrap();
        gate.go_on.add_permits(1);
        let lost = stopped.await.unwrap().unwrap_err();
        assert!(lost.kind == Kind::Refused && lost.what.contains("already"), "{op} {part}: {lost}");
        let folders: std::collections::BTreeSet<String> =
            world.keys("keys/").iter().map(|k| k.rsplit_once('/').unwrap().0.to_owned()).collect();
        assert_eq!((folders.len(), world.keys("keys/").len()), (1, 3), "{op} {part}: {:?}", world.keys("keys/"));
        let person = world.person().await;
        assert_eq!(person.vault().locked, None);
        let unlock = Unlock::Identities(vec![slow], None);
        assert_eq!(access::open_with(world.store.clone(), &world.host, &unlock).await.unwrap_err().kind, Kind::Key);
        assert!(world.check().await.is_clean());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_inits_at_once_in_a_directory_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(FsStore::new(dir.path(), std::time::Duration::from_secs(60)).unwrap());
    let inits = (0..6).map(|_| {
        let store = store.clone();
        tokio::spawn(async move {
            let identity = x25519::Identity::generate();
            let keys = [(name("recovery"), "recovery", KeyRecipient::X25519(identity.to_public()))];
            let now = store.now().await.unwrap();
            (identity, NewVault::generate(now, GRACE).write(store, name("host-1"), &keys).await)
        })
    });
    let mut won = Vec::new();
    for ended in futures::future::join_all(inits).await {
        match ended.unwrap() {
            (identity, Ok(_)) => won.push(identity),
            (_, Err(e)) => assert!(e.kind == Kind::Refused && e.what.contains("already"), "{e}"),
        }
    }
    assert_eq!(won.len(), 1);
    let vault = access::open_with(store.clone(), &name("host-1"), &Unlock::Identities(won, None)).await.unwrap();
    assert_eq!(vault.list(layout::KEYS).await.unwrap().len(), 3);
    assert_eq!(vault.locked, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_machine_under_the_same_name_must_take_over() {
    let world = World::new().await;
    let (old, new) = (world.machine("old").await, world.machine("new").await);
    old.backup("erp", &[stream("db", "x")]).await.unwrap();
    world.clock.hours(1);
    assert_eq!(new.backup("erp", &[stream("db", "y")]).await.unwrap_err().kind, Kind::Refused);
    let options = WriterOptions { take_over: true, ..Machine::options() };
    let mut run = new.begin_with("erp", options).await.unwrap();
    run.feed(&[stream("db", "y")]).await;
    run.commit().await.unwrap();
    world.clock.hours(1);
    assert_eq!(old.backup("erp", &[stream("db", "z")]).await.unwrap_err().kind, Kind::Refused);
    new.backup("erp", &[stream("db", "z")]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_is_refused_under_every_plan_and_taking_over_holds_for_every_plan() {
    let world = World::new().await;
    let (old, new) = (world.machine("old").await, world.machine("new").await);
    let sources = [stream("db", "x")];
    for plan in ["erp", "files"] {
        old.backup(plan, &sources).await.unwrap();
        world.clock.hours(1);
    }
    for plan in ["erp", "files", "a-new-plan"] {
        let error = new.backup(plan, &sources).await.unwrap_err();
        assert!(error.kind == Kind::Refused && error.what.contains("plan files"), "{plan}: {error}");
    }
    let mut run = new.begin_with("erp", WriterOptions { take_over: true, ..Machine::options() }).await.unwrap();
    run.feed(&sources).await;
    run.commit().await.unwrap();
    world.clock.hours(1);
    for plan in ["files", "erp", "a-new-plan"] {
        assert_eq!(old.backup(plan, &sources).await.unwrap_err().kind, Kind::Refused, "{plan}");
        new.backup(plan, &sources).await.unwrap();
        world.clock.hours(1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_replaced_in_the_middle_of_a_run_does_not_commit_and_removes_nothing() {
    let world = World::new().await;
    let (old, new, other) = (world.machine("old").await, world.machine("new").await, world.machine("other").await);
    let sources = [stream("db", "x")];
    old.backup("erp", &sources).await.unwrap();
    world.clock.hours(1);
    let vault = new.catalog.vault();
    claims::not_replaced(vault, &old.id).await.unwrap();
    let mut run = old.begin("erp").await.unwrap();
    run.feed(&sources).await;
    let claim = claims::take(vault, &new.id, [old.id.clone()], "recover").await.unwrap();
    assert_eq!((claim.generation, claim.replaces.contains(&old.id)), (1, true));
    let error = run.commit().await.unwrap_err();
    assert!(error.kind == Kind::Refused && error.what.contains("was replaced"), "{error}");
    assert_eq!(world.keys("backups/").len(), 1);
    // Nor does it begin another one, before the new machine has made any.
    assert_eq!(old.backup("erp", &sources).await.unwrap_err().kind, Kind::Refused);
    assert_eq!(claims::not_replaced(vault, &old.id).await.unwrap_err().kind, Kind::Refused);
    // A machine that never wrote here may prune for the host, and not write.
    claims::not_replaced(vault, &other.id).await.unwrap();
    assert_eq!(other.backup("erp", &sources).await.unwrap_err().kind, Kind::Refused);
    new.backup("erp", &sources).await.unwrap();
    // Taken twice by the same machine it is one claim.
    assert_eq!(claims::take(vault, &new.id, [], "again").await.unwrap(), claim);

    // The old one becomes the host again, and the new one is told.
    world.clock.hours(1);
    let mut run = old.begin_with("erp", WriterOptions { take_over: true, ..Machine::options() }).await.unwrap();
    run.feed(&sources).await;
    run.commit().await.unwrap();
    let error = new.backup("erp", &sources).await.unwrap_err();
    assert!(error.what.contains("was replaced") && error.what.contains("generation 2"), "{error}");
    claims::not_replaced(vault, &old.id).await.unwrap();
    old.backup("erp", &sources).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_somebody_without_the_secret_put_there_stops_backups_by_name() {
    let world = World::new().await;
    let machine = world.machine("m").await;
    machine.backup("erp", &[stream("db", "x")]).await.unwrap();
    machine.catalog.vault().put_raw("claims/00000001", "forged").await.unwrap();
    let error = machine.backup("erp", &[stream("db", "x")]).await.unwrap_err();
    assert_eq!((error.kind, error.place.as_deref()), (Kind::Damaged, Some("claims/00000001")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_set_back_within_a_run_is_refused() {
    let world = World::new().await;
    let machine = world.machine("m").await;
    let mut run = machine.begin("erp").await.unwrap();
    run.feed(&[stream("db", "x")]).await;
    world.clock.advance(SignedDuration::from_mins(-2));
    assert_eq!(run.commit().await.unwrap_err().kind, Kind::Refused);
    assert!(world.keys("backups/").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_longer_than_the_grace_time_is_refused_and_the_next_one_takes_its_uploads_up() {
    let world = World::new().await;
    let machine = world.machine("m").await;
    let sources = [stream("db", Random::new(1).noise(9 * MIB))];
    let mut run = machine.begin("erp").await.unwrap();
    run.feed(&sources).await;
    world.clock.advance(GRACE - SignedDuration::from_hours(20));
    assert_eq!(run.commit().await.unwrap_err().kind, Kind::Refused);
    let manifest = machine.backup("erp", &sources).await.unwrap();
    assert_eq!(manifest.stats.packs, 0, "{:?}", manifest.stats);
    assert!(manifest.stats.shipped < 8192);
    let mut expected = Expected::new();
    remember(&mut expected, &manifest, &sources);
    assert!(restore_all(&world.person().await, &expected).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_the_store_hides_is_missed() {
    let world = World::new().await;
    let machine = world.machine("m").await;
    let mut ids = Vec::new();
    for text in ["a", "b", "c"] {
        let manifest = machine.backup("erp", &[stream("db", text)]).await.unwrap();
        ids.push((manifest.plan, manifest.id));
        world.clock.hours(1);
    }
    world.store.remove(&world.key(&layout::manifest(&ids[1].0, &ids[1].1)));
    let report = world.check().await;
    assert_eq!(report.missing_predecessors, [ids[1].clone()]);
    assert!(!report.is_clean());
    // What was forgotten on purpose is not missed.
    marks::forget(machine.catalog.vault(), &ids[..2]).await.unwrap();
    assert!(world.check().await.is_clean());
}

/// Kills a run around its k-th put, for every k: before it, or after it took effect and before its answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_put_leaves_earlier_backups_and_the_next_run_whole() {
    for answer_lost in [false, true] {
        let mut completed = false;
        for k in 0..20 {
            let world = World::new().await;
            let machine = world.machine("m").await;
            let mut expected = Expected::new();
            let mut random = Random::new(7);
            let before = [stream("db", random.noise(300_000)), tree("files", &small_tree(&mut random, 9, 4000))];
            machine.remembered(&mut expected, "erp", &before).await;
            world.clock.hours(1);
            let after = [stream("db", random.noise(5 * MIB)), tree("files", &small_tree(&mut random, 9, 4000))];
            let mut run = machine.begin("erp").await.unwrap();
            let id = run.writer.id().clone();
            if answer_lost {
                let puts = AtomicUsize::new(0);
                world.store.set_fault_after(move |op, key| {
                    let hit = op == "put" && puts.fetch_add(1, Ordering::SeqCst) >= k;
                    hit.then(|| StorageError::new(ErrorKind::Unavailable, op, key, "the answer is lost"))
                });
            } else {
                machine.gate.dies_after(k as i64);
            }
            run.feed(&after).await;
            let ended = run.commit().await;
            world.store.clear_faults();
            completed = ended.is_ok();
            expected.insert((name("erp"), id), Arc::new(crate::data::expected(&after)));
            let machine = world.machine("m").await;
            world.clock.hours(1);
            machine.remembered(&mut expected, "erp", &after).await;
            let failed = restore_all(&world.person().await, &expected).await;
            assert!(failed.is_empty(), "killed at put {k}: {failed:?}");
            assert!(world.check().await.is_clean());
            if completed {
                assert!(k >= 4, "packs, segments and the manifest are more than {k} puts");
                break;
            }
        }
        assert!(completed);
    }
}
