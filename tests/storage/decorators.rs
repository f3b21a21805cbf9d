//! Retries, create-only and throttling, over the store in memory.

use crate::support::quick;
use backstay::storage::conformance::Suite;
use backstay::storage::create_only::{Conditional, CreateOnly};
use backstay::storage::memory::MemoryStore;
use backstay::storage::retry::{Retry, RetryPolicy};
use backstay::storage::throttle::Throttle;
use backstay::storage::{DeleteOutcome, ErrorKind, ObjectStore, PutMode, PutOutcome, StorageError, list_all};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

fn fail(kind: ErrorKind, op: &'static str, key: &str) -> Option<StorageError> {
    Some(StorageError::new(kind, op, format!("memory:/{key}"), "injected"))
}

/// Fails the first `times` calls of `wanted`; counts all of them.
fn first_calls(
    wanted: &'static str,
    kind: ErrorKind,
    times: usize,
) -> (Arc<AtomicUsize>, impl Fn(&'static str, &str) -> Option<StorageError> + Send + Sync + 'static) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    let hook = move |op: &'static str, key: &str| {
        let fails = op == wanted && counter.fetch_add(1, Ordering::SeqCst) < times;
        if fails { fail(kind, op, key) } else { None }
    };
    (calls, hook)
}

fn store() -> (Arc<MemoryStore>, Retry) {
    let memory = Arc::new(MemoryStore::new());
    (Arc::clone(&memory), Retry::new(memory, quick()))
}

#[tokio::test]
async fn transient_errors_are_retried() {
    for kind in [ErrorKind::Timeout, ErrorKind::Unavailable, ErrorKind::Throttled, ErrorKind::Corrupt] {
        let (memory, retry) = store();
        memory.replace("h/k", "x");
        let (calls, hook) = first_calls("get", kind, 2);
        memory.set_fault(hook);
        assert_eq!(retry.get("h/k", 1).await.unwrap(), "x");
        assert_eq!(calls.load(Ordering::SeqCst), 3, "{kind:?}");
    }
}

#[tokio::test]
async fn other_errors_are_not_retried() {
    use ErrorKind::{Archived, Credentials, Denied, Full, Invalid, NoBucket, NotFound, TooLarge};
    for kind in [NotFound, NoBucket, Denied, Credentials, Full, TooLarge, Archived, Invalid] {
        let (memory, retry) = store();
        let (calls, hook) = first_calls("put", kind, usize::MAX);
        memory.set_fault(hook);
        let error = retry.put("h/k", "x".into(), PutMode::IfAbsent).await.unwrap_err();
        assert_eq!((error.kind, calls.load(Ordering::SeqCst)), (kind, 1));
        assert!(!error.detail.contains("attempts"), "{error}");
    }
}

#[tokio::test]
async fn retries_end() {
    let (memory, retry) = store();
    let (calls, hook) = first_calls("list", ErrorKind::Unavailable, usize::MAX);
    memory.set_fault(hook);
    let error = retry.list("", None).await.unwrap_err();
    assert_eq!(calls.load(Ordering::SeqCst), 5);
    assert!(error.to_string().contains("5 attempts"), "{error}");

    let total = Duration::from_millis(100);
    let policy = RetryPolicy { total, attempts: 1000, first_pause: Duration::from_millis(30), ..quick() };
    let started = Instant::now();
    let error = Retry::new(memory, policy).list("", None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(started.elapsed() < Duration::from_millis(1000), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_put_whose_answer_was_lost_is_ours() {
    let (memory, retry) = store();
    let (_, hook) = first_calls("put", ErrorKind::Timeout, 1);
    memory.set_fault_after(hook);
    let outcome = retry.put("h/k", "ours".into(), PutMode::IfAbsent).await.unwrap();
    assert_eq!(outcome, PutOutcome::Created);
    assert_eq!(memory.raw("h/k").unwrap(), "ours");
}

#[tokio::test]
async fn a_put_that_lost_to_another_writer_exists() {
    for theirs in ["theirs", "longer than ours"] {
        let (memory, retry) = store();
        memory.replace("h/k", theirs);
        let (_, hook) = first_calls("put", ErrorKind::Unavailable, 1);
        memory.set_fault(hook);
        let outcome = retry.put("h/k", "ours".into(), PutMode::IfAbsent).await.unwrap();
        assert_eq!(outcome, PutOutcome::Exists);
        assert_eq!(memory.raw("h/k").unwrap(), theirs);
    }
    // Without a failure before it, `Exists` is `Exists`, even for the same bytes.
    let (memory, retry) = store();
    memory.replace("h/k", "ours");
    assert_eq!(retry.put("h/k", "ours".into(), PutMode::IfAbsent).await.unwrap(), PutOutcome::Exists);
}

#[tokio::test]
async fn create_only_finds_out_and_replaces_the_condition() {
    let memory = Arc::new(MemoryStore::new());
    memory.ignore_conditions(true);
    let retry = Arc::new(Retry::new(Arc::clone(&memory) as Arc<dyn ObjectStore>, quick()));
    let store = Arc::new(CreateOnly::new(retry, "here", None));
    Suite::default().run(Arc::clone(&store) as Arc<dyn ObjectStore>).await;
    assert_eq!(store.conditional(), Some(Conditional::Ignored));
}

#[tokio::test]
async fn create_only_sees_a_writer_between_its_look_and_its_write() {
    let memory = Arc::new(MemoryStore::new());
    memory.ignore_conditions(true);
    let store = CreateOnly::known(Arc::clone(&memory) as Arc<dyn ObjectStore>, Conditional::Ignored);
    let other = Arc::clone(&memory);
    memory.set_fault_after(move |op, key| {
        if op == "put" {
            other.replace(key, "theirs");
        }
        None
    });
    assert_eq!(store.put("h/k", "ours".into(), PutMode::IfAbsent).await.unwrap(), PutOutcome::Exists);
}

#[tokio::test]
async fn create_only_is_not_misled_by_a_lost_answer() {
    for lost in 0..2 {
        let memory = Arc::new(MemoryStore::new());
        let puts = AtomicUsize::new(0);
        memory.set_fault_after(move |op, key| {
            let number = puts.fetch_add(usize::from(op == "put"), Ordering::SeqCst);
            if op == "put" && number == lost { fail(ErrorKind::Unavailable, op, key) } else { None }
        });
        let retry = Arc::new(Retry::new(memory, quick()));
        let store = CreateOnly::new(retry, "here", None);
        assert_eq!(store.probe("h/probe").await.unwrap(), Conditional::Enforced, "answer {lost} lost");
    }
}

#[tokio::test]
async fn the_verdict_is_remembered_by_identity() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("verdicts.json");
    let ignoring = Arc::new(MemoryStore::new());
    ignoring.ignore_conditions(true);
    let first = CreateOnly::new(ignoring, "s3://b at one", Some(&file));
    assert_eq!(first.probe("h/probe").await.unwrap(), Conditional::Ignored);
    let enforcing = Arc::new(MemoryStore::new());
    let second = CreateOnly::new(Arc::clone(&enforcing) as Arc<dyn ObjectStore>, "s3://b at two", Some(&file));
    assert_eq!(second.probe("h/probe").await.unwrap(), Conditional::Enforced);

    let again = CreateOnly::new(Arc::clone(&enforcing) as Arc<dyn ObjectStore>, "s3://b at one", Some(&file));
    let requests = list_all(&*enforcing, "").await.unwrap().len();
    assert_eq!(again.probe("other/probe").await.unwrap(), Conditional::Ignored);
    assert_eq!(list_all(&*enforcing, "").await.unwrap().len(), requests, "nothing was probed");

    let old = r#"{"s3://b at one": {"conditional": "ignored", "checked": "2020-01-01T00:00:00Z"}}"#;
    for stale in [old, "not json", "{}"] {
        std::fs::write(&file, stale).unwrap();
        let late = CreateOnly::new(Arc::new(MemoryStore::new()), "s3://b at one", Some(&file));
        assert_eq!(late.probe("h/probe").await.unwrap(), Conditional::Enforced, "{stale}");
    }
}

#[tokio::test]
async fn transfers_are_no_faster_than_the_limit() {
    let rate = NonZeroU64::new(200_000);
    let memory = Arc::new(MemoryStore::new());
    let store = Arc::new(Throttle::new(Arc::clone(&memory) as Arc<dyn ObjectStore>, rate, rate));
    let started = Instant::now();
    let puts = (0..4).map(|number| {
        let store = Arc::clone(&store);
        async move {
            let body = vec![number; 25_000].into();
            store.put(&format!("h/{number}"), body, PutMode::IfAbsent).await.unwrap()
        }
    });
    futures::future::join_all(puts).await;
    let elapsed = started.elapsed();
    assert!(elapsed >= Duration::from_millis(495), "100 kB at 200 kB/s took {elapsed:?}");

    let started = Instant::now();
    let gets = (0..4).map(|number| {
        let store = Arc::clone(&store);
        async move { store.get(&format!("h/{number}"), 25_000).await.unwrap() }
    });
    futures::future::join_all(gets).await;
    let elapsed = started.elapsed();
    assert!(elapsed >= Duration::from_millis(495), "100 kB at 200 kB/s took {elapsed:?}");

    let free = Throttle::new(memory, None, None);
    let started = Instant::now();
    free.put("h/free", vec![0; 10_000_000].into(), PutMode::IfAbsent).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn the_memory_store_can_be_tampered_with() {
    let now = jiff::Timestamp::from_second(1_700_000_000).unwrap();
    let memory = MemoryStore::with_clock(Arc::new(move || now));
    memory.set_page_size(2);
    for key in ["a/1", "a/2", "a/3"] {
        memory.put(key, "x".into(), PutMode::IfAbsent).await.unwrap();
    }
    assert_eq!(memory.now().await.unwrap(), now);
    assert_eq!(memory.stat("a/1").await.unwrap().modified, now);
    assert_eq!(memory.list("a/", None).await.unwrap().objects.len(), 2);
    assert_eq!(list_all(&memory, "a/").await.unwrap().len(), 3);
    memory.lock("a/1");
    assert_eq!(memory.delete("a/1").await.unwrap(), DeleteOutcome::Retained);
    memory.unlock("a/1");
    assert_eq!(memory.delete("a/1").await.unwrap(), DeleteOutcome::Gone);
    memory.replace("a/2", "changed");
    assert!(memory.remove("a/3") && !memory.remove("a/3"));
    assert_eq!(memory.snapshot().into_iter().collect::<Vec<_>>(), [("a/2".to_owned(), "changed".into())]);
    memory.set_fault(|op, key| fail(ErrorKind::Denied, op, key));
    assert_eq!(memory.stat("a/2").await.unwrap_err().kind, ErrorKind::Denied);
    memory.clear_faults();
    assert!(memory.stat("a/2").await.is_ok());
}
