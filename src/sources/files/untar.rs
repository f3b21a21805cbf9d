//! The way back in: a tar stream becomes a tree below a directory.
//!
//! Every directory is opened in the one above it without following links, so that no archive can write outside of the
//! target. Files are written by a few threads ([`super::lanes`]), since that is mostly the kernel's work. Directories get
//! their owner, mode and times when everything in them is written. Holes are restored as holes. The file system is synced
//! behind them ([`super::behind`]) and at the end: what is reported as restored survives a power cut.

use super::behind::Behind;
use super::lanes::{Job, Lanes, PIECE};
use super::large::{self, LARGE};
use super::members::{Member, Members};
use super::place::{Meta, OpenDir, bad};
use crate::error::{Error, Kind, Result};
use crate::io::Supply;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

/// Files up to this size are handed over whole, larger ones in pieces.
const SMALL: u64 = 256 * 1024;

/// What a restore wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub dirs: u64,
    /// Symbolic and hard links.
    pub links: u64,
    /// Devices and pipes.
    pub other: u64,
    /// Bytes of file content.
    pub bytes: u64,
    /// What could not be set, by reason: only without root, or on a file system that cannot hold it.
    pub left_out: BTreeMap<String, u64>,
}

/// Numbers of the archive that mean somebody who has another number here. Attributes that hold numbers (ACLs) are left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// Of users.
    pub users: BTreeMap<u32, u32>,
    /// Of groups.
    pub groups: BTreeMap<u32, u32>,
}

/// How to restore.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Keep the numeric owners (needs root).
    pub owners: bool,
    /// Take this many leading components off each path.
    pub strip: usize,
    /// Other numbers for owners of the archive, by user and by group.
    pub ids: Arc<Ids>,
    /// Give the target itself the owner, mode, time and attributes of the archive's root.
    pub root: bool,
}

struct Untar<'a> {
    options: &'a Options,
    lanes: Lanes,
    behind: Behind,
    /// Large files are written past the page cache.
    past: bool,
    /// The directories from the target to where the last entry was; the target itself comes first.
    open: Vec<Arc<OpenDir>>,
    restored: Restored,
    /// What the target itself gets, when everything in it is written.
    root: Option<Meta>,
}

/// Unpacks a tar stream below `target`, which must exist.
///
/// # Errors
/// [`Kind::Restore`] with the path; a read error of the stream comes through as text.
pub fn untar(stream: &mut dyn Supply, target: &Path, options: &Options) -> Result<Restored> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let name = target.as_os_str().as_encoded_bytes();
    let root = rustix::fs::openat(CWD, target, flags, Mode::empty())
        .map_err(|e| bad(name, "the target cannot be opened", e))?;
    let lanes = Lanes::new(options.owners);
    let again = root.try_clone().map_err(|e| bad(name, "the target cannot be opened", e))?;
    let behind = Behind::new(again, target, lanes.shared.clone());
    let past = large::suits(&root);
    let open = vec![OpenDir::new(Vec::new(), root, None, &lanes)];
    let mut work = Untar { options, lanes, behind, past, open, restored: Restored::default(), root: None };
    let mut members = Members::new(stream);
    let broken = |e: std::io::Error| Error::new(Kind::Restore, "the archive cannot be read").because(e);
    while let Some(member) = members.next_member().map_err(broken)? {
        work.entry(&member, &mut members)?;
    }
    work.open.truncate(1);
    work.lanes.settle()?;
    if let Some(meta) = &work.root {
        work.lanes.shared.set_by_fd(work.open[0].fd.as_fd(), name, meta)?;
    }
    work.behind.end();
    work.lanes.shared.failed()?;
    rustix::fs::syncfs(&work.open[0].fd).map_err(|e| bad(name, "the target cannot be synced", e))?;
    work.restored.left_out = work.lanes.shared.left_out();
    Ok(work.restored)
}

impl Untar<'_> {
    fn entry(&mut self, member: &Member, content: &mut dyn Supply) -> Result<()> {
        let path = clean(&member.path, self.options.strip)?.unwrap_or_default();
        let xattrs = member.xattrs.iter().map(|(name, value)| Ok((CString::new(&name[..])?, value.clone())));
        let xattrs = xattrs
            .collect::<std::result::Result<_, std::ffi::NulError>>()
            .map_err(|e| bad(&path, "the name of an attribute cannot be used", e))?;
        let meta = Meta::new(member, xattrs, &self.options.ids);
        if path.is_empty() {
            if member.kind.is_dir() {
                self.restored.dirs += 1;
                self.root = self.options.root.then_some(meta);
            }
            return Ok(());
        }
        if member.kind.is_dir() {
            return self.dir(&path, meta);
        }
        let (parent, name) = split(&path);
        self.close_outside(parent);
        self.open_dirs(parent)?;
        let dir = self.current();
        match member.kind {
            tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
                self.file(&dir, &path, name, member, meta, content)
            }
            tar::EntryType::Link => self.hard_link(&dir, &path, name, member),
            tar::EntryType::Symlink => {
                let target = member
                    .link
                    .as_ref()
                    .ok_or_else(|| bad(&path, "the link has no target", std::io::ErrorKind::InvalidData))?;
                replacing(&dir, name, || rustix::fs::symlinkat(&target[..], &dir.fd, name))
                    .map_err(|e| bad(&path, "the link cannot be made", e))?;
                self.restored.links += 1;
                self.lanes.shared.set_by_name(dir.fd.as_fd(), name, &path, &meta)
            }
            tar::EntryType::Char | tar::EntryType::Block | tar::EntryType::Fifo => {
                let kind = match member.kind {
                    tar::EntryType::Char => rustix::fs::FileType::CharacterDevice,
                    tar::EntryType::Block => rustix::fs::FileType::BlockDevice,
                    _ => rustix::fs::FileType::Fifo,
                };
                let device = rustix::fs::makedev(member.device.0, member.device.1);
                replacing(&dir, name, || rustix::fs::mknodat(&dir.fd, name, kind, Mode::from_raw_mode(0o600), device))
                    .map_err(|e| bad(&path, "the device cannot be made", e))?;
                self.restored.other += 1;
                self.lanes.shared.set_by_name(dir.fd.as_fd(), name, &path, &meta)
            }
            other => Err(Error::new(Kind::Restore, format!("the archive holds an entry of unknown type {other:?}"))
                .at(String::from_utf8_lossy(&path))),
        }
    }

    fn file(
        &mut self,
        dir: &Arc<OpenDir>,
        path: &[u8],
        name: &[u8],
        member: &Member,
        meta: Meta,
        content: &mut dyn Supply,
    ) -> Result<()> {
        self.restored.files += 1;
        if member.sparse.is_none() && member.stored <= SMALL {
            let mut bytes = Vec::with_capacity(member.stored as usize);
            take(content, member.stored as usize, &mut bytes)
                .map_err(|e| bad(path, "the archive cannot be read", e))?;
            self.restored.bytes += member.stored;
            self.behind.handed_over(member.stored);
            let job = Job::Small { dir: dir.clone(), name: name.to_vec(), content: bytes, meta };
            return self.lanes.give(dir.lane, job);
        }
        let past = self.past && member.sparse.is_none() && member.stored >= LARGE;
        self.lanes.give(dir.lane, Job::Begin { dir: dir.clone(), name: name.to_vec(), past })?;
        let whole = [(0, member.stored)];
        let (pieces, size) =
            member.sparse.as_ref().map_or((&whole[..], member.stored), |map| (&map.pieces[..], map.size));
        // What lies between stays a hole.
        for (start, length) in pieces {
            let (mut offset, end) = (*start, start + length);
            while offset < end {
                let most = usize::try_from(end - offset).map_or(PIECE, |left| left.min(PIECE));
                let bytes = content.take_bytes(most).map_err(|e| bad(path, "the archive cannot be read", e))?;
                if bytes.is_empty() {
                    return Err(bad(path, "the archive cannot be read", std::io::ErrorKind::UnexpectedEof));
                }
                let n = bytes.len() as u64;
                self.lanes.give(dir.lane, Job::Piece { offset, content: bytes })?;
                self.behind.handed_over(n);
                offset += n;
            }
        }
        self.restored.bytes += size;
        self.lanes.give(dir.lane, Job::End { size, meta })
    }

    fn hard_link(&mut self, dir: &Arc<OpenDir>, path: &[u8], name: &[u8], member: &Member) -> Result<()> {
        let target = clean(member.link.as_deref().unwrap_or_default(), self.options.strip)?
            .ok_or_else(|| bad(path, "the hard link has no target", std::io::ErrorKind::InvalidData))?;
        // The first name may still be on its way to a thread.
        self.lanes.settle()?;
        let (target_dir, target_name) = split(&target);
        let from = self.beneath(target_dir, path)?;
        replacing(dir, name, || rustix::fs::linkat(&from, target_name, &dir.fd, name, AtFlags::empty()))
            .map_err(|e| bad(path, "the hard link cannot be made", e))?;
        self.restored.links += 1;
        Ok(())
    }

    fn dir(&mut self, path: &[u8], meta: Meta) -> Result<()> {
        self.close_outside(path);
        let (parent, name) = split(path);
        self.open_dirs(parent)?;
        let (fd, _) = self.make_dir(name, path)?;
        self.restored.dirs += 1;
        self.open.push(OpenDir::new(path.to_vec(), fd, Some(meta), &self.lanes));
        Ok(())
    }

    /// Makes (or finds) a directory in the current one and opens it. Whether it was made.
    fn make_dir(&self, name: &[u8], path: &[u8]) -> Result<(OwnedFd, bool)> {
        self.lanes.before_directory(self.open.len())?;
        let here = self.current();
        let made = match rustix::fs::mkdirat(&here.fd, name, Mode::from_raw_mode(0o700)) {
            Ok(()) => true,
            Err(rustix::io::Errno::EXIST) => false,
            Err(e) => return Err(bad(path, "the directory cannot be made", e)),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&here.fd, name, flags, Mode::empty())
            .map_err(|e| bad(path, "the directory cannot be opened", e))?;
        Ok((fd, made))
    }

    /// Where the next entry goes. The target itself is never closed.
    fn current(&self) -> Arc<OpenDir> {
        self.open[self.open.len() - 1].clone()
    }

    /// Opens a directory anywhere below the target, never through a link.
    fn beneath(&self, dir: &[u8], path: &[u8]) -> Result<OwnedFd> {
        let dir = if dir.is_empty() { b"." } else { dir };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat2(
            &self.open[0].fd,
            dir,
            flags,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
        )
        .map_err(|e| bad(path, "the target of the hard link is not in the restored tree", e))
    }

    /// Goes down to `dir`, making what the archive has no entry for (the way to a configured path).
    fn open_dirs(&mut self, dir: &[u8]) -> Result<()> {
        let from = self.current().path.len();
        let rest = dir.get(from..).unwrap_or_default().to_vec();
        let mut path = dir[..from.min(dir.len())].to_vec();
        for component in rest.split(|b| *b == b'/').filter(|c| !c.is_empty()) {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(component);
            let (fd, made) = self.make_dir(component, &path)?;
            // Left with mode 0755: nothing is known about it. One that was there has what the archive said of it.
            if made {
                rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755))
                    .map_err(|e| bad(&path, "the directory's mode cannot be set", e))?;
            }
            self.open.push(OpenDir::new(path.clone(), fd, None, &self.lanes));
        }
        Ok(())
    }

    /// Lets go of the directories that `path` does not lie in.
    fn close_outside(&mut self, path: &[u8]) {
        let inside = |d: &OpenDir| {
            d.path.is_empty() || path.strip_prefix(&d.path[..]).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        };
        while self.open.len() > 1 && !self.open.last().is_some_and(|d| inside(d)) {
            self.open.pop();
        }
    }
}

/// Appends exactly so many bytes, without filling the room for them with zeros first.
fn take(from: &mut dyn Supply, bytes: usize, into: &mut Vec<u8>) -> std::io::Result<()> {
    let mut left = bytes;
    while left > 0 {
        let piece = from.fill_buf()?;
        if piece.is_empty() {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let n = piece.len().min(left);
        into.extend_from_slice(&piece[..n]);
        from.consume(n);
        left -= n;
    }
    Ok(())
}

/// Makes a new file for writing.
pub(super) fn create(dir: &OpenDir, name: &[u8]) -> rustix::io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    replacing(dir, name, || rustix::fs::openat(&dir.fd, name, flags, Mode::from_raw_mode(0o600))).map(File::from)
}

/// Makes something under a name; a leftover of an interrupted restore goes first, but never a directory.
fn replacing<T>(dir: &OpenDir, name: &[u8], make: impl Fn() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    match make() {
        Err(rustix::io::Errno::EXIST) => {
            rustix::fs::unlinkat(&dir.fd, name, AtFlags::empty())?;
            make()
        }
        other => other,
    }
}

/// A relative path without `.`, empty or `..` components; `None` when nothing is left after stripping.
fn clean(raw: &[u8], strip: usize) -> Result<Option<Vec<u8>>> {
    let parts: Vec<&[u8]> = raw.split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".").collect();
    if raw.starts_with(b"/") || raw.contains(&0) || parts.contains(&&b".."[..]) {
        return Err(Error::new(Kind::Restore, "the archive holds a path that would leave the target")
            .at(String::from_utf8_lossy(raw)));
    }
    let rest = parts.get(strip..).unwrap_or_default();
    Ok((!rest.is_empty()).then(|| rest.join(&b'/')))
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(i) => (&path[..i], &path[i + 1..]),
        None => (&[], path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_leave_the_target_are_refused() {
        for raw in [&b"../x"[..], b"/etc/passwd", b"a/../../b", b"a\0b"] {
            assert!(clean(raw, 0).is_err());
        }
        assert_eq!(clean(b"./a//b/", 0).unwrap().unwrap(), b"a/b");
        assert_eq!(clean(b"a/b/c", 2).unwrap().unwrap(), b"c");
        assert_eq!(clean(b"a/b", 2).unwrap(), None);
    }

    #[test]
    fn an_archive_cannot_write_through_its_own_link() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        let target = dir.path().join("target");
        std::fs::create_dir(&outside).unwrap();
        std::fs::create_dir(&target).unwrap();
        let mut builder = tar::Builder::new(Vec::new());
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        link.set_mode(0o777);
        link.set_uid(0);
        link.set_gid(0);
        link.set_mtime(0);
        builder.append_link(&mut link, "way", &outside).unwrap();
        let mut file = tar::Header::new_gnu();
        file.set_size(1);
        file.set_mode(0o600);
        file.set_uid(0);
        file.set_gid(0);
        file.set_mtime(0);
        builder.append_data(&mut file, "way/out", &b"x"[..]).unwrap();
        let bytes = builder.into_inner().unwrap();
        assert!(untar(&mut &bytes[..], &target, &Options::default()).is_err());
        assert!(std::fs::read_dir(&outside).unwrap().next().is_none());
    }

    #[test]
    fn of_what_is_restored_small_files_alone_stay_in_the_page_cache() {
        let target = tempfile::tempdir_in("/var/tmp").unwrap();
        let mut builder = tar::Builder::new(Vec::new());
        let content = vec![7; 3 * LARGE as usize + 5];
        for (name, length) in [("small", 100_000), ("large", content.len())] {
            let mut file = tar::Header::new_gnu();
            file.set_size(length as u64);
            file.set_mode(0o600);
            file.set_uid(0);
            file.set_gid(0);
            file.set_mtime(0);
            builder.append_data(&mut file, name, &content[..length]).unwrap();
        }
        let bytes = builder.into_inner().unwrap();
        untar(&mut &bytes[..], target.path(), &Options::default()).unwrap();
        // Answers only what is in memory.
        let cached = |name: &str| {
            let file = File::open(target.path().join(name)).unwrap();
            let (mut bytes, flags) = ([0; 4096], rustix::io::ReadWriteFlags::NOWAIT);
            rustix::io::preadv2(file, &mut [std::io::IoSliceMut::new(&mut bytes)], 0, flags).is_ok()
        };
        let suitable = large::suits(File::open(target.path()).unwrap());
        assert_eq!((cached("small"), cached("large")), (true, !suitable));
        assert!(std::fs::read(target.path().join("large")).unwrap() == content);
    }

    #[test]
    fn of_two_versions_of_a_file_the_later_one_stays_wherever_the_archive_was_meanwhile() {
        let target = tempfile::tempdir().unwrap();
        let mut builder = tar::Builder::new(Vec::new());
        for round in 0..5 {
            for dir in 0..40 {
                let content = format!("{dir} in round {round}");
                let mut file = tar::Header::new_gnu();
                file.set_size(content.len() as u64);
                file.set_mode(0o600);
                file.set_uid(0);
                file.set_gid(0);
                file.set_mtime(0);
                builder.append_data(&mut file, format!("d{dir}/f"), content.as_bytes()).unwrap();
            }
        }
        let bytes = builder.into_inner().unwrap();
        untar(&mut &bytes[..], target.path(), &Options::default()).unwrap();
        for dir in 0..40 {
            let found = std::fs::read_to_string(target.path().join(format!("d{dir}/f"))).unwrap();
            assert_eq!(found, format!("{dir} in round 4"));
        }
    }
}
