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
        self.seal_by(plain, |frame| {
            let witness = self.witness.as_ref().map(x25519::Identity::to_public);
            let recipients =
                std::iter::once(&self.recipient as &dyn Recipient).chain(witness.iter().map(|w| w as &dyn Recipient));
            seal::seal(recipients, frame)
        })
    }

    /// The same with a way of making the sealed object from the compressed frame, which is not trusted.
    fn seal_by(&self, plain: &[u8], make: impl FnOnce(&[u8]) -> Result<Vec<u8>>) -> Result<Sealed> {
        let failed = |e: std::io::Error| Error::new(Kind::Internal, "compressing a pack failed").because(e);
        let id = self.secret.name_of(plain);
        let bytes = make(&frame::compress(plain, self.level).map_err(failed)?)?;
        if let Some(witness) = &self.witness
            && !self.gives_back(witness, &bytes, id, plain.len())
        {
            return Err(Error::new(
                Kind::Internal,
                "a sealed pack did not give back its plaintext; it was not uploaded",
            )
            .hint("This points to broken memory on this machine: test it before you trust any backup made on it."));
        }
        let crc = crc32c::crc32c(&bytes);
        Ok(Sealed { id, bytes, crc })
    }

    /// Whether a sealed pack opens to the plaintext of this name. The name was taken before compression, so a bit of the
    /// plaintext that flipped since then shows here too.
    fn gives_back(&self, witness: &x25519::Identity, sealed: &[u8], id: PackId, length: usize) -> bool {
        let opened = seal::open(std::iter::once(witness as &dyn Identity), sealed, sealed.len());
        opened.is_ok_and(|frame| frame::decompress(&frame, length).is_ok_and(|back| self.secret.name_of(&back) == id))
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

    /// What may come of a pack between sealing and uploading: broken memory, or a library that is wrong.
    fn damaged(sealed: &[u8], other: &[u8]) -> Vec<Vec<u8>> {
        let flipped = |at: usize| {
            let mut bytes = sealed.to_vec();
            bytes[at] ^= 1;
            bytes
        };
        let n = sealed.len();
        vec![
            flipped(0),
            flipped(n / 2),
            flipped(n - 1),
            sealed[..n - 1].to_vec(),
            [sealed, b"x"].concat(),
            Vec::new(),
            other.to_vec(),
        ]
    }

    #[test]
    fn a_pack_that_is_damaged_while_it_is_sealed_is_refused_and_goes_unnoticed_where_that_is_off() {
        let (secret, epoch) = (VaultSecret::random(), x25519::Identity::generate());
        let plain = b"some text, and the same text, and the same text".repeat(100);
        for verify in [true, false] {
            let sealer = Sealer::new(secret.clone(), epoch.to_public(), 3, verify);
            let (sealed, other) = (sealer.seal(&plain).unwrap().bytes, sealer.seal(&plain[1..]).unwrap().bytes);
            for bytes in damaged(&sealed, &other) {
                match sealer.seal_by(&plain, |_| Ok(bytes.clone())) {
                    Ok(unnoticed) => assert!(!verify && unnoticed.bytes == bytes),
                    Err(e) => assert!(verify && e.kind == Kind::Internal && e.what.contains("not uploaded"), "{e}"),
                }
            }
            assert_eq!(sealer.seal_by(&plain, |_| Ok(sealed.clone())).unwrap().bytes, sealed);
        }
    }
}
