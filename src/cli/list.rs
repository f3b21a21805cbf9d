//! `backstay list` and `backstay show`

use super::context::Context;
use super::drill;
use super::output::{Align, JsonArray, Table, bad, dim, good, json, notice, say};
use crate::error::{Error, Kind, Result};
use crate::model::{Name, size, time};
use crate::recovery::select;
use crate::repository::catalog::Catalog;
use crate::repository::damage;
use crate::repository::drills::{Drill, Drills, Outcome};
use crate::repository::layout;
use crate::repository::manifest::{Link, Manifest, SourceState};
use crate::repository::marks;
use crate::repository::record::RecordKind;
use crate::sources::redis::facts::RedisFacts;
use jiff::{SignedDuration, Timestamp};
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

/// Arguments of `show`.
#[derive(clap::Args, Debug)]
pub struct ShowArgs {
    /// `latest`, an id, or the beginning of one
    #[arg(default_value = "latest")]
    backup: String,
    /// Plan
    #[arg(long, value_name = "NAME")]
    plan: Option<String>,
}

fn state(m: &Manifest) -> String {
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
struct Shown<'a> {
    #[serde(flatten)]
    manifest: &'a Manifest,
    /// The drill that showed last whether all of it comes back.
    #[serde(skip_serializing_if = "Option::is_none")]
    drill: Option<&'a Drill>,
}

/// Prints each readable manifest as it comes: all of them together are gigabytes in a large vault.
async fn list_json(catalog: &Catalog, plan: Option<&Name>) -> Result<ExitCode> {
    let (mut array, mut damaged) = (JsonArray::default(), false);
    let drills = Drills::read(catalog.vault(), plan).await?;
    catalog
        .visit(plan, |plan, id, m| match m {
            Ok(m) => array.push(&Shown { manifest: &m, drill: drills.verdict(&plan, &id) }),
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

/// Shows one backup.
pub async fn show(context: &Context, args: ShowArgs) -> Result<ExitCode> {
    let (config, vault) = context.vault_for_proofs().await?;
    let catalog = context.catalog(config.as_ref(), vault);
    let plan = context.plan(args.plan.as_deref(), config.as_ref(), &catalog).await?;
    let m = select::backup(&catalog, &plan, &args.backup, None, &[]).await?;
    let drills = Drills::read(catalog.vault(), Some(&plan)).await?;
    let drilled = drills.verdict(&m.plan, &m.id);
    if context.global.json {
        json(&Shown { manifest: &m, drill: drilled })?;
        return Ok(ExitCode::SUCCESS);
    }
    drill::tell_refused(&drills);
    say(&format!("backup {} of plan {} on host {}: {}", m.id, m.plan, m.host, state(&m)))?;
    say(&format!("  begun       {}   {}", time::utc(m.started), time::local(m.started)))?;
    say(&format!("  finished    {}   by the store's clock begun {}", time::utc(m.finished), time::utc(m.store_time)))?;
    say(&format!(
        "  follows     {}",
        m.predecessor.as_ref().map_or("nothing: the first of its plan".to_owned(), ToString::to_string)
    ))?;
    if let Some(Drill { at, figures, .. }) = drilled {
        let took = time::words(SignedDuration::from_millis((figures.seconds * 1000.0) as i64));
        let word = if figures.outcome == Outcome::Failed { bad("failed") } else { good("proven") };
        let rows = size::plural(figures.rows, "row");
        say(&format!("  drill       {word} {} on {}, in {took}, {rows} compared", time::utc(*at), figures.machine))?;
        if !figures.note.is_empty() {
            say(&format!("              {}", figures.note))?;
        }
    }
    if let Some(import) = &m.imported {
        say(&format!("  imported    from {} at {}", import.from, time::utc(import.at)))?;
    }
    say(&format!("  written by  backstay {}, key epoch {}", m.agent, m.epoch))?;
    let s = &m.stats;
    say(&format!(
        "  data        {}, {} read, {} new, {} shipped",
        size::human(s.bytes),
        size::human(s.read),
        size::human(s.new),
        size::human(s.shipped)
    ))?;
    say("")?;
    let mut table = Table::new(&[
        ("source", Align::Left),
        ("kind", Align::Left),
        ("artifact", Align::Left),
        ("holds", Align::Left),
        ("bytes", Align::Right),
        ("took", Align::Right),
    ]);
    for source in &m.sources {
        let took = time::words(SignedDuration::from_millis((source.seconds * 1000.0) as i64));
        if let SourceState::Failed(why) = &source.state {
            table.row(vec![
                source.name.to_string(),
                source.kind.clone(),
                bad("failed"),
                why.clone(),
                "-".into(),
                took.clone(),
            ]);
        }
        for artifact in &source.artifacts {
            table.row(vec![
                source.name.to_string(),
                source.kind.clone(),
                artifact.name.clone(),
                artifact.media.clone(),
                size::human(artifact.bytes),
                took.clone(),
            ]);
        }
    }
    table.print()?;
    for source in &m.sources {
        for line in facts(&source.facts) {
            say(&format!("  {}: {line}", source.name))?;
        }
        for warning in &source.warnings {
            say(&format!("  {} {}: {warning}", notice("warning"), source.name))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The facts that a person wants to see; `--json` has all of them.
fn facts(facts: &serde_json::Value) -> Vec<String> {
    let number = |key: &str| facts.get(key).and_then(serde_json::Value::as_u64);
    let mut lines = Vec::new();
    if let (Some(files), Some(dirs)) = (number("files"), number("directories")) {
        lines.push(format!(
            "{}, {dirs} directories, {}",
            size::plural(files, "file"),
            size::human(number("bytes").unwrap_or(0))
        ));
    }
    if let Some(host) = crate::sources::host::HostFacts::of(facts) {
        lines.extend(super::host_facts::lines(&host));
    }
    for db in facts.get("databases").and_then(|d| d.as_array()).into_iter().flatten() {
        if let Ok(db) = serde_json::from_value::<crate::sources::postgres::facts::DatabaseFacts>(db.clone()) {
            let rows: u64 = db.tables.iter().map(|t| t.rows).sum();
            let estimated = if db.tables.iter().any(|t| t.estimated) { " (partly estimated)" } else { "" };
            lines.push(format!(
                "database {}: {}, {}{estimated}, {}, {} on disk {}",
                db.database,
                size::plural(db.tables.len() as u64, "table"),
                size::plural(rows, "row"),
                size::plural(db.large_objects, "large object"),
                size::human(db.size),
                dim(&format!("PostgreSQL {}", db.server_version / 10_000))
            ));
        }
    }
    if let Some(Ok(redis)) = facts.get("redis").map(|f| serde_json::from_value::<RedisFacts>(f.clone())) {
        let keys = match (redis.keys(), redis.lasting()) {
            (Some(keys), Some(lasting)) => {
                format!("{}, {} without expiry", size::plural(keys, "key"), size::plural(lasting, "key"))
            }
            _ => "keys not counted".to_owned(),
        };
        let functions = match redis.functions.len() as u64 {
            0 => String::new(),
            n => format!(", {}", size::plural(n, "function library")),
        };
        let server = format!("{} {} ({})", redis.product, redis.server_version, redis.role);
        lines.push(format!("{keys}{functions}, {} in memory {}", size::human(redis.used_memory), dim(&server)));
    }
    lines
}
