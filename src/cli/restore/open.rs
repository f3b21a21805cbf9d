//! `backstay restore --resume` and `--unwind`: the restore that was interrupted.

use super::report::{self, Run};
use crate::cli::context::Context;
use crate::cli::rollback::{stands, taken_back, undone};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::foreign::scratch::Scratch;
use crate::model::BackupId;
use crate::recovery::asked::{Asked, Safety, asked_of};
use crate::recovery::engine::Ended;
use crate::recovery::flow::With;
use crate::recovery::journal::{Begin, Journal};
use crate::recovery::maintenance::Maintenance;
use crate::recovery::resource::Resource;
use crate::recovery::resources::{Backups, resources};
use crate::recovery::restore::{Restore, Way, is_staged, journal_file, wait_until_all_answer, way_at_boot};
use crate::recovery::rollback::past;
use crate::repository::reader::Reader;
use crate::telemetry::monitor::{Event, Monitor};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long what is worked with may take to answer: this may be right after a boot.
const TO_ANSWER: Duration = Duration::from_secs(180);
/// How long nginx may take to run.
const TO_SHOW: Duration = Duration::from_secs(20);
/// A pause between two looks.
const LOOK: Duration = Duration::from_millis(250);

/// Finishes the open restore, or takes it back.
pub async fn go_on(context: &Context, forward: bool) -> Result<ExitCode> {
    let config = context.config()?;
    let _lock = context.lock(&config, "restore").await?;
    go_on_with(context, config, forward).await
}

/// The same for somebody who holds the lock.
pub async fn go_on_with(context: &Context, config: Config, forward: bool) -> Result<ExitCode> {
    let started = Instant::now();
    let file = journal_file(&config.state_dir);
    if !file.exists() {
        return Err(Error::new(Kind::NotFound, "no restore of this host is open")
            .at(file.display())
            .hint("`backstay list` shows backups; `backstay restore` begins one."));
    }
    let journal = Journal::open(&file)?;
    let asked = asked_of(&journal)?;
    let about = journal.about().clone();
    context.is_about(&about.plan);
    if let Some(of) = asked.rollback_of.clone() {
        return go_on_back(context, config, journal, &asked, &of, forward).await;
    }
    let own = super::own_paths(Some(&config));
    let monitor = context.monitor(&format!("restore {}", about.plan));
    // What is staged needs no backup and no identity any more; going back needs neither, unless what was dropped has
    // to be loaded again.
    let reads = asked.goes_back_by_reading() || (forward && (asked.in_place.is_some() || !is_staged(&journal)));
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
    let from = match forward || asked.goes_back_by_reading() {
        true => Backups { manifest: manifest.as_ref(), safety: safety.as_ref(), reader: reader.as_ref() },
        false => Backups::default(),
    };
    let resources = made(&asked, &config, &own, &about.id, from, &*monitor).await?;
    let with = with(&config, &about, &resources, monitor);
    let mut restore = Restore::take_up(&with, journal)?;
    let Some(manifest) = manifest.filter(|_| forward) else {
        let ended = restore.unwind().await?;
        clear(&config.state_dir);
        return report::unwound(context, &about, ended);
    };
    let ended = match restore.verify_again().await {
        Ok(()) => restore.run(crate::cli::stopped()).await?,
        Err(e) => restore.go_back(e).await?,
    };
    clear(&config.state_dir);
    report::ended(context, &manifest, &restore, ended, started).await
}

/// The same of a rollback. It works with what is on this host, and reads no backup: neither the repository nor an identity need
/// be at hand.
async fn go_on_back(
    context: &Context,
    config: Config,
    journal: Journal,
    asked: &Asked,
    of: &BackupId,
    forward: bool,
) -> Result<ExitCode> {
    let about = journal.about().clone();
    let own = super::own_paths(Some(&config));
    let monitor = context.monitor(&format!("rollback {}", about.plan));
    // What it works with bears the id of the restore that it takes back.
    let resources = made(asked, &config, &own, of, Backups::default(), &*monitor).await?;
    let with = with(&config, &about, &resources, monitor);
    let mut rollback = Restore::take_up(&with, journal)?;
    if !forward {
        return match rollback.unwind().await? {
            Ended::Unwound(_) => undone(context, &rollback, of),
            ended => Err(report::not_unwound(context, ended, Run::Rollback)?),
        };
    }
    match rollback.run(crate::cli::stopped()).await? {
        Ended::Committed => {
            let past = past(&config.state_dir, of)?;
            taken_back(context, &config, past.journal().about(), &resources)
        }
        Ended::Unwound(e) => Err(e.hint(stands(&rollback))),
        stuck => Err(report::stuck_error(context, stuck, Run::Rollback)?),
    }
}

/// What is taken up, with what this host has now.
fn with<'a>(
    config: &'a Config,
    about: &'a Begin,
    resources: &'a [Arc<dyn Resource>],
    monitor: Arc<dyn Monitor>,
) -> With<'a> {
    With {
        plan: config.plans.get(&about.plan).map(|p| &p.restore),
        id: &about.id,
        backup: &about.backup,
        state_dir: config.state_dir.clone(),
        resources,
        monitor,
    }
}

/// The resources, once everything that they work with answers.
async fn made(
    asked: &Asked,
    config: &Config,
    own: &[PathBuf],
    id: &BackupId,
    from: Backups<'_>,
    monitor: &dyn Monitor,
) -> Result<Vec<Arc<dyn Resource>>> {
    let started = Instant::now();
    let mut told = false;
    let made = loop {
        match resources(asked, Some(config), own, id, from).await {
            Err(e)
                if started.elapsed() < TO_ANSWER
                    && !matches!(e.kind, Kind::Config | Kind::NotFound | Kind::Damaged) =>
            {
                if !std::mem::replace(&mut told, true) {
                    monitor.event(Event::Warning(format!("waiting: {}", e.one_line())));
                }
                tokio::time::sleep(LOOK).await;
            }
            made => break made?,
        }
    };
    wait_until_all_answer(&made, TO_ANSWER.saturating_sub(started.elapsed()), monitor).await?;
    // One that does not come has no clients, and its page is switched in the file alone.
    if let Some(settings) = &asked.flow.maintenance
        && !Maintenance::new(settings.clone(), &config.state_dir).is_up_within(TO_SHOW).await
    {
        monitor.event(Event::Warning("nginx, which shows the maintenance page, does not run".to_owned()));
    }
    Ok(made)
}

/// What a boot does with an open restore. `None` when none is open.
pub async fn at_boot(context: &Context) -> Result<Option<ExitCode>> {
    let config = context.config()?;
    let file = journal_file(&config.state_dir);
    if !file.exists() {
        return Ok(None);
    }
    let (way, plan) = {
        // The restore itself may be running: then it holds the lock, and there is nothing to take up.
        let _lock = match context.lock(&config, "resume").await {
            Err(e) if e.kind == Kind::Busy => return Ok(None),
            other => other?,
        };
        let journal = Journal::open(&file)?;
        let reads = context.unlock(Some(&config)).is_ok_and(|u| u.is_some());
        (way_at_boot(&journal, &asked_of(&journal)?, reads), journal.about().plan.clone())
    };
    match way {
        Way::Forward => go_on(context, true).await.map(Some),
        Way::Back => go_on(context, false).await.map(Some),
        Way::Leave => Err(Error::new(Kind::Stuck, format!("a restore of plan {plan} is open, and somebody must look"))
            .at(file.display())
            .hint("`backstay restores` shows it; `backstay restore --unwind` or `--resume` goes on, perhaps with --identity FILE.")),
    }
}

/// What was read of a foreign backup is not needed any more once its restore is closed.
fn clear(state_dir: &std::path::Path) {
    if !journal_file(state_dir).exists() {
        Scratch::clear(state_dir);
    }
}
