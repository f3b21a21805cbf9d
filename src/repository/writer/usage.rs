//! How much of each pack a backup uses.

use super::known::FirstBytes;
use crate::model::PackId;
use crate::model::ids::PackPrefix;
use crate::repository::segment::PackInfo;
use std::collections::HashMap;
use std::hash::BuildHasherDefault;

/// How much of each pack a backup uses, by the first bytes of its name: 3 million packs of a 10 TB host take 70 MiB.
#[derive(Default)]
pub struct Usage(HashMap<PackPrefix, PackUse, BuildHasherDefault<FirstBytes>>);

/// Use of one pack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PackUse {
    /// Bytes used; what is used twice counts twice.
    pub used: u32,
    /// Bytes of the whole.
    pub plain: u32,
}

impl Usage {
    /// Some bytes of a pack.
    pub fn add(&mut self, pack: &PackInfo, bytes: u32) {
        let entry = self.0.entry(pack.key.id.prefix()).or_insert(PackUse { used: 0, plain: pack.plain });
        entry.used = entry.used.saturating_add(bytes);
    }

    /// Adds another artifact's use.
    pub fn merge(&mut self, other: Usage) {
        if self.0.is_empty() {
            *self = other;
            return;
        }
        for (id, more) in other.0 {
            let entry = self.0.entry(id).or_insert(PackUse { used: 0, plain: more.plain });
            entry.used = entry.used.saturating_add(more.used);
        }
    }

    /// Whether a pack of this name is used.
    pub fn uses(&self, id: &PackId) -> bool {
        self.0.contains_key(&id.prefix())
    }

    /// Every pack with its use.
    pub fn packs(&self) -> impl Iterator<Item = (&PackPrefix, &PackUse)> {
        self.0.iter()
    }
}
