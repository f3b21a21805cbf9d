//! A directory within a root that is not ours, such as a container's, for reading only. Whoever writes there could make a
//! link that leads out of it, to files of this machine; so no link is followed, neither to a file nor on the way to one.

use super::readonly::{ReadOnly, changed};
use super::readonly_dir::blocking;
use super::{ObjectInfo, Page, Result};
use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use rustix::fs::{Dir, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

/// A directory that is open, and what is below it.
#[derive(Clone, Debug)]
pub(super) struct Enclosed {
    place: Arc<OwnedFd>,
    url: String,
    timeout: Duration,
}

impl Enclosed {
    pub(super) fn new(place: OwnedFd, url: String, timeout: Duration) -> Self {
        Enclosed { place: Arc::new(place), url, timeout }
    }
}

/// Opens a name below a directory, if no link is on the way.
fn below(place: impl AsFd, name: &str, flags: OFlags) -> io::Result<File> {
    let name = if name.is_empty() { "." } else { name };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match openat2(place, name, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
        Ok(opened) => Ok(File::from(opened)),
        Err(Errno::LOOP | Errno::XDEV) => {
            Err(io::Error::new(io::ErrorKind::NotFound, "a link leads there, and none is followed"))
        }
        Err(e) => Err(e.into()),
    }
}

#[async_trait]
impl ReadOnly for Enclosed {
    fn url(&self) -> &str {
        &self.url
    }

    async fn page(&self, prefix: &str, _: Option<&str>) -> Result<Page> {
        let (place, prefix) = (self.place.clone(), prefix.to_owned());
        let url = format!("{}/{prefix}", self.url);
        blocking(self.timeout, "list", &url, 0, move || {
            let mut objects = Vec::new();
            let folder = prefix.rfind('/').map_or("", |slash| &prefix[..slash]);
            match below(&place, folder, OFlags::RDONLY | OFlags::DIRECTORY) {
                Ok(dir) => walk(&dir, folder, &prefix, &mut objects)?,
                Err(e) if is_none(&e) => {}
                Err(e) => return Err(e),
            }
            objects.sort_by(|a, b| a.key.cmp(&b.key));
            Ok(Page { objects, next: None })
        })
        .await
    }

    async fn range(&self, object: &ObjectInfo, offset: u64, length: u64) -> Result<Bytes> {
        let url = format!("{}/{}", self.url, object.key);
        let (place, name, listed, at) = (self.place.clone(), object.key.clone(), object.size, url.clone());
        let read = blocking(self.timeout, "get", &url, length, move || {
            // A pipe that somebody put in its place must not make us wait.
            let file = below(&place, &name, OFlags::RDONLY | OFlags::NONBLOCK)?;
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

/// What has gone since it was listed, is no directory, or is a link.
fn is_none(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Files below a directory, which is `at`, whose name starts with `prefix`.
fn walk(dir: &File, at: &str, prefix: &str, found: &mut Vec<ObjectInfo>) -> io::Result<()> {
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        // A name that is no text cannot be one of a layout.
        let Ok(own) = entry.file_name().to_str() else { continue };
        if own == "." || own == ".." {
            continue;
        }
        let name = if at.is_empty() { own.to_owned() } else { format!("{at}/{own}") };
        let looking = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let metadata = match openat(dir, own, looking, Mode::empty()) {
            Ok(it) => File::from(it).metadata()?,
            Err(Errno::NOENT) => continue,
            Err(e) => return Err(e.into()),
        };
        if metadata.is_dir() {
            let folder = format!("{name}/");
            if folder.starts_with(prefix) || prefix.starts_with(&folder) {
                match below(dir, own, OFlags::RDONLY | OFlags::DIRECTORY) {
                    Ok(inner) => walk(&inner, &name, prefix, found)?,
                    Err(e) if is_none(&e) => {}
                    Err(e) => return Err(e),
                }
            }
        } else if metadata.is_file() && name.starts_with(prefix) {
            let modified = Timestamp::try_from(metadata.modified()?).map_err(io::Error::other)?;
            found.push(ObjectInfo { key: name, size: metadata.len(), modified });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::open::StorageOptions;
    use super::super::readonly::{enclosed, list};
    use super::super::{ErrorKind, ObjectInfo};
    use std::fs;
    use std::os::unix::fs::symlink;

    #[tokio::test]
    async fn no_link_leads_out_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a b/c")).unwrap();
        fs::write(dir.path().join("a b/c/x.dump"), b"0123456789").unwrap();
        fs::write(elsewhere.path().join("secret"), b"ss").unwrap();
        symlink(elsewhere.path().join("secret"), dir.path().join("secret")).unwrap();
        symlink(elsewhere.path(), dir.path().join("out")).unwrap();
        symlink("a b", dir.path().join("in")).unwrap();
        let options = StorageOptions::new("file:///backups".to_owned());
        let place = fs::File::open(dir.path()).unwrap().into();
        let store = enclosed(place, "box:/backups".to_owned(), &options);
        let all = list(&*store, "").await.unwrap();
        assert_eq!(all.iter().map(|o| o.key.as_str()).collect::<Vec<_>>(), ["a b/c/x.dump"]);
        assert_eq!(&store.range(&all[0], 3, 4).await.unwrap()[..], b"3456");
        assert_eq!(list(&*store, "a b/c/x").await.unwrap().len(), 1);
        for folder in ["out/", "in/c/", "nothing/"] {
            assert!(list(&*store, folder).await.unwrap().is_empty(), "{folder}");
        }
        for name in ["secret", "out/secret", "../secret", "in/c/x.dump"] {
            let object = ObjectInfo { key: name.to_owned(), size: 2, ..all[0].clone() };
            assert!(store.range(&object, 0, 2).await.is_err(), "{name}");
        }
        fs::write(dir.path().join("a b/c/x.dump"), b"01234567890").unwrap();
        let e = store.range(&all[0], 3, 4).await.unwrap_err();
        assert_eq!(e.kind, ErrorKind::Corrupt);
        assert!(e.detail.contains("11 instead of 10") && e.to_string().contains("box:/backups/a b/c/x.dump"), "{e}");
    }
}
