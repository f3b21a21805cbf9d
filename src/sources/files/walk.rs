//! Walks trees in path order and stats every entry, with a few threads that read directories ahead.
//!
//! The order is that of the paths compared component by component as bytes, a directory before what is in it;
//! the index of a backup has the same order, so that both are compared in one merge.

use super::exclude::Excludes;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat};
use std::collections::{HashMap, HashSet};
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Entries that are read ahead of the consumer.
const AHEAD: usize = 20_000;

/// What `lstat` says, as far as a backup wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Type and permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// Blocks of 512 bytes in use.
    pub blocks: u64,
    /// Modification time in nanoseconds.
    pub mtime: i64,
    /// Change time in nanoseconds.
    pub ctime: i64,
    /// Device.
    pub dev: u64,
    /// Inode.
    pub inode: u64,
    /// Names of this inode.
    pub links: u64,
    /// Device number of a device file.
    pub rdev: u64,
}

impl Stat {
    /// From the system's structure.
    pub fn from_raw(s: &rustix::fs::Stat) -> Self {
        let nanos = |seconds: i64, nanos: i64| seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
        Stat {
            mode: s.st_mode,
            uid: s.st_uid,
            gid: s.st_gid,
            size: s.st_size.max(0) as u64,
            blocks: s.st_blocks.max(0) as u64,
            mtime: nanos(s.st_mtime, s.st_mtime_nsec as i64),
            ctime: nanos(s.st_ctime, s.st_ctime_nsec as i64),
            dev: s.st_dev,
            inode: s.st_ino,
            links: s.st_nlink,
            rdev: s.st_rdev,
        }
    }

    /// The type.
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }
}

/// One step of the walk.
#[derive(Debug)]
pub enum Step {
    /// An entry: absolute path and stat.
    Entry(Vec<u8>, Stat),
    /// An entry or directory that cannot be read.
    Failed(Vec<u8>, std::io::Error),
    /// An entry that was listed and is gone.
    Vanished(Vec<u8>),
}

struct Node {
    name: Vec<u8>,
    stat: Result<Stat, rustix::io::Errno>,
    /// Number of the directory's listing, when it is to be descended into.
    listing: Option<u64>,
}

type Listing = Result<Vec<Node>, std::io::Error>;

#[derive(Default)]
struct State {
    todo: Vec<(u64, Vec<u8>)>,
    started: HashSet<u64>,
    ready: HashMap<u64, Listing>,
    ready_entries: usize,
    next: u64,
    stop: bool,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    excludes: Excludes,
    device: Option<HashSet<u64>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, guard: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists one directory, sorted, and numbers the directories in it.
    fn list(&self, path: &[u8]) -> Listing {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = openat(CWD, Path::new(OsStr::from_bytes(path)), flags, Mode::empty())?;
        let mut nodes = Vec::new();
        for entry in Dir::read_from(&dir)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            if self.excludes.matches(&join(path, name), name) {
                continue;
            }
            let stat = statat(&dir, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW).map(|s| Stat::from_raw(&s));
            nodes.push(Node { name: name.to_vec(), stat, listing: None });
        }
        nodes.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(nodes)
    }

    /// Enters a finished listing: its directories become work, the first of them the next.
    fn number(&self, state: &mut State, path: &[u8], listing: &mut Listing) {
        let Ok(nodes) = listing else { return };
        let from = state.todo.len();
        for node in nodes.iter_mut() {
            if let Ok(stat) = &node.stat
                && stat.kind() == FileType::Directory
                && self.device.as_ref().is_none_or(|d| d.contains(&stat.dev))
            {
                node.listing = Some(state.next);
                state.todo.push((state.next, join(path, &node.name)));
                state.next += 1;
            }
        }
        state.todo[from..].reverse();
    }

    fn work(&self) {
        let mut state = self.lock();
        loop {
            if state.stop {
                return;
            }
            let job = if state.ready_entries < AHEAD { state.todo.pop() } else { None };
            let Some((number, path)) = job else {
                state = self.wait(state);
                continue;
            };
            state.started.insert(number);
            drop(state);
            let mut listing = self.list(&path);
            state = self.lock();
            self.number(&mut state, &path, &mut listing);
            state.ready_entries += listing.as_ref().map_or(0, Vec::len);
            state.started.remove(&number);
            state.ready.insert(number, listing);
            self.changed.notify_all();
        }
    }

    /// The listing of a directory: ready, awaited, or made here and now.
    fn take(&self, number: u64, path: &[u8]) -> Listing {
        let mut state = self.lock();
        loop {
            if let Some(listing) = state.ready.remove(&number) {
                state.ready_entries -= listing.as_ref().map_or(0, Vec::len);
                self.changed.notify_all();
                return listing;
            }
            if state.started.contains(&number) {
                state = self.wait(state);
                continue;
            }
            if let Some(i) = state.todo.iter().rposition(|(n, _)| *n == number) {
                state.todo.remove(i);
            }
            drop(state);
            let mut listing = self.list(path);
            let mut state = self.lock();
            self.number(&mut state, path, &mut listing);
            self.changed.notify_all();
            return listing;
        }
    }
}

struct Frame {
    path: Vec<u8>,
    nodes: std::vec::IntoIter<Node>,
}

/// The walk; an iterator of steps.
pub struct Walk {
    shared: Arc<Shared>,
    workers: Vec<std::thread::JoinHandle<()>>,
    roots: std::vec::IntoIter<PathBuf>,
    stack: Vec<Frame>,
    /// A directory that was given out and whose content comes next.
    descend: Option<(u64, Vec<u8>)>,
}

impl Walk {
    /// Walks `roots`, which must be sorted by [`crate::model::paths::compare`] and not lie within each other.
    pub fn new(roots: Vec<PathBuf>, excludes: Excludes, one_file_system: bool, threads: usize) -> Self {
        let device = one_file_system.then(|| {
            roots.iter().filter_map(|r| statat(CWD, r, AtFlags::SYMLINK_NOFOLLOW).ok()).map(|s| s.st_dev).collect()
        });
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), excludes, device });
        let workers = (0..threads)
            .filter_map(|_| {
                let shared = shared.clone();
                std::thread::Builder::new().name("walk".into()).spawn(move || shared.work()).ok()
            })
            .collect();
        Walk { shared, workers, roots: roots.into_iter(), stack: Vec::new(), descend: None }
    }
}

impl Drop for Walk {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}

impl Iterator for Walk {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if let Some((number, path)) = self.descend.take() {
            match self.shared.take(number, &path) {
                Ok(nodes) => self.stack.push(Frame { path, nodes: nodes.into_iter() }),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Some(Step::Vanished(path)),
                Err(e) => return Some(Step::Failed(path, e)),
            }
        }
        while let Some(frame) = self.stack.last_mut() {
            let Some(node) = frame.nodes.next() else {
                self.stack.pop();
                continue;
            };
            let path = join(&frame.path, &node.name);
            return Some(match node.stat {
                Ok(stat) => {
                    self.descend = node.listing.map(|number| (number, path.clone()));
                    Step::Entry(path, stat)
                }
                Err(rustix::io::Errno::NOENT) => Step::Vanished(path),
                Err(e) => Step::Failed(path, e.into()),
            });
        }
        let root = self.roots.next()?;
        let path = root.as_os_str().as_bytes().to_vec();
        Some(match statat(CWD, &root, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(raw) => {
                let stat = Stat::from_raw(&raw);
                if stat.kind() == FileType::Directory {
                    let mut state = self.shared.lock();
                    let number = state.next;
                    state.next += 1;
                    drop(state);
                    self.descend = Some((number, path.clone()));
                }
                Step::Entry(path, stat)
            }
            Err(e) => Step::Failed(path, e.into()),
        })
    }
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(dir.len() + name.len() + 1);
    path.extend_from_slice(dir);
    if !dir.ends_with(b"/") {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// A path as a C string for the calls that want one.
pub fn c_path(path: &[u8]) -> std::io::Result<CString> {
    CString::new(path).map_err(|_| std::io::ErrorKind::InvalidInput.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::paths::compare;
    use std::fs;

    fn names(walk: Walk, root: &Path) -> Vec<String> {
        walk.map(|s| match s {
            Step::Entry(p, _) => String::from_utf8(p).unwrap().replace(root.to_str().unwrap(), "ROOT"),
            other => format!("{other:?}"),
        })
        .collect()
    }

    #[test]
    fn the_order_is_the_one_of_the_index_whatever_the_threads() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for d in ["a", "a/b", "a-b", "a/b/c", "x.skip"] {
            fs::create_dir_all(root.join(d)).unwrap();
        }
        for f in ["a/b/c/1", "a/z", "a-b/2", "x.skip/3", "b"] {
            fs::write(root.join(f), "x").unwrap();
        }
        let excludes = Excludes::new(&["*.skip".into()], &[]).unwrap();
        for threads in [0, 1, 3] {
            let walked = names(Walk::new(vec![root.to_owned()], excludes.clone(), false, threads), root);
            assert_eq!(
                walked,
                [
                    "ROOT",
                    "ROOT/a",
                    "ROOT/a/b",
                    "ROOT/a/b/c",
                    "ROOT/a/b/c/1",
                    "ROOT/a/z",
                    "ROOT/a-b",
                    "ROOT/a-b/2",
                    "ROOT/b"
                ]
            );
            let mut sorted = walked.clone();
            sorted.sort_by(|a, b| compare(a.as_bytes(), b.as_bytes()));
            assert_eq!(walked, sorted);
        }
    }

    #[test]
    fn a_missing_root_is_told() {
        let excludes = Excludes::new(&[], &[]).unwrap();
        let steps: Vec<Step> = Walk::new(vec!["/nowhere/at/all".into()], excludes, false, 1).collect();
        assert!(matches!(&steps[..], [Step::Failed(..)]));
    }
}
