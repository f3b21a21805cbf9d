//! Bytes on their way between a task and a thread that may block.

use crate::error::{Error, Result};
use bytes::{Buf, Bytes};
use std::io::{BufRead, BufReader, Read};
use tokio::sync::mpsc;

/// A reader that can hand out what it holds without copying it.
pub trait Supply: BufRead {
    /// The next bytes, so many at most and at least one; none at the end.
    ///
    /// # Errors
    /// Those of the reader.
    fn take_bytes(&mut self, most: usize) -> std::io::Result<Bytes> {
        let held = self.fill_buf()?;
        let bytes = Bytes::copy_from_slice(&held[..held.len().min(most)]);
        self.consume(bytes.len());
        Ok(bytes)
    }
}

impl Supply for &[u8] {}
impl<R: Read> Supply for BufReader<R> {}

impl<S: Supply + ?Sized> Supply for &mut S {
    fn take_bytes(&mut self, most: usize) -> std::io::Result<Bytes> {
        (**self).take_bytes(most)
    }
}

/// A blocking reader over a stream of pieces, for code that parses.
pub struct BlockingStream {
    pieces: mpsc::Receiver<Result<Bytes>>,
    current: Bytes,
    failed: Option<Error>,
}

impl BlockingStream {
    /// Wraps the receiver; use it on a thread that may block.
    pub fn new(pieces: mpsc::Receiver<Result<Bytes>>) -> Self {
        BlockingStream { pieces, current: Bytes::new(), failed: None }
    }

    /// The error that ended the stream, in its own words; `io::Error` cannot carry it.
    pub fn take_error(&mut self) -> Option<Error> {
        self.failed.take()
    }
}

impl BufRead for BlockingStream {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                None => break,
                Some(Ok(piece)) => self.current = piece,
                Some(Err(e)) => {
                    let text = e.one_line();
                    self.failed = Some(e);
                    return Err(std::io::Error::other(text));
                }
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, bytes: usize) {
        self.current.advance(bytes);
    }
}

impl Supply for BlockingStream {
    fn take_bytes(&mut self, most: usize) -> std::io::Result<Bytes> {
        let held = self.fill_buf()?.len();
        Ok(self.current.split_to(held.min(most)))
    }
}

impl Read for BlockingStream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let piece = self.fill_buf()?;
        let n = buffer.len().min(piece.len());
        buffer[..n].copy_from_slice(&piece[..n]);
        self.consume(n);
        Ok(n)
    }
}
