//! Bytes on their way between a task and a thread that may block.

use crate::error::{Error, Result};
use bytes::Bytes;
use std::io::Read;
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

impl Read for BlockingStream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                None => return Ok(0),
                Some(Ok(piece)) => self.current = piece,
                Some(Err(e)) => {
                    let text = e.one_line();
                    self.failed = Some(e);
                    return Err(std::io::Error::other(text));
                }
            }
        }
        let n = buffer.len().min(self.current.len());
        buffer[..n].copy_from_slice(&self.current.split_to(n));
        Ok(n)
    }
}
