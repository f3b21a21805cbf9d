//! `backstay restore --resume` and `--unwind`: the restore that was interrupted.

use super::report;
use crate::cli::context::Context;
use crate::error::{Error, Kind, Result};
use crate::foreign::scratch::Scratch;
use crate::recovery::journal::Journal;
use crate::recovery::restore::{Backups, Restore, Safety, asked_of, is_staged, journal_file, resources};
use crate::repository::reader::Reader;
use std::process::ExitCode;
use std::time::Instant;

/// Finishes the open restore, or takes it back.
pub async fn go_on(context: &Context, forward: bool) -> Result<ExitCode> {
    let started = Instant::now();
    let config = context.config()?;
    let _lock = context.lock(&config, "restore")?;
    let file = journal_file(&config.state_dir);
    if !file.exists() {
        return Err(Error::new(Kind::NotFound, "no restore of this host is open")
            .at(file.display())
            .hint("`backstay list` shows backups; `backstay restore` begins one."));
    }
    let journal = Journal::open(&file)?;
    let asked = asked_of(&journal)?;
    let about = journal.about().clone();
    let own = super::own_paths(Some(&config));
    let monitor = context.monitor(&format!("restore {}", about.plan));
    // What is staged needs no backup and no identity any more; going back needs neither, unless what was dropped has
    // to be loaded again.
    let reads = asked.in_place.is_some() || (forward && !is_staged(&journal));
    let foreign = Scratch::left(&config.state_dir, &config.host, &about.plan, &about.backup).await?;
    let catalog = match foreign {
        Some(catalog) => catalog,
        None => {
            let (_, vault) = context.vault(reads).await?;
            context.catalog(Some(&config), vault)
        }
    };
    let manifest = match catalog.manifest(&about.plan, &about.backup).await {
        Ok(manifest) => Some(manifest),
        Err(_) if !forward => None,
        Err(e) => return Err(e),
    };
    let safety = match &asked.in_place {
        Some(Safety::Backup(id)) => Some(catalog.manifest(&super::in_place::safety_plan(&about.plan)?, id).await?),
        _ => None,
    };
    let reader = Reader::new(catalog, monitor.clone()).ok();
    let from = match forward || asked.in_place.is_some() {
        true => Backups { manifest: manifest.as_ref(), safety: safety.as_ref(), reader: reader.as_ref() },
        false => Backups::default(),
    };
    let resources = resources(&asked, Some(&config), &own, &about.id, from).await?;
    let mut restore = Restore::take_up(&config.state_dir, journal, resources, monitor)?;
    let Some(manifest) = manifest.filter(|_| forward) else {
        let ended = restore.unwind().await?;
        clear(&config.state_dir);
        return report::unwound(context, &about, ended);
    };
    let ended = restore.run(crate::cli::stopped()).await?;
    clear(&config.state_dir);
    report::ended(context, &manifest, &restore, ended, started).await
}

/// What was read of a foreign backup is not needed any more once its restore is closed.
fn clear(state_dir: &std::path::Path) {
    if !journal_file(state_dir).exists() {
        Scratch::clear(state_dir);
    }
}
