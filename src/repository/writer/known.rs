//! What a run need not store again: blobs that live manifests name, that the upload journal remembers, or that
//! this run has stored itself.
//!
//! The table is bounded. Beyond [`LIMIT`] blobs further ones are not remembered; they would be stored once more
//! if they came again, which costs space and is never wrong.

use super::slot::{Home, Slot};
use crate::model::ids::PackPrefix;
use crate::model::{BlobId, PackId, PackKey};
use crate::repository::segment::{PackInfo, Segment};
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

/// About 60 MiB of table.
pub const LIMIT: usize = 1_800_000;

/// Tiny packs that are remembered.
const MOST_TINY: usize = 20_000;
/// Packs below this many bytes are known as a whole too. They hold headers only, or next to nothing; when all that
/// changed changes back, the very same pack comes again, and without this it would be one more generation.
pub const TINY: usize = 256 * 1024;

/// Blob ids are keyed hashes: their first bytes are as good a hash as any.
#[derive(Default)]
pub struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn write(&mut self, bytes: &[u8]) {
        let mut first = [0; 8];
        let n = bytes.len().min(8);
        first[..n].copy_from_slice(&bytes[..n]);
        self.0 ^= u64::from_le_bytes(first);
    }

    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[derive(Clone, Copy)]
struct Place {
    home: u32,
    offset: u32,
    length: u32,
}

/// The table.
#[derive(Default)]
pub struct Known {
    homes: Vec<Home>,
    blobs: HashMap<BlobId, Place, BuildHasherDefault<FirstBytes>>,
    /// Packs that must not be named again: condemned or damaged.
    forbidden: HashSet<PackKey>,
    /// Packs of which the newest backup uses too little.
    sparse: HashSet<PackPrefix>,
    tiny: HashMap<PackId, PackInfo>,
}

impl Known {
    /// A table that never gives a place in one of these packs.
    pub fn new(forbidden: HashSet<PackKey>, sparse: HashSet<PackPrefix>) -> Self {
        Known { forbidden, sparse, ..Known::default() }
    }

    /// Whether a pack may be named by this run.
    pub fn allows(&self, pack: &PackKey) -> bool {
        let none = self.forbidden.is_empty() && self.sparse.is_empty();
        none || !(self.forbidden.contains(pack) || self.sparse.contains(&pack.id.prefix()))
    }

    /// Where a blob is, if it need not be stored again.
    pub fn find(&self, id: &BlobId, length: usize) -> Option<(Home, u32)> {
        let place = self.blobs.get(id).filter(|p| p.length as usize == length)?;
        Some((self.homes[place.home as usize].clone(), place.offset))
    }

    /// Registers a new pack of this run; the number is for [`Known::add`].
    pub fn add_slot(&mut self, slot: Arc<Slot>) -> u32 {
        self.homes.push(Home::Slot(slot));
        (self.homes.len() - 1) as u32
    }

    fn add_stored(&mut self, info: PackInfo) -> u32 {
        self.homes.push(Home::Stored(info));
        (self.homes.len() - 1) as u32
    }

    /// Remembers a blob; the first place wins.
    pub fn add(&mut self, id: BlobId, home: u32, offset: u32, length: u32) {
        if self.blobs.len() < LIMIT {
            self.blobs.entry(id).or_insert(Place { home, offset, length });
        }
    }

    /// Remembers all blobs of a stored pack.
    pub fn add_pack(&mut self, info: PackInfo, blobs: &[(BlobId, u32, u32)]) {
        if self.allows(&info.key) {
            let home = self.add_stored(info);
            for (id, offset, length) in blobs {
                self.add(*id, home, *offset, *length);
            }
        }
    }

    /// The stored pack of this name, if it is tiny and may be named again.
    pub fn tiny(&self, id: &PackId) -> Option<PackInfo> {
        self.tiny.get(id).copied()
    }

    /// Remembers all blobs of a segment of an earlier backup.
    pub fn add_segment(&mut self, segment: &Segment) {
        let mut homes: Vec<Option<u32>> = vec![None; segment.packs.len()];
        for info in segment.packs.iter().filter(|p| (p.plain as usize) < TINY) {
            if self.tiny.len() < MOST_TINY && self.allows(&info.key) {
                self.tiny.entry(info.key.id).or_insert(*info);
            }
        }
        for entry in &segment.entries {
            for_each_blob(entry, |id, pack, offset, length| {
                let info = segment.packs[pack as usize];
                if self.allows(&info.key) {
                    let home = *homes[pack as usize].get_or_insert_with(|| self.add_stored(info));
                    self.add(id, home, offset, length);
                }
            });
        }
    }

    /// True when nothing more will be remembered.
    pub fn is_full(&self) -> bool {
        self.blobs.len() >= LIMIT
    }
}

/// Calls `f` with id, pack index, offset and length of every blob of an entry: the chunks that carry their id,
/// and the content of a small file, which lies somewhere in the member behind its header.
pub fn for_each_blob(entry: &crate::repository::segment::Entry, mut f: impl FnMut(BlobId, u32, u32, u32)) {
    for x in &entry.extents {
        if let Some(id) = x.blob {
            f(id, x.pack, x.offset, x.length);
        }
    }
    if let Some(file) = &entry.file
        && let Some(id) = file.blob
    {
        let mut skip = file.header;
        for x in &entry.extents {
            if skip < x.length {
                // By construction the content lies in one extent.
                if u64::from(x.length - skip) >= file.size {
                    f(id, x.pack, x.offset + skip, file.size as u32);
                }
                break;
            }
            skip -= x.length;
        }
    }
}
