//! The timers that start our jobs: what they are called, when they go off, and how they are set.
//!
//! Asked and told by `systemctl`, which works without a message bus. A schedule is a drop-in beside the unit, so that a
//! new version of the unit does not take it away.

use super::exec::Program;
use crate::error::{Error, Kind, Result};
use crate::io::durable;
use crate::model::Name;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the operator's units and drop-ins are.
const UNITS: &str = "/etc/systemd/system";
/// The unit at boot that puts back what a crash left.
const RESUME: &str = "backstay-resume.service";
/// Time limit of one call. Starting a timer waits for nothing.
const LIMIT: Duration = Duration::from_secs(60);
/// How `systemctl show` writes times when the time zone is UTC, which is in the environment then.
const TIME: &str = "%a %Y-%m-%d %H:%M:%S UTC";
const PROPERTIES: &str = "--property=Id,LoadState,UnitFileState,ActiveState,TimersCalendar,NextElapseUSecRealtime,LastTriggerUSec,RandomizedDelayUSec,Result,ExecMainStatus";

/// A job that a timer starts: of a plan, or of the whole host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// Backs up a plan.
    Backup(Name),
    /// Proves a plan's backup.
    Drill(Name),
    /// Checks the vault.
    Check,
    /// Drops what restores kept of what was live before.
    Cleanup,
    /// Forgets and prunes.
    Prune,
}

impl Job {
    /// Its word on the command line.
    pub fn word(&self) -> &'static str {
        match self {
            Job::Backup(_) => "backup",
            Job::Drill(_) => "drill",
            Job::Check => "check",
            Job::Cleanup => "cleanup",
            Job::Prune => "prune",
        }
    }

    /// The plan, of jobs that have one.
    pub fn plan(&self) -> Option<&Name> {
        match self {
            Job::Backup(plan) | Job::Drill(plan) => Some(plan),
            Job::Check | Job::Cleanup | Job::Prune => None,
        }
    }

    /// The unit without its ending. Every [`Name`] is good as an instance as it stands.
    fn stem(&self) -> String {
        match self.plan() {
            Some(plan) => format!("backstay-{}@{plan}", self.word()),
            None => format!("backstay-{}", self.word()),
        }
    }

    /// `backstay-backup@erp.timer`.
    pub fn timer(&self) -> String {
        format!("{}.timer", self.stem())
    }

    /// `backstay-backup@erp.service`.
    pub fn service(&self) -> String {
        format!("{}.service", self.stem())
    }

    fn drop_in(&self) -> PathBuf {
        Path::new(UNITS).join(format!("{}.d", self.timer())).join("schedule.conf")
    }
}

/// A timer and its job, as systemd knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// The unit file is there.
    pub installed: bool,
    /// It starts at boot.
    pub enabled: bool,
    /// It is started now. A timer that is enabled and not active goes off after the next boot only.
    pub active: bool,
    /// When, in systemd's words; each line goes off by itself.
    pub calendar: Vec<String>,
    /// At most so much later, by chance.
    pub spread: Duration,
    /// When it goes off next; `None` when it is not active, or while the job runs.
    pub next: Option<Timestamp>,
    /// When it went off last.
    pub last: Option<Timestamp>,
    /// The job runs now.
    pub running: bool,
    /// The last run failed: its exit status, or systemd's word for how it ended.
    pub failure: Option<String>,
}

/// Fails where systemd is not what runs this host.
///
/// # Errors
/// [`Kind::Refused`].
pub fn require_systemd() -> Result<()> {
    if Path::new("/run/systemd/system").is_dir() {
        return Ok(());
    }
    Err(Error::new(Kind::Refused, "this host is not run by systemd")
        .at("/run/systemd/system")
        .hint("Have another scheduler call `backstay --wait 6h backup PLAN`; docs/systemd.md has a line for cron."))
}

async fn run(program: &str, args: impl IntoIterator<Item = impl Into<String>>) -> Result<String> {
    let program = Program::new(program, args).env(vec![("TZ".into(), "UTC".into())]);
    let out = tokio::time::timeout(LIMIT, program.output()).await.unwrap_or_else(|_| {
        Err(Error::new(Kind::Internal, "systemd does not answer").because(format!("waited for {} s", LIMIT.as_secs())))
    });
    out.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).map_err(|e| e.kind(Kind::Internal))
}

async fn systemctl(args: &[&str]) -> Result<String> {
    run("systemctl", args.iter().copied())
        .await
        .map_err(|e| e.hint("`systemctl status` and `journalctl -xe` say more. It needs root."))
}

/// The schedules of jobs, in their order.
///
/// # Errors
/// When systemd cannot be asked. A timer that is not there is no error, see [`Schedule::installed`].
pub async fn schedules(jobs: &[Job]) -> Result<Vec<Schedule>> {
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    let units: Vec<String> = jobs.iter().flat_map(|j| [j.timer(), j.service()]).collect();
    let args = ["show", PROPERTIES, "--"].into_iter().chain(units.iter().map(String::as_str));
    let text = systemctl(&args.collect::<Vec<_>>()).await?;
    let blocks: Vec<&str> = text.split("\n\n").map(str::trim).filter(|b| !b.is_empty()).collect();
    if blocks.len() != units.len() {
        return Err(Error::new(Kind::Internal, "systemd's answer is not understood").because(format!(
            "asked for {} units, got {}",
            units.len(),
            blocks.len()
        )));
    }
    Ok(blocks.chunks_exact(2).map(|pair| schedule_of(pair[0], pair[1])).collect())
}

/// The schedule of one job, for whoever tells about it.
///
/// # Errors
/// When systemd is not there or cannot be asked.
pub async fn schedule(job: &Job) -> Result<Schedule> {
    require_systemd()?;
    Ok(schedules(std::slice::from_ref(job)).await?.pop().unwrap_or_default())
}

fn schedule_of(timer: &str, service: &str) -> Schedule {
    let result = value(service, "Result");
    let status = value(service, "ExecMainStatus");
    Schedule {
        installed: value(timer, "LoadState") == "loaded",
        enabled: value(timer, "UnitFileState") == "enabled",
        active: value(timer, "ActiveState") == "active",
        calendar: timer.lines().filter_map(|l| l.strip_prefix("TimersCalendar=")).filter_map(calendar_of).collect(),
        spread: span(value(timer, "RandomizedDelayUSec")),
        next: moment(value(timer, "NextElapseUSecRealtime")),
        last: moment(value(timer, "LastTriggerUSec")),
        running: matches!(value(service, "ActiveState"), "active" | "activating" | "deactivating"),
        failure: match result {
            "success" | "" => None,
            "exit-code" => Some(format!("exit status {status}")),
            other => Some(other.to_owned()),
        },
    }
}

fn value<'a>(block: &'a str, name: &str) -> &'a str {
    block.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default()
}

/// `{ OnCalendar=*-*-* 02:00:00 ; next_elapse=… }`.
fn calendar_of(text: &str) -> Option<String> {
    let rest = text.split_once("OnCalendar=")?.1;
    Some(rest.split(" ; ").next()?.trim_end_matches([' ', '}']).to_owned())
}

fn moment(text: &str) -> Option<Timestamp> {
    let civil = DateTime::strptime(TIME, text).ok()?;
    civil.to_zoned(TimeZone::UTC).ok().map(|z| z.timestamp())
}

/// `1h 15min`, as systemd writes spans.
fn span(text: &str) -> Duration {
    let micros = text.split_whitespace().map(|word| {
        let unit = word.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(word.len());
        let factor: u64 = match &word[unit..] {
            "us" => 1,
            "ms" => 1_000,
            "s" => 1_000_000,
            "min" => 60_000_000,
            "h" => 3_600_000_000,
            "d" => 86_400_000_000,
            "w" => 604_800_000_000,
            _ => 0,
        };
        word[..unit].parse::<f64>().unwrap_or(0.0) * factor as f64
    });
    Duration::from_micros(micros.sum::<f64>() as u64)
}

/// What systemd understands by a calendar expression, in its normal form.
///
/// # Errors
/// [`Kind::Usage`] when it does not understand it, or when that moment never comes.
pub async fn normalized(expression: &str) -> Result<String> {
    let bad = |why: &str| {
        Error::new(Kind::Usage, format!("{expression:?} is not a time that a timer can go off at"))
            .because(why.to_owned())
            .hint("Times are like 02:00 or \"02:00 UTC\"; systemd.time(7) describes calendar events.")
    };
    if expression.chars().any(char::is_control) {
        return Err(bad("it has control characters"));
    }
    let answer = run("systemd-analyze", ["calendar", "--iterations=1", "--", expression]).await;
    let answer = match answer {
        Ok(answer) => answer,
        Err(e) if e.what.contains("exit status") => return Err(bad(&e.cause.map_or(e.what, |c| c.to_string()))),
        Err(e) => return Err(e),
    };
    let field = |name: &str| answer.lines().find_map(|l| l.trim_start().strip_prefix(name)).map(str::trim);
    if field("Next elapse:").is_none_or(|next| next == "never") {
        return Err(bad("that moment never comes"));
    }
    field("Normalized form:").or(field("Original form:")).map(str::to_owned).ok_or_else(|| bad("no answer"))
}

/// When a job is to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct When {
    /// Calendar expressions, each [`normalized`]; empty leaves what is set.
    pub calendar: Vec<String>,
    /// Up to so much later, by chance; `None` leaves what is set.
    pub spread: Option<Duration>,
}

/// Enables and starts the timer of a job, at new times if any are given, with the unit at boot that puts back what
/// a crash leaves.
///
/// A change never starts the job at once: what the old schedule would have missed by the new one is not made up for.
///
/// # Errors
/// When the units are not installed, or one of the steps fails; it can be called again then.
pub async fn enable(job: &Job, when: &When) -> Result<Schedule> {
    let timer = job.timer();
    if !schedule(job).await?.installed {
        return Err(Error::new(Kind::NotFound, format!("the unit {timer} is not installed"))
            .hint("Install Backstay as a package, or by install.sh of the tarball; both bring the units."));
    }
    if *when != When::default() {
        write(&job.drop_in(), &drop_in(when))?;
        systemctl(&["daemon-reload"]).await?;
        systemctl(&["stop", "--", &timer]).await?;
        systemctl(&["clean", "--what=state", "--", &timer]).await?;
    }
    systemctl(&["enable", "--quiet", "--", &timer, RESUME]).await?;
    systemctl(&["start", "--", &timer]).await?;
    schedule(job).await
}

/// Stops and disables the timer of a job, and drops its schedule. A job that runs goes on.
///
/// # Errors
/// When one of the steps fails.
pub async fn disable(job: &Job) -> Result<()> {
    require_systemd()?;
    let timer = job.timer();
    systemctl(&["disable", "--now", "--quiet", "--", &timer]).await?;
    let file = job.drop_in();
    match std::fs::remove_file(&file) {
        Ok(()) => {
            // Drop-ins of the operator's may be beside it.
            let _ = file.parent().map(std::fs::remove_dir);
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(Error::io("the schedule cannot be removed", &file, e)),
    }
    systemctl(&["daemon-reload"]).await.map(drop)
}

fn drop_in(when: &When) -> String {
    let mut text = String::from("# Written by `backstay timer enable`, which overwrites it.\n[Timer]\n");
    if !when.calendar.is_empty() {
        // The empty one takes the unit's own away.
        text.push_str("OnCalendar=\n");
    }
    for expression in &when.calendar {
        let _ = writeln!(text, "OnCalendar={expression}");
    }
    if let Some(spread) = when.spread {
        let _ = writeln!(text, "RandomizedDelaySec={}", spread.as_secs());
    }
    text
}

fn write(path: &Path, text: &str) -> Result<()> {
    let failed = |e| Error::io("the schedule cannot be written", path, e).hint("It needs root.");
    let folder = path.parent().unwrap_or(Path::new(UNITS));
    durable::make_folder(folder, 0o755).and_then(|()| durable::replace(path, text.as_bytes(), 0o644)).map_err(failed)
}

/// Plans whose timers are enabled, whether they are configured or not.
pub fn enabled_plans(word: &str) -> Vec<Name> {
    let entries = std::fs::read_dir(Path::new(UNITS).join("timers.target.wants")).into_iter().flatten().flatten();
    let prefix = format!("backstay-{word}@");
    let mut plans: Vec<Name> = entries
        .filter_map(|e| e.file_name().to_str()?.strip_prefix(&prefix)?.strip_suffix(".timer")?.parse().ok())
        .collect();
    plans.sort();
    plans
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_says_of_a_timer_is_understood() {
        let timer = "Id=backstay-backup@erp.timer\nLoadState=loaded\nUnitFileState=enabled\nActiveState=active\n\
            TimersCalendar={ OnCalendar=Mon..Fri *-*-* 02:00:00 ; next_elapse=Mon 2026-11-23 02:00:00 UTC }\n\
            TimersCalendar={ OnCalendar=Sat *-*-* 12:00:00 UTC ; next_elapse=(null) }\n\
            NextElapseUSecRealtime=Mon 2026-11-23 02:07:31 UTC\nLastTriggerUSec=\nRandomizedDelayUSec=1h 15min 500ms";
        let service = "Id=backstay-backup@erp.service\nActiveState=failed\nResult=exit-code\nExecMainStatus=6";
        let s = schedule_of(timer, service);
        assert!(s.installed && s.enabled && s.active && !s.running, "{s:?}");
        assert_eq!(s.calendar, ["Mon..Fri *-*-* 02:00:00", "Sat *-*-* 12:00:00 UTC"]);
        assert_eq!(s.next.unwrap().to_string(), "2026-11-23T02:07:31Z");
        assert_eq!((s.last, s.spread), (None, Duration::from_millis(4_500_500)));
        assert_eq!(s.failure.as_deref(), Some("exit status 6"));
        let absent = schedule_of("LoadState=not-found\nActiveState=inactive", "ActiveState=inactive\nResult=success");
        assert_eq!(absent, Schedule::default());
    }

    #[test]
    fn a_schedule_replaces_the_one_of_the_unit() {
        let when = When { calendar: vec!["*-*-* 02:00:00".into()], spread: Some(Duration::from_secs(900)) };
        assert!(drop_in(&when).ends_with("[Timer]\nOnCalendar=\nOnCalendar=*-*-* 02:00:00\nRandomizedDelaySec=900\n"));
        let spread = When { spread: Some(Duration::ZERO), ..When::default() };
        assert!(drop_in(&spread).ends_with("[Timer]\nRandomizedDelaySec=0\n"));
    }

    #[test]
    fn units_are_named_by_job_and_plan() {
        let job = Job::Backup("erp-1.x".parse().unwrap());
        assert_eq!(
            (job.timer(), job.service()),
            ("backstay-backup@erp-1.x.timer".into(), "backstay-backup@erp-1.x.service".into())
        );
        assert_eq!(Job::Check.timer(), "backstay-check.timer");
    }
}
