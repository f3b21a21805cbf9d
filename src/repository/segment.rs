//! Segments: pieces of an artifact's recipe, or of a file index, which is a recipe with names.
//!
//! A segment is JSON lines. The first line has the packs that the segment uses; each further line is an entry
//! with its extents, in artifact order. Segments name their packs themselves, so that a segment in which nothing
//! changed is the same object in every backup and is stored once. They are cut by content (see
//! [`super::recipe`]), so that one changed entry renews one segment.

use crate::error::{Error, Result};
use crate::model::{BlobId, PackKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::sync::Arc;

/// One pack as a segment knows it: enough to see truncation and rot without any key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PackInfo {
    /// Name and generation.
    pub key: PackKey,
    /// The key epoch that it is sealed to.
    pub epoch: u32,
    /// Bytes of plaintext.
    pub plain: u32,
    /// Bytes of the stored object.
    pub sealed: u32,
    /// CRC-32C of the stored object.
    pub crc: u32,
}

/// A run of bytes in a pack's plaintext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Index into the segment's pack table.
    pub pack: u32,
    /// First byte.
    pub offset: u32,
    /// Bytes.
    pub length: u32,
    /// The blob that the extent is, when it is exactly one chunk of a stream or of a large file.
    pub blob: Option<BlobId>,
}

impl Serialize for Extent {
    fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        match self.blob {
            None => (self.pack, self.offset, self.length).serialize(s),
            Some(blob) => (self.pack, self.offset, self.length, blob).serialize(s),
        }
    }
}

impl<'de> Deserialize<'de> for Extent {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        struct V;
        impl<'de> serde::de::Visitor<'de> for V {
            type Value = Extent;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("[pack, offset, length] or [pack, offset, length, blob]")
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut a: A) -> std::result::Result<Extent, A::Error> {
                let mut next =
                    |i| a.next_element::<u32>()?.ok_or_else(|| serde::de::Error::invalid_length(i, &"three numbers"));
                let (pack, offset, length) = (next(0)?, next(1)?, next(2)?);
                Ok(Extent { pack, offset, length, blob: a.next_element()? })
            }
        }
        d.deserialize_seq(V)
    }
}

/// A path or link target: bytes, since file names need not be UTF-8. In JSON it is the text itself, or, for
/// anything else, a NUL (which no path holds) and hex digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bytes(pub Vec<u8>);

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

impl Bytes {
    /// For messages and tables: control characters escaped, what is not UTF-8 replaced.
    pub fn display(&self) -> String {
        String::from_utf8_lossy(&self.0)
            .chars()
            .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
            .collect()
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => s.serialize_str(text),
            Err(_) => s.serialize_str(&format!("\0{}", crate::model::ids::to_hex(&self.0))),
        }
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        match text.strip_prefix('\0') {
            None => Ok(Bytes(text.into_bytes())),
            Some(hex) => {
                let digit = |c: u8| (c as char).to_digit(16).map(|d| d as u8);
                let bytes = hex
                    .as_bytes()
                    .chunks(2)
                    .map(|p| Some(digit(p[0])? << 4 | digit(*p.get(1)?)?))
                    .collect::<Option<Vec<u8>>>();
                bytes.map(Bytes).ok_or_else(|| serde::de::Error::custom("not a hex path"))
            }
        }
    }
}

/// What an entry of a file index is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileType {
    /// A regular file.
    #[serde(rename = "f")]
    File,
    /// A directory.
    #[serde(rename = "d")]
    Dir,
    /// A symbolic link.
    #[serde(rename = "l")]
    Symlink,
    /// A further name of a file that came earlier.
    #[serde(rename = "h")]
    Hardlink,
    /// A character device.
    #[serde(rename = "c")]
    Char,
    /// A block device.
    #[serde(rename = "b")]
    Block,
    /// A named pipe.
    #[serde(rename = "p")]
    Fifo,
}

/// The file part of an entry. Times are nanoseconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Path in the tar, without a leading slash.
    #[serde(rename = "p")]
    pub path: Bytes,
    /// Type.
    #[serde(rename = "t")]
    pub kind: FileType,
    /// Size in bytes of a regular file.
    #[serde(rename = "s", default, skip_serializing_if = "is_zero")]
    pub size: u64,
    /// Modification time.
    #[serde(rename = "m")]
    pub mtime: i64,
    /// Change time; absent when the entry may not be reused without reading (see `sources::files`).
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub ctime: Option<i64>,
    /// Inode number.
    #[serde(rename = "i")]
    pub inode: u64,
    /// Permission bits.
    #[serde(rename = "o")]
    pub mode: u32,
    /// Numeric owner.
    #[serde(rename = "u", default, skip_serializing_if = "is_zero32")]
    pub uid: u32,
    /// Numeric group.
    #[serde(rename = "g", default, skip_serializing_if = "is_zero32")]
    pub gid: u32,
    /// Target of a link.
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    pub link: Option<Bytes>,
    /// Bytes of tar headers before the content.
    #[serde(rename = "n", default, skip_serializing_if = "is_zero32")]
    pub header: u32,
    /// Blob id of the whole content of a small file.
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    pub blob: Option<BlobId>,
    /// Day (since the epoch) of the last read of the content.
    #[serde(rename = "r", default, skip_serializing_if = "is_zero32")]
    pub read_day: u32,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

fn is_zero32(n: &u32) -> bool {
    *n == 0
}

/// One entry: a tar member with its name, more of the member before, or a piece of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The tar member, absent in the recipe of a stream.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileEntry>,
    /// The path of the member that this entry goes on with: a large file has several entries.
    #[serde(rename = "k", skip_serializing_if = "Option::is_none")]
    pub more: Option<Bytes>,
    /// Where its bytes are, in order.
    #[serde(rename = "x")]
    pub extents: Vec<Extent>,
}

impl Entry {
    /// The member that this entry belongs to, wholly or in part; none in a stream and at the end of a tar.
    pub fn path(&self) -> Option<&Bytes> {
        self.file.as_ref().map(|f| &f.path).or(self.more.as_ref())
    }

    /// Bytes of the artifact that this entry stands for.
    pub fn bytes(&self) -> u64 {
        self.extents.iter().map(|x| u64::from(x.length)).sum()
    }
}

#[derive(Serialize, Deserialize)]
struct Head {
    format: u32,
    entries: usize,
    packs: Vec<(PackKey, u32, u32, u32, u32)>,
}

/// A decoded segment.
#[derive(Clone, Debug, Default)]
pub struct Segment {
    /// The packs that the extents index.
    pub packs: Arc<Vec<PackInfo>>,
    /// The entries in artifact order.
    pub entries: Vec<Entry>,
}

impl Segment {
    /// The bytes to store.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let bad =
            |e: serde_json::Error| Error::new(crate::error::Kind::Internal, "encoding a segment failed").because(e);
        let packs = self.packs.iter().map(|p| (p.key, p.epoch, p.plain, p.sealed, p.crc)).collect();
        let mut out = serde_json::to_vec(&Head { format: 1, entries: self.entries.len(), packs }).map_err(bad)?;
        out.push(b'\n');
        for entry in &self.entries {
            serde_json::to_writer(&mut out, entry).map_err(bad)?;
            out.push(b'\n');
        }
        Ok(out)
    }

    /// Reads stored bytes and checks every reference in them.
    ///
    /// # Errors
    /// [`crate::error::Kind::Damaged`] naming the object.
    pub fn decode(body: &[u8], key: &str) -> Result<Segment> {
        let bad = |why: String| Error::damaged(key, "the segment cannot be read").because(why);
        let mut lines = body.split(|b| *b == b'\n').filter(|l| !l.is_empty());
        let head: Head = serde_json::from_slice(lines.next().unwrap_or_default()).map_err(|e| bad(e.to_string()))?;
        if head.format != 1 {
            return Err(Error::new(crate::error::Kind::Newer, "the segment has a newer format").at(key));
        }
        let packs: Vec<PackInfo> = head
            .packs
            .into_iter()
            .map(|(key, epoch, plain, sealed, crc)| PackInfo { key, epoch, plain, sealed, crc })
            .collect();
        let mut entries = Vec::with_capacity(head.entries.min(1 << 16));
        for line in lines {
            let entry: Entry = parse_entry(line).map_err(|e| bad(e.to_string()))?;
            for x in &entry.extents {
                let fits = packs
                    .get(x.pack as usize)
                    .is_some_and(|p| u64::from(x.offset) + u64::from(x.length) <= u64::from(p.plain));
                if !fits {
                    return Err(bad(format!("extent {x:?} lies outside its pack")));
                }
            }
            entries.push(entry);
        }
        if entries.len() != head.entries {
            return Err(bad(format!("{} entries where {} were promised", entries.len(), head.entries)));
        }
        Ok(Segment { packs: Arc::new(packs), entries })
    }
}

/// Reads one line. A stream entry begins with its extents, a file entry with its path, one that goes on with a file
/// with `k`; serde's `flatten` would buffer each line a second time, which tells at a hundred thousand entries a run.
fn parse_entry(line: &[u8]) -> serde_json::Result<Entry> {
    #[derive(Deserialize)]
    struct Piece {
        x: Vec<Extent>,
    }
    #[derive(Deserialize)]
    struct More {
        k: Bytes,
        x: Vec<Extent>,
    }
    #[derive(Deserialize)]
    struct Named {
        p: Bytes,
        t: FileType,
        #[serde(default)]
        s: u64,
        m: i64,
        c: Option<i64>,
        i: u64,
        o: u32,
        #[serde(default)]
        u: u32,
        #[serde(default)]
        g: u32,
        l: Option<Bytes>,
        #[serde(default)]
        n: u32,
        h: Option<BlobId>,
        #[serde(default)]
        r: u32,
        x: Vec<Extent>,
    }
    if line.starts_with(b"{\"x\"") {
        let piece: Piece = serde_json::from_slice(line)?;
        return Ok(Entry { file: None, more: None, extents: piece.x });
    }
    if line.starts_with(b"{\"k\"") {
        let more: More = serde_json::from_slice(line)?;
        return Ok(Entry { file: None, more: Some(more.k), extents: more.x });
    }
    let e: Named = serde_json::from_slice(line)?;
    let file = FileEntry {
        path: e.p,
        kind: e.t,
        size: e.s,
        mtime: e.m,
        ctime: e.c,
        inode: e.i,
        mode: e.o,
        uid: e.u,
        gid: e.g,
        link: e.l,
        header: e.n,
        blob: e.h,
        read_day: e.r,
    };
    Ok(Entry { file: Some(file), more: None, extents: e.x })
}

/// What a manifest says of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentRef {
    /// Name (keyed hash of the body) and generation of the meta object.
    pub object: PackKey,
    /// Bytes of the stored object.
    pub sealed: u32,
    /// CRC-32C of the stored object.
    pub crc: u32,
    /// Entries.
    pub entries: u32,
    /// Bytes of the artifact.
    pub bytes: u64,
    /// Path of the member that the first entry of an index belongs to, so that one file is found without reading
    /// every segment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<Bytes>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PackId;

    fn sample() -> Segment {
        let pack = PackInfo {
            key: PackKey { id: PackId([9; 32]), generation: 1 },
            epoch: 1,
            plain: 5000,
            sealed: 900,
            crc: 7,
        };
        let file = FileEntry {
            path: Bytes(b"etc/caf\xe9".to_vec()),
            kind: FileType::File,
            size: 5,
            mtime: -1,
            ctime: Some(12),
            inode: 77,
            mode: 0o644,
            uid: 0,
            gid: 33,
            link: None,
            header: 512,
            blob: Some(BlobId([3; 16])),
            read_day: 20_000,
        };
        Segment {
            packs: Arc::new(vec![pack]),
            entries: vec![
                Entry {
                    file: Some(file),
                    more: None,
                    extents: vec![Extent { pack: 0, offset: 0, length: 1024, blob: None }],
                },
                Entry {
                    file: None,
                    more: None,
                    extents: vec![Extent { pack: 0, offset: 1024, length: 3976, blob: Some(BlobId([4; 16])) }],
                },
                Entry {
                    file: None,
                    more: Some(Bytes(b"etc/caf\xe9".to_vec())),
                    extents: vec![Extent { pack: 0, offset: 5, length: 7, blob: None }],
                },
            ],
        }
    }

    #[test]
    fn a_segment_reads_back_as_it_was() {
        let s = sample();
        let back = Segment::decode(&s.encode().unwrap(), "meta/x").unwrap();
        assert_eq!(back.entries, s.entries);
        assert_eq!(back.packs, s.packs);
    }

    #[test]
    fn an_extent_outside_its_pack_is_refused() {
        let mut s = sample();
        s.entries[1].extents[0].length += 1;
        assert!(Segment::decode(&s.encode().unwrap(), "meta/x").is_err());
        s = sample();
        s.entries[1].extents[0].pack = 1;
        assert!(Segment::decode(&s.encode().unwrap(), "meta/x").is_err());
    }

    #[test]
    fn a_segment_cut_short_is_refused() {
        let bytes = sample().encode().unwrap();
        let cut = bytes.iter().rposition(|b| *b == b'{').unwrap();
        assert!(Segment::decode(&bytes[..cut], "meta/x").is_err());
    }
}
