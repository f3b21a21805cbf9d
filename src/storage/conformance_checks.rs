//! The single checks of [`super::conformance`]. Each takes the folder that it may use.

use super::{DeleteOutcome, ErrorKind, ObjectStore, PutMode, PutOutcome, Result, StorageError, list_all};
use bytes::Bytes;
use futures::StreamExt;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How many requests the checks with many objects keep in flight.
const PARALLEL: usize = 16;

#[track_caller]
fn must<T>(what: &str, answer: Result<T>) -> T {
    match answer {
        Ok(value) => value,
        Err(error) => panic!("{what}: {error}"),
    }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(what: &str, answer: Result<T>, kind: ErrorKind) -> StorageError {
    match answer {
        Ok(value) => panic!("{what}: expected {kind:?}, got {value:?}"),
        Err(error) if error.kind == kind => error,
        Err(error) => panic!("{what}: expected {kind:?}, got {:?}: {error}", error.kind),
    }
}

async fn create(store: &dyn ObjectStore, key: &str, body: impl Into<Bytes>) {
    let outcome = must(&format!("put {key}"), store.put(key, body.into(), PutMode::IfAbsent).await);
    assert_eq!(outcome, PutOutcome::Created, "put of the new key {key}");
}

/// Bytes that do not repeat within a chunk and differ from one `seed` to the next.
fn sample(seed: u64, size: usize) -> Bytes {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(state >> 8).to_le_bytes());
    }
    bytes.truncate(size);
    bytes.into()
}

/// The store's clock is near ours and does not run backwards.
pub(super) async fn clock(store: &dyn ObjectStore) {
    let first = must("now", store.now().await);
    let second = must("now", store.now().await);
    assert!(second >= first, "now: {second} after {first}");
    let apart = second.duration_since(first).as_secs();
    assert!(apart < 120, "now: {apart} s between two calls");
}

/// What was put comes back, with its size and a time.
pub(super) async fn round_trips(store: &dyn ObjectStore, home: &str) {
    for size in [0, 1, 9 * 1024 * 1024] {
        let key = format!("{home}/sizes/{size}");
        let body = sample(size as u64, size);
        let before = must("now", store.now().await).as_second();
        create(store, &key, body.clone()).await;
        assert!(must("get", store.get(&key, size as u64).await) == body, "{key}: other bytes came back");
        let info = must("stat", store.stat(&key).await);
        assert_eq!((info.key.as_str(), info.size), (key.as_str(), size as u64), "stat {key}");
        let written = info.modified.as_second();
        assert!((before - 2..before + 120).contains(&written), "stat {key}: written at {written}, now {before}");
        let page = must("list", store.list(&key, None).await);
        assert_eq!(page.objects.len(), 1, "list right after the put of {key}: {page:?}");
        assert_eq!(page.objects[0].size, info.size, "list {key}");
    }
}

/// A missing object is `NotFound`, an empty listing is no error.
pub(super) async fn missing_objects(store: &dyn ObjectStore, home: &str) {
    let key = format!("{home}/nothing/here");
    refused("get of a missing key", store.get(&key, 10).await, ErrorKind::NotFound);
    refused("stat of a missing key", store.stat(&key).await, ErrorKind::NotFound);
    let page = must("list of nothing", store.list(&format!("{home}/nothing/"), None).await);
    assert!(page.objects.is_empty() && page.next.is_none(), "list of nothing: {page:?}");
    let folders = must("folders of nothing", store.folders(&format!("{home}/nothing/")).await);
    assert!(folders.is_empty(), "folders of nothing: {folders:?}");
}

/// An object over the caller's limit is refused, one of exactly the limit is not.
pub(super) async fn size_limit(store: &dyn ObjectStore, home: &str) {
    let key = format!("{home}/limit");
    create(store, &key, sample(3, 1000)).await;
    refused("get over the limit", store.get(&key, 999).await, ErrorKind::TooLarge);
    refused("get over a limit of 0", store.get(&key, 0).await, ErrorKind::TooLarge);
    assert_eq!(must("get at the limit", store.get(&key, 1000).await).len(), 1000);
}

/// Every character of the alphabet works, in names and at their ends.
pub(super) async fn odd_keys(store: &dyn ObjectStore, home: &str) {
    let names = ["a.b", "...", ".hidden", "a~", "~", "-", "-x", "@", "user@host+1", "+", "a+b", "_", "A", "0"];
    let mut expected = BTreeSet::new();
    for name in names {
        let key = format!("{home}/odd/{name}");
        create(store, &key, key.clone()).await;
        let body = must(&format!("get {key}"), store.get(&key, 1000).await);
        assert_eq!(body, key.as_bytes(), "{key}: other bytes came back");
        expected.insert(key);
    }
    let long = format!("{home}/odd/{}/{}", "d".repeat(30), "f".repeat(64));
    create(store, &long, "long").await;
    expected.insert(long);
    let listed = must("list", list_all(store, &format!("{home}/odd/")).await);
    let listed: Vec<String> = listed.into_iter().map(|info| info.key).collect();
    assert_eq!(listed, expected.into_iter().collect::<Vec<_>>(), "list of odd keys");
}

/// Keys that could leave the root, or that not every store can hold, are refused by each call.
pub(super) async fn invalid_keys(store: &dyn ObjectStore) {
    for key in
        ["", "/", "/a", "a/", "a//b", "..", "a/..", "a/../b", ".", "a/./b", "a b", "a\\b", "a\0b", "\u{e9}", "a?b"]
    {
        let what = format!("key {key:?}");
        refused(&what, store.put(key, Bytes::new(), PutMode::IfAbsent).await, ErrorKind::Invalid);
        refused(&what, store.put(key, Bytes::new(), PutMode::Blind).await, ErrorKind::Invalid);
        refused(&what, store.get(key, 1).await, ErrorKind::Invalid);
        refused(&what, store.stat(key).await, ErrorKind::Invalid);
        refused(&what, store.delete(key).await, ErrorKind::Invalid);
    }
    for prefix in ["/", "../", "a/../", "a//", "/etc/"] {
        let what = format!("prefix {prefix:?}");
        refused(&what, store.list(prefix, None).await, ErrorKind::Invalid);
        refused(&what, store.folders(prefix).await, ErrorKind::Invalid);
    }
}

/// A second create says `Exists` and changes nothing, with the same bytes and with others.
pub(super) async fn create_only(store: &dyn ObjectStore, home: &str) {
    let key = format!("{home}/once");
    create(store, &key, "first").await;
    for body in ["first", "second", ""] {
        let again = must("put again", store.put(&key, body.into(), PutMode::IfAbsent).await);
        assert_eq!(again, PutOutcome::Exists, "create-only: a second put of {key} was accepted");
        assert_eq!(must("get", store.get(&key, 10).await), "first", "create-only: {key} was overwritten");
    }
}

/// Of several creates of one key at once exactly one wins, and its bytes stay.
pub(super) async fn one_winner(store: &Arc<dyn ObjectStore>, home: &str) {
    for round in 0..3 {
        let key = format!("{home}/race/{round}");
        let body = |racer: u64| sample(1000 + racer, 2000 + usize::try_from(racer).unwrap_or_default());
        let racers = (0..16).map(|racer| {
            let (store, key) = (Arc::clone(store), key.clone());
            tokio::spawn(async move { (racer, store.put(&key, body(racer), PutMode::IfAbsent).await) })
        });
        let mut winners = Vec::new();
        for racer in futures::future::join_all(racers).await {
            match racer {
                Ok((racer, outcome)) => {
                    if must("put in a race", outcome) == PutOutcome::Created {
                        winners.push(racer);
                    }
                }
                Err(error) => panic!("put in a race: {error}"),
            }
        }
        assert_eq!(winners.len(), 1, "atomic create: {} of 16 racers were told Created", winners.len());
        let stored = must("get after a race", store.get(&key, 10_000).await);
        assert!(stored == body(winners[0]), "atomic create: the stored bytes are not the winner's");
    }
}

/// A blind write replaces what is there.
pub(super) async fn blind_write(store: &dyn ObjectStore, home: &str) {
    let key = format!("{home}/blind");
    for body in ["one", "and two"] {
        let outcome = must("blind put", store.put(&key, body.into(), PutMode::Blind).await);
        assert_eq!(outcome, PutOutcome::Created, "blind put of {key}");
        assert_eq!(must("get", store.get(&key, 10).await), body, "blind put of {key}");
    }
}

/// A prefix is a plain string prefix; folders are what has something below it.
pub(super) async fn prefixes_and_folders(store: &dyn ObjectStore, home: &str) {
    let home = format!("{home}/tree");
    let keys = ["a-b/1", "a/b/1", "a/b/2", "a/b-c", "a/b.c", "a/bc", "a/c/d/e", "top"];
    for key in keys {
        create(store, &format!("{home}/{key}"), "x").await;
    }
    let cases: [(&str, &[&str]); 7] = [
        ("", &keys),
        ("a/b", &["a/b-c", "a/b.c", "a/b/1", "a/b/2", "a/bc"]),
        ("a/b/", &["a/b/1", "a/b/2"]),
        ("a/b/1", &["a/b/1"]),
        ("a", &["a-b/1", "a/b-c", "a/b.c", "a/b/1", "a/b/2", "a/bc", "a/c/d/e"]),
        ("a/c/d", &["a/c/d/e"]),
        ("b", &[]),
    ];
    for (prefix, expected) in cases {
        let listed = must("list", list_all(store, &format!("{home}/{prefix}")).await);
        let listed: Vec<&str> =
            listed.iter().filter_map(|info| info.key.strip_prefix(&home)?.strip_prefix('/')).collect();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(listed, expected, "list of prefix {prefix:?}");
    }
    let cases: [(&str, &[&str]); 4] = [("", &["a", "a-b"]), ("a/", &["b", "c"]), ("a/b/", &[]), ("a/c/", &["d"])];
    for (prefix, expected) in cases {
        let folders = must("folders", store.folders(&format!("{home}/{prefix}")).await);
        assert_eq!(folders, expected, "folders of {prefix:?}");
    }
    let top = must("folders of the root", store.folders("").await);
    let host = home.split('/').next().unwrap_or_default();
    assert!(top.iter().any(|name| name == host), "folders of the root lack {host}: {top:?}");
}

/// Deleting is idempotent, and the object is gone everywhere.
pub(super) async fn deletion(store: &dyn ObjectStore, home: &str) {
    let key = format!("{home}/gone/x");
    create(store, &key, "x").await;
    for _ in 0..2 {
        assert_eq!(must("delete", store.delete(&key).await), DeleteOutcome::Gone, "delete {key}");
    }
    refused("get of a deleted key", store.get(&key, 10).await, ErrorKind::NotFound);
    refused("stat of a deleted key", store.stat(&key).await, ErrorKind::NotFound);
    let left = must("list", list_all(store, &format!("{home}/gone/")).await);
    assert!(left.is_empty(), "list shows a deleted key: {left:?}");
    let folders = must("folders", store.folders(&format!("{home}/")).await);
    assert!(!folders.iter().any(|name| name == "gone"), "folders shows an empty folder: {folders:?}");
    create(store, &key, "again").await;
}

/// A listing of several pages has every key once and in order, while other keys are written.
pub(super) async fn pages(store: &Arc<dyn ObjectStore>, home: &str, objects: usize) {
    let home = format!("{home}/pages");
    let keys: Vec<String> = (0..objects).map(|number| format!("{home}/{:02x}/{number:05}", number % 7)).collect();
    let writes = futures::stream::iter(keys.clone()).map(|key| {
        let store = Arc::clone(store);
        async move { create(&*store, &key, "x").await }
    });
    writes.buffer_unordered(PARALLEL).collect::<Vec<()>>().await;
    let mut expected = keys;
    expected.sort_unstable();
    let mut listed = Vec::new();
    let mut token = None;
    loop {
        let page = must("list", store.list(&format!("{home}/"), token.as_deref()).await);
        listed.extend(page.objects.into_iter().map(|info| info.key));
        assert!(listed.len() <= objects, "list: more keys than were written, or a page came twice");
        match page.next {
            Some(next) => token = Some(next),
            None => break,
        }
    }
    assert_eq!(listed.len(), expected.len(), "list: keys are missing over the pages");
    assert!(listed == expected, "list: the keys are not in byte order");
    let folders = must("folders", store.folders(&format!("{home}/")).await);
    assert_eq!(folders.len(), objects.min(7), "folders over several pages: {folders:?}");
}

/// Removes everything below the suite's folder.
pub(super) async fn clean_up(store: &Arc<dyn ObjectStore>, home: &str) {
    let all = must("list", list_all(&**store, &format!("{home}/")).await);
    let deletes = futures::stream::iter(all).map(|info| {
        let store = Arc::clone(store);
        async move {
            let outcome = must("delete", store.delete(&info.key).await);
            assert_eq!(outcome, DeleteOutcome::Gone, "delete {}", info.key);
        }
    });
    deletes.buffer_unordered(PARALLEL).collect::<Vec<()>>().await;
    let left = must("list", list_all(&**store, &format!("{home}/")).await);
    assert!(left.is_empty(), "{} objects are left", left.len());
}
