//! Bytes on their way between a task and a thread that may block.

use crate::error::{Error, Result};
use bytes::{Buf, Bytes};
use std::io::{BufRead, Read};
use tokio::sync::mpsc;

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

impl Read for BlockingStream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let piece = self.fill_buf()?;
        let n = buffer.len().min(piece.len());
        buffer[..n].copy_from_slice(&piece[..n]);
        self.consume(n);
        Ok(n)
    }
}
