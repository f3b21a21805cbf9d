//! One machine's connection to the shared store: it can die, and it can stand still in the middle.
//!
//! A run whose connection is dead has no effect on the store from then on, as if its machine had lost power:
//! what was uploaded stays, everything else fails.

use async_trait::async_trait;
use backstay::storage::memory::MemoryStore;
use backstay::storage::{DeleteOutcome, ErrorKind, ObjectInfo, ObjectStore, Page, PutMode, PutOutcome};
use backstay::storage::{Result, StorageError};
use bytes::Bytes;
use jiff::Timestamp;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

/// A connection.
#[derive(Debug)]
pub struct Gate {
    inner: Arc<MemoryStore>,
    puts_left: AtomicI64,
    /// Requests that take their time, and how many milliseconds.
    slow: std::sync::Mutex<(&'static str, u64)>,
    busy: AtomicI64,
    most: AtomicI64,
    /// The operation and part of the key before which this connection stands still, once.
    stop: std::sync::Mutex<Option<(&'static str, String)>>,
    /// Says that it stands still.
    pub reached: Semaphore,
    /// Lets it go on.
    pub go_on: Semaphore,
}

impl Gate {
    /// A connection that works.
    pub fn new(inner: Arc<MemoryStore>) -> Arc<Self> {
        Arc::new(Gate {
            inner,
            puts_left: AtomicI64::new(i64::MAX),
            slow: std::sync::Mutex::new(("", 0)),
            busy: AtomicI64::new(0),
            most: AtomicI64::new(0),
            stop: std::sync::Mutex::new(None),
            reached: Semaphore::new(0),
            go_on: Semaphore::new(0),
        })
    }

    /// Dies after so many puts.
    pub fn dies_after(&self, puts: i64) {
        self.puts_left.store(puts, Ordering::SeqCst);
    }

    /// Stands still before the next such operation until [`Gate::go_on`] gets a permit.
    pub fn stops_before(&self, op: &'static str, key_part: &str) {
        *self.stop.lock().unwrap() = Some((op, key_part.to_owned()));
    }

    /// Lets each such operation take some milliseconds from now on, and counts anew how many are under way at once.
    pub fn takes(&self, op: &'static str, milliseconds: u64) {
        *self.slow.lock().unwrap() = (op, milliseconds);
        self.most.store(0, Ordering::SeqCst);
    }

    /// The most of them that were under way at once since [`Gate::takes`].
    pub fn most_at_once(&self) -> i64 {
        self.most.load(Ordering::SeqCst)
    }

    async fn pass(&self, op: &'static str, key: &str) -> Result<()> {
        let here = {
            let mut stop = self.stop.lock().unwrap();
            let here = stop.as_ref().is_some_and(|(o, part)| *o == op && key.contains(part.as_str()));
            if here {
                *stop = None;
            }
            here
        };
        if here {
            self.reached.add_permits(1);
            self.go_on.acquire().await.unwrap().forget();
        }
        let (slow, latency) = *self.slow.lock().unwrap();
        if op == slow {
            self.most.fetch_max(self.busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(latency)).await;
            self.busy.fetch_sub(1, Ordering::SeqCst);
        }
        let left = match op {
            "put" => self.puts_left.fetch_sub(1, Ordering::SeqCst) - 1,
            _ => self.puts_left.load(Ordering::SeqCst),
        };
        // The last put that is allowed still gets its answer; the next call finds the line dead.
        if left < 0 {
            return Err(StorageError::new(ErrorKind::Unavailable, op, format!("memory:/{key}"), "the line is dead"));
        }
        Ok(())
    }
}

#[async_trait]
impl ObjectStore for Gate {
    fn url(&self) -> &str {
        self.inner.url()
    }

    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<PutOutcome> {
        self.pass("put", key).await?;
        self.inner.put(key, body, mode).await
    }

    async fn get(&self, key: &str, limit: u64) -> Result<Bytes> {
        self.pass("get", key).await?;
        self.inner.get(key, limit).await
    }

    async fn stat(&self, key: &str) -> Result<ObjectInfo> {
        self.pass("stat", key).await?;
        self.inner.stat(key).await
    }

    async fn list(&self, prefix: &str, token: Option<&str>) -> Result<Page> {
        self.pass("list", prefix).await?;
        self.inner.list(prefix, token).await
    }

    async fn folders(&self, prefix: &str) -> Result<Vec<String>> {
        self.pass("list", prefix).await?;
        self.inner.folders(prefix).await
    }

    async fn delete(&self, key: &str) -> Result<DeleteOutcome> {
        self.pass("delete", key).await?;
        self.inner.delete(key).await
    }

    async fn now(&self) -> Result<Timestamp> {
        self.pass("now", "").await?;
        self.inner.now().await
    }
}
