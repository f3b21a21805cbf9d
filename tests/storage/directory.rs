//! What is particular to a directory as a store.

use backstay::storage::fs::FsStore;
use backstay::storage::{DeleteOutcome, ErrorKind, ObjectStore, PutMode, PutOutcome, list_all};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

fn store(root: &Path) -> FsStore {
    FsStore::new(root, Duration::from_secs(10)).unwrap()
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn files_and_directories_are_private() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("a/b");
    let store = store(&root);
    store.create_root().await.unwrap();
    store.put("h/deep/k", "x".into(), PutMode::IfAbsent).await.unwrap();
    assert_eq!(mode(&root.join("h/deep/k")), 0o600);
    for directory in ["", "h", "h/deep"] {
        assert_eq!(mode(&root.join(directory)), 0o700, "{directory:?}");
    }
    assert_eq!(files(&root).len(), 1, "no temporary file is left");

    fs::remove_dir_all(root.join("h")).unwrap();
    store.put("h/deep/k", "x".into(), PutMode::IfAbsent).await.unwrap();
    assert_eq!(store.get("h/deep/k", 1).await.unwrap(), "x", "a directory that was removed is made again");
}

#[tokio::test]
async fn a_missing_root_is_not_created_by_a_put() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("unmounted");
    let store = store(&root);
    assert_eq!(store.put("h/k", "x".into(), PutMode::IfAbsent).await.unwrap_err().kind, ErrorKind::NoBucket);
    assert_eq!(store.put("k", "x".into(), PutMode::Blind).await.unwrap_err().kind, ErrorKind::NoBucket);
    assert_eq!(store.get("h/k", 1).await.unwrap_err().kind, ErrorKind::NoBucket);
    assert_eq!(store.stat("h/k").await.unwrap_err().kind, ErrorKind::NoBucket);
    assert_eq!(store.list("", None).await.unwrap_err().kind, ErrorKind::NoBucket);
    assert_eq!(store.list("h/", None).await.unwrap_err().kind, ErrorKind::NoBucket);
    assert_eq!(store.folders("").await.unwrap_err().kind, ErrorKind::NoBucket);
    assert_eq!(store.delete("h/k").await.unwrap_err().kind, ErrorKind::NoBucket);
    assert_eq!(store.now().await.unwrap_err().kind, ErrorKind::NoBucket);
    assert!(!root.exists());
    fs::write(&root, "a file").unwrap();
    assert_eq!(store.list("", None).await.unwrap_err().kind, ErrorKind::NoBucket);
    assert_eq!(store.get("h/k", 1).await.unwrap_err().kind, ErrorKind::NoBucket);
}

#[tokio::test]
async fn what_a_killed_writer_left_is_ignored_and_aged_out() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    store.put("h/k", "x".into(), PutMode::IfAbsent).await.unwrap();
    let half = [folder.path().join("h/.tmp-00000000000000aa"), folder.path().join("dead/.tmp-00000000000000bb")];
    fs::create_dir(folder.path().join("dead")).unwrap();
    for path in &half {
        fs::write(path, "half").unwrap();
    }
    let keys: Vec<String> = list_all(&store, "").await.unwrap().into_iter().map(|info| info.key).collect();
    assert_eq!(keys, ["h/k"]);
    assert_eq!(store.folders("").await.unwrap(), ["h"]);
    let reserved = store.put("h/.tmp-1", "x".into(), PutMode::IfAbsent).await.unwrap_err();
    assert_eq!(reserved.kind, ErrorKind::Invalid);

    assert_eq!(store.sweep().await.unwrap(), 0, "young ones may belong to a writer at work");
    let yesterday = SystemTime::now() - Duration::from_secs(25 * 60 * 60);
    fs::File::options().write(true).open(&half[0]).unwrap().set_modified(yesterday).unwrap();
    assert_eq!(store.sweep().await.unwrap(), 1);
    assert!(!half[0].exists() && half[1].exists());
    assert_eq!(store.get("h/k", 1).await.unwrap(), "x");
}

const WRITE_INTO: &str = "BACKSTAY_TEST_WRITE_INTO";

/// The writer of the next test, in a process of its own: does nothing unless that test starts it.
#[tokio::test(flavor = "multi_thread")]
async fn writer_to_be_killed() {
    let Some(root) = std::env::var_os(WRITE_INTO) else { return };
    let store = store(Path::new(&root));
    let writers = (0..4_u8).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            for number in 0.. {
                let key = format!("h/{}/{writer}-{}-{number}", number % 5, std::process::id());
                store.put(&key, vec![writer; 300_000].into(), PutMode::IfAbsent).await.unwrap();
            }
        })
    });
    futures::future::join_all(writers.collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn killed_writers_leave_whole_objects() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let (mut written, mut leftovers) = (0, 0);
    for round in 0..6 {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["directory::writer_to_be_killed", "--exact"])
            .env(WRITE_INTO, folder.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        tokio::time::sleep(Duration::from_millis(100 + 13 * round)).await;
        writer.kill().unwrap();
        writer.wait().unwrap();
        let objects = list_all(&store, "").await.unwrap();
        written += objects.len();
        for info in &objects {
            let body = store.get(&info.key, 1 << 20).await.unwrap();
            assert!(body.len() == 300_000 && body.iter().all(|byte| *byte == body[0]), "{info:?} is torn");
            fs::remove_file(folder.path().join(&info.key)).unwrap();
        }
        leftovers = files(folder.path()).len();
    }
    assert!(written > 0, "the writers wrote nothing before they were killed");
    assert!(leftovers <= 24, "at most one temporary file for each killed writer: {leftovers}");
}

/// A put that nobody waits for any more leaves its whole object or none.
#[tokio::test]
async fn an_abandoned_put_leaves_all_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let body = vec![7_u8; 4 << 20];
    for number in 0..20 {
        let key = format!("h/{number}");
        let put = store.put(&key, body.clone().into(), PutMode::IfAbsent);
        let _ = tokio::time::timeout(Duration::from_micros(number * 300), put).await;
        for info in list_all(&store, "").await.unwrap() {
            assert_eq!(info.size, body.len() as u64, "{info:?}");
        }
    }
}

/// A mounted file system of one MiB, gone when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "backstay-test"])
            .arg(folder.path())
            .status()
            .expect("this test needs mount");
        assert!(mounted.success(), "this test mounts a tmpfs and needs root");
        SmallDisk(folder)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_is_said_and_leaves_nothing_behind() {
    let disk = SmallDisk::mount();
    let store = store(disk.0.path());
    store.put("h/small", vec![1; 1000].into(), PutMode::IfAbsent).await.unwrap();
    for mode in [PutMode::IfAbsent, PutMode::Blind] {
        let error = store.put("h/large", vec![1; 2 << 20].into(), mode).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Full, "{error}");
        assert_eq!(store.get("h/large", 4 << 20).await.unwrap_err().kind, ErrorKind::NotFound);
    }
    assert_eq!(files(disk.0.path()), [disk.0.path().join("h/small")]);
    store.put("h/other", vec![2; 1000].into(), PutMode::IfAbsent).await.unwrap();
}

#[tokio::test]
async fn names_that_are_in_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    store.put("a/b", "x".into(), PutMode::IfAbsent).await.unwrap();
    // A directory cannot hold both `a/b` and `a/b/c`, nor an object `a`.
    for key in ["a/b/c", "a"] {
        let error = store.put(key, "x".into(), PutMode::IfAbsent).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid, "{error}");
        assert_eq!(store.get(key, 10).await.unwrap_err().kind, ErrorKind::NotFound);
        assert_eq!(store.stat(key).await.unwrap_err().kind, ErrorKind::NotFound);
        assert_eq!(store.delete(key).await.unwrap(), DeleteOutcome::Gone);
    }
    let long = format!("a/{}", "n".repeat(300));
    assert_eq!(store.put(&long, "x".into(), PutMode::IfAbsent).await.unwrap_err().kind, ErrorKind::Invalid);
    fs::write(folder.path().join("a/not a key"), "x").unwrap();
    assert_eq!(list_all(&store, "").await.unwrap().len(), 1);
    std::os::unix::fs::symlink("/etc", folder.path().join("a/link")).unwrap();
    assert_eq!(store.list("", None).await.unwrap_err().kind, ErrorKind::Invalid);
    assert_eq!(FsStore::new(Path::new("relative"), Duration::from_secs(1)).unwrap_err().kind, ErrorKind::Invalid);
}

#[tokio::test]
async fn an_immutable_file_is_retained() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    store.put("h/k", "x".into(), PutMode::IfAbsent).await.unwrap();
    let path = folder.path().join("h/k");
    let attribute = |flag: &str| Command::new("chattr").arg(flag).arg(&path).status().expect("this test needs chattr");
    assert!(attribute("+i").success(), "this test needs root and a file system with the immutable attribute");
    let deleted = store.delete("h/k").await;
    let put = store.put("h/k", "y".into(), PutMode::Blind).await;
    attribute("-i");
    assert_eq!(deleted.unwrap(), DeleteOutcome::Retained);
    assert_eq!(put.unwrap_err().kind, ErrorKind::Denied);
    assert_eq!(store.put("h/k", "z".into(), PutMode::IfAbsent).await.unwrap(), PutOutcome::Exists);
    assert_eq!(store.delete("h/k").await.unwrap(), DeleteOutcome::Gone);
}
