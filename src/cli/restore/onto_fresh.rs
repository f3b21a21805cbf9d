//! Sources of a backup onto a machine that has nothing yet: a part of `backstay recover`.

use super::attempt::{Tried, attempt};
use super::{Args, open};
use crate::cli::context::Context;
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::model::Name;
use crate::recovery::journal::{Journal, State};
use crate::recovery::restore::journal_file;
use crate::recovery::rollback;
use crate::repository::catalog::Catalog;
use crate::repository::manifest::Manifest;
use clap::Parser;
use jiff::Timestamp;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
struct Whole {
    #[command(flatten)]
    args: Args,
}

/// Restores sources of a backup, or these paths of one, or goes on with the restore of them that was interrupted. What was restored of it since
/// `since` is not restored once more. Without `hooks` the plan's are left out. Whoever calls it holds the lock.
///
/// # Errors
/// Those of the restore; what it did is undone then, or its journal is open.
pub async fn onto_fresh(
    context: &Context,
    config: &Config,
    catalog: &Catalog,
    m: &Manifest,
    (sources, paths): (&[Name], &[PathBuf]),
    (since, hooks): (Timestamp, bool),
) -> Result<()> {
    let file = journal_file(&config.state_dir);
    if file.exists() {
        let journal = Journal::open(&file)?;
        let (about, state) = (journal.about().clone(), journal.state().clone());
        drop(journal);
        if about.backup != m.id {
            return Err(Error::new(Kind::Busy, format!("a restore of plan {} is open on this machine", about.plan))
                .at(file.display())
                .hint("`backstay restore --resume` finishes it, `backstay restore --unwind` takes it back."));
        }
        let forward = !matches!(state, State::Unwinding(_) | State::Stuck(_));
        let ended = open::go_on_with(context, config.clone(), forward).await;
        match ended {
            // Taken back, as it had begun to be: it begins anew.
            _ if !forward && !file.exists() => {}
            Err(e) => return Err(e),
            Ok(_) => {}
        }
    }
    if is_restored(config, m, sources, since)? {
        return Ok(());
    }
    let mut words = vec!["restore".to_owned(), m.id.to_string(), "--yes".to_owned()];
    words.extend(["--plan".to_owned(), m.plan.to_string()]);
    words.extend(sources.iter().flat_map(|s| ["--source".to_owned(), s.to_string()]));
    words.extend(paths.iter().flat_map(|p| ["--path".to_owned(), p.display().to_string()]));
    let Whole { args } = Whole::try_parse_from(words)
        .map_err(|e| Error::new(Kind::Internal, "a restore cannot be asked for").because(e))?;
    let args = Args { onto_fresh: true, without_hooks: !hooks, ..args };
    match attempt(context, Some(config), catalog, m, sources, &args).await? {
        Tried::Unfit(e) => Err(e),
        Tried::Ended(code) if code == ExitCode::SUCCESS => Ok(()),
        Tried::Ended(_) => Err(Error::new(Kind::Restore, format!("the restore of plan {} was not completed", m.plan))),
    }
}

/// Whether a restore of just these sources was completed since.
fn is_restored(config: &Config, m: &Manifest, sources: &[Name], since: Timestamp) -> Result<bool> {
    let wanted: std::collections::BTreeSet<&Name> = sources.iter().collect();
    let pasts = rollback::pasts(&config.state_dir)?;
    Ok(pasts.iter().filter(|p| p.stands() && p.began() >= since).any(|p| {
        let about = p.journal().about();
        let parts = crate::recovery::asked::asked_of(p.journal()).map(|a| a.sources()).unwrap_or_default();
        about.backup == m.id && parts.iter().collect::<std::collections::BTreeSet<_>>() == wanted
    }))
}
