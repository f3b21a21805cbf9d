//! What starts by itself: backups, drills, checks, pruning, and what takes up an interrupted restore at boot.

use super::Patient;
use super::check::{Check, within};
use crate::cli::jobs::Jobs;
use crate::error::Result;
use crate::host::systemd;
use crate::host::systemd_timer::{Job, Schedule};
use crate::model::time;

/// The unit at boot.
const RESUME: &str = "backstay-resume.service";

pub(super) async fn checks(p: &Patient<'_>) -> Vec<Check> {
    let all = match Jobs::ask(p.config).await {
        Jobs::Known(all) => all,
        Jobs::Unknown(why) => return elsewhere(p, &why),
    };
    let mut checks: Vec<Check> = all.iter().map(|(job, timer)| one(p, job, timer)).collect();
    let silent = Jobs::Known(all).unnoted(&p.overview);
    checks.extend(silent.into_iter().map(|problem| Check::bad("jobs", problem.what, problem.todo)));
    checks.push(within(RESUME, resume()).await);
    checks
}

/// Whoever calls us here cannot be asked.
fn elsewhere(p: &Patient<'_>, why: &str) -> Vec<Check> {
    let said = |plan: &crate::config::Plan| plan.due.crontab.clone();
    let plans = p.config.plans.values().map(|plan| match said(plan) {
        Some(cron) => Check::good(plan.name.to_string(), format!("called by another scheduler, at {cron}")),
        None => Check::unknown(
            plan.name.to_string(),
            why,
            "Have a scheduler call `backstay --wait 6h backup PLAN`, and set `schedule`; docs/systemd.md has a line for cron.",
        ),
    });
    plans.collect()
}

fn one(p: &Patient<'_>, job: &Job, timer: &Schedule) -> Check {
    let name = match job.plan() {
        Some(plan) => format!("{} of {plan}", job.word()),
        None => job.word().to_owned(),
    };
    if timer.active {
        let next = timer.next.map_or("it runs now".to_owned(), |at| format!("{} ({})", time::utc(at), time::local(at)));
        return match timer.enabled {
            true => Check::good(name, format!("next run {next}")),
            false => {
                let mend = format!("systemctl enable {}", job.timer());
                Check::warning(name, "the timer is started and not enabled: a reboot ends it", mend)
            }
        };
    }
    let how = match job.plan() {
        Some(plan) => format!("backstay timer enable {plan} --job {}", job.word()),
        None => format!("backstay timer enable --job {}", job.word()),
    };
    if timer.enabled {
        return Check::bad(name, "the timer is enabled and stopped", format!("systemctl start {}", job.timer()));
    }
    let sealed = p.config.identity_file.is_none();
    match job {
        Job::Backup(plan) => match p.config.plans.get(plan).and_then(|plan| plan.due.crontab.as_ref()) {
            Some(cron) => Check::good(name, format!("called by another scheduler, at {cron}")),
            None => Check::warning(name, "no timer: nothing backs it up by itself", how),
        },
        Job::Drill(_) if sealed => {
            Check::good(name, "no timer: a sealed host cannot open its backups; drill elsewhere")
        }
        Job::Drill(_) => {
            Check::warning(name, "no timer: nothing proves by itself that its backups can be restored", how)
        }
        Job::Check => Check::warning(name, "no timer: nothing looks by itself whether packs are still there", how),
        Job::Cleanup => Check::warning(name, "no timer: what restores keep stays until somebody removes it", how),
        Job::Prune => Check::warning(name, "no timer: the repository grows, unless another machine prunes it", how),
    }
}

async fn resume() -> Result<Check> {
    let unit = systemd::look(RESUME).await?;
    if !unit.exists() {
        let detail =
            "it is not installed: after a power cut nothing takes up an open restore, or starts what a backup stopped";
        return Ok(Check::warning(RESUME, detail, "Install Backstay as a package, or by install.sh of the tarball."));
    }
    Ok(match unit.enabled.as_str() {
        "enabled" | "static" => Check::good(RESUME, "enabled: it takes up at boot what a power cut left"),
        state => {
            let detail = format!("it is {state}: after a power cut nothing takes up an open restore");
            Check::bad(RESUME, detail, format!("systemctl enable {RESUME}"))
        }
    })
}
