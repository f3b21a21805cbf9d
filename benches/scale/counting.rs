//! A store that counts, and that can take its time and stand at another hour.

use async_trait::async_trait;
use backstay::storage::{DeleteOutcome, ObjectInfo, ObjectStore, Page, PutMode, PutOutcome, Result};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What came by.
#[derive(Debug, Default)]
pub struct Counts {
    pub put: AtomicU64,
    pub get: AtomicU64,
    pub list: AtomicU64,
    pub delete: AtomicU64,
    pub other: AtomicU64,
    pub bytes_in: AtomicU64,
    pub bytes_out: AtomicU64,
}

#[derive(Debug)]
pub struct Counting {
    pub inner: Arc<dyn ObjectStore>,
    pub counts: Arc<Counts>,
    /// Added to every request, as a network would.
    pub latency: Duration,
    /// Added to the clock: prune waits for days.
    pub shift: SignedDuration,
}

impl Counting {
    async fn count(&self, counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
        if !self.latency.is_zero() {
            tokio::time::sleep(self.latency).await;
        }
    }
}

#[async_trait]
impl ObjectStore for Counting {
    fn url(&self) -> &str {
        self.inner.url()
    }

    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<PutOutcome> {
        self.count(&self.counts.put).await;
        self.counts.bytes_out.fetch_add(body.len() as u64, Ordering::Relaxed);
        self.inner.put(key, body, mode).await
    }

    async fn get(&self, key: &str, limit: u64) -> Result<Bytes> {
        self.count(&self.counts.get).await;
        let body = self.inner.get(key, limit).await?;
        self.counts.bytes_in.fetch_add(body.len() as u64, Ordering::Relaxed);
        Ok(body)
    }

    async fn stat(&self, key: &str) -> Result<ObjectInfo> {
        self.count(&self.counts.other).await;
        self.inner.stat(key).await
    }

    async fn list(&self, prefix: &str, token: Option<&str>) -> Result<Page> {
        self.count(&self.counts.list).await;
        self.inner.list(prefix, token).await
    }

    async fn folders(&self, prefix: &str) -> Result<Vec<String>> {
        self.count(&self.counts.other).await;
        self.inner.folders(prefix).await
    }

    async fn delete(&self, key: &str) -> Result<DeleteOutcome> {
        self.count(&self.counts.delete).await;
        self.inner.delete(key).await
    }

    async fn now(&self) -> Result<Timestamp> {
        self.count(&self.counts.other).await;
        Ok(self.inner.now().await? + self.shift)
    }
}
