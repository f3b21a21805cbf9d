//! Filling and sealing packs.

use super::slot::Slot;
use crate::error::{Error, Kind, Result};
use crate::model::{BlobId, PackId};
use crate::repository::frame;
use crate::repository::seal;
use crate::repository::secrets::VaultSecret;
use age::{Identity, Recipient, x25519};
use std::sync::Arc;

/// A pack is sealed when it holds this much.
pub const TARGET: usize = 4 * 1024 * 1024;
/// No pack holds more.
pub const MAX: usize = 8 * 1024 * 1024;
/// At the end of an artifact, an open pack below this goes on with other artifacts' ends.
pub const TAIL: usize = 2 * 1024 * 1024;

/// A pack that is being filled.
pub struct OpenPack {
    /// The plaintext so far.
    pub plain: Vec<u8>,
    /// Blobs in it: id, offset, length.
    pub blobs: Vec<(BlobId, u32, u32)>,
    /// What recipes hold on to.
    pub slot: Arc<Slot>,
    /// Its number in the table of known blobs, once it has one.
    pub home: Option<u32>,
}

impl Default for OpenPack {
    fn default() -> Self {
        OpenPack { plain: Vec::new(), blobs: Vec::new(), slot: Slot::new(), home: None }
    }
}

/// A sealed pack, ready to be stored.
pub struct Sealed {
    /// Name of the plaintext.
    pub id: PackId,
    /// The object.
    pub bytes: Vec<u8>,
    /// CRC-32C of the object.
    pub crc: u32,
}

/// Seals packs to an epoch, and to an identity that lives only in this process, through which each sealed pack
/// is opened again and compared before it leaves. (Stock age passes over the extra stanza.)
pub struct Sealer {
    secret: VaultSecret,
    recipient: x25519::Recipient,
    witness: Option<x25519::Identity>,
    level: i32,
}

impl Sealer {
    /// A sealer; `verify` turns the comparison on.
    pub fn new(secret: VaultSecret, recipient: x25519::Recipient, level: i32, verify: bool) -> Self {
        Sealer { secret, recipient, witness: verify.then(x25519::Identity::generate), level }
    }

    /// Compresses, seals and compares. CPU-bound.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the sealed pack does not give back its plaintext: broken memory, or a broken library.
    pub fn seal(&self, plain: &[u8]) -> Result<Sealed> {
        let failed = |e: std::io::Error| Error::new(Kind::Internal, "compressing a pack failed").because(e);
        let id = self.secret.name_of(plain);
        let frame = frame::compress(plain, self.level).map_err(failed)?;
        let witness = self.witness.as_ref().map(x25519::Identity::to_public);
        let recipients =
            std::iter::once(&self.recipient as &dyn Recipient).chain(witness.iter().map(|w| w as &dyn Recipient));
        let bytes = seal::seal(recipients, &frame)?;
        if let Some(witness) = &self.witness {
            let opened = seal::open(std::iter::once(witness as &dyn Identity), &bytes, frame.len());
            // By its name, which was taken before compression: a bit that flipped in the plaintext since then shows too.
            let same = opened.is_ok_and(|frame| {
                frame::decompress(&frame, plain.len()).is_ok_and(|back| self.secret.name_of(&back) == id)
            });
            if !same {
                return Err(Error::new(
                    Kind::Internal,
                    "a sealed pack did not give back its plaintext; it was not uploaded",
                )
                .hint(
                    "This points to broken memory on this machine: test it before you trust any backup made on it.",
                ));
            }
        }
        let crc = crc32c::crc32c(&bytes);
        Ok(Sealed { id, bytes, crc })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_pack_opens_with_the_epoch_identity_alone() {
        let (secret, epoch) = (VaultSecret::random(), x25519::Identity::generate());
        let sealer = Sealer::new(secret.clone(), epoch.to_public(), 3, true);
        let plain = b"some text, and the same text, and the same text".repeat(100);
        let sealed = sealer.seal(&plain).unwrap();
        assert_eq!(sealed.id, secret.name_of(&plain));
        let frame = seal::open(std::iter::once(&epoch as &dyn Identity), &sealed.bytes, MAX).unwrap();
        assert_eq!(zstd::bulk::decompress(&frame, plain.len()).unwrap(), plain);
        assert_eq!(sealer.seal(&plain).unwrap().id, sealed.id);
    }
}
