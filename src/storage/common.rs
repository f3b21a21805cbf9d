//! What several stores share: time limits, the mapping of keys below a prefix, prefix checks and dates.

use super::{ErrorKind, Result, StorageError, check_key};
use jiff::Timestamp;
use std::future::Future;
use std::time::Duration;

/// The slowest link that a transfer is given time for, in bytes per second. Slower than this a backup of a
/// whole host is not feasible anyway.
const SLOWEST_LINK: u64 = 16 * 1024;

/// The time limit of a call that moves `bytes` bytes: `base` for the round trip plus the transfer over the
/// slowest supported link.
pub(super) fn limit_for(base: Duration, bytes: u64) -> Duration {
    base + Duration::from_secs(bytes / SLOWEST_LINK)
}

/// Runs `call` for at most `limit`.
///
/// # Errors
/// [`ErrorKind::Timeout`] when the limit passes; otherwise what `call` answers.
pub(super) async fn within<T>(
    limit: Duration,
    op: &'static str,
    url: &str,
    call: impl Future<Output = Result<T>> + Send,
) -> Result<T> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => answer,
        Err(_) => Err(StorageError::new(ErrorKind::Timeout, op, url, format!("{:.1} s", limit.as_secs_f64()))),
    }
}

/// Where a repository lives inside a bucket: the part of the URL after the bucket's name.
#[derive(Clone, Debug)]
pub(super) struct Root {
    /// Empty, or a path with a trailing slash.
    below: String,
}

impl Root {
    /// Takes a prefix with or without slashes around it.
    pub(super) fn new(prefix: &str) -> Self {
        let trimmed = prefix.trim_matches('/');
        Root { below: if trimmed.is_empty() { String::new() } else { format!("{trimmed}/") } }
    }

    /// The name in the bucket of a key, or of a prefix of keys.
    pub(super) fn full(&self, key: &str) -> String {
        format!("{}{key}", self.below)
    }

    /// The key of a name in the bucket. `None` for a name outside the root and for the empty marker objects
    /// with a trailing slash that consoles create for folders: neither can be addressed by a key.
    pub(super) fn key<'a>(&self, full: &'a str) -> Option<&'a str> {
        full.strip_prefix(self.below.as_str()).filter(|key| !key.is_empty() && !key.ends_with('/'))
    }
}

/// Checks the prefix of a listing: the alphabet of keys, no empty, `.` or `..` component before the last,
/// unfinished one.
///
/// # Errors
/// [`ErrorKind::Invalid`] with the prefix.
pub(super) fn check_prefix(url: &str, prefix: &str) -> Result<()> {
    if prefix.is_empty() {
        return Ok(());
    }
    let (folder, last) = prefix.rsplit_once('/').map_or(("", prefix), |(folder, last)| (folder, last));
    if prefix.contains('/') {
        check_key("list", url, folder)?;
    }
    if last.is_empty() || last == "." || last == ".." { Ok(()) } else { check_key("list", url, last) }
}

/// Checks the prefix of a `folders` call: empty, or a valid key followed by a slash.
///
/// # Errors
/// [`ErrorKind::Invalid`] with the prefix.
pub(super) fn check_folder(url: &str, prefix: &str) -> Result<()> {
    match prefix.strip_suffix('/') {
        Some(folder) => check_key("list", url, folder),
        None if prefix.is_empty() => Ok(()),
        None => {
            let detail = "a folder ends in a slash";
            Err(StorageError::new(ErrorKind::Invalid, "list", format!("{url}/{prefix:?}"), detail))
        }
    }
}

/// Reads the `Date` header of a response.
///
/// # Errors
/// [`ErrorKind::Corrupt`] when there is none or it is not a date.
pub(super) fn http_date(url: &str, value: Option<&str>) -> Result<Timestamp> {
    let damaged = |detail: String| StorageError::new(ErrorKind::Corrupt, "now", url, detail);
    let value = value.ok_or_else(|| damaged("the answer has no Date header".into()))?;
    match jiff::fmt::rfc2822::parse(value) {
        Ok(zoned) => Ok(zoned.timestamp()),
        Err(error) => Err(damaged(format!("Date header {value:?}: {error}"))),
    }
}

/// An error with the texts of all its causes, outermost first, without repetition.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let words = inner.to_string();
        if !words.is_empty() && !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_maps_keys_both_ways() {
        for (prefix, full) in [("", "h/k"), ("/", "h/k"), ("a/b", "a/b/h/k"), ("/a/b/", "a/b/h/k")] {
            let root = Root::new(prefix);
            assert_eq!(root.full("h/k"), full);
            assert_eq!(root.key(full), Some("h/k"));
        }
        let root = Root::new("a");
        assert_eq!(root.key("ab/k"), None);
        assert_eq!(root.key("a/"), None);
        assert_eq!(root.key("a/folder/"), None);
    }

    #[test]
    fn prefixes_are_checked() {
        for good in ["", "a", "a/", "a/b", "a/.", "a/b.", ".h"] {
            assert!(check_prefix("m:", good).is_ok(), "{good:?}");
        }
        for bad in ["/", "/a", "a//", "a//b", "../a", "a/../b", "a b", "a/\u{e9}"] {
            assert!(check_prefix("m:", bad).is_err(), "{bad:?}");
        }
        assert!(check_folder("m:", "").is_ok() && check_folder("m:", "a/b/").is_ok());
        assert!(check_folder("m:", "a").is_err() && check_folder("m:", "../").is_err());
    }

    #[test]
    fn http_dates_are_read() {
        let date = http_date("m:", Some("Sun, 06 Nov 1994 08:49:37 GMT")).unwrap();
        assert_eq!(date.as_second(), 784_111_777);
        assert_eq!(http_date("m:", Some("yesterday")).unwrap_err().kind, ErrorKind::Corrupt);
        assert_eq!(http_date("m:", None).unwrap_err().kind, ErrorKind::Corrupt);
    }

    #[test]
    fn the_limit_grows_with_the_size() {
        let base = Duration::from_secs(30);
        assert_eq!(limit_for(base, 0), base);
        assert_eq!(limit_for(base, 8 * 1024 * 1024), Duration::from_secs(542));
    }
}
