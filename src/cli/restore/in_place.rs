//! `backstay restore --in-place`: what must hold before a live database is dropped.

use super::Args;
use crate::cli::backup;
use crate::cli::context::Context;
use crate::error::{Error, Kind, Result};
use crate::model::Name;
use crate::repository::manifest::{Manifest, SourceRecord};

/// What the name of a plan of safety backups ends with.
const SAFETY: &str = "-safety";

/// Only databases are restored so, and a waiver is the plan's name, typed.
pub fn check(chosen: &[&SourceRecord], args: &Args, plan: &Name) -> Result<()> {
    if let Some(other) = chosen.iter().find(|s| s.kind != "postgres") {
        return Err(Error::new(
            Kind::Usage,
            format!("--in-place speaks of databases, and source {} is of kind {}", other.name, other.kind),
        )
        .hint("Pick the postgres sources with --source."));
    }
    match &args.without_safety {
        Some(typed) if typed != plan.as_str() => Err(Error::new(
            Kind::Usage,
            format!("--without-safety takes the name of the plan, {plan}, as a confirmation"),
        )),
        _ => Ok(()),
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
            .hint(format!("Mend that; or, when the live data is past saving, --without-safety {plan}."))
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
