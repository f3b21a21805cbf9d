//! A volume that lies elsewhere, read through the daemon.
//!
//! The daemon packs what a container sees at the volume's place. Its tar is read and written anew as ours: with `.`
//! as root, an index, and equal bytes for equal content whatever the daemon's version. Where no container has the
//! volume, one is made that is never started, from an image that is there, and removed again.

use super::{VolumeSource, artifact_name, live};
use crate::error::{Error, Kind, Result};
use crate::host::docker::Docker;
use crate::repository::segment::{Bytes, FileEntry, FileType};
use crate::repository::writer::{ArtifactWriter, BackupWriter};
use crate::sources::Delivered;
use crate::sources::files::exclude::Excludes;
use crate::sources::files::header::{self, END};
use crate::sources::files::members::{Member, Members};
use crate::sources::files::walk::Stat;
use crate::telemetry::monitor::{Event, Monitor};
use std::io::Read;
use std::sync::Arc;
use tokio_util::io::SyncIoBridge;

/// What the daemon does not put into its tar.
pub const LOSES: &[&str] = &[
    "extended attributes but for file capabilities",
    "ACLs",
    "parts of seconds of times",
    "sockets",
    "holes in sparse files, which come out as zeros",
    "files that the daemon itself could not read, which it leaves out without a word",
];

/// From this size on a file is cut into chunks.
const LARGE: u64 = 1024 * 1024;

/// Reads a volume into its artifact.
pub async fn read(
    source: &VolumeSource,
    docker: &Docker,
    chosen: &super::choose::Chosen,
    live: bool,
    writer: &BackupWriter,
    monitor: Arc<dyn Monitor>,
) -> Result<Delivered> {
    let excludes = Excludes::new(&source.exclude, &[])?;
    let (stream, helper) = docker.volume_archive(&chosen.volume, &chosen.users).await?;
    let artifact = writer.artifact(&artifact_name(&chosen.volume.name), "tar");
    let writer = writer.clone();
    let work = tokio::task::spawn_blocking(move || {
        let mut work = Work { artifact, writer, excludes, live, counted: Counted::default(), monitor };
        work.read(SyncIoBridge::new(stream)).and_then(|()| {
            let artifact = work.artifact.finish()?;
            Ok((artifact, work.counted))
        })
    });
    let read = work.await.map_err(|_| Error::new(Kind::Internal, "the reading thread ended by a panic"));
    // Whatever came of it, the helper goes.
    let removed = helper.remove().await;
    let (artifact, counted) = read??;
    removed?;
    let mut warnings = vec![format!("read through the daemon, which does not tell: {}", LOSES.join("; "))];
    if counted.damaged_names > 0 {
        warnings.push(format!("{} left out: their names lead out of the volume", counted.damaged_names));
    }
    let facts = serde_json::json!({
        "files": counted.files,
        "directories": counted.dirs,
        "links": counted.links,
        "other": counted.other,
        "bytes": counted.bytes,
    });
    Ok(Delivered { artifacts: vec![artifact], facts, warnings })
}

#[derive(Default)]
struct Counted {
    files: u64,
    dirs: u64,
    links: u64,
    other: u64,
    bytes: u64,
    damaged_names: u64,
}

struct Work {
    artifact: ArtifactWriter,
    writer: BackupWriter,
    excludes: Excludes,
    live: bool,
    counted: Counted,
    monitor: Arc<dyn Monitor>,
}

/// A stream that knows whether it ended with the two empty blocks of a whole tar: the daemon cuts it short when it
/// fails half way.
struct Whole<R> {
    inner: R,
    zeros: usize,
}

impl<R: Read> Read for Whole<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buffer)?;
        let trailing = buffer[..n].iter().rev().take_while(|b| **b == 0).count();
        self.zeros = if trailing == n { self.zeros + n } else { trailing };
        Ok(n)
    }
}

impl Work {
    fn read(&mut self, stream: impl Read) -> Result<()> {
        let broken = |e: std::io::Error| {
            Error::new(Kind::Source, "the daemon's archive of the volume cannot be read").because(e)
        };
        let mut members = Members::new(Whole { inner: stream, zeros: 0 });
        // The daemon's own names begin with the last part of the path, which we asked for as a directory.
        while let Some(member) = members.next_member().map_err(broken)? {
            self.member(&member, &mut members)?;
        }
        let mut stream = members.into_inner();
        std::io::copy(&mut stream, &mut std::io::sink()).map_err(broken)?;
        if stream.zeros < END.len() {
            return Err(Error::new(Kind::Source, "the daemon's archive of the volume ends before its end")
                .hint("Look into the daemon's log; something in the volume could not be read."));
        }
        self.artifact.trailer(&END)
    }

    fn member(&mut self, member: &Member, content: &mut dyn Read) -> Result<()> {
        let Some(name) = plain(&member.path) else {
            self.counted.damaged_names += 1;
            return Ok(());
        };
        let in_volume = [b"/", &name[..]].concat();
        let parts = name.split(|b| *b == b'/').count();
        let excluded = name != b"."
            && (1..=parts).any(|n| {
                let path = in_volume.split(|b| *b == b'/').take(n + 1).collect::<Vec<_>>().join(&b'/');
                let last = path.rsplit(|b| *b == b'/').next().unwrap_or_default().to_vec();
                self.excludes.matches(&path, &last)
            });
        if excluded {
            return Ok(());
        }
        use tar::EntryType as T;
        let kind = match member.kind {
            T::Directory => FileType::Dir,
            T::Symlink => FileType::Symlink,
            T::Link => FileType::Hardlink,
            T::Char => FileType::Char,
            T::Block => FileType::Block,
            T::Fifo => FileType::Fifo,
            T::Regular | T::Continuous => FileType::File,
            other => {
                return Err(Error::new(
                    Kind::Source,
                    format!("the daemon's archive holds an entry of unknown type {other:?}"),
                )
                .at(Bytes(name).display()));
            }
        };
        let stat = stat_of(member, kind);
        if self.live {
            live::refuse(&in_volume, &stat)?;
        }
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
        .map_err(|e| {
            Error::new(Kind::Source, "cannot be written as tar").at(Bytes(name.clone()).display()).because(e)
        })?;
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
        match kind {
            FileType::File => self.counted.files += 1,
            FileType::Dir => self.counted.dirs += 1,
            FileType::Symlink | FileType::Hardlink => self.counted.links += 1,
            _ => self.counted.other += 1,
        }
        self.counted.bytes += size;
        self.monitor.event(Event::Read(size));
        if size >= LARGE {
            return self.artifact.large(entry, &header, size, content);
        }
        let mut bytes = vec![0; size as usize];
        content
            .read_exact(&mut bytes)
            .map_err(|e| Error::new(Kind::Source, "the daemon's archive of the volume cannot be read").because(e))?;
        self.writer.count_read(size);
        if bytes.is_empty() {
            self.artifact.member(entry, &header)
        } else {
            self.artifact.small(entry, &header, &bytes)
        }
    }
}

fn stat_of(member: &Member, kind: FileType) -> Stat {
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
fn plain(path: &[u8]) -> Option<Vec<u8>> {
    let parts: Vec<&[u8]> = path.split(|b| *b == b'/').filter(|p| !p.is_empty() && *p != b".").collect();
    if parts.contains(&&b".."[..]) {
        return None;
    }
    Some(if parts.is_empty() { b".".to_vec() } else { parts.join(&b'/') })
}
