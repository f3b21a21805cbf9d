//! What a restore in place notes of the databases that it drops, and of the files of the server that stand for them.

use super::cluster::cold::{Cold, ColdCopy};
use super::resource::{Left, Note, parse};
use crate::sources::postgres::attributes::Attributes;
use serde::{Deserialize, Serialize};

/// For the journal: all that doing and undoing need.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) databases: Vec<One>,
    /// Roles that the server lacks and that the backup has.
    pub(super) roles: Vec<String>,
    /// What the cold copy consists of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cold: Option<Cold>,
    /// Databases of the server that are not restored, and go back with the cold copy all the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) others: Vec<String>,
}

/// A database.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct One {
    pub(super) live: String,
    /// OID of the database that has the name now, if one has.
    pub(super) live_oid: Option<u32>,
    /// Whether that may be connected to.
    #[serde(default = "yes")]
    pub(super) open: bool,
    /// What goes with the name.
    pub(super) attributes: Attributes,
    /// What of the backup's cannot go with it, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) not_given: Vec<String>,
    /// The name under which it is loaded.
    pub(super) loading: String,
}

/// What journals of before meant that do not say it.
fn yes() -> bool {
    true
}

impl Plan {
    /// The cold copy, with how it is made.
    pub(super) fn cold<'a>(&'a self, how: Option<&'a ColdCopy>) -> Option<(&'a ColdCopy, &'a Cold)> {
        how.zip(self.cold.as_ref())
    }
}

/// What others had written when the cold copy took the place of the server's files, as far as that is there. The note is one of
/// such a restore, or of something else, which leaves nothing.
pub(super) fn left(note: &Note) -> Vec<Left> {
    let Ok(Plan { cold: Some(cold), others, .. }) = parse::<Plan>(note) else { return Vec::new() };
    if others.is_empty() {
        return Vec::new();
    }
    let what = format!("the cold copy took back all of the server: what {} had written since", others.join(", "));
    // What its links led to lies beside those, under names that end alike.
    cold.set_aside().first().map(|place| Left { what, place: place.to_path_buf() }).into_iter().collect()
}
