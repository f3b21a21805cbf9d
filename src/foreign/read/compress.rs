//! Decompression, told by the layout or by the first bytes.

use super::super::layout::Compression;
use super::fault::{Fault, Peeked};
use super::known;
use crate::error::{Error, Kind};
use flate2::read::MultiGzDecoder;
use liblzma::read::XzDecoder;
use std::io::{ErrorKind, Read};

/// Bytes that tell.
const FIRST: usize = 6;
/// Memory that a window may take: what `zstd --long=31` asks for is for those who have it.
const MAX_WINDOW_LOG: u32 = 27;

/// A reader of what is compressed.
pub fn decompress(inner: Box<dyn Read + Send>, how: Compression, fault: Fault) -> Box<dyn Read + Send> {
    Box::new(Decompressing { inner: Some(inner), how, fault, plain: None, name: "" })
}

struct Decompressing {
    inner: Option<Box<dyn Read + Send>>,
    how: Compression,
    fault: Fault,
    plain: Option<Box<dyn Read + Send>>,
    name: &'static str,
}

impl Decompressing {
    fn begin(&mut self, inner: Box<dyn Read + Send>) -> std::io::Result<()> {
        let first = Peeked::new(inner, FIRST)?;
        let found = known::compression(first.first());
        let how = match self.how {
            Compression::Auto => found.unwrap_or(Compression::None),
            written => written,
        };
        let name = Compression::ALL.iter().find(|row| row.1 == how).map_or("", |row| row.0);
        if how != Compression::None && found != Some(how) {
            return Err(self.fault.found(
                Error::new(Kind::Damaged, format!("the file is no {name}"))
                    .because(format!("it begins with {:02x?}", first.first()))
                    .hint("Correct `compression` of this file in the layout, or take another set."),
            ));
        }
        self.name = name;
        self.plain = Some(match how {
            Compression::Gzip => Box::new(MultiGzDecoder::new(first)),
            Compression::Xz => Box::new(XzDecoder::new_multi_decoder(first)),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::new(first)?;
                decoder.window_log_max(MAX_WINDOW_LOG)?;
                Box::new(decoder)
            }
            Compression::Zip => {
                return Err(self.fault.found(
                    Error::new(Kind::Config, "the file is a ZIP, which is read from its end")
                        .hint("Write compression = \"zip\" for it."),
                ));
            }
            Compression::None | Compression::Auto => Box::new(first),
        });
        Ok(())
    }
}

impl Read for Decompressing {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if let Some(inner) = self.inner.take() {
            self.begin(inner)?;
        }
        let Some(plain) = &mut self.plain else { return Ok(0) };
        plain.read(buffer).map_err(|e| {
            if e.kind() == ErrorKind::Interrupted || self.name.is_empty() {
                return e;
            }
            let cut = e.kind() == ErrorKind::UnexpectedEof || e.to_string().contains("incomplete frame");
            let what = match cut {
                true => format!("the {} data is cut short", self.name),
                false => format!("the {} data is damaged", self.name),
            };
            self.fault.damaged(
                &what,
                "The backup was not written to its end, or was damaged since; take another set.",
                e,
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    fn packed(program: &str, plain: &[u8]) -> Vec<u8> {
        let mut child = Command::new(program)
            .args(["-c", "-q"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{program}: {e}: apt-get install gzip xz-utils zstd"));
        child.stdin.take().unwrap().write_all(plain).unwrap();
        child.wait_with_output().unwrap().stdout
    }

    fn read(bytes: &[u8], how: Compression) -> Result<Vec<u8>, Error> {
        let fault = Fault::default();
        let mut out = Vec::new();
        let inner: Box<dyn Read + Send> = Box::new(std::io::Cursor::new(bytes.to_vec()));
        match decompress(inner, how, fault.clone()).read_to_end(&mut out) {
            Ok(_) => Ok(out),
            Err(e) => Err(fault.take().unwrap_or_else(|| panic!("{e} without words"))),
        }
    }

    #[test]
    fn what_the_programs_wrote_is_read_joined_files_too_and_cut_ones_are_told() {
        for (program, how) in [("gzip", Compression::Gzip), ("xz", Compression::Xz), ("zstd", Compression::Zstd)] {
            let one = packed(program, b"hello ");
            let both = [one.clone(), packed(program, b"world")].concat();
            for asked in [how, Compression::Auto] {
                assert_eq!(read(&both, asked).unwrap(), b"hello world", "{program}");
            }
            for cut in [one.len() - 1, one.len() - 5] {
                let e = read(&one[..cut], how).unwrap_err();
                assert_eq!((e.kind, e.what.contains("cut short")), (Kind::Damaged, true), "{program} {cut}: {e}");
            }
            assert!(read(b"-- no such thing", how).unwrap_err().what.contains("is no "));
            let mut damaged = packed(program, &b"0123456789abcdef".repeat(1000));
            let middle = damaged.len() / 2;
            damaged[middle] ^= 0x55;
            damaged[middle + 1] ^= 0x55;
            assert!(read(&damaged, how).is_err(), "{program}");
        }
        assert_eq!(read(b"plain", Compression::Auto).unwrap(), b"plain");
        assert_eq!(read(b"", Compression::Auto).unwrap(), b"");
    }
}
