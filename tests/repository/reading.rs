//! What a reader delivers, and when it stops: parts, ends that are broken, takers that are slow or gone.

use crate::data::{Random, file, stream, tree};
use crate::harness::{World, started, until};
use backstay::error::{Error, Kind, Result};
use backstay::repository::layout;
use backstay::repository::manifest::Artifact;
use backstay::repository::reader::Pieces;
use backstay::repository::segment::Segment;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const MIB: usize = 1 << 20;

/// Counts the requests from now on for objects whose key has the part, of each part.
fn requests<const N: usize>(world: &World, parts: [&str; N]) -> Arc<[AtomicU64; N]> {
    let counts: Arc<[AtomicU64; N]> = Arc::new(std::array::from_fn(|_| AtomicU64::new(0)));
    let (counters, parts) = (counts.clone(), parts.map(str::to_owned));
    world.store.set_fault(move |op, key| {
        for (counter, part) in counters.iter().zip(&parts) {
            counter.fetch_add(u64::from(op == "get" && key.contains(part)), Ordering::SeqCst);
        }
        None
    });
    counts
}

/// All bytes up to the end or the first error, behind which nothing may come.
async fn take(mut pieces: Pieces) -> (Vec<u8>, Option<Error>) {
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.recv().await {
        match piece {
            Ok(piece) => bytes.extend_from_slice(&piece),
            Err(e) => {
                assert!(pieces.recv().await.is_none(), "something behind an error");
                return (bytes, Some(e));
            }
        }
    }
    (bytes, None)
}

/// One artifact of noise, which is no byte twice.
async fn noise(bytes: usize) -> (World, Artifact, Vec<u8>) {
    let (world, machine, _) = started().await;
    let content = Random::new(5).noise(bytes);
    let manifest = machine.backup("erp", &[stream("db", content.clone())]).await.unwrap();
    let artifact = manifest.sources[0].artifacts[0].clone();
    (world, artifact, content)
}

/// The packs of a segment in the order in which its bytes lie in them.
fn packs(segment: &Segment) -> Vec<usize> {
    let mut packs: Vec<_> = segment.entries.iter().flat_map(|e| &e.extents).map(|x| x.pack as usize).collect();
    packs.dedup();
    packs
}

/// How many bytes lie before one of them.
fn before(segment: &Segment, pack: usize) -> usize {
    let extents = segment.entries.iter().flat_map(|e| &e.extents);
    extents.take_while(|x| x.pack as usize != pack).map(|x| x.length as usize).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_is_those_bytes_and_asks_for_no_pack_beside_it() -> Result<()> {
    let (world, artifact, content) = noise(20 * MIB).await;
    let (reader, _) = world.reader().await;
    let segment = reader.catalog().segment(&artifact.segments[0]).await?;
    let first = before(&segment, packs(&segment)[1]);
    let all = content.len();
    for (from, length) in
        [(0, 0), (0, 1), (0, all), (1, all - 1), (first - 1, 2), (first, 1), (7 * MIB + 3, 5 * MIB), (all, 0)]
    {
        let (bytes, error) = take(reader.range(&artifact, from as u64, length as u64)).await;
        assert!(error.is_none() && bytes == content[from..from + length], "{length} bytes from {from}");
    }
    // What is not there is not invented.
    assert_eq!(take(reader.range(&artifact, all as u64 - 3, u64::MAX)).await.0, content[all - 3..]);
    assert!(take(reader.range(&artifact, all as u64, 10)).await.0.is_empty());
    for (from, length, packs) in [(first - 1, 1, 1), (first - 1, 2, 2), (first, 1, 1)] {
        let (reader, _) = world.reader().await;
        let asked = requests(&world, ["/packs/"]);
        take(reader.range(&artifact, from as u64, length)).await;
        assert_eq!(asked[0].load(Ordering::SeqCst), packs, "{length} bytes from {from}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_before_a_broken_pack_comes_then_the_error_and_nothing_else() -> Result<()> {
    let (world, artifact, content) = noise(24 * MIB).await;
    let (reader, _) = world.reader().await;
    let segment = reader.catalog().segment(&artifact.segments[0]).await?;
    let broken = packs(&segment)[2];
    let before = before(&segment, broken);
    let name = layout::pack(&segment.packs[broken].key);
    let mut body = world.store.raw(&world.key(&name)).unwrap().to_vec();
    *body.last_mut().unwrap() ^= 1;
    world.store.replace(&world.key(&name), body);
    let (bytes, error) = take(reader.stream(&artifact, |_| true)).await;
    let error = error.expect("a broken pack was read");
    assert_eq!(error.kind, Kind::Damaged);
    assert!(error.to_string().contains(&name), "{error}");
    assert!(before > MIB && bytes == content[..before], "{} bytes instead of {before}", bytes.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taker_that_rests_holds_up_nobody_else_and_no_request_that_is_under_way() {
    let (world, machine, _) = started().await;
    let mut random = Random::new(6);
    // The first segment has more than may be ahead, and behind it are others.
    let large = (0..300).map(|i| (format!("a/{i:04}"), file(random.noise(256 * 1024))));
    let mut files: crate::data::Tree = large.collect();
    files.extend((0..6000).map(|i| (format!("b/{i:04}"), file(i.to_string()))));
    let manifest = machine.backup("erp", &[tree("files", &files)]).await.unwrap();
    let artifact = &manifest.sources[0].artifacts[0];
    assert!(artifact.segments.len() > 2, "{} segments", artifact.segments.len());
    let (reader, gate) = world.reader().await;
    let second = layout::meta(&artifact.segments[1].object);
    gate.stops_before("get", &second);
    let asked = requests(&world, ["/packs/", &second]);
    let rests = reader.stream(artifact, |_| true);
    gate.reached.acquire().await.unwrap().forget();
    until("no pack is fetched", || asked[0].load(Ordering::SeqCst) >= 8).await;
    gate.go_on.add_permits(1);
    until("a segment is not gone on with while nobody takes a piece", || asked[1].load(Ordering::SeqCst) == 1).await;
    let all = tokio::time::timeout(Duration::from_secs(120), take(reader.stream(artifact, |_| true)));
    let (bytes, error) = all.await.expect("one stream waits for another one that rests");
    let whole = crate::data::tar_of(&files);
    assert!(error.is_none() && bytes == whole);
    let (bytes, error) = take(rests).await;
    assert!(error.is_none() && bytes == whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_fetched_any_more_for_a_taker_that_is_gone() {
    let (world, artifact, content) = noise(64 * MIB).await;
    let (reader, gate) = world.reader().await;
    assert_eq!(take(reader.stream(&artifact, |_| true)).await.0.len(), content.len());
    gate.takes("get", 3_600_000);
    let pieces = reader.stream(&artifact, |_| true);
    until("no pack is fetched", || gate.most_at_once() >= 2).await;
    drop((pieces, reader));
    until("the store is still waited for", || Arc::strong_count(&gate) == 1).await;
}

/// The reader keeps the packs that were used last. A piece that is a view of one keeps it too, however long it waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_small_part_of_a_pack_does_not_keep_all_of_it_in_memory() {
    let (world, artifact, content) = noise(16 * MIB).await;
    let (reader, _) = world.reader().await;
    let mut pieces = reader.range(&artifact, 1000, 100_000);
    let piece = pieces.recv().await.unwrap().unwrap();
    assert_eq!(piece, content[1000..101_000]);
    assert!(piece.is_unique(), "a view of a pack");
    let mut pieces = reader.stream(&artifact, |_| true);
    let piece = pieces.recv().await.unwrap().unwrap();
    assert!(piece.len() > MIB && !piece.is_unique(), "a whole pack was copied");
}
