//! `backstay restore --foreign`: a backup that another script made is read, proven and taken into a repository of its own
//! first, while the application runs; from there it is restored like any other.

use super::Args;
use crate::cli::context::Context;
use crate::cli::foreign::scratch;
use crate::error::{Error, Kind, Result};
use crate::model::Name;
use crate::recovery::restore::{journal_file, open_restore};
use std::process::ExitCode;
use std::time::Instant;

/// Restores a set.
pub(super) async fn run(context: &Context, args: Args, started: Instant) -> Result<ExitCode> {
    let config = context.config()?;
    let _lock = context.lock(&config, "restore").await?;
    let journal = journal_file(&config.state_dir);
    if journal.exists() {
        return Err(open_restore(&journal));
    }
    let plan = match (&args.plan, &config.plans.keys().collect::<Vec<&Name>>()[..]) {
        (Some(name), _) => name.parse().map_err(|e: Error| e.kind(Kind::Usage))?,
        (None, [only]) => (*only).clone(),
        (None, _) => {
            return Err(Error::new(Kind::Usage, "the plan that is restored is not said").hint("Name one with --plan."));
        }
    };
    let scratch = scratch(context, &config, args.foreign.as_deref().unwrap_or_default(), &args.backup, &plan).await?;
    let args = Args { backup: "latest".to_owned(), ..args };
    let ended = super::restore_from(context, args, Some(&config), scratch.catalog.clone(), plan, started).await;
    if journal.exists() {
        // It can go on only with what was read.
        scratch.keep();
    }
    ended
}
