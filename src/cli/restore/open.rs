//! `backstay restore --resume` and `--unwind`: the restore that was interrupted.

use super::report;
use crate::cli::context::Context;
use crate::error::{Error, Kind, Result};
use crate::recovery::journal::Journal;
use crate::recovery::restore::{Restore, asked_of, is_staged, journal_file, resources};
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
    // What is staged needs no backup and no identity any more; going back needs neither at any time.
    let (_, vault) = context.vault(forward && !is_staged(&journal)).await?;
    let catalog = context.catalog(Some(&config), vault);
    let manifest = catalog.manifest(&about.plan, &about.backup).await;
    if !forward {
        let resources = resources(&asked, Some(&config), &own, &about.id, None, None).await?;
        let mut restore = Restore::take_up(&config.state_dir, journal, resources, monitor)?;
        let ended = restore.unwind().await?;
        return report::unwound(context, &about, ended);
    }
    let manifest = manifest?;
    let reader = Reader::new(catalog, monitor.clone());
    let resources = resources(&asked, Some(&config), &own, &about.id, Some(&manifest), reader.as_ref().ok()).await?;
    let mut restore = Restore::take_up(&config.state_dir, journal, resources, monitor)?;
    let ended = restore.run(crate::cli::stopped()).await?;
    report::ended(context, &manifest, &restore, ended, started).await
}
