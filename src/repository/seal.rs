//! Sealing and opening with age: the only file that calls the `age` crate for what is stored. The payload is opened by
//! [`super::stream`].
//!
//! A sealed object is a stock age file, so that `age -d` opens it on a machine without Backstay. age proves
//! that nobody changed the bytes between seal and opening, and nothing about who wrote them; authorship comes
//! from the keyed names of packs and the codes of [`super::record`].

use super::stream;
use crate::error::{Error, Kind, Result};
use age::secrecy::ExposeSecret;
use age::{DecryptError, Decryptor, Encryptor, Identity, Recipient};
use age_core::format::{FileKey, Stanza};
use age_core::primitives::hkdf;
use std::cell::RefCell;
use std::io::{Read, Write};
use zeroize::Zeroizing;

/// Seals bytes to every recipient given.
///
/// # Errors
/// [`Kind::Internal`] when the age crate fails, which means that no recipient was given.
pub fn seal<'a>(recipients: impl Iterator<Item = &'a dyn Recipient>, plain: &[u8]) -> Result<Vec<u8>> {
    let failed = |e: &dyn std::fmt::Display| Error::new(Kind::Internal, "sealing failed").because(e.to_string());
    let encryptor = Encryptor::with_recipients(recipients).map_err(|e| failed(&e))?;
    // Header of about 400 bytes for three recipients, then 16 bytes for each 64 KiB.
    let mut out = Vec::with_capacity(plain.len() + plain.len() / 4096 + 1024);
    let mut writer = encryptor.wrap_output(&mut out).map_err(|e| failed(&e))?;
    writer.write_all(plain).map_err(|e| failed(&e))?;
    writer.finish().map_err(|e| failed(&e))?;
    Ok(out)
}

/// Why an object could not be opened.
#[derive(Debug, PartialEq, Eq)]
pub enum OpenError {
    /// None of the identities is one of its recipients.
    NoMatchingKey,
    /// It is not an age file, was cut, extended or changed, or is larger than allowed.
    Damaged(String),
}

/// Opens a sealed object of at most `limit` bytes of plaintext.
///
/// # Errors
/// See [`OpenError`]; nothing of the plaintext is returned unless all of it is authentic.
pub fn open<'a>(
    identities: impl Iterator<Item = &'a dyn Identity>,
    sealed: &[u8],
    limit: usize,
) -> std::result::Result<Vec<u8>, OpenError> {
    let damaged = |e: &dyn std::fmt::Display| OpenError::Damaged(e.to_string());
    let mut payload = sealed;
    let decryptor = Decryptor::new_buffered(&mut payload).map_err(|e| damaged(&e))?;
    let found = RefCell::default();
    let identities: Vec<_> = identities.map(|identity| Remembering { identity, found: &found }).collect();
    // This proves the header too.
    let reader = decryptor.decrypt(identities.iter().map(|i| i as &dyn Identity)).map_err(|e| match e {
        DecryptError::NoMatchingKeys => OpenError::NoMatchingKey,
        other => damaged(&other),
    })?;
    if !stream::usable() {
        return by_age(reader, limit).map_err(|e| damaged(&e));
    }
    drop(reader);
    let file_key = found.take().ok_or_else(|| damaged(&"its key is missing"))?;
    // Behind the header and before the chunks.
    let nonce = &sealed[..sealed.len() - payload.len()];
    let nonce = nonce.last_chunk::<NONCE>().ok_or_else(|| damaged(&"its nonce is missing"))?;
    let key = Zeroizing::new(hkdf(nonce, b"payload", file_key.expose_secret()));
    stream::open(&key, payload, limit).map_err(|e| damaged(&e))
}

/// The payload opened by the age crate, which takes four times as long and needs no OpenSSL.
fn by_age(reader: impl Read, limit: usize) -> std::io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    reader.take(limit as u64 + 1).read_to_end(&mut plain)?;
    if plain.len() > limit {
        return Err(std::io::Error::other("longer than it may be"));
    }
    Ok(plain)
}

/// Random bytes that the key of a payload is derived with.
const NONCE: usize = 16;

/// An identity that keeps the key of the file that it opened.
struct Remembering<'a> {
    identity: &'a dyn Identity,
    found: &'a RefCell<Option<FileKey>>,
}

impl Remembering<'_> {
    fn remember(
        &self,
        opened: Option<std::result::Result<FileKey, DecryptError>>,
    ) -> Option<std::result::Result<FileKey, DecryptError>> {
        if let Some(Ok(key)) = &opened {
            self.found.replace(Some(FileKey::init_with_mut(|mine| mine.copy_from_slice(key.expose_secret()))));
        }
        opened
    }
}

impl Identity for Remembering<'_> {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<std::result::Result<FileKey, DecryptError>> {
        self.remember(self.identity.unwrap_stanza(stanza))
    }

    fn unwrap_stanzas(&self, stanzas: &[Stanza]) -> Option<std::result::Result<FileKey, DecryptError>> {
        self.remember(self.identity.unwrap_stanzas(stanzas))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use age::x25519;

    fn one(id: &x25519::Identity) -> impl Iterator<Item = &dyn Identity> {
        std::iter::once(id as &dyn Identity)
    }

    #[test]
    fn only_the_recipients_open_it_and_no_byte_may_change() {
        let (a, b) = (x25519::Identity::generate(), x25519::Identity::generate());
        let to = a.to_public();
        let sealed = seal(std::iter::once(&to as &dyn Recipient), b"hello").unwrap();
        assert_eq!(open(one(&a), &sealed, 5).unwrap(), b"hello");
        assert_eq!(open(one(&b), &sealed, 5), Err(OpenError::NoMatchingKey));
        assert!(matches!(open(one(&a), &sealed, 4), Err(OpenError::Damaged(_))));
        for i in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[i] ^= 1;
            assert!(open(one(&a), &bad, 5).is_err(), "flip at {i}");
        }
        let longer = [&sealed[..], &sealed[..]].concat();
        assert!(open(one(&a), &longer, 100).is_err());
    }

    #[test]
    fn what_age_opens_is_opened_alike_whatever_its_length() {
        let id = x25519::Identity::generate();
        let to = id.to_public();
        const CHUNK: usize = 65536;
        // The last one has a chunk whose number takes two bytes.
        let lengths =
            [0, 1, 15, 16, 17, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 1, 2 * CHUNK, 3 * CHUNK + 77, 257 * CHUNK];
        for length in lengths {
            let plain: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            let sealed = seal(std::iter::once(&to as &dyn Recipient), &plain).unwrap();
            assert_eq!(open(one(&id), &sealed, length).unwrap(), plain);
            let reader = || Decryptor::new(&sealed[..]).unwrap().decrypt(one(&id)).unwrap();
            assert_eq!(by_age(reader(), length).unwrap(), plain);
            assert!(length == 0 || by_age(reader(), length - 1).is_err());
        }
    }

    #[test]
    fn chunks_may_not_be_cut_off_moved_repeated_or_added() {
        let id = x25519::Identity::generate();
        let to = id.to_public();
        const STORED: usize = 65536 + 16;
        let plain: Vec<u8> = (0..3 * 65536).map(|i| (i / 65536) as u8).collect();
        let sealed = seal(std::iter::once(&to as &dyn Recipient), &plain).unwrap();
        let (header, chunks) = sealed.split_at(sealed.len() - 3 * STORED);
        let part = |n: usize| &chunks[n * STORED..][..STORED];
        let refused = |parts: &[&[u8]]| {
            let changed = [header, &parts.concat()].concat();
            assert!(matches!(open(one(&id), &changed, 10 << 20), Err(OpenError::Damaged(_))));
        };
        assert_eq!(open(one(&id), &[header, part(0), part(1), part(2)].concat(), 10 << 20).unwrap(), plain);
        refused(&[]);
        refused(&[part(0)]);
        refused(&[part(0), part(1)]);
        refused(&[part(0), part(1), &part(2)[..STORED - 1]]);
        refused(&[part(0), part(1), &part(2)[..15]]);
        refused(&[part(0), part(1), &part(2)[..16]]);
        refused(&[part(1), part(0), part(2)]);
        refused(&[part(2)]);
        refused(&[part(0), part(0), part(1), part(2)]);
        refused(&[part(0), part(1), part(2), part(2)]);
        refused(&[part(0), part(1), part(2), &[0; 16]]);
        refused(&[part(0), part(1), part(2), &[0]]);
        // A nonce of another payload is another key.
        let (_, nonce) = header.split_at(header.len() - 16);
        let mut other = nonce.to_vec();
        other[7] ^= 1;
        let changed = [&header[..header.len() - 16], &other, chunks].concat();
        assert!(matches!(open(one(&id), &changed, 10 << 20), Err(OpenError::Damaged(_))));
    }
}
