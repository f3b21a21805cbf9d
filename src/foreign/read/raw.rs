//! The bytes of a file as they lie in the store, and whether they are those that the checksums speak of.

use super::super::sets::Part;
use crate::error::{Error, Kind, Result};
use crate::repository::reader::Pieces;
use crate::storage::readonly::ReadOnly;
use futures::{StreamExt, stream};
use openssl::sha::Sha256;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Bytes that are fetched at once.
const PIECE: u64 = 4 << 20;
/// Pieces that are fetched ahead of the reader.
const AHEAD: usize = 3;

/// Whether the bytes were the right ones, when there is somebody who knows.
pub struct Verdict(Option<oneshot::Receiver<Result<()>>>);

impl Verdict {
    /// Waits until all bytes were seen, whoever read them. Once.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when the checksum disagrees; why the file could not be read to its end.
    pub fn wait(&mut self) -> Result<()> {
        match self.0.take().map(oneshot::Receiver::blocking_recv) {
            Some(Ok(verdict)) => verdict,
            Some(Err(_)) | None => Ok(()),
        }
    }
}

/// Fetches a file. Where a checksum is known the bytes are counted to the end although the reader has gone away: a file
/// that is another one explains what the reader found.
pub fn fetch(store: Arc<dyn ReadOnly>, part: &Part) -> (Pieces, Verdict) {
    let (sender, receiver) = mpsc::channel(1);
    let (tell, verdict) = oneshot::channel();
    let object = part.object.clone();
    let expected = part.sum.as_ref().and_then(|s| s.sha256.clone());
    let knows = expected.is_some();
    tokio::spawn(async move {
        let offsets = (0..object.size).step_by(PIECE as usize);
        let fetched = stream::iter(offsets).map(|offset| {
            let (store, object) = (store.clone(), &object);
            async move { store.range(object, offset, PIECE.min(object.size - offset)).await }
        });
        let mut fetched = std::pin::pin!(fetched.buffered(AHEAD));
        let mut hash = Sha256::new();
        let mut listening = true;
        while let Some(piece) = fetched.next().await {
            match piece {
                Ok(bytes) => {
                    if knows {
                        hash.update(&bytes);
                    }
                    listening = listening && sender.send(Ok(bytes)).await.is_ok();
                    if !listening && !knows {
                        return;
                    }
                }
                Err(e) => {
                    let e = Error::from(e).do_instead("Check that the file is still there and can be read.");
                    let _ = tell.send(Err(e.again()));
                    let _ = sender.send(Err(e)).await;
                    return;
                }
            }
        }
        let found = hash.finish().iter().map(|b| format!("{b:02x}")).collect::<String>();
        let verdict = match expected {
            Some(expected) if expected != found => {
                Err(Error::new(Kind::Damaged, "the checksum beside the file is of other content")
                    .because(format!("SHA-256 is {found}, and {expected} is written"))
                    .hint("The file was changed or damaged after its checksum was written; take another set."))
            }
            _ => Ok(()),
        };
        let _ = tell.send(verdict);
    });
    (receiver, Verdict(knows.then_some(verdict)))
}
