//! The status as people read it.

use super::Status;
use super::kept::Kept;
use crate::cli::jobs::Jobs;
use crate::cli::output::{Align, Table, bad, dim, good, notice, say, title};
use crate::error::Result;
use crate::host::systemd_timer::{Job, Schedule};
use crate::model::{Name, size, time};
use crate::monitoring::problems::{PROVE_KEYS_EVERY, Severity, when};
use crate::telemetry::monitor::Verb;
use crate::telemetry::runs::{Ending, Record};
use jiff::{SignedDuration, Timestamp};

/// Both of a moment's times.
fn both(at: Timestamp) -> String {
    format!("{} ({})", time::utc(at), time::local(at))
}

/// In how long.
fn ahead(at: Timestamp, now: Timestamp) -> String {
    format!("in {}", time::words(at.duration_since(now)))
}

/// Prints all of it.
pub(super) fn print(s: &Status) -> Result<()> {
    head(s)?;
    plans(s)?;
    proofs(s)?;
    upkeep(s)?;
    kept(s)?;
    keys(s)?;
    foot(s)
}

fn head(s: &Status) -> Result<()> {
    let bads = s.problems.iter().filter(|p| p.severity == Severity::Bad).count() as u64;
    let notices = s.problems.len() as u64 - bads;
    let mut words = Vec::new();
    if bads > 0 {
        words.push(bad(&size::plural(bads, "problem")));
    }
    if notices > 0 {
        words.push(notice(&size::plural(notices, "notice")));
    }
    if words.is_empty() {
        words.push(good("no problem"));
    }
    say(&format!("{}: {}, {}", title(s.overview.host.as_str()), words.join(", "), dim(&both(s.overview.now))))?;
    if !s.problems.is_empty() {
        say("")?;
    }
    for p in &s.problems {
        let word = match p.severity {
            Severity::Bad => bad("bad   "),
            Severity::Notice => notice("notice"),
        };
        say(&format!("{word}  {}", p.what))?;
        say(&format!("        {} {}", dim("do:"), p.todo))?;
    }
    Ok(())
}

/// How the last run of a command went, and when.
fn run(record: Option<&Record>, now: Timestamp) -> String {
    let Some(record) = record else { return dim("never") };
    if record.open.as_ref().is_some_and(|open| open.process.is_alive()) {
        return notice("running now");
    }
    let Some(last) = &record.last else { return dim("never") };
    let word = match last.ending {
        Ending::Success => good("success"),
        Ending::Failure => bad("failed"),
        Ending::Killed => bad("killed"),
    };
    format!("{word} {}", time::ago(last.ended, now))
}

fn next(timer: Option<&Schedule>, now: Timestamp) -> String {
    let Some(timer) = timer else { return dim("unknown") };
    match timer.next {
        _ if timer.running => notice("running now"),
        Some(at) => format!("{}, {}", ahead(at, now), both(at)),
        None if timer.enabled && !timer.active => bad("the timer is stopped"),
        None if timer.active => bad("never"),
        None => dim("no timer"),
    }
}

fn plans(s: &Status) -> Result<()> {
    if s.overview.plans.is_empty() {
        return say(&format!("\n{}", dim("no plan is configured")));
    }
    let o = &s.overview;
    let mut table = Table::new(&[
        ("plan", Align::Left),
        ("last backup", Align::Left),
        ("begun", Align::Left),
        ("data", Align::Right),
        ("goal", Align::Left),
        ("backups", Align::Right),
        ("last run", Align::Left),
    ]);
    for (name, plan) in &o.plans {
        let newest = o.view.as_ref().and_then(|v| v.newest_complete(name));
        let limit = SignedDuration::try_from(plan.max_age).unwrap_or(SignedDuration::MAX);
        let age = when(newest.map(|b| b.at), o.now);
        let fresh = newest.is_some_and(|b| o.now.duration_since(b.at) <= limit);
        table.row(vec![
            name.to_string(),
            if fresh { good(&age) } else { bad(&age) },
            newest.map(|b| both(b.at)).unwrap_or_default(),
            newest.map(|b| size::human(b.bytes)).unwrap_or_default(),
            format!("every {}", time::words(limit)),
            o.view.as_ref().map(|v| size::count(v.of_plan(name).count() as u64)).unwrap_or_default(),
            run(o.record(Verb::Backup, Some(name)), o.now),
        ]);
    }
    say("")?;
    table.print()
}

fn proofs(s: &Status) -> Result<()> {
    if s.overview.plans.is_empty() {
        return Ok(());
    }
    let o = &s.overview;
    let mut table = Table::new(&[
        ("plan", Align::Left),
        ("next run", Align::Left),
        ("last drill", Align::Left),
        ("restore proven", Align::Left),
    ]);
    for name in o.plans.keys() {
        let proven = o.proven(&o.host, name);
        let words = when(proven, o.now);
        table.row(vec![
            name.to_string(),
            next(s.jobs.of(&Job::Backup(name.clone())), o.now),
            run(o.record(Verb::Drill, Some(name)), o.now),
            if proven.is_some() { words } else { dim(&words) },
        ]);
    }
    say("")?;
    table.print()
}

fn upkeep(s: &Status) -> Result<()> {
    let o = &s.overview;
    let mut table = Table::new(&[("job", Align::Left), ("last run", Align::Left), ("next run", Align::Left)]);
    for (verb, job) in [(Verb::Check, Job::Check), (Verb::Prune, Job::Prune), (Verb::Cleanup, Job::Cleanup)] {
        table.row(vec![verb.to_string(), run(o.record(verb, None), o.now), next(s.jobs.of(&job), o.now)]);
    }
    say("")?;
    table.print()?;
    match &s.jobs {
        Jobs::Unknown(why) => say(&dim(&format!("next runs are unknown: {why}"))),
        Jobs::Known(_) => Ok(()),
    }
}

fn kept(s: &Status) -> Result<()> {
    say("")?;
    match s.overview.open_restore {
        Some(at) => say(&bad(&format!("a restore is open, begun {}", both(at))))?,
        None => say("no restore is open")?,
    }
    if s.kept.is_empty() {
        return say("no restore keeps anything");
    }
    let mut table = Table::new(&[
        ("kept", Align::Left),
        ("size", Align::Right),
        ("plan", Align::Left),
        ("by restore", Align::Left),
        ("until", Align::Left),
    ]);
    for Kept { restore, plan, until, copies, unknown } in &s.kept {
        let until = match until {
            None => dim("somebody cleans it up"),
            Some(at) if *at <= s.overview.now => notice(&format!("{}: `backstay cleanup` drops it", both(*at))),
            Some(at) => both(*at),
        };
        let mut row = |name: &str, bytes: Option<u64>| {
            let bytes = bytes.map(size::human).unwrap_or_default();
            table.row(vec![name.to_owned(), bytes, plan.to_string(), restore.to_string(), until.clone()]);
        };
        copies.iter().for_each(|copy| row(&copy.name, copy.bytes));
        unknown.iter().for_each(|why| row(&notice(why), None));
    }
    say("")?;
    table.print()
}

fn keys(s: &Status) -> Result<()> {
    let Some(view) = s.overview.view.as_ref().filter(|v| !v.keys.is_empty()) else { return Ok(()) };
    let mut table = Table::new(&[("key", Align::Left), ("role", Align::Left), ("last proven", Align::Left)]);
    for key in &view.keys {
        let words = when(key.proven, s.overview.now);
        let stale = key.proven.is_none_or(|at| s.overview.now.duration_since(at) > PROVE_KEYS_EVERY);
        let proven = if stale && key.role == "recovery" { notice(&words) } else { words };
        table.row(vec![Name::to_string(&key.name), key.role.clone(), proven]);
    }
    say("")?;
    table.print()
}

fn foot(s: &Status) -> Result<()> {
    let seen = s
        .overview
        .view
        .as_ref()
        .map_or_else(|| notice("never seen by this host"), |v| format!("seen {}", time::ago(v.at, s.overview.now)));
    let holds = s.overview.measured(&s.overview.host).map_or_else(String::new, |(at, bytes, objects)| {
        let objects = size::plural(objects, "object");
        format!(", {} in {objects} {}", size::human(bytes), time::ago(at, s.overview.now))
    });
    say(&format!("\nrepository {}{holds}, {seen}", s.config.storage.url))
}
