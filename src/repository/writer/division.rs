//! Where recipes are divided: large files into entries, entries into segments. All by content, so that a change renews
//! what lies around it and nothing else. The numbers are in `docs/format.md`; a reader need not know them.

use crate::model::BlobId;
use crate::repository::segment::{Entry, Segment};

/// No segment ends by hash before this many entries.
const MIN_ENTRIES: usize = 256;
/// Entries between two ends, on average.
const AVG_ENTRIES: u32 = 1024;
/// No segment has more.
const MAX_ENTRIES: usize = 4096;
/// A segment with so many extents ends.
const MAX_EXTENTS: usize = 16_384;

/// Where the extents of a large file are divided into entries.
#[derive(Clone, Copy, Debug)]
pub struct Division {
    /// No entry of a file has more extents. A quarter of this is the least, and another quarter what an entry has
    /// beyond that on average.
    pub greatest: usize,
}

impl Default for Division {
    fn default() -> Self {
        Division { greatest: MAX_EXTENTS }
    }
}

impl Division {
    /// Whether an entry with so many extents, of which the last is this blob, takes no more. A property of the entry
    /// alone, and hit by content: behind a change the divisions are soon the same again.
    pub fn is_full(self, extents: usize, last: Option<BlobId>) -> bool {
        let quarter = (self.greatest / 4).max(1);
        extents >= self.greatest || (extents > quarter && last.is_some_and(|b| one_in(quarter as u32, &b.0)))
    }

    fn fills(self, entry: &Entry) -> bool {
        entry.path().is_some() && self.is_full(entry.extents.len(), entry.extents.last().and_then(|x| x.blob))
    }
}

/// Whether a segment may end behind this entry: a property of the entry alone.
fn ends_here(entry: &Entry) -> bool {
    match (entry.path(), entry.extents.first().and_then(|x| x.blob)) {
        (Some(path), _) => one_in(AVG_ENTRIES, &path.0),
        (None, Some(blob)) => one_in(AVG_ENTRIES, &blob.0),
        (None, None) => false,
    }
}

/// True for one in so many byte strings, always the same ones.
fn one_in(n: u32, bytes: &[u8]) -> bool {
    let mut first = [0; 4];
    first.copy_from_slice(&blake3::hash(bytes).as_bytes()[..4]);
    u32::from_le_bytes(first) % n == 0
}

impl Division {
    /// Whether a segment ends behind its last entry, where any run would end it.
    pub fn closes(self, segment: &Segment, extents: usize) -> bool {
        let n = segment.entries.len();
        n >= MAX_ENTRIES
            || extents >= MAX_EXTENTS
            || segment.entries.last().is_some_and(|e| (n >= MIN_ENTRIES && ends_here(e)) || self.fills(e))
    }

    /// The same for a whole segment of an earlier run, which may have ended only because the artifact did.
    pub fn closes_whole(self, segment: &Segment) -> bool {
        self.closes(segment, segment.entries.iter().map(|e| e.extents.len()).sum())
    }
}
