//! The payload of an age file, opened: chunks of 64 KiB, each of which proves itself and its place
//! (STREAM in <https://age-encryption.org/v1>, section "Payload").
//!
//! The reader of the age crate does the same at a quarter of the speed, and opening was a sixth of the processor time of a
//! restore. OpenSSL has the cipher for whatever the processor can do. What is written comes from the age crate, so that
//! two implementations must agree on each pack before it is stored.

use openssl::cipher::Cipher;
use openssl::cipher_ctx::CipherCtx;

/// Plaintext of each chunk but the last one, which has at least one byte unless it is the only one.
const CHUNK: usize = 64 * 1024;
/// The code behind each chunk.
const TAG: usize = 16;

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
    let failed = |_| "OpenSSL has no ChaCha20-Poly1305";
    let mut cipher = CipherCtx::new().map_err(failed)?;
    cipher.decrypt_init(Some(Cipher::chacha20_poly1305()), Some(key), None).map_err(failed)?;
    let mut plain = vec![0; length];
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
    Ok(plain)
}
