//! What the first bytes of a file tell: the only way to see that a password was wrong before megabytes of noise have
//! gone through.

use super::super::layout::{Compression, FileRule, Is};

/// Bytes that tell.
pub const ENOUGH: usize = 512;

/// What a file should be once it is decrypted.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    compression: Compression,
    is: Is,
}

impl Wanted {
    /// By the rule of the file.
    pub fn of(rule: &FileRule) -> Self {
        Wanted { compression: rule.compression, is: rule.is }
    }

    /// Whether what begins so can be it; nothing when that cannot be told.
    pub fn fits(self, first: &[u8]) -> Option<bool> {
        match self.compression {
            Compression::None => holds(self.is, first),
            Compression::Auto if compression(first).is_some() => Some(true),
            Compression::Auto => holds(self.is, first),
            written => Some(compression(first) == Some(written)),
        }
    }
}

/// The compression of what begins so.
pub fn compression(first: &[u8]) -> Option<Compression> {
    const MAGIC: &[(&[u8], Compression)] = &[
        (b"\x1f\x8b\x08", Compression::Gzip),
        (b"\x28\xb5\x2f\xfd", Compression::Zstd),
        (b"\xfd7zXZ\0", Compression::Xz),
        (b"PK\x03\x04", Compression::Zip),
        (b"PK\x05\x06", Compression::Zip),
    ];
    MAGIC.iter().find(|(magic, _)| first.starts_with(magic)).map(|(_, compression)| *compression)
}

/// Whether what begins so can be of this kind; nothing when that cannot be told.
pub fn holds(is: Is, first: &[u8]) -> Option<bool> {
    if first.is_empty() {
        return None;
    }
    match is {
        Is::PgCustom => Some(first.starts_with(b"PGDMP")),
        Is::Rdb => Some(first.starts_with(b"REDIS") || first.starts_with(b"VALKEY")),
        Is::Aof => Some(first.starts_with(b"*") || first.starts_with(b"REDIS")),
        Is::Tar | Is::Image => Some(is_tar(first)),
        Is::PgPlain | Is::PgDumpall | Is::Crontab => Some(is_text(first)),
        Is::Fixture => {
            let start = first.strip_prefix(b"\xef\xbb\xbf").unwrap_or(first);
            Some(start.iter().find(|b| !b.is_ascii_whitespace()).is_some_and(|b| b"[{".contains(b)))
        }
        Is::Other => None,
    }
}

/// Printable bytes; letters beyond ASCII may be cut at the end and are not looked at.
fn is_text(first: &[u8]) -> bool {
    first.iter().all(|b| *b >= b' ' || b"\t\n\r\x0c".contains(b)) && first.iter().any(u8::is_ascii_alphanumeric)
}

/// The header's own sum is right, or it is the end of an empty archive.
fn is_tar(first: &[u8]) -> bool {
    let Some(header) = first.get(..512) else { return false };
    if header.iter().all(|b| *b == 0) {
        return true;
    }
    let written = header[148..156].iter().filter(|b| (b'0'..=b'7').contains(b));
    let written = written.fold(0u64, |n, b| n * 8 + u64::from(b - b'0'));
    let sum = |range: std::ops::Range<usize>| header[range].iter().map(|b| u64::from(*b)).sum::<u64>();
    written == sum(0..148) + 8 * u64::from(b' ') + sum(156..512)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_what_a_file_is() {
        let noise: Vec<u8> = (0..512u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for (_, is) in Is::ALL.iter().filter(|(_, is)| *is != Is::Other) {
            assert_eq!(holds(*is, &noise), Some(false), "{is:?}");
        }
        assert_eq!(holds(Is::Other, &noise), None);
        assert_eq!(holds(Is::Fixture, b" \n[{\"model\""), Some(true));
        assert_eq!(holds(Is::PgPlain, "--\n-- PostgreSQL database dump\n-- Ä".as_bytes()), Some(true));
        let mut header = tar::Header::new_gnu();
        header.set_path("a").unwrap();
        header.set_size(3);
        header.set_cksum();
        assert_eq!(holds(Is::Tar, header.as_bytes()), Some(true));
        header.as_mut_bytes()[0] = b'b';
        assert_eq!(holds(Is::Tar, header.as_bytes()), Some(false));
    }
}
