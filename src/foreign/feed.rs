//! Bytes that are written, for an artifact that reads.

use crate::error::{Error, Kind, Result};
use crate::repository::writer::{ArtifactWriter, PendingArtifact};
use std::io::{BufWriter, PipeWriter, Write};
use std::thread::JoinHandle;

/// Bytes that go over at once.
const PIECE: usize = 64 << 10;

/// An artifact that is being written. Dropped before its end, it is nothing.
pub struct Feed {
    pipe: BufWriter<PipeWriter>,
    reading: JoinHandle<Result<PendingArtifact>>,
}

impl Feed {
    /// Begins.
    ///
    /// # Errors
    /// When the system gives no pipe.
    pub fn new(mut artifact: ArtifactWriter) -> Result<Self> {
        let (mut reader, writer) =
            std::io::pipe().map_err(|e| Error::new(Kind::Internal, "a pipe cannot be made").because(e))?;
        let reading = std::thread::spawn(move || {
            artifact.stream(&mut reader)?;
            artifact.finish()
        });
        Ok(Feed { pipe: BufWriter::with_capacity(PIECE, writer), reading })
    }

    /// Ends it.
    ///
    /// # Errors
    /// Why it could not be stored.
    pub fn end(self) -> Result<PendingArtifact> {
        let Feed { mut pipe, reading } = self;
        let flushed = pipe.flush();
        // Only when the pipe is closed the reader comes to its end.
        drop(pipe);
        let stored = reading.join().map_err(Error::panicked("storing"))?;
        let stored = stored?;
        flushed.map_err(|e| Error::new(Kind::Internal, "an artifact was not taken to its end").because(e))?;
        Ok(stored)
    }
}

impl Write for Feed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.pipe.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.pipe.flush()
    }
}
