//! The way back in: a tar stream becomes a tree below a directory.
//!
//! Every path is opened beneath the target without following links (`openat2`), so that no archive can write
//! outside of it. Directories get their owner, mode and times when everything in them is written. Holes are
//! restored as holes. At the end the file system is synced: what is reported as restored survives a power cut.

use super::members::{Member, Members};
use crate::error::{Error, Kind, Result};
use crate::repository::segment::Bytes;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, Timespec, Timestamps, UTIME_OMIT, XattrFlags};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

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

/// How to restore.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Keep the numeric owners (needs root).
    pub owners: bool,
    /// Take this many leading components off each path.
    pub strip: usize,
}

struct OpenDir {
    path: Vec<u8>,
    fd: OwnedFd,
    meta: Option<Meta>,
}

struct Meta {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: Timespec,
    xattrs: Vec<(CString, Vec<u8>)>,
}

struct Untar<'a> {
    root: OwnedFd,
    options: &'a Options,
    /// The directories from the root to where the last entry was.
    open: Vec<OpenDir>,
    restored: Restored,
    buffer: Vec<u8>,
}

fn bad(path: &[u8], what: &str, e: impl Into<std::io::Error>) -> Error {
    Error::new(Kind::Restore, what).at(Bytes(path.to_vec()).display()).because(e.into())
}

/// Unpacks a tar stream below `target`, which must exist.
///
/// # Errors
/// [`Kind::Restore`] with the path; a read error of the stream comes through as text.
pub fn untar(stream: &mut dyn Read, target: &Path, options: &Options) -> Result<Restored> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, target, flags, Mode::empty())
        .map_err(|e| bad(target.as_os_str().as_encoded_bytes(), "the target cannot be opened", e))?;
    let mut work =
        Untar { root, options, open: Vec::new(), restored: Restored::default(), buffer: vec![0; 256 * 1024] };
    let mut members = Members::new(stream);
    let broken = |e: std::io::Error| Error::new(Kind::Restore, "the archive cannot be read").because(e);
    while let Some(member) = members.next_member().map_err(broken)? {
        work.entry(&member, &mut members)?;
    }
    work.close_to(0)?;
    rustix::fs::syncfs(&work.root)
        .map_err(|e| bad(target.as_os_str().as_encoded_bytes(), "the target cannot be synced", e))?;
    Ok(work.restored)
}

impl Untar<'_> {
    fn entry(&mut self, member: &Member, content: &mut dyn Read) -> Result<()> {
        let Some(path) = clean(&member.path, self.options.strip)? else { return Ok(()) };
        let xattrs = member.xattrs.iter().map(|(name, value)| Ok((CString::new(&name[..])?, value.clone())));
        let xattrs = xattrs
            .collect::<std::result::Result<_, std::ffi::NulError>>()
            .map_err(|e| bad(&path, "the name of an attribute cannot be used", e))?;
        let meta = Meta {
            mode: member.mode,
            uid: member.uid,
            gid: member.gid,
            mtime: Timespec { tv_sec: member.mtime.0, tv_nsec: member.mtime.1 },
            xattrs,
        };
        let (kind, (major, minor), link) = (member.kind, member.device, member.link.clone());
        if kind.is_dir() {
            return self.dir(&path, meta);
        }
        let (parent, name) = split(&path);
        self.close_outside(parent)?;
        self.open_dirs(parent)?;
        let dir = self.current()?;
        // A leftover of an interrupted restore; never a directory with something in it.
        match rustix::fs::unlinkat(&dir, name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(e) => return Err(bad(&path, "what is there cannot be replaced", e)),
        }
        match kind {
            tar::EntryType::Symlink => {
                let target =
                    link.ok_or_else(|| bad(&path, "the link has no target", std::io::ErrorKind::InvalidData))?;
                rustix::fs::symlinkat(&target[..], &dir, name).map_err(|e| bad(&path, "the link cannot be made", e))?;
                self.restored.links += 1;
                self.set_by_name(&dir, name, &path, &meta)
            }
            tar::EntryType::Link => {
                let target = clean(&link.unwrap_or_default(), self.options.strip)?
                    .ok_or_else(|| bad(&path, "the hard link has no target", std::io::ErrorKind::InvalidData))?;
                let (target_dir, target_name) = split(&target);
                let from = self.beneath(target_dir, &path)?;
                rustix::fs::linkat(&from, target_name, &dir, name, AtFlags::empty())
                    .map_err(|e| bad(&path, "the hard link cannot be made", e))?;
                self.restored.links += 1;
                Ok(())
            }
            tar::EntryType::Char | tar::EntryType::Block | tar::EntryType::Fifo => {
                let kind = match kind {
                    tar::EntryType::Char => rustix::fs::FileType::CharacterDevice,
                    tar::EntryType::Block => rustix::fs::FileType::BlockDevice,
                    _ => rustix::fs::FileType::Fifo,
                };
                rustix::fs::mknodat(&dir, name, kind, Mode::from_raw_mode(0o600), rustix::fs::makedev(major, minor))
                    .map_err(|e| bad(&path, "the device cannot be made", e))?;
                self.restored.other += 1;
                self.set_by_name(&dir, name, &path, &meta)
            }
            tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = rustix::fs::openat(&dir, name, flags, Mode::from_raw_mode(0o600))
                    .map_err(|e| bad(&path, "the file cannot be made", e))?;
                let mut file = File::from(file);
                let written = copy(content, &mut file, member, &mut self.buffer)
                    .map_err(|e| bad(&path, "the file cannot be written", e))?;
                self.restored.files += 1;
                self.restored.bytes += written;
                self.set_by_fd(&file, &path, &meta)
            }
            other => Err(Error::new(Kind::Restore, format!("the archive holds an entry of unknown type {other:?}"))
                .at(Bytes(path).display())),
        }
    }

    fn dir(&mut self, path: &[u8], meta: Meta) -> Result<()> {
        self.close_outside(path)?;
        let (parent, name) = split(path);
        if path == b"." || path.is_empty() {
            self.restored.dirs += 1;
            return Ok(());
        }
        self.open_dirs(parent)?;
        let fd = self.make_dir(name, path)?;
        self.restored.dirs += 1;
        self.open.push(OpenDir { path: path.to_vec(), fd, meta: Some(meta) });
        Ok(())
    }

    /// Makes (or finds) a directory in the current one and opens it.
    fn make_dir(&self, name: &[u8], path: &[u8]) -> Result<OwnedFd> {
        let here = self.current()?;
        match rustix::fs::mkdirat(&here, name, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(e) => return Err(bad(path, "the directory cannot be made", e)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&here, name, flags, Mode::empty())
            .map_err(|e| bad(path, "the directory cannot be opened", e))
    }

    fn current(&self) -> Result<OwnedFd> {
        let fd = self.open.last().map_or(self.root.as_fd(), |d| d.fd.as_fd());
        rustix::io::fcntl_dupfd_cloexec(fd, 0).map_err(|e| bad(b".", "a directory cannot be kept open", e))
    }

    /// Opens a directory anywhere below the root, never through a link.
    fn beneath(&self, dir: &[u8], path: &[u8]) -> Result<OwnedFd> {
        let dir = if dir.is_empty() { b"." } else { dir };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat2(&self.root, dir, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
            .map_err(|e| bad(path, "the target of the hard link is not in the restored tree", e))
    }

    /// Goes down to `dir`, making what the archive has no entry for (the way to a configured path).
    fn open_dirs(&mut self, dir: &[u8]) -> Result<()> {
        let from = self.open.last().map_or(0, |d| d.path.len());
        let rest = dir.get(from..).unwrap_or_default().to_vec();
        let mut path = dir[..from.min(dir.len())].to_vec();
        for component in rest.split(|b| *b == b'/').filter(|c| !c.is_empty()) {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(component);
            let fd = self.make_dir(component, &path)?;
            // Left with mode 0755: nothing is known about it.
            rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o755))
                .map_err(|e| bad(&path, "the directory's mode cannot be set", e))?;
            self.open.push(OpenDir { path: path.clone(), fd, meta: None });
        }
        Ok(())
    }

    /// Finishes the directories that `path` does not lie in.
    fn close_outside(&mut self, path: &[u8]) -> Result<()> {
        let inside = self
            .open
            .iter()
            .take_while(|d| path.strip_prefix(&d.path[..]).is_some_and(|rest| rest.is_empty() || rest[0] == b'/'))
            .count();
        self.close_to(inside)
    }

    fn close_to(&mut self, depth: usize) -> Result<()> {
        while self.open.len() > depth {
            if let Some(dir) = self.open.pop()
                && let Some(meta) = &dir.meta
            {
                self.set_by_fd(&File::from(dir.fd), &dir.path, meta)?;
            }
        }
        Ok(())
    }

    fn left_out(&mut self, what: &str) {
        *self.restored.left_out.entry(what.to_owned()).or_default() += 1;
    }

    fn set_by_fd(&mut self, file: &File, path: &[u8], meta: &Meta) -> Result<()> {
        use rustix::fs::{Gid, Uid};
        if self.options.owners {
            rustix::fs::fchown(file, Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)))
                .map_err(|e| bad(path, "the owner cannot be set", e))?;
        }
        // After the owner, since chown takes set-user-id bits and capabilities away.
        rustix::fs::fchmod(file, Mode::from_raw_mode(meta.mode)).map_err(|e| bad(path, "the mode cannot be set", e))?;
        for (name, value) in &meta.xattrs {
            let result = rustix::fs::fsetxattr(file, name.as_c_str(), value, XattrFlags::empty());
            self.xattr_result(result, path, name)?;
        }
        rustix::fs::futimens(file, &times(meta)).map_err(|e| bad(path, "the times cannot be set", e))
    }

    fn set_by_name(&mut self, dir: &OwnedFd, name: &[u8], path: &[u8], meta: &Meta) -> Result<()> {
        use rustix::fs::{Gid, Uid};
        if self.options.owners {
            rustix::fs::chownat(
                dir,
                name,
                Some(Uid::from_raw(meta.uid)),
                Some(Gid::from_raw(meta.gid)),
                AtFlags::SYMLINK_NOFOLLOW,
            )
            .map_err(|e| bad(path, "the owner cannot be set", e))?;
        }
        let is_link = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|s| rustix::fs::FileType::from_raw_mode(s.st_mode) == rustix::fs::FileType::Symlink);
        if !is_link {
            rustix::fs::chmodat(dir, name, Mode::from_raw_mode(meta.mode), AtFlags::empty())
                .map_err(|e| bad(path, "the mode cannot be set", e))?;
        }
        if !meta.xattrs.is_empty() {
            self.left_out("extended attributes of links and devices");
        }
        rustix::fs::utimensat(dir, name, &times(meta), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| bad(path, "the times cannot be set", e))
    }

    fn xattr_result(&mut self, result: rustix::io::Result<()>, path: &[u8], name: &std::ffi::CStr) -> Result<()> {
        use rustix::io::Errno;
        match result {
            Ok(()) => Ok(()),
            // Without root, or on a file system without them. Never silent: the report counts them.
            Err(Errno::NOTSUP | Errno::PERM) => {
                self.left_out(&format!("extended attribute {}", name.to_string_lossy()));
                Ok(())
            }
            Err(e) => Err(bad(path, "an extended attribute cannot be set", e)),
        }
    }
}

fn times(meta: &Meta) -> Timestamps {
    Timestamps { last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT as _ }, last_modification: meta.mtime }
}

/// Copies content to where it belongs; what lies between is left a hole. The size of the file.
fn copy(from: &mut dyn Read, to: &mut File, member: &Member, buffer: &mut [u8]) -> std::io::Result<u64> {
    let whole = [(0, member.stored)];
    let (pieces, size) = member.sparse.as_ref().map_or((&whole[..], member.stored), |map| (&map.pieces[..], map.size));
    for (offset, length) in pieces {
        if member.sparse.is_some() {
            to.seek(SeekFrom::Start(*offset))?;
        }
        let mut left = *length;
        while left > 0 {
            let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let n = match from.read(&mut buffer[..want]) {
                Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            to.write_all(&buffer[..n])?;
            left -= n as u64;
        }
    }
    if member.sparse.is_some() {
        to.set_len(size)?;
    }
    Ok(size)
}

/// A relative path without `.`, empty or `..` components; `None` when nothing is left after stripping.
fn clean(raw: &[u8], strip: usize) -> Result<Option<Vec<u8>>> {
    let parts: Vec<&[u8]> = raw.split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".").collect();
    if raw.starts_with(b"/") || raw.contains(&0) || parts.contains(&&b".."[..]) {
        return Err(Error::new(Kind::Restore, "the archive holds a path that would leave the target")
            .at(Bytes(raw.to_vec()).display()));
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
}
