//! `backstay restore`

use super::context::Context;
use super::output::{good, json, notice, say};
use super::restore_redis as redis;
use crate::config::{Config, SourceConfig};
use crate::error::{Error, Kind, Result};
use crate::model::{Name, size, time};
use crate::recovery::tree::Placed;
use crate::recovery::{database, select, tree};
use crate::repository::manifest::{Manifest, SourceRecord};
use crate::repository::reader::Reader;
use crate::sources::files::TREE;
use crate::sources::postgres::connect::Server;
use crate::sources::postgres::load::Loaded;
use jiff::SignedDuration;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// `latest`, an id, or the beginning of one
    #[arg(default_value = "latest")]
    backup: String,
    /// Plan
    #[arg(long, value_name = "NAME")]
    plan: Option<String>,
    /// Restore only this source (repeatable)
    #[arg(long, value_name = "NAME")]
    source: Vec<String>,
    /// The newest backup begun by this time (`2026-01-03 22:00` in local time, or with a zone)
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Restore to another directory or database (of a `redis` source, the RDB into a directory); without it, to where it was
    #[arg(long, value_name = "DIRECTORY|DATABASE")]
    to: Option<String>,
    /// Of a `files` source, restore only this file or directory (repeatable)
    #[arg(long, value_name = "PATH")]
    path: Vec<PathBuf>,
    /// Of a `postgres` source, restore only this database
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
}

#[derive(Default)]
struct Done {
    placed: Vec<(Name, Placed)>,
    loaded: Vec<(Name, Loaded)>,
    redis: Vec<(Name, redis::Restored)>,
}

/// Restores.
pub async fn run(context: &Context, args: Args) -> Result<ExitCode> {
    let started = Instant::now();
    let (config, vault) = context.vault(true).await?;
    let _lock = config.as_ref().map(|c| context.lock(c, "restore")).transpose()?;
    let catalog = context.catalog(config.as_ref(), vault);
    let plan = context.plan(args.plan.as_deref(), config.as_ref(), &catalog).await?;
    let at = args.at.as_deref().map(time::parse_moment).transpose()?;
    let only: Vec<Name> = args.source.iter().map(|s| s.parse()).collect::<Result<_>>()?;
    let m = select::backup(&catalog, &plan, &args.backup, at, &only).await?;
    let chosen: Vec<&SourceRecord> = if only.is_empty() {
        m.sources.iter().filter(|s| s.kind != "config").collect()
    } else {
        only.iter().map(|n| select::source(&m, n)).collect::<Result<_>>()?
    };
    let chosen = narrow(chosen, &args, &m)?;
    let monitor = context.monitor(&format!("restore {plan}"));
    let total = chosen.iter().map(|s| s.bytes()).sum();
    if args.path.is_empty() && args.database.is_none() {
        monitor.event(crate::telemetry::monitor::Event::Expect(total));
    }
    let reader = Reader::new(catalog, monitor.clone())?;
    let mut done = Done::default();
    for record in chosen {
        monitor.event(crate::telemetry::monitor::Event::Stage(record.name.to_string()));
        restore_source(&reader, &m, record, config.as_ref(), &args, &mut done).await?;
    }
    drop((reader, monitor));
    let plan_config = config.as_ref().and_then(|c| c.plans.get(&plan));
    report(context, &m, &done, started, plan_config.is_some_and(|p| p.has_restore_section))?;
    Ok(ExitCode::SUCCESS)
}

/// Options that speak of one kind pick the sources of that kind; `--to` speaks of exactly one.
fn narrow<'a>(chosen: Vec<&'a SourceRecord>, args: &Args, m: &Manifest) -> Result<Vec<&'a SourceRecord>> {
    let kind = match (args.path.is_empty(), &args.database) {
        (false, Some(_)) => {
            return Err(Error::new(Kind::Usage, "--path speaks of files and --database of a database")
                .hint("Give one of them."));
        }
        (false, None) => Some("files"),
        (true, Some(_)) => Some("postgres"),
        (true, None) => None,
    };
    let chosen: Vec<&SourceRecord> = chosen.into_iter().filter(|s| kind.is_none_or(|k| s.kind == k)).collect();
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

async fn restore_source(
    reader: &Reader,
    m: &Manifest,
    record: &SourceRecord,
    config: Option<&Config>,
    args: &Args,
    done: &mut Done,
) -> Result<()> {
    match record.kind.as_str() {
        "files" => {
            let artifact = select::artifact(record, Some(TREE))?;
            if let Some(to) = &args.to {
                let placed = tree::into_directory(reader, artifact, &args.path, PathBuf::from(to).as_path()).await?;
                done.placed.push((record.name.clone(), placed));
                return Ok(());
            }
            let recorded = record.facts.get("paths").cloned().unwrap_or_default();
            let recorded: Vec<PathBuf> = serde_json::from_value(recorded)
                .map_err(|e| Error::new(Kind::Damaged, "the facts of the source cannot be read").because(e))?;
            let paths = if args.path.is_empty() { recorded } else { args.path.clone() };
            let placed = tree::in_place(reader, m, artifact, &paths, &own_paths(config)).await?;
            done.placed.extend(placed.into_iter().map(|p| (record.name.clone(), p)));
        }
        "postgres" => {
            let server = server_of(record, config)?;
            let loaded =
                database::restore(reader, record, &server, args.database.as_deref(), args.to.as_deref()).await?;
            done.loaded.extend(loaded.into_iter().map(|l| (record.name.clone(), l)));
        }
        "redis" => {
            let restored = redis::restore(reader, m, record, config, args.to.as_deref()).await?;
            done.redis.push((record.name.clone(), restored));
        }
        other => {
            return Err(Error::new(
                Kind::Newer,
                format!("source {} is of kind {other}, which this version does not restore", record.name),
            )
            .hint("`backstay cat` writes its artifacts out."));
        }
    }
    Ok(())
}

/// What an exchange must not take away from under this very run.
fn own_paths(config: Option<&Config>) -> Vec<PathBuf> {
    let mut own: Vec<PathBuf> = std::env::current_exe().into_iter().collect();
    if let Some(c) = config {
        own.push(c.state_dir.clone());
        own.push(std::path::absolute(&c.file).unwrap_or_else(|_| c.file.clone()));
        own.extend(c.storage.url.strip_prefix("file://").map(PathBuf::from));
    }
    own
}

fn server_of(record: &SourceRecord, config: Option<&Config>) -> Result<Server> {
    match config.and_then(|c| c.sources.get(&record.name)) {
        Some(SourceConfig::Postgres(p)) => Ok(p.server.clone()),
        _ => Err(Error::new(
            Kind::Config,
            format!("source {} is not configured here, so the server to restore to is unknown", record.name),
        )
        .hint(format!("Add [sources.{}] with kind = \"postgres\" and the url of the server.", record.name))),
    }
}

fn report(context: &Context, m: &Manifest, done: &Done, started: Instant, has_restore_section: bool) -> Result<()> {
    let seconds = started.elapsed().as_secs_f64();
    if context.global.json {
        let paths: Vec<_> = done
            .placed
            .iter()
            .map(|(s, p)| serde_json::json!({ "source": s, "path": p.path, "files": p.restored.files, "directories": p.restored.dirs, "links": p.restored.links, "bytes": p.restored.bytes, "previous": p.previous, "left_out": p.restored.left_out }))
            .collect();
        let databases: Vec<_> = done
            .loaded
            .iter()
            .map(|(s, l)| serde_json::json!({ "source": s, "database": l.database, "rows": l.rows, "tables": l.tables, "roles_made": l.roles_made }))
            .collect();
        let servers: Vec<_> = done
            .redis
            .iter()
            .map(|(s, r)| serde_json::json!({ "source": s, "place": r.place, "keys": r.keys, "lasting_keys": r.lasting, "compared": r.compared, "previous": r.previous, "warnings": r.warnings, "outage_seconds": r.outage }))
            .collect();
        return json(
            &serde_json::json!({ "backup": m.id, "plan": m.plan, "paths": paths, "databases": databases, "redis": servers, "seconds": seconds }),
        );
    }
    let took = time::words(SignedDuration::from_millis((seconds * 1000.0) as i64));
    say(&format!("{} backup {} of plan {} in {took}", good("restored"), m.id, m.plan))?;
    for (source, p) in &done.placed {
        say(&format!(
            "  {source}: {} with {}, {} and {}",
            p.path.display(),
            size::plural(p.restored.files, "file"),
            size::plural(p.restored.dirs, "directory"),
            size::human(p.restored.bytes)
        ))?;
        if let Some(previous) = &p.previous {
            say(&format!("    what was there is kept as {}, with what the backup excludes", previous.display()))?;
        }
        for (what, n) in &p.restored.left_out {
            say(&format!("    {} {what} could not be set on {}", notice("left out:"), size::plural(*n, "entry")))?;
        }
    }
    for (source, l) in &done.loaded {
        say(&format!(
            "  {source}: database {} with {} in {}, equal to the facts of the backup",
            l.database,
            size::plural(l.rows, "row"),
            size::plural(l.tables, "table")
        ))?;
        if !l.roles_made.is_empty() {
            say(&format!("    roles made: {}", l.roles_made.join(", ")))?;
        }
    }
    for (source, r) in &done.redis {
        r.say(source)?;
    }
    if has_restore_section {
        say(&notice(
            "This version restores data; it does not act on the plan's [restore] section yet. Stop and start the application by hand.",
        ))?;
    }
    Ok(())
}
