//! `backstay list`

use super::context::Context;
use super::drill;
use super::output::{Align, JsonArray, Table, bad, good, json, notice, say};
use crate::error::{Error, Kind, Result};
use crate::model::{Name, size, time};
use crate::repository::catalog::Catalog;
use crate::repository::damage;
use crate::repository::drills::{Drill, Drills, Outcome};
use crate::repository::layout;
use crate::repository::manifest::{Link, Manifest};
use crate::repository::marks;
use crate::repository::record::RecordKind;
use jiff::Timestamp;
use serde::Serialize;
use std::process::ExitCode;

/// Arguments of `list`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Plan; all when left out
    #[arg(long, value_name = "NAME")]
    plan: Option<String>,
    /// List the hosts of the repository instead
    #[arg(long)]
    hosts: bool,
    /// List the backups that another script made instead, all configured ones or those of this name
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "", conflicts_with_all = ["plan", "hosts"])]
    foreign: Option<String>,
}

/// In one word how it went.
pub(super) fn state(m: &Manifest) -> String {
    let failed = m.sources.iter().filter(|s| !s.is_complete()).count();
    if failed > 0 {
        bad(&format!("{failed} of {} failed", m.sources.len()))
    } else if m.whole_plan {
        good("complete")
    } else {
        notice("some sources")
    }
}

/// Lists backups, or hosts.
pub async fn run(context: &Context, args: Args) -> Result<ExitCode> {
    if let Some(name) = &args.foreign {
        return super::foreign::list(context, name).await;
    }
    if args.hosts {
        let (config, storage, _) = context.config_or_url()?;
        let store = context.store(&storage, config.as_ref().map(|c| c.state_dir.as_path())).await?;
        let hosts = store.folders("").await?;
        if context.global.json {
            json(&hosts)?;
        } else {
            hosts.iter().try_for_each(|h| say(h))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let (config, vault) = context.vault_for_proofs().await?;
    let catalog = context.catalog(config.as_ref(), vault.clone());
    let plan = args.plan.as_deref().map(str::parse).transpose()?;
    if context.global.json {
        return list_json(&catalog, plan.as_ref()).await;
    }
    let mut all = Vec::new();
    catalog
        .visit(plan.as_ref(), |plan, id, m| {
            all.push((plan, id, m.map(|m| m.outline())));
            Ok(())
        })
        .await?;
    let held = marks::marked(&vault, layout::HOLDS, RecordKind::Hold).await?;
    let drills = Drills::read(&vault, plan.as_ref()).await?;
    drill::tell_refused(&drills);
    let lost = damage::unhealed(&vault).await?;
    let damaged = damage::lacking(&catalog, plan.as_ref(), &lost).await?.backups();
    if all.is_empty() {
        match &plan {
            Some(plan) if config.as_ref().is_none_or(|c| !c.plans.contains_key(plan)) => {
                return Err(Error::new(Kind::NotFound, format!("plan {plan} of host {} has no backup", vault.host()))
                    .hint("`backstay list` without --plan shows all there are."));
            }
            _ => say("no backups yet")?,
        }
    } else {
        let now = Timestamp::now();
        let mut table = Table::new(&[
            ("plan", Align::Left),
            ("backup", Align::Left),
            ("local time", Align::Left),
            ("age", Align::Right),
            ("data", Align::Right),
            ("shipped", Align::Right),
            ("took", Align::Right),
            ("state", Align::Left),
        ]);
        for (plan, id, manifest) in &all {
            let cells = match manifest {
                Ok(m) => {
                    let took = m.finished.duration_since(m.started);
                    let hold = if held.contains(&(plan.clone(), id.clone())) { ", held" } else { "" };
                    let damage = match damaged.contains(&(plan.clone(), id.clone())) {
                        true => format!(", {}", bad("damaged")),
                        false => String::new(),
                    };
                    let drilled = match drills.verdict(plan, id).map(|d| d.figures.outcome) {
                        Some(Outcome::Failed) => format!(", {}", bad("a drill failed")),
                        Some(_) => format!(", {}", good("proven")),
                        None => String::new(),
                    };
                    vec![
                        time::local(m.started),
                        time::ago(m.started, now),
                        size::human(m.stats.bytes),
                        size::human(m.stats.shipped),
                        time::words(took),
                        format!("{}{damage}{drilled}{hold}", state(m)),
                    ]
                }
                Err(e) => vec![
                    time::local(id.time()),
                    time::ago(id.time(), now),
                    "-".into(),
                    "-".into(),
                    "-".into(),
                    bad(&format!("unreadable: {}", e.what)),
                ],
            };
            table.row([vec![plan.to_string(), id.to_string()], cells].concat());
        }
        table.print()?;
        if plan.is_none() {
            let links: Vec<Link> = all
                .iter()
                .flat_map(|(plan, id, m)| match m {
                    Ok(m) => m.links().collect(),
                    Err(_) => vec![(plan.clone(), id.clone(), None)],
                })
                .collect();
            for (plan, id) in marks::missing_links(&vault, &links).await? {
                say(&bad(&format!(
                    "backup {id} of plan {plan} is named by a later one and is missing, and nobody forgot it"
                )))?;
            }
        }
    }
    Ok(code(all.iter().any(|(_, _, m)| m.is_err())))
}

/// A manifest with what is not in it.
#[derive(Serialize)]
pub(super) struct Shown<'a> {
    #[serde(flatten)]
    pub manifest: &'a Manifest,
    /// The drill that showed last whether all of it comes back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drill: Option<&'a Drill>,
    /// Its sources that a check found damage in which nothing has mended since.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub damaged_sources: Vec<Name>,
}

/// Prints each readable manifest as it comes: all of them together are gigabytes in a large vault.
async fn list_json(catalog: &Catalog, plan: Option<&Name>) -> Result<ExitCode> {
    let (mut array, mut damaged) = (JsonArray::default(), false);
    let drills = Drills::read(catalog.vault(), plan).await?;
    let lost = damage::unhealed(catalog.vault()).await?;
    let lacking = damage::lacking(catalog, plan, &lost).await?;
    catalog
        .visit(plan, |plan, id, m| match m {
            Ok(m) => array.push(&Shown {
                manifest: &m,
                drill: drills.verdict(&plan, &id),
                damaged_sources: lacking.sources_of(&plan, &id),
            }),
            Err(_) => {
                damaged = true;
                Ok(())
            }
        })
        .await?;
    array.end()?;
    Ok(code(damaged))
}

fn code(damaged: bool) -> ExitCode {
    ExitCode::from(if damaged { Kind::Damaged.exit_code() } else { 0 })
}
