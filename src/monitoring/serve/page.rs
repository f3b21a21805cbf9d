//! The page: what is wrong first, then each plan, its last backups, restores, upkeep and keys. Plain HTML with its style in
//! it, no script, nothing loaded from elsewhere.

use super::super::overview::{Drilled, Overview, Restored};
use super::super::problems::{PROVE_KEYS_EVERY, Severity, problems, when};
use super::super::view::{Backup, Key};
use super::chart::{Bar, bars};
use crate::model::{Name, size, time};
use crate::repository::drills::Outcome;
use crate::telemetry::monitor::Verb;
use crate::telemetry::runs::{Ending, Finished, Record};
use crate::telemetry::scrub::scrub;
use jiff::SignedDuration;
use std::collections::BTreeSet;

/// Backups in a chart.
const CHARTED: usize = 30;
/// Restores that are shown.
const RESTORES: usize = 10;

/// Text for HTML: within an element or a quoted attribute.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// A cell: escaped text, coloured by a class.
fn cell(class: &str, text: &str) -> String {
    if class.is_empty() { escape(text) } else { format!("<span class=\"{class}\">{}</span>", escape(text)) }
}

/// A table; on a narrow screen each row becomes a card, and each cell says what it is.
fn table(title: &str, head: &[&str], rows: &[Vec<String>]) -> String {
    let mut out = format!("<h2>{}</h2><table><thead><tr>", escape(title));
    head.iter().for_each(|h| out.push_str(&format!("<th scope=\"col\">{}</th>", escape(h))));
    out.push_str("</tr></thead><tbody>");
    for row in rows {
        out.push_str("<tr>");
        for (label, cell) in head.iter().zip(row) {
            out.push_str(&format!("<td data-label=\"{}\"><span>{cell}</span></td>", escape(label)));
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table>");
    out
}

fn seconds(seconds: f64) -> String {
    time::words(SignedDuration::try_from_secs_f64(seconds).unwrap_or_default())
}

/// How a run ended.
fn ending(last: Option<&Finished>) -> String {
    match last {
        None => cell("dim", "never"),
        Some(last) => {
            let took = last.seconds.map(|s| format!(" in {}", seconds(s))).unwrap_or_default();
            match last.ending {
                Ending::Success => cell("good", &format!("success{took}")),
                Ending::Failure => cell("bad", &format!("failed{took}")),
                Ending::Killed => cell("bad", "killed"),
            }
        }
    }
}

/// The whole page.
pub fn page(o: &Overview) -> String {
    let host = escape(o.host.as_str());
    let problems = problems(o);
    let worst = problems.first().map(|p| p.severity);
    let (class, state) = match worst {
        None => ("good", "no problem".to_owned()),
        Some(Severity::Bad) => ("bad", size::plural(problems.len() as u64, "problem")),
        Some(Severity::Notice) => ("notice", size::plural(problems.len() as u64, "problem")),
    };
    let mut out = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, \
         initial-scale=1\"><meta http-equiv=\"refresh\" content=\"60\"><title>{state} · {host} · Backstay</title><style>{css}\
         </style></head><body><main><header><h1>Backstay on {host}</h1><p class=\"state {class}\">{state}</p></header>",
        css = include_str!("page.css"),
    );
    if !problems.is_empty() {
        out.push_str("<ul class=\"problems\">");
        for p in &problems {
            let class = if p.severity == Severity::Bad { "bad" } else { "notice" };
            let (what, todo) = (escape(&p.what), escape(&p.todo));
            out.push_str(&format!("<li class=\"{class}\"><p>{what}</p><p class=\"dim\"><code>{todo}</code></p></li>"));
        }
        out.push_str("</ul>");
    }
    out.push_str(&plans(o));
    o.plans.keys().for_each(|plan| out.push_str(&charts(o, plan)));
    out.push_str(&restores(o));
    out.push_str(&upkeep(o));
    out.push_str(&keys(o));
    out.push_str(&others(o));
    let seen = o.view.as_ref().map_or_else(
        || "the repository was not seen yet".to_owned(),
        |v| format!("repository seen {}", time::ago(v.at, o.now)),
    );
    out.push_str(&format!(
        "<footer>{} ({}) · {} · version {}</footer></main></body></html>",
        escape(&time::utc(o.now)),
        escape(&time::local(o.now)),
        escape(&seen),
        env!("CARGO_PKG_VERSION")
    ));
    out
}

fn plans(o: &Overview) -> String {
    let head =
        ["plan", "newest complete backup", "last run", "data", "shipped", "backups", "last drill", "restore proven"];
    let rows: Vec<Vec<String>> = o
        .plans
        .iter()
        .map(|(name, plan)| {
            let newest = o.view.as_ref().and_then(|v| v.newest_complete(name));
            let limit = SignedDuration::try_from(plan.max_age).unwrap_or(SignedDuration::MAX);
            let fresh = newest.is_some_and(|b| o.now.duration_since(b.at) <= limit);
            let backups = o.view.as_ref().map_or(0, |v| v.of_plan(name).count());
            let run = o.record(Verb::Backup, Some(name));
            let last = match run.filter(|r| r.open.as_ref().is_some_and(|open| open.process.is_alive())) {
                Some(_) => cell("notice", "running"),
                None => ending(run.and_then(|r| r.last.as_ref())),
            };
            let here = o.record(Verb::Drill, Some(name)).and_then(|r| r.last.as_ref());
            let drilled = match o.drill(name) {
                None => cell("dim", "never"),
                Some(Drilled { machine: Some(machine), good, at, .. }) => {
                    let (class, word) = if good { ("good", "proven") } else { ("bad", "failed") };
                    let ago = time::ago(at, o.now);
                    format!("{} {}", cell(class, &format!("{word} on {machine}")), cell("dim", &ago))
                }
                Some(here_at) => format!("{} {}", ending(here), cell("dim", &time::ago(here_at.at, o.now))),
            };
            let proven = o.proven(&o.host, name);
            vec![
                format!("<strong>{}</strong>", escape(name.as_str())),
                cell(if fresh { "good" } else { "bad" }, &when(newest.map(|b| b.at), o.now)),
                last,
                cell("", &newest.map_or_else(|| "–".to_owned(), |b| size::human(b.bytes))),
                cell("", &newest.map_or_else(|| "–".to_owned(), |b| size::human(b.shipped))),
                cell("", &size::count(backups as u64)),
                drilled,
                cell(if proven.is_some() { "" } else { "dim" }, &when(proven, o.now)),
            ]
        })
        .collect();
    table("Plans", &head, &rows)
}

fn charts(o: &Overview, plan: &Name) -> String {
    let Some(view) = &o.view else { return String::new() };
    let mut backups: Vec<_> = view.of_plan(plan).rev().take(CHARTED).collect();
    backups.reverse();
    let Some(last) = backups.last() else { return String::new() };
    let chart = |what: &str, value: &dyn Fn(&Backup) -> f64, words: &dyn Fn(f64) -> String| {
        let bar = |b: &&Backup| Bar {
            value: value(b),
            title: format!("{}: {}", time::utc(b.at), words(value(b))),
            faulty: !b.complete,
        };
        let all: Vec<Bar> = backups.iter().map(bar).collect();
        let highest = all.iter().map(|b| b.value).fold(0.0, f64::max);
        let caption = format!("{what}: last {}, highest {}", words(value(last)), words(highest));
        format!("<figure><figcaption>{}</figcaption>{}</figure>", escape(&caption), bars(&caption, &all))
    };
    let bytes = |n: f64| size::human(n as u64);
    let title = match backups.len() {
        1 => format!("{plan}: the only backup"),
        n => format!("{plan}: the last {}", size::plural(n as u64, "backup")),
    };
    format!(
        "<h2>{}</h2><div class=\"charts\">{}{}</div>",
        escape(&title),
        chart("duration", &|b| b.seconds, &seconds),
        chart("shipped", &|b| b.shipped as f64, &bytes)
    )
}

fn restores(o: &Overview) -> String {
    if o.restores.is_empty() {
        return String::new();
    }
    let row = |r: &Restored| {
        let result = match (&r.failure, &r.rollback_of, &r.rolled_back_by) {
            (Some(why), _, _) => cell("bad", &format!("undone: {}", scrub(why))),
            (None, Some(of), _) => cell("", &format!("rollback of {of}")),
            (None, None, Some(by)) => cell("notice", &format!("taken back by {by}")),
            (None, None, None) => cell("good", "restored"),
        };
        vec![
            cell("", &time::ago(r.ended, o.now)),
            cell("", r.plan.as_str()),
            cell("", r.backup.as_str()),
            cell("", &time::words(r.ended.duration_since(r.began))),
            result,
            cell("", if r.kept { "yes" } else { "no" }),
        ]
    };
    let rows: Vec<Vec<String>> = o.restores.iter().rev().take(RESTORES).map(row).collect();
    table("Last restores", &["ended", "plan", "backup", "took", "result", "previous kept"], &rows)
}

fn upkeep(o: &Overview) -> String {
    let upkeep =
        [Verb::Check, Verb::Forget, Verb::Prune, Verb::KeyCheck, Verb::Cleanup, Verb::Import, Verb::Maintenance];
    let row = |r: &Record| {
        vec![
            cell("", r.verb.name()),
            cell("", r.plan.as_ref().map_or("all", Name::as_str)),
            ending(r.last.as_ref()),
            cell("", &when(r.last_success.map(|s| s.ended), o.now)),
        ]
    };
    let rows: Vec<Vec<String>> =
        o.records.iter().filter(|r| r.host == o.host && upkeep.contains(&r.verb)).map(row).collect();
    if rows.is_empty() {
        String::new()
    } else {
        table("Upkeep", &["command", "plan", "last run", "last success"], &rows)
    }
}

/// Other hosts that this one speaks for: a dead host says nothing, and a sealed one drills nothing.
fn others(o: &Overview) -> String {
    let mut rows = Vec::new();
    for (host, view) in &o.others {
        let Some(view) = view else {
            rows.push(vec![cell("", host.as_str()), cell("dim", "never seen"), String::new(), String::new()]);
            continue;
        };
        let plans: BTreeSet<&Name> = view.backups.iter().map(|b| &b.plan).collect();
        for plan in plans {
            let newest = view.newest_complete(plan).map(|b| b.at);
            let proven = match view.drill(plan) {
                Some(drill) if drill.outcome == Outcome::Failed => {
                    cell("bad", &format!("failed {}", time::ago(drill.at, o.now)))
                }
                _ => cell("", &when(view.proven(plan), o.now)),
            };
            let age = cell("", &when(newest, o.now));
            rows.push(vec![cell("", host.as_str()), cell("", plan.as_str()), age, proven]);
        }
    }
    if rows.is_empty() {
        String::new()
    } else {
        table("Other hosts", &["host", "plan", "newest complete backup", "proven"], &rows)
    }
}

fn keys(o: &Overview) -> String {
    let Some(view) = o.view.as_ref().filter(|v| !v.keys.is_empty()) else { return String::new() };
    let row = |k: &Key| {
        let fresh = k.proven.is_some_and(|at| o.now.duration_since(at) <= PROVE_KEYS_EVERY);
        let class = if fresh || k.role != "recovery" { "" } else { "notice" };
        vec![cell("", k.name.as_str()), cell("", &k.role), cell(class, &when(k.proven, o.now))]
    };
    let rows: Vec<Vec<String>> = view.keys.iter().map(row).collect();
    table("Keys", &["key", "role", "proven"], &rows)
}
