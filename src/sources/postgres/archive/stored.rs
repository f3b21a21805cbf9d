//! An archive wherever it is kept: its bytes in any order, and its head.

use super::ArchiveError;
use super::head::Head;
use crate::error::{Error, Kind, Result};
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio_util::io::{StreamReader, SyncIoBridge};

/// The bytes of an archive, in any order.
pub trait Archive: Send + Sync {
    /// A stream of `length` bytes from `offset` on.
    fn range(&self, offset: u64, length: u64) -> mpsc::Receiver<Result<Bytes>>;

    /// Bytes in all.
    fn length(&self) -> u64;
}

/// Why nothing can be picked out of an archive.
pub fn newer() -> Error {
    Error::new(Kind::Newer, "the archive is of a pg_dump that is newer than this version, and cannot be taken apart")
        .hint("Restore the whole database beside the live one with --to, and copy from there.")
}

/// The head of an archive and its length, or nothing when it is of a version that is not taken apart.
///
/// # Errors
/// [`Kind::Damaged`], or why it could not be read.
pub async fn head(archive: &dyn Archive) -> Result<Option<(Head, u64)>> {
    let pieces = archive.range(0, archive.length());
    let pieces = futures::stream::unfold(pieces, |mut p| async { Some((p.recv().await?, p)) });
    // An error of the store must come out as it is, not as the end of an archive.
    let (errors, mut error) = mpsc::channel(1);
    let pieces = pieces.map(move |piece| {
        piece.map_err(|e| {
            let text = e.one_line();
            let _ = errors.try_send(e);
            std::io::Error::other(text)
        })
    });
    let mut reader = SyncIoBridge::new(StreamReader::new(Box::pin(pieces)));
    let read = tokio::task::spawn_blocking(move || {
        let mut counting = Counting { inner: &mut reader, bytes: 0 };
        let head = Head::read(&mut counting);
        (head, counting.bytes)
    });
    let (head, bytes) = read.await.map_err(Error::panicked("reading"))?;
    match head {
        Ok(head) => Ok(Some((head, bytes))),
        Err(ArchiveError::Unknown(..)) => Ok(None),
        Err(e) => Err(match error.try_recv() {
            Ok(e) => e,
            Err(_) => Error::new(Kind::Damaged, "the archive cannot be read").because(e),
        }),
    }
}

struct Counting<R> {
    inner: R,
    bytes: u64,
}

impl<R: std::io::Read> std::io::Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.bytes += n as u64;
        Ok(n)
    }
}
