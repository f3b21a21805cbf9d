//! Builds an artifact's recipe: entries in order, cut into segments by content.
//!
//! Entries wait until the packs of their pieces are stored, and leave in order. A segment ends behind an entry
//! whose hash says so, about every thousandth, hence an insertion or deletion renews one segment and leaves the
//! others equal to the bytes of the backup before.
//!
//! A large file has thousands of extents and is divided into several entries, behind chunks whose hash says so; its
//! segments leave while it is still being read, and a change in the middle renews the entry around it.
//!
//! The common case, a segment in which nothing changed, is not even encoded: while entries are reused one by one
//! in the order of a base segment, the builder *mirrors* it, and when all of it came by, takes over its reference.

use super::division::Division;
use super::slot::{Home, Slot};
use super::usage::Usage;
use crate::error::{Error, Kind, Result};
use crate::model::{BlobId, PackKey};
use crate::repository::segment::{Bytes, Entry, Extent, FileEntry, Segment, SegmentRef};
use crate::repository::selection::order;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// A run of bytes of an artifact and the pack that it is or will be in.
#[derive(Clone)]
pub struct Piece {
    /// The pack.
    pub home: Home,
    /// Offset in it.
    pub offset: u32,
    /// Bytes.
    pub length: u32,
    /// The blob, when it is exactly one chunk.
    pub blob: Option<BlobId>,
}

/// A segment of the backup that this run compares with.
pub struct BaseSegment {
    /// What its manifest says of it.
    pub reference: SegmentRef,
    /// Its content.
    pub segment: Segment,
    /// Whether the stored object may be named again; not when prune has condemned it.
    pub lasting: bool,
}

struct Pending {
    file: Option<FileEntry>,
    more: Option<Bytes>,
    pieces: Vec<Piece>,
}

impl Pending {
    fn path(&self) -> Option<&Bytes> {
        self.file.as_ref().map(|f| &f.path).or(self.more.as_ref())
    }
}

/// A finished segment: new bytes, or one of an earlier backup.
pub enum Finished {
    /// To be stored.
    New {
        /// Encoded body.
        body: Vec<u8>,
        /// Entries in it.
        entries: u32,
        /// Bytes of the artifact.
        bytes: u64,
        /// First path.
        first: Option<Bytes>,
    },
    /// Stored by an earlier backup, unchanged.
    Same(SegmentRef),
}

/// Builds one recipe.
#[derive(Default)]
pub struct RecipeBuilder {
    division: Division,
    pending: VecDeque<Pending>,
    current: Segment,
    current_packs: HashMap<PackKey, u32>,
    current_extents: usize,
    mirror: Option<(Arc<BaseSegment>, usize)>,
    /// The path of the last entry that was pushed or is behind us in a finished mirror.
    last: Option<Bytes>,
    finished: Vec<Finished>,
    /// What the recipe uses.
    pub usage: Usage,
    /// Bytes of the artifact so far.
    pub bytes: u64,
}

impl RecipeBuilder {
    /// An empty recipe whose large files are divided in this way.
    pub fn new(division: Division) -> Self {
        RecipeBuilder { division, ..RecipeBuilder::default() }
    }

    /// Adds a new entry.
    pub fn push(&mut self, file: Option<FileEntry>, pieces: Vec<Piece>) -> Result<()> {
        self.push_entry(Pending { file, more: None, pieces })
    }

    /// Adds an entry that goes on with the file of this path, whose earlier entries came just before.
    pub fn push_more(&mut self, path: Bytes, pieces: Vec<Piece>) -> Result<()> {
        self.push_entry(Pending { file: None, more: Some(path), pieces })
    }

    fn push_entry(&mut self, entry: Pending) -> Result<()> {
        self.unmirror()?;
        self.follows(entry.path())?;
        self.last = entry.path().cloned();
        self.bytes += entry.pieces.iter().map(|p| u64::from(p.length)).sum::<u64>();
        self.pending.push_back(entry);
        self.drain()
    }

    /// Who reads a part of a tree trusts the order of its paths (`Selection`), so a member out of it would be lost to him
    /// in silence. Only a stream that somebody else made can hold one.
    fn follows(&self, path: Option<&Bytes>) -> Result<()> {
        match (&self.last, path) {
            (Some(last), path) if order(Some(last), path).is_gt() => {
                let behind = last.display();
                Err(Error::new(
                    Kind::Source,
                    format!("its members do not come in the order of their paths: {behind} before"),
                )
                .at(path.map(Bytes::display).unwrap_or_default())
                .hint("Let the program that makes the archive sort it, as `tar --sort=name` does."))
            }
            _ => Ok(()),
        }
    }

    /// Whether an entry of a file with these pieces takes no more.
    pub fn is_full(&self, pieces: &[Piece]) -> bool {
        self.division.is_full(pieces.len(), pieces.last().and_then(|p| p.blob))
    }

    /// Adds entry `index` of a base segment as it is.
    pub fn reuse(&mut self, base: &Arc<BaseSegment>, index: usize) -> Result<()> {
        match &mut self.mirror {
            Some((mirrored, next)) if Arc::ptr_eq(mirrored, base) && *next == index => *next += 1,
            Some((mirrored, next))
                if *next == mirrored.segment.entries.len()
                    && index == 0
                    && base.lasting
                    && self.division.closes_whole(&mirrored.segment) =>
            {
                self.finish_mirror();
                self.follows(base.segment.entries[0].path())?;
                self.mirror = Some((base.clone(), 1));
            }
            None if index == 0 && base.lasting && self.pending.is_empty() && self.current.entries.is_empty() => {
                self.follows(base.segment.entries[0].path())?;
                self.mirror = Some((base.clone(), 1))
            }
            _ => {
                self.unmirror()?;
                return self.reuse_entry(base, index);
            }
        }
        self.count(base, index);
        Ok(())
    }

    fn count(&mut self, base: &BaseSegment, index: usize) {
        for x in &base.segment.entries[index].extents {
            self.usage.add(&base.segment.packs[x.pack as usize], x.length);
            self.bytes += u64::from(x.length);
        }
    }

    fn reuse_entry(&mut self, base: &BaseSegment, index: usize) -> Result<()> {
        let entry = &base.segment.entries[index];
        let pieces = entry
            .extents
            .iter()
            .map(|x| Piece {
                home: Home::Stored(base.segment.packs[x.pack as usize]),
                offset: x.offset,
                length: x.length,
                blob: x.blob,
            })
            .collect();
        self.push_entry(Pending { file: entry.file.clone(), more: entry.more.clone(), pieces })
    }

    /// Something differs: what was mirrored so far becomes ordinary entries.
    fn unmirror(&mut self) -> Result<()> {
        let Some((base, seen)) = self.mirror.take() else { return Ok(()) };
        if seen == base.segment.entries.len() && self.division.closes_whole(&base.segment) {
            self.take_over(&base);
            return Ok(());
        }
        // They were counted when they came by.
        let (bytes, usage) = (self.bytes, std::mem::take(&mut self.usage));
        for index in 0..seen {
            self.reuse_entry(&base, index)?;
        }
        (self.bytes, self.usage) = (bytes, usage);
        Ok(())
    }

    fn finish_mirror(&mut self) {
        if let Some((base, _)) = self.mirror.take() {
            self.take_over(&base);
        }
    }

    fn take_over(&mut self, base: &BaseSegment) {
        self.last = base.segment.entries.last().and_then(Entry::path).cloned();
        self.finished.push(Finished::Same(base.reference.clone()));
    }

    /// Entries that wait for a pack. The caller flushes its open pack when these get too many.
    pub fn waiting(&self) -> usize {
        self.pending.len()
    }

    /// Whether the first of them waits for this pack.
    pub fn waits_for(&self, slot: &Arc<Slot>) -> bool {
        let in_it = |p: &Piece| matches!(&p.home, Home::Slot(s) if Arc::ptr_eq(s, slot));
        self.pending.front().is_some_and(|e| e.pieces.iter().any(in_it))
    }

    /// Moves what is resolved from the front of the queue into segments.
    fn drain(&mut self) -> Result<()> {
        while let Some(front) = self.pending.front() {
            let Some(resolved) = front.pieces.iter().map(|p| p.home.resolve(p.offset)).collect::<Option<Vec<_>>>()
            else {
                break;
            };
            let Some(entry) = self.pending.pop_front() else { break };
            let extents = entry
                .pieces
                .iter()
                .zip(resolved)
                .map(|(piece, (info, offset))| {
                    self.usage.add(&info, piece.length);
                    let next = self.current_packs.len() as u32;
                    let pack = *self.current_packs.entry(info.key).or_insert(next);
                    if pack == next {
                        Arc::make_mut(&mut self.current.packs).push(info);
                    }
                    Extent { pack, offset, length: piece.length, blob: piece.blob }
                })
                .collect();
            self.add(Entry { file: entry.file, more: entry.more, extents: merge_adjacent(extents) })?;
        }
        Ok(())
    }

    fn add(&mut self, entry: Entry) -> Result<()> {
        self.current_extents += entry.extents.len();
        self.current.entries.push(entry);
        if self.division.closes(&self.current, self.current_extents) {
            self.end_segment()?;
        }
        Ok(())
    }

    fn end_segment(&mut self) -> Result<()> {
        if self.current.entries.is_empty() {
            return Ok(());
        }
        let segment = std::mem::take(&mut self.current);
        self.current_packs.clear();
        self.current_extents = 0;
        self.finished.push(Finished::New {
            body: segment.encode()?,
            entries: segment.entries.len() as u32,
            bytes: segment.entries.iter().map(Entry::bytes).sum(),
            first: segment.entries.first().and_then(Entry::path).cloned(),
        });
        Ok(())
    }

    /// Finished segments since the last call.
    pub fn take_finished(&mut self) -> Vec<Finished> {
        std::mem::take(&mut self.finished)
    }

    /// Ends the recipe. Every pack must be stored by now.
    pub fn end(&mut self) -> Result<()> {
        if self.mirror.as_ref().is_some_and(|(base, seen)| *seen == base.segment.entries.len()) {
            self.finish_mirror();
        }
        self.unmirror()?;
        self.drain()?;
        if !self.pending.is_empty() {
            return Err(Error::new(Kind::Internal, "a recipe ended before its packs were stored"));
        }
        self.end_segment()
    }
}

/// Two extents that lie side by side in a pack and in the artifact are one, unless they are chunks.
fn merge_adjacent(extents: Vec<Extent>) -> Vec<Extent> {
    let mut out: Vec<Extent> = Vec::with_capacity(extents.len());
    for x in extents {
        match out.last_mut() {
            Some(last)
                if last.blob.is_none()
                    && x.blob.is_none()
                    && last.pack == x.pack
                    && last.offset + last.length == x.offset =>
            {
                last.length += x.length
            }
            _ => out.push(x),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PackId;
    use crate::repository::segment::{FileType, PackInfo};

    fn info(n: u8) -> PackInfo {
        PackInfo { key: PackKey { id: PackId([n; 32]), generation: 0 }, epoch: 1, plain: u32::MAX, sealed: 1, crc: 1 }
    }

    fn file(n: u32) -> FileEntry {
        FileEntry {
            path: Bytes(format!("dir/{n:06}").into_bytes()),
            kind: FileType::File,
            size: 1,
            mtime: 0,
            ctime: Some(0),
            inode: 1,
            mode: 0,
            uid: 0,
            gid: 0,
            link: None,
            header: 512,
            blob: None,
            read_day: 0,
        }
    }

    fn push(b: &mut RecipeBuilder, n: u32, size: u32) {
        b.push(Some(file(n)), vec![Piece { home: Home::Stored(info(1)), offset: n * 1024, length: size, blob: None }])
            .unwrap();
    }

    #[test]
    fn a_member_out_of_order_is_refused_since_a_part_of_the_tree_would_be_read_without_it() {
        let entry = |path: &str| FileEntry { path: Bytes(path.into()), ..file(0) };
        let piece = || vec![Piece { home: Home::Stored(info(1)), offset: 0, length: 512, blob: None }];
        let mut b = RecipeBuilder::default();
        for path in [".", "a", "a/b", "a/b", "a-b"] {
            b.push(Some(entry(path)), piece()).unwrap();
        }
        let e = b.push(Some(entry("a/c")), piece()).unwrap_err();
        assert!(e.to_string().contains("a-b") && e.to_string().contains("a/c"), "{e}");
        // The end of the tar has no path and comes last.
        b.push(None, piece()).unwrap();

        // Segments of the backup before are taken over as they are, and have their place in the order too.
        let mut b = built(6000, 100);
        b.end().unwrap();
        let bases = bases(b.take_finished());
        assert!(bases.len() > 1);
        let mut b = RecipeBuilder::default();
        (0..bases[1].segment.entries.len()).for_each(|i| b.reuse(&bases[1], i).unwrap());
        assert!(b.reuse(&bases[0], 0).is_err());
        assert!(b.push(Some(file(0)), piece()).is_err());
    }

    fn bases(finished: Vec<Finished>) -> Vec<Arc<BaseSegment>> {
        finished
            .into_iter()
            .enumerate()
            .map(|(i, f)| {
                let Finished::New { body, entries, bytes, first } = f else { panic!("expected new segments") };
                let reference = SegmentRef { object: info(i as u8).key, sealed: 1, crc: 1, entries, bytes, first };
                Arc::new(BaseSegment { reference, segment: Segment::decode(&body, "x").unwrap(), lasting: true })
            })
            .collect()
    }

    fn built(n: u32, size: u32) -> RecipeBuilder {
        let mut b = RecipeBuilder::default();
        (0..n).for_each(|i| push(&mut b, i, size));
        b.end().unwrap();
        b
    }

    fn news(finished: &[Finished]) -> usize {
        finished.iter().filter(|f| matches!(f, Finished::New { .. })).count()
    }

    #[test]
    fn an_unchanged_recipe_takes_over_every_segment() {
        let mut first = built(20_000, 1024);
        let base = bases(first.take_finished());
        assert!(base.len() > 5);
        let mut again = RecipeBuilder::default();
        for b in &base {
            (0..b.segment.entries.len()).for_each(|i| again.reuse(b, i).unwrap());
        }
        again.end().unwrap();
        let finished = again.take_finished();
        assert_eq!(news(&finished), 0);
        assert_eq!(finished.len(), base.len());
        assert_eq!(again.bytes, first.bytes);
        assert_eq!(
            again.usage.packs().map(|p| u64::from(p.1.used)).sum::<u64>(),
            first.usage.packs().map(|p| u64::from(p.1.used)).sum::<u64>()
        );
    }

    #[test]
    fn one_changed_entry_renews_one_segment_and_the_bytes_agree() {
        let mut first = built(20_000, 1024);
        let base = bases(first.take_finished());
        for (change, skip) in [(7000, false), (7000, true), (0, true), (19_999, true)] {
            let mut again = RecipeBuilder::default();
            let mut n = 0;
            for b in &base {
                for i in 0..b.segment.entries.len() {
                    if n == change {
                        if !skip {
                            push(&mut again, n, 512);
                        }
                    } else {
                        again.reuse(b, i).unwrap();
                    }
                    n += 1;
                }
            }
            again.end().unwrap();
            let expected = first.bytes - if skip { 1024 } else { 512 };
            assert_eq!(again.bytes, expected);
            assert_eq!(again.usage.packs().map(|p| u64::from(p.1.used)).sum::<u64>(), expected);
            let finished = again.take_finished();
            let total: u64 = finished
                .iter()
                .map(|f| match f {
                    Finished::New { bytes, .. } => *bytes,
                    Finished::Same(r) => r.bytes,
                })
                .sum();
            assert_eq!(total, expected);
            assert!(news(&finished) <= 2, "{} new segments", news(&finished));
        }
    }

    #[test]
    fn appending_night_after_night_does_not_leave_crumbs() {
        let mut b = built(300, 1024);
        let mut base = bases(b.take_finished());
        for night in 1..40 {
            let mut again = RecipeBuilder::default();
            for s in &base {
                (0..s.segment.entries.len()).for_each(|i| again.reuse(s, i).unwrap());
            }
            push(&mut again, 300 + night, 1024);
            again.end().unwrap();
            let old = base.clone();
            base = again
                .take_finished()
                .into_iter()
                .map(|f| match f {
                    Finished::Same(r) => old.iter().find(|o| o.reference == r).unwrap().clone(),
                    new => bases(vec![new]).remove(0),
                })
                .collect();
        }
        assert!(base.len() <= 3, "{} segments", base.len());
    }

    #[test]
    fn entries_leave_in_order_although_packs_are_stored_out_of_order() {
        let (a, b) = (Slot::new(), Slot::new());
        let mut r = RecipeBuilder::default();
        r.push(None, vec![Piece { home: Home::Slot(a.clone()), offset: 0, length: 10, blob: None }]).unwrap();
        r.push(None, vec![Piece { home: Home::Slot(b.clone()), offset: 0, length: 20, blob: None }]).unwrap();
        b.stored(info(2));
        assert!(r.end().is_err());
        a.moved(b, 100);
        r.end().unwrap();
        let segments = bases(r.take_finished());
        let lengths: Vec<_> =
            segments[0].segment.entries.iter().map(|e| (e.extents[0].offset, e.extents[0].length)).collect();
        assert_eq!(lengths, [(100, 10), (0, 20)]);
    }
}
