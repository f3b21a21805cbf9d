//! Files whose extents do not fit into one entry: the limit is lowered here, so that a few megabytes are enough.

use crate::data::{File, Random, Tree, dir, file, tree};
use crate::gate::Gate;
use crate::harness::{Expected, Machine, World, remember, restore_all, started};
use backstay::repository::layout;
use backstay::repository::manifest::{Artifact, Manifest};
use backstay::repository::reader::Reader;
use backstay::repository::segment::Entry;
use backstay::repository::writer::{Division, WriterOptions};
use backstay::telemetry::monitor::Silent;
use std::sync::Arc;

const MIB: usize = 1 << 20;

fn divided() -> WriterOptions {
    WriterOptions { division: Division { greatest: 8 }, ..Machine::options() }
}

async fn backup(machine: &Machine, expected: &mut Expected, files: &Tree) -> Manifest {
    let sources = [tree("files", files)];
    let mut run = machine.begin_with("erp", divided()).await.unwrap();
    run.feed(&sources).await;
    let manifest = run.commit().await.unwrap();
    remember(expected, &manifest, &sources);
    manifest
}

fn artifact(manifest: &Manifest) -> &Artifact {
    &manifest.sources[0].artifacts[0]
}

/// A huge file between small ones.
fn around(content: Vec<u8>) -> Tree {
    let small = |seed: u64| file(Random::new(seed).noise(3000));
    let mut files = Tree::from([("data/huge".to_owned(), file(content))]);
    for (i, path) in ["data/a", "data/b", "data/huge.txt", "data/z"].iter().enumerate() {
        files.insert((*path).to_owned(), small(i as u64 + 50));
    }
    files.insert("data/folder/".into(), dir());
    files
}

async fn entries(machine: &Machine, manifest: &Manifest) -> Vec<Entry> {
    let segments = machine.catalog.segments(&artifact(manifest).segments).await.unwrap();
    segments.into_iter().flat_map(|s| s.entries).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_over_many_segments_comes_back_unchanged_changed_and_beside_its_neighbours() {
    let (world, machine, mut expected) = started().await;
    let content = Random::new(1).noise(100 * MIB);
    let first = backup(&machine, &mut expected, &around(content.clone())).await;
    let of_huge: Vec<Entry> =
        entries(&machine, &first).await.into_iter().filter(|e| e.path().is_some_and(|p| p.0 == b"data/huge")).collect();
    assert!(of_huge.len() > 5 && of_huge.iter().filter(|e| e.file.is_some()).count() == 1, "{}", of_huge.len());
    assert!(of_huge.iter().all(|e| e.extents.len() <= 9), "the padding may come on top");
    assert!(artifact(&first).segments.len() >= of_huge.len(), "each part ends its segment");
    assert!(artifact(&first).segments.iter().filter(|s| s.entries == 1).all(|s| s.first.is_some() || s.bytes == 1024));

    world.clock.hours(1);
    let second = backup(&machine, &mut expected, &around(content.clone())).await;
    assert_eq!((second.stats.read, second.stats.new, second.stats.packs), (0, 0, 0), "{:?}", second.stats);
    assert_eq!(artifact(&second).segments, artifact(&first).segments);

    // Another middle: what lies around it is shared, in segments too.
    world.clock.hours(1);
    let mut changed = content.clone();
    changed.splice(50 * MIB..50 * MIB, b"inserted".iter().copied());
    let third = backup(&machine, &mut expected, &around(changed)).await;
    assert!(third.stats.new < 3 * MIB as u64, "{:?}", third.stats);
    let before: Vec<_> = artifact(&first).segments.iter().map(|s| s.object).collect();
    let new = artifact(&third).segments.iter().filter(|s| !before.contains(&s.object)).count();
    assert!(new < before.len() / 2, "{new} of {} segments are new", before.len());

    let failed = restore_all(&world.person().await, &expected).await;
    assert!(failed.is_empty(), "{failed:?}");
    assert!(world.check().await.is_clean());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selection_has_all_of_a_huge_file_or_none_of_it() {
    let world = World::new().await;
    let machine = world.machine("m").await;
    let content = Random::new(2).noise(12 * MIB);
    let files = around(content.clone());
    let manifest = backup(&machine, &mut Expected::new(), &files).await;
    let reader = Reader::new(world.person().await, Arc::new(Silent)).unwrap();
    let of = |only_huge: bool| {
        let mut pieces =
            reader.stream(artifact(&manifest), move |e| e.path().is_some_and(|p| (p.0 == b"data/huge") == only_huge));
        async move {
            let mut out = Vec::new();
            while let Some(piece) = pieces.recv().await {
                out.extend_from_slice(&piece.unwrap());
            }
            out
        }
    };
    let tar = |f: &dyn Fn(&String, &File) -> bool| {
        let picked: Tree = files.iter().filter(|(p, c)| f(p, c)).map(|(p, c)| (p.clone(), c.clone())).collect();
        let mut bytes = crate::data::tar_of(&picked);
        bytes.truncate(bytes.len() - 1024);
        bytes
    };
    assert!(of(true).await == tar(&|p, _| p == "data/huge"));
    assert!(of(false).await == tar(&|p, _| p != "data/huge"));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_damaged_pack_of_a_huge_file_is_repaired_and_the_file_is_read_for_it() {
    let (world, machine, mut expected) = started().await;
    let files = around(Random::new(3).noise(17 * MIB + 100));
    backup(&machine, &mut expected, &files).await;
    for pack in world.keys("packs/") {
        world.clock.hours(1);
        world.store.remove(&pack);
        assert_eq!(world.check().await.whole, 0);
        let manifest = backup(&machine, &mut expected, &files).await;
        assert_eq!(manifest.stats.repaired, 1, "{pack}");
        let failed = restore_all(&world.person().await, &expected).await;
        assert!(failed.is_empty(), "{pack}: {failed:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_segment_in_the_middle_of_a_huge_file_costs_reading_it_and_nothing_else() {
    let world = World::new().await;
    let machine = world.machine_with("m", None).await;
    let mut expected = Expected::new();
    let files = around(Random::new(4).noise(12 * MIB));
    let first = backup(&machine, &mut expected, &files).await;
    let middle = &artifact(&first).segments[artifact(&first).segments.len() / 2];
    assert_eq!(middle.entries, 1);
    world.store.remove(&world.key(&layout::meta(&middle.object)));
    assert_eq!(world.check().await.whole, 0);
    world.clock.hours(1);
    let second = backup(&machine, &mut expected, &files).await;
    assert!(second.stats.read >= 12 * MIB as u64, "{:?}", second.stats);
    let failed = restore_all(&world.person().await, &expected).await;
    assert_eq!(failed.keys().collect::<Vec<_>>(), [&(first.plan.clone(), first.id.clone())], "{failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_of_a_huge_file_leave_while_it_is_read() {
    let world = World::new().await;
    let machine = world.machine("m").await;
    let gate: &Arc<Gate> = &machine.gate;
    // The line dies before anything is committed: what is stored then was sent from within the file.
    let mut run = machine.begin_with("erp", WriterOptions { memory: 16 * MIB, ..divided() }).await.unwrap();
    gate.dies_after(20);
    run.feed(&[tree("files", &Tree::from([("data/huge".to_owned(), file(Random::new(5).noise(64 * MIB)))]))]).await;
    assert!(!world.keys("meta/").is_empty());
}
