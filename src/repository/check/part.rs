//! Which packs a check reads: all of them, or the part that follows the one that was read last.
//!
//! The names of packs are spread evenly over a circle. A part is a stretch of it, and the next one begins where the
//! last one ended. So parts of 15 % have been everywhere after seven of them, however often or seldom they are read,
//! and also when the share changes in between. Where the last one ended is noted in a file of the machine that checks:
//! several machines each go their own round, and who has no note begins anywhere.

use crate::io::durable;
use crate::model::PackKey;
use std::io;
use std::path::Path;

/// All the places on the circle.
const CIRCLE: u64 = 1 << 32;

/// The packs whose names lie in one stretch of the circle of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    from: u32,
    length: u64,
}

impl Part {
    /// Every pack.
    pub const ALL: Part = Part { from: 0, length: CIRCLE };

    /// This share (0 to 1) of the packs, from where the part ended that `note` speaks of; from anywhere when it cannot
    /// be read.
    pub fn after(note: Option<&Path>, share: f64) -> Part {
        let text = note.and_then(|file| std::fs::read_to_string(file).ok());
        let from = text.and_then(|text| text.trim().parse().ok()).unwrap_or_else(rand::random);
        // Rounded up, so that twenty parts of 5 % are no less than everything.
        Part { from, length: ((share * CIRCLE as f64).ceil() as u64).min(CIRCLE) }
    }

    /// Notes that this part was read.
    ///
    /// # Errors
    /// Those of the file system. Then the next check reads the same part again, or begins anywhere.
    pub fn note(&self, file: &Path) -> io::Result<()> {
        if let Some(folder) = file.parent() {
            durable::make_folder(folder, 0o700)?;
        }
        durable::replace(file, format!("{}\n", self.end()).as_bytes(), 0o600)
    }

    /// Whether a pack is in it.
    pub(super) fn has(&self, key: &PackKey) -> bool {
        let [a, b, c, d, ..] = key.id.0;
        u64::from(u32::from_be_bytes([a, b, c, d]).wrapping_sub(self.from)) < self.length
    }

    /// Where the next one begins.
    fn end(&self) -> u32 {
        // Only the place on the circle counts, not how often it was gone round.
        self.from.wrapping_add(self.length as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PackId;

    fn at(place: u32) -> PackKey {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&place.to_be_bytes());
        PackKey { id: PackId(id), generation: 0 }
    }

    #[test]
    fn parts_follow_each_other_and_come_round_in_as_many_as_were_promised() {
        let dir = tempfile::tempdir().unwrap();
        for (percent, promised) in [(0.5, 200), (5.0, 20), (10.0, 10), (15.0, 7), (33.0, 4), (50.0, 2), (99.0, 2)] {
            let note = dir.path().join(format!("checked/{percent}"));
            let mut covered = 0;
            let mut end = None;
            for _ in 0..promised {
                let part = Part::after(Some(&note), percent / 100.0);
                assert!(end.is_none_or(|end| end == part.from), "{percent} %");
                assert!(part.length < CIRCLE && part.has(&at(part.from)) && !part.has(&at(part.end())));
                assert!(part.has(&at(part.end().wrapping_sub(1))) && !part.has(&at(part.from.wrapping_sub(1))));
                covered += part.length;
                end = Some(part.end());
                part.note(&note).unwrap();
            }
            assert!(covered >= CIRCLE, "{percent} %");
        }
    }

    #[test]
    fn all_of_it_is_every_pack_and_without_a_note_it_begins_anywhere() {
        let places = [0, 1, u32::MAX / 2, u32::MAX];
        let dir = tempfile::tempdir().unwrap();
        let broken = dir.path().join("broken");
        std::fs::write(&broken, "no number").unwrap();
        for part in [Part::ALL, Part::after(None, 1.0), Part::after(Some(&broken), 1.0)] {
            assert!(places.iter().all(|place| part.has(&at(*place))), "{part:?}");
        }
        let began: std::collections::BTreeSet<u32> = (0..20).map(|_| Part::after(None, 0.05).from).collect();
        assert!(began.len() > 10);
    }
}
