//! A tar that somebody else made, written anew as ours: with an index, `.` as root, and equal bytes for equal content
//! whatever version of the other program made it. Each large file is cut from its own beginning, so that it is stored
//! once, wherever it turns up.

use super::exclude::Excludes;
use super::header::{self, END};
use super::members::{Member, Members};
use super::walk::Stat;
use super::whole::Whole;
use crate::error::{Error, Kind, Result};
use crate::repository::segment::{Bytes, FileEntry, FileType};
use crate::repository::writer::{ArtifactWriter, BackupWriter, PendingArtifact};
use crate::telemetry::monitor::{Event, Monitor};
use std::io::Read;
use std::sync::Arc;

/// From this size on a file is cut into chunks.
const LARGE: u64 = 1024 * 1024;

/// What is to be known besides the stream.
pub struct Repack {
    /// What the stream is, for messages: `the daemon's archive of volume x`.
    pub what: String,
    /// What is left out; paths begin with a slash at the root of the archive.
    pub excludes: Excludes,
    /// Sees every path (with that slash) and its stat; an error ends the work.
    pub look: fn(&[u8], &Stat) -> Result<()>,
    /// Who is told about progress.
    pub monitor: Arc<dyn Monitor>,
}

/// What went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub dirs: u64,
    /// Symbolic and hard links.
    pub links: u64,
    /// Devices and pipes.
    pub other: u64,
    /// Bytes of content.
    pub bytes: u64,
}

/// Writes a stream into an artifact. Blocks.
///
/// # Errors
/// [`Kind::Source`] when the stream is no whole tar.
pub fn repack(
    stream: impl Read,
    artifact: ArtifactWriter,
    writer: &BackupWriter,
    how: &Repack,
) -> Result<(PendingArtifact, Counted)> {
    let mut work = Work { artifact, writer, how, counted: Counted::default() };
    let mut members = Members::new(Whole::new(stream));
    while let Some(member) = members.next_member().map_err(|e| how.broken(e))? {
        work.member(&member, &mut members)?;
    }
    // The daemon cuts its archive short when it fails half way.
    if !members.into_inner().ends().map_err(|e| how.broken(e))? {
        return Err(Error::new(Kind::Source, format!("{} stops before its end", how.what))
            .hint("Look into the log of the program that makes it; it could not read something."));
    }
    work.artifact.trailer(&END)?;
    Ok((work.artifact.finish()?, work.counted))
}

impl Repack {
    fn broken(&self, e: std::io::Error) -> Error {
        Error::new(Kind::Source, format!("{} cannot be read", self.what)).because(e)
    }
}

struct Work<'a> {
    artifact: ArtifactWriter,
    writer: &'a BackupWriter,
    how: &'a Repack,
    counted: Counted,
}

impl Work<'_> {
    fn member(&mut self, member: &Member, content: &mut dyn Read) -> Result<()> {
        let name = plain(&member.path).ok_or_else(|| {
            Error::new(Kind::Source, format!("{} holds a path that leads out of it", self.how.what))
                .at(Bytes(member.path.clone()).display())
        })?;
        let in_archive = [b"/", &name[..]].concat();
        if name != b"." && self.is_excluded(&name) {
            return Ok(());
        }
        let kind = kind_of(member).ok_or_else(|| {
            Error::new(Kind::Source, format!("{} holds an entry of unknown type {:?}", self.how.what, member.kind))
                .at(Bytes(name.clone()).display())
        })?;
        let stat = stat_of(member, kind);
        (self.how.look)(&in_archive, &stat)?;
        let link = match kind {
            FileType::Hardlink => Some(plain(member.link.as_deref().unwrap_or_default()).unwrap_or_default()),
            _ => member.link.clone(),
        };
        let size = if kind == FileType::File { member.stored } else { 0 };
        let header = header::encode(&header::Member {
            path: &name,
            kind,
            stat: &stat,
            link: link.as_deref(),
            size,
            xattrs: &member.xattrs,
            sparse: None,
        })
        .map_err(|e| self.how.broken(e))?;
        let entry = FileEntry {
            path: Bytes(name),
            kind,
            size,
            mtime: stat.mtime,
            // Without change time and inode nothing can be taken over unread.
            ctime: None,
            inode: 0,
            mode: stat.mode & 0o7777,
            uid: stat.uid,
            gid: stat.gid,
            link: link.map(Bytes),
            header: header.len() as u32,
            blob: None,
            read_day: 0,
        };
        self.count(kind, size);
        if size >= LARGE {
            return self.artifact.large(entry, &header, size, content);
        }
        let mut bytes = vec![0; size as usize];
        content.read_exact(&mut bytes).map_err(|e| self.how.broken(e))?;
        self.writer.count_read(size);
        if bytes.is_empty() {
            self.artifact.member(entry, &header)
        } else {
            self.artifact.small(entry, &header, &bytes)
        }
    }

    /// Whether it or a directory above it is left out.
    fn is_excluded(&self, name: &[u8]) -> bool {
        let ends = name.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(i, _)| i).chain([name.len()]);
        ends.into_iter().any(|end| {
            let path = [b"/", &name[..end]].concat();
            let last = path.iter().rposition(|b| *b == b'/').unwrap_or(0) + 1;
            self.how.excludes.matches(&path, &path[last..])
        })
    }

    fn count(&mut self, kind: FileType, size: u64) {
        match kind {
            FileType::File => self.counted.files += 1,
            FileType::Dir => self.counted.dirs += 1,
            FileType::Symlink | FileType::Hardlink => self.counted.links += 1,
            _ => self.counted.other += 1,
        }
        self.counted.bytes += size;
        self.how.monitor.event(Event::Read(size));
    }
}

/// What a member is; nothing for a type that nobody knows.
pub fn kind_of(member: &Member) -> Option<FileType> {
    use tar::EntryType as T;
    Some(match member.kind {
        T::Directory => FileType::Dir,
        T::Symlink => FileType::Symlink,
        T::Link => FileType::Hardlink,
        T::Char => FileType::Char,
        T::Block => FileType::Block,
        T::Fifo => FileType::Fifo,
        T::Regular | T::Continuous => FileType::File,
        _ => return None,
    })
}

/// The stat of a member, as far as a tar has it.
pub fn stat_of(member: &Member, kind: FileType) -> Stat {
    let raw = match kind {
        FileType::File | FileType::Hardlink => rustix::fs::FileType::RegularFile,
        FileType::Dir => rustix::fs::FileType::Directory,
        FileType::Symlink => rustix::fs::FileType::Symlink,
        FileType::Char => rustix::fs::FileType::CharacterDevice,
        FileType::Block => rustix::fs::FileType::BlockDevice,
        FileType::Fifo => rustix::fs::FileType::Fifo,
    };
    Stat {
        mode: raw.as_raw_mode() | (member.mode & 0o7777),
        uid: member.uid,
        gid: member.gid,
        size: member.stored,
        blocks: 0,
        mtime: member.mtime.0.saturating_mul(1_000_000_000).saturating_add(member.mtime.1),
        ctime: 0,
        dev: 0,
        inode: 0,
        links: 1,
        rdev: rustix::fs::makedev(member.device.0, member.device.1),
    }
}

/// `./a/b/` as `a/b`, and the root as `.`; `None` for what leads out.
pub fn plain(path: &[u8]) -> Option<Vec<u8>> {
    let parts: Vec<&[u8]> = path.split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".").collect();
    if parts.contains(&&b".."[..]) {
        return None;
    }
    Some(if parts.is_empty() { b".".to_vec() } else { parts.join(&b'/') })
}
