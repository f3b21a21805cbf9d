//! The way out of a tree: one merge of the walk with the index of the backup before.
//!
//! A file is not read again when its type, size, owner, mode, times and inode are what they were, its link role is
//! the same, and its packs may be named again. What `stat` cannot see is covered by three rules: a file whose
//! change time lies within two seconds of its read (or in the future) is read again next time, since a write in the
//! same tick leaves the same times; every file is read again after a while; hard links are resolved anew each run,
//! since the change time of one name says nothing about the path of another.

use super::cursor::Cursor;
use super::exclude::Excludes;
use super::header::{self, END, Member};
use super::report::Report;
use super::sparse::{DataMap, DataReader};
use super::telling::Telling;
use super::walk::{Stat, Step, Walk};
use super::{FilesSource, TREE, xattrs};
use crate::error::{Error, Kind, Result};
use crate::model::Name;
use crate::model::paths::compare;
use crate::repository::segment::{Bytes, Entry, FileEntry, FileType};
use crate::repository::writer::{ArtifactWriter, BackupWriter, BaseSegment};
use crate::sources::Delivered;
use crate::telemetry::monitor::{Event, Monitor};
use rustix::fs::{CWD, FileType as Raw, Mode, OFlags, openat};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// From this size on a file is cut into chunks, and its content starts a cut of its own.
const LARGE: u64 = 1024 * 1024;
/// Times closer than this to now are not trusted.
const TICK: i64 = 2_000_000_000;
/// How often a file that changes under the reader is tried.
const TRIES: usize = 3;
/// Threads that read directories ahead.
const WALKERS: usize = 2;
/// Progress is told in portions of this size.
const PROGRESS: u64 = 1 << 20;

/// How a tree is seen: what a source of another kind that reads one may want to differ.
pub struct View<'a> {
    /// Name of the artifact.
    pub artifact: &'a str,
    /// The directory that is `.` in the archive; `None` keeps full paths.
    pub root: Option<&'a Path>,
    /// Sees every path and its stat before it is read; an error ends the reading.
    pub look: &'a dyn Fn(&[u8], &Stat) -> Result<()>,
}

impl View<'_> {
    /// The name in the archive.
    fn name<'p>(&self, path: &'p [u8]) -> &'p [u8] {
        let below = self.root.and_then(|root| path.strip_prefix(root.as_os_str().as_bytes())).unwrap_or(path);
        let name = below.strip_prefix(b"/").unwrap_or(below);
        if name.is_empty() { b"." } else { name }
    }
}

/// Reads the source into an artifact.
pub fn read(source: &FilesSource, name: &Name, writer: &BackupWriter, monitor: &dyn Monitor) -> Result<Delivered> {
    read_as(source, name, writer, monitor, &View { artifact: TREE, root: None, look: &|_, _| Ok(()) })
}

/// Reads a tree as it is to be seen.
pub fn read_as(
    source: &FilesSource,
    name: &Name,
    writer: &BackupWriter,
    monitor: &dyn Monitor,
    view: &View<'_>,
) -> Result<Delivered> {
    let roots = roots(&source.paths)?;
    let excludes = Excludes::new(&source.exclude, &source.never)?;
    let mut tries = 0;
    loop {
        tries += 1;
        let mut reader = Reader::new(source, name, writer, monitor, view);
        let mut walk = Walk::new(roots.clone(), excludes.clone(), source.one_file_system, WALKERS);
        match walk.try_for_each(|step| reader.step(step)) {
            // The beginning of a huge file is in the artifact, and the rest was cut off while it was read.
            Err(e) if reader.artifact.is_torn() && e.kind == Kind::Source && tries < TRIES => {
                monitor.event(Event::Warning(format!("{name} is read from its start again: {}", e.one_line())));
            }
            result => return result.and_then(|()| reader.finish()),
        }
    }
}

/// The configured paths in walking order, less those within others.
fn roots(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut roots = Vec::new();
    for path in paths {
        let bytes = path.as_os_str().as_bytes();
        let plain = path.is_absolute() && !path.components().any(|c| matches!(c, std::path::Component::ParentDir));
        if !plain {
            return Err(
                Error::new(Kind::Config, "the path of a source must be absolute and without `..`").at(path.display())
            );
        }
        if std::fs::symlink_metadata(path).is_err() {
            return Err(Error::new(Kind::Source, "the path does not exist or cannot be reached")
                .at(path.display())
                .hint("Correct `paths`, or mount what should be there. A path that vanished is an error, so that an empty mount point never passes for a backup."));
        }
        let trimmed = if bytes.len() > 1 { bytes.strip_suffix(b"/").unwrap_or(bytes) } else { bytes };
        roots.push(PathBuf::from(OsStr::from_bytes(trimmed)));
    }
    roots.sort_by(|a, b| compare(a.as_os_str().as_bytes(), b.as_os_str().as_bytes()));
    roots.dedup_by(|inner, outer| inner.starts_with(&*outer));
    Ok(roots)
}

struct Reader<'a> {
    writer: &'a BackupWriter,
    artifact: ArtifactWriter,
    cursor: Cursor,
    source: &'a FilesSource,
    view: &'a View<'a>,
    monitor: &'a dyn Monitor,
    /// First path of each inode with several names.
    links: HashMap<(u64, u64), Vec<u8>>,
    today: u32,
    report: Report,
    progress: u64,
}

fn now_nanos() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as i64)
}

fn open(path: &[u8]) -> std::result::Result<File, rustix::io::Errno> {
    let path = Path::new(OsStr::from_bytes(path));
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    // Only the owner or root may leave the access time alone.
    openat(CWD, path, flags | OFlags::NOATIME, Mode::empty())
        .or_else(|_| openat(CWD, path, flags, Mode::empty()))
        .map(File::from)
}

fn failed(path: &[u8], e: impl Into<std::io::Error>) -> Error {
    Error::new(Kind::Source, "cannot be read").at(Bytes(path.to_vec()).display()).because(e.into()).hint(
        "Let the agent read it (it usually runs as root), or exclude it. A backup without it would only look complete.",
    )
}

/// The change time, when it says something: one within a tick of the read, or in the future, does not.
fn trusted(ctime: i64, read_at: i64) -> Option<i64> {
    (ctime < read_at - TICK).then_some(ctime)
}

/// Whether a file is to be read again although its stat did not change. Spread over half the period, so that a tree
/// that was read in one day is not read again in one day.
fn reread_due(file: &FileEntry, days: u32, today: u32) -> bool {
    let spread = file.blob.map_or(file.inode as u32, |b| u32::from(b.0[0]) << 8 | u32::from(b.0[1])) % (days / 2 + 1);
    file.kind == FileType::File && file.size > 0 && today.saturating_sub(file.read_day) > days / 2 + spread
}

impl<'a> Reader<'a> {
    fn new(
        source: &'a FilesSource,
        name: &Name,
        writer: &'a BackupWriter,
        monitor: &'a dyn Monitor,
        view: &'a View<'a>,
    ) -> Self {
        let base = writer.base(name, view.artifact).map(|a| a.segments.clone()).unwrap_or_default();
        Reader {
            writer,
            artifact: writer.artifact(view.artifact, "tar"),
            cursor: Cursor::new(writer.clone(), base),
            source,
            view,
            monitor,
            links: HashMap::new(),
            today: (now_nanos() / 86_400_000_000_000) as u32,
            report: Report::default(),
            progress: 0,
        }
    }

    fn step(&mut self, step: Step) -> Result<()> {
        match step {
            Step::Entry(path, stat) => self.entry(&path, stat),
            Step::Failed(path, e) => Err(failed(&path, e)),
            Step::Vanished(path) => {
                self.report.vanished.add(&path);
                Ok(())
            }
        }
    }

    fn entry(&mut self, path: &[u8], stat: Stat) -> Result<()> {
        let kind = match stat.kind() {
            Raw::RegularFile => FileType::File,
            Raw::Directory => FileType::Dir,
            Raw::Symlink => FileType::Symlink,
            Raw::CharacterDevice => FileType::Char,
            Raw::BlockDevice => FileType::Block,
            Raw::Fifo => FileType::Fifo,
            // A socket is made by whoever listens on it; tar cannot hold it either.
            _ => {
                self.report.sockets += 1;
                return Ok(());
            }
        };
        (self.view.look)(path, &stat)?;
        self.report.owners.insert(stat.uid);
        self.report.groups.insert(stat.gid);
        let name = self.view.name(path);
        let base = self.cursor.find(name);
        let first = if stat.links > 1 && kind == FileType::File { self.first_name(name, &stat) } else { None };
        let kind = if first.is_some() { FileType::Hardlink } else { kind };
        match kind {
            FileType::File => {
                self.report.files += 1;
                self.report.bytes += stat.size;
            }
            FileType::Dir => self.report.dirs += 1,
            FileType::Hardlink | FileType::Symlink => self.report.links += 1,
            _ => self.report.other += 1,
        }
        if let Some((segment, index)) = &base
            && self.unchanged(&segment.segment.entries[*index], segment, kind, &stat, first.as_deref())
        {
            self.report.unchanged += 1;
            self.told(if kind == FileType::File { stat.size } else { 0 });
            return self.reuse(segment, *index, name);
        }
        match kind {
            FileType::File => self.file(path, name, stat),
            FileType::Symlink => match rustix::fs::readlink(Path::new(OsStr::from_bytes(path)), Vec::new()) {
                Ok(target) => self.plain(path, name, kind, &stat, Some(target.as_bytes())),
                Err(rustix::io::Errno::NOENT) => {
                    self.report.vanished.add(path);
                    Ok(())
                }
                Err(e) => Err(failed(path, e)),
            },
            _ => self.plain(path, name, kind, &stat, first.as_deref()),
        }
    }

    /// Takes over an entry, and all that goes on with it.
    fn reuse(&mut self, segment: &Arc<BaseSegment>, index: usize, name: &[u8]) -> Result<()> {
        self.artifact.reuse(segment, index)?;
        let path = Bytes(name.to_vec());
        while let Some((segment, index)) = self.cursor.next_of(&path)? {
            self.artifact.reuse(&segment, index)?;
        }
        Ok(())
    }

    /// The path that holds the content of an inode with several names; `None` when this is the first.
    fn first_name(&mut self, name: &[u8], stat: &Stat) -> Option<Vec<u8>> {
        match self.links.entry((stat.dev, stat.inode)) {
            std::collections::hash_map::Entry::Occupied(first) => Some(first.get().clone()),
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(name.to_vec());
                None
            }
        }
    }

    fn unchanged(
        &self,
        entry: &Entry,
        segment: &BaseSegment,
        kind: FileType,
        stat: &Stat,
        first: Option<&[u8]>,
    ) -> bool {
        let Some(file) = &entry.file else { return false };
        let same = file.kind == kind
            && file.ctime == Some(stat.ctime)
            && file.mtime == stat.mtime
            && file.inode == stat.inode
            && file.mode == stat.mode & 0o7777
            && file.uid == stat.uid
            && file.gid == stat.gid
            && (kind != FileType::File || file.size == stat.size)
            && (kind != FileType::Hardlink || file.link.as_ref().map(|l| &l.0[..]) == first);
        same && !self.reread_due(file)
            && self.artifact.reusable(segment, entry)
            && self.cursor.rest_passes(&file.path, |s, e| self.artifact.reusable(s, e))
    }

    fn reread_due(&self, file: &FileEntry) -> bool {
        self.source.reread_days.is_some_and(|days| reread_due(file, days, self.today))
    }

    fn told(&mut self, bytes: u64) {
        self.progress += bytes;
        if self.progress >= PROGRESS {
            self.monitor.event(Event::Read(std::mem::take(&mut self.progress)));
        }
    }

    fn file_entry(&self, name: &[u8], kind: FileType, stat: &Stat, read_at: i64) -> FileEntry {
        FileEntry {
            path: Bytes(name.to_vec()),
            kind,
            size: if kind == FileType::File { stat.size } else { 0 },
            mtime: stat.mtime,
            ctime: trusted(stat.ctime, read_at),
            inode: stat.inode,
            mode: stat.mode & 0o7777,
            uid: stat.uid,
            gid: stat.gid,
            link: None,
            header: 0,
            blob: None,
            read_day: if kind == FileType::File { self.today } else { 0 },
        }
    }

    /// A member without content.
    fn plain(&mut self, path: &[u8], name: &[u8], kind: FileType, stat: &Stat, link: Option<&[u8]>) -> Result<()> {
        let read_at = now_nanos();
        let xattrs =
            if kind == FileType::Hardlink { Vec::new() } else { xattrs::of_path(path).map_err(|e| failed(path, e))? };
        let header = header::encode(&Member { path: name, kind, stat, link, size: 0, xattrs: &xattrs, sparse: None })
            .map_err(|e| failed(path, e))?;
        let mut entry = self.file_entry(name, kind, stat, read_at);
        entry.link = link.map(|l| Bytes(l.to_vec()));
        entry.header = header.len() as u32;
        self.artifact.member(entry, &header)
    }

    fn file(&mut self, path: &[u8], name: &[u8], walked: Stat) -> Result<()> {
        let mut last = None;
        for _ in 0..TRIES {
            let file = match open(path) {
                Ok(file) => file,
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::LOOP) => {
                    self.report.vanished.add(path);
                    return Ok(());
                }
                Err(e) => return Err(failed(path, e)),
            };
            let before = Stat::from_raw(&rustix::fs::fstat(&file).map_err(|e| failed(path, e))?);
            if before.kind() != Raw::RegularFile {
                self.report.vanished.add(path);
                return Ok(());
            }
            if before.inode != walked.inode && before.links > 1 {
                // Replaced by a name of another inode since the walk saw it; as content it is right all the same.
                self.links.entry((before.dev, before.inode)).or_insert_with(|| name.to_vec());
            }
            match self.read_once(path, name, &file, before) {
                Ok(()) => return Ok(()),
                // What is given cannot be taken back.
                Err(e) if self.artifact.is_torn() => return Err(e.at(Bytes(path.to_vec()).display())),
                Err(e) if e.kind == Kind::Source => last = Some(e.at(Bytes(path.to_vec()).display())),
                Err(e) => return Err(e),
            }
        }
        Err(last
            .unwrap_or_else(|| Error::new(Kind::Source, "cannot be read"))
            .hint("The file shrinks while it is read. Stop its writer for the backup, or exclude it."))
    }

    fn read_once(&mut self, path: &[u8], name: &[u8], file: &File, stat: Stat) -> Result<()> {
        let io = |e: std::io::Error| failed(path, e);
        let read_at = now_nanos();
        let xattrs = xattrs::of_file(file).map_err(|e| failed(path, e))?;
        let sparse = if stat.blocks * 512 < stat.size { DataMap::of(file, stat.size).map_err(io)? } else { None };
        let mut entry = self.file_entry(name, FileType::File, &stat, read_at);
        let member = |size| Member {
            path: name,
            kind: FileType::File,
            stat: &stat,
            link: None,
            size,
            xattrs: &xattrs,
            sparse: sparse.as_ref(),
        };
        if let Some(map) = &sparse {
            let header = header::encode(&member(stat.size)).map_err(io)?;
            entry.header = header.len() as u32;
            entry.ctime = entry.ctime.and_then(|c| trusted(c, now_nanos()));
            let mut content = Telling { content: DataReader::new(file, map), monitor: self.monitor };
            self.artifact.large(entry, &header, map.stored(), &mut content)?;
            self.settled(file, &stat, path, None);
        } else if stat.size >= LARGE {
            let header = header::encode(&member(stat.size)).map_err(io)?;
            entry.header = header.len() as u32;
            // The entry is made before the content is read; whether it changed meanwhile shows in the times that
            // the next run compares, unless the change was within a tick, which `ctime` being absent covers.
            entry.ctime = entry.ctime.and_then(|c| trusted(c, now_nanos()));
            let mut content = Telling { content: file.take(stat.size), monitor: self.monitor };
            self.artifact.large(entry, &header, stat.size, &mut content)?;
            self.settled(file, &stat, path, None);
        } else {
            let mut content = Vec::with_capacity(stat.size as usize + 1);
            // One byte more than expected shows growth; it is left for the next backup.
            file.take(stat.size + 1).read_to_end(&mut content).map_err(io)?;
            if (content.len() as u64) < stat.size {
                return Err(Error::new(Kind::Source, "the file is shorter than it was a moment ago"));
            }
            content.truncate(stat.size as usize);
            self.writer.count_read(stat.size);
            let header = header::encode(&member(stat.size)).map_err(io)?;
            entry.header = header.len() as u32;
            entry.ctime = self.settled(file, &stat, path, entry.ctime);
            if content.is_empty() {
                self.artifact.member(entry, &header)?;
            } else {
                self.artifact.small(entry, &header, &content)?;
            }
            self.told(stat.size);
        }
        Ok(())
    }

    /// The change time to record: none when the file changed while it was read, which is also counted.
    fn settled(&mut self, file: &File, before: &Stat, path: &[u8], ctime: Option<i64>) -> Option<i64> {
        let after = rustix::fs::fstat(file).map(|s| Stat::from_raw(&s));
        if after.is_ok_and(|a| a.ctime == before.ctime && a.mtime == before.mtime && a.size == before.size) {
            return ctime;
        }
        self.report.changed.add(path);
        None
    }

    fn finish(mut self) -> Result<Delivered> {
        let end = self.cursor.trailer();
        match &end {
            Some((segment, index)) if self.artifact.reusable(segment, &segment.segment.entries[*index]) => {
                self.artifact.reuse(segment, *index)?
            }
            _ => self.artifact.trailer(&END)?,
        }
        if self.progress > 0 {
            self.monitor.event(Event::Read(self.progress));
        }
        let facts = self.report.facts(&self.source.paths);
        let warnings = self.report.warnings();
        Ok(Delivered { artifacts: vec![self.artifact.finish()?], facts, warnings })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BlobId;

    #[test]
    fn a_change_time_within_two_seconds_of_the_read_or_in_the_future_is_not_trusted() {
        let second = 1_000_000_000;
        let now = 1_700_000_000 * second;
        assert_eq!(trusted(now - 3 * second, now), Some(now - 3 * second));
        for ctime in [now - 2 * second, now - second, now, now + second, now + 365 * 86_400 * second] {
            assert_eq!(trusted(ctime, now), None, "{ctime}");
        }
    }

    #[test]
    fn every_file_is_read_again_within_the_period_and_not_all_on_one_day() {
        let entry = |kind, size, first: u16| FileEntry {
            path: Bytes(b"f".to_vec()),
            kind,
            size,
            mtime: 0,
            ctime: Some(0),
            inode: 1,
            mode: 0o644,
            uid: 0,
            gid: 0,
            link: None,
            header: 512,
            blob: Some(BlobId(std::array::from_fn(|i| first.to_be_bytes().get(i).copied().unwrap_or(0)))),
            read_day: 20_000,
        };
        let files: Vec<FileEntry> = (0..1000).map(|n| entry(FileType::File, 1, n * 65)).collect();
        let due = |day: u32| files.iter().filter(|f| reread_due(f, 30, 20_000 + day)).count();
        assert_eq!((due(0), due(15), due(31)), (0, 0, 1000));
        let a_day: Vec<usize> = (15..31).map(|day| due(day + 1) - due(day)).collect();
        assert!(a_day.iter().all(|n| (1..200).contains(n)), "{a_day:?}");
        // A clock that was set back makes nothing due, and what has no content never is.
        assert_eq!(files.iter().filter(|f| reread_due(f, 30, 1)).count(), 0);
        assert!(!reread_due(&entry(FileType::File, 0, 0), 30, 30_000));
        assert!(!reread_due(&entry(FileType::Dir, 1, 0), 30, 30_000));
    }
}
