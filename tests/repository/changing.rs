//! Trees that change while they are read: what came of it is counted and named, and nothing is made up.

use crate::data::Random;
use crate::harness::{Machine, World};
use backstay::repository::manifest::{Manifest, SourceRecord};
use backstay::repository::reader::Reader;
use backstay::repository::writer::WriterOptions;
use backstay::sources::files::FilesSource;
use backstay::telemetry::monitor::Silent;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MIB: usize = 1 << 20;

/// Backs a tree up whose first file is so large that reading has to wait for a pack on its way, and lets something
/// happen meanwhile.
async fn read_while(world: &World, root: &Path, happens: impl FnOnce()) -> Manifest {
    let machine = world.machine("m").await;
    let source = FilesSource {
        paths: vec![root.to_owned()],
        exclude: vec![],
        never: vec![],
        one_file_system: false,
        reread_days: None,
    };
    machine.gate.stops_before("put", "/packs/");
    // One pack has all the room there is, so the next one, and with it the reading, waits.
    let options = WriterOptions { memory: 8 * MIB, ..Machine::options() };
    let mut run = machine.begin_with("files", options).await.unwrap();
    tokio::join!(run.read("tree", &source), async {
        machine.gate.reached.acquire().await.unwrap().forget();
        happens();
        machine.gate.go_on.add_permits(1);
    });
    run.commit().await.unwrap()
}

/// The files of the archive by their names, with what is in them.
async fn archived(world: &World, source: &SourceRecord) -> BTreeMap<String, Vec<u8>> {
    let reader = Reader::new(world.person().await, Arc::new(Silent)).unwrap();
    let bytes = reader.small(&source.artifacts[0]).await.unwrap();
    let mut found = BTreeMap::new();
    for entry in tar::Archive::new(&bytes[..]).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path: PathBuf = entry.path().unwrap().into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        found.insert(path.file_name().unwrap().to_str().unwrap().to_owned(), content);
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_and_what_vanishes_while_a_tree_is_read_is_counted_and_named() {
    let world = World::new().await;
    let root = world.dir.path().join("tree");
    fs::create_dir(&root).unwrap();
    let log = Random::new(1).noise(24 * MIB);
    fs::write(root.join("app.log"), &log).unwrap();
    let gone: Vec<PathBuf> = (0..12).map(|n| root.join(format!("gone-{n:02}"))).collect();
    gone.iter().for_each(|path| fs::write(path, "x").unwrap());
    symlink("nowhere", root.join("gone-link")).unwrap();
    fs::write(root.join("stays"), "here").unwrap();
    let manifest = read_while(&world, &root, || {
        File::options().append(true).open(root.join("app.log")).unwrap().write_all(b"one line more\n").unwrap();
        gone.iter().for_each(|path| fs::remove_file(path).unwrap());
        fs::remove_file(root.join("gone-link")).unwrap();
    })
    .await;
    let source = &manifest.sources[0];
    assert!(source.is_complete());
    assert_eq!(source.facts["changed_while_read"], 1);
    assert_eq!(source.facts["vanished"], 13);
    let [changed, vanished] = &source.warnings[..] else { panic!("{:?}", source.warnings) };
    assert_eq!(*changed, format!("1 file changed while being read: {}", root.join("app.log").display()));
    assert!(vanished.starts_with("13 files vanished before being read: ") && vanished.ends_with(" and 3 more"));
    assert!(gone[..10].iter().all(|path| vanished.contains(path.to_str().unwrap())), "{vanished}");
    let found = archived(&world, source).await;
    assert!(!found.keys().any(|name| name.starts_with("gone")), "{:?}", found.keys());
    assert!(found["app.log"] == log, "what was there when it was opened, and not a byte more");
    assert_eq!(found["stays"], b"here");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_shrinks_while_it_is_read_is_read_again_and_never_padded() {
    let world = World::new().await;
    let root = world.dir.path().join("tree");
    fs::create_dir(&root).unwrap();
    let content = Random::new(2).noise(24 * MIB);
    fs::write(root.join("rotated.log"), &content).unwrap();
    let manifest = read_while(&world, &root, || {
        File::options().write(true).open(root.join("rotated.log")).unwrap().set_len(3 * MIB as u64).unwrap();
    })
    .await;
    let found = archived(&world, &manifest.sources[0]).await;
    assert!(found["rotated.log"] == content[..3 * MIB]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_that_stands_still_is_told_of_in_no_warning() {
    let world = World::new().await;
    let root = world.dir.path().join("tree");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("app.log"), Random::new(3).noise(24 * MIB)).unwrap();
    let manifest = read_while(&world, &root, || {}).await;
    let source = &manifest.sources[0];
    assert_eq!(source.facts["changed_while_read"], 0);
    assert_eq!(source.facts["vanished"], 0);
    assert!(source.warnings.is_empty(), "{:?}", source.warnings);
}
