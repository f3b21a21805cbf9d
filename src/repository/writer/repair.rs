//! Repair: rebuilding the plaintext of a damaged pack from what the host still has.
//!
//! `check` marks a pack as damaged; from then on a run reads the files and streams that used it again. Their bytes
//! are also put at the places that the pack had for them: chunks and contents by their ids, headers by their
//! paths. When all of a pack came by and its name comes out right, it is stored again as the next generation, and
//! every backup that names it is whole again.

use super::known::for_each_blob;
use crate::model::{BlobId, PackKey};
use crate::repository::secrets::VaultSecret;
use crate::repository::segment::{Bytes, Entry, PackInfo, Segment};
use std::collections::{BTreeSet, HashMap, HashSet};

/// Packs that are rebuilt in one run; the others wait for the next.
const AT_ONCE: usize = 6;

struct Rebuild {
    plain: Vec<u8>,
    filled: BTreeSet<(u32, u32)>,
}

/// A part of a member's header in a damaged pack.
struct HeaderPart {
    pack: PackKey,
    offset: u32,
    /// Where in the header it begins.
    from: u32,
    length: u32,
    /// Bytes of the whole header.
    header: u32,
}

/// Rebuilds damaged packs beside a run.
#[derive(Default)]
pub struct Repair {
    damaged: HashSet<PackKey>,
    rebuilds: HashMap<PackKey, Rebuild>,
    blobs: HashMap<BlobId, Vec<(PackKey, u32)>>,
    headers: HashMap<Bytes, Vec<HeaderPart>>,
}

impl Repair {
    /// Nothing to do until [`Repair::learn`] meets one of these packs.
    pub fn new(damaged: HashSet<PackKey>) -> Self {
        Repair { damaged, ..Repair::default() }
    }

    /// True when no pack is to be repaired.
    pub fn is_idle(&self) -> bool {
        self.damaged.is_empty()
    }

    /// Whether a pack that is rebuilt has a place for bytes of the member of this path.
    pub fn waits_for(&self, path: &Bytes) -> bool {
        self.headers.contains_key(path)
    }

    fn rebuild(&mut self, info: &PackInfo) -> Option<&mut Rebuild> {
        if !self.damaged.contains(&info.key)
            || (!self.rebuilds.contains_key(&info.key) && self.rebuilds.len() >= AT_ONCE)
        {
            return None;
        }
        Some(
            self.rebuilds
                .entry(info.key)
                .or_insert_with(|| Rebuild { plain: vec![0; info.plain as usize], filled: BTreeSet::new() }),
        )
    }

    /// Notes what of damaged packs a segment names.
    pub fn learn(&mut self, segment: &Segment) {
        for entry in &segment.entries {
            if entry.extents.iter().any(|x| self.damaged.contains(&segment.packs[x.pack as usize].key)) {
                self.learn_entry(entry, &segment.packs);
            }
        }
    }

    fn learn_entry(&mut self, entry: &Entry, packs: &[PackInfo]) {
        for_each_blob(entry, |id, pack, offset, _| {
            let info = &packs[pack as usize];
            if self.rebuild(info).is_some() {
                let places = self.blobs.entry(id).or_default();
                if !places.contains(&(info.key, offset)) {
                    places.push((info.key, offset));
                }
            }
        });
        let Some(path) = entry.path() else { return };
        // What goes on with a file has no header.
        let header = entry.file.as_ref().map_or(0, |f| f.header);
        let content_end = match &entry.file {
            Some(file) if file.blob.is_some() => u64::from(header) + file.size,
            _ => end_of_chunks(entry).max(u64::from(header)),
        };
        let mut waits = false;
        let mut position = 0u64;
        for x in &entry.extents {
            let info = &packs[x.pack as usize];
            let (start, end) = (position, position + u64::from(x.length));
            position = end;
            let Some(rebuild) = self.rebuild(info) else { continue };
            waits = true;
            // What follows the content is the padding to the next block.
            if end > content_end {
                let from = content_end.max(start);
                rebuild.fill(x.offset + (from - start) as u32, &vec![0; (end - from) as usize]);
            }
            let header_end = end.min(u64::from(header));
            if start < header_end {
                let part = HeaderPart {
                    pack: info.key,
                    offset: x.offset,
                    from: start as u32,
                    length: (header_end - start) as u32,
                    header,
                };
                self.headers.entry(path.clone()).or_default().push(part);
            }
        }
        if waits {
            self.headers.entry(path.clone()).or_default();
        }
    }

    /// A chunk or the content of a small file came by.
    pub fn chunk(&mut self, id: &BlobId, bytes: &[u8]) {
        for (pack, offset) in self.blobs.get(id).into_iter().flatten() {
            if let Some(rebuild) = self.rebuilds.get_mut(pack) {
                rebuild.fill(*offset, bytes);
            }
        }
    }

    /// The header of a member came by.
    pub fn header(&mut self, path: &Bytes, bytes: &[u8]) {
        for part in self.headers.get(path).into_iter().flatten().filter(|p| p.header as usize == bytes.len()) {
            if let Some(rebuild) = self.rebuilds.get_mut(&part.pack) {
                rebuild.fill(part.offset, &bytes[part.from as usize..(part.from + part.length) as usize]);
            }
        }
    }

    /// The packs that came together, with their plaintext. A plaintext whose name differs is dropped: the
    /// host's data is not what it was.
    pub fn complete(&mut self, secret: &VaultSecret) -> Vec<(PackKey, Vec<u8>)> {
        let done = std::mem::take(&mut self.rebuilds)
            .into_iter()
            .filter(|(key, r)| r.is_full() && secret.name_of(&r.plain) == key.id);
        done.map(|(key, r)| (key, r.plain)).collect()
    }
}

/// Position in a member behind its last chunk.
fn end_of_chunks(entry: &Entry) -> u64 {
    let mut position = 0;
    let mut end = 0;
    for x in &entry.extents {
        position += u64::from(x.length);
        if x.blob.is_some() {
            end = position;
        }
    }
    end
}

impl Rebuild {
    fn fill(&mut self, offset: u32, bytes: &[u8]) {
        let start = offset as usize;
        if let Some(target) = self.plain.get_mut(start..start + bytes.len()) {
            target.copy_from_slice(bytes);
            self.filled.insert((offset, offset + bytes.len() as u32));
        }
    }

    fn is_full(&self) -> bool {
        let reached =
            self.filled.iter().fold(0, |reached, (from, to)| if *from <= reached { reached.max(*to) } else { reached });
        reached as usize == self.plain.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PackId;
    use crate::repository::segment::{Extent, FileEntry, FileType};
    use std::sync::Arc;

    #[test]
    fn a_pack_comes_together_from_chunks_contents_and_headers_or_not_at_all() {
        let secret = VaultSecret::random();
        let plain = b"HEADcontent\0\0\0chunkchunkDIRS".to_vec();
        let key = PackKey { id: secret.name_of(&plain), generation: 0 };
        let info = PackInfo { key, epoch: 1, plain: plain.len() as u32, sealed: 1, crc: 1 };
        let other = PackInfo { key: PackKey { id: PackId([1; 32]), generation: 0 }, ..info };
        let (chunk, content) = (BlobId([5; 16]), BlobId([6; 16]));
        let file = |path: &str, size, blob| FileEntry {
            path: Bytes(path.into()),
            kind: FileType::File,
            size,
            mtime: 0,
            ctime: None,
            inode: 0,
            mode: 0,
            uid: 0,
            gid: 0,
            link: None,
            header: 4,
            blob,
            read_day: 0,
        };
        let extent = |offset, length, blob| vec![Extent { pack: 1, offset, length, blob }];
        let segment = Segment {
            packs: Arc::new(vec![other, info]),
            entries: vec![
                Entry { file: Some(file("a", 7, Some(content))), more: None, extents: extent(0, 14, None) },
                Entry { file: None, more: None, extents: extent(14, 10, Some(chunk)) },
                Entry { file: Some(file("d", 0, None)), more: None, extents: extent(24, 4, None) },
            ],
        };
        let run = |tail: &[u8], dir: &[u8]| {
            let mut r = Repair::new(HashSet::from([key]));
            r.learn(&segment);
            assert!(r.waits_for(&Bytes(b"a".to_vec())) && !r.waits_for(&Bytes(b"b".to_vec())));
            r.chunk(&chunk, tail);
            r.chunk(&content, b"content");
            r.header(&Bytes(b"a".to_vec()), b"HEAD");
            assert!(r.rebuilds.values().all(|b| !b.is_full()));
            r.header(&Bytes(b"d".to_vec()), dir);
            r.complete(&secret)
        };
        assert_eq!(run(b"chunkchunk", b"DIRS"), [(key, plain.clone())]);
        assert_eq!(run(b"chunkCHUNK", b"DIRS"), []);
        assert_eq!(run(b"chunkchunk", b"longer"), []);
    }
}
