//! `backstay forget` and `backstay hold`

use super::context::Context;
use super::drill;
use super::output::{Align, Table, dim, good, json, notice, say};
use super::watch::About;
use crate::config::{Config, Plan};
use crate::error::{Error, Kind, Result};
use crate::host::machine::machine;
use crate::model::{BackupId, Name, size, time};
use crate::recovery::select;
use crate::repository::catalog::Catalog;
use crate::repository::claims;
use crate::repository::damage;
use crate::repository::drills::{self, Drills};
use crate::repository::layout;
use crate::repository::manifest::Manifest;
use crate::repository::marks::{self, ForgetReport};
use crate::repository::newest;
use crate::repository::record::RecordKind;
use crate::repository::retention::{self, Respect};
use crate::repository::vault::Vault;
use crate::telemetry::monitor::Verb;
use crate::telemetry::report::{self, Report};
use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

/// Arguments of `forget`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Remove exactly these backups instead of applying the rules
    backup: Vec<String>,
    /// Plan; all configured ones when left out
    #[arg(long, value_name = "NAME")]
    plan: Option<String>,
    /// A source that is no longer in the configuration stops protecting backups (repeatable)
    #[arg(long, value_name = "NAME")]
    source: Vec<String>,
    /// Say what would be removed and remove nothing
    #[arg(long)]
    dry_run: bool,
}

/// Arguments of `hold`.
#[derive(clap::Args, Debug)]
pub struct HoldArgs {
    /// `latest`, an id, or the beginning of one
    backup: String,
    /// Plan
    #[arg(long, value_name = "NAME")]
    plan: Option<String>,
    /// Why
    #[arg(long, value_name = "TEXT", default_value = "")]
    note: String,
    /// Take the hold back
    #[arg(long, conflicts_with = "acknowledge")]
    release: bool,
    /// Say that this backup is right although it is far smaller than usual, so that it counts
    #[arg(long)]
    acknowledge: bool,
}

impl Args {
    /// What is watched of it: the rules, and not a person who removes what he names.
    pub fn about(&self) -> Option<About> {
        (!self.dry_run && self.backup.is_empty()).then(|| About::vault_or(Verb::Forget, self.plan.as_ref()))
    }
}

/// Applies retention, or removes what is named.
pub async fn run(context: &Context, args: Args) -> Result<ExitCode> {
    let config = context.config()?;
    let _lock = context.lock(&config, "forget").await?;
    // Who holds an identity believes only proofs that another holder vouches for.
    let (_, vault) = context.vault_for_proofs().await?;
    claims::not_replaced(&vault, &machine(&config.state_dir)?).await?;
    let catalog = context.catalog(Some(&config), vault.clone());
    if !args.backup.is_empty() {
        let plan = context.plan(args.plan.as_deref(), Some(&config), &catalog).await?;
        let (doomed, gaps) = named(&catalog, &config, &plan, &args.backup).await?;
        let report = if args.dry_run {
            ForgetReport { removed: doomed, ..ForgetReport::default() }
        } else {
            marks::explain(&vault, &gaps).await?;
            forget_all(&vault, &doomed).await?
        };
        return finish(context, &report, &gaps, args.dry_run);
    }
    let plans: Vec<Name> = match &args.plan {
        Some(plan) => vec![plan.parse()?],
        None => config.plans.keys().cloned().collect(),
    };
    let drills = Drills::read(&vault, None).await?;
    drill::tell_refused(&drills);
    let existing = catalog.ids(None).await?.into_iter().collect();
    let lost = damage::unhealed(&vault).await?;
    let damaged = damage::lacking(&catalog, None, &lost).await?.sources;
    let respect = Respect {
        damaged,
        proven: drills.protected(&existing),
        held: marks::marked(&vault, layout::HOLDS, RecordKind::Hold).await?,
        acknowledged: marks::marked(&vault, layout::ACKNOWLEDGED, RecordKind::Acknowledged).await?,
        ignored: args.source.iter().map(|s| s.parse()).collect::<Result<_>>()?,
    };
    let now = vault.now().await?;
    let mut manifests = BTreeMap::new();
    for plan in &plans {
        let Some(configured) = config.plans.get(plan) else {
            return Err(Error::new(Kind::NotFound, format!("plan {plan} is not configured, so its rules are unknown"))
                .hint("Name the backups to remove."));
        };
        manifests.insert(plan, (configured, catalog.outlines(Some(plan)).await?));
    }
    let (mut doomed, mut kept) = (Vec::new(), BTreeMap::new());
    respect.ignored.iter().try_for_each(|source| is_gone(source, &manifests))?;
    for (plan, (configured, manifests)) in &manifests {
        let verdicts = retention::decide(manifests, &configured.keep, &respect, now)?;
        if !context.global.json && !verdicts.is_empty() {
            let mut table = Table::new(&[
                ("plan", Align::Left),
                ("backup", Align::Left),
                ("local time", Align::Left),
                ("verdict", Align::Left),
            ]);
            for v in &verdicts {
                let reasons: Vec<&str> = v.reasons.iter().map(String::as_str).collect();
                let verdict =
                    if reasons.is_empty() { notice("remove") } else { format!("keep {}", dim(&reasons.join(", "))) };
                table.row(vec![v.plan.to_string(), v.id.to_string(), time::local(v.at), verdict]);
            }
            table.print()?;
        }
        kept.insert((*plan).clone(), verdicts.iter().filter(|v| !v.reasons.is_empty()).count() as u64);
        doomed.extend(verdicts.into_iter().filter(|v| v.reasons.is_empty()).map(|v| (v.plan, v.id)));
    }
    let report = if args.dry_run {
        ForgetReport { removed: doomed, ..ForgetReport::default() }
    } else {
        forget_all(&vault, &doomed).await?
    };
    let (removed, retained) = (report.removed.len() as u64, report.retained.len() as u64);
    context.report(Report::Forget(report::Forget { removed, retained, kept }));
    finish(context, &report, &[], args.dry_run)
}

/// Makes sure that a source was backed up once and is configured no more: one that is would lose all that protects its
/// backups, by an argument that everywhere else only chooses.
fn is_gone(source: &Name, plans: &BTreeMap<&Name, (&Plan, Vec<Manifest>)>) -> Result<()> {
    if let Some((plan, _)) = plans.iter().find(|(_, (configured, _))| configured.sources.contains(source)) {
        return Err(Error::new(Kind::Refused, format!("source {source} is still configured in plan {plan}"))
            .because("`--source` says that a source is gone for good and protects no backup any more")
            .hint("Take it out of the plan first; where another plan still has it, say which one is meant with --plan. Rules cannot be applied to one source alone; `backstay forget ID` removes single backups."));
    }
    let known: BTreeSet<&str> =
        plans.values().flat_map(|(_, all)| all).flat_map(|m| &m.sources).map(|s| s.name.as_str()).collect();
    if known.contains(source.as_str()) {
        return Ok(());
    }
    let known: Vec<&str> = known.into_iter().collect();
    Err(Error::new(Kind::NotFound, format!("no backup has a source {source}; nothing was removed"))
        .hint(format!("There are: {}.", known.join(", "))))
}

/// Removes manifests, and what is recorded of their drills.
async fn forget_all(vault: &Vault, doomed: &[(Name, BackupId)]) -> Result<ForgetReport> {
    let report = marks::forget(vault, doomed).await?;
    match drills::clear(vault, &report.removed).await {
        // Credentials that may not delete keep them; they say nothing any more.
        Err(e) if e.denied => Ok(report),
        cleared => cleared.map(|()| report),
    }
}

/// Backups, and backups that are gone already.
type Named = (Vec<(Name, BackupId)>, Vec<(Name, BackupId)>);

async fn named(catalog: &Catalog, config: &Config, plan: &Name, which: &[String]) -> Result<Named> {
    let vault = catalog.vault();
    let held = marks::marked(vault, layout::HOLDS, RecordKind::Hold).await?;
    let refuse_held = |backup: &(Name, BackupId)| match held.contains(backup) {
        false => Ok(()),
        true => Err(Error::new(Kind::Refused, format!("backup {} is held", backup.1))
            .hint("Release it first: backstay hold --release ID.")),
    };
    let ids = catalog.ids(Some(plan)).await?;
    let (mut out, mut gaps) = (Vec::new(), Vec::new());
    for text in which {
        // By the list and not by the manifest: also one that cannot be read any more can be removed.
        let matching: Vec<_> = ids.iter().filter(|(_, id)| id.as_str().starts_with(text.as_str())).collect();
        if matching.is_empty()
            && let Ok(id) = text.parse::<BackupId>()
            && missing(catalog, config, plan).await?.contains(&(plan.clone(), id.clone()))
        {
            let gap = (plan.clone(), id);
            refuse_held(&gap)?;
            let key = layout::manifest(plan, &gap.1);
            if vault.get_raw(&key).await?.is_some() {
                return Err(Error::new(Kind::Refused, format!("the store does not list backup {}, and has it", gap.1))
                    .at(vault.full_key(&key))
                    .hint(
                        "Its listing is late or wrong; nothing was removed. Try again when `backstay list` shows it.",
                    ));
            }
            gaps.push(gap);
            continue;
        }
        let [backup] = matching[..] else {
            return Err(Error::new(
                Kind::NotFound,
                format!("{text} is not the beginning of exactly one backup of plan {plan}"),
            )
            .hint("`backstay list` shows what there is. A backup that is gone is named by its whole id."));
        };
        refuse_held(backup)?;
        out.push(backup.clone());
    }
    Ok((out, gaps))
}

/// The backups of a plan that were there, that are not listed, and that nobody forgot.
async fn missing(catalog: &Catalog, config: &Config, plan: &Name) -> Result<BTreeSet<(Name, BackupId)>> {
    let mut links = Vec::new();
    catalog
        .visit(Some(plan), |plan, id, manifest| {
            match damage::readable(manifest)? {
                Some(m) => links.extend(m.links()),
                None => links.push((plan, id, None)),
            }
            Ok(())
        })
        .await?;
    let missing = marks::missing_links(catalog.vault(), &links).await?;
    let hidden = newest::hidden(catalog, &config.state_dir, Some(plan)).await?;
    Ok(missing.into_iter().chain(hidden).collect())
}

fn finish(context: &Context, report: &ForgetReport, gaps: &[(Name, BackupId)], dry_run: bool) -> Result<ExitCode> {
    if context.global.json {
        let mut answer =
            serde_json::json!({ "dry_run": dry_run, "removed": report.removed, "retained": report.retained });
        if !gaps.is_empty() {
            answer["recorded"] = serde_json::json!(gaps);
        }
        json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    if !gaps.is_empty() {
        let n = size::plural(gaps.len() as u64, "backup");
        let word = if dry_run { "would be recorded" } else { "recorded" };
        say(&format!("{n} that had gone already {word} as forgotten; nobody is told of it any more"))?;
        if report.removed.is_empty() && report.retained.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
    }
    let n = size::plural(report.removed.len() as u64, "backup");
    if dry_run {
        say(&format!("{n} would be removed; nothing was changed"))?;
    } else {
        say(&format!("{} {n}; `backstay prune` frees their space", good("removed")))?;
    }
    if !report.retained.is_empty() {
        say(&notice(&format!(
            "{} retained by a lock of the store, or by credentials that may not delete",
            size::plural(report.retained.len() as u64, "backup")
        )))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Sets or releases a hold, or acknowledges a small backup.
pub async fn hold(context: &Context, args: HoldArgs) -> Result<ExitCode> {
    let (config, vault) = context.vault(false).await?;
    let catalog = context.catalog(config.as_ref(), vault.clone());
    let plan = context.plan(args.plan.as_deref(), config.as_ref(), &catalog).await?;
    let m = select::backup(&catalog, &plan, &args.backup, None, &[]).await?;
    let what = if args.release {
        if marks::release(&vault, layout::HOLDS, &m.plan, &m.id).await? == 0 {
            return Err(Error::new(Kind::NotFound, format!("backup {} is not held", m.id))
                .hint("`backstay list` shows which backups are."));
        }
        "released"
    } else if args.acknowledge {
        marks::set(&vault, layout::ACKNOWLEDGED, RecordKind::Acknowledged, &m.plan, &m.id, &args.note).await?;
        "acknowledged"
    } else {
        marks::set(&vault, layout::HOLDS, RecordKind::Hold, &m.plan, &m.id, &args.note).await?;
        "held"
    };
    if context.global.json {
        json(&serde_json::json!({ "plan": m.plan, "backup": m.id, "result": what }))?;
    } else {
        say(&format!("{} backup {} of plan {}", good(what), m.id, m.plan))?;
    }
    Ok(ExitCode::SUCCESS)
}
