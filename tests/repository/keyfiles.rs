//! What happens to key files is seen, by those too whom they do not open to.

use crate::data::stream;
use crate::gate::Gate;
use crate::harness::{World, name};
use age::x25519;
use backstay::error::Kind;
use backstay::model::BackupId;
use backstay::repository::access::{self, KeyRecipient, Unlock};
use backstay::repository::catalog::Catalog;
use backstay::repository::check::{self, CheckReport, Depth};
use backstay::repository::secrets::Epoch;
use backstay::repository::vault::Vault;
use backstay::repository::{keyring, layout};
use backstay::storage::create_only::{Conditional, CreateOnly};
use backstay::telemetry::monitor::Silent;
use std::sync::Arc;

/// A vault with two keys in two epochs.
async fn two_epochs() -> (World, x25519::Identity) {
    let world = World::new().await;
    let other = x25519::Identity::generate();
    let person = world.person().await;
    keyring::add(person.vault(), &name("other"), "recovery", &KeyRecipient::X25519(other.to_public())).await.unwrap();
    let rotated = keyring::rotate(person.vault(), None, None).await.unwrap();
    access::write_trust(&world.trust(), &rotated).unwrap();
    world.machine("m").await.backup("erp", &[stream("db", "x")]).await.unwrap();
    (world, other)
}

async fn checked(catalog: &Catalog) -> CheckReport {
    check::check(catalog, None, Depth::Structure, Arc::new(Silent)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_damage_to_a_key_file_is_named_by_check_with_and_without_an_identity() {
    let (world, _) = two_epochs().await;
    let whole = world.store.snapshot();
    let (foreign, _) = two_epochs().await;
    let file = |epoch, n: &str| world.key(&layout::key_file(epoch, &name(n)));
    // Damage to the key of somebody else: this person's own files are as they were.
    let victim = file(2, "other");
    let good = world.store.raw(&victim).unwrap().to_vec();
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let damages: Vec<(&str, Option<Vec<u8>>, &str)> = vec![
        ("deleted", None, "is missing"),
        ("flipped", Some(flipped), "other bytes"),
        ("cut short", Some(good[..good.len() - 1].to_vec()), "other bytes"),
        ("empty", Some(Vec::new()), "other bytes"),
        ("of the other epoch", Some(world.store.raw(&file(1, "other")).unwrap().to_vec()), "other bytes"),
        ("of another name", Some(world.store.raw(&file(2, "recovery")).unwrap().to_vec()), "other bytes"),
        ("of another vault", Some(foreign.store.raw(&victim).unwrap().to_vec()), "other bytes"),
    ];
    for catalog in [world.machine("m").await.catalog, world.person().await] {
        let report = checked(&catalog).await;
        assert!(report.is_clean() && report.key_files == 4 && report.closed_epochs.is_empty(), "{report:?}");
        for (what, body, said) in &damages {
            match body {
                Some(body) => world.store.replace(&victim, body.clone()),
                None => assert!(world.store.remove(&victim)),
            }
            let report = checked(&catalog).await;
            let found: Vec<_> = report.keys.iter().map(|f| (f.object.as_str(), f.what.contains(said))).collect();
            assert_eq!(found, [(&victim["host-1/".len()..], true)], "{what}: {:?}", report.keys);
            assert!(!report.is_clean() && report.closed_epochs.is_empty());
            world.store.replace(&victim, good.clone());
        }
        // Labels and canaries.
        for key in [layout::key_label(2, &name("other")), layout::canary(1), layout::canary(2)] {
            let body = world.store.raw(&world.key(&key)).unwrap();
            world.store.remove(&world.key(&key));
            let report = checked(&catalog).await;
            assert_eq!(report.keys.iter().map(|f| f.object.as_str()).collect::<Vec<_>>(), [key.as_str()]);
            world.store.replace(&world.key(&key), body);
        }
        assert_eq!(world.store.snapshot(), whole);
    }
    // Canaries that changed places: who can open them sees it.
    let person = world.person().await;
    let canaries = [1, 2].map(layout::canary);
    let [one, two] = canaries.clone().map(|key| world.key(&key));
    let bodies = (world.store.raw(&one).unwrap(), world.store.raw(&two).unwrap());
    world.store.replace(&one, bodies.1);
    world.store.replace(&two, bodies.0);
    let report = checked(&person).await;
    assert_eq!(report.keys.iter().map(|f| f.object.as_str()).collect::<Vec<_>>(), canaries);
    let error = access::open_with(world.store.clone(), &world.host, &world.unlock()).await.unwrap_err();
    assert!(error.kind == Kind::Damaged && error.to_string().contains(&canaries[1]), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_that_nobody_can_open_any_more_is_named() {
    let (world, _) = two_epochs().await;
    for n in ["recovery", "other"] {
        world.store.remove(&world.key(&layout::key_file(2, &name(n))));
    }
    let sealed = world.machine("m").await.catalog;
    let report = checked(&sealed).await;
    assert_eq!(report.closed_epochs, [2]);
    assert!(report.keys.iter().any(|f| f.object == "keys/0002/" && f.what.contains("nobody")), "{:?}", report.keys);
    // The rest of a killed rotation is told as what it is.
    let person = world.person().await;
    access::write_canary(person.vault(), &Epoch::generate(3)).await.unwrap();
    let report = checked(&sealed).await;
    assert!(
        report.closed_epochs == [2] && report.keys.iter().any(|f| f.what.contains("rotation was killed")),
        "{report:?}"
    );
    world.store.remove(&world.key(&layout::canary(3)));
    // All of it gone: the host still knows that there was such an epoch.
    for key in world.keys("keys/0002/") {
        world.store.remove(&key);
    }
    assert_eq!(checked(&sealed).await.closed_epochs, [2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_whose_newest_key_file_is_lost_says_so_and_the_host_does_not_seal_to_it() {
    let (world, other) = two_epochs().await;
    let vault = access::open_with(world.store.clone(), &world.host, &world.unlock()).await.unwrap();
    assert_eq!(vault.locked, None);
    keyring::require_opener(&vault, Some(&world.unlock())).await.unwrap();
    world.store.remove(&world.key(&layout::key_file(2, &name("recovery"))));
    let fallen_back = access::open_with(world.store.clone(), &world.host, &world.unlock()).await.unwrap();
    assert_eq!((fallen_back.locked, fallen_back.epoch().unwrap().number), (Some(2), 1));
    let unlock = world.unlock();
    let on_host = access::open_on_host(world.store.clone(), &world.host, &world.trust(), Some(&unlock)).await.unwrap();
    assert_eq!((on_host.locked, on_host.epoch().unwrap().number), (Some(2), 2));
    let error = keyring::require_opener(&on_host, Some(&unlock)).await.unwrap_err();
    assert!(error.kind == Kind::Key && error.what.contains("key epoch 2"), "{error}");
    // The other person's is there, so a sealed host goes on.
    keyring::require_opener(&on_host, None).await.unwrap();
    let other = Unlock::Identities(vec![other], None);
    assert_eq!(access::open_with(world.store.clone(), &world.host, &other).await.unwrap().locked, None);
    world.store.remove(&world.key(&layout::key_file(2, &name("other"))));
    let error = keyring::require_opener(&on_host, None).await.unwrap_err();
    assert!(error.kind == Kind::Key && error.what.contains("never be opened"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_was_killed_before_its_canary_closes_nothing_and_is_told_by_check() {
    let (world, _) = two_epochs().await;
    world.store.replace(&world.key(&layout::begun(3, &BackupId::new(world.clock.now()))), "begun");
    let (unlock, person) = (world.unlock(), world.person().await);
    let on_host = access::open_on_host(world.store.clone(), &world.host, &world.trust(), Some(&unlock)).await.unwrap();
    assert_eq!((on_host.locked, person.vault().locked), (None, None));
    let report = checked(&person).await;
    let found: Vec<_> = report.keys.iter().map(|f| (&*f.object, f.what.contains("rotation was killed"))).collect();
    assert_eq!(found, [("keys/0003/", true)]);
    // The next one passes it over.
    assert_eq!(keyring::rotate(person.vault(), None, None).await.unwrap().epoch().unwrap().number, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_copy_of_a_key_file_that_vanished_from_the_store_stays_on_the_host() {
    let (world, _) = two_epochs().await;
    let person = world.person().await;
    let copies = world.dir.path().join("copies");
    keyring::keep_copies(person.vault(), &copies).await.unwrap();
    let copy = copies.join("host-1-0002-other.age");
    let body = std::fs::read(&copy).unwrap();
    world.store.remove(&world.key(&layout::key_file(2, &name("other"))));
    keyring::keep_copies(person.vault(), &copies).await.unwrap();
    assert_eq!(std::fs::read(&copy).unwrap(), body);
    // One that was removed on purpose goes.
    keyring::remove(person.vault(), &name("other"), None).await.unwrap();
    keyring::keep_copies(person.vault(), &copies).await.unwrap();
    assert!(!copy.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_rotations_at_once_do_not_mix_their_epochs() {
    let (world, _) = two_epochs().await;
    let person = world.person().await;
    let (a, b) = tokio::join!(keyring::rotate(person.vault(), None, None), keyring::rotate(person.vault(), None, None));
    let refused = [a, b].into_iter().filter_map(|r| r.err()).map(|e| e.kind).collect::<Vec<_>>();
    assert!(refused.iter().all(|k| *k == Kind::Refused) && refused.len() < 2, "{refused:?}");
    let vault = access::open_with(world.store.clone(), &world.host, &world.unlock()).await.unwrap();
    assert_eq!(vault.locked, None);
    assert!(checked(&world.person().await).await.keys.is_empty());
}

/// A person's process on a server that ignores conditions, with a line of its own.
async fn ignored(world: &World) -> (Arc<Gate>, Vault) {
    world.store.ignore_conditions(true);
    let gate = Gate::new(world.store.clone());
    let store = Arc::new(CreateOnly::known(gate.clone(), Conditional::Ignored));
    let vault = access::open_with(store, &world.host, &world.unlock()).await.unwrap();
    (gate, vault)
}

/// The vault opens, every epoch in it is whole, and nothing of a rotation that gave up is left.
async fn assert_whole(world: &World, epochs: usize) {
    let person = world.person().await;
    assert_eq!((person.vault().locked, person.vault().epochs().len()), (None, epochs));
    let report = checked(&person).await;
    assert!(report.keys.is_empty(), "{:?}", report.keys);
    // Each has a canary, a key file and a label.
    assert_eq!(world.keys("keys/").len(), 3 * epochs, "{:?}", world.keys("keys/"));
}

#[tokio::test(flavor = "multi_thread")]
async fn rotations_at_once_never_write_over_each_other_where_conditions_are_ignored() {
    // One is stopped at each point where it matters, and another one goes all the way meanwhile.
    for (op, part) in [("put", "/begun~"), ("list", "/0002/"), ("put", "canary"), ("put", ".age"), ("put", ".label")] {
        let world = World::new().await;
        let ((gate, slow), (_, quick)) = (ignored(&world).await, ignored(&world).await);
        gate.stops_before(op, part);
        let (stopped, rotated) = tokio::join!(keyring::rotate(&slow, None, None), async {
            gate.reached.acquire().await.unwrap().forget();
            let rotated = keyring::rotate(&quick, None, None).await;
            gate.go_on.add_permits(1);
            rotated
        });
        let newest = rotated.unwrap().epoch().unwrap().number;
        match stopped {
            // It had not said yet that it begins epoch 2.
            Err(e) => assert!(part == "/begun~" && e.kind == Kind::Refused && newest == 2, "{op} {part}: {e}"),
            Ok(other) => assert_eq!((other.epoch().unwrap().number, newest), (2, 3), "{op} {part}"),
        }
        assert_whole(&world, newest as usize).await;
    }
    // Step by step beside each other: both see the other one.
    let world = World::new().await;
    let ((one, first), (two, second)) = (ignored(&world).await, ignored(&world).await);
    one.takes("put", 5);
    two.takes("put", 5);
    let ended = tokio::join!(keyring::rotate(&first, None, None), keyring::rotate(&second, None, None));
    let ended = [ended.0.map(drop), ended.1.map(drop)];
    assert!(ended.iter().flat_map(|e| e.as_ref().err()).all(|e| e.kind == Kind::Refused), "{ended:?}");
    let rotated = ended.iter().filter(|e| e.is_ok()).count();
    assert_whole(&world, 1 + rotated).await;
}
