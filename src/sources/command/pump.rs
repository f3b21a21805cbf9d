//! One stream to several who take it, at the pace of the slowest, with no copy in between.

use crate::error::Result;
use crate::host::exec::Input;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::io::AsyncWriteExt;

/// Somebody who takes the stream.
pub struct Sink {
    to: Input,
    failed: Option<std::io::Error>,
}

impl Sink {
    /// One who takes it from here.
    pub fn new(to: Input) -> Self {
        Sink { to, failed: None }
    }

    /// Whether he stopped taking before the end.
    pub fn let_go(&self) -> bool {
        self.failed.is_some()
    }

    /// Why he did.
    pub fn why(self) -> Option<std::io::Error> {
        self.failed
    }
}

/// Hands a stream to all, and gives its length. The first one is whom it is for: when he lets go, it ends early. The others
/// are passed over when they do. The inputs are closed at the end, unless the stream broke: then a program must not
/// take what came for the whole.
///
/// # Errors
/// That of the stream.
pub async fn pump(mut from: impl Stream<Item = Result<Bytes>> + Unpin, sinks: &mut [Sink]) -> Result<u64> {
    let mut length = 0;
    while let Some(piece) = from.next().await {
        let piece = piece?;
        length += piece.len() as u64;
        for sink in sinks.iter_mut().filter(|s| !s.let_go()) {
            sink.failed = sink.to.write_all(&piece).await.err();
        }
        if sinks.first().is_none_or(Sink::let_go) {
            break;
        }
    }
    for sink in sinks.iter_mut().filter(|s| !s.let_go()) {
        sink.failed = sink.to.shutdown().await.err();
    }
    Ok(length)
}
