//! A limit on bytes per second in either direction, shared by all calls of a store.

use super::{DeleteOutcome, ObjectInfo, ObjectStore, Page, PutMode, PutOutcome, Result};
use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A store that moves no more than so many bytes per second on average. Objects are small, so the rate is kept
/// between objects and not inside one: an object may cross the wire in a burst, and the next one waits for it.
#[derive(Debug)]
pub struct Throttle {
    inner: Arc<dyn ObjectStore>,
    up: Option<Lane>,
    down: Option<Lane>,
}

/// One direction: when the bytes that were let through so far are due.
#[derive(Debug)]
pub(super) struct Lane {
    rate: NonZeroU64,
    free: Mutex<Option<Instant>>,
}

impl Lane {
    /// A direction with this rate in bytes per second.
    pub(super) fn new(rate: NonZeroU64) -> Self {
        Lane { rate, free: Mutex::new(None) }
    }

    /// Reserves the time that so many bytes take from now on, and says when it ends.
    pub(super) fn take(&self, bytes: usize) -> Instant {
        self.reserve(Instant::now(), bytes).1
    }

    /// Reserves the time that `bytes` take, at `earliest` or when the reservations before have ended.
    /// Returns when the reservation starts and ends.
    fn reserve(&self, earliest: Instant, bytes: usize) -> (Instant, Instant) {
        let needed = Duration::from_secs_f64(bytes as f64 / self.rate.get() as f64);
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let start = free.map_or(earliest, |free| free.max(earliest));
        let end = start + needed;
        *free = Some(end);
        (start, end)
    }
}

impl Throttle {
    /// Wraps a store. Limits are in bytes per second; `None` is no limit.
    pub fn new(inner: Arc<dyn ObjectStore>, upload: Option<NonZeroU64>, download: Option<NonZeroU64>) -> Self {
        Throttle { inner, up: upload.map(Lane::new), down: download.map(Lane::new) }
    }
}

async fn wait_until(moment: Instant) {
    tokio::time::sleep_until(moment.into()).await;
}

#[async_trait]
impl ObjectStore for Throttle {
    fn url(&self) -> &str {
        self.inner.url()
    }

    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<PutOutcome> {
        let Some(lane) = &self.up else {
            return self.inner.put(key, body, mode).await;
        };
        let (start, end) = lane.reserve(Instant::now(), body.len());
        wait_until(start).await;
        let outcome = self.inner.put(key, body, mode).await;
        wait_until(end).await;
        outcome
    }

    async fn get(&self, key: &str, limit: u64) -> Result<Bytes> {
        let Some(lane) = &self.down else {
            return self.inner.get(key, limit).await;
        };
        // The size is known afterwards only; a call that starts while others are due waits for them first.
        let (start, _) = lane.reserve(Instant::now(), 0);
        wait_until(start).await;
        let begun = Instant::now();
        let body = self.inner.get(key, limit).await?;
        let (_, end) = lane.reserve(begun, body.len());
        wait_until(end).await;
        Ok(body)
    }

    async fn stat(&self, key: &str) -> Result<ObjectInfo> {
        self.inner.stat(key).await
    }

    async fn list(&self, prefix: &str, token: Option<&str>) -> Result<Page> {
        self.inner.list(prefix, token).await
    }

    async fn folders(&self, prefix: &str) -> Result<Vec<String>> {
        self.inner.folders(prefix).await
    }

    async fn delete(&self, key: &str) -> Result<DeleteOutcome> {
        self.inner.delete(key).await
    }

    async fn now(&self) -> Result<Timestamp> {
        self.inner.now().await
    }
}
