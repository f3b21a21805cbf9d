//! A file of several entries, through every command that looks into a tree. The backups are made with a lowered limit,
//! by the library; what reads them is the program as it is.

use crate::world::{World, noise, run};
use backstay::backup::{Job, run as back_up};
use backstay::config::SourceConfig;
use backstay::config::load::load;
use backstay::repository::access;
use backstay::repository::catalog::Catalog;
use backstay::repository::manifest::Manifest;
use backstay::repository::writer::Division;
use backstay::sources::Source;
use backstay::storage::fs::FsStore;
use backstay::telemetry::monitor::{Event, Monitor, Silent};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

async fn backup_with(w: &World, monitor: Arc<dyn Monitor>) -> Manifest {
    let config = load(&PathBuf::from(w.at("backstay.toml"))).unwrap();
    let store = Arc::new(FsStore::new(&PathBuf::from(w.at("repo")), Duration::from_secs(60)).unwrap());
    let vault = access::open_on_host(store, &config.host, &PathBuf::from(w.at("state/trust/test-host.json")), None)
        .await
        .unwrap();
    let sources = config
        .sources
        .iter()
        .map(|(name, source)| match source {
            SourceConfig::Files(files) => (name.clone(), Arc::new(files.clone()) as Arc<dyn Source>),
            _ => unreachable!("there are trees only"),
        })
        .collect();
    let mut options = config.writer.clone();
    options.division = Division { greatest: 8 };
    options.memory = 20 << 20;
    let job = Job {
        plan: "p".parse().unwrap(),
        sources,
        groups: config.groups.clone(),
        whole_plan: true,
        config_text: config.text.clone(),
        machine: backstay::host::machine::machine(&config.state_dir).unwrap(),
        journal: config.state_dir.join("uploads/p"),
        state_dir: config.state_dir.clone(),
        options,
    };
    let cache = Some(config.state_dir.join("cache").join(vault.header.vault.to_string()));
    back_up(Catalog::new(Arc::new(vault), cache), job, monitor).await.unwrap()
}

async fn backup(w: &World) -> Manifest {
    backup_with(w, Arc::new(Silent)).await
}

fn segments(manifest: &Manifest) -> usize {
    manifest.sources[0].artifacts[0].segments.len()
}

/// A file of this many bytes that does not end on a block, its neighbours, and another name of it.
fn fill(w: &World, seed: u64) -> Vec<u8> {
    let content = noise((30 << 20) + 77, seed);
    w.file("d/big", &content);
    w.file("d/big.txt", "beside");
    w.file("d/a", "before");
    w.file("z", "after");
    fs::hard_link(w.path().join("tree/d/big"), w.path().join("tree/link")).unwrap();
    content
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_back_gives_all_of_a_huge_file_or_none_of_it() {
    let w = World::new();
    let content = fill(&w, 1);
    w.settle();
    let first = backup(&w).await;
    assert!(segments(&first) > 4, "{}", segments(&first));
    let second = backup(&w).await;
    assert_eq!((second.stats.read, second.stats.new), (0, 0), "{:?}", second.stats);
    assert_eq!(second.sources[0].facts["unchanged"], first.sources[0].facts["files"].as_u64().unwrap() + 3);
    // The program's own limit is another one; what is unchanged is unchanged all the same.
    let own = w.backup();
    assert_eq!((own["stats"]["read"].as_u64(), own["stats"]["packs"].as_u64()), (Some(0), Some(0)), "{own}");

    let big = w.at("tree/d/big");
    for id in [second.id.as_str(), own["id"].as_str().unwrap()] {
        for path in [&big, &w.at("tree/link")] {
            let cat = w.command(&["cat", id, "--source", "tree", "--path", path]).output().unwrap();
            assert!(cat.status.success() && cat.stdout == content, "{}", String::from_utf8_lossy(&cat.stderr));
        }
        let cat = w.command(&["cat", id, "--source", "tree", "--path", &w.at("tree/d/big.txt")]).output().unwrap();
        assert_eq!(cat.stdout, b"beside");
        let to = |what: &str| w.at(&format!("{what}-{id}"));
        let at = |to: String, path: &str| format!("{to}{}", w.at(path));
        w.run(&["restore", id, "--source", "tree", "--path", &big, "--to", &to("one")]).code(0);
        assert!(fs::read(at(to("one"), "tree/d/big")).unwrap() == content);
        assert!(!PathBuf::from(at(to("one"), "tree/d/big.txt")).exists());
        w.run(&[
            "restore",
            id,
            "--source",
            "tree",
            "--path",
            &w.at("tree/d/a"),
            "--path",
            &w.at("tree/z"),
            "--to",
            &to("others"),
        ])
        .code(0);
        assert_eq!(fs::read(at(to("others"), "tree/z")).unwrap(), b"after");
        assert!(!PathBuf::from(at(to("others"), "tree/d/big")).exists());
        w.run(&["restore", id, "--source", "tree", "--path", &w.at("tree/link"), "--to", &to("link")]).code(0);
        assert!(fs::read(at(to("link"), "tree/link")).unwrap() == content);
        let by_hand = Command::new(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config/recover.sh"))
            .args([&w.at("repo/test-host"), &w.at("recovery.key"), "p", id, "tree", "tree"])
            .output()
            .unwrap();
        assert!(by_hand.status.success(), "{}", String::from_utf8_lossy(&by_hand.stderr));
        fs::write(w.at("a.tar"), &by_hand.stdout).unwrap();
        let out = Command::new("tar").args(["-xOf", &w.at("a.tar"), big.trim_start_matches('/')]).output().unwrap();
        assert!(out.status.success() && out.stdout == content);
    }
    let listed = w.run(&["--json", "ls", second.id.as_str()]).code(0).out;
    assert_eq!(listed.lines().filter(|l| l.contains("/d/big\"") && l.contains("\"t\":\"f\"")).count(), 1, "{listed}");
    // What machines list has the recipes, which the table for people does without.
    let all = w.run(&["--json", "list"]).code(0).json();
    assert!(all[0]["sources"][0]["artifacts"][0]["segments"].as_array().unwrap().len() > 4, "{all}");
    w.run(&["find", "big"]).code(0).says(&["(3 backups)"]);
    run(&mut w.command(&["check", "--read-data"])).code(0).says(&["3 of 3"]);
}

/// Cuts a file short as soon as something of it was uploaded; counts warnings that all is read again.
struct Cuts(PathBuf, AtomicUsize);

impl Monitor for Cuts {
    fn event(&self, event: Event) {
        if let Event::Warning(text) = &event {
            self.1.fetch_add(usize::from(text.contains("from its start again")), Ordering::SeqCst);
        }
        if matches!(event, Event::Shipped(_)) && fs::metadata(&self.0).unwrap().len() > 1000 {
            fs::OpenOptions::new().write(true).open(&self.0).unwrap().set_len(1000).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_file_that_is_cut_off_while_it_is_read_is_stored_as_it_is_then() {
    let w = World::new();
    w.file("d/a", "before");
    let big = w.file("d/big", noise(80 << 20, 2));
    let cuts = Arc::new(Cuts(big.clone(), AtomicUsize::new(0)));
    let manifest = backup_with(&w, cuts.clone()).await;
    assert_eq!(cuts.1.load(Ordering::SeqCst), 1);
    assert!(manifest.is_complete());
    w.run(&["restore", "latest", "--to", &w.at("out")]).code(0);
    assert_eq!(fs::read(format!("{}{}", w.at("out"), big.display())).unwrap(), &noise(80 << 20, 2)[..1000]);
    w.run(&["check", "--read-data"]).code(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_within_a_huge_file_is_repaired_from_the_file() {
    let w = World::new();
    let content = fill(&w, 3);
    w.settle();
    backup(&w).await;
    let pack = w.objects("packs").into_iter().max_by_key(|p| fs::metadata(p).unwrap().len()).unwrap();
    fs::remove_file(&pack).unwrap();
    w.run(&["check"]).code(7);
    let second = backup(&w).await;
    assert_eq!(second.stats.repaired, 1, "{:?}", second.stats);
    // The next one finds all in order and reads nothing.
    let third = backup(&w).await;
    assert_eq!(third.stats.read, 0);
    // A segment in the middle is gone: nothing can be taken over, all is read.
    let objects = &third.sources[0].artifacts[0].segments;
    let middle = objects[objects.len() / 2].object.to_string();
    fs::remove_file(w.objects("meta").into_iter().find(|p| p.ends_with(&middle)).unwrap()).unwrap();
    fs::remove_dir_all(w.path().join("state/cache")).unwrap();
    let last = backup(&w).await;
    assert!(last.is_complete() && last.stats.read >= content.len() as u64, "{:?}", last.stats);
    w.run(&["restore", last.id.as_str(), "--to", &w.at("out")]).code(0);
    assert!(fs::read(format!("{}{}", w.at("out"), w.at("tree/d/big"))).unwrap() == content);
}
