//! A store of which somebody else is the master: listed and read, in ranges, and nothing more. There is no method by
//! which it could be changed.
//!
//! Names are whatever their maker chose, and objects may be of any size, so neither the alphabet of
//! [`super::check_key`] nor [`super::MAX_OBJECT`] applies here.

use super::open::{Built, StorageOptions, built};
use super::readonly_dir::Directory;
use super::readonly_enclosed::Enclosed;
use super::retry::{Attempts, RetryPolicy};
use super::throttle::Lane;
use super::{ErrorKind, ObjectInfo, Page, Result, StorageError};
use async_trait::async_trait;
use bytes::Bytes;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// The port.
#[async_trait]
pub trait ReadOnly: Send + Sync + fmt::Debug {
    /// The URL of the root, for messages.
    fn url(&self) -> &str;

    /// One page of the objects whose name starts with `prefix`, in order; `token` is the `next` of the page before.
    async fn page(&self, prefix: &str, token: Option<&str>) -> Result<Page>;

    /// `length` bytes from `offset` on, all of which lie within the object as it was listed. An object that is no
    /// longer as large is [`ErrorKind::Corrupt`].
    async fn range(&self, object: &ObjectInfo, offset: u64, length: u64) -> Result<Bytes>;
}

/// All objects whose name starts with `prefix`.
///
/// # Errors
/// Any page that fails fails the whole listing: a truncated listing must never look complete.
pub async fn list(store: &dyn ReadOnly, prefix: &str) -> Result<Vec<ObjectInfo>> {
    let mut all = Vec::new();
    let mut token: Option<String> = None;
    loop {
        let page = store.page(prefix, token.as_deref()).await?;
        all.extend(page.objects);
        match page.next {
            Some(next) => token = Some(next),
            None => return Ok(all),
        }
    }
}

/// Opens such a store, with the retries and the limit of the options.
///
/// # Errors
/// [`ErrorKind::Invalid`] for options that make no sense, [`ErrorKind::Credentials`] for a key file that cannot be read.
pub async fn open(options: &StorageOptions) -> Result<Arc<dyn ReadOnly>> {
    let inner: Arc<dyn ReadOnly> = match built(options).await? {
        Built::S3(store) => store,
        Built::Gcs(store) => store,
        Built::Directory(path) => Arc::new(Directory::new(&path, options.timeout)),
    };
    Ok(patient(inner, options))
}

/// A directory that is open, and in which no link is followed; `url` is what messages call it. Of the options, retries and
/// limits count.
pub fn enclosed(place: OwnedFd, url: String, options: &StorageOptions) -> Arc<dyn ReadOnly> {
    patient(Arc::new(Enclosed::new(place, url, options.timeout)), options)
}

fn patient(inner: Arc<dyn ReadOnly>, options: &StorageOptions) -> Arc<dyn ReadOnly> {
    Arc::new(Patient { inner, policy: options.retry, down: options.limit_download.map(Lane::new) })
}

/// Makes calls again that may then succeed, and keeps to a rate.
#[derive(Debug)]
struct Patient {
    inner: Arc<dyn ReadOnly>,
    policy: RetryPolicy,
    down: Option<Lane>,
}

#[async_trait]
impl ReadOnly for Patient {
    fn url(&self) -> &str {
        self.inner.url()
    }

    async fn page(&self, prefix: &str, token: Option<&str>) -> Result<Page> {
        let mut attempts = Attempts::new(&self.policy);
        loop {
            match self.inner.page(prefix, token).await {
                Ok(page) => return Ok(page),
                Err(error) => attempts.next(error).await?,
            }
        }
    }

    async fn range(&self, object: &ObjectInfo, offset: u64, length: u64) -> Result<Bytes> {
        let due = self.down.as_ref().map(|lane| lane.take(usize::try_from(length).unwrap_or(usize::MAX)));
        let mut attempts = Attempts::new(&self.policy);
        let bytes = loop {
            match self.inner.range(object, offset, length).await {
                Ok(bytes) => break bytes,
                Err(error) => attempts.next(error).await?,
            }
        };
        if let Some(due) = due {
            tokio::time::sleep_until(due.into()).await;
        }
        Ok(bytes)
    }
}

/// The error for an object that is not as large as it was when it was listed.
pub(super) fn changed(url: &str, listed: u64, now: impl fmt::Display) -> StorageError {
    let detail = format!("it has changed while it was read: {now} instead of {listed} bytes");
    StorageError::new(ErrorKind::Corrupt, "get", url, detail)
}
