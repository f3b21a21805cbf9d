//! `backstay import`

use super::context::Context;
use super::foreign;
use super::output::{bad, good, json, notice, say};
use super::watch::About;
use crate::error::{Error, Kind, Result};
use crate::foreign::scratch::origin;
use crate::foreign::sets::{self, Problem, Set};
use crate::foreign::take::{Taking, take};
use crate::host::machine::machine;
use crate::model::{BackupId, Name, size, time};
use crate::repository::keyring;
use crate::repository::writer::{BackupWriter, Imported};
use crate::telemetry::monitor::Verb;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::process::ExitCode;

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Foreign backups, as configured in [foreign.NAME]; may be left out when there are only these
    #[arg(default_value = "")]
    name: String,
    /// Take this set: its name, the beginning of it, or `latest`
    #[arg(long, value_name = "SET", default_value = "latest", conflicts_with = "all")]
    set: String,
    /// Take all complete sets, oldest first
    #[arg(long)]
    all: bool,
    /// The plan whose backups they become
    #[arg(long, value_name = "NAME")]
    plan: Option<String>,
}

impl Args {
    /// What is watched of it.
    pub fn about(&self) -> About {
        About::plan(Verb::Import, self.plan.as_ref(), true)
    }
}

/// Takes sets over. One that was taken before is passed over.
pub async fn run(context: &Context, args: Args) -> Result<ExitCode> {
    let config = context.config()?;
    let layout = foreign::layout(&config, &args.name)?;
    let _lock = context.lock(&config, "import").await?;
    let (_, vault) = context.vault(false).await?;
    let identity =
        if config.identity_file.as_ref().is_some_and(|f| f.exists()) { context.unlock(Some(&config))? } else { None };
    keyring::require_opener(&vault, identity.as_ref()).await?;
    let catalog = context.catalog(Some(&config), vault);
    let plan = context.plan(args.plan.as_deref(), Some(&config), &catalog).await?;
    let planned = config.plans.get(&plan).ok_or_else(|| {
        Error::new(Kind::NotFound, format!("plan {plan} is not configured")).at(config.file.display())
    })?;
    let (store, sets) = foreign::all(layout).await?;
    let chosen: Vec<&Set> = match args.all {
        true => sets.iter().collect(),
        false => vec![sets::choose(layout, &sets, &args.set, &[])?],
    };
    let mut there: BTreeMap<String, BackupId> = BTreeMap::new();
    catalog
        .visit(Some(&plan), |_, id, m| {
            there.extend(m.ok().and_then(|m| m.imported).map(|i| (i.from, id)));
            Ok(())
        })
        .await?;
    let (mut done, mut failed) = (Vec::new(), 0u32);
    for set in chosen {
        let room = config.state_dir.join("import");
        let _ = std::fs::remove_dir_all(&room);
        let (store, sources) = (store.clone(), foreign::targets(&config));
        let taking = Taking { layout, set, store, sources, only: Vec::new(), room: room.clone(), shared: true };
        let from = origin(&taking);
        if let Some(id) = there.get(&from) {
            tell(context, &format!("{} {} is backup {id} of plan {plan} already", notice("there"), set.name))?;
            continue;
        }
        if !set.is_complete() && args.all {
            let why: Vec<String> = set.problems.iter().map(Problem::words).collect();
            tell(context, &format!("{} {}: {}", bad("not whole"), set.name, why.join("; ")))?;
            failed += 1;
            continue;
        }
        let begun = one(context, &config, &taking, &catalog, &plan, &planned.sources, from).await;
        let _ = std::fs::remove_dir_all(&room);
        match begun {
            Ok(m) => {
                tell(
                    context,
                    &format!(
                        "{} {} as backup {} of plan {plan}, of {}: {}, {} shipped",
                        good("imported"),
                        set.name,
                        m.id,
                        time::utc(m.started),
                        size::human(m.stats.bytes),
                        size::human(m.stats.shipped)
                    ),
                )?;
                done.push(m);
            }
            Err(e) if args.all && matches!(e.kind, Kind::Damaged | Kind::Refused | Kind::Mismatch) => {
                tell(context, &format!("{} {}: {e}", bad("failed"), set.name))?;
                failed += 1;
            }
            Err(e) => return Err(e),
        }
    }
    if context.global.json {
        json(&done)?;
    }
    Ok(ExitCode::from(if failed > 0 { Kind::Partial.exit_code() } else { 0 }))
}

fn tell(context: &Context, line: &str) -> Result<()> {
    if context.global.json { Ok(()) } else { say(line) }
}

async fn one(
    context: &Context,
    config: &crate::config::Config,
    taking: &Taking<'_>,
    catalog: &crate::repository::catalog::Catalog,
    plan: &Name,
    sources: &[Name],
    from: String,
) -> Result<crate::repository::manifest::Manifest> {
    taking.set.require_complete(taking.layout, &taking.only)?;
    let time = taking.set.time.ok_or_else(|| Error::new(Kind::Refused, "the set has no time"))?;
    if time > Timestamp::now() {
        return Err(Error::new(Kind::Refused, "the set is of a time that has not come")
            .at(taking.set.name.clone())
            .hint("Correct `timezone` of the layout."));
    }
    if let Some(other) = taking.wanted().iter().find(|s| !sources.contains(s)) {
        return Err(Error::new(Kind::Config, format!("source {other} of the set is not one of plan {plan}"))
            .hint("Add it to the plan's `sources`, or name another plan with --plan."));
    }
    std::fs::create_dir_all(&taking.room)
        .map_err(|e| Error::io("a directory to unpack into cannot be made", &taking.room, e))?;
    let mut options = config.writer.clone();
    options.imported = Some(Imported { from, time });
    let journal = config.state_dir.join("uploads").join(plan.as_str());
    let monitor = context.monitor(&format!("import {}", taking.set.name));
    let machine = machine(&config.state_dir)?;
    let writer =
        BackupWriter::begin(catalog.clone(), plan.clone(), machine, options, &journal, monitor.clone(), time).await?;
    let outcomes = take(taking, &writer, monitor.clone()).await?;
    let whole = sources.iter().all(|s| outcomes.iter().any(|o| o.name == *s));
    writer.commit(outcomes, whole, time).await
}
