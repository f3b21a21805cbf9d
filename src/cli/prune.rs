//! `backstay prune`

use super::context::Context;
use super::output::{good, json, notice, say};
use super::watch::About;
use crate::error::{Error, Kind, Result};
use crate::host::machine::machine;
use crate::model::{size, time};
use crate::repository::claims;
use crate::repository::prune::{self, PruneOptions};
use crate::storage::fs::FsStore;
use crate::telemetry::monitor::Verb;
use crate::telemetry::report::{self, Report};
use std::process::ExitCode;

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Refuse to condemn more than this share of the vault's bytes, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 50.0)]
    max_share: f64,
    /// Say what would happen and do nothing
    #[arg(long)]
    dry_run: bool,
}

impl Args {
    /// What is watched of it.
    pub fn about(&self) -> Option<About> {
        (!self.dry_run).then(|| About::vault_or(Verb::Prune, None))
    }
}

/// Prunes.
pub async fn run(context: &Context, args: Args) -> Result<ExitCode> {
    if !(0.0..=100.0).contains(&args.max_share) {
        return Err(Error::new(Kind::Usage, "--max-share is a percentage from 0 to 100")
            .at(format!("--max-share {}", args.max_share))
            .hint("Prune stops when more than this share of the bytes would go; 100 allows everything."));
    }
    let (config, vault) = context.vault(false).await?;
    let _lock = match &config {
        Some(config) => Some(context.lock(config, "prune").await?),
        None => None,
    };
    if let Some(path) = vault.store().url().strip_prefix("file://")
        && !args.dry_run
    {
        // What killed runs left half written; a day old at least.
        FsStore::new(std::path::Path::new(path), std::time::Duration::from_secs(600))?.sweep().await?;
    }
    if let Some(config) = &config {
        claims::not_replaced(&vault, &machine(&config.state_dir)?).await?;
    }
    let catalog = context.catalog(config.as_ref(), vault);
    let options = PruneOptions { max_share: args.max_share / 100.0, dry_run: args.dry_run };
    let report = prune::prune(&catalog, options).await?;
    context.report(Report::Prune(report::Prune {
        live_objects: report.live_objects,
        live_bytes: report.live_bytes,
        condemned_objects: report.condemned_objects,
        condemned_bytes: report.condemned_bytes,
        waiting_objects: report.waiting_objects,
        deleted_objects: report.deleted_objects,
        retained_objects: report.retained_objects,
    }));
    if context.global.json {
        json(&report)?;
        return Ok(ExitCode::SUCCESS);
    }
    let word = if args.dry_run { notice("would have") } else { good("pruned:") };
    say(&format!(
        "{word} deleted {}, condemned {} ({})",
        size::plural(report.deleted_objects, "object"),
        size::plural(report.condemned_objects, "object"),
        size::human(report.condemned_bytes)
    ))?;
    say(&format!("  in use: {}, {}", size::plural(report.live_objects, "object"), size::human(report.live_bytes)))?;
    if let Some(next) = report.next {
        say(&format!(
            "  waiting for the grace time: {}, from {} on",
            size::plural(report.waiting_objects, "object"),
            time::local(next)
        ))?;
    }
    if report.rescued_objects > 0 {
        say(&format!("  condemned before and in use again: {}", size::plural(report.rescued_objects, "object")))?;
    }
    if report.retained_objects > 0 {
        say(&notice(&format!(
            "  retained by a lock of the store: {}",
            size::plural(report.retained_objects, "object")
        )))?;
    }
    if report.unreadable_records > 0 {
        say(&notice(&format!(
            "  damaged condemned records: {}; what they named is condemned anew, and they go by themselves",
            report.unreadable_records
        )))?;
    }
    Ok(ExitCode::SUCCESS)
}
