//! `backstay rollback`, `backstay restores` and `backstay cleanup`: what comes after a restore.

use super::context::Context;
use super::output::{Align, Table, bad, good, json, notice, say};
use super::restore::{confirm, own_paths, report};
use super::watch::{About, Of};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::model::{size, time};
use crate::recovery::engine::Ended;
use crate::recovery::journal::State;
use crate::recovery::resource::Resource;
use crate::recovery::restore::{Asked, Backups, Restore, asked_of, new_id, resources};
use crate::recovery::rollback::{self, Past};
use crate::telemetry::monitor::Verb;
use jiff::Timestamp;
use std::process::ExitCode;
use std::sync::Arc;

/// Arguments of `rollback`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The restore to take back, or the beginning of its id; default: the last one
    restore: Option<String>,
    /// Do not ask; needed where nobody can answer
    #[arg(long)]
    yes: bool,
}

/// Arguments of `cleanup`.
#[derive(clap::Args, Debug)]
pub struct CleanupArgs {
    /// Drop what this restore kept, however young it is
    restore: Option<String>,
    /// Say what would be dropped, and drop nothing
    #[arg(long)]
    dry_run: bool,
}

/// Arguments of `restores`.
#[derive(clap::Args, Debug)]
pub struct RestoresArgs {}

impl Args {
    /// What is watched of it.
    pub fn about(&self) -> About {
        About { verb: Verb::Rollback, of: Of::Later, whole: true }
    }
}

impl CleanupArgs {
    /// What is watched of it.
    pub fn about(&self) -> Option<About> {
        (!self.dry_run).then(|| About::vault_or(Verb::Cleanup, None))
    }
}

async fn resources_of(config: &Config, past: &Past) -> Result<Vec<Arc<dyn Resource>>> {
    let asked = asked_of(past.journal())?;
    resources(&asked, Some(config), &own_paths(Some(config)), past.id(), Backups::default()).await
}

/// Takes a restore back.
pub async fn run(context: &Context, args: Args) -> Result<ExitCode> {
    let config = context.config()?;
    let _lock = context.lock(&config, "restore")?;
    let past = rollback::to_roll_back(&config.state_dir, args.restore.as_deref())?;
    let resources = resources_of(&config, &past).await?;
    let about = past.journal().about().clone();
    context.is_about(&about.plan);
    let asked = Asked { rollback_of: Some(about.id.clone()), ..asked_of(past.journal())? };
    if !args.yes {
        say(&format!(
            "restore {} of plan {}, ended {} ({})",
            about.id,
            about.plan,
            time::utc(past.ended()),
            time::local(past.ended())
        ))?;
        say(&notice(&format!(
            "What was written in the {} since then will not be live any more; it stays beside it.",
            time::words(Timestamp::now().duration_since(past.ended()))
        )))?;
        confirm(&about.plan)?;
    }
    let monitor = context.monitor(&format!("rollback {}", about.plan));
    let mut restore =
        Restore::begin(&config.state_dir, new_id(), &about.plan, &about.backup, &asked, resources, monitor)?;
    match restore.run(super::stopped()).await? {
        Ended::Committed => {}
        Ended::Unwound(e) => return Err(e.hint("The restored data is in place, as before.")),
        stuck => return Err(report::stuck_error(context, stuck)?),
    }
    if context.global.json {
        json(&serde_json::json!({ "rolled_back": about.id, "plan": about.plan }))?;
    } else {
        say(&format!("{} restore {} of plan {}", good("taken back"), about.id, about.plan))?;
        say("  what was there before it is live again; what it had restored is kept until `backstay cleanup`")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn outcome(past: &Past) -> String {
    match (past.journal().state(), &past.rolled_back_by, past.rollback_of()) {
        (State::Committed, _, Some(of)) => format!("rollback of {of}"),
        (State::Committed, Some(by), None) => notice(&format!("taken back by {by}")),
        (State::Committed, None, None) => good("restored"),
        _ => bad(&format!("undone: {}", past.failure().unwrap_or("asked"))),
    }
}

/// Lists the restores of this host.
pub async fn restores(context: &Context, _: RestoresArgs) -> Result<ExitCode> {
    let config = context.config()?;
    let pasts = rollback::pasts(&config.state_dir)?;
    let mut table = Table::new(&[
        ("restore", Align::Left),
        ("plan", Align::Left),
        ("backup", Align::Left),
        ("by", Align::Left),
        ("ended", Align::Left),
        ("took", Align::Right),
        ("result", Align::Left),
        ("kept", Align::Left),
    ]);
    let mut machine = Vec::new();
    for past in &pasts {
        let about = past.journal().about();
        let asked = asked_of(past.journal())?;
        let kept = if past.stands() && !past.cleaned {
            rollback::kept(past, &resources_of(&config, past).await?).await?
        } else {
            Vec::new()
        };
        let took = past.ended().duration_since(past.began());
        machine.push(serde_json::json!({
            "id": about.id, "plan": about.plan, "backup": about.backup, "by": asked.by, "began": past.began(), "ended": past.ended(),
            "committed": *past.journal().state() == State::Committed, "failure": past.failure(),
            "rollback_of": past.rollback_of(), "rolled_back_by": past.rolled_back_by, "kept": kept, "records": past.journal().entries(),
        }));
        let words: Vec<String> = kept
            .iter()
            .map(|k| k.bytes.map_or_else(|| k.name.clone(), |b| format!("{} ({})", k.name, size::human(b))))
            .collect();
        table.row(vec![
            about.id.to_string(),
            about.plan.to_string(),
            about.backup.to_string(),
            asked.by,
            time::utc(past.ended()),
            time::words(took),
            outcome(past),
            words.join(", "),
        ]);
    }
    if context.global.json {
        json(&machine)?;
    } else if pasts.is_empty() {
        say("no restore was ever run on this host")?;
    } else {
        table.print()?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Drops what restores kept and need not keep any longer.
pub async fn cleanup(context: &Context, args: CleanupArgs) -> Result<ExitCode> {
    let config = context.config()?;
    let _lock = context.lock(&config, "restore")?;
    let now = Timestamp::now();
    let mut dropped = Vec::new();
    let mut found = false;
    for past in rollback::pasts(&config.state_dir)? {
        let about = past.journal().about();
        let done = *past.journal().state() == State::Committed && past.rollback_of().is_none();
        let named = args.restore.as_ref().map(|id| about.id.as_str().starts_with(id.as_str()));
        found |= named == Some(true);
        let keep = config.plans.get(&about.plan).map(|p| p.keep_previous);
        let due = named.unwrap_or_else(|| keep.is_some_and(|keep| now.duration_since(past.ended()) > keep));
        if !done || past.cleaned || !due {
            continue;
        }
        let resources = resources_of(&config, &past).await?;
        let kept = rollback::kept(&past, &resources).await?;
        if !args.dry_run {
            rollback::clean(&past, &resources).await?;
        }
        let names: Vec<String> = match past.rolled_back_by {
            None => kept.into_iter().map(|k| k.name).collect(),
            Some(_) => resources.iter().map(|r| format!("the restored copy of {}", r.label())).collect(),
        };
        dropped.extend(names.into_iter().map(|name| (about.id.clone(), name)));
    }
    if args.restore.is_some() && !found {
        return Err(
            Error::new(Kind::NotFound, "there is no such restore on this host").hint("`backstay restores` lists them.")
        );
    }
    if context.global.json {
        json(&serde_json::json!({ "dry_run": args.dry_run, "dropped": dropped }))?;
    } else if dropped.is_empty() {
        say("nothing is kept that need not be")?;
    }
    if !context.global.json {
        let verb = if args.dry_run { "would drop" } else { "dropped" };
        dropped.iter().try_for_each(|(id, name)| say(&format!("{verb} {name}, kept by restore {id}")))?;
    }
    Ok(ExitCode::SUCCESS)
}
