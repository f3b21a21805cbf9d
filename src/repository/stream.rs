//! The payload of an age file, opened: chunks of 64 KiB, each of which proves itself and its place
//! (STREAM in <https://age-encryption.org/v1>, section "Payload").
//!
//! The reader of the age crate does the same at a quarter of the speed, and opening was a sixth of the processor time of a
//! restore. OpenSSL has the cipher for whatever the processor can do. What is written comes from the age crate, so that
//! two implementations must agree on each pack before it is stored.

use openssl::cipher::Cipher;
use openssl::cipher_ctx::CipherCtx;
use std::sync::LazyLock;
use zeroize::Zeroizing;

/// Plaintext of each chunk but the last one, which has at least one byte unless it is the only one.
const CHUNK: usize = 64 * 1024;
/// The code behind each chunk.
const TAG: usize = 16;

/// Whether OpenSSL gives the cipher away here: where it is confined to what a standard of the United States allows it does
/// not.
pub fn usable() -> bool {
    static USABLE: LazyLock<bool> = LazyLock::new(|| {
        let begun =
            |mut c: CipherCtx| c.decrypt_init(Some(Cipher::chacha20_poly1305()), Some(&[0; 32]), Some(&[0; 12]));
        CipherCtx::new().and_then(begun).is_ok()
    });
    *USABLE
}

/// Opens a payload of at most `limit` bytes of plaintext with its key, which is no other payload's.
///
/// # Errors
/// What is wrong with it: it was cut, extended or changed, its chunks were moved, or it is too long. Then nothing of it
/// is returned.
pub fn open(key: &[u8; 32], payload: &[u8], limit: usize) -> Result<Vec<u8>, &'static str> {
    let chunks = payload.len().div_ceil(CHUNK + TAG);
    let last = payload.len() - chunks.saturating_sub(1) * (CHUNK + TAG);
    if last < TAG || (last == TAG && chunks > 1) {
        return Err("it ends in the middle of a chunk");
    }
    let length = payload.len() - chunks * TAG;
    if length > limit {
        return Err("longer than it may be");
    }
    let failed = |_| "OpenSSL does not go on with it";
    let mut cipher = CipherCtx::new().map_err(failed)?;
    cipher.decrypt_init(Some(Cipher::chacha20_poly1305()), Some(key), None).map_err(failed)?;
    // Decrypted first and proven then; of what is not proven nothing stays in memory.
    let mut plain = Zeroizing::new(vec![0; length]);
    let mut rest = &mut plain[..];
    for (n, chunk) in payload.chunks(CHUNK + TAG).enumerate() {
        let (sealed, tag) = chunk.split_at(chunk.len() - TAG);
        let (out, behind) = rest.split_at_mut(sealed.len());
        rest = behind;
        // Eleven bytes of a counter, highest first, and one that is 1 for the last chunk.
        let mut nonce = [0; 12];
        nonce[3..11].copy_from_slice(&(n as u64).to_be_bytes());
        nonce[11] = u8::from(n + 1 == chunks);
        cipher.decrypt_init(None, None, Some(&nonce)).map_err(failed)?;
        cipher.set_tag(tag).map_err(failed)?;
        let opened = cipher.cipher_update(sealed, Some(out)).and_then(|_| cipher.cipher_final(&mut []));
        opened.map_err(|_| "a chunk was changed, or is not where it was")?;
    }
    Ok(std::mem::take(&mut *plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [7; 32];

    /// A chunk as the format says.
    fn chunk(number: u64, last: bool, plain: &[u8]) -> Vec<u8> {
        let mut nonce = [0; 12];
        nonce[3..11].copy_from_slice(&number.to_be_bytes());
        nonce[11] = u8::from(last);
        let mut tag = [0; TAG];
        let cipher = openssl::symm::Cipher::chacha20_poly1305();
        let sealed = openssl::symm::encrypt_aead(cipher, &KEY, Some(&nonce), &[], plain, &mut tag).unwrap();
        [sealed, tag.to_vec()].concat()
    }

    #[test]
    fn an_empty_chunk_is_the_only_one_or_refused_though_it_is_authentic() {
        let full = [1; CHUNK];
        assert_eq!(open(&KEY, &chunk(0, true, b""), 0).unwrap(), b"");
        assert_eq!(open(&KEY, &chunk(0, true, &full), CHUNK).unwrap(), full);
        assert_eq!(
            open(&KEY, &[chunk(0, false, &full), chunk(1, true, b"x")].concat(), CHUNK + 1).unwrap().len(),
            CHUNK + 1
        );
        assert!(open(&KEY, &[chunk(0, false, &full), chunk(1, true, b"")].concat(), CHUNK).is_err());
    }

    #[test]
    fn each_chunk_says_whether_it_is_the_last() {
        let full = [1; CHUNK];
        assert!(open(&KEY, &chunk(0, false, b"x"), 1).is_err());
        assert!(open(&KEY, &[chunk(0, true, &full), chunk(1, true, b"x")].concat(), CHUNK + 1).is_err());
        assert!(open(&KEY, &[chunk(0, false, &full), chunk(2, true, b"x")].concat(), CHUNK + 1).is_err());
        assert!(open(&[8; 32], &chunk(0, true, b"x"), 1).is_err());
    }

    #[test]
    fn openssl_has_the_cipher_here() {
        assert!(usable());
    }
}
