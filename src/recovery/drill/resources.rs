//! What a drill stages, made from its plan.

use super::aside::{Aside, StagedOnly};
use super::databases::ScratchDatabases;
use super::image::ImagesAside;
use super::output::OutputAside;
use super::plan::{Staging, configured_command};
use super::redis::RedisAside;
use super::tree::TreeAside;
use super::{With, place};
use crate::config::{Config, SourceConfig};
use crate::error::{Error, Kind, Result};
use crate::model::{BackupId, Name};
use crate::recovery::asked::Part;
use crate::recovery::chosen::{self, Target as DatabaseTarget};
use crate::recovery::command::{self, Taking};
use crate::recovery::database::Databases;
use crate::recovery::redis::Wanted;
use crate::recovery::resource::Resource;
use crate::recovery::select;
use crate::recovery::volume::chosen::artifact_of;
use crate::repository::manifest::SourceRecord;
use crate::repository::reader::Reader;
use crate::sources::command::{OUTPUT, Target};
use crate::sources::files::TREE;
use crate::sources::postgres::address::Address;
use crate::sources::postgres::load::Options;
use std::path::PathBuf;
use std::sync::Arc;

/// Tables on a scratch server are counted whatever their size.
const COUNT_ALL: u64 = u64::MAX;
/// Sessions at once that load, where nothing is configured.
const JOBS: usize = 2;

/// Something that is staged.
pub struct Made {
    /// It.
    pub resource: Arc<dyn Resource>,
    /// It goes onto a server of the drill's own.
    pub scratch: bool,
}

/// What is staged in the drill's directory.
fn aside(what: impl Aside + 'static) -> Made {
    Made { resource: Arc::new(StagedOnly(what)), scratch: false }
}

/// Everything that is staged.
///
/// # Errors
/// When the backup, or the configuration, does not have what the plan names.
pub async fn all(with: &With<'_>) -> Result<Vec<Made>> {
    let (staging, private) = (with.staging, place::private(&with.staging.dir));
    let mut made = Vec::new();
    for (n, part) in staging.parts.iter().enumerate() {
        let source = part.source();
        let record = select::source(with.manifest, source)?;
        let tree = |label: String, directory: PathBuf, artifact: &crate::repository::manifest::Artifact| {
            let (artifact, reader) = (artifact.clone(), with.reader.clone());
            aside(TreeAside { label, directory, artifact, reader })
        };
        let directory = private.join(n.to_string());
        match part {
            Part::Files { .. } => {
                made.push(tree(format!("files {source}"), directory, select::artifact(record, Some(TREE))?));
            }
            Part::Volumes { targets, .. } => {
                for (k, (volume, _)) in targets.iter().enumerate() {
                    let directory = private.join(format!("{n}-{k}"));
                    made.push(tree(format!("volume {volume}"), directory, artifact_of(record, volume)?));
                }
            }
            Part::Images { .. } => made.push(aside(ImagesAside {
                source: source.to_string(),
                directory,
                record: record.clone(),
                reader: with.reader.clone(),
            })),
            Part::Redis { .. } => made.push(aside(RedisAside {
                source: source.to_string(),
                id: with.id.clone(),
                directory,
                wanted: Wanted::new(Some(with.reader.clone()), record)?,
            })),
            Part::Databases { targets, .. } => {
                let from = Some((with.reader.clone(), record.clone()));
                made.push(databases(staging, with.own, with.id, source, targets, from)?);
            }
            Part::Command { .. } => match configured_command(with.own, source) {
                Some(_) => {
                    let from = Some((with.reader.clone(), record.clone()));
                    made.extend(command(staging, with.own, with.id, source, from)?);
                }
                None => made.push(aside(OutputAside {
                    source: source.to_string(),
                    artifact: select::artifact(record, Some(OUTPUT))?.clone(),
                    reader: with.reader.clone(),
                })),
            },
            Part::Rows { .. } | Part::Tables { .. } => {
                return Err(Error::new(Kind::Internal, "a drill restores whole databases"));
            }
        }
    }
    Ok(made)
}

/// Those that stage outside of the drill's directory and servers, made to remove it again after a crash.
///
/// # Errors
/// When the configuration does not have them any more.
pub async fn outside(staging: &Staging, own: Option<&Config>, id: &BackupId) -> Result<Vec<Arc<dyn Resource>>> {
    let mut made = Vec::new();
    for part in &staging.parts {
        let source = part.source();
        match part {
            Part::Databases { targets, .. } => made.push(databases(staging, own, id, source, targets, None)?),
            Part::Command { .. } if configured_command(own, source).is_some() => {
                made.extend(command(staging, own, id, source, None)?);
            }
            _ => {}
        }
    }
    Ok(made.into_iter().filter(|m| !m.scratch).map(|m| m.resource).collect())
}

fn scratch_address(staging: &Staging, source: &Name) -> Result<Option<Address>> {
    let server = staging.servers.iter().find(|s| s.source == *source);
    server.map(|s| s.address(&staging.dir)).transpose()
}

fn databases(
    staging: &Staging,
    own: Option<&Config>,
    id: &BackupId,
    source: &Name,
    targets: &[DatabaseTarget],
    from: Option<(Reader, SourceRecord)>,
) -> Result<Made> {
    let configured = match own.and_then(|c| c.sources.get(source)) {
        Some(SourceConfig::Postgres(configured)) => Some(configured),
        _ => None,
    };
    let scratch = scratch_address(staging, source)?;
    let is_scratch = scratch.is_some();
    let address = match (scratch, configured) {
        (Some(address), _) => address,
        (None, Some(configured)) => configured.address.clone(),
        (None, None) => {
            return Err(Error::new(Kind::Config, format!("source {source} is not configured here any more"))
                .hint("A drill stages on its server: put the source back, so that it can be looked at there."));
        }
    };
    let facts = from.as_ref().map(|(_, record)| chosen::facts_of(record)).transpose()?.unwrap_or_default();
    let wanted = targets.iter().map(|t| t.database.as_str());
    let loader = from.as_ref().map(|(_, record)| chosen::loader(record, wanted)).unwrap_or_default();
    let databases = Databases {
        source: source.to_string(),
        address,
        targets: targets.to_vec(),
        facts,
        id: id.clone(),
        from,
        options: Options { loader, scratch: is_scratch, ..Options::whole(configured.map_or(JOBS, |c| c.jobs)) },
        count_rows_up_to: configured.filter(|_| !is_scratch).map_or(COUNT_ALL, |c| c.count_rows_up_to),
        assume_space: None,
        dropped_first: false,
    };
    let resource: Arc<dyn Resource> = match is_scratch {
        true => Arc::new(StagedOnly(ScratchDatabases(databases))),
        false => Arc::new(databases),
    };
    Ok(Made { resource, scratch: is_scratch })
}

/// The output of a source and its own programs, none of which acts on what is live.
fn command(
    staging: &Staging,
    own: Option<&Config>,
    id: &BackupId,
    source: &Name,
    from: Option<(Reader, SourceRecord)>,
) -> Result<Option<Made>> {
    let Some(mut configured) = configured_command(own, source).cloned() else { return Ok(None) };
    let commands = place::commands(&staging.dir).join(source.as_str());
    let mut scratch = false;
    match &mut configured.back.into {
        // In a container only what is beside the live one can be seen.
        Target::File(_) if configured.runner.container.is_some() => {}
        Target::File(path) => *path = commands.join(path.file_name().unwrap_or_default()),
        Target::Nothing => {
            configured.back.load = None;
            configured.back.into = Target::File(commands.join(OUTPUT));
        }
        Target::InPlace { .. } => {}
        Target::Database(bound) => {
            if let Some(address) = scratch_address(staging, source)? {
                bound.server.address = address;
                scratch = true;
            }
        }
    }
    let facts = from.as_ref().map(|(_, record)| command::facts_of(record)).transpose()?.unwrap_or_default();
    let taking = Taking { source: source.clone(), id: id.clone(), configured, facts, from };
    // What is loaded in place is fetched and checked in a directory of its own, and loaded nowhere.
    let resource = command::resource(taking, None, &[], &place::private(&staging.dir))?;
    Ok(Some(Made { resource, scratch }))
}
