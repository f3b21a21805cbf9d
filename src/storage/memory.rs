//! An object store in memory: a complete implementation of the port that dies with the process.
//!
//! It also has what tests need of a store: a clock that can be set, faults on demand, access behind the port's
//! back, retention locks, small pages, and the misbehaviour of servers that ignore conditions.

use super::common::{check_folder, check_prefix};
use super::{
    DeleteOutcome, ErrorKind, ObjectInfo, ObjectStore, Page, PutMode, PutOutcome, Result, StorageError, check_key,
};
use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A clock, for the write times and for `now`.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Decides for an operation (`put`, `get`, `stat`, `list`, `delete`, `now`) and a key or prefix whether it fails.
pub type Fault = Arc<dyn Fn(&'static str, &str) -> Option<StorageError> + Send + Sync>;

const URL: &str = "memory:";

#[derive(Clone)]
struct Object {
    body: Bytes,
    modified: Timestamp,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Object>,
    locked: BTreeSet<String>,
    before: Option<Fault>,
    after: Option<Fault>,
}

/// The store. Share it as `Arc<MemoryStore>`.
pub struct MemoryStore {
    clock: Clock,
    state: Mutex<State>,
    page_size: AtomicUsize,
    ignore_conditions: AtomicBool,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("objects", &self.state().objects.len()).finish_non_exhaustive()
    }
}

impl MemoryStore {
    /// An empty store with the clock of the machine and pages of 1,000 objects.
    pub fn new() -> Self {
        Self::with_clock(Arc::new(Timestamp::now))
    }

    /// An empty store with a clock of the caller's.
    pub fn with_clock(clock: Clock) -> Self {
        MemoryStore {
            clock,
            state: Mutex::default(),
            page_size: AtomicUsize::new(1000),
            ignore_conditions: AtomicBool::new(false),
        }
    }

    /// Sets how many objects a page of a listing holds; at least one.
    pub fn set_page_size(&self, objects: usize) {
        self.page_size.store(objects.max(1), Ordering::Relaxed);
    }

    /// With `true` the store accepts `PutMode::IfAbsent` and overwrites all the same, as some S3 servers do.
    pub fn ignore_conditions(&self, ignore: bool) {
        self.ignore_conditions.store(ignore, Ordering::Relaxed);
    }

    /// Calls `fault` before each operation; its error is the operation's, which then has no effect.
    pub fn set_fault(&self, fault: impl Fn(&'static str, &str) -> Option<StorageError> + Send + Sync + 'static) {
        self.state().before = Some(Arc::new(fault));
    }

    /// Calls `fault` after each operation that succeeded: it took effect, and its answer is lost.
    pub fn set_fault_after(&self, fault: impl Fn(&'static str, &str) -> Option<StorageError> + Send + Sync + 'static) {
        self.state().after = Some(Arc::new(fault));
    }

    /// No more faults.
    pub fn clear_faults(&self) {
        let mut state = self.state();
        state.before = None;
        state.after = None;
    }

    /// The bytes under a key, past faults and limits.
    pub fn raw(&self, key: &str) -> Option<Bytes> {
        self.state().objects.get(key).map(|object| object.body.clone())
    }

    /// All keys and bytes at this moment.
    pub fn snapshot(&self) -> BTreeMap<String, Bytes> {
        self.state().objects.iter().map(|(key, object)| (key.clone(), object.body.clone())).collect()
    }

    /// Puts bytes under a key whatever is there, as somebody with access to the bucket could.
    pub fn replace(&self, key: &str, body: impl Into<Bytes>) {
        let object = Object { body: body.into(), modified: (self.clock)() };
        self.state().objects.insert(key.to_owned(), object);
    }

    /// Takes a key away in spite of a lock; true if it was there.
    pub fn remove(&self, key: &str) -> bool {
        self.state().objects.remove(key).is_some()
    }

    /// Makes `delete` answer `Retained` for this key.
    pub fn lock(&self, key: &str) {
        self.state().locked.insert(key.to_owned());
    }

    /// Ends a lock.
    pub fn unlock(&self, key: &str) {
        self.state().locked.remove(key);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn before(&self, op: &'static str, key: &str) -> Result<()> {
        let hook = self.state().before.clone();
        hook.and_then(|hook| hook(op, key)).map_or(Ok(()), Err)
    }

    fn after<T>(&self, op: &'static str, key: &str, answer: T) -> Result<T> {
        let hook = self.state().after.clone();
        hook.and_then(|hook| hook(op, key)).map_or(Ok(answer), Err)
    }

    fn find(&self, op: &'static str, key: &str) -> Result<Object> {
        let missing = || StorageError::new(ErrorKind::NotFound, op, format!("{URL}/{key}"), "");
        self.state().objects.get(key).cloned().ok_or_else(missing)
    }
}

#[async_trait]
impl ObjectStore for MemoryStore {
    fn url(&self) -> &str {
        URL
    }

    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<PutOutcome> {
        check_key("put", URL, key)?;
        self.before("put", key)?;
        let modified = (self.clock)();
        let outcome = {
            let mut state = self.state();
            let keep = mode == PutMode::IfAbsent && !self.ignore_conditions.load(Ordering::Relaxed);
            if keep && state.objects.contains_key(key) {
                PutOutcome::Exists
            } else {
                state.objects.insert(key.to_owned(), Object { body, modified });
                PutOutcome::Created
            }
        };
        self.after("put", key, outcome)
    }

    async fn get(&self, key: &str, limit: u64) -> Result<Bytes> {
        check_key("get", URL, key)?;
        self.before("get", key)?;
        let body = self.find("get", key)?.body;
        let size = body.len() as u64;
        if size > limit {
            let detail = format!("{size} bytes, at most {limit} expected");
            return Err(StorageError::new(ErrorKind::TooLarge, "get", format!("{URL}/{key}"), detail));
        }
        self.after("get", key, body)
    }

    async fn stat(&self, key: &str) -> Result<ObjectInfo> {
        check_key("stat", URL, key)?;
        self.before("stat", key)?;
        let object = self.find("stat", key)?;
        let info = ObjectInfo { key: key.to_owned(), size: object.body.len() as u64, modified: object.modified };
        self.after("stat", key, info)
    }

    async fn list(&self, prefix: &str, token: Option<&str>) -> Result<Page> {
        check_prefix(URL, prefix)?;
        self.before("list", prefix)?;
        let size = self.page_size.load(Ordering::Relaxed);
        let page = {
            let state = self.state();
            let start = match token {
                Some(last) if last >= prefix => Bound::Excluded(last),
                _ => Bound::Included(prefix),
            };
            let mut rest = state
                .objects
                .range::<str, _>((start, Bound::Unbounded))
                .take_while(|(key, _)| key.starts_with(prefix))
                .map(|(key, object)| ObjectInfo {
                    key: key.clone(),
                    size: object.body.len() as u64,
                    modified: object.modified,
                });
            let objects: Vec<ObjectInfo> = rest.by_ref().take(size).collect();
            let more = rest.next().is_some();
            let next = objects.last().filter(|_| more).map(|last| last.key.clone());
            Page { objects, next }
        };
        self.after("list", prefix, page)
    }

    async fn folders(&self, prefix: &str) -> Result<Vec<String>> {
        check_folder(URL, prefix)?;
        self.before("list", prefix)?;
        let names: BTreeSet<String> = {
            let state = self.state();
            let below = state.objects.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
            below
                .map_while(|(key, _)| key.strip_prefix(prefix))
                .filter_map(|rest| rest.split_once('/').map(|(name, _)| name.to_owned()))
                .collect()
        };
        self.after("list", prefix, names.into_iter().collect())
    }

    async fn delete(&self, key: &str) -> Result<DeleteOutcome> {
        check_key("delete", URL, key)?;
        self.before("delete", key)?;
        let outcome = {
            let mut state = self.state();
            if state.locked.contains(key) && state.objects.contains_key(key) {
                DeleteOutcome::Retained
            } else {
                state.objects.remove(key);
                DeleteOutcome::Gone
            }
        };
        self.after("delete", key, outcome)
    }

    async fn now(&self) -> Result<Timestamp> {
        self.before("now", "")?;
        self.after("now", "", (self.clock)())
    }
}
