//! `backstay restore`

mod aside;
mod asked;
pub(super) mod attempt;
mod command;
mod foreign;
mod host;
mod in_place;
mod onto_fresh;
pub(super) mod open;
pub(super) mod plan;
mod rdb;
pub(super) mod report;

pub(super) use onto_fresh::onto_fresh;

use super::context::Context;
use super::output::{ask, bad, notice, remark};
use super::watch::{About, Of};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::model::{Name, time};
use crate::recovery::select;
use crate::repository::catalog::Catalog;
use crate::repository::keyring;
use crate::repository::manifest::{Manifest, SourceRecord};
use crate::telemetry::monitor::Verb;
use attempt::Tried;
use jiff::Timestamp;
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
    /// Restore a backup that another script made, of this name in the configuration; BACKUP is then the name of a set
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "", conflicts_with_all = ["at", "in_place"])]
    foreign: Option<String>,
    /// Restore only this source (repeatable)
    #[arg(long, value_name = "NAME")]
    source: Vec<String>,
    /// The newest backup begun by this time (`2026-01-03 22:00` in local time, or with a zone)
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Restore to another directory, database, server (`postgresql://…`) or volume, tables to a new schema, or the output of
    /// a command to a file or a database; without it, to where it was
    #[arg(long, value_name = "DIRECTORY|DATABASE|URL|SCHEMA|VOLUME|FILE")]
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
    /// Give the objects of databases to the owner of the live one, or with --to to the connecting role
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
    /// Instead of a safety backup, stop the server and copy its files, for data that cannot be dumped: beside them, or
    /// into a directory of another disk. Going back takes back every database of the server
    #[arg(long, value_name = "DIRECTORY", num_args = 0..=1, default_missing_value = "", requires = "in_place", conflicts_with = "without_safety")]
    cold_copy: Option<String>,
    /// For a server that does not start: make a new cluster with all that the backup has, and put it in the place of the old
    /// one, which is kept
    #[arg(long, conflicts_with_all = ["to", "table", "schema", "database", "in_place", "foreign", "no_owner", "no_privileges"])]
    fresh_cluster: bool,
    /// When a backup does not verify in staging, take the one before it, so many times; never silently
    #[arg(long, value_name = "N", default_value_t = 0)]
    fallback: u32,
    /// Run as a unit of systemd, which goes on when this session ends, and follow it
    #[arg(long, requires = "yes", conflicts_with = "dry_run")]
    managed: bool,
    /// Tell checks that fail after the start, and keep what was restored all the same
    #[arg(long)]
    keep_on_failed_check: bool,
    /// Finish the restore that was interrupted
    #[arg(long, conflicts_with_all = ["unwind", "dry_run"])]
    resume: bool,
    /// Take back the restore that was interrupted
    #[arg(long, conflicts_with = "dry_run")]
    unwind: bool,
    /// The machine has nothing yet: nothing is stopped, started or checked around it.
    #[arg(skip)]
    onto_fresh: bool,
    /// None of the plan's hooks is run.
    #[arg(skip)]
    without_hooks: bool,
}

impl Args {
    /// What is watched of it.
    pub fn about(&self) -> Option<About> {
        let of = if self.resume || self.unwind { Of::Later } else { Of::Plan(self.plan.clone()) };
        (!self.dry_run).then(|| About { verb: Verb::Restore, of, whole: self.is_everything() })
    }

    fn is_everything(&self) -> bool {
        self.source.is_empty() && self.path.is_empty() && self.volume.is_none() && !self.speaks_of_databases()
    }

    /// Whether somebody else is to carry it out.
    pub fn is_managed(&self) -> bool {
        self.managed
    }

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
    if args.foreign.is_some() {
        return foreign::run(context, args, started).await;
    }
    let (config, vault) = context.vault(true).await?;
    // A look at what would be written to a file needs none.
    if !args.dry_run {
        keyring::require_identity(&vault).await?;
    }
    let config = config.as_ref();
    let catalog = context.catalog(config, vault);
    let plan = context.plan(args.plan.as_deref(), config, &catalog).await?;
    match restore_from(context, &args, config, catalog, plan, started).await? {
        Tried::Ended(code) => Ok(code),
        Tried::Unfit(e) => Err(e),
    }
}

/// Restores a backup of a catalog, or one before it.
async fn restore_from(
    context: &Context,
    args: &Args,
    config: Option<&Config>,
    catalog: Catalog,
    plan: Name,
    started: Instant,
) -> Result<Tried> {
    let at = args.at.as_deref().map(time::parse_moment).transpose()?;
    let only: Vec<Name> = args.source.iter().map(|s| s.parse()).collect::<Result<_>>()?;
    let mut m = select::backup(&catalog, &plan, &args.backup, at, &only).await?;
    if let Some(code) = aside::written(context, config, &catalog, &m, &only, args, started).await? {
        return Ok(Tried::Ended(code));
    }
    // What goes to a place of its own is in nobody's way, nor is a look. A foreign backup has the lock already.
    let _lock = match config {
        Some(config) if !args.dry_run && args.foreign.is_none() => Some(context.lock(config, "restore").await?),
        _ => None,
    };
    // Of a foreign backup there is this one here and no other.
    let mut tries = if args.foreign.is_some() { 0 } else { args.fallback };
    loop {
        let unfit = match attempt::attempt(context, config, &catalog, &m, &only, args).await? {
            Tried::Unfit(e) => e,
            ended => return Ok(ended),
        };
        let older = match tries {
            0 => None,
            _ => select::older(&catalog, &plan, &m.id, &only).await?,
        };
        let Some(older) = older else { return Ok(Tried::Unfit(unfit)) };
        tries -= 1;
        falling_back(("backup", m.id.as_str(), m.started), &unfit, (older.id.as_str(), older.started));
        m = older;
    }
}

/// Says that another backup is taken, which is never done silently.
fn falling_back((kind, bad_one, at): (&str, &str, Timestamp), unfit: &Error, (older, begun): (&str, Timestamp)) {
    remark(&format!(
        "{} {kind} {bad_one} is not good: {}. Taking the one before it, {older}, begun {} ({}): {} older.",
        bad("fallback"),
        unfit.one_line(),
        time::utc(begun),
        time::local(begun),
        time::words(at.duration_since(begun))
    ));
}

/// The sources that are meant.
fn chosen<'a>(m: &'a Manifest, only: &[Name], args: &Args) -> Result<Vec<&'a SourceRecord>> {
    let chosen: Vec<&SourceRecord> = if only.is_empty() {
        m.sources.iter().filter(|s| s.kind != "config").collect()
    } else {
        only.iter().map(|n| select::source(m, n)).collect::<Result<_>>()?
    };
    asked::narrow(chosen, args, m)
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

/// Asks for the plan's name: nobody types that by mistake. Whoever does not type it has done nothing, which is no run.
pub(super) fn confirm(context: &Context, plan: &Name) -> Result<()> {
    let answer = ask(&notice(&format!("Type the plan's name ({plan}) to go on: ")))?.ok_or_else(|| {
        Error::new(Kind::Usage, "a restore replaces what is live, and nobody is here to confirm it")
            .hint("Give --yes, or --to to restore beside it, or --dry-run to see what would be done.")
    })?;
    if answer.trim() == plan.as_str() {
        return Ok(());
    }
    context.decline();
    Err(Error::new(Kind::Refused, "not confirmed; nothing was done"))
}
