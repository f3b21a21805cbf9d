//! Condemned records: which objects a prune will delete, and which names must not be used again for a while.
//!
//! A record that is damaged says no longer which objects those are. It must not stop backups for good, and it must not
//! be passed over: see [`Doubt`].

use super::layout;
use super::record::RecordKind;
use super::vault::Vault;
use crate::error::{Error, Kind, Result};
use crate::model::PackKey;
use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::pin::pin;

/// A run that began so long after a record was stored has seen it. Both times are the store's; this is for stores
/// whose servers disagree a little.
const SEEN_AFTER: SignedDuration = SignedDuration::from_hours(1);

/// Objects that a prune condemned.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Condemned {
    /// Format version, 1.
    pub format: u32,
    /// The store's clock when it was written.
    pub at: Timestamp,
    /// Packs.
    pub packs: Vec<PackKey>,
    /// Segments.
    pub segments: Vec<PackKey>,
    /// True when the objects were deleted, and only their names are still forbidden.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub carried_out: bool,
}

/// A record that is damaged.
#[derive(Debug)]
pub struct Unreadable {
    /// Its key.
    pub key: String,
    /// When it was stored, by the store's clock.
    pub stored: Timestamp,
    /// Why it cannot be read.
    pub why: Error,
}

/// All records of a vault.
#[derive(Debug, Default)]
pub struct Records {
    /// Those that can be read, with their keys.
    pub readable: Vec<(String, Condemned)>,
    /// Those that are damaged.
    pub unreadable: Vec<Unreadable>,
}

/// What damaged records leave in doubt. They may name any object that was stored before them, and a prune that can
/// still read one may delete those. Runs that began after the record was stored named nothing of it: they read it, or
/// were in the same doubt. So what their manifests name is safe, and nothing else is.
#[derive(Clone, Copy, Debug)]
pub struct Doubt(Timestamp);

impl Doubt {
    /// Whether everything that a backup names is safe, which began at this time of the store.
    pub fn spares(self, began: Timestamp) -> bool {
        began.duration_since(self.0) > SEEN_AFTER
    }
}

impl Records {
    /// Reads all records.
    ///
    /// # Errors
    /// Those of the store, and [`Kind::Key`] or [`Kind::Newer`] when others can read what this host cannot.
    pub async fn read(vault: &Vault) -> Result<Records> {
        let mut records = Records::default();
        // They are read side by side: what counts is that all of them are read before anything else is. One that goes
        // between listing and reading was carried out by another prune.
        let mut read = pin!(vault.records::<Condemned>(RecordKind::Condemned, layout::CONDEMNED).await?);
        while let Some((object, record)) = read.next().await {
            match record {
                Ok(record) => records.readable.push((object.key, record)),
                Err(why) if why.kind == Kind::Damaged => {
                    records.unreadable.push(Unreadable { key: object.key, stored: object.modified, why })
                }
                Err(e) => return Err(e),
            }
        }
        Ok(records)
    }

    /// What is in doubt, when a record is damaged.
    pub fn doubt(&self) -> Option<Doubt> {
        self.unreadable.iter().map(|u| u.stored).max().map(Doubt)
    }
}

/// All records with their keys; one that is damaged fails the call.
pub async fn condemned_records(vault: &Vault) -> Result<Vec<(String, Condemned)>> {
    let records = Records::read(vault).await?;
    match records.unreadable.into_iter().next() {
        Some(damaged) => Err(damaged.why),
        None => Ok(records.readable),
    }
}
