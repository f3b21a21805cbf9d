//! Which backup is meant.

use crate::error::{Error, Kind, Result};
use crate::model::{BackupId, Name, time};
use crate::repository::catalog::Catalog;
use crate::repository::manifest::{Artifact, Manifest, SourceRecord};
use jiff::Timestamp;

/// Finds a backup of a plan: `latest`, an id, or the unique beginning of one. With `at`, the newest one that
/// began no later. With `sources`, only a backup in which those are complete counts as latest.
///
/// # Errors
/// [`Kind::NotFound`] with what there is.
pub async fn backup(
    catalog: &Catalog,
    plan: &Name,
    which: &str,
    at: Option<Timestamp>,
    sources: &[Name],
) -> Result<Manifest> {
    let hint = "`backstay list` shows what there is.";
    let ids = catalog.ids(Some(plan)).await?;
    if ids.is_empty() {
        return Err(Error::new(
            Kind::NotFound,
            format!("plan {plan} of host {} has no backup", catalog.vault().host()),
        )
        .hint(hint));
    }
    if which == "latest" {
        for (plan, id) in ids.iter().rev() {
            let manifest = catalog.manifest(plan, id).await?;
            let early_enough = at.is_none_or(|at| manifest.started <= at);
            if early_enough && covers(&manifest, sources) {
                return Ok(manifest);
            }
        }
        let newest = catalog.manifest(&ids[ids.len() - 1].0, &ids[ids.len() - 1].1).await?;
        // One that the newest backup does not even name is most likely mistyped.
        if let Some(unknown) = sources.iter().find(|s| newest.source(s).is_none()) {
            return Err(no_source(&newest, unknown));
        }
        let what = match at {
            Some(at) => format!("no complete backup was begun by {}", time::utc(at)),
            None => "no backup is complete".to_owned(),
        };
        return Err(Error::new(Kind::NotFound, format!("plan {plan}: {what}")).hint(hint));
    }
    let matching: Vec<_> = ids.iter().filter(|(_, id)| id.as_str().starts_with(which)).collect();
    match &matching[..] {
        [(plan, id)] => catalog.manifest(plan, id).await,
        [] => Err(Error::new(Kind::NotFound, format!("plan {plan} has no backup {which}")).hint(hint)),
        several => Err(Error::new(
            Kind::NotFound,
            format!("{which} is the beginning of {} backups of plan {plan}", several.len()),
        )
        .hint("Give more of the id.")),
    }
}

/// The newest backup before another one in which the sources, or all, are complete.
///
/// # Errors
/// When manifests cannot be read.
pub async fn older(catalog: &Catalog, plan: &Name, than: &BackupId, sources: &[Name]) -> Result<Option<Manifest>> {
    let ids = catalog.ids(Some(plan)).await?;
    for (plan, id) in ids.iter().rev().skip_while(|(_, id)| id != than).skip(1) {
        let manifest = match catalog.manifest(plan, id).await {
            Err(e) if e.kind == Kind::Damaged => continue,
            other => other?,
        };
        if covers(&manifest, sources) {
            return Ok(Some(manifest));
        }
    }
    Ok(None)
}

fn covers(manifest: &Manifest, sources: &[Name]) -> bool {
    match sources {
        [] => manifest.is_complete(),
        some => some.iter().all(|s| manifest.source(s).is_some_and(SourceRecord::is_complete)),
    }
}

fn no_source(manifest: &Manifest, name: &Name) -> Error {
    let names: Vec<&str> = manifest.sources.iter().map(|s| s.name.as_str()).collect();
    Error::new(Kind::NotFound, format!("backup {} has no source {name}", manifest.id))
        .hint(format!("It has: {}.", names.join(", ")))
}

/// A source of a backup that can be restored.
pub fn source<'a>(manifest: &'a Manifest, name: &Name) -> Result<&'a SourceRecord> {
    let record = manifest.source(name).ok_or_else(|| no_source(manifest, name))?;
    if let crate::repository::manifest::SourceState::Failed(why) = &record.state {
        return Err(Error::new(Kind::NotFound, format!("source {name} failed in backup {}", manifest.id))
            .because(why.clone())
            .hint("Take another backup; `backstay list` shows which are complete."));
    }
    Ok(record)
}

/// An artifact of a source: the only one, or the one named.
pub fn artifact<'a>(record: &'a SourceRecord, name: Option<&str>) -> Result<&'a Artifact> {
    let names = || record.artifacts.iter().map(|a| a.name.as_str()).collect::<Vec<_>>().join(", ");
    match name {
        Some(name) => record.artifacts.iter().find(|a| a.name == name).ok_or_else(|| {
            Error::new(Kind::NotFound, format!("source {} has no artifact {name}", record.name))
                .hint(format!("It has: {}.", names()))
        }),
        None if record.artifacts.len() == 1 => Ok(&record.artifacts[0]),
        None => Err(Error::new(Kind::Usage, format!("source {} has several artifacts", record.name))
            .hint(format!("Name one of: {}.", names()))),
    }
}
