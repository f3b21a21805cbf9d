//! What a restored file or directory gets besides its content: owner, mode, time and attributes.

use super::lanes::Lanes;
use super::members::Member;
use super::untar::Ids;
use crate::error::{Error, Kind, Result};
use crate::repository::segment::Bytes;
use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// What a path was and why it failed.
pub fn bad(path: &[u8], what: &str, e: impl Into<std::io::Error>) -> Error {
    Error::new(Kind::Restore, what).at(Bytes(path.to_vec()).display()).because(e.into())
}

/// Owner, mode, time and attributes.
pub struct Meta {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: Timespec,
    xattrs: Vec<(CString, Vec<u8>)>,
}

impl Meta {
    /// Of a member.
    pub fn new(member: &Member, xattrs: Vec<(CString, Vec<u8>)>, ids: &Ids) -> Self {
        let here = |ids: &BTreeMap<u32, u32>, id: u32| ids.get(&id).copied().unwrap_or(id);
        let (uid, gid) = (here(&ids.users, member.uid), here(&ids.groups, member.gid));
        let mtime = Timespec { tv_sec: member.mtime.0, tv_nsec: member.mtime.1 };
        Meta { mode: member.mode, uid, gid, mtime, xattrs }
    }

    fn times(&self) -> Timestamps {
        Timestamps { last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT as _ }, last_modification: self.mtime }
    }
}

/// A directory that is being filled. When the last file that is written into it lets go, it gets its owner, mode and
/// times: not earlier, since every new name in it changes its time.
pub struct OpenDir {
    /// Path below the target.
    pub path: Vec<u8>,
    /// The open directory.
    pub fd: OwnedFd,
    /// Which thread writes the files in it.
    pub lane: usize,
    meta: Option<Meta>,
    /// User and group of what is made in it.
    made_as: OnceLock<(u32, u32)>,
    shared: Arc<Shared>,
}

impl OpenDir {
    /// An open directory; without `meta` it is left as it is.
    pub fn new(path: Vec<u8>, fd: OwnedFd, meta: Option<Meta>, lanes: &Lanes) -> Arc<Self> {
        let shared = lanes.shared.clone();
        shared.directories.fetch_add(1, Ordering::Relaxed);
        Arc::new(OpenDir { lane: lanes.of(&path), path, fd, meta, made_as: OnceLock::new(), shared })
    }
}

impl Drop for OpenDir {
    fn drop(&mut self) {
        if let Some(meta) = &self.meta
            && let Err(e) = self.shared.set_by_fd(self.fd.as_fd(), &self.path, meta)
        {
            self.shared.fail(e);
        }
        self.shared.directories.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What could not be set, and what failed, wherever it was noticed.
pub struct Shared {
    owners: bool,
    left_out: Mutex<BTreeMap<String, u64>>,
    failed: Mutex<Option<Error>>,
    directories: AtomicUsize,
}

/// Locks; what a thread that panicked left is as good as ever.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// With or without owners.
    pub fn new(owners: bool) -> Self {
        Shared { owners, left_out: Mutex::default(), failed: Mutex::default(), directories: AtomicUsize::new(0) }
    }

    /// What could not be set, by reason.
    pub fn left_out(&self) -> BTreeMap<String, u64> {
        lock(&self.left_out).clone()
    }

    /// Notes a failure; the first one stays.
    pub fn fail(&self, error: Error) {
        lock(&self.failed).get_or_insert(error);
    }

    /// # Errors
    /// The first failure that was noted.
    pub fn failed(&self) -> Result<()> {
        lock(&self.failed).as_ref().map_or(Ok(()), |e| Err(e.again()))
    }

    /// Directories that are open.
    pub fn directories(&self) -> usize {
        self.directories.load(Ordering::Relaxed)
    }

    fn count_left_out(&self, what: &str) {
        *lock(&self.left_out).entry(what.to_owned()).or_default() += 1;
    }

    /// Sets everything on a file that was just made in a directory. The kernel gives all of them the same owner, which is
    /// looked at once; whose it is already is not given it again, since that costs as much as any change.
    pub fn set_on_new(&self, file: BorrowedFd<'_>, dir: &OpenDir, path: &[u8], meta: &Meta) -> Result<()> {
        let is = match dir.made_as.get() {
            Some(is) => *is,
            None => {
                let stat = rustix::fs::fstat(file).map_err(|e| bad(path, "the file cannot be looked at", e))?;
                *dir.made_as.get_or_init(|| (stat.st_uid, stat.st_gid))
            }
        };
        self.set(file, path, meta, (meta.uid, meta.gid) != is)
    }

    /// Sets everything on an open file or directory.
    pub fn set_by_fd(&self, file: BorrowedFd<'_>, path: &[u8], meta: &Meta) -> Result<()> {
        self.set(file, path, meta, true)
    }

    fn set(&self, file: BorrowedFd<'_>, path: &[u8], meta: &Meta, owner: bool) -> Result<()> {
        if self.owners && owner {
            rustix::fs::fchown(file, Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)))
                .map_err(|e| bad(path, "the owner cannot be set", e))?;
        }
        // After the owner, since chown takes set-user-id bits and capabilities away.
        rustix::fs::fchmod(file, Mode::from_raw_mode(meta.mode)).map_err(|e| bad(path, "the mode cannot be set", e))?;
        for (name, value) in &meta.xattrs {
            use rustix::io::Errno;
            match rustix::fs::fsetxattr(file, name.as_c_str(), value, XattrFlags::empty()) {
                Ok(()) => {}
                // Without root, or on a file system without them. Never silent: the report counts them.
                Err(Errno::NOTSUP | Errno::PERM) => {
                    self.count_left_out(&format!("extended attribute {}", name.to_string_lossy()))
                }
                Err(e) => return Err(bad(path, "an extended attribute cannot be set", e)),
            }
        }
        rustix::fs::futimens(file, &meta.times()).map_err(|e| bad(path, "the times cannot be set", e))
    }

    /// Sets what can be set on a link or device.
    pub fn set_by_name(&self, dir: BorrowedFd<'_>, name: &[u8], path: &[u8], meta: &Meta) -> Result<()> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        if self.owners {
            rustix::fs::chownat(dir, name, Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)), flags)
                .map_err(|e| bad(path, "the owner cannot be set", e))?;
        }
        let stat = rustix::fs::statat(dir, name, flags).map_err(|e| bad(path, "what was made cannot be found", e))?;
        if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::Symlink {
            rustix::fs::chmodat(dir, name, Mode::from_raw_mode(meta.mode), AtFlags::empty())
                .map_err(|e| bad(path, "the mode cannot be set", e))?;
        }
        if !meta.xattrs.is_empty() {
            self.count_left_out("extended attributes of links and devices");
        }
        rustix::fs::utimensat(dir, name, &meta.times(), flags).map_err(|e| bad(path, "the times cannot be set", e))
    }
}
