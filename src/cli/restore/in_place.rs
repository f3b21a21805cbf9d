//! `backstay restore --in-place` and `--fresh-cluster`: what must hold before a live database is dropped, or a server's files
//! are set aside.

use super::Args;
use crate::cli::backup;
use crate::cli::context::Context;
use crate::config::{Config, SourceConfig};
use crate::error::{Error, Kind, Result};
use crate::model::Name;
use crate::recovery::asked::{Asked, Safety};
use crate::repository::manifest::{Manifest, SourceRecord};
use crate::sources::postgres::PostgresSource;
use std::path::PathBuf;

/// What the name of a plan of safety backups ends with.
const SAFETY: &str = "-safety";

/// Only databases are restored so, and a waiver is the plan's name, typed.
pub fn check(chosen: &[&SourceRecord], args: &Args, plan: &Name) -> Result<()> {
    only_databases(chosen, "--in-place")?;
    match &args.without_safety {
        Some(typed) if typed != plan.as_str() => Err(Error::new(
            Kind::Usage,
            format!("--without-safety takes the name of the plan, {plan}, as a confirmation"),
        )),
        _ => Ok(()),
    }
}

/// An option speaks of databases.
///
/// # Errors
/// [`Kind::Usage`] for sources of another kind.
pub fn only_databases(chosen: &[&SourceRecord], option: &str) -> Result<()> {
    match chosen.iter().find(|s| s.kind != "postgres") {
        Some(other) => Err(Error::new(
            Kind::Usage,
            format!("{option} speaks of databases, and source {} is of kind {}", other.name, other.kind),
        )
        .hint("Pick the postgres sources with --source.")),
        None => Ok(()),
    }
}

/// A new cluster is filled by one source: two of one server would each make it. A server has one data directory, and many names:
/// its socket, `localhost`.
///
/// # Errors
/// [`Kind::Usage`] with both.
pub async fn one_source_for_each_server(config: Option<&Config>, chosen: &[&SourceRecord]) -> Result<()> {
    let mut seen: Vec<(&Name, &PostgresSource, Option<PathBuf>)> = Vec::new();
    for record in chosen {
        let Some(SourceConfig::Postgres(server)) = config.and_then(|c| c.sources.get(&record.name)) else { continue };
        let server: &PostgresSource = server;
        // Where nothing tells it, the look at the target says why.
        let directory = server.directory().await.ok();
        let same = seen.iter().find(|(_, other, its)| {
            server.address.is_same_server(&other.address) || (directory.is_some() && directory == *its)
        });
        if let Some((one, ..)) = same {
            let other = &record.name;
            return Err(Error::new(
                Kind::Usage,
                format!("--fresh-cluster makes a server anew for one source, and {one} and {other} are of the same one"),
            )
            .hint(format!(
                "Name one with --source {one}. When the new cluster runs, restore {other} into it without --fresh-cluster."
            )));
        }
        seen.push((&record.name, server, directory));
    }
    Ok(())
}

/// The cold copy that is asked for, if one is.
///
/// # Errors
/// [`Kind::Usage`] for a directory that depends on where one is.
pub fn copied(args: &Args) -> Result<Option<Safety>> {
    match &args.cold_copy {
        None => Ok(None),
        Some(to) if to.is_empty() => Ok(Some(Safety::ColdCopy { to: None })),
        Some(to) if to.starts_with('/') => Ok(Some(Safety::ColdCopy { to: Some(to.into()) })),
        Some(to) => Err(Error::new(Kind::Usage, "--cold-copy takes an absolute path").at(to)),
    }
}

/// Hooks on what is staged find nothing when a cluster is made: its server runs only while it is filled.
///
/// # Errors
/// [`Kind::Refused`] by name.
pub fn refuse_hooks(asked: &Asked) -> Result<()> {
    match asked.flow.after_stage.first().filter(|_| asked.fresh_cluster) {
        Some(hook) => {
            Err(Error::new(Kind::Refused, "hooks on what is staged cannot run in a cluster that is not in place yet")
                .at(hook)
                .hint("Make it a hook `after_swap` of the plan for this restore."))
        }
        None => Ok(()),
    }
}

/// The plan under whose name safety backups are: what they hold is what somebody wanted to get rid of, so they must never
/// be the latest of the plan itself, nor push its backups out of what is kept.
pub fn safety_plan(plan: &Name) -> Result<Name> {
    format!("{}{SAFETY}", plan.as_str().strip_suffix(SAFETY).unwrap_or(plan.as_str())).parse()
}

/// Backs up what is live, right before it is dropped.
///
/// # Errors
/// When it cannot be backed up: then nothing is dropped.
pub async fn safety(context: &Context, plan: &Name, chosen: &[&SourceRecord]) -> Result<Manifest> {
    let sources: Vec<String> = chosen.iter().map(|s| s.name.to_string()).collect();
    let refused = |e: Error| {
        Error::new(Kind::Refused, "the safety backup of what is live failed, so nothing was dropped")
            .because(e.to_string())
            .hint(format!(
                "Mend that. When the live data cannot be dumped, --cold-copy copies the server's files instead; when it is past \
                 saving, --without-safety {plan}."
            ))
    };
    // A safety backup may itself be what is restored.
    let configured = plan.as_str().strip_suffix(SAFETY).unwrap_or(plan.as_str());
    let under = Some(safety_plan(plan)?);
    let manifest = backup::back_up(context, Some(configured), &sources, false, under).await.map_err(refused)?;
    match manifest.sources.iter().find(|s| !s.is_complete()) {
        None => Ok(manifest),
        Some(failed) => Err(refused(Error::new(Kind::Source, format!("source {} failed", failed.name)))),
    }
}
