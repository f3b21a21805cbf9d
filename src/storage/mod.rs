//! The object store port: bytes under keys, and nothing about backups.
//!
//! Everything above this folder relies on five promises, and `conformance` checks each of them against
//! every store:
//!
//! 1. **Whole or absent.** A key either holds exactly the bytes of one finished `put`, or nothing. A reader
//!    never sees a half-written object, whatever was killed in between.
//! 2. **Create only.** `put(.., PutMode::IfAbsent)` never changes an object that exists; it says `Exists`.
//!    Some S3 servers accept the condition and overwrite all the same, therefore nobody but
//!    [`create_only::CreateOnly`] may rely on a raw store for this (it probes, remembers and falls back).
//! 3. **Read your write.** After `put` returned, `get`, `stat` and `list` see the object.
//! 4. **Not found is not an error of the store.** It has a kind of its own, [`ErrorKind::NotFound`], and it is
//!    never used for a missing bucket or for a refused credential.
//! 5. **Nothing waits for ever.** Each call has a time limit and ends with [`ErrorKind::Timeout`].
//!
//! Objects are small (at most [`MAX_OBJECT`] bytes), so bodies are values and not streams: a body can be sent
//! again on a retry and compared after a read.

mod common;
pub mod conformance;
mod conformance_checks;
pub mod create_only;
pub mod fs;
mod fs_file;
mod fs_walk;
pub mod gcs;
mod gcs_error;
mod gcs_json;
mod gcs_read;
pub mod memory;
pub mod open;
pub mod readonly;
mod readonly_dir;
mod readonly_enclosed;
pub mod retry;
pub mod s3;
mod s3_error;
mod s3_read;
mod s3_versions;
pub mod throttle;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use std::fmt;

/// The largest object that Backstay stores: a sealed pack of 8 MiB of plaintext that does not compress,
/// with room for the seal. Readers ask for no more than this.
pub const MAX_OBJECT: u64 = 16 * 1024 * 1024;

/// What a caller can branch on. The text for the operator is in [`StorageError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// There is no object under that key.
    NotFound,
    /// The bucket or the root directory itself does not exist.
    NoBucket,
    /// The store knows us and says no.
    Denied,
    /// No credentials were found, or the store does not accept them.
    Credentials,
    /// The call took longer than its time limit.
    Timeout,
    /// The store cannot be reached or had an error of its own (connection refused, reset, 5xx).
    Unavailable,
    /// The store asks to slow down (429, 503 SlowDown), or two conditional writes collided (409).
    Throttled,
    /// No space is left, or a quota is used up.
    Full,
    /// The object is larger than the caller allowed.
    TooLarge,
    /// What came back is not what the store said it sends (length or checksum).
    Corrupt,
    /// The object is in an archive storage class and cannot be read now.
    Archived,
    /// The request itself is wrong (bad key, unknown region, unsupported option).
    Invalid,
}

/// A failed call: what was attempted, where, and why.
#[derive(Clone, Debug)]
pub struct StorageError {
    /// What a caller branches on.
    pub kind: ErrorKind,
    /// The operation in the words of the port: `put`, `get`, `stat`, `list`, `delete`, `now`.
    pub op: &'static str,
    /// The store's URL and the key.
    pub url: String,
    /// The store's own words, without secrets.
    pub detail: String,
}

impl StorageError {
    /// Makes an error; `url` is the store's URL with the key appended.
    pub fn new(kind: ErrorKind, op: &'static str, url: impl Into<String>, detail: impl fmt::Display) -> Self {
        StorageError { kind, op, url: url.into(), detail: detail.to_string() }
    }

    /// Whether the same call may succeed when it is made again.
    pub fn retryable(&self) -> bool {
        matches!(self.kind, ErrorKind::Timeout | ErrorKind::Unavailable | ErrorKind::Throttled | ErrorKind::Corrupt)
    }

    /// True for [`ErrorKind::NotFound`].
    pub fn is_not_found(&self) -> bool {
        self.kind == ErrorKind::NotFound
    }

    /// What failed and why, without the place.
    pub fn words(&self) -> String {
        let what = match self.kind {
            ErrorKind::NotFound => "no such object",
            ErrorKind::NoBucket => "the bucket or directory does not exist",
            ErrorKind::Denied => "permission denied",
            ErrorKind::Credentials => "credentials are missing or not accepted",
            ErrorKind::Timeout => "no answer within the time limit",
            ErrorKind::Unavailable => "the store cannot be reached",
            ErrorKind::Throttled => "the store asks to slow down",
            ErrorKind::Full => "no space left",
            ErrorKind::TooLarge => "the object is larger than expected",
            ErrorKind::Corrupt => "the answer is damaged",
            ErrorKind::Archived => "the object is in an archive storage class",
            ErrorKind::Invalid => "the request was refused as invalid",
        };
        if self.detail.is_empty() { what.to_owned() } else { format!("{what} ({})", self.detail) }
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.op, self.url, self.words())
    }
}

impl std::error::Error for StorageError {}

/// Result of a storage call.
pub type Result<T> = std::result::Result<T, StorageError>;

/// How `put` treats a key that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutMode {
    /// Leave it alone and answer [`PutOutcome::Exists`].
    IfAbsent,
    /// Write it whatever is there. Only the fallback in [`create_only`] uses this.
    Blind,
}

/// What `put` found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutOutcome {
    /// The object is ours now.
    Created,
    /// An object was there and was left alone.
    Exists,
}

/// What `delete` found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteOutcome {
    /// The object is gone; it may have been gone before.
    Gone,
    /// A retention lock or a hold forbids it; the object stays and this is not a failure.
    Retained,
}

/// What becomes of an object that is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versions {
    /// It is gone.
    None,
    /// An older version stays for a while.
    Expiring,
    /// An older version stays, and no rule takes it away.
    Kept,
}

/// One object as the store lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// The full key below the repository's root.
    pub key: String,
    /// Size in bytes.
    pub size: u64,
    /// When the store says it was written. A copy of a bucket resets this; never used for retention.
    pub modified: Timestamp,
}

/// One page of a listing, in ascending byte order of the keys.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The objects of this page.
    pub objects: Vec<ObjectInfo>,
    /// Token for the next page; `None` means that the listing is complete.
    pub next: Option<String>,
}

/// The port. Keys consist of `A-Z a-z 0-9 . _ ~ / - @ +`, have no empty and no `.`/`..` component, no leading slash.
#[async_trait]
pub trait ObjectStore: Send + Sync + fmt::Debug {
    /// The URL of the root, for messages: `s3://bucket/prefix`, without credentials.
    fn url(&self) -> &str;

    /// Writes a whole object. Returns only when it is durable (for a directory: file and directory synced).
    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<PutOutcome>;

    /// Reads a whole object of at most `limit` bytes; a larger one is [`ErrorKind::TooLarge`] and is not buffered.
    async fn get(&self, key: &str, limit: u64) -> Result<Bytes>;

    /// Size and time of one object.
    async fn stat(&self, key: &str) -> Result<ObjectInfo>;

    /// One page of the objects whose key starts with `prefix` (a plain string prefix), in order.
    /// `token` is the `next` of the page before. A store without a single object under it gives an empty page.
    async fn list(&self, prefix: &str, token: Option<&str>) -> Result<Page>;

    /// The names directly below `prefix` (which ends in `/` or is empty) that have something below them:
    /// `folders("")` gives the hosts. Without the trailing slash, ascending.
    async fn folders(&self, prefix: &str) -> Result<Vec<String>>;

    /// Deletes an object. Idempotent.
    async fn delete(&self, key: &str) -> Result<DeleteOutcome>;

    /// The store's clock (at least second resolution). For a directory it is the file system's.
    async fn now(&self) -> Result<Timestamp>;

    /// What becomes of what is deleted; nothing when the store does not tell. Decorators need not pass it on: it is asked
    /// of the store as it is.
    async fn versions(&self) -> Result<Option<Versions>> {
        Ok(None)
    }
}

/// All objects under `prefix`, over all pages.
///
/// # Errors
/// Any page that fails fails the whole listing: a truncated listing must never look complete.
pub async fn list_all(store: &dyn ObjectStore, prefix: &str) -> Result<Vec<ObjectInfo>> {
    let mut all = Vec::new();
    let mut token: Option<String> = None;
    loop {
        let page = store.list(prefix, token.as_deref()).await?;
        all.extend(page.objects);
        match page.next {
            Some(next) => token = Some(next),
            None => return Ok(all),
        }
    }
}

/// Checks a key against the port's rule; every store calls it first, so that a name from outside can never
/// leave the root.
///
/// # Errors
/// [`ErrorKind::Invalid`] with the key.
pub fn check_key(op: &'static str, url: &str, key: &str) -> Result<()> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._~/-@+".contains(&b);
    let good = !key.is_empty()
        && key.len() <= 900
        && key.bytes().all(allowed)
        && key.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    if good {
        Ok(())
    } else {
        Err(StorageError::new(ErrorKind::Invalid, op, format!("{url}/{key:?}"), "not a valid key"))
    }
}
