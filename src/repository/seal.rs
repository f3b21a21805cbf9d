//! Sealing and opening with age: the only file that calls the `age` crate for payloads.
//!
//! A sealed object is a stock age file, so that `age -d` opens it on a machine without Backstay. age proves
//! that nobody changed the bytes between seal and opening, and nothing about who wrote them; authorship comes
//! from the keyed names of packs and the codes of [`super::record`].

use crate::error::{Error, Kind, Result};
use age::{DecryptError, Decryptor, Encryptor, Identity, Recipient};
use std::io::{Read, Write};

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
    let decryptor = Decryptor::new_buffered(sealed).map_err(|e| damaged(&e))?;
    let reader = decryptor.decrypt(identities).map_err(|e| match e {
        DecryptError::NoMatchingKeys => OpenError::NoMatchingKey,
        other => damaged(&other),
    })?;
    let mut plain = Vec::with_capacity(sealed.len().min(limit));
    // One byte more than allowed tells "too long" from "exactly at the limit".
    reader.take(limit as u64 + 1).read_to_end(&mut plain).map_err(|e| damaged(&e))?;
    if plain.len() > limit {
        return Err(OpenError::Damaged("longer than it may be".into()));
    }
    Ok(plain)
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
}
