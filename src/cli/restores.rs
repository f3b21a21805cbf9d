//! `backstay restores`: the restores of this host, and the report of one.

use super::context::Context;
use super::output::{Align, Table, bad, good, json, notice, say};
use super::rollback::resources_of;
use crate::error::Result;
use crate::model::{size, time};
use crate::recovery::journal::{Journal, State};
use crate::recovery::report::{self, Outcome, Report, Span, Went};
use crate::recovery::restore::journal_file;
use crate::recovery::rollback::{self, Past};
use jiff::SignedDuration;
use std::process::ExitCode;

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Show the report of this restore: its id, the beginning of it, or `open`
    restore: Option<String>,
}

fn words(seconds: f64) -> String {
    time::words(SignedDuration::from_millis((seconds * 1000.0) as i64))
}

fn outcome(past: &Past) -> String {
    match (past.journal().state(), &past.rolled_back_by, past.rollback_of()) {
        (State::Committed, _, Some(of)) => format!("rollback of {of}"),
        (State::Committed, Some(by), None) => notice(&format!("taken back by {by}")),
        (State::Committed, None, None) => good("restored"),
        _ => bad(&format!("undone: {}", past.failure().unwrap_or("asked"))),
    }
}

fn of_past(past: &Past) -> Result<Report> {
    let report = report::of(past.journal())?;
    // What an undone rollback could not put in place again is in its own journal only.
    if past.rollback_of().is_some() {
        return Ok(report);
    }
    // What a rollback of it has left is not in its own journal, which was closed by then; and what was left may be gone.
    let kept = past.left().iter().map(ToString::to_string).collect();
    Ok(Report { kept, ..report })
}

/// Lists them, or shows one.
pub async fn run(context: &Context, args: Args) -> Result<ExitCode> {
    let config = context.config()?;
    if let Some(id) = &args.restore {
        let report = match id.as_str() {
            "open" => report::of(&Journal::read(&journal_file(&config.state_dir))?)?,
            id => {
                let pasts = rollback::pasts(&config.state_dir)?;
                of_past(&pasts[rollback::meant(&pasts, id)?])?
            }
        };
        if context.global.json {
            json(&report)?
        } else {
            tell(&report)?
        }
        return Ok(ExitCode::SUCCESS);
    }
    let pasts = rollback::pasts(&config.state_dir)?;
    let mut table = Table::new(&[
        ("restore", Align::Left),
        ("plan", Align::Left),
        ("backup", Align::Left),
        ("by", Align::Left),
        ("ended", Align::Left),
        ("took", Align::Right),
        ("away", Align::Right),
        ("result", Align::Left),
        ("kept", Align::Left),
    ]);
    let mut machine = Vec::new();
    for past in &pasts {
        let report = report::of(past.journal())?;
        let kept = if past.stands() && !past.cleaned {
            rollback::kept(past, &resources_of(&config, past).await?).await?
        } else {
            Vec::new()
        };
        machine.push(serde_json::json!({
            "id": report.id, "plan": report.plan, "backup": report.backup, "by": report.by, "began": past.began(), "ended": past.ended(),
            "committed": *past.journal().state() == State::Committed, "failure": past.failure(),
            "rollback_of": past.rollback_of(), "rolled_back_by": past.rolled_back_by, "kept": kept,
            "left": past.left().iter().map(ToString::to_string).collect::<Vec<_>>(), "report": report,
        }));
        let mut names: Vec<String> = kept
            .iter()
            .map(|k| k.bytes.map_or_else(|| k.name.clone(), |b| format!("{} ({})", k.name, size::human(b))))
            .collect();
        if past.keeps_what_failed() && !past.cleaned {
            names.push("the restored copy".to_owned());
        }
        names.extend(past.left().iter().map(|left| left.place.display().to_string()));
        table.row(vec![
            report.id.to_string(),
            report.plan.to_string(),
            report.backup.to_string(),
            report.by.clone(),
            time::utc(past.ended()),
            words(report.whole.seconds),
            report.outage.map(|o| words(o.seconds)).unwrap_or_default(),
            outcome(past),
            names.join(", "),
        ]);
    }
    if context.global.json {
        json(&machine)?;
    } else if pasts.is_empty() {
        say("no restore was ever run on this host")?;
    } else {
        table.print()?;
    }
    Ok(ExitCode::SUCCESS)
}

fn span(s: &Span) -> String {
    format!("{} ({}) to {}: {}", time::utc(s.from), time::local(s.from), time::utc(s.to), words(s.seconds))
}

fn tell(r: &Report) -> Result<()> {
    let result = match r.outcome {
        Outcome::Restored => good("restored"),
        Outcome::Undone => bad("undone"),
        Outcome::Stuck => bad("could not be undone"),
        Outcome::Open => notice("still open"),
    };
    let what = r.rollback_of.as_ref().map_or("restore".to_owned(), |of| format!("rollback of {of},"));
    say(&format!("{what} {} of plan {}: {result}", r.id, r.plan))?;
    say(&format!("  backup   {}", r.backup))?;
    say(&format!("  by       {}", r.by))?;
    say(&format!("  whole    {}", span(&r.whole)))?;
    if let Some(outage) = &r.outage {
        say(&format!("  outage   {}", span(outage)))?;
    }
    if let Some(lost) = &r.lost {
        say(&format!("  lost     what was written from {}", span(lost)))?;
    }
    if let Some(failure) = &r.failure {
        say(&format!("  failed   {failure}"))?;
    }
    let mut table =
        Table::new(&[("step", Align::Left), ("took", Align::Right), ("undo", Align::Right), ("", Align::Left)]);
    for step in &r.steps {
        let went = match step.went {
            Went::Done => String::new(),
            Went::Failed => bad("failed"),
            Went::Undone => notice("undone"),
            Went::Open => notice("open"),
        };
        table.row(vec![step.name.clone(), words(step.seconds), step.undo_seconds.map(words).unwrap_or_default(), went]);
    }
    table.print()?;
    for check in &r.checks {
        let text = |key: &str| check.get(key).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
        let is_good = check.get("good").and_then(serde_json::Value::as_bool) == Some(true);
        let result = if is_good { good("good") } else { bad("failed") };
        say(&format!("  check {}: {result}, found {}", text("name"), text("found")))?;
    }
    if !r.verified.is_empty() {
        super::restore::report::verification(&r.verified)?;
    }
    if !r.left_out.is_empty() {
        say(&format!("  {} what only a superuser may make: {}", notice("left out:"), r.left_out.join(", ")))?;
    }
    r.not_given.iter().try_for_each(|line| say(&format!("  {} {line}", notice("not given:"))))?;
    r.kept.iter().try_for_each(|line| say(&format!("  {} {line}", notice("kept:"))))?;
    r.warnings.iter().try_for_each(|line| say(&format!("  {} {line}", notice("a tool said:"))))
}
