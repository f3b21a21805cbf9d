//! `backstay restore`

mod command;
mod host;
mod in_place;
mod open;
mod rdb;
pub(super) mod report;

use super::context::Context;
use super::output::{ask, notice, say};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::model::{Name, size, time};
use crate::recovery::database::Target;
use crate::recovery::redis::Wanted;
use crate::recovery::resource::Findings;
use crate::recovery::restore::{
    Asked, Backups, Part, Restore, Safety, journal_file, new_id, open_restore, preflight, resources,
};
use crate::recovery::tables::{Named, To};
use crate::recovery::{database, select, tables, tree, volume};
use crate::repository::manifest::{Manifest, SourceRecord};
use crate::repository::reader::Reader;
use crate::sources::files::TREE;
use crate::sources::postgres::load::What;
use crate::telemetry::monitor::{Event, Monitor, Silent};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
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
    /// Restore to another directory, database or volume, tables to a new schema, or the output of a command to a file; without
    /// it, to where it was
    #[arg(long, value_name = "DIRECTORY|DATABASE|SCHEMA|VOLUME|FILE")]
    to: Option<String>,
    /// Of a `files` or `host` source, restore only this file or directory (repeatable)
    #[arg(long, value_name = "PATH")]
    path: Vec<PathBuf>,
    /// Of a `postgres` source, restore only this database
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
    /// Of a database, restore only this table: its rows in place, or with --to into a new schema (repeatable)
    #[arg(long, value_name = "NAME", conflicts_with = "path")]
    table: Vec<String>,
    /// The same for all tables of a schema
    #[arg(long, value_name = "NAME", conflicts_with = "path")]
    schema: Option<String>,
    /// Replace rows of tables that other tables point at, unless one of those would point at nothing
    #[arg(long, conflicts_with = "to")]
    replica_mode: bool,
    /// Do not keep the rows that tables had
    #[arg(long, conflicts_with = "to")]
    no_keep: bool,
    /// Restore the definitions of a database without its rows, to a new one
    #[arg(long, requires = "to", conflicts_with_all = ["table", "schema", "path"])]
    schema_only: bool,
    /// Restore the rows of a database into one that has its tables, all of them empty
    #[arg(long, requires = "to", conflicts_with_all = ["table", "schema", "path", "schema_only"])]
    data_only: bool,
    /// Of a `volume` source, restore only this volume
    #[arg(long, value_name = "NAME")]
    volume: Option<String>,
    /// Do not ask; needed where nobody can answer
    #[arg(long)]
    yes: bool,
    /// Look at every target, say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Leave the objects of databases to the connecting role
    #[arg(long)]
    no_owner: bool,
    /// Leave out grants on objects of databases
    #[arg(long)]
    no_privileges: bool,
    /// Free space on a database server that does not tell it, `100GiB`
    #[arg(long, value_name = "SIZE")]
    assume_space: Option<String>,
    /// Drop live databases before they are loaded, where there is no room for two; a safety backup is taken first
    #[arg(long, conflicts_with_all = ["to", "table", "schema"])]
    in_place: bool,
    /// Take no safety backup of what --in-place drops; there is then no way back. Give the plan's name
    #[arg(long, value_name = "PLAN", requires = "in_place")]
    without_safety: Option<String>,
    /// Finish the restore that was interrupted
    #[arg(long, conflicts_with_all = ["unwind", "dry_run"])]
    resume: bool,
    /// Take back the restore that was interrupted
    #[arg(long, conflicts_with = "dry_run")]
    unwind: bool,
}

impl Args {
    fn picks_tables(&self) -> bool {
        !self.table.is_empty() || self.schema.is_some()
    }

    fn speaks_of_databases(&self) -> bool {
        self.database.is_some() || self.picks_tables() || self.schema_only || self.data_only
    }
}

/// Restores.
pub async fn run(context: &Context, args: Args) -> Result<ExitCode> {
    if args.resume || args.unwind {
        return open::go_on(context, args.resume).await;
    }
    let started = Instant::now();
    let (config, vault) = context.vault(true).await?;
    let config = config.as_ref();
    let _lock = config.map(|c| context.lock(c, "restore")).transpose()?;
    let catalog = context.catalog(config, vault);
    let plan = context.plan(args.plan.as_deref(), config, &catalog).await?;
    let at = args.at.as_deref().map(time::parse_moment).transpose()?;
    let only: Vec<Name> = args.source.iter().map(|s| s.parse()).collect::<Result<_>>()?;
    let m = select::backup(&catalog, &plan, &args.backup, at, &only).await?;
    let chosen: Vec<&SourceRecord> = if only.is_empty() {
        m.sources.iter().filter(|s| s.kind != "config").collect()
    } else {
        only.iter().map(|n| select::source(&m, n)).collect::<Result<_>>()?
    };
    let chosen = narrow(chosen, &args, &m)?;
    if let ([one], Some(to)) = (&chosen[..], &args.to)
        && (one.kind == "files" || one.kind == "host" || (one.kind == "volume" && to.contains('/')))
    {
        let reader = Reader::new(catalog, context.monitor(&format!("restore {plan}")))?;
        return beside(context, &reader, &m, one, &args, Path::new(to), started).await;
    }
    if let ([one], Some(to)) = (&chosen[..], &args.to)
        && one.kind == "redis"
    {
        let reader = Reader::new(catalog, context.monitor(&format!("restore {plan}")))?;
        let (path, compared) = rdb::into_directory(Wanted::new(Some(reader), one)?, Path::new(to)).await?;
        report::rdb(context, &m, &path, &compared, started)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let ([one], Some(to)) = (&chosen[..], &args.to)
        && one.kind == "command"
    {
        if args.dry_run {
            say(&format!("would write {} of source {} to {to}", size::human(one.bytes()), one.name))?;
            return Ok(ExitCode::SUCCESS);
        }
        let reader = Reader::new(catalog, context.monitor(&format!("restore {plan}")))?;
        command::into_file(reader, new_id(), one, config, Path::new(to)).await?;
        report::output(context, &m, one, Path::new(to), started)?;
        return Ok(ExitCode::SUCCESS);
    }
    let telling = context.monitor(&format!("restore {plan}"));
    let chosen = command::with_a_way_back(config, chosen, !only.is_empty(), &telling);
    let chosen = host::without(chosen, &args, &telling);
    drop(telling);

    let own = own_paths(config);
    let id = new_id();
    let state_dir = context.state_dir(config);
    if journal_file(&state_dir).exists() {
        return Err(open_restore(&journal_file(&state_dir)));
    }
    // Nothing moves on the terminal while somebody reads the plan and is asked.
    let looking = Reader::new(catalog.clone(), Arc::new(Silent))?;
    let mut told = Vec::new();
    let mut asked = asked_of(&looking, &m, &chosen, &args, &state_dir, &mut told).await?;
    if args.in_place {
        in_place::check(&chosen, &args, &plan)?;
        asked.in_place = Some(Safety::Waived);
    }
    let from = Backups { manifest: Some(&m), reader: Some(&looking), safety: None };
    let looked_at = resources(&asked, config, &own, &id, from).await?;
    let mut found = preflight(&looked_at).await?;
    for (label, warnings) in told {
        let of_it = found.iter_mut().filter(|(l, _)| *l == label);
        of_it.for_each(|(_, f)| f.warnings.extend(warnings.iter().cloned()));
    }
    if args.dry_run || (!args.yes && args.to.is_none()) {
        report::plan(context, &m, &looked_at, &found)?;
    }
    if args.dry_run {
        return Ok(ExitCode::SUCCESS);
    }
    if let Some((label, f)) = found.iter().find(|(_, f)| !f.users.is_empty()) {
        return Err(volume::in_use(label, &f.users));
    }
    if args.to.is_none() && !args.yes {
        confirm(&plan)?;
    }
    let started = Instant::now();
    let safety = match args.in_place && args.without_safety.is_none() {
        true => Some(in_place::safety(context, &plan, &chosen).await?),
        false => None,
    };
    if let Some(manifest) = &safety {
        asked.in_place = Some(Safety::Backup(manifest.id.clone()));
    }
    let monitor = context.monitor(&format!("restore {plan}"));
    let reader = Reader::new(catalog, monitor.clone())?;
    let from = Backups { manifest: Some(&m), reader: Some(&reader), safety: safety.as_ref() };
    let resources = resources(&asked, config, &own, &id, from).await?;
    warn(&monitor, &found);
    if config.and_then(|c| c.plans.get(&plan)).is_some_and(|p| p.has_restore_section) {
        let text = "this version does not stop, check and start what the plan's [restore] section names: do it by hand";
        monitor.event(Event::Warning(text.to_owned()));
    }
    if args.path.is_empty() && args.database.is_none() && !args.picks_tables() {
        monitor.event(Event::Expect(chosen.iter().map(|s| s.bytes()).sum()));
    }
    let mut restore = Restore::begin(&state_dir, id, &plan, &m.id, &asked, resources, monitor.clone())?;
    let ended = restore.run(super::stopped()).await?;
    drop((reader, monitor));
    report::ended(context, &m, &restore, ended, started).await
}

fn warn(monitor: &Arc<dyn Monitor>, found: &[(String, Findings)]) {
    for (label, findings) in found {
        findings.warnings.iter().for_each(|w| monitor.event(Event::Warning(format!("{label}: {w}"))));
    }
}

/// Files to a directory of their own: nothing is replaced, hence no journal.
async fn beside(
    context: &Context,
    reader: &Reader,
    m: &Manifest,
    record: &SourceRecord,
    args: &Args,
    to: &Path,
    started: Instant,
) -> Result<ExitCode> {
    let artifact = match record.kind.as_str() {
        "volume" => volume::chosen::artifact_of(record, &volume::chosen::one_of(record, args.volume.as_deref())?)?,
        _ => select::artifact(record, Some(TREE))?,
    };
    if args.dry_run {
        say(&format!("would write {} of source {} below {}", size::human(artifact.bytes), record.name, to.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let restored = tree::into_directory(reader, artifact, &args.path, to).await?;
    report::written(context, m, record, to, &restored, started)?;
    Ok(ExitCode::SUCCESS)
}

/// Options that speak of one kind pick the sources of that kind; `--to` speaks of exactly one.
fn narrow<'a>(chosen: Vec<&'a SourceRecord>, args: &Args, m: &Manifest) -> Result<Vec<&'a SourceRecord>> {
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
async fn asked_of(
    reader: &Reader,
    m: &Manifest,
    chosen: &[&SourceRecord],
    args: &Args,
    state_dir: &Path,
    told: &mut Vec<(String, Vec<String>)>,
) -> Result<Asked> {
    if (args.replica_mode || args.no_keep) && !args.picks_tables() {
        return Err(Error::new(Kind::Usage, "--replica-mode and --no-keep speak of tables")
            .hint("Name them with --table or --schema."));
    }
    let mut parts = Vec::new();
    for record in chosen {
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
                Part::Tables { source, wanted: tables::find(reader, record, named, to).await? }
            }
            "postgres" if args.data_only => {
                let targets = database::targets(record, args.database.as_deref(), args.to.as_deref())?;
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
            "command" => Part::Command { source },
            "redis" => Part::Redis { source },
            "postgres" => {
                let targets = database::targets(record, args.database.as_deref(), args.to.as_deref())?;
                Part::Databases { source, targets }
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
        rollback_of: None,
    })
}

/// What an exchange must not take away from under this very run.
pub(super) fn own_paths(config: Option<&Config>) -> Vec<PathBuf> {
    let mut own: Vec<PathBuf> = std::env::current_exe().into_iter().collect();
    if let Some(c) = config {
        own.push(c.state_dir.clone());
        own.push(std::path::absolute(&c.file).unwrap_or_else(|_| c.file.clone()));
        own.extend(c.storage.url.strip_prefix("file://").map(PathBuf::from));
    }
    own
}

/// Asks for the plan's name: nobody types that by mistake.
pub(super) fn confirm(plan: &Name) -> Result<()> {
    let answer = ask(&notice(&format!("Type the plan's name ({plan}) to go on: ")))?.ok_or_else(|| {
        Error::new(Kind::Usage, "a restore replaces what is live, and nobody is here to confirm it")
            .hint("Give --yes, or --to to restore beside it, or --dry-run to see what would be done.")
    })?;
    if answer.trim() == plan.as_str() {
        return Ok(());
    }
    Err(Error::new(Kind::Refused, "not confirmed; nothing was done"))
}
