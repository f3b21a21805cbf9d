//! `backstay backup`

use super::context::Context;
use super::output::{bad, good, json, notice, say};
use super::watch::About;
use crate::backup::{self, Job, quiesce};
use crate::config::{Config, SourceConfig};
use crate::error::{Error, Kind, Result};
use crate::host::machine::machine;
use crate::model::{Name, size, time};
use crate::repository::manifest::{Manifest, SourceState};
use crate::repository::{keyring, newest};
use crate::sources::Source;
use crate::telemetry::monitor::{Event, Verb};
use crate::telemetry::report::{self, Report};
use std::process::ExitCode;
use std::sync::Arc;

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Plan; may be left out when there is one
    plan: Option<String>,
    /// Back up only this source of the plan (repeatable)
    #[arg(long, value_name = "NAME")]
    source: Vec<String>,
    /// Write under this host's name although another machine has (this one replaces it)
    #[arg(long)]
    take_over: bool,
}

impl Args {
    /// What is watched of it.
    pub fn about(&self) -> About {
        About::plan(Verb::Backup, self.plan.as_ref(), self.source.is_empty())
    }
}

/// Backs up, and tells.
pub async fn run(context: &Context, args: Args) -> Result<ExitCode> {
    let _lock = context.lock(&context.config()?, "backup").await?;
    let manifest = back_up(context, args.plan.as_deref(), &args.source, args.take_over, None).await?;
    context.report(figures(&manifest));
    if context.global.json {
        json(&manifest)?;
    } else {
        report(&manifest)?;
    }
    let failed = manifest.sources.iter().any(|s| !s.is_complete());
    Ok(ExitCode::from(if failed { Kind::Partial.exit_code() } else { 0 }))
}

/// Backs up a plan, or some of its sources; perhaps under another plan's name, where it is never the latest. Whoever
/// calls it holds the lock.
///
/// # Errors
/// When nothing could be committed. A manifest with failed sources is `Ok`.
pub async fn back_up(
    context: &Context,
    plan: Option<&str>,
    sources: &[String],
    take_over: bool,
    under: Option<Name>,
) -> Result<Manifest> {
    let config = context.config()?;
    let (_, vault) = context.vault(false).await?;
    // An identity that is kept elsewhere makes this a sealed host.
    let identity =
        if config.identity_file.as_ref().is_some_and(|f| f.exists()) { context.unlock(Some(&config))? } else { None };
    keyring::require_opener(&vault, identity.as_ref()).await?;
    let catalog = context.catalog(Some(&config), vault);
    let plan_name = context.plan(plan, Some(&config), &catalog).await?;
    let plan = config.plans.get(&plan_name).ok_or_else(|| {
        let names: Vec<&str> = config.plans.keys().map(Name::as_str).collect();
        Error::new(Kind::NotFound, format!("plan {plan_name} is not configured"))
            .at(config.file.display())
            .hint(format!("Configured are: {}.", names.join(", ")))
    })?;
    let chosen = chosen(&plan.sources, sources, &plan_name)?;
    let whole_plan = chosen.len() == plan.sources.len();
    let sources = chosen.into_iter().filter_map(|name| source(&config, &name).map(|s| (name, s))).collect();
    let plan_name = under.unwrap_or(plan_name);
    let mut options = config.writer.clone();
    options.take_over = take_over;
    let mut job = Job {
        plan: plan_name.clone(),
        sources,
        groups: config.groups.clone(),
        whole_plan,
        config_text: config.text.clone(),
        machine: machine(&config.state_dir)?,
        journal: config.state_dir.join("uploads").join(plan_name.as_str()),
        state_dir: config.state_dir.clone(),
        options,
    };
    let monitor = context.monitor(&format!("backup {plan_name}"));
    // What a dead run left stopped is no reason not to back up; it is told, and tried again each time.
    if let Err(e) = quiesce::replay(&config.state_dir, monitor.clone()).await {
        monitor.event(Event::Warning(e.to_string()));
    }
    let vault = catalog.vault().header.vault;
    let hidden = newest::hidden(&catalog, &config.state_dir, Some(&plan_name)).await?;
    if let Some((_, id)) = hidden.into_iter().next() {
        monitor.event(Event::Warning(format!(
            "the store does not show backup {id}, which this host committed last, and nobody forgot it: somebody removed it, or the store shows an old state"
        )));
        job.options.unseen = Some(id);
    }
    let manifest = backup::run(catalog, job, monitor.clone()).await?;
    if let Err(e) = newest::note(&config.state_dir, vault, &plan_name, &manifest.id) {
        let place = config.state_dir.display();
        monitor.event(Event::Warning(format!("the newest backup cannot be noted below {place}: {e}")));
    }
    Ok(manifest)
}

fn chosen(all: &[Name], only: &[String], plan: &Name) -> Result<Vec<Name>> {
    if only.is_empty() {
        return Ok(all.to_vec());
    }
    let mut only = only.to_vec();
    only.sort();
    only.dedup();
    only.iter()
        .map(|text| {
            all.iter().find(|n| n.as_str() == text).cloned().ok_or_else(|| {
                let names: Vec<&str> = all.iter().map(Name::as_str).collect();
                Error::new(Kind::NotFound, format!("plan {plan} has no source {text}"))
                    .hint(format!("It has: {}.", names.join(", ")))
            })
        })
        .collect()
}

fn source(config: &Config, name: &Name) -> Option<Arc<dyn Source>> {
    Some(match config.sources.get(name)? {
        SourceConfig::Command(command) => Arc::new((**command).clone()),
        SourceConfig::Files(files) => Arc::new(files.clone()),
        SourceConfig::Postgres(postgres) => Arc::new((**postgres).clone()),
        SourceConfig::Host(host) => Arc::new(host.clone()),
        SourceConfig::Image(image) => Arc::new(image.clone()),
        SourceConfig::Redis(redis) => Arc::new(redis.clone()),
        SourceConfig::Volume(volume) => Arc::new(volume.clone()),
    })
}

/// For whoever watches.
fn figures(m: &Manifest) -> Report {
    let sources = m.sources.iter().filter(|s| s.kind != "config").map(|s| report::Source {
        name: s.name.clone(),
        kind: s.kind.clone(),
        error: if let SourceState::Failed(why) = &s.state { Some(why.clone()) } else { None },
        bytes: s.bytes(),
        files: s.facts.get("files").and_then(serde_json::Value::as_u64),
        seconds: s.seconds,
    });
    Report::Backup(report::Backup {
        whole_plan: m.whole_plan,
        bytes: m.stats.bytes,
        read: m.stats.read,
        new: m.stats.new,
        shipped: m.stats.shipped,
        packs: m.stats.packs,
        repaired: m.stats.repaired,
        sources: sources.collect(),
    })
}

fn report(m: &Manifest) -> Result<()> {
    let failed: Vec<_> = m
        .sources
        .iter()
        .filter_map(|s| if let SourceState::Failed(why) = &s.state { Some((&s.name, why)) } else { None })
        .collect();
    let word = if failed.is_empty() { good("backed up") } else { notice("partly backed up") };
    let took = m.finished.duration_since(m.started);
    say(&format!("{word} plan {} as {} in {}", m.plan, m.id, time::words(took)))?;
    let s = &m.stats;
    say(&format!(
        "  {} of data, {} read, {} new, {} shipped in {}",
        size::human(s.bytes),
        size::human(s.read),
        size::human(s.new),
        size::human(s.shipped),
        size::plural(s.packs, "pack")
    ))?;
    if s.repaired > 0 {
        say(&format!("  {} damaged before and stored again from live data", size::plural(s.repaired, "pack")))?;
    }
    for (name, why) in failed {
        say(&format!("  {} {name}: {why}", bad("failed")))?;
    }
    Ok(())
}
