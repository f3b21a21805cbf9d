//! From options to what is asked for.

use super::{Args, host};
use crate::error::{Error, Kind, Result};
use crate::model::size;
use crate::recovery::asked::{Asked, Part};
use crate::recovery::chosen::{self, Target};
use crate::recovery::flow::Flow;
use crate::recovery::volume;
use crate::recovery::wanted::{self, Named, To};
use crate::repository::manifest::{Manifest, SourceRecord};
use crate::repository::reader::Reader;
use crate::sources::postgres::load::What;
use std::path::{Path, PathBuf};

/// Options that speak of one kind pick the sources of that kind; `--to` speaks of exactly one.
pub fn narrow<'a>(chosen: Vec<&'a SourceRecord>, args: &Args, m: &Manifest) -> Result<Vec<&'a SourceRecord>> {
    let kinds = [
        (!args.path.is_empty()).then_some(&["files", "host"][..]),
        args.speaks_of_databases().then_some(&["postgres"][..]),
        args.volume.is_some().then_some(&["volume"][..]),
    ];
    let mut kinds = kinds.into_iter().flatten();
    let kind = kinds.next();
    if kinds.next().is_some() {
        return Err(Error::new(
            Kind::Usage,
            "--path speaks of files, --database of a database and --volume of a volume",
        )
        .hint("Give one of them."));
    }
    let fits = |s: &&SourceRecord| kind.is_none_or(|kinds| kinds.contains(&s.kind.as_str()));
    let chosen = host::that_holds(chosen.into_iter().filter(fits).collect(), args);
    let names = || chosen.iter().map(|s| s.name.as_str()).collect::<Vec<_>>().join(", ");
    if chosen.is_empty() {
        return Err(Error::new(Kind::NotFound, format!("backup {} has no source of that kind", m.id))
            .hint("`backstay show` lists its sources."));
    }
    if chosen.len() > 1 && (args.to.is_some() || kind.is_some()) {
        return Err(Error::new(Kind::Usage, "that option speaks of one source, and the backup has several")
            .hint(format!("Pick one with --source: {}.", names())));
    }
    if let Some(failed) = chosen.iter().find(|s| !s.is_complete()) {
        return Err(Error::new(Kind::NotFound, format!("source {} failed in backup {}", failed.name, m.id))
            .hint("Take another backup, or pick sources with --source."));
    }
    Ok(chosen)
}

/// What is asked for, in a form that a journal keeps. What is found about it on the way goes to `told`, by label.
pub async fn asked_of(
    reader: &Reader,
    m: &Manifest,
    chosen_sources: &[&SourceRecord],
    args: &Args,
    state_dir: &Path,
    told: &mut Vec<(String, Vec<String>)>,
) -> Result<Asked> {
    if (args.replica_mode || args.no_keep) && !args.picks_tables() {
        return Err(Error::new(Kind::Usage, "--replica-mode and --no-keep speak of tables")
            .hint("Name them with --table or --schema."));
    }
    let server = args.to.as_ref().filter(|to| chosen::is_server(to));
    if server.is_some() && (args.picks_tables() || args.data_only) {
        return Err(Error::new(
            Kind::Usage,
            "a URL after --to speaks of whole databases, not of --table, --schema or --data-only",
        )
        .hint("Restore the whole database there, and copy from it."));
    }
    let mut parts = Vec::new();
    for record in chosen_sources {
        let source = record.name.clone();
        parts.push(match record.kind.as_str() {
            "files" => {
                let recorded = record.facts.get("paths").cloned().unwrap_or_default();
                let recorded: Vec<PathBuf> = serde_json::from_value(recorded)
                    .map_err(|e| Error::new(Kind::Damaged, "the facts of the source cannot be read").because(e))?;
                Part::Files { source, paths: if args.path.is_empty() { recorded } else { args.path.clone() } }
            }
            "postgres" if args.picks_tables() => {
                let named =
                    Named { tables: &args.table, schema: args.schema.as_deref(), database: args.database.as_deref() };
                let to = match &args.to {
                    Some(schema) => To::Schema(schema.clone()),
                    None => To::Place { replica_mode: args.replica_mode, keep: !args.no_keep },
                };
                Part::Tables { source, wanted: wanted::find(reader, record, named, to).await? }
            }
            "postgres" if args.data_only => {
                let targets = chosen::targets(record, args.database.as_deref(), args.to.as_deref())?;
                let [Target { database, live, .. }] = &targets[..] else {
                    return Err(Error::new(Kind::Internal, "one database was to be chosen, and there are several"));
                };
                Part::Rows { source, database: database.clone(), into: live.clone() }
            }
            "host" => {
                let (part, warnings) = host::part(reader, m, record, args, state_dir).await?;
                told.push((format!("files {source}"), warnings));
                part
            }
            "command" => Part::Command { source, to: args.to.clone() },
            "redis" => Part::Redis { source },
            "postgres" => {
                let to = match server {
                    Some(url) => Some(chosen::database_of(url)?),
                    None => args.to.clone(),
                };
                let targets = chosen::targets(record, args.database.as_deref(), to.as_deref())?;
                Part::Databases { source, targets, server: server.cloned() }
            }
            "image" if args.to.is_some() => {
                return Err(Error::new(Kind::Usage, "images are loaded as what they are; --to means nothing for them"));
            }
            "image" => Part::Images { source },
            "volume" => Part::Volumes {
                source,
                targets: volume::chosen::targets(record, args.volume.as_deref(), args.to.as_deref())?,
            },
            other => {
                return Err(Error::new(
                    Kind::Newer,
                    format!("source {source} is of kind {other}, which this version does not restore"),
                )
                .hint("`backstay cat` writes its artifacts out."));
            }
        });
    }
    let what = match (args.schema_only, args.data_only) {
        (true, _) => What::Schema,
        (_, true) => What::Data,
        _ => What::All,
    };
    Ok(Asked {
        what,
        by: std::env::var("SUDO_USER").or_else(|_| std::env::var("USER")).unwrap_or_else(|_| "unknown".into()),
        parts,
        no_owner: args.no_owner,
        no_privileges: args.no_privileges,
        assume_space: args.assume_space.as_deref().map(size::parse).transpose()?,
        in_place: None,
        fresh_cluster: args.fresh_cluster,
        flow: Flow::default(),
        taken: Some(m.started),
        rollback_of: None,
    })
}
