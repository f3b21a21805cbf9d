//! One attempt to restore a backup: looked at, confirmed, run.

use super::{Args, asked, chosen, command, confirm, host, in_place, own_paths, plan, report};
use crate::cli::context::Context;
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::model::{Name, size};
use crate::recovery::asked::Safety;
use crate::recovery::engine::Ended;
use crate::recovery::flow::decide::{self, Restored};
use crate::recovery::flow::{Flow, With};
use crate::recovery::outline::Told;
use crate::recovery::resource::Findings;
use crate::recovery::resources::{Backups, preflight, resources};
use crate::recovery::restore::{Restore, journal_file, new_id, open_restore, steps_of};
use crate::recovery::steps::is_staging;
use crate::repository::catalog::Catalog;
use crate::repository::check;
use crate::repository::manifest::{Manifest, SourceRecord};
use crate::repository::reader::Reader;
use crate::telemetry::monitor::{Event, Monitor, Silent};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

/// How an attempt went.
pub enum Tried {
    /// It ended, well or not.
    Ended(ExitCode),
    /// The backup is not good, which was found before anything was touched; another may be.
    Unfit(Error),
}

/// Tries one backup.
pub async fn attempt(
    context: &Context,
    config: Option<&Config>,
    catalog: &Catalog,
    m: &Manifest,
    only: &[Name],
    args: &Args,
) -> Result<Tried> {
    let title = format!("restore {}", m.plan);
    let telling = context.monitor(&title);
    let chosen = command::with_a_way_back(config, chosen(m, only, args)?, !only.is_empty(), &telling);
    let chosen = host::without(chosen, args, &telling);
    drop(telling);
    let own = own_paths(config);
    let id = new_id();
    let state_dir = context.state_dir(config);
    if journal_file(&state_dir).exists() {
        return Err(open_restore(&journal_file(&state_dir)));
    }
    // Nothing moves on the terminal while somebody reads the plan and is asked.
    let looking = Reader::new(catalog.clone(), Arc::new(Silent))?;
    let mut about_parts = Vec::new();
    let mut asked = match asked::asked_of(&looking, m, &chosen, args, &state_dir, &mut about_parts).await {
        Err(e) if is_unfit(&e) => return Ok(Tried::Unfit(e)),
        other => other?,
    };
    if args.in_place {
        in_place::check(&chosen, args, &m.plan)?;
        asked.in_place = Some(in_place::copied(args)?.unwrap_or(Safety::Waived));
    }
    if args.fresh_cluster {
        in_place::only_databases(&chosen, "--fresh-cluster")?;
        in_place::one_source_for_each_server(config, &chosen).await?;
    }
    if let Err(e) = whole(catalog, &chosen, args).await {
        return if is_unfit(&e) { Ok(Tried::Unfit(e)) } else { Err(e) };
    }
    let from = Backups { manifest: Some(m), reader: Some(&looking), safety: None };
    let looked_at = resources(&asked, config, &own, &id, from).await?;
    let mut found = preflight(&looked_at).await?;
    for (label, warnings) in about_parts {
        let of_it = found.iter_mut().filter(|(l, _)| *l == label);
        of_it.for_each(|(_, f)| f.warnings.extend(warnings.iter().cloned()));
    }
    let section = config.and_then(|c| c.plans.get(&m.plan)).map(|p| &p.restore);
    let mut told = Told::default();
    if let (Some(config), Some(plan), None) = (config, config.and_then(|c| c.plans.get(&m.plan)), &args.to) {
        let sources: Vec<Name> = chosen.iter().map(|s| s.name.clone()).collect();
        let paths = asked.paths();
        let restored = Restored {
            sources: &sources,
            paths: &paths,
            keep_on_failed_check: args.keep_on_failed_check,
            rollback: false,
        };
        asked.flow = match args.onto_fresh {
            true if args.without_hooks => Flow::default(),
            true => decide::of_data(plan),
            false => decide::flow(config, plan, &restored).await?,
        };
        in_place::refuse_hooks(&asked)?;
        told = asked.flow.preflight(config, plan, &restored, &mut found).await?;
    }
    let made = |resources, monitor| With {
        plan: section,
        id: &id,
        backup: &m.id,
        state_dir: state_dir.clone(),
        resources,
        monitor,
    };
    if args.dry_run || (!args.yes && args.to.is_none()) {
        let steps = steps_of(&asked, &made(&looked_at, Arc::new(Silent)))?;
        plan::print(context, config, plan::Of::Backup(m), &steps, &found, told.clone())?;
    }
    if args.dry_run {
        return Ok(Tried::Ended(ExitCode::SUCCESS));
    }
    decide::refuse_users(&found, &told)?;
    if args.to.is_none() && !args.yes {
        confirm(context, &m.plan)?;
    }
    let started = Instant::now();
    let safety = match args.in_place && args.without_safety.is_none() && args.cold_copy.is_none() {
        true => Some(in_place::safety(context, &m.plan, &chosen).await?),
        false => None,
    };
    if let Some(manifest) = &safety {
        asked.in_place = Some(Safety::Backup(manifest.id.clone()));
    }
    let monitor = context.monitor(&title);
    let reader = Reader::new(catalog.clone(), monitor.clone())?;
    let from = Backups { manifest: Some(m), reader: Some(&reader), safety: safety.as_ref() };
    let resources = resources(&asked, config, &own, &id, from).await?;
    told.warnings.into_iter().for_each(|w| monitor.event(Event::Warning(w)));
    warn(&monitor, &found);
    if args.path.is_empty() && args.database.is_none() && !args.picks_tables() {
        monitor.event(Event::Expect(chosen.iter().map(|s| s.bytes()).sum()));
    }
    context.is_about(&m.plan);
    let mut restore = Restore::begin(&made(&resources, monitor.clone()), &m.plan, &asked)?;
    let ended = restore.run(crate::cli::stopped()).await?;
    context.report(report::figures(m, &chosen, &restore, &ended, args.is_everything() && args.to.is_none()));
    drop((reader, monitor));
    match ended {
        Ended::Unwound(e) if is_unfit(&e) && restore.failed_step().is_some_and(is_staging) => {
            Ok(Tried::Unfit(e.hint(report::AS_IT_WAS)))
        }
        ended => report::ended(context, m, &restore, ended, started).await.map(Tried::Ended),
    }
}

/// True for what speaks against the backup and not against this host.
pub fn is_unfit(e: &Error) -> bool {
    matches!(e.kind, Kind::Damaged | Kind::Mismatch)
}

/// Whether every pack is there that will be read; a part of a source is not worth the look.
async fn whole(catalog: &Catalog, chosen: &[&SourceRecord], args: &Args) -> Result<()> {
    if !args.path.is_empty() || args.database.is_some() || args.picks_tables() || args.volume.is_some() {
        return Ok(());
    }
    let references = chosen.iter().flat_map(|s| &s.artifacts).flat_map(|a| a.segments.iter().cloned()).collect();
    let missing = check::missing(catalog, references).await?;
    match missing.first() {
        None => Ok(()),
        Some(first) => Err(Error::damaged(&first.object, first.what.clone())
            .because(format!("the backup lacks {}; nothing was touched", size::plural(missing.len() as u64, "pack")))),
    }
}

fn warn(monitor: &Arc<dyn Monitor>, found: &[(String, Findings)]) {
    for (label, findings) in found {
        findings.warnings.iter().for_each(|w| monitor.event(Event::Warning(format!("{label}: {w}"))));
        findings.lingering.iter().for_each(|user| monitor.event(Event::Warning(lingers(label, user))));
    }
}

/// The warning about a process that nobody stops.
pub(in crate::cli) fn lingers(label: &str, user: &str) -> String {
    format!("{label}: {user} goes on with the previous copy until it is started again")
}
