//! `backstay recover`: a lost host, onto a machine that has nothing but this program.

mod checks;
mod data;
mod docker;
mod find;
mod machine;
mod options;
mod outline;
mod report;
mod running;
mod servers;

use super::context::{Context, make_state_dir};
use super::output::{aside, ask, good, json, notice, remark};
use crate::config::load::DEFAULT_STATE;
use crate::config::repository;
use crate::error::{Error, Kind, Result};
use crate::host::apt;
use crate::host::inventory::Inventory;
use crate::model::{Name, time};
use crate::recovery::fresh::journal::{Begin, Journal, Record};
use crate::recovery::fresh::journal_file;
use crate::recovery::fresh::lost::Lost;
use crate::recovery::fresh::phase::{Phase, phases};
use crate::recovery::restore::new_id;
use crate::recovery::select;
use crate::repository::access;
use crate::repository::catalog::Catalog;
use jiff::SignedDuration;
use running::Recovery;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A store that does not answer is waited for so long, phase by phase: networks come back.
const PATIENCE: Duration = Duration::from_secs(1800);
/// Between two tries.
const AGAIN: Duration = Duration::from_secs(10);
/// How a recovery that stopped goes on.
const SAME_COMMAND: &str = "Run the same command again: it goes on where it stopped.";

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Restore only this plan (repeatable); all that have a backup when left out
    #[arg(long, value_name = "NAME")]
    plan: Vec<String>,
    /// Of each plan the newest backup begun by this time (`2026-01-03 22:00` in local time, or with a zone)
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Of this plan this backup, by its id or the beginning of it (repeatable); also for a recovery that goes on, until the
    /// plan's databases are there
    #[arg(long, value_name = "PLAN=ID")]
    backup: Vec<String>,
    /// Install the packages that the lost host had and this machine lacks
    #[arg(long)]
    install: bool,
    /// Do not ask; needed where nobody can answer
    #[arg(long)]
    yes: bool,
    /// Show what the lost host was and what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Go on although this machine is not fresh; what is in the way is kept beside its place
    #[arg(long)]
    onto_existing: bool,
    /// Also restore to servers that run on other machines; they are not lost with the host
    #[arg(long, conflicts_with = "exercise")]
    other_servers: bool,
    /// Rehearse: under another name, without timers, starting only what --start names, and taking nothing over
    #[arg(long)]
    exercise: bool,
    /// In an exercise, a unit, or a container as container:NAME, that is started (repeatable)
    #[arg(long, value_name = "UNIT", requires = "exercise")]
    start: Vec<String>,
    /// Leave the given identity on this machine, where the configuration looks for its own; without it the host is sealed,
    /// unless its own identity was backed up
    #[arg(long, conflicts_with_all = ["exercise", "passphrase_file"])]
    keep_identity: bool,
    /// Begin anew, although a recovery of this machine was interrupted
    #[arg(long)]
    start_over: bool,
}

/// Recovers.
pub async fn run(context: &Context, args: Args) -> Result<ExitCode> {
    tokio::select! {
        result = recover(context, &args) => result,
        signal = super::stopped() => Err(Error::new(Kind::Interrupted, format!("stopped by {signal}")).hint(SAME_COMMAND)),
    }
}

async fn recover(context: &Context, args: &Args) -> Result<ExitCode> {
    let url = context.global.repository.as_deref().ok_or_else(|| {
        Error::new(Kind::Usage, "a machine that has nothing must be told where the backups are")
            .hint("Give --repository URL and --identity FILE.")
    })?;
    if !rustix::process::geteuid().is_root() {
        return Err(Error::new(Kind::Refused, "only root can make a machine what another one was").hint("Use sudo."));
    }
    let state_dir = PathBuf::from(DEFAULT_STATE);
    let unlock = context.unlock(None)?.ok_or_else(|| {
        Error::new(Kind::Key, "nothing is given that opens the backups")
            .hint("Give the recovery identity with --identity FILE, or a passphrase with --passphrase-file FILE.")
    })?;
    let store = context.store(&repository::without_file(url, None)?, None).await?;
    let host = find::host(context, &*store).await?;
    let vault = access::open_with(store, &host, &unlock).await?;
    if let Some(epoch) = vault.locked {
        remark(&format!(
            "{} the identity opens no key file of key epoch {epoch}, the newest: what is stored in it stays closed.",
            notice("warning")
        ));
    }
    let catalog = Catalog::new(Arc::new(vault), None).remembering();
    let _lock = match args.dry_run {
        true => None,
        false => Some(context.lock_in(&state_dir, "recovery").await?),
    };
    let open = match args.dry_run {
        true => None,
        false => Journal::open(&journal_file(&state_dir))?,
    };
    let (journal, lost) = match open {
        Some(journal) if !args.start_over => {
            same(&journal, &catalog, args)?;
            let mut journal = journal;
            for (plan, which) in args.backups()? {
                journal.take(&plan, &select::backup(&catalog, &plan, &which, None, &[]).await?.id)?;
            }
            let begun = time::utc(journal.began());
            remark(&notice(&format!("goes on with the recovery of host {host} that was begun {begun}")));
            let lost = Lost::again(&catalog, journal.about()).await?;
            if args.install {
                with_packages(&mut journal, &lost)?;
            }
            (journal, lost)
        }
        left => match begin(context, args, &catalog, &state_dir, left).await? {
            Some(both) => both,
            None => return Ok(ExitCode::SUCCESS),
        },
    };
    let beside = context.global.json.then(aside);
    let recovery = Recovery::new(context, url, catalog, lost, &journal, state_dir)?;
    let journal = carry_out(context, &recovery, journal).await?;
    let report = report::of(&recovery, &journal).await;
    recovery.clear()?;
    journal.close()?;
    drop(beside);
    if context.global.json {
        json(&report)?;
    } else {
        report.print()?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Looks, shows, asks, and begins. `None` when only a look was wanted.
async fn begin(
    context: &Context,
    args: &Args,
    catalog: &Catalog,
    state_dir: &Path,
    left: Option<Journal>,
) -> Result<Option<(Journal, Lost)>> {
    let only: Vec<Name> =
        args.plan.iter().map(|p| p.parse().map_err(|e: Error| e.kind(Kind::Usage))).collect::<Result<_>>()?;
    let at = args.at.as_deref().map(time::parse_moment).transpose()?;
    let lost = Lost::find(catalog, &only, at, &args.backups()?).await?;
    let here = Inventory::take().await;
    let outline = outline::of(catalog, &lost, &here, args, state_dir).await;
    outline.print(context, &lost, args.dry_run)?;
    if args.dry_run {
        return Ok(None);
    }
    outline.refuse(args)?;
    let vault = catalog.vault();
    confirm(vault.host(), args)?;
    if let Some(left) = left {
        left.close()?;
    }
    make_state_dir(state_dir)?;
    let begin = Begin {
        id: new_id(),
        host: vault.host().clone(),
        vault: vault.header.vault,
        backups: lost.backups.iter().map(|m| (m.plan.clone(), m.id.clone())).collect(),
        exercise: args.exercise,
        onto_existing: args.onto_existing,
        other_servers: args.other_servers,
        start: args.start.clone(),
        keep_identity: args.keep_identity,
        enabled: here.units.iter().flat_map(|u| u.enabled().map(str::to_owned)).collect(),
        phases: phases(&lost.has(args.install, args.exercise)),
        at,
        notes: lost.notes.clone(),
        elsewhere: outline.elsewhere,
    };
    Ok(Some((Journal::begin(&journal_file(state_dir), begin)?, lost)))
}

/// A recovery goes on with what it began with.
fn same(journal: &Journal, catalog: &Catalog, args: &Args) -> Result<()> {
    let about = journal.about();
    let vault = catalog.vault();
    if about.vault == vault.header.vault && about.host == *vault.host() && about.exercise == args.exercise {
        return args.fits(about);
    }
    let what = if about.exercise { "an exercise with" } else { "a recovery of" };
    Err(Error::new(Kind::Busy, format!("{what} host {} was interrupted on this machine and is open", about.host))
        .at(journal_file(Path::new(DEFAULT_STATE)).display())
        .hint("Run its command again to finish it, or give --start-over to begin this one instead."))
}

/// Lets packages be installed after all, in a recovery that was begun without that.
fn with_packages(journal: &mut Journal, lost: &Lost) -> Result<()> {
    let mut about = journal.about().clone();
    if about.phases.contains(&Phase::Packages) || !lost.has(true, about.exercise).install {
        return Ok(());
    }
    apt::require()?;
    if journal.is_done(&Phase::Enable) {
        return Err(Error::new(Kind::Usage, "what starts is enabled already, and packages would start with it")
            .hint("Install them by `apt-get install`, and run the same command again without --install."));
    }
    let at = about.phases.iter().position(|p| *p == Phase::Config).unwrap_or(0);
    about.phases.insert(at, Phase::Packages);
    journal.write(Record::Amended(about))
}

/// Asks for the host's name: nobody types that by mistake.
fn confirm(host: &Name, args: &Args) -> Result<()> {
    if args.yes {
        return Ok(());
    }
    let answer = ask(&notice(&format!("Type the host's name ({host}) to make this machine what it was: ")))?;
    let answer = answer.ok_or_else(|| {
        Error::new(Kind::Usage, "this machine is to become another one, and nobody is here to confirm it")
            .hint("Give --yes, or --dry-run to see what would be done.")
    })?;
    match answer.trim() == host.as_str() {
        true => Ok(()),
        false => Err(Error::new(Kind::Refused, "not confirmed; nothing was done")),
    }
}

/// Phase by phase, each with its record before and after it.
async fn carry_out(context: &Context, recovery: &Recovery<'_>, mut journal: Journal) -> Result<Journal> {
    let phases = journal.about().phases.clone();
    let quiet = context.global.quiet;
    for (n, phase) in phases.iter().enumerate() {
        if journal.is_done(phase) {
            continue;
        }
        let begun = Instant::now();
        loop {
            if !quiet {
                remark(&format!("[{}/{}] {phase}", n + 1, phases.len()));
            }
            let started = Instant::now();
            journal.write(Record::Doing(phase.clone()))?;
            let e = match recovery.carry_out(phase).await {
                Ok(notes) => {
                    if !quiet {
                        notes.iter().for_each(|note| remark(&format!("  {} {note}", notice("note:"))));
                        let took = SignedDuration::from_millis((started.elapsed().as_secs_f64() * 1000.0) as i64);
                        remark(&format!("  {} in {}", good("done"), time::words(took)));
                    }
                    journal.write(Record::Done(phase.clone(), notes))?;
                    break;
                }
                Err(e) => e,
            };
            journal.write(Record::Failed(phase.clone(), e.one_line()))?;
            if e.kind != Kind::Storage || e.denied || begun.elapsed() > PATIENCE {
                return Err(with_a_way_on(e, phase));
            }
            remark(&format!("{} {}; trying again", notice("warning"), e.one_line()));
            tokio::time::sleep(AGAIN).await;
        }
    }
    Ok(journal)
}

fn with_a_way_on(e: Error, phase: &Phase) -> Error {
    let hint = e.hint.as_ref().map(|hint| format!("{hint} ")).unwrap_or_default();
    let what = format!("the recovery stopped at \"{phase}\": {}", e.what);
    Error { what, ..e }.do_instead(format!("{hint}When that is mended, run the same command again: it goes on there."))
}
