//! Repair: rebuilding the plaintext of a damaged pack from what the host still has.
//!
//! `check` marks a pack as damaged; from then on a run reads the files and streams that used it again. Their bytes
//! are also put at the places that the pack had for them. When all of a pack came by and its name comes out
//! right, it is stored again as the next generation, and every backup that names it is whole again.

use crate::model::{BlobId, PackKey};
use crate::repository::secrets::VaultSecret;
use crate::repository::segment::{Entry, PackInfo, Segment};
use std::collections::{HashMap, HashSet};

/// Packs that are rebuilt in one run; the others wait for the next.
const AT_ONCE: usize = 6;

struct Rebuild {
    plain: Vec<u8>,
    filled: Vec<(u32, u32)>,
}

/// Rebuilds damaged packs beside a run.
#[derive(Default)]
pub struct Repair {
    damaged: HashSet<PackKey>,
    rebuilds: HashMap<PackKey, Rebuild>,
    wanted: HashMap<BlobId, Vec<(PackKey, u32)>>,
}

impl Repair {
    /// Nothing to do until [`Repair::learn`] meets one of these packs.
    pub fn new(damaged: HashSet<PackKey>) -> Self {
        Repair { damaged, ..Repair::default() }
    }

    /// True when no pack is marked.
    pub fn is_idle(&self) -> bool {
        self.damaged.is_empty()
    }

    /// Whether a pack is marked.
    pub fn is_damaged(&self, pack: &PackKey) -> bool {
        self.damaged.contains(pack)
    }

    fn rebuild(&mut self, info: &PackInfo) -> Option<&mut Rebuild> {
        if !self.rebuilds.contains_key(&info.key) && self.rebuilds.len() >= AT_ONCE {
            return None;
        }
        Some(
            self.rebuilds
                .entry(info.key)
                .or_insert_with(|| Rebuild { plain: vec![0; info.plain as usize], filled: Vec::new() }),
        )
    }

    /// Notes which chunks of damaged packs a segment names.
    pub fn learn(&mut self, segment: &Segment) {
        for entry in &segment.entries {
            for x in &entry.extents {
                let info = &segment.packs[x.pack as usize];
                if let Some(blob) = x.blob
                    && self.damaged.contains(&info.key)
                    && self.rebuild(info).is_some()
                {
                    let places = self.wanted.entry(blob).or_default();
                    if !places.contains(&(info.key, x.offset)) {
                        places.push((info.key, x.offset));
                    }
                }
            }
        }
    }

    /// A chunk came by.
    pub fn chunk(&mut self, id: &BlobId, bytes: &[u8]) {
        for (pack, offset) in self.wanted.get(id).into_iter().flatten() {
            if let Some(rebuild) = self.rebuilds.get_mut(pack) {
                rebuild.fill(*offset, bytes);
            }
        }
    }

    /// Bytes of a tar member came by, whose entry in the backup before lay at `entry`'s extents: `at` is their
    /// position in the member.
    pub fn member(&mut self, entry: &Entry, packs: &[PackInfo], at: u64, bytes: &[u8]) {
        let mut position = 0;
        for x in &entry.extents {
            let (start, end) = (position, position + u64::from(x.length));
            position = end;
            let (from, to) = (start.max(at), end.min(at + bytes.len() as u64));
            let info = &packs[x.pack as usize];
            if from < to
                && self.damaged.contains(&info.key)
                && let Some(rebuild) = self.rebuild(info)
            {
                rebuild.fill(x.offset + (from - start) as u32, &bytes[(from - at) as usize..(to - at) as usize]);
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

impl Rebuild {
    fn fill(&mut self, offset: u32, bytes: &[u8]) {
        let start = offset as usize;
        if let Some(target) = self.plain.get_mut(start..start + bytes.len()) {
            target.copy_from_slice(bytes);
            self.filled.push((offset, offset + bytes.len() as u32));
        }
    }

    fn is_full(&self) -> bool {
        let mut ranges = self.filled.clone();
        ranges.sort_unstable();
        let reached =
            ranges.iter().fold(0, |reached, (from, to)| if *from <= reached { reached.max(*to) } else { reached });
        reached as usize == self.plain.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PackId;
    use crate::repository::segment::Extent;
    use std::sync::Arc;

    #[test]
    fn a_pack_comes_together_from_chunks_and_members_or_not_at_all() {
        let secret = VaultSecret::random();
        let plain = b"HEADcontentPADchunkchunk".to_vec();
        let key = PackKey { id: secret.name_of(&plain), generation: 0 };
        let info = PackInfo { key, epoch: 1, plain: plain.len() as u32, sealed: 1, crc: 1 };
        let other = PackInfo { key: PackKey { id: PackId([1; 32]), generation: 0 }, ..info };
        let chunk = BlobId([5; 16]);
        let entry = |extents| Entry { file: None, extents };
        let member = entry(vec![Extent { pack: 0, offset: 0, length: 14, blob: None }]);
        let stream = entry(vec![Extent { pack: 1, offset: 14, length: 10, blob: Some(chunk) }]);
        let segment = Segment { packs: Arc::new(vec![other, info]), entries: vec![stream] };
        let run = |tail: &[u8]| {
            let mut r = Repair::new(HashSet::from([key]));
            r.learn(&segment);
            r.chunk(&chunk, tail);
            r.member(&member, &[info], 4, b"content");
            r.member(&member, &[info], 0, b"HEAD");
            assert!(r.rebuilds.values().all(|b| !b.is_full()));
            r.member(&member, &[info], 11, b"PAD");
            r.complete(&secret)
        };
        assert_eq!(run(b"chunkchunk"), [(key, plain.clone())]);
        assert_eq!(run(b"chunkCHUNK"), []);
    }
}
