//! What a restore says: before, and when it ended.

use crate::cli::context::Context;
use crate::cli::output::{Align, Table, bad, good, json, notice, say};
use crate::error::{Error, Kind, Result};
use crate::model::{size, time};
use crate::recovery::engine::Ended;
use crate::recovery::journal::Begin;
use crate::recovery::report::{each, texts};
use crate::recovery::resource::Compared;
use crate::recovery::restore::Restore;
use crate::repository::manifest::{Manifest, SourceRecord};
use crate::sources::files::untar::Restored;
use crate::telemetry::report::{self, Report};
use jiff::SignedDuration;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

/// What is true after a restore that was undone.
pub const AS_IT_WAS: &str = "Everything is as it was before the restore.";
/// Rows of the verification that are shown; the report has all.
const SHOWN: usize = 12;

fn took(started: Instant) -> String {
    time::words(SignedDuration::from_millis((started.elapsed().as_secs_f64() * 1000.0) as i64))
}

/// Files that were written to a directory of their own.
pub fn written(
    context: &Context,
    m: &Manifest,
    record: &SourceRecord,
    to: &Path,
    restored: &Restored,
    started: Instant,
) -> Result<()> {
    if context.global.json {
        return json(&serde_json::json!({
            "backup": m.id, "plan": m.plan, "seconds": started.elapsed().as_secs_f64(),
            "paths": [{ "source": record.name, "path": to, "files": restored.files, "directories": restored.dirs,
                        "links": restored.links, "bytes": restored.bytes, "left_out": restored.left_out }],
        }));
    }
    say(&format!("{} backup {} of plan {} in {}", good("restored"), m.id, m.plan, took(started)))?;
    say(&format!(
        "  {}: {} with {}, {}{} and {}",
        record.name,
        to.display(),
        size::plural(restored.files, "file"),
        size::plural(restored.dirs, "directory"),
        if restored.links > 0 { format!(", {}", size::plural(restored.links, "link")) } else { String::new() },
        size::human(restored.bytes)
    ))?;
    left_out(restored.left_out.iter().map(|(what, n)| (what.as_str(), *n)))
}

fn left_out<'a>(what: impl Iterator<Item = (&'a str, u64)>) -> Result<()> {
    for (what, n) in what {
        say(&format!("    {} {what} could not be set on {}", notice("left out:"), size::plural(n, "entry")))?;
    }
    Ok(())
}

/// A snapshot of Redis that was written to a directory.
pub fn rdb(context: &Context, m: &Manifest, path: &Path, compared: &[Compared], started: Instant) -> Result<()> {
    if context.global.json {
        return json(&serde_json::json!({
            "backup": m.id, "plan": m.plan, "seconds": started.elapsed().as_secs_f64(), "path": path, "verified": compared,
        }));
    }
    say(&format!("{} backup {} of plan {} in {}", good("restored"), m.id, m.plan, took(started)))?;
    say(&format!("  {}", path.display()))?;
    verification(compared)
}

/// The output of a command that was written to a file.
pub fn output(context: &Context, m: &Manifest, record: &SourceRecord, path: &Path, started: Instant) -> Result<()> {
    if context.global.json {
        return json(&serde_json::json!({
            "backup": m.id, "plan": m.plan, "seconds": started.elapsed().as_secs_f64(), "path": path, "bytes": record.bytes(),
        }));
    }
    say(&format!("{} backup {} of plan {} in {}", good("restored"), m.id, m.plan, took(started)))?;
    say(&format!("  {}: {} with {}", record.name, path.display(), size::human(record.bytes())))
}

/// How a restore ended.
pub async fn ended(
    context: &Context,
    m: &Manifest,
    restore: &Restore,
    ended: Ended,
    started: Instant,
) -> Result<ExitCode> {
    match ended {
        Ended::Committed => {}
        Ended::Unwound(e) => return Err(e.hint(AS_IT_WAS)),
        stuck => return Err(stuck_error(context, stuck, Run::Restore)?),
    }
    let compared = restore.compared();
    let previous = restore.previous().await?;
    let not_given = restore.not_given();
    let staged = restore.staged();
    let of_docker = |label: &str| label.starts_with("stage volume ") || label.starts_with("stage images ");
    let missing = match staged.iter().any(|(label, _)| of_docker(label)) {
        true => super::host::missing(m).await,
        false => Vec::new(),
    };
    if context.global.json {
        json(&serde_json::json!({
            "backup": m.id, "plan": m.plan, "seconds": started.elapsed().as_secs_f64(),
            "verified": compared, "previous": previous, "missing": missing, "not_given": not_given,
            "staged": staged.iter().map(|(_, note)| note).collect::<Vec<_>>(),
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    say(&format!("{} backup {} of plan {} in {}", good("restored"), m.id, m.plan, took(started)))?;
    verification(&compared)?;
    for (_, note) in &staged {
        let roles = texts(note, "roles");
        if !roles.is_empty() {
            say(&format!("  roles made: {}", roles.join(", ")))?;
        }
        for of in each(note) {
            let reserved = texts(of, "left_out");
            if !reserved.is_empty() {
                let what = reserved.join(", ");
                say(&format!("  {} what only a superuser may make: {what}", notice("left out:")))?;
            }
        }
        for path in note.get("paths").and_then(|v| v.as_array()).into_iter().flatten() {
            let pairs: Vec<(String, u64)> =
                path.get("left_out").and_then(|v| serde_json::from_value(v.clone()).ok()).unwrap_or_default();
            left_out(pairs.iter().map(|(what, n)| (what.as_str(), *n)))?;
        }
    }
    not_given.iter().try_for_each(|what| say(&format!("  {} {what}", notice("not given:"))))?;
    for kept in &previous {
        let bytes = kept.bytes.map(|b| format!(" ({})", size::human(b))).unwrap_or_default();
        say(&format!("  what was there is kept as {}{bytes}", kept.name))?;
    }
    for what in &missing {
        say(&format!("  {} {what}", notice("still to do:")))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Rows of tables among what was compared.
pub fn rows(compared: &[Compared]) -> u64 {
    let rows = |c: &Compared| {
        let (number, rest) = c.found.split_once(" row")?;
        let digits: String = number.trim_start_matches("about ").chars().filter(|c| *c != ',').collect();
        digits.parse::<u64>().ok().filter(|_| rest.is_empty() || rest == "s")
    };
    compared.iter().filter_map(rows).sum()
}

/// For whoever watches: what was brought back and compared. Only all sources of a whole backup prove the plan.
pub fn figures(m: &Manifest, chosen: &[&SourceRecord], restore: &Restore, ended: &Ended, everything: bool) -> Report {
    let compared = restore.compared();
    let all = m.sources.iter().filter(|s| s.kind != "config").count();
    Report::Restore(report::Restore {
        backup: Some(m.id.clone()),
        whole_plan: everything && m.is_complete() && chosen.len() == all && matches!(ended, Ended::Committed),
        compared: compared.len() as u64,
        rows: rows(&compared),
        bytes: chosen.iter().map(|s| s.bytes()).sum(),
    })
}

/// The comparison with the facts: all that is not alike, and the first of the rest.
pub fn verification(compared: &[Compared]) -> Result<()> {
    let mut table =
        Table::new(&[("verified", Align::Left), ("in the backup", Align::Right), ("restored", Align::Right)]);
    for c in compared.iter().take(SHOWN) {
        table.row(vec![plain(&c.what), plain(&c.expected), plain(&c.found)]);
    }
    table.print()?;
    if compared.len() > SHOWN {
        say(&format!("  and {} more", compared.len() - SHOWN))?;
    }
    let equal = compared.iter().filter(|c| c.expected == c.found).count();
    say(&match compared.len() {
        all if all == equal => format!("  all {all} are equal to the facts of the backup"),
        all => format!("  {equal} of {all} are equal to the facts of the backup, the others may differ"),
    })
}

/// A name from outside may hold what a terminal obeys.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// What a journal is of.
#[derive(Clone, Copy, Debug)]
pub enum Run {
    /// A restore.
    Restore,
    /// The rollback of one.
    Rollback,
}

impl Run {
    fn word(self) -> &'static str {
        match self {
            Run::Restore => "restore",
            Run::Rollback => "rollback",
        }
    }
}

/// How a restore that was interrupted was taken back.
pub fn unwound(context: &Context, about: &Begin, ended: Ended) -> Result<ExitCode> {
    let Ended::Unwound(_) = ended else { return Err(not_unwound(context, ended, Run::Restore)?) };
    if context.global.json {
        json(&serde_json::json!({ "restore": about.id, "plan": about.plan, "unwound": true }))?;
    } else {
        say(&format!("{} the restore of plan {} that was begun as {}", good("taken back"), about.plan, about.id))?;
        say("  everything is as it was before")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The error when something else came of it than that it was taken back.
pub fn not_unwound(context: &Context, ended: Ended, run: Run) -> Result<Error> {
    match ended {
        Ended::Committed => Ok(Error::new(Kind::Refused, format!("the {} was complete already", run.word()))),
        stuck => stuck_error(context, stuck, run),
    }
}

/// The error of what could not be taken back, after saying what is left to do.
pub fn stuck_error(context: &Context, ended: Ended, run: Run) -> Result<Error> {
    let Ended::Stuck { failed, step, error, left } = ended else {
        return Ok(Error::new(Kind::Internal, format!("a {} ended in an unknown way", run.word())));
    };
    if !context.global.json {
        say(&bad(&format!(
            "The {} failed and could not be taken back. Both copies are kept; nothing more was touched.",
            run.word()
        )))?;
        say(&format!("  first failed: {failed}"))?;
        say("  left to do:")?;
        for (n, action) in left.iter().enumerate() {
            say(&format!("  {:>2}. {action}", n + 1))?;
        }
    }
    Ok(Error::new(Kind::Stuck, format!("undoing the step {step} failed"))
        .because(error.one_line())
        .hint("Mend the cause, then run `backstay restore --unwind` again; or do by hand what is left."))
}
