//! ZIP archives. Their table of contents is at the end, so they are read in ranges, where they lie; nothing is copied to
//! the disk. One entry is a file by itself; all of them together are given as a tar, which is what the rest understands.

use super::super::layout::Is;
use super::fault::{Fault, Incoming};
use super::raw::Verdict;
use super::{Content, Openable};
use crate::error::{Error, Kind, Result};
use crate::repository::reader::Pieces;
use crate::storage::ObjectInfo;
use crate::storage::readonly::ReadOnly;
use ::zip::ZipArchive;
use ::zip::result::ZipError;
use bytes::Bytes;
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// Bytes that are fetched at once.
const BLOCK: u64 = 1 << 20;
/// Bytes that are handed over at once.
const PIECE: usize = 256 << 10;

/// The entry of the rule, or as a tar all of them.
///
/// # Errors
/// None yet: what is wrong with the archive shows when it is read.
pub async fn entry(file: &Openable, verdict: Verdict, raw: Pieces, fault: Fault) -> Result<Content> {
    // The archive is read by its table of contents; the checksum, where one is known, is counted beside it.
    drop(raw);
    let (sender, receiver) = mpsc::channel(4);
    let ranged = Ranged {
        store: file.store.clone(),
        object: file.part.object.clone(),
        runtime: Handle::current(),
        at: 0,
        block: (0, Bytes::new()),
    };
    let (wanted, as_tar) = (file.rule.entry.clone(), file.rule.is == Is::Tar);
    tokio::task::spawn_blocking(move || {
        let out = Out { sender: sender.clone(), piece: Vec::with_capacity(PIECE) };
        let done = match as_tar {
            true => all(ranged, out),
            false => one(ranged, wanted.as_deref(), out),
        };
        if let Err(e) = done {
            let _ = sender.blocking_send(Err(e));
        }
    });
    let stream = Box::new(Incoming::new(receiver, fault.clone()));
    Ok(Content { stream, fault, verdict, place: file.place() })
}

fn broken(e: ZipError) -> Error {
    let hint = "The archive was not written to its end, or was damaged since; take another set.";
    match e {
        ZipError::UnsupportedArchive(what) => Error::new(Kind::Config, "the ZIP cannot be read")
            .because(what)
            .hint("It must be neither encrypted nor split."),
        e => Error::new(Kind::Damaged, "the ZIP is cut short or damaged").because(e).hint(hint),
    }
}

fn one(ranged: Ranged, wanted: Option<&str>, mut out: Out) -> Result<()> {
    let mut archive = ZipArchive::new(ranged).map_err(broken)?;
    let names: Vec<String> = archive.file_names().filter(|n| !n.ends_with('/')).map(str::to_owned).collect();
    let name = match (wanted, &names[..]) {
        (Some(wanted), _) if names.iter().any(|n| n == wanted) => wanted.to_owned(),
        (None, [only]) => only.clone(),
        (Some(wanted), _) => {
            return Err(Error::new(Kind::Damaged, format!("the ZIP holds no {wanted}"))
                .because(format!("it holds {}", some(&names))));
        }
        (None, _) => {
            return Err(Error::new(Kind::Config, "the ZIP holds several files, and which one is meant is not said")
                .because(format!("it holds {}", some(&names)))
                .hint("Name one with `entry`."));
        }
    };
    let mut file = archive.by_name(&name).map_err(broken)?;
    std::io::copy(&mut file, &mut out).and_then(|_| out.end()).map_err(|e| damaged(&name, e))
}

fn damaged(name: &str, e: std::io::Error) -> Error {
    Error::new(Kind::Damaged, format!("the ZIP is damaged in {name}"))
        .because(e)
        .hint("The archive was damaged since it was written; take another set.")
}

fn some(names: &[String]) -> String {
    let more = if names.len() > 8 { ", …" } else { "" };
    format!("{}{more}", names.iter().take(8).map(String::as_str).collect::<Vec<_>>().join(", "))
}

/// All entries as a tar. Owners are not in a ZIP: they are those of whoever unpacks it.
fn all(ranged: Ranged, out: Out) -> Result<()> {
    let mut archive = ZipArchive::new(ranged).map_err(broken)?;
    let mut tar = tar::Builder::new(out);
    for i in 0..archive.len() {
        let mut file = archive.by_index(i).map_err(broken)?;
        let name = file.name().to_owned();
        let mut header = tar::Header::new_gnu();
        header.set_mtime(file.last_modified().map_or(0, |t| seconds(&t)));
        header.set_uid(0);
        header.set_gid(0);
        let added = if file.is_dir() {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(file.unix_mode().unwrap_or(0o755) & 0o7777);
            header.set_size(0);
            tar.append_data(&mut header, &name, std::io::empty())
        } else if file.is_symlink() {
            let mut to = String::new();
            file.by_ref().take(4096).read_to_string(&mut to).map_err(|e| damaged(&name, e))?;
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_mode(0o777);
            header.set_size(0);
            tar.append_link(&mut header, &name, &to)
        } else {
            header.set_mode(file.unix_mode().unwrap_or(0o644) & 0o7777);
            header.set_size(file.size());
            tar.append_data(&mut header, &name, &mut file)
        };
        added.map_err(|e| damaged(&name, e))?;
    }
    let ended = tar.into_inner().and_then(|mut out| out.end());
    ended.map_err(|e| Error::new(Kind::Internal, "the content of the ZIP cannot be handed over").because(e))
}

/// A ZIP knows the wall clock only; it is taken as UTC.
fn seconds(t: &::zip::DateTime) -> u64 {
    let date = jiff::civil::DateTime::new(
        i16::try_from(t.year()).unwrap_or(1980),
        t.month() as i8,
        t.day() as i8,
        t.hour() as i8,
        t.minute() as i8,
        t.second().min(59) as i8,
        0,
    );
    let at = date.ok().and_then(|d| d.to_zoned(jiff::tz::TimeZone::UTC).ok());
    at.and_then(|z| u64::try_from(z.timestamp().as_second()).ok()).unwrap_or(0)
}

/// A writer into pieces.
struct Out {
    sender: mpsc::Sender<Result<Bytes>>,
    piece: Vec<u8>,
}

impl Out {
    fn end(&mut self) -> std::io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        self.sender.blocking_send(Ok(piece.into())).map_err(|_| std::io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.end()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A file in the store, for those who jump about in it.
struct Ranged {
    store: Arc<dyn ReadOnly>,
    object: ObjectInfo,
    runtime: Handle,
    at: u64,
    block: (u64, Bytes),
}

impl Read for Ranged {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.at >= self.object.size || buffer.is_empty() {
            return Ok(0);
        }
        let begin = self.at / BLOCK * BLOCK;
        if self.block.0 != begin || self.block.1.is_empty() {
            let length = BLOCK.min(self.object.size - begin);
            let fetched = self.runtime.block_on(self.store.range(&self.object, begin, length));
            self.block = (begin, fetched.map_err(std::io::Error::other)?);
        }
        let from = (self.at - begin) as usize;
        let n = buffer.len().min(self.block.1.len() - from);
        buffer[..n].copy_from_slice(&self.block.1[from..from + n]);
        self.at += n as u64;
        Ok(n)
    }
}

impl Seek for Ranged {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let to = match to {
            SeekFrom::Start(n) => Some(n),
            SeekFrom::End(n) => self.object.size.checked_add_signed(n),
            SeekFrom::Current(n) => self.at.checked_add_signed(n),
        };
        self.at = to.ok_or(std::io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
