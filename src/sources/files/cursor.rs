//! The index of the backup before, read alongside the walk.

use super::header::END;
use crate::error::{Error, Kind, Result};
use crate::model::paths::compare;
use crate::repository::segment::{Bytes, Entry, SegmentRef};
use crate::repository::writer::{BackupWriter, BaseSegment};
use std::cmp::Ordering;
use std::sync::{Arc, mpsc};

/// An entry: its segment, and its number there.
pub type Found = (Arc<BaseSegment>, usize);

/// Goes through the index entry by entry, in path order; a thread reads its segments ahead.
pub struct Cursor {
    writer: BackupWriter,
    references: Arc<Vec<SegmentRef>>,
    segments: mpsc::Receiver<Result<Arc<BaseSegment>>>,
    /// Segments that were received.
    received: usize,
    current: Option<Found>,
    ended: bool,
}

impl Cursor {
    /// A cursor before the first entry.
    pub fn new(writer: BackupWriter, references: Vec<SegmentRef>) -> Self {
        let (sender, segments) = mpsc::sync_channel(4);
        let references = Arc::new(references);
        let (reader, todo) = (writer.clone(), references.clone());
        std::thread::spawn(move || {
            for reference in todo.iter() {
                if sender.send(reader.base_segment(reference)).is_err() {
                    return;
                }
            }
        });
        Cursor { writer, references, segments, received: 0, current: None, ended: false }
    }

    /// Moves behind the entry of `path`, if there is one.
    pub fn find(&mut self, path: &[u8]) -> Option<Found> {
        loop {
            if self.current.as_ref().is_none_or(|(s, i)| *i >= s.segment.entries.len()) {
                if self.ended {
                    return None;
                }
                match self.receive() {
                    Some(Ok(segment)) => self.current = Some((segment, 0)),
                    // What cannot be read is read from the files again; check tells about the object.
                    Some(Err(_)) => {}
                    None => {
                        self.ended = true;
                        self.current = None;
                        return None;
                    }
                }
                continue;
            }
            let (segment, index) = self.current.as_mut()?;
            let entry = &segment.segment.entries[*index];
            // The end of the archive is behind every path.
            let order = entry.path().map_or(Ordering::Greater, |p| compare(&p.0, path));
            match order {
                Ordering::Equal if entry.file.is_some() => {
                    *index += 1;
                    return Some((segment.clone(), *index - 1));
                }
                Ordering::Greater => return None,
                // What goes on with a file is of no use without its beginning.
                Ordering::Less | Ordering::Equal => *index += 1,
            }
        }
    }

    fn receive(&mut self) -> Option<Result<Arc<BaseSegment>>> {
        let next = self.segments.recv().ok()?;
        self.received += 1;
        Some(next)
    }

    /// Whether all that goes on with the file that was just found is there and passes, without moving. A huge file
    /// fills many segments, so they are looked through here and read a second time by [`Cursor::next_of`].
    pub fn rest_passes(&self, path: &Bytes, passes: impl Fn(&BaseSegment, &Entry) -> bool) -> bool {
        let Some((segment, index)) = &self.current else { return true };
        let of_path = |e: &&Entry| e.more.as_ref() == Some(path);
        let all =
            |s: &BaseSegment, from: usize| s.segment.entries[from..].iter().take_while(of_path).all(|e| passes(s, e));
        if !all(segment, *index) {
            return false;
        }
        if segment.segment.entries[*index..].iter().any(|e| !of_path(&e)) {
            return true;
        }
        let following = self.references[self.received..].iter().take_while(|r| r.first.as_ref() == Some(path));
        for reference in following {
            match self.writer.base_segment(reference) {
                Ok(segment) if all(&segment, 0) => {}
                _ => return false,
            }
        }
        true
    }

    /// The next entry that goes on with the file that was found, and moves behind it.
    ///
    /// # Errors
    /// When its segment can no longer be read.
    pub fn next_of(&mut self, path: &Bytes) -> Result<Option<Found>> {
        if self.current.as_ref().is_some_and(|(s, i)| *i >= s.segment.entries.len()) {
            if self.references.get(self.received).is_none_or(|r| r.first.as_ref() != Some(path)) {
                return Ok(None);
            }
            let gone = || Error::new(Kind::Internal, "the thread that reads the index is gone");
            self.current = Some((self.receive().ok_or_else(gone)??, 0));
        }
        let Some((segment, index)) = &mut self.current else { return Ok(None) };
        if segment.segment.entries.get(*index).is_none_or(|e| e.more.as_ref() != Some(path)) {
            return Ok(None);
        }
        *index += 1;
        Ok(Some((segment.clone(), *index - 1)))
    }

    /// The entry of the archive's end, when it is what comes next: then a tree in which nothing changed needs not
    /// even a new end.
    pub fn trailer(&mut self) -> Option<Found> {
        let (mut segment, mut index) = self.current.take()?;
        loop {
            while let Some(entry) = segment.segment.entries.get(index) {
                if entry.path().is_none() && entry.bytes() == END.len() as u64 {
                    return Some((segment, index));
                }
                index += 1;
            }
            segment = self.receive()?.ok()?;
            index = 0;
        }
    }
}
