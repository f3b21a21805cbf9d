//! From a URL and options to a store that is ready for use.

use super::create_only::{Conditional, CreateOnly};
use super::fs::FsStore;
use super::gcs::{GcsOptions, GcsStore};
use super::retry::{Retry, RetryPolicy};
use super::s3::{S3Options, S3Store};
use super::throttle::Throttle;
use super::{ErrorKind, ObjectStore, Result, StorageError, check_key};
use std::fmt;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What the configuration says about a store.
#[derive(Clone)]
pub struct StorageOptions {
    /// `s3://bucket/prefix`, `gs://bucket/prefix` or `file:///absolute/path`.
    pub url: String,
    /// The URL of a server other than the provider's own (`http://` or `https://`).
    pub endpoint: Option<String>,
    /// The S3 region.
    pub region: Option<String>,
    /// S3: the bucket in the path instead of the host name.
    pub path_style: bool,
    /// S3: the storage class of new objects.
    pub storage_class: Option<String>,
    /// Upload limit in bytes per second.
    pub limit_upload: Option<NonZeroU64>,
    /// Download limit in bytes per second.
    pub limit_download: Option<NonZeroU64>,
    /// The base of the time limit of every call.
    pub timeout: Duration,
    /// GCS: send no credentials, for emulators.
    pub anonymous: bool,
    /// GCS: the key file of a service account.
    pub service_account_file: Option<PathBuf>,
    /// S3: the access key id; the standard chain is asked without it.
    pub s3_access_key_id: Option<String>,
    /// S3: the secret of the access key.
    pub s3_secret_access_key: Option<String>,
    /// S3: the session token of temporary credentials.
    pub s3_session_token: Option<String>,
    /// How calls are retried.
    pub retry: RetryPolicy,
}

impl StorageOptions {
    /// The defaults for a URL: 30 seconds per call, no limits, the usual retries.
    pub fn new(url: impl Into<String>) -> Self {
        StorageOptions {
            url: url.into(),
            endpoint: None,
            region: None,
            path_style: false,
            storage_class: None,
            limit_upload: None,
            limit_download: None,
            timeout: Duration::from_secs(30),
            anonymous: false,
            service_account_file: None,
            s3_access_key_id: None,
            s3_secret_access_key: None,
            s3_session_token: None,
            retry: RetryPolicy::default(),
        }
    }
}

impl fmt::Debug for StorageOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StorageOptions")
            .field("url", &self.url)
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("path_style", &self.path_style)
            .field("storage_class", &self.storage_class)
            .field("timeout", &self.timeout)
            .field("s3_access_key_id", &self.s3_access_key_id)
            .finish_non_exhaustive()
    }
}

/// A parsed store URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A bucket of S3 or a server like it, and the path inside.
    S3 {
        /// The bucket's name.
        bucket: String,
        /// The path inside the bucket without slashes around it; may be empty.
        prefix: String,
    },
    /// A bucket of Google Cloud Storage, and the path inside.
    Gcs {
        /// The bucket's name.
        bucket: String,
        /// The path inside the bucket without slashes around it; may be empty.
        prefix: String,
    },
    /// A directory.
    File(PathBuf),
}

impl Location {
    /// Parses a store URL.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] that says what is wrong with it.
    pub fn parse(url: &str) -> Result<Self> {
        let invalid = |detail: &str| StorageError::new(ErrorKind::Invalid, "open", url, detail);
        let known = "a store is s3://bucket/prefix, gs://bucket/prefix or file:///absolute/path";
        let (scheme, rest) = url.split_once("://").ok_or_else(|| invalid(known))?;
        if scheme == "file" {
            let path = rest.trim_end_matches('/');
            return match rest.as_bytes().first() {
                None => Err(invalid("the path is missing")),
                Some(b'/') if path.is_empty() => Err(invalid("the root directory cannot be a store")),
                Some(b'/') => Ok(Location::File(PathBuf::from(path))),
                Some(_) => Err(invalid("the path must be absolute: file:///path, with three slashes")),
            };
        }
        if scheme != "s3" && scheme != "gs" {
            return Err(invalid(known));
        }
        if rest.contains('@') && rest.find('@') < rest.find('/').or(Some(rest.len())) {
            // The URL may hold a secret, so it is not repeated.
            let detail = "credentials do not belong into the URL";
            return Err(StorageError::new(ErrorKind::Invalid, "open", format!("{scheme}://"), detail));
        }
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(invalid("the bucket is missing"));
        }
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b);
        if !(3..=222).contains(&bucket.len()) || !bucket.bytes().all(allowed) {
            return Err(invalid("a bucket's name has 3 or more of a-z, 0-9, dot, hyphen and underscore"));
        }
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        if !prefix.is_empty() && (prefix.len() > 200 || check_key("open", url, prefix).is_err()) {
            return Err(invalid("the prefix has at most 200 of A-Z a-z 0-9 . _ ~ / - @ + and no empty or dot part"));
        }
        let (bucket, prefix) = (bucket.to_owned(), prefix.to_owned());
        Ok(if scheme == "s3" { Location::S3 { bucket, prefix } } else { Location::Gcs { bucket, prefix } })
    }
}

/// Opens a store: throttled, retried, and with create-only writes that can be relied upon. `remember` is the file
/// that keeps what is known about servers, see [`CreateOnly`].
///
/// # Errors
/// [`ErrorKind::Invalid`] for options that make no sense, [`ErrorKind::Credentials`] for a key file that cannot
/// be read. A missing bucket or refused credentials show with the first call.
pub async fn open(options: &StorageOptions, remember: Option<&Path>) -> Result<Arc<dyn ObjectStore>> {
    let raw = open_raw(options).await?;
    let throttled: Arc<dyn ObjectStore> = match (options.limit_upload, options.limit_download) {
        (None, None) => raw,
        (up, down) => Arc::new(Throttle::new(raw, up, down)),
    };
    let retried: Arc<dyn ObjectStore> = Arc::new(Retry::new(throttled, options.retry));
    let provider_enforces = match Location::parse(&options.url)? {
        Location::File(_) => true,
        Location::Gcs { .. } => options.endpoint.is_none(),
        // AWS enforces it, but the endpoint may come from the environment or a profile.
        Location::S3 { .. } => false,
    };
    Ok(Arc::new(if provider_enforces {
        CreateOnly::known(retried, Conditional::Enforced)
    } else {
        let endpoint = options.endpoint.as_deref().unwrap_or("default endpoint");
        let identity = format!("{} at {endpoint}", options.url.trim_end_matches('/'));
        CreateOnly::new(retried, identity, remember)
    }))
}

/// Opens a store without decorators: each call is made once, and create-only is what the server makes of it.
///
/// # Errors
/// As [`open`].
pub async fn open_raw(options: &StorageOptions) -> Result<Arc<dyn ObjectStore>> {
    Ok(match built(options).await? {
        Built::S3(store) => store,
        Built::Gcs(store) => store,
        Built::Directory(path) => Arc::new(FsStore::new(&path, options.timeout)?),
    })
}

/// What options lead to, before anybody says what it may be used for.
pub(super) enum Built {
    /// A bucket of S3 or a server like it.
    S3(Arc<S3Store>),
    /// A bucket of Google Cloud Storage.
    Gcs(Arc<GcsStore>),
    /// A directory.
    Directory(PathBuf),
}

/// Builds a store.
///
/// # Errors
/// As [`open`].
pub(super) async fn built(options: &StorageOptions) -> Result<Built> {
    let invalid = |detail: &str| StorageError::new(ErrorKind::Invalid, "open", &options.url, detail);
    if let Some(endpoint) = &options.endpoint
        && !(endpoint.starts_with("http://") || endpoint.starts_with("https://"))
    {
        return Err(invalid("the endpoint must begin with http:// or https://"));
    }
    if options.timeout.is_zero() {
        return Err(invalid("the timeout must be longer than nothing"));
    }
    let timeout = options.timeout;
    Ok(match Location::parse(&options.url)? {
        Location::S3 { bucket, prefix } => {
            let credentials = match (&options.s3_access_key_id, &options.s3_secret_access_key) {
                (Some(id), Some(secret)) => Some((id.clone(), secret.clone(), options.s3_session_token.clone())),
                (None, None) => None,
                _ => return Err(invalid("the access key id and its secret go together")),
            };
            let store = S3Store::new(S3Options {
                bucket,
                prefix,
                endpoint: options.endpoint.clone(),
                region: options.region.clone(),
                path_style: options.path_style,
                storage_class: options.storage_class.clone(),
                timeout,
                credentials,
            });
            Built::S3(Arc::new(store.await?))
        }
        Location::Gcs { bucket, prefix } => {
            if options.anonymous && options.endpoint.is_none() {
                return Err(invalid("anonymous access is for an endpoint of one's own"));
            }
            let store = GcsStore::new(GcsOptions {
                bucket,
                prefix,
                endpoint: options.endpoint.clone(),
                anonymous: options.anonymous,
                service_account_file: options.service_account_file.clone(),
                timeout,
            });
            Built::Gcs(Arc::new(store.await?))
        }
        Location::File(path) => Built::Directory(path),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_parsed() {
        let bucket = |bucket: &str, prefix: &str| (bucket.to_owned(), prefix.to_owned());
        for (url, expected) in [
            ("s3://bkt", bucket("bkt", "")),
            ("s3://bkt/", bucket("bkt", "")),
            ("s3://my.bkt-1/a/b", bucket("my.bkt-1", "a/b")),
            ("s3://bkt/a/b/", bucket("bkt", "a/b")),
        ] {
            let (bucket, prefix) = expected;
            assert_eq!(Location::parse(url).unwrap(), Location::S3 { bucket, prefix }, "{url}");
        }
        let gcs = Location::Gcs { bucket: "b_1".into(), prefix: "p".into() };
        assert_eq!(Location::parse("gs://b_1/p").unwrap(), gcs);
        assert_eq!(Location::parse("file:///srv/b ack/").unwrap(), Location::File("/srv/b ack".into()));
    }

    #[test]
    fn bad_urls_are_refused_with_a_reason() {
        for (url, reason) in [
            ("/srv/backup", "a store is"),
            ("ftp://host/x", "a store is"),
            ("s3://", "bucket is missing"),
            ("s3:///prefix", "bucket is missing"),
            ("s3://UPPER/p", "bucket's name"),
            ("s3://bkt//p", "prefix has"),
            ("s3://bkt/../p", "prefix has"),
            ("s3://bkt/a?b=c", "prefix has"),
            ("s3://key:secret@bkt/p", "credentials"),
            ("file://relative/path", "absolute"),
            ("file://", "missing"),
            ("file:///", "root directory"),
        ] {
            let error = Location::parse(url).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Invalid, "{url}");
            assert!(error.detail.contains(reason), "{url}: {error}");
            assert!(!error.to_string().contains("secret"), "{url}: {error}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let mut options = StorageOptions::new("s3://bkt");
        options.s3_secret_access_key = Some("hush".into());
        options.s3_session_token = Some("hush".into());
        assert!(!format!("{options:?}").contains("hush"));
    }
}
