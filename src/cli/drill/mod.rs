//! `backstay drill`

mod report;
mod whose;

use super::context::Context;
use super::output::{notice, remark};
use super::watch::About;
use crate::config::DrillPlan;
use crate::config::drill::{Scratch, timeout};
use crate::error::{Error, Kind, Result};
use crate::host::docker::Docker;
use crate::host::priority;
use crate::model::{Name, size};
use crate::recovery::drill::plan::{Given, Planned, plan};
use crate::recovery::drill::{Drill, With, pick, place, sweep};
use crate::recovery::restore::{journal_file, new_id, open_restore};
use crate::repository::drills::{self, Drills, Figures, Outcome};
use crate::repository::keyring;
use crate::repository::manifest::Manifest;
use crate::repository::reader::Reader;
use crate::repository::vault::Vault;
use crate::repository::{layout, marks};
use crate::telemetry::monitor::{Event, Verb};
use crate::telemetry::report::{self as figures, Report};
use crate::telemetry::scrub::scrub;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::process::ExitCode;
use whose::Whose;

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Plan; may be left out when there is one
    plan: Option<String>,
    /// The same by name
    #[arg(long = "plan", value_name = "NAME", conflicts_with = "plan")]
    of: Option<String>,
    /// `newest`, `oldest`, `random`, an id, or the beginning of one
    #[arg(long, value_name = "WHICH", default_value = "newest")]
    backup: String,
    /// Restore only this source (repeatable); the plan is not proven then
    #[arg(long, value_name = "NAME")]
    source: Vec<String>,
    /// Load databases into a `cluster` or a `container` of the drill's own, or beside the `live` ones; without it, the first
    /// of them that can be had
    #[arg(long, value_name = "WHERE")]
    scratch: Option<Scratch>,
    /// Image for --scratch container, one that is here
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Where to stage; a directory of the drill's own is made below it
    #[arg(long, value_name = "DIRECTORY")]
    dir: Option<PathBuf>,
    /// The room that it may take there, like 50GiB
    #[arg(long, value_name = "SIZE")]
    max_bytes: Option<String>,
    /// Give up after this time, like 2h
    #[arg(long, value_name = "TIME")]
    timeout: Option<String>,
    /// Bytes per second from the store, like 10MiB
    #[arg(long, value_name = "SIZE")]
    limit_download: Option<String>,
    /// Do not record the outcome in the repository
    #[arg(long)]
    no_record: bool,
}

impl Args {
    /// What is watched of it.
    pub fn about(&self) -> About {
        About::plan(Verb::Drill, self.named(), self.source.is_empty())
    }

    fn named(&self) -> Option<&String> {
        self.plan.as_ref().or(self.of.as_ref())
    }

    /// The plan's section, with what was said on the command line in its place.
    fn settings(&self, plan: DrillPlan) -> Result<DrillPlan> {
        let usage = |e: Error| e.kind(Kind::Usage);
        let bytes = |text: &Option<String>| text.as_deref().map(size::parse).transpose().map_err(usage);
        let dir = self.dir.clone().unwrap_or(plan.dir);
        let image = self.image.clone().or(plan.image);
        Ok(DrillPlan {
            // Whoever names an image means a container.
            scratch: self.scratch.or(self.image.as_ref().map(|_| Scratch::Container)).or(plan.scratch),
            image,
            dir: std::path::absolute(&dir).unwrap_or(dir),
            max_bytes: bytes(&self.max_bytes)?.or(plan.max_bytes),
            timeout: self.timeout.as_deref().map(timeout).transpose().map_err(usage)?.unwrap_or(plan.timeout),
            limit_download: bytes(&self.limit_download)?.and_then(NonZeroU64::new).or(plan.limit_download),
            ..plan
        })
    }
}

/// Drills.
pub async fn run(context: &Context, args: Args) -> Result<ExitCode> {
    let whose = Whose::find(context)?;
    let _lock = context.lock_in(&whose.state_dir, "drill").await?;
    let open = journal_file(&whose.state_dir);
    if open.exists() {
        return Err(open_restore(&open));
    }
    if let Some(id) = sweep::sweep(&whose.state_dir, whose.local.as_ref()).await? {
        remark(&format!("removed what the drill {id} left when it was killed"));
    }
    let own = whose.own();
    let section = own.and_then(|c| match args.named() {
        Some(name) => c.plans.get(&name.parse::<Name>().ok()?),
        None => c.plans.values().next().filter(|_| c.plans.len() == 1),
    });
    let settings = args.settings(section.map(|p| p.drill.clone()).unwrap_or_default())?;
    let (config, vault) = context.vault_within(true, settings.limit_download).await?;
    if !vault.can_read_packs() {
        let openers = keyring::openers(&vault).await;
        return Err(Error::new(Kind::Key, "a drill reads backups, and this host is sealed").hint(format!(
            "Drill on another machine: backstay drill --repository URL --host HOST --plan PLAN --identity FILE.{openers}"
        )));
    }
    let catalog = context.catalog(config.as_ref(), vault.clone());
    let name = context.plan(args.named().map(String::as_str), own, &catalog).await?;
    context.is_about(&name);
    let m = pick::backup(&catalog, &name, &args.backup).await?;
    let only: Vec<Name> = args.source.iter().map(|s| s.parse()).collect::<Result<_>>()?;
    if settings.low_priority {
        priority::lower().await;
    }
    let id = new_id();
    let planned = plan(&Given { id: &id, manifest: &m, only: &only, own, settings: &settings }).await?;
    room(&planned, &settings).await?;
    let monitor = context.monitor(&format!("drill {name}"));
    let reader = Reader::new(catalog.clone(), monitor.clone())?;
    let (checks, unread) = whose.queries(&m, &reader, &settings).await?;
    let left_out: Vec<String> = planned.left_out.iter().cloned().chain(unread).collect();
    for text in left_out.iter().chain(&planned.limits) {
        monitor.event(Event::Warning(text.clone()));
    }
    let bytes = m.sources.iter().filter(|s| only.is_empty() || only.contains(&s.name)).map(|s| s.bytes()).sum();
    monitor.event(Event::Expect(bytes));
    let with = With {
        id: &id,
        manifest: &m,
        staging: &planned.staging,
        own,
        checks: &checks,
        reader: &reader,
        state_dir: &whose.state_dir,
        monitor: monitor.clone(),
    };
    let outcome = Drill::begin(with).await?.run(settings.timeout, super::stopped()).await?;
    drop((reader, monitor));
    let whole = only.is_empty() && left_out.is_empty() && m.is_complete();
    let rows = super::restore::report::rows(&outcome.compared);
    context.report(Report::Restore(figures::Restore {
        backup: Some(m.id.clone()),
        whole_plan: whole && outcome.failure.is_none(),
        compared: outcome.compared.len() as u64,
        rows,
        bytes,
    }));
    let verdict = match &outcome.failure {
        None if whole => Some(Outcome::Proven),
        None => Some(Outcome::Partly),
        // Anything else speaks against this machine, or against the time that it was given.
        Some(e) => matches!(e.kind, Kind::Damaged | Kind::Mismatch).then_some(Outcome::Failed),
    };
    let told = report::Told { m: &m, verdict, outcome: &outcome, planned: &planned, left_out: &left_out, bytes };
    let recorded = match verdict.filter(|_| !args.no_record) {
        Some(verdict) => {
            let note = outcome.failure.as_ref().map_or_else(|| left_out.join("; "), Error::one_line);
            let figures = Figures {
                outcome: verdict,
                machine: machine(),
                seconds: outcome.seconds,
                compared: outcome.compared.len() as u64,
                rows,
                bytes,
                note: scrub(&note),
            };
            record(&vault, &m, figures).await
        }
        None => false,
    };
    told.print(context, recorded)?;
    if let Some(e) = outcome.failure.as_ref().filter(|e| e.kind == Kind::Damaged) {
        mark(&vault, e).await;
    }
    match outcome.failure {
        None => Ok(ExitCode::SUCCESS),
        Some(e) => Err(e.hint("Nothing live was touched. `backstay check --read-data` looks at all backups; `backstay drill --backup ID` tries another.")),
    }
}

/// What will be written fits, wherever it goes.
async fn room(planned: &Planned, settings: &DrillPlan) -> Result<()> {
    place::room(&planned.staging.dir, planned.needed, settings.max_bytes)?;
    if planned.in_docker > 0 {
        let docker = Docker::connect().await?;
        if docker.is_here().await? {
            let most = settings.max_bytes.map(|most| most.saturating_sub(planned.needed));
            place::room(&docker.root_dir().await?, planned.in_docker, most)?;
        }
    }
    Ok(())
}

fn machine() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Records the outcome. Credentials may be there for reading only: that is told, and the drill counts all the same.
async fn record(vault: &Vault, m: &Manifest, figures: Figures) -> bool {
    match drills::record(vault, &m.plan, &m.id, figures).await {
        Ok(_) => true,
        Err(e) => {
            let why = e.one_line();
            remark(&format!(
                "{} the repository does not record this drill, so retention does not know of it: {why}",
                notice("warning")
            ));
            false
        }
    }
}

/// Marks a pack or segment that cannot be read, as a check does: the next backup stores it again, from what is live.
async fn mark(vault: &Vault, e: &Error) {
    let place = e.place.as_deref().unwrap_or_default();
    let Some(object) = layout::parse_pack(place).or_else(|| layout::parse_meta(place)) else { return };
    if let Err(e) = marks::mark_damaged(vault, &object, &e.one_line()).await {
        remark(&format!("{} it cannot be marked as damaged: {}", notice("warning"), e.one_line()));
    }
}

/// Tells of records that count for nothing.
pub(super) fn tell_refused(drills: &Drills) {
    for (_, why) in drills.refused() {
        remark(&format!("{} a record of a drill counts for nothing: {}", notice("warning"), why.one_line()));
    }
}
