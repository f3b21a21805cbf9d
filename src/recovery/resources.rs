//! The resources of a restore, made from what was asked for.

use super::asked::{Asked, Part, Safety};
use super::chosen;
use super::cluster::cold::ColdCopy;
use super::cluster::fresh::FreshCluster;
use super::command::{self, Taking};
use super::database::Databases;
use super::images::Images;
use super::inplace::InPlace;
use super::redis::{self, RedisResource, Wanted};
use super::resource::{Findings, Resource};
use super::rows::Rows;
use super::tables::Tables;
use super::trees::Trees;
use super::volume::DockerVolume;
use super::wanted;
use crate::config::{Config, SourceConfig};
use crate::error::{Error, Kind, Result};
use crate::model::{BackupId, Name};
use crate::repository::manifest::{Manifest, SourceRecord};
use crate::repository::reader::Reader;
use crate::sources::command::{Bound, Target};
use crate::sources::files::exclude::Excludes;
use crate::sources::files::untar::Ids;
use crate::sources::postgres::PostgresSource;
use crate::sources::postgres::address::Address;
use crate::sources::postgres::load::Options;
use std::path::PathBuf;
use std::sync::Arc;

/// The backups that a restore reads.
#[derive(Clone, Copy, Default)]
pub struct Backups<'a> {
    /// What is restored; without it a restore can only be undone.
    pub manifest: Option<&'a Manifest>,
    /// The safety backup of what is restored in place.
    pub safety: Option<&'a Manifest>,
    /// Without it nothing can be staged.
    pub reader: Option<&'a Reader>,
}

/// The resources of a restore, whose id gives names to what they stage and keep.
///
/// # Errors
/// [`Kind::Config`] when a source is not configured here, [`Kind::NotFound`] when the backup does not have it.
pub async fn resources(
    asked: &Asked,
    config: Option<&Config>,
    own: &[PathBuf],
    id: &BackupId,
    from: Backups<'_>,
) -> Result<Vec<Arc<dyn Resource>>> {
    let Backups { manifest, safety, reader } = from;
    let record = |source: &Name| manifest.map(|m| super::select::source(m, source)).transpose();
    let of = |source: &Name| Ok::<_, Error>(reader.cloned().zip(record(source)?.cloned()));
    let mut out: Vec<Arc<dyn Resource>> = Vec::new();
    for part in &asked.parts {
        match part {
            Part::Files { source, paths } => {
                let ids = match record(source)? {
                    // What lies on a machine belongs to a name; in other trees the number counts.
                    Some(record) if record.kind == "host" => super::host::ids(record)?.0,
                    _ => Ids::default(),
                };
                let excludes = match config.and_then(|c| c.sources.get(source)) {
                    Some(SourceConfig::Files(files)) => Some(Excludes::new(&files.exclude, &files.never)?),
                    _ => None,
                };
                out.push(Arc::new(Trees {
                    source: source.to_string(),
                    paths: paths.clone(),
                    id: id.clone(),
                    from: of(source)?,
                    own: own.to_vec(),
                    excludes,
                    ids: Arc::new(ids),
                    nginx: config.and_then(|c| c.maintenance.as_ref()).map(|m| m.r#where.clone()).unwrap_or_default(),
                }));
            }
            Part::Volumes { source, targets } => {
                let from = of(source)?;
                let exclude = match config.and_then(|c| c.sources.get(source)) {
                    Some(SourceConfig::Volume(configured)) => configured.exclude.clone(),
                    _ => Vec::new(),
                };
                out.extend(targets.iter().map(|(volume, target)| {
                    Arc::new(DockerVolume {
                        name: target.clone(),
                        of: volume.clone(),
                        id: id.clone(),
                        from: from.clone(),
                        own: own.to_vec(),
                        exclude: exclude.clone(),
                    }) as Arc<dyn Resource>
                }));
            }
            Part::Images { source } => {
                out.push(Arc::new(Images { source: source.to_string(), from: of(source)? }));
            }
            Part::Redis { source } => {
                let Some(SourceConfig::Redis(configured)) = config.and_then(|c| c.sources.get(source)) else {
                    return Err(not_configured(source, "redis"));
                };
                let wanted = record(source)?.map(|r| Wanted::new(reader.cloned(), r)).transpose()?;
                let service = redis::service_of(configured).await?;
                let name = source.as_str();
                out.push(Arc::new(RedisResource::new(name, id.clone(), configured.clone(), service, wanted)));
            }
            Part::Command { source, to } => {
                let Some((config, SourceConfig::Command(configured))) =
                    config.and_then(|c| Some((c, c.sources.get(source)?)))
                else {
                    return Err(not_configured(source, "command"));
                };
                let taking = Taking {
                    source: source.clone(),
                    id: id.clone(),
                    configured: (**configured).clone(),
                    facts: record(source)?.map(command::facts_of).transpose()?.unwrap_or_default(),
                    from: of(source)?,
                };
                if let (Target::Database(bound), None) = (&taking.configured.back.into, to) {
                    dumped_besides(asked, config, source, bound)?;
                }
                out.push(command::resource(taking, to.as_deref(), own, &config.state_dir)?);
            }
            Part::Databases { source, targets, server } => {
                let configured = postgres(config, source)?;
                let address = match server {
                    Some(url) => Address::parse(url)?,
                    None => configured.address.clone(),
                };
                let databases = |record: Option<&SourceRecord>| {
                    let wanted = targets.iter().map(|t| t.database.as_str());
                    let loader = record.map(|record| chosen::loader(record, wanted)).unwrap_or_default();
                    Ok::<_, Error>(Databases {
                        source: source.to_string(),
                        address: address.clone(),
                        targets: targets.clone(),
                        facts: record.map(chosen::facts_of).transpose()?.unwrap_or_default(),
                        id: id.clone(),
                        from: reader.cloned().zip(record.cloned()),
                        options: Options { loader, ..options(asked, configured) },
                        count_rows_up_to: configured.count_rows_up_to,
                        assume_space: asked.assume_space,
                        dropped_first: asked.in_place.is_some(),
                    })
                };
                let new = databases(record(source)?)?;
                if asked.fresh_cluster {
                    out.push(Arc::new(FreshCluster { server: configured.clone(), new }));
                    continue;
                }
                let Some(stands) = &asked.in_place else {
                    out.push(Arc::new(new));
                    continue;
                };
                let cold = match stands {
                    Safety::ColdCopy { to } => Some(ColdCopy::new(configured.clone(), to.clone(), id.clone())),
                    _ => None,
                };
                let safety = safety.map(|m| super::select::source(m, source)).transpose()?;
                let safety = safety.map(|record| databases(Some(record))).transpose()?;
                out.push(Arc::new(InPlace { new, safety, cold }));
            }
            Part::Rows { source, database, into } => {
                let configured = postgres(config, source)?;
                out.push(Arc::new(Rows {
                    address: configured.address.clone(),
                    into: into.clone(),
                    facts: record(source)?.map(|r| wanted::facts_of(r, database)).transpose()?,
                    from: of(source)?,
                    options: options(asked, configured),
                    count_rows_up_to: configured.count_rows_up_to,
                }));
            }
            Part::Tables { source, wanted } => {
                let configured = postgres(config, source)?;
                out.push(Arc::new(Tables {
                    address: configured.address.clone(),
                    facts: record(source)?.map(|r| wanted::facts_of(r, &wanted.database)).transpose()?,
                    wanted: wanted.clone(),
                    id: id.clone(),
                    from: of(source)?,
                    options: wanted.options(options(asked, configured)),
                    count_rows_up_to: configured.count_rows_up_to,
                    assume_space: asked.assume_space,
                }));
            }
        }
    }
    Ok(out)
}

fn options(asked: &Asked, configured: &PostgresSource) -> Options {
    Options {
        no_owner: asked.no_owner,
        no_privileges: asked.no_privileges,
        what: asked.what,
        ..Options::whole(configured.jobs)
    }
}

/// The server of a source, which is where it is restored to.
fn postgres<'a>(config: Option<&'a Config>, source: &Name) -> Result<&'a PostgresSource> {
    match config.and_then(|c| c.sources.get(source)) {
        Some(SourceConfig::Postgres(configured)) => Ok(configured),
        _ => Err(not_configured(source, "postgres")),
    }
}

/// Refuses to exchange one database twice: what the first one restored would be the previous one of the second.
fn dumped_besides(asked: &Asked, config: &Config, source: &Name, bound: &Bound) -> Result<()> {
    for part in &asked.parts {
        let Part::Databases { source: other, targets, server: None } = part else { continue };
        let Some(SourceConfig::Postgres(server)) = config.sources.get(other) else { continue };
        if server.address.is_same_server(&bound.server.address) && targets.iter().any(|t| t.live == bound.name) {
            return Err(Error::new(
                Kind::Usage,
                format!("database {} would be restored by source {source} and by source {other}", bound.name),
            )
            .hint("Pick one of them with --source."));
        }
    }
    Ok(())
}

fn not_configured(source: &Name, kind: &str) -> Error {
    Error::new(Kind::Config, format!("source {source} is not configured here, so where to restore to is unknown"))
        .hint(format!("Add [sources.{source}] with kind = \"{kind}\", as it was at the backup."))
}

/// Looks at every target before any is touched.
///
/// # Errors
/// The first [`Kind::Refused`].
pub async fn preflight(resources: &[Arc<dyn Resource>]) -> Result<Vec<(String, Findings)>> {
    let mut found = Vec::new();
    for resource in resources {
        found.push((resource.label(), resource.preflight().await?));
    }
    Ok(found)
}
