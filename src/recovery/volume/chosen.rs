//! Which volumes of a backup are meant, and what it says of them.

use crate::error::{Error, Kind, Result};
use crate::recovery::select;
use crate::repository::manifest::{Artifact, SourceRecord};
use crate::sources::volume::{VolumeFacts, artifact_name};

/// What the backup says of a volume.
///
/// # Errors
/// [`Kind::NotFound`] with those that it has.
pub fn facts_of(record: &SourceRecord, volume: &str) -> Result<VolumeFacts> {
    let volumes = record.facts.get("volumes").and_then(|v| v.as_object());
    let facts = volumes.and_then(|v| v.get(volume)).cloned().ok_or_else(|| {
        Error::new(Kind::NotFound, format!("source {} holds no volume {volume}", record.name))
            .hint(format!("It holds: {}.", names_of(record).join(", ")))
    })?;
    serde_json::from_value(facts)
        .map_err(|e| Error::new(Kind::Damaged, format!("the facts of volume {volume} cannot be read")).because(e))
}

/// The volumes of a source.
pub fn names_of(record: &SourceRecord) -> Vec<String> {
    record.facts.get("volumes").and_then(|v| v.as_object()).map(|v| v.keys().cloned().collect()).unwrap_or_default()
}

/// The artifact of a volume.
///
/// # Errors
/// [`Kind::NotFound`].
pub fn artifact_of<'a>(record: &'a SourceRecord, volume: &str) -> Result<&'a Artifact> {
    select::artifact(record, Some(&artifact_name(volume)))
}

/// The one volume that is meant.
///
/// # Errors
/// [`Kind::Usage`] when there are several and none is named.
pub fn one_of(record: &SourceRecord, only: Option<&str>) -> Result<String> {
    let names = names_of(record);
    match (only, &names[..]) {
        (Some(only), _) => facts_of(record, only).map(|_| only.to_owned()),
        (None, [one]) => Ok(one.clone()),
        (None, _) => Err(Error::new(Kind::Usage, format!("source {} holds several volumes", record.name))
            .hint(format!("Pick one with --volume: {}.", names.join(", ")))),
    }
}

/// Volumes in the backup and what they are to be restored as.
///
/// # Errors
/// [`Kind::NotFound`], [`Kind::Usage`].
pub fn targets(record: &SourceRecord, only: Option<&str>, to: Option<&str>) -> Result<Vec<(String, String)>> {
    match (only, to) {
        (None, None) => Ok(names_of(record).into_iter().map(|n| (n.clone(), n)).collect()),
        (Some(only), None) => facts_of(record, only).map(|_| vec![(only.to_owned(), only.to_owned())]),
        (only, Some(to)) => Ok(vec![(one_of(record, only)?, to.to_owned())]),
    }
}
