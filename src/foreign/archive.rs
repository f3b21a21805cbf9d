//! Archives of `pg_dump` in custom format, whose rows are compressed table by table: read to the end, counted, and written
//! again as `pg_dump --compress=0` would have written them, so that days deduplicate with each other and with our own.
//!
//! A compressed block is type, number, chunks with their lengths, and a length of zero, like any other; joined, the
//! chunks are one stream of zlib or zstd. Without compression `pg_dump` gives each row a chunk of its own.

use super::read::unreadable;
use crate::error::{Error, Kind, Result};
use crate::sources::postgres::archive::ArchiveError;
use crate::sources::postgres::archive::blocks::{Framer, Scanner};
use crate::sources::postgres::archive::entry::{Entry, put_int};
use crate::sources::postgres::archive::head::{Compressed, Head};
use crate::sources::postgres::facts::DatabaseFacts;
use crate::sources::postgres::sql::facts::{Scanned, number};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{BufReader, ErrorKind, Read, Write};

/// Type byte of a block of rows, and of one of large objects.
const DATA: u8 = 1;
const BLOBS: u8 = 3;
/// Bytes that are read at once.
const PIECE: usize = 256 << 10;
/// A chunk is not made longer than this, however long a row is.
const MAX_CHUNK: usize = 16 << 20;
/// Bytes of a large object that `pg_dump` writes at once.
const OBJECT_CHUNK: usize = 16 << 10;
/// Entries whose definition tells something that a restore is held against.
const TELLING: &[&str] =
    &["DATABASE", "DATABASE PROPERTIES", "ENCODING", "EXTENSION", "SEQUENCE SET", "TABLE", "TABLE ATTACH"];

/// What an archive holds.
#[derive(Clone, Debug)]
pub struct Looked {
    /// The facts, as those of a backup of ours.
    pub facts: DatabaseFacts,
    /// Entries of its table of contents.
    pub entries: u64,
}

fn malformed(e: ArchiveError) -> Error {
    match &e {
        ArchiveError::Unknown(..) => {
            Error::new(Kind::Newer, "the archive is of a pg_dump that is newer than this version").because(e)
        }
        ArchiveError::Io(io) if io.kind() == ErrorKind::UnexpectedEof => cut_short(e.to_string()),
        ArchiveError::Malformed(what) if what.starts_with("it ends") => cut_short((*what).to_owned()),
        _ => Error::new(Kind::Damaged, "the archive of pg_dump cannot be read").because(e),
    }
}

fn cut_short(why: String) -> Error {
    Error::new(Kind::Damaged, "the archive of pg_dump is cut short")
        .because(why)
        .hint("pg_dump did not come to its end, or the file was cut since; take another set.")
}

fn broken(e: std::io::Error) -> Error {
    if e.kind() == ErrorKind::UnexpectedEof { cut_short(e.to_string()) } else { unreadable(e) }
}

/// Reads an archive to its end and writes it without compression; the rows of these large tables framed as our own backups do.
///
/// # Errors
/// [`Kind::Damaged`] when it is not whole; what `out` says.
pub fn rewrite(content: &mut dyn Read, out: &mut dyn Write, large: &HashSet<(String, String)>) -> Result<Looked> {
    let mut reader = BufReader::with_capacity(PIECE, content);
    let mut head = Head::read(&mut reader).map_err(malformed)?;
    let packed = head.compressed();
    head.set_uncompressed();
    let encoded = head.encode();
    out.write_all(&encoded).map_err(unreadable)?;
    let mut to = Written { out, scanner: Scanner::new(encoded.len() as u64) };
    let mut seen = BTreeSet::new();
    let mut large_objects = 0;
    while let Some(kind) = byte(&mut reader)? {
        let entry = integer(&mut reader)?;
        seen.insert(entry);
        if kind == DATA && head.entries.iter().any(|e| e.dump_id == entry && is_of(e, large)) {
            let mut rows = LargeRows { to: &mut to, framer: Framer::new(entry), row: Vec::new(), ended: false };
            unpack(&mut reader, packed, &mut rows)?;
            rows.end()?;
            continue;
        }
        to.put(&[kind])?;
        to.int(entry)?;
        match kind {
            DATA => block(&mut reader, packed, Chunks::of_rows(&mut to))?,
            BLOBS => loop {
                let oid = integer(&mut reader)?;
                to.int(oid)?;
                if oid == 0 {
                    break;
                }
                large_objects += 1;
                block(&mut reader, packed, Chunks::of_object(&mut to))?;
            },
            _ => return Err(malformed(ArchiveError::Malformed("a block is of an unknown type"))),
        }
    }
    let blocks = to.scanner.finish().map_err(malformed)?;
    if let Some(entry) = head.entries.iter().find(|e| e.has_data && e.is("TABLE DATA") && !seen.contains(&e.dump_id)) {
        return Err(cut_short(format!("the rows of {} are missing", entry.name())));
    }
    let rows: BTreeMap<i32, (Option<u64>, u64)> = blocks.iter().map(|b| (b.entry, (b.rows, b.length))).collect();
    Ok(looked(&head, &rows, large_objects))
}

/// Whether an entry is the rows of one of these tables.
fn is_of(entry: &Entry, tables: &HashSet<(String, String)>) -> bool {
    let text = |t: &Option<Vec<u8>>| String::from_utf8_lossy(t.as_deref().unwrap_or_default()).into_owned();
    !tables.is_empty() && entry.is("TABLE DATA") && tables.contains(&(text(&entry.namespace), text(&entry.tag)))
}

fn looked(head: &Head, rows: &BTreeMap<i32, (Option<u64>, u64)>, large_objects: u64) -> Looked {
    let text = |t: &Option<Vec<u8>>| String::from_utf8_lossy(t.as_deref().unwrap_or_default()).into_owned();
    let database = text(&head.database);
    let mut scanned = Scanned::default();
    let mut owners = BTreeSet::new();
    let mut owner = String::new();
    for entry in &head.entries {
        if entry.is("DATABASE") {
            owner = text(&entry.owner);
        }
        let tag = text(&entry.tag);
        // What is said of the database as a whole is not loaded: whoever restores it makes it.
        if !entry.is("DATABASE") && !entry.is("DATABASE PROPERTIES") && !tag.starts_with("DATABASE ") {
            owners.extend(Some(text(&entry.owner)).filter(|o| !o.is_empty()));
        }
        let of_database = entry.is("COMMENT") && tag.starts_with("DATABASE ");
        if of_database || TELLING.iter().any(|desc| entry.is(desc)) {
            for statement in text(&entry.defn).split_inclusive(";\n") {
                scanned.look(&database, &text(&entry.namespace), statement.trim());
            }
        }
        if entry.is("TABLE DATA") {
            let (counted, bytes) = rows.get(&entry.dump_id).copied().unwrap_or_default();
            scanned.count(&database, (text(&entry.namespace), text(&entry.tag)), counted, bytes);
        }
    }
    let mut facts = scanned.facts(&database);
    facts.server_version = head.server().and_then(|v| number(&v)).unwrap_or(0);
    facts.large_objects = large_objects;
    facts.owners = owners;
    if facts.attributes.owner.is_empty() {
        facts.attributes.owner = owner;
    }
    Looked { facts, entries: head.entries.len() as u64 }
}

/// The next byte, or nothing at the end.
fn byte(reader: &mut impl Read) -> Result<Option<u8>> {
    let mut byte = [0];
    loop {
        match reader.read(&mut byte) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(byte[0])),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(broken(e)),
        }
    }
}

fn integer(reader: &mut impl Read) -> Result<i32> {
    let mut bytes = [0; 5];
    reader.read_exact(&mut bytes).map_err(broken)?;
    let [sign, rest @ ..] = bytes;
    let value = i32::try_from(u32::from_le_bytes(rest)).ok().filter(|_| sign == 0);
    value.ok_or_else(|| malformed(ArchiveError::Malformed("a number in it is negative")))
}

/// Undoes the compression of one block's content.
fn block(reader: &mut impl Read, packed: Compressed, mut to: Chunks<'_, '_>) -> Result<()> {
    unpack(reader, packed, &mut to)?;
    to.end().map_err(unreadable)
}

/// Undoes it, without an end of what is written.
fn unpack(reader: &mut impl Read, packed: Compressed, to: &mut dyn Write) -> Result<()> {
    let mut chunks = Framed { reader, left: 0, ended: false };
    let copied = match packed {
        Compressed::Not => std::io::copy(&mut chunks, to),
        // A table without rows may have a block without even the header of a stream.
        Compressed::Zlib => std::io::copy(&mut flate2::read::ZlibDecoder::new(&mut chunks), to),
        Compressed::Zstd => zstd::stream::read::Decoder::new(&mut chunks).and_then(|mut d| std::io::copy(&mut d, to)),
        Compressed::Other => {
            return Err(Error::new(Kind::Config, "the archive is compressed with lz4, which is not read")
                .hint("Have the script write --compress=gzip or zstd, and restore this one with pg_restore."));
        }
    };
    copied.map_err(broken)?;
    // What is behind the end of the compressed stream belongs to the block all the same.
    std::io::copy(&mut chunks, &mut std::io::sink()).map_err(broken)?;
    Ok(())
}

/// The content of a block, without the lengths in it.
struct Framed<'a, R> {
    reader: &'a mut R,
    left: usize,
    ended: bool,
}

impl<R: Read> Read for Framed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.left == 0 && !self.ended {
            let length =
                integer(self.reader).map_err(|e| std::io::Error::new(ErrorKind::UnexpectedEof, e.one_line()))?;
            self.left = usize::try_from(length).map_err(std::io::Error::other)?;
            self.ended = length == 0;
        }
        if self.ended || buffer.is_empty() {
            return Ok(0);
        }
        let n = buffer.len().min(self.left);
        let n = self.reader.read(&mut buffer[..n])?;
        if n == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.left -= n;
        Ok(n)
    }
}

/// Where the archive goes, and who counts its rows.
struct Written<'a> {
    out: &'a mut dyn Write,
    scanner: Scanner,
}

impl Written<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.scanner.feed(bytes).map_err(malformed)?;
        self.out.write_all(bytes).map_err(unreadable)
    }

    fn int(&mut self, value: i32) -> Result<()> {
        let mut bytes = Vec::with_capacity(5);
        put_int(&mut bytes, value);
        self.put(&bytes)
    }
}

/// The rows of a large table, framed as sessions of our own do it.
struct LargeRows<'a, 'b> {
    to: &'a mut Written<'b>,
    framer: Framer,
    row: Vec<u8>,
    /// The rows have ended.
    ended: bool,
}

impl LargeRows<'_, '_> {
    fn end(self) -> Result<()> {
        self.to.put(&self.framer.finish())
    }
}

impl Write for LargeRows<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut rest = bytes;
        while let Some(n) = memchr::memchr(b'\n', rest).filter(|_| !self.ended) {
            self.row.extend_from_slice(&rest[..=n]);
            rest = &rest[n + 1..];
            self.ended = self.row == b"\\.\n";
            if !self.ended {
                self.framer.row(&self.row);
                let ready = self.framer.take();
                self.to.put(&ready).map_err(|e| std::io::Error::other(e.one_line()))?;
            }
            self.row.clear();
        }
        if !self.ended {
            self.row.extend_from_slice(rest);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Frames content anew: each row by itself and the end of the rows as one, or a large object in even pieces.
struct Chunks<'a, 'b> {
    to: &'a mut Written<'b>,
    pending: Vec<u8>,
    rows: bool,
    /// The rows have ended.
    ended: bool,
}

impl<'a, 'b> Chunks<'a, 'b> {
    fn of_rows(to: &'a mut Written<'b>) -> Self {
        Chunks { to, pending: Vec::new(), rows: true, ended: false }
    }

    fn of_object(to: &'a mut Written<'b>) -> Self {
        Chunks { to, pending: Vec::new(), rows: false, ended: false }
    }

    fn flush_chunk(&mut self) -> std::io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::take(&mut self.pending);
        let length = i32::try_from(chunk.len()).map_err(std::io::Error::other)?;
        let put = self.to.int(length).and_then(|()| self.to.put(&chunk));
        self.pending = chunk;
        self.pending.clear();
        put.map_err(|e| std::io::Error::other(e.one_line()))
    }

    fn end(mut self) -> std::io::Result<()> {
        self.flush_chunk()?;
        self.to.int(0).map_err(|e| std::io::Error::other(e.one_line()))
    }
}

impl Write for Chunks<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (most, line) = if self.rows && !self.ended { (MAX_CHUNK, true) } else { (OBJECT_CHUNK, false) };
            let most = most.saturating_sub(self.pending.len()).max(1).min(rest.len());
            let end = if line { memchr::memchr(b'\n', &rest[..most]).map(|n| n + 1) } else { None };
            let n = end.unwrap_or(most);
            self.pending.extend_from_slice(&rest[..n]);
            rest = &rest[n..];
            if end.is_some() && self.pending == b"\\.\n" {
                self.ended = true;
            } else if end.is_some() || self.pending.len() >= if line { MAX_CHUNK } else { OBJECT_CHUNK } {
                self.flush_chunk()?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
