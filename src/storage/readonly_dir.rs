//! A directory that others write, for reading only.

use super::common::{limit_for, within};
use super::readonly::{ReadOnly, changed};
use super::{ErrorKind, ObjectInfo, Page, Result, StorageError};
use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A directory and what is below it.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    root: PathBuf,
    url: String,
    timeout: Duration,
}

impl Directory {
    pub(super) fn new(root: &Path, timeout: Duration) -> Self {
        Directory { root: root.to_owned(), url: format!("file://{}", root.display()), timeout }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        op: &'static str,
        url: &str,
        bytes: u64,
        call: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let root = self.root.clone();
        blocking(self.timeout, op, url, bytes, move || call(&root)).await
    }
}

/// Runs file system calls on a thread that may block.
pub(super) async fn blocking<T: Send + 'static>(
    timeout: Duration,
    op: &'static str,
    url: &str,
    bytes: u64,
    call: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T> {
    let task = async {
        let done = tokio::task::spawn_blocking(call).await;
        let done = done.map_err(|e| StorageError::new(ErrorKind::Unavailable, op, url, e))?;
        done.map_err(|e| {
            let kind = match e.kind() {
                io::ErrorKind::NotFound if op == "list" => ErrorKind::NoBucket,
                io::ErrorKind::NotFound => ErrorKind::NotFound,
                io::ErrorKind::PermissionDenied => ErrorKind::Denied,
                io::ErrorKind::InvalidData => ErrorKind::Corrupt,
                _ => ErrorKind::Unavailable,
            };
            StorageError::new(kind, op, url, e)
        })
    };
    within(limit_for(timeout, bytes), op, url, task).await
}

#[async_trait]
impl ReadOnly for Directory {
    fn url(&self) -> &str {
        &self.url
    }

    async fn page(&self, prefix: &str, _: Option<&str>) -> Result<Page> {
        let prefix = prefix.to_owned();
        let url = format!("{}/{prefix}", self.url);
        self.blocking("list", &url, 0, move |root| {
            let base = root.canonicalize()?;
            let mut objects = Vec::new();
            let below = prefix.rfind('/').map_or("", |slash| &prefix[..slash]);
            if below.is_empty() || root.join(below).is_dir() {
                walk(&base, root, below, &prefix, &mut objects)?;
            }
            objects.sort_by(|a, b| a.key.cmp(&b.key));
            Ok(Page { objects, next: None })
        })
        .await
    }

    async fn range(&self, object: &ObjectInfo, offset: u64, length: u64) -> Result<Bytes> {
        let url = format!("{}/{}", self.url, object.key);
        let (name, listed, at) = (object.key.clone(), object.size, url.clone());
        let read = self.blocking("get", &url, length, move |root| {
            let file = File::open(root.join(name))?;
            let size = file.metadata()?.len();
            if size != listed {
                return Ok(Err(changed(&at, listed, size)));
            }
            let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
            file.read_exact_at(&mut bytes, offset)?;
            Ok(Ok(Bytes::from(bytes)))
        });
        read.await?
    }
}

/// Files below `at` whose name starts with `prefix`. A link to a file elsewhere is that file; one to something in this
/// tree is only another name (`latest`), and would be a second backup of the same time.
fn walk(base: &Path, root: &Path, at: &str, prefix: &str, found: &mut Vec<ObjectInfo>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(at))? {
        let entry = entry?;
        // A name that is no text cannot be one of a layout.
        let Ok(name) = entry.file_name().into_string() else { continue };
        let name = if at.is_empty() { name } else { format!("{at}/{name}") };
        let gone = |e: &io::Error| e.kind() == io::ErrorKind::NotFound;
        let kind = match entry.file_type() {
            Ok(kind) => kind,
            Err(e) if gone(&e) => continue,
            Err(e) => return Err(e),
        };
        if kind.is_dir() {
            let folder = format!("{name}/");
            if folder.starts_with(prefix) || prefix.starts_with(&folder) {
                walk(base, root, &name, prefix, found)?;
            }
            continue;
        }
        let elsewhere = kind.is_symlink() && entry.path().canonicalize().is_ok_and(|to| !to.starts_with(base));
        if !name.starts_with(prefix) || !(kind.is_file() || elsewhere) {
            continue;
        }
        match fs::metadata(entry.path()) {
            Ok(m) if m.is_file() => {
                let modified = Timestamp::try_from(m.modified()?).map_err(io::Error::other)?;
                found.push(ObjectInfo { key: name, size: m.len(), modified });
            }
            Ok(_) => {}
            Err(e) if gone(&e) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::open::StorageOptions;
    use super::super::readonly::{list, open};
    use super::*;

    #[tokio::test]
    async fn any_name_is_listed_links_within_are_not_and_a_changed_file_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a b/c")).unwrap();
        fs::write(dir.path().join("a b/c/x:1.dump"), b"0123456789").unwrap();
        fs::write(elsewhere.path().join("y"), b"yy").unwrap();
        std::os::unix::fs::symlink(dir.path().join("a b/c"), dir.path().join("latest")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("a b/c/x:1.dump"), dir.path().join("latest.dump")).unwrap();
        std::os::unix::fs::symlink(elsewhere.path().join("y"), dir.path().join("y")).unwrap();
        let store = open(&StorageOptions::new(format!("file://{}", dir.path().display()))).await.unwrap();
        let all = list(&*store, "").await.unwrap();
        assert_eq!(all.iter().map(|o| o.key.as_str()).collect::<Vec<_>>(), ["a b/c/x:1.dump", "y"]);
        assert_eq!(list(&*store, "a b/c/x").await.unwrap().len(), 1);
        assert!(list(&*store, "a b/d/").await.unwrap().is_empty());
        assert_eq!(&store.range(&all[0], 3, 4).await.unwrap()[..], b"3456");
        fs::write(dir.path().join("a b/c/x:1.dump"), b"01234567890").unwrap();
        let e = store.range(&all[0], 3, 4).await.unwrap_err();
        assert!(e.detail.contains("11 instead of 10"), "{e}");
        let missing = open(&StorageOptions::new(format!("file://{}/nothing", dir.path().display()))).await.unwrap();
        assert_eq!(list(&*missing, "").await.unwrap_err().kind, ErrorKind::NoBucket);
    }
}
