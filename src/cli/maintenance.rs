//! `backstay maintenance`: the page that nginx shows while a restore runs, by hand.

use super::context::Context;
use super::lock::Lock;
use super::output::{Align, Table, bad, dim, good, json, notice, remark, say};
use super::watch::About;
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::model::{Name, size};
use crate::recovery::journal::Journal;
use crate::recovery::maintenance::install::Changed;
use crate::recovery::maintenance::look::Status;
use crate::recovery::maintenance::snippet::State;
use crate::recovery::maintenance::{Maintenance, Switched};
use crate::recovery::restore::{journal_file, open_restore};
use crate::telemetry::monitor::Verb;
use jiff::Timestamp;
use std::process::ExitCode;

/// Work that has no mind about the page, as it names itself in the host's lock.
const ASIDE: &[&str] = &["backup", "drill", "forget", "import", "prune"];

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    what: What,
    /// Plan whose application it is about
    #[arg(long, value_name = "NAME", global = true)]
    plan: Option<String>,
}

#[derive(clap::Subcommand, Debug)]
enum What {
    /// Show the page to all clients, and wait until old workers have finished their requests
    On,
    /// Let clients through again
    Off,
    /// Say what is shown, name by name
    Status,
    /// Write our include into each server block of nginx's configuration
    Install {
        /// Print the line for those who write it themselves, and change nothing
        #[arg(long)]
        print: bool,
    },
    /// Take our include out of nginx's configuration
    Uninstall,
}

impl Args {
    /// What is watched of it: whatever changes what clients see.
    pub fn about(&self) -> Option<About> {
        let looks = matches!(self.what, What::Status | What::Install { print: true });
        (!looks).then(|| About::vault_or(Verb::Maintenance, self.plan.as_ref()))
    }
}

/// Runs it.
pub async fn run(context: &Context, args: Args) -> Result<ExitCode> {
    let config = context.config()?;
    let maintenance = maintenance_of(&config, args.plan.as_deref())?;
    match args.what {
        What::On => {
            let _lock = no_restore_at_work(context, &config).await?;
            on(context, &maintenance).await
        }
        What::Off => {
            let _lock = no_restore_at_work(context, &config).await?;
            let switched = maintenance.off(State::Off, None).await?;
            show(context, &switched, None)?;
            Ok(ExitCode::SUCCESS)
        }
        What::Status => status(context, &maintenance.status().await?),
        What::Install { print: true } => {
            let line = maintenance.include_line().await?;
            if context.global.json {
                json(&serde_json::json!({ "include": line }))?
            } else {
                say(&line)?
            }
            Ok(ExitCode::SUCCESS)
        }
        What::Install { print: false } => {
            no_restore_open(&config)?;
            changed(context, &maintenance.install().await?, "written into")
        }
        What::Uninstall => {
            no_restore_open(&config)?;
            changed(context, &maintenance.uninstall().await?, "taken out of")
        }
    }
}

/// A restore has its own mind about the page. A backup has none: the page must not wait for one.
fn no_restore_open(config: &Config) -> Result<()> {
    let journal = journal_file(&config.state_dir);
    if journal.exists() { Err(open_restore(&journal)) } else { Ok(()) }
}

/// As [`no_restore_open`], but for a restore that is stuck: the rest of it is somebody's to do, and the page is part of it. It is
/// called stuck also while it is taken back once more, so whoever does that has the host's lock, and he who switches the page
/// has it meanwhile.
async fn no_restore_at_work(context: &Context, config: &Config) -> Result<Option<Lock>> {
    let stuck = || Journal::read(&journal_file(&config.state_dir)).is_ok_and(|j| j.state().is_stuck());
    if !stuck() {
        return no_restore_open(config).map(|()| None);
    }
    let lock = context.lock_beside(config, "maintenance", ASIDE).await?;
    // Somebody may have had it until now.
    if stuck() { Ok(lock) } else { no_restore_open(config).map(|()| lock) }
}

fn maintenance_of(config: &Config, plan: Option<&str>) -> Result<Maintenance> {
    if let Some(plan) = plan {
        let name: Name = plan.parse().map_err(|e: Error| e.kind(Kind::Usage))?;
        if !config.plans.contains_key(&name) {
            return Err(Error::new(Kind::NotFound, format!("there is no plan {name}")).at(config.file.display()));
        }
    }
    let settings = config.maintenance.clone().ok_or_else(|| {
        Error::new(Kind::Config, "no maintenance is configured")
            .at(config.file.display())
            .hint("Add a section [maintenance] with where = \"host\", or with a container or service; see docs/maintenance.md.")
    })?;
    Ok(Maintenance::new(settings, &config.state_dir))
}

async fn on(context: &Context, maintenance: &Maintenance) -> Result<ExitCode> {
    let id = format!("by-hand-{}", Timestamp::now().strftime("%Y%m%dT%H%M%SZ"));
    let switched = maintenance.on(&id).await?;
    let left = maintenance.drain().await?.left;
    show(context, &switched, Some(left))?;
    Ok(ExitCode::SUCCESS)
}

fn show(context: &Context, switched: &Switched, left: Option<usize>) -> Result<()> {
    if context.global.json {
        let mut value = serde_json::to_value(switched)
            .map_err(|e| Error::new(Kind::Internal, "the result cannot be written as JSON").because(e))?;
        value["workers_left"] = left.into();
        return json(&value);
    }
    let names = size::plural(switched.asked.len() as u64, "answer");
    say(&match (&switched.before, &switched.state) {
        (State::On(id), State::On(_)) => format!("{} already, as {id}; {names} looked at", notice("maintenance is on")),
        (_, State::On(id)) => format!("{} as {id}; {names} looked at", notice("maintenance is on")),
        (State::On(_), _) => format!("{}; {names} looked at", good("maintenance is off")),
        _ => format!("{} already; {names} looked at", good("maintenance is off")),
    })?;
    for warning in &switched.warnings {
        remark(&format!("{} {warning}", notice("warning:")));
    }
    if let Some(left @ 1..) = left {
        let workers = size::plural(left as u64, "old worker");
        remark(&format!("{} {workers} of nginx still finish requests that began before", notice("warning:")));
    }
    Ok(())
}

fn status(context: &Context, status: &Status) -> Result<ExitCode> {
    // What is shown is not what was asked for: scripts must see it.
    let code = if status.is_consistent() { ExitCode::SUCCESS } else { ExitCode::from(Kind::Restore.exit_code()) };
    if context.global.json {
        json(status)?;
        return Ok(code);
    }
    match &status.state {
        Some(State::On(id)) => say(&format!("{} as {id}", notice("maintenance is on")))?,
        Some(_) => say(&good("maintenance is off"))?,
        None => {}
    }
    if let Some(why) = &status.down {
        say(&bad(why))?;
    }
    if let Some(file) = &status.file {
        say(&dim(&format!("  {}: {}", status.nginx, file.display())))?;
    }
    if !status.asked.is_empty() {
        let mut table = Table::new(&[("asked", Align::Left), ("answer", Align::Left)]);
        for answered in &status.asked {
            let words = answered.asked.answer.words();
            let words = if answered.good { words } else { bad(&words) };
            table.row(vec![answered.asked.target.clone(), words]);
        }
        table.print()?;
    }
    for skipped in &status.skipped {
        say(&format!("not asked: {}: {}", skipped.server, skipped.why))?;
    }
    let lacking: Vec<&str> = status.servers.iter().filter(|s| !s.included).map(|s| s.server.as_str()).collect();
    if !lacking.is_empty() {
        say(&notice("these server blocks lack the include; `backstay maintenance install` writes it:"))?;
        lacking.iter().try_for_each(|server| say(&format!("  {server}")))?;
    }
    if status.leaving > 0 {
        say(&format!("{} still finish older requests", size::plural(status.leaving as u64, "old worker")))?;
    }
    Ok(code)
}

fn changed(context: &Context, changed: &Changed, verb: &str) -> Result<ExitCode> {
    if context.global.json {
        json(changed)?;
        return Ok(ExitCode::SUCCESS);
    }
    if changed.files.is_empty() {
        say("nothing is to be changed")?;
    } else {
        let blocks: usize = changed.files.values().sum();
        let blocks = size::plural(blocks as u64, "server block");
        say(&format!("{} {blocks}: {}", good(verb), changed.include))?;
    }
    for (file, blocks) in &changed.files {
        say(&format!("  {file} ({blocks})"))?;
    }
    if let Some(copies) = &changed.copies {
        say(&dim(&format!("  as they were before: {}", copies.display())))?;
    }
    Ok(ExitCode::SUCCESS)
}
