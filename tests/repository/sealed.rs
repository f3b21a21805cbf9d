//! A host without an identity: it can do its work, and nothing that it has opens a pack.

use crate::data::{Random, stream, tree};
use crate::harness::{World, small_tree};
use age::x25519;
use backstay::error::Kind;
use backstay::repository::check::{self, Depth, Part};
use backstay::repository::prune::{self, PruneOptions};
use backstay::repository::reader::Reader;
use backstay::repository::record::RecordKind;
use backstay::repository::{keyring, layout, marks, seal};
use backstay::telemetry::monitor::Silent;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

fn files_below(folder: &Path, found: &mut Vec<Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        match entry.path().is_dir() {
            true => files_below(&entry.path(), found),
            false => found.push(std::fs::read(entry.path()).unwrap()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_host_backs_up_lists_checks_and_forgets_and_reads_no_pack() {
    let world = World::new().await;
    let machine = world.machine("m").await;
    assert!(!machine.catalog.vault().can_read_packs());
    let sources =
        [stream("db", Random::new(1).noise(200_000)), tree("files", &small_tree(&mut Random::new(2), 10, 900))];
    let first = machine.backup("erp", &sources).await.unwrap();
    let second = machine.backup("erp", &sources).await.unwrap();
    let listed = machine.catalog.all(None).await.unwrap();
    assert_eq!(listed.iter().map(|m| &m.id).collect::<std::collections::BTreeSet<_>>().len(), 2);
    let shown = machine.catalog.manifest(&second.plan, &second.id).await.unwrap();
    assert_eq!(machine.catalog.segments(&shown.sources[1].artifacts[0].segments).await.unwrap()[0].entries.len(), 12);
    for depth in [Depth::Structure, Depth::Read(Part::ALL)] {
        let report = check::check(&machine.catalog, None, depth, Arc::new(Silent)).await.unwrap();
        assert!(report.is_clean() && report.whole == 2 && !report.opened, "{report:?}");
    }
    // Without a key the checksum still shows rot.
    let pack = world.keys("packs/").pop().unwrap();
    let mut body = world.store.raw(&pack).unwrap().to_vec();
    body[300] ^= 1;
    world.store.replace(&pack, body);
    let report = check::check(&machine.catalog, None, Depth::Read(Part::ALL), Arc::new(Silent)).await.unwrap();
    assert_eq!((report.findings.len(), report.whole), (1, 0));
    machine.backup("erp", &sources).await.unwrap();
    marks::forget(machine.catalog.vault(), &[(first.plan.clone(), first.id.clone())]).await.unwrap();
    prune::prune(&machine.catalog, PruneOptions { max_share: 1.0, dry_run: false }).await.unwrap();

    let error = Reader::new(machine.catalog.clone(), Arc::new(Silent)).err().unwrap();
    assert_eq!(error.kind, Kind::Key);
    // The same is said before anything is looked for, with the keys that open.
    let asked = keyring::require_identity(machine.catalog.vault()).await.unwrap_err();
    assert_eq!(asked.what, error.what);
    assert!(asked.to_string().contains("opens with: recovery"), "{asked}");
    let canary = layout::canary(1);
    let sealed = machine.catalog.vault().get_raw(&canary).await.unwrap().unwrap();
    let error = machine.catalog.vault().open_record(RecordKind::Canary, &canary, &sealed).unwrap_err();
    assert_eq!(error.kind, Kind::Key);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_in_the_state_directory_opens_a_pack_or_a_key_file() {
    let world = World::new().await;
    let machine = world.machine("m").await;
    for _ in 0..2 {
        machine.backup("erp", &[tree("files", &small_tree(&mut Random::new(2), 10, 900))]).await.unwrap();
    }
    let mut state = Vec::new();
    files_below(world.dir.path(), &mut state);
    assert!(state.len() >= 4, "trust file, journal, manifest and segment");
    // Cached segments are compressed.
    let plain: Vec<Vec<u8>> =
        state.iter().filter_map(|f| backstay::repository::record::decompress(f, 1 << 26).ok()).collect();
    assert!(!plain.is_empty());
    state.extend(plain);
    let mut identities = Vec::new();
    for text in state.iter().map(|f| String::from_utf8_lossy(f)) {
        let upper = text.to_uppercase();
        for (at, _) in upper.match_indices("AGE-SECRET-KEY-1") {
            let word: String = upper[at..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
            identities.extend(x25519::Identity::from_str(&word));
        }
    }
    assert_eq!(identities.len(), 1, "the catalog identity is there, else this test looks at nothing");
    let opens = |key: &String| {
        let body = world.store.raw(key).unwrap();
        seal::open(identities.iter().map(|i| i as &dyn age::Identity), &body, 1 << 26).is_ok()
    };
    assert!(world.keys("backups/").iter().all(opens), "the catalog identity opens manifests");
    let secret: Vec<String> = world.keys("packs/").into_iter().chain(world.keys("keys/")).collect();
    assert!(secret.len() >= 4);
    let open: Vec<&String> = secret.iter().filter(|k| opens(k) && !k.ends_with(".label")).collect();
    assert!(open.is_empty(), "{open:?}");
}
