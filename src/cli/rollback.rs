//! `backstay rollback` and `backstay cleanup`: what comes after a restore.

use super::context::Context;
use super::output::{good, json, notice, remark, say, warning};
use super::restore::attempt::lingers;
use super::restore::{confirm, own_paths, plan, report};
use super::watch::{About, Of};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::model::BackupId;
use crate::recovery::asked::{Asked, asked_of};
use crate::recovery::drill::sweep;
use crate::recovery::engine::Ended;
use crate::recovery::flow::With;
use crate::recovery::flow::decide::{self, Restored};
use crate::recovery::journal::{Begin, Journal, State};
use crate::recovery::outline::Told;
use crate::recovery::report::kept;
use crate::recovery::resource::Resource;
use crate::recovery::resources::{Backups, resources};
use crate::recovery::restore::{Restore, journal_file, new_id, steps_of};
use crate::recovery::rollback::{self, Past};
use crate::telemetry::monitor::{Event, Silent, Verb};
use jiff::Timestamp;
use std::process::ExitCode;
use std::sync::Arc;

/// What is true after a rollback that was undone.
pub(super) fn stands(rollback: &Restore) -> String {
    let stays = kept(rollback.journal().entries());
    match stays.is_empty() {
        true => "The restored data is in place, as before.".to_owned(),
        false => format!("The restored data is in place, as before, but for this: {}.", stays.join("; ")),
    }
}

/// Arguments of `rollback`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The restore to take back, or the beginning of its id; default: the last one
    restore: Option<String>,
    /// Do not ask; needed where nobody can answer
    #[arg(long)]
    yes: bool,
    /// Look at everything that is exchanged and stopped, say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Tell checks that fail after the start, and go back all the same
    #[arg(long)]
    keep_on_failed_check: bool,
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

impl Args {
    /// What is watched of it.
    pub fn about(&self) -> Option<About> {
        (!self.dry_run).then_some(About { verb: Verb::Rollback, of: Of::Later, whole: true })
    }
}

impl CleanupArgs {
    /// What is watched of it.
    pub fn about(&self) -> Option<About> {
        (!self.dry_run).then(|| About::vault_or(Verb::Cleanup, None))
    }
}

pub(super) async fn resources_of(config: &Config, past: &Past) -> Result<Vec<Arc<dyn Resource>>> {
    let asked = asked_of(past.journal())?;
    resources(&asked, Some(config), &own_paths(Some(config)), past.id(), Backups::default()).await
}

/// Takes a restore back.
pub async fn run(context: &Context, args: Args) -> Result<ExitCode> {
    let config = context.config()?;
    let _lock = context.lock(&config, "rollback").await?;
    let past = rollback::to_roll_back(&config.state_dir, args.restore.as_deref())?;
    let resources = resources_of(&config, &past).await?;
    let about = past.journal().about().clone();
    context.is_about(&about.plan);
    let mut asked = Asked { rollback_of: Some(about.id.clone()), ..asked_of(past.journal())? };
    let plan = config.plans.get(&about.plan);
    let mut found = Vec::new();
    for resource in &resources {
        found.push((resource.label(), resource.used(past.swap_note(&**resource)).await?));
    }
    let mut told = Told::default();
    if let Some(plan) = plan {
        let (sources, paths) = (asked.sources(), asked.paths());
        let restored = Restored {
            sources: &sources,
            paths: &paths,
            keep_on_failed_check: args.keep_on_failed_check,
            rollback: true,
        };
        asked.flow = decide::flow(&config, plan, &restored).await?;
        told = asked.flow.preflight(&config, plan, &restored, &mut found).await?;
    }
    let id = new_id();
    let with = |monitor| With {
        plan: plan.map(|p| &p.restore),
        id: &id,
        backup: &about.backup,
        state_dir: config.state_dir.clone(),
        resources: &resources,
        monitor,
    };
    if args.dry_run || !args.yes {
        let steps = steps_of(&asked, &with(Arc::new(Silent)))?;
        plan::print(context, Some(&config), plan::Of::Rollback(&past), &steps, &found, told.clone())?;
    }
    if args.dry_run {
        return Ok(ExitCode::SUCCESS);
    }
    decide::refuse_users(&found, &told)?;
    if !args.yes {
        confirm(context, &about.plan)?;
    }
    let monitor = context.monitor(&format!("rollback {}", about.plan));
    told.warnings.into_iter().for_each(|w| monitor.event(Event::Warning(w)));
    for (label, findings) in &found {
        findings.warnings.iter().for_each(|w| monitor.event(Event::Warning(format!("{label}: {w}"))));
        for user in &findings.lingering {
            monitor.event(Event::Warning(lingers(label, user)));
        }
    }
    let mut restore = Restore::begin(&with(monitor), &about.plan, &asked)?;
    match restore.run(super::stopped()).await? {
        Ended::Committed => {}
        Ended::Unwound(e) => return Err(e.hint(stands(&restore))),
        stuck => return Err(report::stuck_error(context, stuck, report::Run::Rollback)?),
    }
    taken_back(context, &config, &about, &resources)
}

/// Says that a rollback was undone because somebody asked for it.
pub(super) fn undone(context: &Context, rollback: &Restore, of: &BackupId) -> Result<ExitCode> {
    let about = rollback.journal().about();
    if context.global.json {
        let stays = kept(rollback.journal().entries());
        json(&serde_json::json!({
            "restore": about.id, "plan": about.plan, "rollback_of": of, "unwound": true, "stays_back": stays,
        }))?;
    } else {
        say(&format!("{} the rollback of restore {of} of plan {}", good("taken back"), about.plan))?;
        say(&format!("  {}", stands(rollback)))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Says that a restore was taken back.
pub(super) fn taken_back(
    context: &Context,
    config: &Config,
    about: &Begin,
    resources: &[Arc<dyn Resource>],
) -> Result<ExitCode> {
    let left = rollback::past(&config.state_dir, &about.id)?.left();
    let left: Vec<String> = left.iter().map(ToString::to_string).collect();
    if context.global.json {
        json(&serde_json::json!({ "rolled_back": about.id, "plan": about.plan, "left": left }))?;
    } else {
        say(&format!("{} restore {} of plan {}", good("taken back"), about.id, about.plan))?;
        let restored = match resources.iter().any(|r| r.keeps_restored()) {
            true => "is kept until `backstay cleanup`",
            false => "is gone",
        };
        say(&format!("  what was there before it is live again; what it had restored {restored}"))?;
        for left in left {
            say(&format!("  {} {left}; it stays until `backstay cleanup {}`", notice("kept:"), about.id))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Drops what restores kept and need not keep any longer. One of which that fails holds up no other; the first such
/// failure is told at the end.
pub async fn cleanup(context: &Context, args: CleanupArgs) -> Result<ExitCode> {
    let config = context.config()?;
    let _lock = context.lock(&config, "cleanup").await?;
    if !args.dry_run
        && let Some(id) = sweep::sweep(&config.state_dir, Some(&config)).await?
    {
        remark(&format!("removed what the drill {id} left when it was killed"));
    }
    let now = Timestamp::now();
    let mut dropped = Vec::new();
    let mut stays = Vec::new();
    let mut undropped = Vec::new();
    let pasts = rollback::pasts(&config.state_dir)?;
    let meant = args.restore.as_deref().map(|typed| rollback::meant(&pasts, typed)).transpose()?;
    let open = open_on(&config)?;
    for (n, past) in pasts.into_iter().enumerate() {
        let about = past.journal().about();
        let named = meant.map(|meant| meant == n);
        // What it is about to bring back, or to put away, is not kept by it any more only when it has ended.
        if open.as_ref() == Some(&about.id) {
            if named == Some(true) {
                return Err(Error::new(Kind::Busy, "a rollback of that restore is open")
                    .at(&about.id)
                    .hint("`backstay restore --resume` finishes it, `backstay restore --unwind` takes it back."));
            }
            continue;
        }
        let failed = past.keeps_what_failed();
        let done = failed || (*past.journal().state() == State::Committed && past.rollback_of().is_none());
        let keep = config.plans.get(&about.plan).map(|p| p.restore.keep_previous);
        let due = named.unwrap_or_else(|| keep.is_some_and(|keep| now.duration_since(past.ended()) > keep));
        let named = named == Some(true);
        // What others have written is dropped by name only, and then also long after the rest.
        let (left, due) = (past.left(), due && ((done && !past.cleaned) || named));
        if !due || (left.is_empty() && (!done || past.cleaned)) {
            continue;
        }
        let dropping = async {
            let resources = resources_of(&config, &past).await?;
            let names = match done && !past.cleaned {
                true => kept_names(&past, &resources).await?,
                false => Vec::new(),
            };
            if !args.dry_run {
                rollback::clean(&past, &resources, named).await?;
            }
            Ok::<_, Error>(names)
        };
        // What one keeps may never be dropped again, and must not have all later ones kept with it.
        let names = match dropping.await {
            Ok(names) => names,
            Err(e) => {
                undropped
                    .push(Error { what: format!("what restore {} keeps is not dropped: {}", about.id, e.what), ..e });
                continue;
            }
        };
        let of = |name: String| (about.id.clone(), name);
        dropped.extend(names.into_iter().map(of));
        match named {
            true => dropped.extend(left.iter().map(|left| of(left.place.display().to_string()))),
            false => stays.extend(left.iter().map(|left| of(left.to_string()))),
        }
    }
    if context.global.json {
        json(&serde_json::json!({ "dry_run": args.dry_run, "dropped": dropped, "left": stays }))?;
    } else {
        if dropped.is_empty() && stays.is_empty() && undropped.is_empty() {
            say("nothing is kept that need not be")?;
        }
        let verb = if args.dry_run { "would drop" } else { "dropped" };
        dropped.iter().try_for_each(|(id, name)| say(&format!("{verb} {name}, kept by restore {id}")))?;
        for (id, left) in &stays {
            say(&format!("{} {left}; `backstay cleanup {id}` drops it", notice("stays:")))?;
        }
    }
    let mut undropped = undropped.into_iter();
    let first = undropped.next();
    undropped.for_each(|e| warning(&e.one_line()));
    first.map_or(Ok(ExitCode::SUCCESS), Err)
}

/// The restore that an open journal takes back.
fn open_on(config: &Config) -> Result<Option<BackupId>> {
    let file = journal_file(&config.state_dir);
    if !file.exists() {
        return Ok(None);
    }
    Ok(asked_of(&Journal::read(&file)?)?.rollback_of)
}

/// What is dropped of one restore when its time is over, as people know it.
async fn kept_names(past: &Past, resources: &[Arc<dyn Resource>]) -> Result<Vec<String>> {
    let copies = match past.stands() {
        true => rollback::kept(past, resources).await?,
        false => rollback::restored_copies(past, resources),
    };
    Ok(copies.into_iter().map(|k| k.name).collect())
}
