//! Restoring databases: each into a new database, verified before it counts.

use crate::error::{Error, Kind, Result};
use crate::repository::manifest::SourceRecord;
use crate::repository::reader::Reader;
use crate::sources::postgres::connect::Server;
use crate::sources::postgres::facts::DatabaseFacts;
use crate::sources::postgres::load::{Loaded, load};
use crate::sources::postgres::{GLOBALS, artifact_name};

/// The facts of the databases in a source's record.
pub fn facts(record: &SourceRecord) -> Result<Vec<DatabaseFacts>> {
    let databases = record.facts.get("databases").cloned().unwrap_or_default();
    serde_json::from_value(databases).map_err(|e| {
        Error::new(Kind::Damaged, format!("the facts of source {} cannot be read", record.name)).because(e)
    })
}

/// Restores the databases of a source, or one of them, each to its own name or one to the name given.
///
/// # Errors
/// See [`load`]. The databases before the failing one stay restored.
pub async fn restore(
    reader: &Reader,
    record: &SourceRecord,
    server: &Server,
    only: Option<&str>,
    to: Option<&str>,
) -> Result<Vec<Loaded>> {
    let all = facts(record)?;
    let chosen: Vec<&DatabaseFacts> = all.iter().filter(|f| only.is_none_or(|o| o == f.database)).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = all.iter().map(|f| f.database.as_str()).collect();
        return Err(Error::new(
            Kind::NotFound,
            format!("source {} holds no database {}", record.name, only.unwrap_or_default()),
        )
        .hint(format!("It holds: {}.", names.join(", "))));
    }
    if to.is_some() && chosen.len() > 1 {
        return Err(Error::new(Kind::Usage, "--to names one database, and the backup holds several")
            .hint("Pick one with --database."));
    }
    let globals = match record.artifacts.iter().find(|a| a.name == GLOBALS) {
        Some(artifact) => reader.small(artifact).await?,
        None => Vec::new(),
    };
    let mut loaded = Vec::new();
    for facts in chosen {
        let artifact = crate::recovery::select::artifact(record, Some(&artifact_name(&facts.database)))?;
        let archive = reader.stream(artifact, |_| true);
        loaded.push(load(server, to.unwrap_or(&facts.database), facts, &globals, archive).await?);
    }
    Ok(loaded)
}
