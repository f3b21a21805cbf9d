//! Errors that come out of a reader as they are.

use crate::error::{Error, Kind};
use crate::repository::reader::Pieces;
use bytes::Bytes;
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};

/// Where a stage leaves what it found; the first one counts.
#[derive(Clone, Debug, Default)]
pub struct Fault(Arc<Mutex<Option<Error>>>);

impl Fault {
    /// Keeps an error and gives one that can be returned from a reader.
    pub fn found(&self, e: Error) -> std::io::Error {
        let text = e.one_line();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(e);
        std::io::Error::other(text)
    }

    /// An error of a stage that has another one below it: only if nobody below found one.
    pub fn damaged(&self, what: &str, hint: &str, e: std::io::Error) -> std::io::Error {
        self.found(Error::new(Kind::Damaged, what).because(e).hint(hint))
    }

    /// The first error.
    pub fn take(&self) -> Option<Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A blocking reader over pieces.
pub struct Incoming {
    pieces: Pieces,
    current: Bytes,
    fault: Fault,
}

impl Incoming {
    /// Wraps the receiver; use it on a thread that may block.
    pub fn new(pieces: Pieces, fault: Fault) -> Self {
        Incoming { pieces, current: Bytes::new(), fault }
    }
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                None => return Ok(0),
                Some(Ok(piece)) => self.current = piece,
                Some(Err(e)) => return Err(self.fault.found(e)),
            }
        }
        let n = buffer.len().min(self.current.len());
        buffer[..n].copy_from_slice(&self.current.split_to(n));
        Ok(n)
    }
}

/// A reader whose first bytes were looked at.
pub struct Peeked<R> {
    first: Vec<u8>,
    at: usize,
    inner: R,
}

impl<R: Read> Peeked<R> {
    /// Reads up to `n` bytes ahead.
    ///
    /// # Errors
    /// As the reader.
    pub fn new(mut inner: R, n: usize) -> std::io::Result<Self> {
        let mut first = vec![0; n];
        let mut filled = 0;
        while filled < n {
            match inner.read(&mut first[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        first.truncate(filled);
        Ok(Peeked { first, at: 0, inner })
    }

    /// The bytes that come next; all there is, when they are fewer than asked for.
    pub fn first(&self) -> &[u8] {
        &self.first
    }
}

impl<R: Read> Read for Peeked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.at < self.first.len() {
            let n = buffer.len().min(self.first.len() - self.at);
            buffer[..n].copy_from_slice(&self.first[self.at..self.at + n]);
            self.at += n;
            return Ok(n);
        }
        self.inner.read(buffer)
    }
}
