//! A directory as an object store: one file per object, for disks, NFS shares and tests.
//!
//! An object is written under a temporary name in its own directory, synced, and then given its name by
//! `link(2)`, which fails when the name exists. A file system without hard links is served by `renameat2` with
//! `RENAME_NOREPLACE`. Whatever is killed in between leaves a temporary name at most, which listings ignore and
//! [`FsStore::sweep`] removes.
//!
//! Unlike a bucket, a directory cannot hold both `a` and `a/b`; such a key is refused as invalid.

use super::common::{check_folder, check_prefix, limit_for, within};
use super::fs_file::{Temporary, is_immutable, is_temporary, sync_directory};
use super::fs_walk;
use super::{
    DeleteOutcome, ErrorKind, MAX_OBJECT, ObjectInfo, ObjectStore, Page, PutMode, PutOutcome, Result, StorageError,
    check_key,
};
use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use rustix::io::Errno;
use std::collections::HashSet;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How old a temporary file is before [`FsStore::sweep`] takes it for abandoned: longer than any put may take.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// The store. Cheap to clone; the clones share what they know about synced directories.
#[derive(Clone, Debug)]
pub struct FsStore {
    tree: Arc<Tree>,
    timeout: Duration,
}

#[derive(Debug)]
struct Tree {
    root: PathBuf,
    url: String,
    /// Directories whose own entries, up to the root, were synced by this process. An existing directory is
    /// no proof: who created it may have been killed before syncing it.
    synced: Mutex<HashSet<PathBuf>>,
}

impl FsStore {
    /// A store in the directory `root`, which must be absolute. Touches nothing; a missing directory shows on
    /// the first call as [`ErrorKind::NoBucket`]. `timeout` is the base of every call's time limit.
    ///
    /// A call that runs into its limit returns, but the thread that is stuck in the kernel (a dead NFS server)
    /// ends only when the kernel lets it.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a relative path.
    pub fn new(root: &Path, timeout: Duration) -> Result<Self> {
        let url = format!("file://{}", root.display());
        if !root.is_absolute() {
            return Err(StorageError::new(ErrorKind::Invalid, "open", url, "the path must be absolute"));
        }
        let tree = Tree { root: root.to_path_buf(), url, synced: Mutex::default() };
        Ok(FsStore { tree: Arc::new(tree), timeout })
    }

    /// Creates the root directory (mode 0700) and the missing directories above it, and syncs them. Only
    /// `init` calls this: a backup must not create a repository on the empty mount point of a missing disk.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`], [`ErrorKind::Full`] or [`ErrorKind::Invalid`] (something else is in the way).
    pub async fn create_root(&self) -> Result<()> {
        self.blocking(0, "create", "", |tree, _| {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&tree.root);
            made.map_err(|error| tree.error("create", "", &error))?;
            for directory in tree.root.ancestors() {
                match File::open(directory).and_then(|handle| handle.sync_all()) {
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => break,
                    other => other.map_err(|error| tree.error("create", "", &error))?,
                }
            }
            Ok(())
        })
        .await
    }

    /// Removes temporary files older than a day, by the file system's own clock. Returns how many.
    ///
    /// # Errors
    /// As a listing of the whole store.
    pub async fn sweep(&self) -> Result<usize> {
        let limit = MAX_OBJECT;
        self.blocking(limit, "delete", "", |tree, _| {
            let now = tree.now()?;
            let walk = fs_walk::temporary_files(&tree.root).map_err(|error| tree.error("list", "", &error))?;
            let mut removed = 0;
            for (path, modified) in walk {
                if now.duration_since(modified) > jiff::SignedDuration::try_from(ABANDONED).unwrap_or_default() {
                    match fs::remove_file(&path) {
                        Ok(()) => removed += 1,
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        Err(error) => return Err(tree.error("delete", &path.to_string_lossy(), &error)),
                    }
                }
            }
            Ok(removed)
        })
        .await
    }

    /// Runs file system calls on a thread that may block, for at most the time that `bytes` may take.
    async fn blocking<T: Send + 'static>(
        &self,
        bytes: u64,
        op: &'static str,
        key: &str,
        work: impl FnOnce(&Tree, &str) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let url = format!("{}/{key}", self.tree.url);
        let tree = Arc::clone(&self.tree);
        let key = key.to_owned();
        let thread = tokio::task::spawn_blocking(move || work(&tree, &key));
        let failed = |error| StorageError::new(ErrorKind::Unavailable, op, url.clone(), error);
        let call = async { thread.await.unwrap_or_else(|error| Err(failed(error))) };
        within(limit_for(self.timeout, bytes), op, &url, call).await
    }
}

impl Tree {
    fn error(&self, op: &'static str, key: &str, error: &io::Error) -> StorageError {
        let kind = match Errno::from_io_error(error) {
            Some(Errno::NOSPC | Errno::DQUOT) => ErrorKind::Full,
            Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => ErrorKind::Denied,
            Some(Errno::NOENT) if self.root.is_dir() => ErrorKind::NotFound,
            Some(Errno::NOENT) => ErrorKind::NoBucket,
            Some(Errno::NOTDIR) if !self.root.is_dir() => ErrorKind::NoBucket,
            Some(Errno::NOTDIR | Errno::ISDIR) if op != "put" => ErrorKind::NotFound,
            Some(Errno::NOTDIR | Errno::ISDIR | Errno::NAMETOOLONG | Errno::LOOP | Errno::FBIG | Errno::EXIST) => {
                ErrorKind::Invalid
            }
            None if error.kind() == io::ErrorKind::InvalidData => ErrorKind::Invalid,
            _ => ErrorKind::Unavailable,
        };
        StorageError::new(kind, op, format!("{}/{key}", self.url), error)
    }

    /// The file of a key. Components that look temporary are refused: a listing would not show them.
    fn path(&self, op: &'static str, key: &str) -> Result<PathBuf> {
        check_key(op, &self.url, key)?;
        if key.split('/').any(is_temporary) {
            let url = format!("{}/{key}", self.url);
            return Err(StorageError::new(ErrorKind::Invalid, op, url, "the name is reserved for temporary files"));
        }
        Ok(self.root.join(key))
    }

    /// Creates the directories between the root and `directory`, and syncs each one's entry once per process.
    fn prepare(&self, directory: &Path) -> io::Result<()> {
        let known = |path: &Path| self.synced.lock().unwrap_or_else(PoisonError::into_inner).contains(path);
        let mut missing = Vec::new();
        let mut at = directory;
        while at != self.root && !known(at) {
            missing.push(at);
            match at.parent() {
                Some(parent) => at = parent,
                None => break,
            }
        }
        for directory in missing.into_iter().rev() {
            match DirBuilder::new().mode(0o700).create(directory) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => sync_directory(directory.parent().unwrap_or(&self.root))?,
            }
            self.synced.lock().unwrap_or_else(PoisonError::into_inner).insert(directory.to_path_buf());
        }
        Ok(())
    }

    fn put(&self, key: &str, body: &[u8], mode: PutMode) -> Result<PutOutcome> {
        let path = self.path("put", key)?;
        let fail = |error: io::Error| match self.error("put", key, &error) {
            error if error.kind == ErrorKind::NotFound => StorageError { kind: ErrorKind::Unavailable, ..error },
            error => error,
        };
        let directory = path.parent().unwrap_or(&self.root);
        match path.symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => return Err(fail(Errno::ISDIR.into())),
            Ok(_) if mode == PutMode::IfAbsent => {
                // Whoever wrote it may have been killed before the name was durable.
                sync_directory(directory).map_err(fail)?;
                return Ok(PutOutcome::Exists);
            }
            _ => {}
        }
        self.prepare(directory).map_err(fail)?;
        let temporary = match Temporary::write(directory, body) {
            // Somebody removed a directory that was empty.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.synced.lock().unwrap_or_else(PoisonError::into_inner).clear();
                self.prepare(directory).and_then(|()| Temporary::write(directory, body)).map_err(fail)?
            }
            other => other.map_err(fail)?,
        };
        let outcome = match mode {
            PutMode::IfAbsent => temporary.publish(&path),
            PutMode::Blind => temporary.replace(&path),
        };
        let outcome = outcome.map_err(fail)?;
        sync_directory(directory).map_err(fail)?;
        Ok(outcome)
    }

    fn get(&self, key: &str, limit: u64) -> Result<Bytes> {
        let path = self.path("get", key)?;
        let fail = |error: io::Error| self.error("get", key, &error);
        let refuse = |kind, detail: String| StorageError::new(kind, "get", format!("{}/{key}", self.url), detail);
        let file = File::open(&path).map_err(fail)?;
        let metadata = file.metadata().map_err(fail)?;
        if !metadata.is_file() {
            return Err(refuse(ErrorKind::NotFound, "not a file".into()));
        }
        let size = metadata.len();
        if size > limit {
            return Err(refuse(ErrorKind::TooLarge, format!("{size} bytes, at most {limit} expected")));
        }
        let mut body = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        file.take(size + 1).read_to_end(&mut body).map_err(fail)?;
        if body.len() as u64 != size {
            return Err(refuse(ErrorKind::Corrupt, format!("{} bytes read, {size} expected", body.len())));
        }
        Ok(body.into())
    }

    fn stat(&self, key: &str) -> Result<ObjectInfo> {
        let path = self.path("stat", key)?;
        let fail = |error: io::Error| self.error("stat", key, &error);
        let metadata = fs::metadata(&path).map_err(fail)?;
        if !metadata.is_file() {
            let url = format!("{}/{key}", self.url);
            return Err(StorageError::new(ErrorKind::NotFound, "stat", url, "not a file"));
        }
        fs_walk::info(key.to_owned(), &metadata).map_err(fail)
    }

    fn delete(&self, key: &str) -> Result<DeleteOutcome> {
        let path = self.path("delete", key)?;
        match fs::remove_file(&path) {
            Ok(()) => {
                let synced = sync_directory(path.parent().unwrap_or(&self.root));
                synced.map_err(|error| self.error("delete", key, &error))?;
                Ok(DeleteOutcome::Gone)
            }
            Err(error) if Errno::from_io_error(&error) == Some(Errno::PERM) && is_immutable(&path) => {
                Ok(DeleteOutcome::Retained)
            }
            Err(error) => match self.error("delete", key, &error) {
                error if error.kind == ErrorKind::NotFound => Ok(DeleteOutcome::Gone),
                error => Err(error),
            },
        }
    }

    /// The clock of the file system: the write time of a file made for the question.
    fn now(&self) -> Result<Timestamp> {
        let fail = |error: io::Error| self.error("now", "", &error);
        let file = Temporary::write(&self.root, b"?").map_err(fail)?;
        let metadata = fs::metadata(file.path()).map_err(fail)?;
        fs_walk::modified(&metadata).map_err(fail)
    }
}

#[async_trait]
impl ObjectStore for FsStore {
    fn url(&self) -> &str {
        &self.tree.url
    }

    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<PutOutcome> {
        self.blocking(body.len() as u64, "put", key, move |tree, key| tree.put(key, &body, mode)).await
    }

    async fn get(&self, key: &str, limit: u64) -> Result<Bytes> {
        self.blocking(limit.min(MAX_OBJECT), "get", key, move |tree, key| tree.get(key, limit)).await
    }

    async fn stat(&self, key: &str) -> Result<ObjectInfo> {
        self.blocking(0, "stat", key, Tree::stat).await
    }

    async fn list(&self, prefix: &str, token: Option<&str>) -> Result<Page> {
        check_prefix(&self.tree.url, prefix)?;
        let after = token.map(str::to_owned);
        self.blocking(0, "list", prefix, move |tree, prefix| {
            let page = fs_walk::page(&tree.root, prefix, after.as_deref());
            page.map_err(|error| tree.error("list", prefix, &error))
        })
        .await
    }

    async fn folders(&self, prefix: &str) -> Result<Vec<String>> {
        check_folder(&self.tree.url, prefix)?;
        self.blocking(0, "list", prefix, |tree, prefix| {
            fs_walk::folders(&tree.root, prefix).map_err(|error| tree.error("list", prefix, &error))
        })
        .await
    }

    async fn delete(&self, key: &str) -> Result<DeleteOutcome> {
        self.blocking(0, "delete", key, Tree::delete).await
    }

    async fn now(&self) -> Result<Timestamp> {
        self.blocking(0, "now", "", |tree, _| tree.now()).await
    }
}
