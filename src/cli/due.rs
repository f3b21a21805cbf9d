//! When plans are due, for whoever waits for their backups elsewhere: by their timers, or as the configuration says it
//! for another scheduler.

use crate::config::Config;
use crate::host::systemd_calendar::crontab;
use crate::host::systemd_timer::{Job, require_systemd, schedules};
use crate::model::Name;
use crate::telemetry::sentry::Schedule;
use jiff::tz::TimeZone;
use std::collections::BTreeMap;

/// The schedule of each plan that has one.
pub type Due = BTreeMap<Name, Schedule>;

/// What is due when; nothing when nobody is told. A systemd that cannot be asked costs the check-ins of its timers and
/// no backup.
pub async fn of(config: &Config) -> Due {
    if config.sentry.is_none() {
        return Due::new();
    }
    let here = || TimeZone::system().iana_name().map(str::to_owned);
    let mut due = Due::new();
    let mut unsaid = Vec::new();
    for (name, plan) in &config.plans {
        let (margin, max_runtime) = (plan.due.margin, plan.due.max_runtime);
        match &plan.due.crontab {
            Some(text) => {
                due.insert(name.clone(), Schedule { crontab: text.clone(), margin, max_runtime, timezone: here() });
            }
            None => unsaid.push(Job::Backup(name.clone())),
        }
    }
    let timers = match require_systemd() {
        Ok(()) => schedules(&unsaid).await.unwrap_or_default(),
        Err(_) => Vec::new(),
    };
    for (job, timer) in unsaid.iter().zip(timers).filter(|(_, timer)| timer.enabled || timer.active) {
        let (Some(name), Some(cron)) = (job.plan(), crontab(&timer.calendar)) else { continue };
        let Some(plan) = config.plans.get(name).map(|plan| &plan.due) else { continue };
        let schedule = Schedule {
            crontab: cron.fields,
            // By chance it begins so much later than the timer says.
            margin: plan.margin + timer.spread,
            max_runtime: plan.max_runtime,
            timezone: cron.timezone.or_else(here),
        };
        due.insert(name.clone(), schedule);
    }
    due
}
