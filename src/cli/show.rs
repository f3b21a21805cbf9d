//! `backstay show`

use super::context::Context;
use super::drill;
use super::list::{Shown, state};
use super::output::{Align, Table, bad, dim, good, json, notice, say};
use crate::error::Result;
use crate::model::{size, time};
use crate::recovery::select;
use crate::repository::damage;
use crate::repository::drills::{Drill, Drills, Outcome};
use crate::repository::manifest::SourceState;
use crate::sources::redis::facts::RedisFacts;
use jiff::SignedDuration;
use std::process::ExitCode;

/// Arguments of `show`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// `latest`, an id, or the beginning of one
    #[arg(default_value = "latest")]
    backup: String,
    /// Plan
    #[arg(long, value_name = "NAME")]
    plan: Option<String>,
}

/// Shows one backup.
pub async fn run(context: &Context, args: Args) -> Result<ExitCode> {
    let (config, vault) = context.vault_for_proofs().await?;
    let catalog = context.catalog(config.as_ref(), vault);
    let plan = context.plan(args.plan.as_deref(), config.as_ref(), &catalog).await?;
    let m = select::backup(&catalog, &plan, &args.backup, None, &[]).await?;
    let drills = Drills::read(catalog.vault(), Some(&plan)).await?;
    let drilled = drills.verdict(&m.plan, &m.id);
    let lost = damage::unhealed(catalog.vault()).await?;
    let damaged_sources = damage::sources_lacking(&catalog, &m, &lost).await?;
    if context.global.json {
        json(&Shown { manifest: &m, drill: drilled, damaged_sources })?;
        return Ok(ExitCode::SUCCESS);
    }
    drill::tell_refused(&drills);
    let damage = if damaged_sources.is_empty() { String::new() } else { format!(", {}", bad("damaged")) };
    say(&format!("backup {} of plan {} on host {}: {}{damage}", m.id, m.plan, m.host, state(&m)))?;
    for source in &damaged_sources {
        say(&format!(
            "  {}      {source} cannot be restored in full; `backstay check` names what is lost",
            bad("damaged")
        ))?;
    }
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
