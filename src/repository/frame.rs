//! The zstd frame that a pack's plaintext lies in, made and read in one call each.
//!
//! Both ends know the length beforehand, so nothing grows while it is filled, and each thread keeps the contexts of zstd:
//! making those for every pack, and a buffer that doubled its way up, was a tenth of a restore's CPU time.

use std::cell::RefCell;
use std::io::{Error, ErrorKind, Result};
use zstd::bulk::{Compressor, Decompressor};

thread_local! {
    static COMPRESSOR: RefCell<Option<(i32, Compressor<'static>)>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Compresses at a level of zstd.
///
/// # Errors
/// Those of zstd: no memory, or a level that it does not have.
pub fn compress(plain: &[u8], level: i32) -> Result<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|slot| {
        if slot.as_ref().is_none_or(|(l, _)| *l != level) {
            *slot = Some((level, Compressor::new(level)?));
        }
        let (_, compressor) = slot.as_mut().ok_or(ErrorKind::Other)?;
        compressor.compress(plain)
    })
}

/// Decompresses what must be exactly `length` bytes, whatever the frame claims.
///
/// # Errors
/// [`ErrorKind::Other`] of zstd for what is no frame, or holds more; [`ErrorKind::UnexpectedEof`] for one that holds less.
pub fn decompress(frame: &[u8], length: usize) -> Result<Vec<u8>> {
    let plain = DECOMPRESSOR.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = Some(Decompressor::new()?);
        }
        slot.as_mut().ok_or(ErrorKind::Other)?.decompress(frame, length)
    })?;
    if plain.len() != length {
        return Err(Error::new(ErrorKind::UnexpectedEof, format!("{} bytes instead of {length}", plain.len())));
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_length_that_is_known_comes_out() {
        let plain = b"the same and the same and the same".repeat(1000);
        let frame = compress(&plain, 2).unwrap();
        assert_eq!(decompress(&frame, plain.len()).unwrap(), plain);
        // After each of these the thread's context must still be good for the next.
        for (frame, length) in [
            (&frame[..], plain.len() - 1),
            (&frame[..], plain.len() + 1),
            (&frame[..], 0),
            (&frame[..frame.len() - 1], plain.len()),
            (&frame[1..], plain.len()),
            (&[][..], 1),
        ] {
            assert!(decompress(frame, length).is_err(), "{} bytes for {length}", frame.len());
            assert!(decompress(&compress(b"good", 3).unwrap(), 4).is_ok());
        }
        assert_eq!(decompress(&compress(b"", 1).unwrap(), 0).unwrap(), b"");
    }
}
