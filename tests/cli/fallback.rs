//! A backup that is not good is passed over for the one before it, when that is asked for, and never without a word.

use crate::world::World;
use std::fs;
use std::path::PathBuf;

/// Two backups, the first with `first`, the second with a pack of its own; and what is live now.
fn two() -> (World, PathBuf) {
    let w = World::new();
    w.file("one", b"first");
    w.backup();
    let before = w.objects("packs");
    w.file("one", b"second");
    w.settle();
    w.backup();
    let new: Vec<PathBuf> = w.objects("packs").into_iter().filter(|p| !before.contains(p)).collect();
    assert_eq!(new.len(), 1);
    w.file("one", b"third");
    (w, new[0].clone())
}

fn live(w: &World) -> Vec<u8> {
    fs::read(w.at("tree/one")).unwrap()
}

#[test]
fn a_damaged_pack_is_found_in_staging_and_the_backup_before_is_taken() {
    let (w, pack) = two();
    let mut bytes = fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&pack, bytes).unwrap();
    w.run(&["restore", "--yes"]).code(7);
    assert_eq!(live(&w), b"third");
    w.run(&["restore", "--yes", "--fallback", "1"]).code(0).says(&["is not good", "Taking the one before it"]);
    assert_eq!(live(&w), b"first");
}

#[test]
fn a_missing_pack_is_found_before_anything_is_touched() {
    let (w, pack) = two();
    fs::remove_file(&pack).unwrap();
    w.run(&["restore", "--yes"]).code(7).says(&["the pack is missing", "nothing was touched"]);
    assert!(!w.path().join("state/restores").exists(), "there is no restore to tell of");
    w.run(&["restore", "--yes", "--fallback", "3"]).code(0).says(&["Taking the one before it"]);
    assert_eq!(live(&w), b"first");
}

#[test]
fn there_may_be_none_before() {
    let w = World::new();
    w.file("one", b"first");
    w.backup();
    fs::remove_file(&w.objects("packs")[0]).unwrap();
    w.file("one", b"second");
    w.run(&["restore", "--yes", "--fallback", "2"]).code(7).says(&["the pack is missing"]);
    assert_eq!(live(&w), b"second");
}
