//! What a restore would do, as it is shown before somebody confirms it.

use crate::cli::context::Context;
use crate::cli::output::{Align, Table, bad, dim, json, notice, say};
use crate::config::Config;
use crate::error::Result;
use crate::model::{size, time};
use crate::recovery::engine::Step;
use crate::recovery::journal::State;
use crate::recovery::outline::{Looked, Outline, Told, outline};
use crate::recovery::report::{self, Report};
use crate::recovery::resource::Findings;
use crate::recovery::rollback;
use crate::repository::manifest::Manifest;
use jiff::{SignedDuration, Timestamp};

/// Prints the plan.
pub fn print(
    context: &Context,
    config: Option<&Config>,
    m: &Manifest,
    steps: &[Box<dyn Step>],
    found: &[(String, Findings)],
    told: Told,
) -> Result<()> {
    let last = config.and_then(|c| last_of(c, m));
    let outline = outline(Looked {
        plan: &m.plan,
        backup: &m.id,
        begun: m.started,
        found,
        steps: steps.iter().map(|s| s.name()).collect(),
        told,
        last: last.as_ref(),
        keep_previous: config.and_then(|c| c.plans.get(&m.plan)).map(|p| p.restore.keep_previous),
        now: Timestamp::now(),
    });
    if context.global.json {
        return json(&outline);
    }
    tell(&outline)
}

/// The last restore of the plan that was completed on this host: its durations are the forecast.
fn last_of(config: &Config, m: &Manifest) -> Option<Report> {
    let pasts = rollback::pasts(&config.state_dir).ok()?;
    let mut of_plan = pasts.iter().rev().filter(|p| {
        p.journal().about().plan == m.plan && *p.journal().state() == State::Committed && p.rollback_of().is_none()
    });
    report::of(of_plan.next()?.journal()).ok()
}

fn words(seconds: f64) -> String {
    time::words(SignedDuration::from_millis((seconds * 1000.0) as i64))
}

fn tell(o: &Outline) -> Result<()> {
    say(&format!(
        "backup {} of plan {}, begun {} ({}), {} ago",
        o.backup,
        o.plan,
        time::utc(o.begun),
        time::local(o.begun),
        time::words(SignedDuration::from_secs(o.age))
    ))?;
    let kept = o.keep_previous.map_or(String::new(), |s| format!(" for {}", time::words(SignedDuration::from_secs(s))));
    say(&format!("What was written since then will not be live any more. What is live now is kept beside it{kept}."))?;
    let mut table = Table::new(&[("target", Align::Left), ("needs", Align::Right), ("free", Align::Right)]);
    for target in &o.targets {
        let needed = target.space.iter().map(|s| s.needed).sum();
        let free = target.space.first().map(|s| s.free.map_or("unknown".to_owned(), size::human));
        table.row(vec![target.target.clone(), size::human(needed), free.unwrap_or_default()]);
    }
    table.print()?;
    let listed = [
        ("stops", &o.application.stops),
        ("starts only after the checks", &o.application.after_checks),
        ("answers 503 meanwhile", &o.application.maintenance),
        ("checks", &o.application.checks),
        ("hooks", &o.application.hooks),
    ];
    for (what, names) in listed.into_iter().filter(|(_, names)| !names.is_empty()) {
        say(&format!("{what}: {}", names.join(", ")))?;
    }
    for (n, step) in o.steps.iter().enumerate() {
        let expected = step.expected.map(|s| dim(&format!("  ({} the last time)", words(s)))).unwrap_or_default();
        say(&format!("  {:>2}. {}{expected}", n + 1, step.step))?;
    }
    if let Some(seconds) = o.expected {
        say(&format!("It took {} the last time.", words(seconds)))?;
    }
    if let Some(seconds) = o.expected_outage {
        say(&format!("The application was away for {} of that.", words(seconds)))?;
    }
    for target in &o.targets {
        if target.slow_swap {
            say(&notice(&format!("{}: its swap takes a time that grows with the data", target.target)))?;
        }
        if !target.users.is_empty() {
            say(&bad(&format!("{}: in use by {}; stop them first", target.target, target.users.join(", "))))?;
        }
        for warning in &target.warnings {
            say(&notice(&format!("{}: {warning}", target.target)))?;
        }
    }
    Ok(())
}
