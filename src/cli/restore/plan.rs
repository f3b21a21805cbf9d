//! What a restore would do, as it is shown before somebody confirms it.

use crate::cli::context::Context;
use crate::cli::output::{Align, Table, bad, dim, json, notice, say};
use crate::config::Config;
use crate::error::Result;
use crate::model::{Name, size, time};
use crate::recovery::engine::Step;
use crate::recovery::journal::State;
use crate::recovery::outline::{Looked, Outline, Target, Told, outline};
use crate::recovery::report::{self, Report};
use crate::recovery::resource::{Findings, Live};
use crate::recovery::rollback::{self, Past};
use crate::repository::manifest::Manifest;
use crate::telemetry::monitor::Verb;
use crate::telemetry::runs::Ending;
use crate::telemetry::runs::store::Store;
use jiff::{SignedDuration, Timestamp};

/// What is put in place.
#[derive(Clone, Copy)]
pub enum Of<'a> {
    /// A backup.
    Backup(&'a Manifest),
    /// What was there before a restore.
    Rollback(&'a Past),
}

impl<'a> Of<'a> {
    fn plan(self) -> &'a Name {
        match self {
            Of::Backup(m) => &m.plan,
            Of::Rollback(past) => &past.journal().about().plan,
        }
    }
}

/// Prints the plan.
pub fn print(
    context: &Context,
    config: Option<&Config>,
    of: Of<'_>,
    steps: &[Box<dyn Step>],
    found: &[(String, Findings)],
    told: Told,
) -> Result<()> {
    let last = config.and_then(|c| last_of(c, of));
    let drilled = config.map_or_else(Vec::new, |c| drilled(c, of, last.as_ref().map(|last| last.whole.to)));
    let (backup, rollback_of, begun) = match of {
        Of::Backup(m) => (&m.id, None, m.started),
        Of::Rollback(past) => (&past.journal().about().backup, Some(past.id()), past.ended()),
    };
    let outline = outline(Looked {
        plan: of.plan(),
        backup,
        rollback_of,
        begun,
        found,
        steps: steps.iter().map(|s| s.name()).collect(),
        told,
        last: last.as_ref(),
        drilled: &drilled,
        keep_previous: config.and_then(|c| c.plans.get(of.plan())).map(|p| p.restore.keep_previous),
        now: Timestamp::now(),
    });
    if context.global.json {
        return json(&outline);
    }
    tell(&outline)
}

/// The last restore of the plan, or rollback, that was completed on this host: its durations are the forecast.
fn last_of(config: &Config, of: Of<'_>) -> Option<Report> {
    let pasts = rollback::pasts(&config.state_dir).ok()?;
    let last = pasts.iter().rev().find(|p| {
        p.journal().about().plan == *of.plan()
            && *p.journal().state() == State::Committed
            && p.rollback_of().is_some() == matches!(of, Of::Rollback(_))
    });
    report::of(last?.journal()).ok()
}

/// What the steps of a drill took that came after that restore: it stages and verifies as a restore does.
fn drilled(config: &Config, of: Of<'_>, after: Option<Timestamp>) -> Vec<(String, f64)> {
    let Of::Backup(_) = of else { return Vec::new() };
    let records = Store::new(&config.state_dir).all().into_iter();
    let mine = records.filter(|r| r.host == config.host && r.verb == Verb::Drill && r.plan.as_ref() == Some(of.plan()));
    let good = mine.filter_map(|r| r.last).filter(|l| l.ending == Ending::Success && Some(l.ended) > after);
    good.flat_map(|last| last.steps).map(|step| (step.name, step.seconds)).collect()
}

fn words(seconds: f64) -> String {
    time::words(SignedDuration::from_millis((seconds * 1000.0) as i64))
}

/// What becomes of what is live now; `kept` says for how long it is kept.
fn of_what_is_live(targets: &[Target], kept: &str) -> String {
    let of = |live: Live| targets.iter().filter(|t| t.live == live).map(|t| t.target.as_str()).collect::<Vec<_>>();
    let (kept_of, dropped) = (of(Live::Kept), of(Live::Dropped));
    let becomes = match (kept_of.is_empty(), dropped.is_empty()) {
        (true, true) if !targets.is_empty() => return "What is live now stays: nothing of it is replaced.".to_owned(),
        (true, false) => "What is live now is not kept beside it.".to_owned(),
        (_, true) => format!("What is live now is kept beside it{kept}."),
        (false, false) => format!("What is live now is kept beside it{kept}, but not {}.", dropped.join(", ")),
    };
    format!("What was written since then will not be live any more. {becomes}")
}

fn tell(o: &Outline) -> Result<()> {
    let what = match &o.rollback_of {
        Some(id) => format!("restore {id} of plan {}, ended", o.plan),
        None => format!("backup {} of plan {}, begun", o.backup, o.plan),
    };
    say(&format!(
        "{what} {} ({}), {} ago",
        time::utc(o.begun),
        time::local(o.begun),
        time::words(SignedDuration::from_secs(o.age))
    ))?;
    let kept = match (&o.rollback_of, o.keep_previous) {
        (Some(_), _) => " until `backstay cleanup`".to_owned(),
        (None, Some(s)) => format!(" for {}", time::words(SignedDuration::from_secs(s))),
        (None, None) => String::new(),
    };
    say(&of_what_is_live(&o.targets, &kept))?;
    let mut table = Table::new(&[("target", Align::Left), ("needs", Align::Right), ("free", Align::Right)]);
    for target in &o.targets {
        let needed = target.space.iter().map(|s| s.needed).sum();
        let free = target.space.first().map(|s| s.free.map_or("unknown".to_owned(), size::human));
        table.row(vec![target.target.clone(), size::human(needed), free.unwrap_or_default()]);
    }
    table.print()?;
    let listed = [
        ("stops", &o.application.stops),
        ("goes on all the same", &o.application.goes_on),
        ("starts only after the checks", &o.application.after_checks),
        ("answers 503 meanwhile", &o.application.maintenance),
        ("checks", &o.application.checks),
        ("hooks", &o.application.hooks),
        ("empties", &o.application.flushes),
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
    o.application.warnings.iter().try_for_each(|warning| say(&notice(warning)))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_live_is_said_to_be_kept_only_where_it_is() {
        let target = |name: &str, live| Target {
            target: name.to_owned(),
            space: Vec::new(),
            slow_swap: false,
            live,
            users: Vec::new(),
            warnings: Vec::new(),
        };
        let said = |targets: &[Target]| of_what_is_live(targets, " for 7 days");
        let kept = target("/srv", Live::Kept);
        let rows = target("table a", Live::Dropped);
        let beside = target("schema b", Live::Untouched);
        assert!(said(&[]).ends_with("What is live now is kept beside it for 7 days."));
        assert!(said(&[kept.clone(), beside.clone()]).ends_with("is kept beside it for 7 days."));
        assert!(said(&[kept, rows.clone()]).ends_with("is kept beside it for 7 days, but not table a."));
        assert!(said(&[rows, beside.clone()]).ends_with("any more. What is live now is not kept beside it."));
        assert_eq!(said(&[beside]), "What is live now stays: nothing of it is replaced.");
    }
}
