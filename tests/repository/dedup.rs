//! What need not be stored again is not: by content, wherever it turns up.

use crate::data::{Random, Tree, dir, file, stream, tree};
use crate::harness::{World, remember, restore_all, small_tree, started};
use crate::pruning::named_packs;

const MIB: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_stream_and_tree_are_stored_once_however_often_they_come() {
    let (world, machine, mut expected) = started().await;
    let mut files = small_tree(&mut Random::new(1), 30, 5000);
    files.insert("data/large".into(), file(Random::new(2).noise(3 * MIB)));
    let sources = [stream("db", Random::new(3).noise(6 * MIB)), tree("files", &files)];
    machine.remembered(&mut expected, "erp", &sources).await;
    let (packs, segments) = (world.keys("packs/"), world.keys("meta/"));
    for _ in 0..3 {
        world.clock.hours(24);
        let next = machine.remembered(&mut expected, "erp", &sources).await;
        assert_eq!((next.stats.new, next.stats.packs, next.stats.shipped), (0, 0, 0), "{:?}", next.stats);
    }
    // Nor on a machine that lost its cache and journal, nor under another plan.
    let fresh = world.machine_with("m", None).await;
    assert_eq!(fresh.backup("erp", &sources).await.unwrap().stats.packs, 0);
    let other = fresh.backup("other", &sources).await.unwrap();
    assert!(other.stats.new < 32 * 1024, "headers only: {:?}", other.stats);
    assert_eq!(world.keys("packs/").len(), packs.len() + 1);
    assert!(world.keys("meta/").len() <= segments.len() + 2);
    let catalog = world.person().await;
    for manifest in catalog.all(None).await.unwrap() {
        remember(&mut expected, &manifest, &sources);
    }
    assert!(restore_all(&catalog, &expected).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_byte_inserted_into_a_large_stream_ships_a_few_chunks() {
    let (world, machine, mut expected) = started().await;
    let mut bytes = Random::new(1).noise(40 * MIB);
    let sources = [stream("db", bytes.clone())];
    let first = machine.backup("erp", &sources).await.unwrap();
    assert!(first.stats.shipped as usize > 40 * MIB);
    remember(&mut expected, &first, &sources);
    bytes.insert(17 * MIB, 0x55);
    let sources = [stream("db", bytes)];
    let second = machine.remembered(&mut expected, "erp", &sources).await;
    assert!((second.stats.shipped as usize) < 4 * MIB && second.stats.new > 0, "{:?}", second.stats);
    assert!(restore_all(&world.person().await, &expected).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn renamed_touched_and_copied_files_ship_their_headers() {
    let (world, machine, mut expected) = started().await;
    let mut random = Random::new(5);
    let mut files = small_tree(&mut random, 20, 9000);
    files.insert("data/large".into(), file(random.noise(5 * MIB)));
    let mut night = async |files: &Tree| {
        let sources = [tree("files", files)];
        let manifest = machine.remembered(&mut expected, "erp", &sources).await;
        world.clock.hours(24);
        manifest.stats.new
    };
    assert!(night(&files).await > 5 * MIB as u64);
    let small = files.remove("data/007").unwrap();
    files.insert("data/renamed".into(), small);
    let new = night(&files).await;
    assert!(new > 0 && new < 2048, "renamed: {new}");
    let large = files.remove("data/large").unwrap();
    files.insert("data/larger".into(), large);
    let new = night(&files).await;
    assert!(new > 0 && new < 2048, "renamed large: {new}");
    let copy = files["data/003"].clone();
    files.insert("data/copy".into(), copy);
    files.insert("data/folder/".into(), dir());
    let new = night(&files).await;
    assert!(new > 0 && new < 4096, "copied: {new}");
    files.get_mut("data/004").unwrap().version += 1;
    let new = night(&files).await;
    assert!(new > 0 && new < 2048, "touched: {new}");
    assert!(restore_all(&world.person().await, &expected).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_changes_back_and_forth_does_not_pile_up_generations() {
    let world = World::new().await;
    let machine = world.machine("m").await;
    let mut files = small_tree(&mut Random::new(5), 5, 900);
    for night in 0..12 {
        files.get_mut("data/002").unwrap().version = night % 2;
        machine.backup("erp", &[tree("files", &files)]).await.unwrap();
        world.clock.hours(24);
    }
    let later: Vec<String> = world.keys("packs/").into_iter().filter(|k| !k.ends_with("-0")).collect();
    assert!(later.is_empty(), "{later:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_content_in_two_sources_is_stored_once() {
    let (world, machine, mut expected) = started().await;
    let mut random = Random::new(8);
    let (large, small) = (random.noise(2 * MIB), random.noise(30_000));
    let files =
        |a: &str, b: &str| Tree::from([(a.to_owned(), file(large.clone())), (b.to_owned(), file(small.clone()))]);
    let sources =
        [tree("a", &files("data/x", "data/y")), tree("b", &files("data/p", "data/q")), stream("c", large.clone())];
    let manifest = machine.remembered(&mut expected, "erp", &sources).await;
    let once = (large.len() + small.len()) as u64;
    assert!((once..once + 8192).contains(&manifest.stats.new), "{:?}", manifest.stats);
    assert!(world.bytes("packs/") < once as usize + 16_384);
    assert!(restore_all(&world.person().await, &expected).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn sparse_packs_are_left_and_go() {
    let (world, machine, mut expected) = started().await;
    let mut random = Random::new(11);
    let mut files = small_tree(&mut random, 200, 20_000);
    let all = machine.backup("erp", &[tree("files", &files)]).await.unwrap();
    let keep: Vec<String> = files.keys().step_by(20).cloned().collect();
    files.retain(|path, _| keep.contains(path));
    world.clock.hours(24);
    // The first run after the deletion finds that too little of the pack is used, the second one leaves it.
    let first = machine.backup("erp", &[tree("files", &files)]).await.unwrap();
    assert_eq!(first.sparse_packs.len(), 1);
    world.clock.hours(24);
    let sources = [tree("files", &files)];
    let second = machine.backup("erp", &sources).await.unwrap();
    assert!(second.sparse_packs.is_empty());
    remember(&mut expected, &second, &sources);
    world.clock.hours(24);
    let third = machine.backup("erp", &sources).await.unwrap();
    assert_eq!((third.stats.packs, third.stats.new), (0, 0), "consolidated once");
    remember(&mut expected, &third, &sources);
    let gone: Vec<_> = [all, first].iter().map(|m| (m.plan.clone(), m.id.clone())).collect();
    backstay::repository::marks::forget(machine.catalog.vault(), &gone).await.unwrap();
    world.prune_out().await;
    let used: usize = files.values().filter_map(|f| f.content.as_ref()).map(Vec::len).sum();
    assert!(world.bytes("packs/") < used + 32 * 1024, "{} bytes for {used}", world.bytes("packs/"));
    assert_eq!(named_packs(&world).await.len(), world.keys("packs/").len());
    assert!(restore_all(&world.person().await, &expected).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_of_several_segments_survives_changes_at_every_seam() {
    let (world, machine, mut expected) = started().await;
    let mut random = Random::new(21);
    let mut files: Tree = (0..4000).map(|i| (format!("data/{i:05}"), file(format!("content {i}")))).collect();
    for night in 0..8 {
        let sources = [tree("files", &files)];
        let manifest = machine.remembered(&mut expected, "erp", &sources).await;
        let segments = &manifest.sources[0].artifacts[0].segments;
        assert!(segments.len() > 2, "{} segments", segments.len());
        if night > 0 {
            assert!(manifest.stats.new < 64 * 1024, "night {night}: {:?}", manifest.stats);
        }
        world.clock.hours(24);
        // The first or last entry of a segment goes, changes or gets a neighbour, and a few anywhere.
        let segment = machine.catalog.segment(&segments[random.below(segments.len() - 1)]).await.unwrap();
        let seam = if night % 2 == 0 { segment.entries.last() } else { segment.entries.first() };
        let path = String::from_utf8(seam.unwrap().path().unwrap().0.clone()).unwrap();
        match night % 3 {
            0 => drop(files.remove(&path)),
            1 => drop(files.insert(path, file(random.noise(300)))),
            _ => drop(files.insert(format!("{path}x"), file(random.noise(300)))),
        }
        if night > 3 {
            let any = format!("data/{:05}", random.below(4000));
            files.remove(&any);
            files.insert(format!("data/{:05}y", random.below(4000)), file(random.noise(200)));
        }
    }
    assert!(restore_all(&world.person().await, &expected).await.is_empty());
}
