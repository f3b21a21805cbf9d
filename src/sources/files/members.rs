//! Reads a tar stream member by member.
//!
//! Headers are decoded by the `tar` crate; its archive reader is not used, since it splits PAX records at line ends,
//! while a value (an attribute, a file name) may hold any byte. A record's own length says where it ends.

use super::sparse::DataMap;
use crate::io::Supply;
use bytes::Bytes;
use std::io::{BufRead, Error, ErrorKind, Read, Result};
use tar::{EntryType, GnuExtSparseHeader, Header};

const BLOCK: usize = 512;
/// No PAX header or long name is larger: the kernel's limits on names and attributes lie far below.
const MAX_EXTENSION: u64 = 16 * 1024 * 1024;

/// One member, without its content.
#[derive(Clone, Debug)]
pub struct Member {
    /// Path as it is written.
    pub path: Vec<u8>,
    /// Target of a link.
    pub link: Option<Vec<u8>>,
    /// Type.
    pub kind: EntryType,
    /// Permission bits.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Modification time: seconds, and nanoseconds after them.
    pub mtime: (i64, i64),
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Where the stored bytes belong, when the file has holes.
    pub sparse: Option<DataMap>,
    /// Bytes of content in the stream.
    pub stored: u64,
}

/// A reader of members.
pub struct Members<R> {
    stream: R,
    /// Bytes of the current member that were not read yet.
    left: u64,
    padding: u64,
}

fn invalid(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what.to_owned())
}

#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<(i64, i64)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<R: Read> Members<R> {
    /// Reads from a stream.
    pub fn new(stream: R) -> Self {
        Members { stream, left: 0, padding: 0 }
    }

    /// The stream, after the last member.
    pub fn into_inner(self) -> R {
        self.stream
    }

    /// The next member; what is left of the current one's content is passed over. A stream that ends between
    /// members, as that of a selection does, ends the archive as well as the customary zeros.
    pub fn next_member(&mut self) -> Result<Option<Member>> {
        self.skip()?;
        let mut extensions = Extensions::default();
        loop {
            let Some(header) = self.header()? else { return Ok(None) };
            let size = header.entry_size()?;
            match header.entry_type() {
                EntryType::XHeader => {
                    let body = self.extension(size)?;
                    pax(&body, &mut extensions)?;
                }
                EntryType::XGlobalHeader => {
                    self.extension(size)?;
                }
                EntryType::GNULongName => extensions.path = Some(until_nul(self.extension(size)?)),
                EntryType::GNULongLink => extensions.link = Some(until_nul(self.extension(size)?)),
                kind => return self.member(&header, kind, extensions).map(Some),
            }
        }
    }

    fn header(&mut self) -> Result<Option<Header>> {
        let mut header = Header::new_old();
        let block = header.as_mut_bytes();
        let mut filled = 0;
        while filled < BLOCK {
            match self.stream.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => filled += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        if block.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        let sum: u32 =
            block.iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { 32 } else { u32::from(*b) }).sum();
        if header.cksum()? != sum {
            return Err(invalid("a header has a wrong checksum"));
        }
        Ok(Some(header))
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > MAX_EXTENSION {
            return Err(invalid("an extended header is too large"));
        }
        let mut body = vec![0; size.next_multiple_of(BLOCK as u64) as usize];
        self.stream.read_exact(&mut body)?;
        body.truncate(size as usize);
        Ok(body)
    }

    fn member(&mut self, header: &Header, kind: EntryType, x: Extensions) -> Result<Member> {
        let stored = x.size.map_or_else(|| header.entry_size(), Ok)?;
        let stored = if kind.is_hard_link() || kind.is_symlink() || kind.is_dir() { 0 } else { stored };
        let sparse = if kind == EntryType::GNUSparse { Some(self.sparse(header)?) } else { None };
        if sparse.as_ref().is_some_and(|map| map.stored() != stored) {
            return Err(invalid("the map of a sparse file does not fit its size"));
        }
        self.left = stored;
        self.padding = stored.next_multiple_of(BLOCK as u64) - stored;
        Ok(Member {
            path: x.path.unwrap_or_else(|| header.path_bytes().into_owned()),
            link: x.link.or_else(|| header.link_name_bytes().map(|l| l.into_owned())),
            kind,
            mode: header.mode()? & 0o7777,
            uid: x.uid.map_or_else(|| header.uid().map(|u| u as u32), Ok)?,
            gid: x.gid.map_or_else(|| header.gid().map(|g| g as u32), Ok)?,
            mtime: x.mtime.map_or_else(|| header.mtime().map(|m| (m as i64, 0)), Ok)?,
            xattrs: x.xattrs,
            device: (
                header.device_major().ok().flatten().unwrap_or(0),
                header.device_minor().ok().flatten().unwrap_or(0),
            ),
            sparse,
            stored,
        })
    }

    fn sparse(&mut self, header: &Header) -> Result<DataMap> {
        let gnu = header.as_gnu().ok_or_else(|| invalid("a sparse file without a GNU header"))?;
        let mut pieces = Vec::new();
        let mut add = |sparse: &[tar::GnuSparseHeader]| -> Result<()> {
            for s in sparse.iter().filter(|s| !s.is_empty()) {
                pieces.push((s.offset()?, s.length()?));
            }
            Ok(())
        };
        add(&gnu.sparse)?;
        let mut more = gnu.is_extended();
        while more {
            let mut block = GnuExtSparseHeader::new();
            self.stream.read_exact(block.as_mut_bytes())?;
            add(block.sparse())?;
            more = block.is_extended();
        }
        let size = gnu.real_size()?;
        pieces.retain(|p| p.1 > 0);
        let ordered = pieces
            .iter()
            .try_fold(0u64, |end, (offset, length)| if *offset >= end { offset.checked_add(*length) } else { None });
        if ordered.is_none_or(|end| end > size) {
            return Err(invalid("the map of a sparse file is out of order"));
        }
        Ok(DataMap { pieces, size })
    }

    fn skip(&mut self) -> Result<()> {
        let rest = self.left + self.padding;
        let skipped = std::io::copy(&mut (&mut self.stream).take(rest), &mut std::io::sink())?;
        if skipped != rest {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        (self.left, self.padding) = (0, 0);
        Ok(())
    }
}

// The content of the current member, as it is stored: without copying it, or into what somebody has.

impl<R: BufRead> BufRead for Members<R> {
    fn fill_buf(&mut self) -> Result<&[u8]> {
        if self.left == 0 {
            return Ok(&[]);
        }
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let piece = self.stream.fill_buf()?;
        if piece.is_empty() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(&piece[..piece.len().min(left)])
    }

    fn consume(&mut self, bytes: usize) {
        self.left -= bytes as u64;
        self.stream.consume(bytes);
    }
}

impl<R: Supply> Supply for Members<R> {
    fn take_bytes(&mut self, most: usize) -> Result<Bytes> {
        let most = most.min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let bytes = self.stream.take_bytes(most)?;
        if bytes.is_empty() && most > 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.left -= bytes.len() as u64;
        Ok(bytes)
    }
}

impl<R: Read> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let want = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let n = self.stream.read(&mut buffer[..want])?;
        if n == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.left -= n as u64;
        Ok(n)
    }
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|b| *b == 0) {
        bytes.truncate(end);
    }
    bytes
}

/// Records of the form `LENGTH KEY=VALUE\n`, where the length counts all of it.
fn pax(mut rest: &[u8], x: &mut Extensions) -> Result<()> {
    let bad = || invalid("a PAX record cannot be read");
    while !rest.is_empty() {
        let space = rest.iter().position(|b| *b == b' ').ok_or_else(bad)?;
        let length: usize = std::str::from_utf8(&rest[..space]).ok().and_then(|t| t.parse().ok()).ok_or_else(bad)?;
        let record = rest.get(space + 1..length).and_then(|r| r.strip_suffix(b"\n")).ok_or_else(bad)?;
        let equals = record.iter().position(|b| *b == b'=').ok_or_else(bad)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        let number = || std::str::from_utf8(value).ok().and_then(|t| t.parse::<u64>().ok()).ok_or_else(bad);
        match key {
            b"path" => x.path = Some(value.to_vec()),
            b"linkpath" => x.link = Some(value.to_vec()),
            b"size" => x.size = Some(number()?),
            b"uid" => x.uid = Some(number()? as u32),
            b"gid" => x.gid = Some(number()? as u32),
            b"mtime" => x.mtime = Some(parse_time(value).ok_or_else(bad)?),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    x.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        rest = &rest[length..];
    }
    Ok(())
}

/// `-1.25` is 1.25 s before the epoch.
fn parse_time(text: &[u8]) -> Option<(i64, i64)> {
    let text = std::str::from_utf8(text).ok()?;
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |d| (true, d));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let seconds: i64 = whole.parse().ok()?;
    let nanos: i64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    Some(match (negative, nanos) {
        (false, n) => (seconds, n),
        (true, 0) => (-seconds, 0),
        (true, n) => (-seconds - 1, 1_000_000_000 - n),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::segment::FileType;
    use crate::sources::files::header::tests::stat;
    use crate::sources::files::header::{self, END};

    #[test]
    fn what_is_encoded_reads_back_with_names_and_values_of_any_bytes() {
        let path = [&b"d/"[..], &[b'\n'; 300], b"\xff"].concat();
        let xattrs = [(b"user.note".to_vec(), b"a\n\0=b\n".to_vec())];
        let map = DataMap { pieces: (0..60).map(|i| (i * 10_000, 100)).collect(), size: 1 << 40 };
        let stat = stat(-1_250_000_000);
        let member = header::Member {
            path: &path,
            kind: FileType::File,
            stat: &stat,
            link: None,
            size: 1 << 40,
            xattrs: &xattrs,
            sparse: Some(&map),
        };
        let mut bytes = header::encode(&member).unwrap();
        bytes.extend(vec![7; 6000_usize.next_multiple_of(512)]);
        bytes.extend(
            header::encode(&header::Member { path: b"next", sparse: None, size: 0, xattrs: &[], ..member }).unwrap(),
        );
        bytes.extend(END);
        let mut members = Members::new(&bytes[..]);
        let first = members.next_member().unwrap().unwrap();
        assert_eq!(
            (first.path, first.xattrs, first.mtime, first.uid),
            (path, xattrs.to_vec(), (-2, 750_000_000), 3_000_000)
        );
        assert_eq!(first.sparse.unwrap(), map);
        let second = members.next_member().unwrap().unwrap();
        assert_eq!(second.path, b"next");
        assert!(members.next_member().unwrap().is_none());
    }

    #[test]
    fn no_more_is_handed_out_than_the_content_of_the_member() {
        let stat = stat(0);
        let member = |path, size| header::Member {
            path,
            kind: FileType::File,
            stat: &stat,
            link: None,
            size,
            xattrs: &[],
            sparse: None,
        };
        let first = header::encode(&member(b"a", 5)).unwrap();
        let bytes = [&first[..], b"12345", &[0; 507], &header::encode(&member(b"b", 0)).unwrap(), &END].concat();
        let mut members = Members::new(&bytes[..]);
        members.next_member().unwrap().unwrap();
        assert_eq!(members.fill_buf().unwrap(), b"12345");
        assert_eq!(&members.take_bytes(3).unwrap()[..], b"123");
        assert_eq!(&members.take_bytes(1000).unwrap()[..], b"45");
        assert!(members.take_bytes(1000).unwrap().is_empty() && members.fill_buf().unwrap().is_empty());
        assert_eq!(members.next_member().unwrap().unwrap().path, b"b");
        // Cut off in the middle of the content.
        let mut members = Members::new(&bytes[..first.len() + 2]);
        members.next_member().unwrap().unwrap();
        assert_eq!(&members.take_bytes(5).unwrap()[..], b"12");
        assert!(members.take_bytes(3).is_err() && members.fill_buf().is_err());
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic() {
        let stat = stat(1_500_000_000);
        let member = header::Member {
            path: &[b'x'; 200],
            kind: FileType::File,
            stat: &stat,
            link: None,
            size: 5,
            xattrs: &[],
            sparse: None,
        };
        let bytes = [header::encode(&member).unwrap(), b"12345".to_vec(), vec![0; 507], END.to_vec()].concat();
        for i in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[i] ^= 0x41;
            let mut members = Members::new(&bad[..]);
            while let Ok(Some(_)) = members.next_member() {}
            let mut members = Members::new(&bytes[..i]);
            while let Ok(Some(_)) = members.next_member() {}
        }
    }

    #[test]
    fn times_before_the_epoch_parse() {
        assert_eq!(parse_time(b"1.5"), Some((1, 500_000_000)));
        assert_eq!(parse_time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(parse_time(b"-10"), Some((-10, 0)));
        assert_eq!(parse_time(b"x"), None);
    }
}
