//! The blocks of data behind the head: found while they stream by, written for rows of our own sessions, and opened
//! again for loading.
//!
//! A block of rows is a type byte, the entry's number, chunks with their lengths, and a length of zero. Its content
//! ends with the line `\.` and two empty ones; each line before that is one row, since the text format of COPY escapes
//! line ends. So rows are counted while they pass, exactly and for nothing.

use super::ArchiveError;
use super::entry::put_int;
use serde::{Deserialize, Serialize};

/// Type byte of a block of rows.
const DATA: u8 = 1;
/// Type byte of a block of large objects.
const BLOBS: u8 = 3;
/// How the content of a block of rows ends.
const END: &[u8] = b"\\.\n\n\n";

/// A block of rows in an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Number of the entry.
    pub entry: i32,
    /// Where the block begins in the archive.
    pub offset: u64,
    /// Bytes of the block, with type, number and end.
    pub length: u64,
    /// Rows, unless its content does not end as `pg_dump` ends it.
    pub rows: Option<u64>,
}

enum State {
    Type,
    /// The number of the entry: bytes so far.
    Number(u8, Vec<u8>),
    /// Length of the next chunk of rows.
    Length(Vec<u8>),
    /// Bytes of a chunk of rows that are still to come.
    Chunk(usize),
    /// OID of the next large object.
    BlobOid(Vec<u8>),
    BlobLength(Vec<u8>),
    BlobChunk(usize),
}

/// Finds blocks in what follows the head, wherever the pieces are cut.
pub struct Scanner {
    state: State,
    position: u64,
    entry: i32,
    begun: u64,
    lines: u64,
    tail: [u8; 5],
    found: Vec<Block>,
}

impl Scanner {
    /// Begins at this offset of the archive.
    pub fn new(position: u64) -> Self {
        Scanner { state: State::Type, position, entry: 0, begun: 0, lines: 0, tail: [0; 5], found: Vec::new() }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// When they cannot be what follows in an archive.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), ArchiveError> {
        while let Some(first) = bytes.first() {
            let used = match &mut self.state {
                State::Type => {
                    self.begun = self.position;
                    if *first != DATA && *first != BLOBS {
                        return Err(ArchiveError::Malformed("a block is of an unknown type"));
                    }
                    self.state = State::Number(*first, Vec::new());
                    1
                }
                State::Chunk(left) => {
                    let n = bytes.len().min(*left);
                    *left -= n;
                    let done = *left == 0;
                    self.lines += memchr::memchr_iter(b'\n', &bytes[..n]).count() as u64;
                    self.remember(&bytes[..n]);
                    if done {
                        self.state = State::Length(Vec::new());
                    }
                    n
                }
                State::BlobChunk(left) => {
                    let n = bytes.len().min(*left);
                    *left -= n;
                    if *left == 0 {
                        self.state = State::BlobLength(Vec::new());
                    }
                    n
                }
                State::Length(int) if int.is_empty() && bytes.len() >= 5 => {
                    // The common case, once per row.
                    let value = int_of(&bytes[..5])?;
                    self.integer(value)?;
                    5
                }
                State::Number(_, int) | State::Length(int) | State::BlobOid(int) | State::BlobLength(int) => {
                    int.push(*first);
                    if int.len() == 5 {
                        let value = int_of(int)?;
                        self.integer(value)?;
                    }
                    1
                }
            };
            self.position += used as u64;
            bytes = &bytes[used..];
        }
        Ok(())
    }

    /// An integer is complete; the position is that of its last byte.
    fn integer(&mut self, value: usize) -> Result<(), ArchiveError> {
        self.state = match (&self.state, value) {
            (State::Number(kind, _), entry) => {
                self.entry = i32::try_from(entry).map_err(|_| ArchiveError::Malformed("a block has no number"))?;
                (self.lines, self.tail) = (0, [0; 5]);
                if *kind == DATA { State::Length(Vec::new()) } else { State::BlobOid(Vec::new()) }
            }
            (State::Length(int), 0) => {
                let end = self.position + if int.is_empty() { 5 } else { 1 };
                let rows = (self.tail == END).then(|| self.lines - 3);
                self.found.push(Block { entry: self.entry, offset: self.begun, length: end - self.begun, rows });
                State::Type
            }
            (State::Length(_), n) => State::Chunk(n),
            (State::BlobOid(_), 0) => State::Type,
            (State::BlobOid(_), _) => State::BlobLength(Vec::new()),
            (State::BlobLength(_), 0) => State::BlobOid(Vec::new()),
            (State::BlobLength(_), n) => State::BlobChunk(n),
            _ => return Err(ArchiveError::Malformed("an integer stands where none belongs")),
        };
        Ok(())
    }

    fn remember(&mut self, bytes: &[u8]) {
        let keep = bytes.len().min(END.len());
        self.tail.rotate_left(keep);
        self.tail[END.len() - keep..].copy_from_slice(&bytes[bytes.len() - keep..]);
    }

    /// The blocks of rows.
    ///
    /// # Errors
    /// When the archive ended within a block.
    pub fn finish(self) -> Result<Vec<Block>, ArchiveError> {
        match self.state {
            State::Type => Ok(self.found),
            _ => Err(ArchiveError::Malformed("it ends within a block of data")),
        }
    }
}

fn int_of(bytes: &[u8]) -> Result<usize, ArchiveError> {
    match bytes {
        [0, rest @ ..] if rest.len() == 4 => Ok(u32::from_le_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize),
        _ => Err(ArchiveError::Malformed("a length in it is negative")),
    }
}

/// Frames rows as a block. Chunks end behind a row whose hash says so, not after so many bytes: else one more row
/// would move every length behind it, and nothing of the rest would be found equal the next day.
pub struct Framer {
    chunk: Vec<u8>,
    ready: Vec<u8>,
    /// Rows so far.
    pub rows: u64,
}

/// One row in so many ends a chunk, on average.
const ROWS_PER_CHUNK: u32 = 64;
/// A chunk is not made longer than this by another row.
const MAX_CHUNK: usize = 1 << 20;

impl Framer {
    /// A block for an entry.
    pub fn new(entry: i32) -> Self {
        let mut ready = vec![DATA];
        put_int(&mut ready, entry);
        Framer { chunk: Vec::new(), ready, rows: 0 }
    }

    /// Takes one row with its line end.
    pub fn row(&mut self, row: &[u8]) {
        self.chunk.extend_from_slice(row);
        self.rows += 1;
        if self.chunk.len() >= MAX_CHUNK || crc32c::crc32c(row).is_multiple_of(ROWS_PER_CHUNK) {
            self.end_chunk();
        }
    }

    fn end_chunk(&mut self) {
        if !self.chunk.is_empty() {
            put_int(&mut self.ready, self.chunk.len() as i32);
            self.ready.append(&mut self.chunk);
        }
    }

    /// Bytes that are ready.
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Takes what is ready.
    pub fn take(&mut self) -> Vec<u8> {
        let capacity = self.ready.capacity();
        std::mem::replace(&mut self.ready, Vec::with_capacity(capacity))
    }

    /// Ends the block; gives its last bytes.
    pub fn finish(mut self) -> Vec<u8> {
        self.end_chunk();
        put_int(&mut self.ready, END.len() as i32);
        self.ready.extend_from_slice(END);
        put_int(&mut self.ready, 0);
        self.ready
    }
}

/// Takes the rows out of a block again.
#[derive(Default)]
pub struct Unframer {
    /// Bytes of the block's beginning and of integers that came in pieces.
    int: Vec<u8>,
    begun: bool,
    left: usize,
    ended: bool,
    /// The last bytes of the content, held back: they are its end.
    held: Vec<u8>,
}

impl Unframer {
    /// Takes bytes of the block, appends rows to `out`.
    ///
    /// # Errors
    /// When this is no block of rows.
    pub fn feed(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), ArchiveError> {
        let start = out.len();
        out.append(&mut self.held);
        while !bytes.is_empty() {
            if self.ended {
                return Err(ArchiveError::Malformed("something follows the end of a block"));
            }
            if self.left > 0 {
                let n = bytes.len().min(self.left);
                out.extend_from_slice(&bytes[..n]);
                self.left -= n;
                bytes = &bytes[n..];
                continue;
            }
            let want = if self.begun { 5 } else { 6 };
            let n = bytes.len().min(want - self.int.len());
            self.int.extend_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            if self.int.len() < want {
                continue;
            }
            if self.begun {
                self.left = int_of(&self.int)?;
                self.ended = self.left == 0;
            } else if self.int[0] != DATA {
                return Err(ArchiveError::Malformed("a block of rows is of another type"));
            }
            self.begun = true;
            self.int.clear();
        }
        let keep = (out.len() - start).min(END.len());
        self.held = out.split_off(out.len() - keep);
        Ok(())
    }

    /// All bytes were given.
    ///
    /// # Errors
    /// When the block is not whole.
    pub fn finish(self) -> Result<(), ArchiveError> {
        if self.ended && self.held == END {
            Ok(())
        } else {
            Err(ArchiveError::Malformed("a block of rows ends too early"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(entry: i32, rows: &[&[u8]]) -> Vec<u8> {
        let mut framer = Framer::new(entry);
        let mut out = Vec::new();
        for row in rows {
            framer.row(row);
            out.extend(framer.take());
        }
        out.extend(framer.finish());
        out
    }

    fn large_objects() -> Vec<u8> {
        let mut out = vec![BLOBS];
        put_int(&mut out, 9);
        for oid in [16_400, 16_401] {
            put_int(&mut out, oid);
            put_int(&mut out, 3);
            out.extend(b"\n\n\n");
            put_int(&mut out, 0);
        }
        put_int(&mut out, 0);
        out
    }

    #[test]
    fn blocks_are_found_and_counted_however_the_pieces_are_cut() {
        let rows: Vec<Vec<u8>> = (0..500).map(|n| format!("{n}\ta\\nb\n").into_bytes()).collect();
        let rows: Vec<&[u8]> = rows.iter().map(Vec::as_slice).collect();
        let (one, none, blobs) = (block(7, &rows), block(8, &[]), large_objects());
        let all = [&one[..], &blobs, &none].concat();
        let expected = vec![
            Block { entry: 7, offset: 100, length: one.len() as u64, rows: Some(500) },
            Block {
                entry: 8,
                offset: 100 + (one.len() + blobs.len()) as u64,
                length: none.len() as u64,
                rows: Some(0),
            },
        ];
        for piece in [1, 2, 3, 5, 7, 64, all.len()] {
            let mut scanner = Scanner::new(100);
            all.chunks(piece).for_each(|p| scanner.feed(p).unwrap());
            assert_eq!(scanner.finish().unwrap(), expected, "pieces of {piece}");
        }
        let mut cut = Scanner::new(0);
        cut.feed(&all[..all.len() - 1]).unwrap();
        assert!(cut.finish().is_err());
    }

    #[test]
    fn rows_come_out_of_a_block_as_they_went_in() {
        let rows: Vec<Vec<u8>> = (0..300).map(|n| format!("{n}\tx\n").into_bytes()).collect();
        let rows: Vec<&[u8]> = rows.iter().map(Vec::as_slice).collect();
        for rows in [&rows[..], &[]] {
            let framed = block(1, rows);
            for piece in [1, 4, 6, 11, framed.len()] {
                let mut unframer = Unframer::default();
                let mut out = Vec::new();
                framed.chunks(piece).for_each(|p| unframer.feed(p, &mut out).unwrap());
                unframer.finish().unwrap();
                assert_eq!(out, rows.concat(), "pieces of {piece}");
            }
            let mut cut = Unframer::default();
            cut.feed(&framed[..framed.len() - 5], &mut Vec::new()).unwrap();
            assert!(cut.finish().is_err());
        }
    }

    #[test]
    fn one_more_row_changes_few_bytes_of_a_block() {
        let rows: Vec<Vec<u8>> = (0..20_000).map(|n| format!("{n}\tsome text of row {n}\n").into_bytes()).collect();
        let mut rows: Vec<&[u8]> = rows.iter().map(Vec::as_slice).collect();
        let before = block(1, &rows);
        rows.insert(100, b"new\n");
        let after = block(1, &rows);
        let same = before.iter().rev().zip(after.iter().rev()).take_while(|(a, b)| a == b).count();
        assert!(same > before.len() * 95 / 100, "{same} of {} bytes are equal at the end", before.len());
    }
}
