//! Bytes on their way between a task and a thread that may block.

use crate::error::{Error, Result};
use bytes::{Buf, Bytes};
use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
    given_up: Arc<AtomicBool>,
}

/// Whoever waits for what a thread makes of a stream. When he is dropped, the stream ends with an error: a thread cannot be
/// dropped, and would go on to the end for nobody.
#[derive(Debug)]
pub struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl BlockingStream {
    /// Wraps the receiver; use it on a thread that may block.
    pub fn new(pieces: mpsc::Receiver<Result<Bytes>>) -> Self {
        BlockingStream { pieces, current: Bytes::new(), failed: None, given_up: Arc::default() }
    }

    /// The same as long as somebody waits for it.
    pub fn awaited(pieces: mpsc::Receiver<Result<Bytes>>) -> (Self, Waiting) {
        let stream = BlockingStream::new(pieces);
        let waiting = Waiting(stream.given_up.clone());
        (stream, waiting)
    }

    /// The error that ended the stream, in its own words; `io::Error` cannot carry it.
    pub fn take_error(&mut self) -> Option<Error> {
        self.failed.take()
    }
}

impl BufRead for BlockingStream {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        if self.given_up.load(Ordering::Relaxed) {
            return Err(std::io::Error::other("nobody waits for it any more"));
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_nobody_waits_for_any_more_ends_with_an_error() {
        let (sender, pieces) = mpsc::channel(4);
        sender.blocking_send(Ok(Bytes::from_static(b"abcdef"))).unwrap();
        let (mut stream, waiting) = BlockingStream::awaited(pieces);
        assert_eq!(&stream.take_bytes(4).unwrap()[..], b"abcd");
        drop(waiting);
        assert!(stream.take_bytes(4).is_err() && stream.read(&mut [0; 4]).is_err());
    }
}
