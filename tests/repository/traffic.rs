//! What is under way at once between a host and its store: several packs in both directions, never more than the
//! budget, and nothing of it on the disk.

use crate::data::{Random, stream};
use crate::harness::{Machine, World, started, until};
use backstay::repository::writer::WriterOptions;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const MIB: usize = 1 << 20;

/// A source that counts what was taken of it.
struct Counted {
    left: usize,
    random: Random,
    given: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = buffer.len().min(self.left);
        buffer[..n].copy_from_slice(&self.random.noise(n));
        self.left -= n;
        self.given.fetch_add(n as u64, Ordering::SeqCst);
        Ok(n)
    }
}

/// What a counter stands at once it has not moved for a while.
async fn standstill(counter: impl Fn() -> u64) -> u64 {
    let mut last = counter();
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = counter();
        if now == last {
            return now;
        }
        last = now;
    }
}

fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|e| match e.file_type().unwrap().is_dir() {
            true => bytes_below(&e.path()),
            false => e.metadata().map_or(0, |m| m.len()),
        })
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_objects_are_uploaded_at_once_as_the_options_say() {
    let sources = [stream("db", Random::new(1).noise(32 * MIB))];
    for (uploads, expected) in [(1, 1..=1), (4, 2..=4)] {
        let (_world, machine, _) = started().await;
        machine.gate.takes("put", 200);
        let options = WriterOptions { uploads, ..Machine::options() };
        let mut run = machine.begin_with("erp", options).await.unwrap();
        run.feed(&sources).await;
        run.commit().await.unwrap();
        let most = machine.gate.most_at_once();
        assert!(expected.contains(&most), "{most} at once of {uploads}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_stands_still_while_the_store_does_and_nothing_waits_on_the_disk() {
    let (world, machine, _) = started().await;
    machine.gate.stops_before("put", "/packs/");
    let options = WriterOptions { memory: 16 * MIB, uploads: 1, ..Machine::options() };
    let run = machine.begin_with("erp", options).await.unwrap();
    let given = Arc::new(AtomicU64::new(0));
    let reading = tokio::task::spawn_blocking({
        let (writer, given) = (run.writer.clone(), given.clone());
        move || {
            let mut artifact = writer.artifact("stream", "sql");
            artifact.stream(&mut Counted { left: 64 * MIB, random: Random::new(2), given })?;
            artifact.finish().map(drop)
        }
    });
    machine.gate.reached.acquire().await.unwrap().forget();
    let taken = standstill(|| given.load(Ordering::SeqCst)).await as usize;
    // The budget is full of packs, plain and sealed; beyond that there is one pack that is being filled, and the window
    // of the cutter.
    assert!((4 * MIB..32 * MIB).contains(&taken), "{taken} bytes were read");
    assert!(bytes_below(world.dir.path()) < MIB as u64);
    machine.gate.go_on.add_permits(1);
    reading.await.unwrap().unwrap();
    assert_eq!(given.load(Ordering::SeqCst), 64 * MIB as u64);
    assert!(bytes_below(world.dir.path()) < MIB as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_are_downloaded_side_by_side_only_so_far_ahead_and_delivered_in_order() {
    let (world, machine, _) = started().await;
    let content = Random::new(3).noise(80 * MIB);
    let manifest = machine.backup("erp", &[stream("db", content.clone())]).await.unwrap();
    let artifact = &manifest.sources[0].artifacts[0];
    let (reader, gate) = world.reader().await;
    let asked = Arc::new(AtomicU64::new(0));
    let counter = asked.clone();
    world.store.set_fault(move |op, key| {
        counter.fetch_add(u64::from(op == "get" && key.contains("/packs/")), Ordering::SeqCst);
        None
    });
    gate.takes("get", 50);
    // Nobody takes anything yet: what may be fetched ahead is fetched nevertheless, and then stands still. Four that wait to
    // be taken, one that waits for a place among them, and seven behind it; a pack may be two of them.
    let mut pieces = reader.stream(artifact, |_| true);
    until("nobody goes on with the packs while nobody takes a piece", || asked.load(Ordering::SeqCst) >= 9).await;
    let ahead = standstill(|| asked.load(Ordering::SeqCst)).await;
    let packs = world.keys("packs/").len() as u64;
    assert!(ahead <= 12 && ahead < packs, "{ahead} of {packs} packs");
    let mut at = 0;
    while let Some(piece) = pieces.recv().await {
        let piece = piece.unwrap();
        assert!(content[at..].starts_with(&piece), "other bytes at {at}");
        at += piece.len();
    }
    assert_eq!((at, asked.load(Ordering::SeqCst)), (content.len(), packs));
    let most = gate.most_at_once();
    assert!((4..=10).contains(&most), "{most} at once");
}

/// The seal for the process itself, through which each pack is opened again, shows in what is stored.
#[tokio::test(flavor = "multi_thread")]
async fn packs_are_opened_again_before_they_leave_unless_that_is_off() {
    for (verify, expected) in [(true, 2), (false, 1)] {
        let world = World::new().await;
        let machine = world.machine("m").await;
        let options = WriterOptions { verify, ..Machine::options() };
        let mut run = machine.begin_with("erp", options).await.unwrap();
        run.feed(&[stream("db", Random::new(4).noise(1000))]).await;
        run.commit().await.unwrap();
        let packs = world.keys("packs/");
        assert!(!packs.is_empty());
        for key in packs {
            let body = world.store.raw(&key).unwrap();
            let recipients = body.windows(10).filter(|w| w == b"-> X25519 ").count();
            assert_eq!(recipients, expected, "verify = {verify}");
        }
    }
}
