//! Tar headers: GNU headers, with a PAX header before them where a value does not fit.
//!
//! What is written: numeric owner and group, permission bits, modification time to the nanosecond, extended
//! attributes (which include POSIX ACLs and file capabilities) as `SCHILY.xattr.*`, long names. What is not:
//! names of owners (they are in the facts), access and change time, inode.

use super::sparse::DataMap;
use super::walk::Stat;
use crate::repository::segment::FileType;
use tar::{EntryType, GnuExtSparseHeader, Header};

/// Everything that a header says.
pub struct Member<'a> {
    /// Path in the tar; a directory's gets its slash here.
    pub path: &'a [u8],
    /// Type.
    pub kind: FileType,
    /// Owner, mode, times.
    pub stat: &'a Stat,
    /// Target of a symbolic or hard link.
    pub link: Option<&'a [u8]>,
    /// Bytes of content that follow (0 for anything but a file).
    pub size: u64,
    /// Extended attributes.
    pub xattrs: &'a [(Vec<u8>, Vec<u8>)],
    /// Where the data is, when the file has holes.
    pub sparse: Option<&'a DataMap>,
}

/// The end of a tar.
pub const END: [u8; 1024] = [0; 1024];

/// Encodes the headers of a member: a multiple of 512 bytes, the same for the same input.
///
/// # Errors
/// Only for a device number that tar cannot hold.
pub fn encode(member: &Member<'_>) -> std::io::Result<Vec<u8>> {
    let mut header = Header::new_gnu();
    let entry_type = match member.kind {
        FileType::File if member.sparse.is_some() => EntryType::GNUSparse,
        FileType::File => EntryType::Regular,
        FileType::Dir => EntryType::Directory,
        FileType::Symlink => EntryType::Symlink,
        FileType::Hardlink => EntryType::Link,
        FileType::Char => EntryType::Char,
        FileType::Block => EntryType::Block,
        FileType::Fifo => EntryType::Fifo,
    };
    header.set_entry_type(entry_type);
    header.set_mode(member.stat.mode & 0o7777);
    header.set_uid(u64::from(member.stat.uid));
    header.set_gid(u64::from(member.stat.gid));
    let (seconds, nanos) = (member.stat.mtime.div_euclid(1_000_000_000), member.stat.mtime.rem_euclid(1_000_000_000));
    header.set_mtime(seconds.max(0).unsigned_abs());
    if matches!(member.kind, FileType::Char | FileType::Block) {
        header.set_device_major(rustix::fs::major(member.stat.rdev))?;
        header.set_device_minor(rustix::fs::minor(member.stat.rdev))?;
    }
    let mut pax = Vec::new();
    let mut path = member.path.to_vec();
    if member.kind == FileType::Dir {
        path.push(b'/');
    }
    place(&mut header.as_old_mut().name, &path, b"path", &mut pax);
    if let Some(link) = member.link {
        place(&mut header.as_old_mut().linkname, link, b"linkpath", &mut pax);
    }
    if nanos != 0 || seconds < 0 {
        let sign = if seconds < 0 { "-" } else { "" };
        // PAX times are decimal: -1.25 is 1.25 s before the epoch.
        let (whole, fraction) =
            if seconds < 0 && nanos != 0 { (-(seconds + 1), 1_000_000_000 - nanos) } else { (seconds.abs(), nanos) };
        let text = if fraction == 0 {
            format!("{sign}{whole}")
        } else {
            format!("{sign}{whole}.{fraction:09}").trim_end_matches('0').to_owned()
        };
        append(&mut pax, b"mtime", text.as_bytes());
    }
    for (name, value) in member.xattrs {
        let key = [b"SCHILY.xattr.".as_slice(), name].concat();
        append(&mut pax, &key, value);
    }
    let mut extensions = Vec::new();
    if let Some(map) = member.sparse {
        header.set_size(map.stored());
        sparse_fields(&mut header, map, &mut extensions);
    } else {
        header.set_size(member.size);
    }
    header.set_cksum();
    let mut out = Vec::with_capacity(512);
    if !pax.is_empty() {
        let mut x = Header::new_ustar();
        x.set_entry_type(EntryType::XHeader);
        x.as_old_mut().name[..10].copy_from_slice(b"PaxHeaders");
        x.set_mode(0o644);
        x.set_uid(0);
        x.set_gid(0);
        x.set_mtime(0);
        x.set_size(pax.len() as u64);
        x.set_cksum();
        out.extend_from_slice(x.as_bytes());
        pax.resize(pax.len().next_multiple_of(512), 0);
        out.extend_from_slice(&pax);
    }
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(&extensions);
    Ok(out)
}

/// Puts a name into its field, or into the PAX header when it does not fit.
fn place(field: &mut [u8; 100], value: &[u8], key: &[u8], pax: &mut Vec<u8>) {
    if value.len() <= field.len() {
        field[..value.len()].copy_from_slice(value);
    } else {
        field.copy_from_slice(&value[..100]);
        append(pax, key, value);
    }
}

/// One PAX record: its own length in decimal, a space, key, equals sign, value, newline.
fn append(pax: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    pax.extend_from_slice(format!("{length} ").as_bytes());
    pax.extend_from_slice(key);
    pax.push(b'=');
    pax.extend_from_slice(value);
    pax.push(b'\n');
}

/// The old GNU sparse format, which every tar of the last decades reads: four pieces in the header, then blocks
/// of 21.
fn sparse_fields(header: &mut Header, map: &DataMap, extensions: &mut Vec<u8>) {
    let octal = |n: u64| -> [u8; 12] {
        let mut field = [0u8; 12];
        if n < 1 << 33 {
            field[..11].copy_from_slice(format!("{n:011o}").as_bytes());
        } else {
            field[0] = 0x80;
            field[4..].copy_from_slice(&n.to_be_bytes());
        }
        field
    };
    // GNU tar ends the map with an empty piece at the end of the file, so that a hole there is not lost.
    let pieces: Vec<(u64, u64)> = map.pieces.iter().copied().chain([(map.size, 0)]).collect();
    let (inside, outside) = pieces.split_at(pieces.len().min(4));
    if let Some(gnu) = header.as_gnu_mut() {
        gnu.realsize = octal(map.size);
        for (field, (offset, length)) in gnu.sparse.iter_mut().zip(inside) {
            field.offset = octal(*offset);
            field.numbytes = octal(*length);
        }
        gnu.isextended = [u8::from(!outside.is_empty())];
    }
    let mut blocks = outside.chunks(21).peekable();
    while let Some(block) = blocks.next() {
        let mut ext = GnuExtSparseHeader::new();
        for (field, (offset, length)) in ext.sparse.iter_mut().zip(block) {
            field.offset = octal(*offset);
            field.numbytes = octal(*length);
        }
        ext.isextended = [u8::from(blocks.peek().is_some())];
        extensions.extend_from_slice(ext.as_bytes());
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The stat of a file that changed at this time.
    pub fn stat(mtime: i64) -> Stat {
        Stat {
            mode: 0o100_640,
            uid: 3_000_000,
            gid: 7,
            size: 0,
            blocks: 0,
            mtime,
            ctime: 0,
            dev: 0,
            inode: 0,
            links: 1,
            rdev: 0,
        }
    }

    #[test]
    fn whole_seconds_need_no_pax_and_negative_times_are_decimal() {
        let text = |mtime| {
            let s = stat(mtime);
            let member =
                Member { path: b"f", kind: FileType::File, stat: &s, link: None, size: 0, xattrs: &[], sparse: None };
            let bytes = encode(&member).unwrap();
            (bytes.len() > 512).then(|| {
                String::from_utf8_lossy(&bytes[512..])
                    .split_once("mtime=")
                    .unwrap()
                    .1
                    .split_once('\n')
                    .unwrap()
                    .0
                    .to_owned()
            })
        };
        assert_eq!(text(1_500_000_000_000_000_000), None);
        assert_eq!(text(1_500_000_000_250_000_000), Some("1500000000.25".into()));
        assert_eq!(text(-1_250_000_000), Some("-1.25".into()));
        assert_eq!(text(-10_000_000_000), Some("-10".into()));
    }
}
