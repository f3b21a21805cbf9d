//! `backstay timer`: when the jobs of this host run.

use super::context::Context;
use super::output::{Align, Table, bad, dim, good, json, notice, remark, say};
use crate::config::load::DEFAULT_FILE;
use crate::error::{Error, Kind, Result};
use crate::host::systemd_timer::{self, Job, Schedule, When};
use crate::model::{Name, time};
use clap::ValueEnum;
use jiff::SignedDuration;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// What `--at` is when only `--on` is given.
const AT: &str = "02:00";

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand, Debug)]
enum What {
    /// Set when a job runs, and enable its timer
    Enable(EnableArgs),
    /// Disable the timer of a job, and drop its schedule
    Disable(WhichArgs),
    /// List the timers of this host, with their next runs
    List,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Word {
    /// Back up a plan
    Backup,
    /// Restore a plan's backup into staging, to prove it
    Drill,
    /// Check the vault
    Check,
    /// Remove what the rules do not keep, and free its space
    Prune,
    /// Drop what restores kept of what was live before them, when its time is over
    Cleanup,
}

#[derive(clap::Args, Debug)]
struct WhichArgs {
    /// Plan; may be left out when there is one
    plan: Option<String>,
    /// Which job; `check`, `prune` and `cleanup` are of the whole host and take no plan
    #[arg(long, value_name = "JOB", value_enum, default_value_t = Word::Backup)]
    job: Word,
}

#[derive(clap::Args, Debug)]
struct EnableArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// Time of day, `02:00` in local time or `"02:00 UTC"` (repeatable)
    #[arg(long, value_name = "TIME")]
    at: Vec<String>,
    /// Which days: `daily`, `weekly`, `monthly`, days like `Mon,Thu` or `Mon..Fri`, or dates like `*-*-01,15`; or `hourly`
    #[arg(long, value_name = "DAYS")]
    on: Option<String>,
    /// The same in systemd's own words, `"Mon..Fri *-*-* 02:00 Europe/Berlin"` (repeatable)
    #[arg(long, value_name = "EVENT", conflicts_with_all = ["at", "on"])]
    calendar: Vec<String>,
    /// Start up to so much later, at a time that chance gives this host once and for all, so that not all hosts begin together
    #[arg(long, value_name = "TIME", value_parser = super::lock::parse_wait)]
    spread: Option<SignedDuration>,
}

/// Sets, drops or lists schedules.
pub async fn run(context: &Context, args: Args) -> Result<ExitCode> {
    match args.what {
        What::Enable(args) => enable(context, args).await,
        What::Disable(args) => disable(context, args).await,
        What::List => list(context).await,
    }
}

/// The job that is meant. Only what is to be enabled must be configured: what is not can be disabled still.
fn job(context: &Context, which: &WhichArgs, must_exist: bool) -> Result<Job> {
    let config = context.config()?;
    let plan = match (which.job, &which.plan) {
        (Word::Check | Word::Prune | Word::Cleanup, Some(_)) => {
            return Err(Error::new(Kind::Usage, "that job is of the whole host and takes no plan"));
        }
        (Word::Check, None) => return Ok(Job::Check),
        (Word::Prune, None) => return Ok(Job::Prune),
        (Word::Cleanup, None) => return Ok(Job::Cleanup),
        (_, Some(plan)) => plan.parse().map_err(|e: Error| e.kind(Kind::Usage))?,
        (_, None) => only_plan(&config.plans.keys().cloned().collect::<Vec<_>>())?,
    };
    if must_exist && !config.plans.contains_key(&plan) {
        let names: Vec<&str> = config.plans.keys().map(Name::as_str).collect();
        return Err(Error::new(Kind::NotFound, format!("plan {plan} is not configured"))
            .at(config.file.display())
            .hint(format!("Configured are: {}.", names.join(", "))));
    }
    Ok(if which.job == Word::Drill { Job::Drill(plan) } else { Job::Backup(plan) })
}

fn only_plan(plans: &[Name]) -> Result<Name> {
    match plans {
        [only] => Ok(only.clone()),
        [] => Err(Error::new(Kind::NotFound, "no plan is configured").hint("Configure one as [plans.NAME].")),
        several => {
            let names: Vec<&str> = several.iter().map(Name::as_str).collect();
            Err(Error::new(Kind::Usage, "there are several plans")
                .hint(format!("Name one of them: {}.", names.join(", "))))
        }
    }
}

/// Calendar events for what was asked, as yet unchecked. Nothing when nothing was asked.
fn expressions(args: &EnableArgs) -> Result<Vec<String>> {
    if !args.calendar.is_empty() {
        return Ok(args.calendar.clone());
    }
    let days = match args.on.as_deref() {
        None if args.at.is_empty() => return Ok(Vec::new()),
        Some("hourly") if args.at.is_empty() => return Ok(vec!["hourly".to_owned()]),
        Some("hourly") => {
            return Err(Error::new(Kind::Usage, "hourly has no time of day")
                .hint("For another minute than the full hour: --calendar '*:15'."));
        }
        None | Some("daily") => "*-*-*".to_owned(),
        Some("weekly") => "Mon *-*-*".to_owned(),
        Some("monthly") => "*-*-01".to_owned(),
        // Dates have hyphens; what has none is days of the week.
        Some(dates) if dates.contains('-') => dates.to_owned(),
        Some(weekdays) => format!("{weekdays} *-*-*"),
    };
    let at: Vec<&str> = if args.at.is_empty() { vec![AT] } else { args.at.iter().map(String::as_str).collect() };
    Ok(at.into_iter().map(|at| format!("{days} {at}")).collect())
}

async fn enable(context: &Context, args: EnableArgs) -> Result<ExitCode> {
    systemd_timer::require_systemd()?;
    let job = job(context, &args.which, true)?;
    let mut when = When { spread: args.spread.map(|s| s.try_into().unwrap_or_default()), ..When::default() };
    for expression in expressions(&args)? {
        when.calendar.push(systemd_timer::normalized(&expression).await?);
    }
    if context.global.config != Path::new(DEFAULT_FILE) {
        remark(&format!(
            "{} the units read {DEFAULT_FILE}, not {}; write BACKSTAY_CONFIG={} into /etc/backstay/environment.",
            notice("warning"),
            context.global.config.display(),
            context.global.config.display()
        ));
    }
    let schedule = systemd_timer::enable(&job, &when).await?;
    if context.global.json {
        json(&machine(&job, &schedule))?;
        return Ok(ExitCode::SUCCESS);
    }
    say(&format!("{} {}", good("enabled"), job.timer()))?;
    for event in &schedule.calendar {
        say(&format!("  runs at   {event}{}", later(schedule.spread)))?;
    }
    say(&format!("  next run  {}", next(&schedule)))?;
    Ok(ExitCode::SUCCESS)
}

async fn disable(context: &Context, which: WhichArgs) -> Result<ExitCode> {
    systemd_timer::require_systemd()?;
    let job = job(context, &which, false)?;
    systemd_timer::disable(&job).await?;
    if context.global.json {
        json(&serde_json::json!({ "unit": job.timer(), "enabled": false }))?;
    } else {
        say(&format!("{} {}", good("disabled"), job.timer()))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(context: &Context) -> Result<ExitCode> {
    systemd_timer::require_systemd()?;
    let config = context.config()?;
    let mut jobs = Vec::new();
    for (word, of) in [("backup", Job::Backup as fn(Name) -> Job), ("drill", Job::Drill)] {
        let mut plans: Vec<Name> = config.plans.keys().cloned().chain(systemd_timer::enabled_plans(word)).collect();
        plans.sort();
        plans.dedup();
        jobs.extend(plans.into_iter().map(of));
    }
    jobs.extend([Job::Check, Job::Prune, Job::Cleanup]);
    let schedules = systemd_timer::schedules(&jobs).await?;
    let all = jobs.iter().zip(&schedules);
    if context.global.json {
        json(&all.map(|(job, s)| machine(job, s)).collect::<Vec<_>>())?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&[
        ("job", Align::Left),
        ("plan", Align::Left),
        ("runs at", Align::Left),
        ("next run", Align::Left),
        ("last run", Align::Left),
    ]);
    for (job, s) in all {
        let known = job.plan().is_none_or(|plan| config.plans.contains_key(plan));
        let plan = job.plan().map(Name::to_string).unwrap_or_default();
        table.row(vec![
            job.word().to_owned(),
            if known { plan } else { format!("{plan} {}", bad("(not configured)")) },
            if s.enabled { format!("{}{}", s.calendar.join(", "), later(s.spread)) } else { dim("disabled") },
            next(s),
            last(s),
        ]);
    }
    table.print()?;
    Ok(ExitCode::SUCCESS)
}

fn later(spread: Duration) -> String {
    match spread.as_secs() {
        0 => String::new(),
        s if s % 60 == 0 => format!(", up to {} min later", s / 60),
        s => format!(", up to {s} s later"),
    }
}

fn next(s: &Schedule) -> String {
    match s.next {
        _ if s.running => notice("running now"),
        Some(at) => format!("{} ({})", time::utc(at), time::local(at)),
        None if !s.enabled => String::new(),
        None if s.active => bad("never"),
        None => bad("after the next boot: the timer is stopped"),
    }
}

fn last(s: &Schedule) -> String {
    let at = s.last.map(time::utc).unwrap_or_default();
    match &s.failure {
        Some(why) => format!("{at} {}", bad(&format!("failed: {why}"))).trim_start().to_owned(),
        None => at,
    }
}

fn machine(job: &Job, s: &Schedule) -> serde_json::Value {
    serde_json::json!({
        "job": job.word(), "plan": job.plan(), "unit": job.timer(), "enabled": s.enabled, "active": s.active,
        "calendar": s.calendar, "spread_seconds": s.spread.as_secs(), "next": s.next, "last": s.last,
        "running": s.running, "failure": s.failure,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(on: Option<&str>, at: &[&str]) -> Result<Vec<String>> {
        expressions(&EnableArgs {
            which: WhichArgs { plan: None, job: Word::Backup },
            at: at.iter().map(|a| a.to_string()).collect(),
            on: on.map(str::to_owned),
            calendar: Vec::new(),
            spread: None,
        })
    }

    #[test]
    fn days_and_times_become_calendar_events() {
        assert_eq!(asked(None, &["02:00", "14:30 UTC"]).unwrap(), ["*-*-* 02:00", "*-*-* 14:30 UTC"]);
        assert_eq!(asked(Some("weekly"), &["03:15"]).unwrap(), ["Mon *-*-* 03:15"]);
        assert_eq!(asked(Some("monthly"), &[]).unwrap(), ["*-*-01 02:00"]);
        assert_eq!(asked(Some("Mon..Fri"), &["22:00"]).unwrap(), ["Mon..Fri *-*-* 22:00"]);
        assert_eq!(asked(Some("*-*-01,15"), &["22:00"]).unwrap(), ["*-*-01,15 22:00"]);
        assert_eq!(asked(Some("hourly"), &[]).unwrap(), ["hourly"]);
        assert_eq!(asked(Some("hourly"), &["02:00"]).unwrap_err().kind, Kind::Usage);
        assert!(asked(None, &[]).unwrap().is_empty());
    }
}
