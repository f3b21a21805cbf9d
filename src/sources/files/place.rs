//! Putting files in place: a few threads that write small files, and the setting of owners, modes and times.

use super::members::Member;
use super::untar::{Ids, create};
use crate::error::{Error, Kind, Result};
use crate::repository::segment::Bytes;
use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Small files that wait for a thread.
const QUEUE: usize = 32;

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
    meta: Option<Meta>,
    shared: Arc<Shared>,
}

impl OpenDir {
    /// An open directory; without `meta` it is left as it is.
    pub fn new(path: Vec<u8>, fd: OwnedFd, meta: Option<Meta>, pool: &Pool) -> Arc<Self> {
        Arc::new(OpenDir { path, fd, meta, shared: pool.shared.clone() })
    }
}

impl Drop for OpenDir {
    fn drop(&mut self) {
        if let Some(meta) = &self.meta
            && let Err(e) = self.shared.set_by_fd(self.fd.as_fd(), &self.path, meta)
        {
            self.shared.fail(e);
        }
    }
}

/// A small file with its content.
pub struct Job {
    /// Where it goes.
    pub dir: Arc<OpenDir>,
    /// Its name there.
    pub name: Vec<u8>,
    /// Its content.
    pub content: Vec<u8>,
    /// Its owner, mode, time and attributes.
    pub meta: Meta,
}

/// What the threads share.
pub struct Shared {
    owners: bool,
    left_out: Mutex<BTreeMap<String, u64>>,
    failed: Mutex<Option<Error>>,
    waiting: Mutex<usize>,
    written: Condvar,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The threads.
pub struct Pool {
    /// For what is set outside of them.
    pub shared: Arc<Shared>,
    jobs: Option<SyncSender<Job>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Pool {
    /// As many threads as cores, at least two, at most eight. `owners`: whether owners are set.
    pub fn new(owners: bool) -> Self {
        let shared = Arc::new(Shared {
            owners,
            left_out: Mutex::default(),
            failed: Mutex::default(),
            waiting: Mutex::default(),
            written: Condvar::new(),
        });
        let (jobs, queue) = sync_channel(QUEUE);
        let queue = Arc::new(Mutex::new(queue));
        let count = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8);
        let threads = (0..count).filter_map(|_| {
            let (shared, queue) = (shared.clone(), queue.clone());
            std::thread::Builder::new().name("restore".into()).spawn(move || shared.work(&queue)).ok()
        });
        Pool { threads: threads.collect(), shared, jobs: Some(jobs) }
    }

    /// Hands a file over; tells of a failure of an earlier one.
    pub fn give(&self, job: Job) -> Result<()> {
        self.shared.failed()?;
        *lock(&self.shared.waiting) += 1;
        let given = self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
        if given { Ok(()) } else { Err(Error::new(Kind::Internal, "the writing threads are gone")) }
    }

    /// Waits until every file that was handed over is written.
    pub fn settle(&self) -> Result<()> {
        let mut waiting = lock(&self.shared.waiting);
        while *waiting > 0 {
            waiting = self.shared.written.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        drop(waiting);
        self.shared.failed()
    }

    /// What could not be set, by reason.
    pub fn left_out(&self) -> BTreeMap<String, u64> {
        lock(&self.shared.left_out).clone()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn work(&self, queue: &Mutex<Receiver<Job>>) {
        loop {
            let job = lock(queue).recv();
            let Ok(job) = job else { return };
            if self.failed().is_ok()
                && let Err(e) = self.write(&job)
            {
                self.fail(e);
            }
            // The directory first: whoever waits for zero may look at its times.
            drop(job);
            *lock(&self.waiting) -= 1;
            self.written.notify_all();
        }
    }

    fn write(&self, job: &Job) -> Result<()> {
        let path = || [&job.dir.path[..], b"/", &job.name].concat();
        let mut file = create(&job.dir, &job.name).map_err(|e| bad(&path(), "the file cannot be made", e))?;
        file.write_all(&job.content).map_err(|e| bad(&path(), "the file cannot be written", e))?;
        self.set_by_fd(file.as_fd(), &job.name, &job.meta)
            .map_err(|e| Error { place: Some(Bytes(path()).display()), ..e })
    }

    fn fail(&self, error: Error) {
        lock(&self.failed).get_or_insert(error);
    }

    fn failed(&self) -> Result<()> {
        lock(&self.failed).as_ref().map_or(Ok(()), |e| Err(e.again()))
    }

    fn count_left_out(&self, what: &str) {
        *lock(&self.left_out).entry(what.to_owned()).or_default() += 1;
    }

    /// Sets everything on an open file or directory.
    pub fn set_by_fd(&self, file: BorrowedFd<'_>, path: &[u8], meta: &Meta) -> Result<()> {
        if self.owners {
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
