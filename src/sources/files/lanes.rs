//! The threads that write the files of a restore, while the one that reads the archive goes on.
//!
//! Making a file and filling it is mostly the kernel's work, and the kernel lets one thread at a time into a directory or a
//! file while others spin. So each directory has its thread, a lane, which writes all files in it, in order; others have
//! other ones. An archive may come back to a directory (`tar -r`), so its path says which lane that is.

use super::large::Large;
use super::place::{Meta, OpenDir, Shared, bad, lock};
use super::untar::create;
use crate::error::{Error, Kind, Result};
use bytes::Bytes;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Bytes that may wait for the threads, all of them together.
const WAITING: usize = 16 * 1024 * 1024;
/// What a job counts besides its content.
const JOB: usize = 1024;
/// Larger files come in pieces of this size.
pub const PIECE: usize = 256 * 1024;
/// Whoever had to wait goes on when no more than this is left: woken at each job, he would only hand over the next one.
const ENOUGH: usize = WAITING / 2;
/// Directories that may be open besides those on the way to the last entry. The usual limit of open files is 1024.
const DIRECTORIES: usize = 400;

/// Work for a lane. A larger file is a beginning, its pieces and its end, with nothing in between.
pub enum Job {
    /// A small file, whole.
    Small {
        /// Where it goes.
        dir: Arc<OpenDir>,
        /// Its name there.
        name: Vec<u8>,
        /// Its content.
        content: Vec<u8>,
        /// Its owner, mode, time and attributes.
        meta: Meta,
    },
    /// A larger file begins.
    Begin {
        /// Where it goes.
        dir: Arc<OpenDir>,
        /// Its name there.
        name: Vec<u8>,
        /// It is written past the page cache.
        past: bool,
    },
    /// Some of its content.
    Piece {
        /// Where in the file.
        offset: u64,
        /// What: a piece of what was read, which is not copied for it.
        content: Bytes,
    },
    /// It is complete.
    End {
        /// Its size, which may be behind the last piece.
        size: u64,
        /// Its owner, mode, time and attributes.
        meta: Meta,
    },
}

impl Job {
    fn weight(&self) -> usize {
        JOB + match self {
            Job::Small { content, .. } => content.len(),
            Job::Piece { content, .. } => content.len(),
            Job::Begin { .. } | Job::End { .. } => 0,
        }
    }
}

/// The threads.
pub struct Lanes {
    /// For what is set outside of them.
    pub shared: Arc<Shared>,
    queue: Arc<Queue>,
    lanes: Vec<(Sender<Job>, JoinHandle<()>)>,
}

/// What waits.
#[derive(Default)]
struct Queue {
    waiting: Mutex<usize>,
    written: Condvar,
}

impl Lanes {
    /// Two threads for each core, at least four, at most eight: those who write past the page cache, or make a file whose
    /// inode is on a part of the disk that was not read yet, wait rather than work. `owners`: whether owners are set.
    pub fn new(owners: bool) -> Self {
        let (shared, queue) = (Arc::new(Shared::new(owners)), Arc::<Queue>::default());
        let count = (crate::model::cores() * 2).clamp(4, 8);
        let lanes = (0..count).filter_map(|_| {
            let (jobs, mine) = channel();
            let (shared, queue) = (shared.clone(), queue.clone());
            let thread = std::thread::Builder::new().name("restore".into()).spawn(move || work(&mine, &shared, &queue));
            Some((jobs, thread.ok()?))
        });
        Lanes { lanes: lanes.collect(), shared, queue }
    }

    /// The lane of a directory: the same whenever it is opened, so that of two versions of a file the later one stays.
    pub fn of(&self, directory: &[u8]) -> usize {
        let mut hasher = DefaultHasher::new();
        directory.hash(&mut hasher);
        (hasher.finish() % self.lanes.len().max(1) as u64) as usize
    }

    /// Before another directory is opened: waits for the files in earlier ones when many are open. `depth` of them are
    /// held by the caller.
    ///
    /// # Errors
    /// When the threads are gone.
    pub fn before_directory(&self, depth: usize) -> Result<()> {
        if self.shared.directories() > depth + DIRECTORIES { self.wait(0, 0).map(drop) } else { Ok(()) }
    }

    /// Hands work over; waits while too much is waiting.
    ///
    /// # Errors
    /// That of an earlier one.
    pub fn give(&self, lane: usize, job: Job) -> Result<()> {
        self.shared.failed()?;
        *self.wait(WAITING, ENOUGH)? += job.weight();
        let lane = self.lanes.get(lane);
        lane.and_then(|(jobs, _)| jobs.send(job).ok()).ok_or_else(gone)
    }

    /// Waits until everything that was handed over is written.
    ///
    /// # Errors
    /// The first failure.
    pub fn settle(&self) -> Result<()> {
        drop(self.wait(0, 0)?);
        self.shared.failed()
    }

    /// When more than `most` is waiting, until no more than `enough` is.
    fn wait(&self, most: usize, enough: usize) -> Result<MutexGuard<'_, usize>> {
        let mut waiting = lock(&self.queue.waiting);
        if *waiting <= most {
            return Ok(waiting);
        }
        while *waiting > enough {
            let again = self.queue.written.wait_timeout(waiting, Duration::from_secs(1));
            waiting = again.unwrap_or_else(PoisonError::into_inner).0;
            if *waiting > enough && self.lanes.iter().any(|(_, thread)| thread.is_finished()) {
                return Err(gone());
            }
        }
        Ok(waiting)
    }
}

fn gone() -> Error {
    Error::new(Kind::Internal, "the writing threads are gone")
}

impl Drop for Lanes {
    fn drop(&mut self) {
        for (jobs, thread) in self.lanes.drain(..) {
            drop(jobs);
            let _ = thread.join();
        }
    }
}

/// A larger file that is being written.
struct Open {
    dir: Arc<OpenDir>,
    name: Vec<u8>,
    large: Large,
}

fn work(jobs: &Receiver<Job>, shared: &Shared, queue: &Queue) {
    let mut open = None;
    while let Ok(job) = jobs.recv() {
        let weight = job.weight();
        if shared.failed().is_ok()
            && let Err(e) = carry_out(job, &mut open, shared)
        {
            shared.fail(e);
        }
        // The job and its directory are gone by now: whoever waits for zero may look at the directory's times.
        let mut waiting = lock(&queue.waiting);
        let before = *waiting;
        *waiting -= weight;
        if *waiting == 0 || (*waiting <= ENOUGH && before > ENOUGH) {
            queue.written.notify_all();
        }
    }
}

fn carry_out(job: Job, open: &mut Option<Open>, shared: &Shared) -> Result<()> {
    let path = |dir: &OpenDir, name: &[u8]| [&dir.path[..], b"/", name].concat();
    match job {
        Job::Small { dir, name, content, meta } => {
            let cannot = |what: &str, e: std::io::Error| bad(&path(&dir, &name), what, e);
            let file = create(&dir, &name).map_err(|e| cannot("the file cannot be made", e.into()))?;
            file.write_all_at(&content, 0).map_err(|e| cannot("the file cannot be written", e))?;
            shared.set_on_new(file.as_fd(), &dir, &path(&dir, &name), &meta)
        }
        Job::Begin { dir, name, past } => {
            let file = create(&dir, &name).map_err(|e| bad(&path(&dir, &name), "the file cannot be made", e))?;
            *open = Some(Open { dir, name, large: Large::new(file, past) });
            Ok(())
        }
        Job::Piece { offset, content } => {
            let Some(o) = open else { return Err(out_of_order()) };
            let cannot = |e| bad(&path(&o.dir, &o.name), "the file cannot be written", e);
            o.large.write(offset, &content).map_err(cannot)
        }
        Job::End { size, meta } => {
            let Some(mut o) = open.take() else { return Err(out_of_order()) };
            o.large.finish(size).map_err(|e| bad(&path(&o.dir, &o.name), "the file cannot be written", e))?;
            shared.set_on_new(o.large.file().as_fd(), &o.dir, &path(&o.dir, &o.name), &meta)
        }
    }
}

fn out_of_order() -> Error {
    Error::new(Kind::Internal, "a piece of a file came without its beginning")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, Mode, OFlags};

    fn lanes() -> (tempfile::TempDir, Lanes, Arc<OpenDir>) {
        let place = tempfile::tempdir().unwrap();
        let lanes = Lanes::new(false);
        let fd = rustix::fs::openat(CWD, place.path(), OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty()).unwrap();
        let dir = OpenDir::new(Vec::new(), fd, None, &lanes);
        (place, lanes, dir)
    }

    fn meta() -> Meta {
        let mut header = tar::Header::new_gnu();
        header.set_path("x").unwrap();
        header.set_mode(0o640);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(0);
        header.set_cksum();
        let bytes = [&header.as_bytes()[..], &[0; 1024]].concat();
        let member = super::super::members::Members::new(&bytes[..]).next_member().unwrap().unwrap();
        Meta::new(&member, Vec::new(), &Default::default())
    }

    #[test]
    fn larger_files_come_in_pieces_with_holes_and_more_may_be_given_than_can_wait() {
        let (place, lanes, dir) = lanes();
        let name = |n: u64| format!("f{n}").into_bytes();
        for n in 0..40 {
            lanes.give(dir.lane, Job::Begin { dir: dir.clone(), name: name(n), past: n % 2 == 0 }).unwrap();
            for piece in [0, 1, 3] {
                let content = vec![n as u8 + 1; PIECE].into();
                lanes.give(dir.lane, Job::Piece { offset: piece * PIECE as u64, content }).unwrap();
            }
            lanes.give(dir.lane, Job::End { size: 5 * PIECE as u64, meta: meta() }).unwrap();
        }
        lanes.settle().unwrap();
        for n in 0..40 {
            let bytes = std::fs::read(place.path().join(format!("f{n}"))).unwrap();
            let of = |piece: usize| bytes[piece * PIECE..][..PIECE].iter().map(|b| u64::from(*b)).sum::<u64>();
            let full = (n + 1) * PIECE as u64;
            assert_eq!([0, 1, 2, 3, 4].map(of), [full, full, 0, full, 0]);
            assert_eq!(bytes.len(), 5 * PIECE);
        }
    }

    #[test]
    fn directories_that_wait_for_their_files_are_not_all_open_at_once() {
        let (place, lanes, root) = lanes();
        let mut most = 0;
        for n in 0..4 * DIRECTORIES {
            lanes.before_directory(1).unwrap();
            let made = place.path().join(format!("d{n}"));
            std::fs::create_dir(&made).unwrap();
            let fd = rustix::fs::openat(CWD, &made, OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty()).unwrap();
            let dir = OpenDir::new(format!("d{n}").into_bytes(), fd, None, &lanes);
            let small = Job::Small { dir: dir.clone(), name: b"f".to_vec(), content: vec![1; 100], meta: meta() };
            lanes.give(dir.lane, small).unwrap();
            drop(dir);
            most = most.max(lanes.shared.directories());
        }
        lanes.settle().unwrap();
        assert!(most <= DIRECTORIES + 2, "{most} directories were open");
        assert_eq!(lanes.shared.directories(), 1, "that of the caller");
        drop(root);
        assert_eq!(lanes.shared.directories(), 0);
    }

    #[test]
    fn a_directory_has_one_lane_and_many_have_all_of_them() {
        let lanes = Lanes::new(false);
        let of = |n: usize| lanes.of(format!("some/where/d{n}").as_bytes());
        assert!((0..200).all(|n| of(n) == of(n)));
        let used: std::collections::BTreeSet<usize> = (0..200).map(of).collect();
        assert_eq!(used.len(), lanes.lanes.len());
    }

    #[test]
    fn a_failure_is_told_with_its_path_and_nothing_hangs() {
        let (_place, lanes, dir) = lanes();
        let small =
            |name: &[u8]| Job::Small { dir: dir.clone(), name: name.to_vec(), content: Vec::new(), meta: meta() };
        lanes.give(0, small(b"no/such/directory")).unwrap();
        let e = lanes.settle().unwrap_err();
        assert!(e.to_string().contains("no/such/directory"), "{e}");
        assert!(lanes.give(0, small(b"x")).is_err());
        assert!(lanes.settle().is_err());
    }
}
