//! One file, as what it holds: fetched in pieces, decrypted, decompressed, in bounded memory, and none of it trusted.
//!
//! Each stage is a reader over the one before, on a thread that may block. What a stage finds wrong is kept in a
//! [`Fault`] in its own words, since [`std::io::Error`] has no room for them; whoever reads asks
//! [`Content::explain`]. Every reader must be read to its end: only there are checksums and paddings.

pub mod age;
pub mod compress;
pub mod fault;
pub mod gpg;
pub mod known;
pub mod openssl;
pub mod raw;
pub mod zip;

use super::layout::{Compression, Encryption, FileRule};
use super::sets::Part;
use crate::error::{Error, Kind, Result};
use crate::repository::reader::Pieces;
use crate::storage::readonly::ReadOnly;
use fault::{Fault, Incoming};
use raw::Verdict;
use std::io::Read;
use std::sync::Arc;

/// A file that is being read.
pub struct Content {
    stream: Box<dyn Read + Send>,
    fault: Fault,
    verdict: Verdict,
    place: String,
}

/// A file that can be opened for reading, again and again.
#[derive(Clone)]
pub struct Openable {
    /// Where it lies.
    pub store: Arc<dyn ReadOnly>,
    /// Which it is.
    pub part: Part,
    /// What it is.
    pub rule: FileRule,
}

impl Openable {
    /// The file's URL.
    pub fn place(&self) -> String {
        format!("{}/{}", self.store.url(), self.part.object.key)
    }

    /// Begins to read what the file holds. Of a ZIP, the entry of the rule.
    ///
    /// # Errors
    /// What can be told before the first byte: a program or a key file that is not there.
    pub async fn open(&self) -> Result<Content> {
        let (raw, verdict) = raw::fetch(self.store.clone(), &self.part);
        let fault = Fault::default();
        let place = self.place();
        if self.rule.compression == Compression::Zip {
            return zip::entry(self, verdict, raw, fault).await;
        }
        let plain: Box<dyn Read + Send> = match &self.rule.encryption {
            Encryption::None => Box::new(Incoming::new(raw, fault.clone())),
            Encryption::Openssl(options) => {
                let reader = Incoming::new(raw, fault.clone());
                Box::new(openssl::Decrypting::new(
                    reader,
                    options.clone(),
                    known::Wanted::of(&self.rule),
                    fault.clone(),
                ))
            }
            Encryption::Gpg { passphrase, key_file } => {
                let out: Pieces = gpg::decrypt(raw, passphrase.clone(), key_file.clone()).await?;
                Box::new(Incoming::new(out, fault.clone()))
            }
            Encryption::Age { passphrase, identity_file } => {
                let keys = age::Keys::read(passphrase.as_ref(), identity_file.as_deref())?;
                Box::new(age::Decrypting::new(Incoming::new(raw, fault.clone()), keys, fault.clone()))
            }
        };
        let stream = compress::decompress(plain, self.rule.compression, fault.clone());
        Ok(Content { stream, fault, verdict, place })
    }

    /// Opens it and gives it to `work` on a thread that may block; what `work` fails with is explained.
    ///
    /// # Errors
    /// What went wrong on the way, in the words of whoever found it.
    pub async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Content) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let mut content = self.open().await?;
        let done = tokio::task::spawn_blocking(move || {
            let done = work(&mut content).and_then(|done| content.finish().map(|()| done));
            done.map_err(|e| content.explain(e))
        });
        done.await.map_err(Error::panicked("reading"))?
    }
}

impl Content {
    /// Reads what is left, so that every checksum was compared.
    ///
    /// # Errors
    /// What the stages found.
    pub fn finish(&mut self) -> Result<()> {
        let mut rest = [0; 64 << 10];
        loop {
            match self.stream.read(&mut rest) {
                Ok(0) => break,
                Ok(_) => {}
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(unreadable(e)),
            }
        }
        self.verdict.wait()
    }

    /// Why reading failed: a file that is not what its checksum says explains everything else, then what a stage found,
    /// then `e`.
    pub fn explain(&mut self, e: Error) -> Error {
        let found = self.fault.take();
        let storage = found.as_ref().is_some_and(|f| f.kind == Kind::Storage);
        let e = match (storage, self.verdict.wait()) {
            (false, Err(disagrees)) => disagrees,
            _ => found.unwrap_or(e),
        };
        e.at(&self.place)
    }
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.stream.read(buffer)
    }
}

/// The error of a stream that broke without a word of its own.
pub fn unreadable(e: std::io::Error) -> Error {
    Error::new(Kind::Damaged, "the file cannot be read to its end").because(e)
}
