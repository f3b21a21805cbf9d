//! Retries with growing, random pauses: the one place that makes a call again.

use super::{DeleteOutcome, ErrorKind, ObjectInfo, ObjectStore, Page, PutMode, PutOutcome, Result, StorageError};
use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often and how long a call is made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How many times a call is made in all; at least once.
    pub attempts: u32,
    /// No attempt starts later than this after the first. An attempt that runs is not cut short: it has its own
    /// time limit, and a large upload over a slow link may rightly take longer than this.
    pub total: Duration,
    /// The longest pause before the second attempt; each further one may be twice as long.
    pub first_pause: Duration,
    /// The longest pause of all.
    pub longest_pause: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy {
            attempts: 5,
            total: Duration::from_secs(120),
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(20),
        }
    }
}

impl RetryPolicy {
    /// A random pause after failed attempt number `attempt` (from 1): between half and all of what the attempt
    /// may wait, so that hosts which failed together do not come back together.
    fn pause(&self, attempt: u32) -> Duration {
        let doubled = self.first_pause.saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1)));
        doubled.min(self.longest_pause).mul_f64(rand::random_range(0.5..=1.0))
    }
}

/// A store that makes calls again when [`StorageError::retryable`] says that it may help.
#[derive(Debug)]
pub struct Retry {
    inner: Arc<dyn ObjectStore>,
    policy: RetryPolicy,
}

/// Counts the attempts of one call.
pub(super) struct Attempts<'a> {
    policy: &'a RetryPolicy,
    started: Instant,
    failed: u32,
}

impl<'a> Attempts<'a> {
    /// None has failed yet.
    pub(super) fn new(policy: &'a RetryPolicy) -> Self {
        Attempts { policy, started: Instant::now(), failed: 0 }
    }

    /// Waits before the next attempt, or gives the error back when there is none.
    pub(super) async fn next(&mut self, error: StorageError) -> Result<()> {
        self.failed += 1;
        let pause = self.policy.pause(self.failed);
        let late = self.started.elapsed() + pause > self.policy.total;
        if !error.retryable() || self.failed >= self.policy.attempts || late {
            let detail = match self.failed {
                1 => error.detail,
                times => format!("{}; {times} attempts", error.detail),
            };
            return Err(StorageError { detail, ..error });
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

impl Retry {
    /// Wraps a store.
    pub fn new(inner: Arc<dyn ObjectStore>, policy: RetryPolicy) -> Self {
        Retry { inner, policy }
    }

    fn attempts(&self) -> Attempts<'_> {
        Attempts::new(&self.policy)
    }

    async fn repeat<T, F>(&self, call: impl Fn() -> F + Send + Sync) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send,
        T: Send,
    {
        let mut attempts = self.attempts();
        loop {
            match call().await {
                Ok(answer) => return Ok(answer),
                Err(error) => attempts.next(error).await?,
            }
        }
    }

    /// Whether the object that exists is the one that a failed attempt of ours wrote.
    async fn is_ours(&self, key: &str, body: &Bytes) -> Result<bool> {
        match self.repeat(|| self.inner.get(key, body.len() as u64)).await {
            Ok(found) => Ok(found == *body),
            Err(error) if error.kind == ErrorKind::TooLarge => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl ObjectStore for Retry {
    fn url(&self) -> &str {
        self.inner.url()
    }

    /// As the port's `put`. When an earlier attempt failed, it may have written the object before its answer was
    /// lost; an `Exists` after that is read back and compared, and is `Created` if the bytes are ours.
    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<PutOutcome> {
        let mut attempts = self.attempts();
        loop {
            match self.inner.put(key, body.clone(), mode).await {
                Ok(PutOutcome::Exists) if attempts.failed > 0 => match self.is_ours(key, &body).await {
                    Ok(true) => return Ok(PutOutcome::Created),
                    Ok(false) => return Ok(PutOutcome::Exists),
                    // Deleted in between: neither outcome would be true, so the key is tried again.
                    Err(gone) if gone.is_not_found() => {
                        let gone = StorageError { kind: ErrorKind::Unavailable, op: "put", ..gone };
                        attempts.next(gone).await?;
                    }
                    Err(error) => return Err(error),
                },
                Ok(outcome) => return Ok(outcome),
                Err(error) => attempts.next(error).await?,
            }
        }
    }

    async fn get(&self, key: &str, limit: u64) -> Result<Bytes> {
        self.repeat(|| self.inner.get(key, limit)).await
    }

    async fn stat(&self, key: &str) -> Result<ObjectInfo> {
        self.repeat(|| self.inner.stat(key)).await
    }

    async fn list(&self, prefix: &str, token: Option<&str>) -> Result<Page> {
        self.repeat(|| self.inner.list(prefix, token)).await
    }

    async fn folders(&self, prefix: &str) -> Result<Vec<String>> {
        self.repeat(|| self.inner.folders(prefix)).await
    }

    async fn delete(&self, key: &str) -> Result<DeleteOutcome> {
        self.repeat(|| self.inner.delete(key)).await
    }

    async fn now(&self) -> Result<Timestamp> {
        self.repeat(|| self.inner.now()).await
    }
}
