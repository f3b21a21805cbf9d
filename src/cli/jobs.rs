//! What starts by itself on this host, and when it does next.

use crate::config::Config;
use crate::host::systemd_timer::{self, Job, Schedule};
use crate::model::Name;
use crate::monitoring::overview::Overview;
use crate::monitoring::problems::{Problem, Severity};
use crate::telemetry::monitor::Verb;

/// The jobs of this host with their timers.
pub enum Jobs {
    /// As systemd knows them.
    Known(Vec<(Job, Schedule)>),
    /// Why nothing is known.
    Unknown(String),
}

impl Jobs {
    /// Asks systemd.
    pub async fn ask(config: &Config) -> Self {
        let plans = |of: fn(Name) -> Job| config.plans.keys().cloned().map(of);
        let jobs: Vec<Job> =
            plans(Job::Backup).chain(plans(Job::Drill)).chain([Job::Check, Job::Prune, Job::Cleanup]).collect();
        let asked = async {
            systemd_timer::require_systemd()?;
            systemd_timer::schedules(&jobs).await
        };
        match asked.await {
            Ok(schedules) => Jobs::Known(jobs.into_iter().zip(schedules).collect()),
            Err(e) => Jobs::Unknown(e.one_line()),
        }
    }

    /// The timer of a job.
    pub fn of(&self, job: &Job) -> Option<&Schedule> {
        match self {
            Jobs::Known(all) => all.iter().find(|(known, _)| known == job).map(|(_, schedule)| schedule),
            Jobs::Unknown(_) => None,
        }
    }

    /// Jobs that failed without a word in their run records: a mistake in the configuration, a program that is gone.
    pub fn unnoted(&self, overview: &Overview) -> Vec<Problem> {
        let Jobs::Known(all) = self else { return Vec::new() };
        let problem = |(job, timer): &(Job, Schedule)| {
            let why = timer.failure.as_ref().filter(|_| !timer.running && !is_noted(job, timer, overview))?;
            let what = format!("{} failed before it could note anything: {why}", job.service());
            Some(Problem { severity: Severity::Bad, what, todo: format!("journalctl -u {}", job.service()) })
        };
        all.iter().filter_map(problem).collect()
    }

    /// What of the timers needs somebody.
    pub fn problems(&self, config: &Config, overview: &Overview) -> Vec<Problem> {
        let Jobs::Known(all) = self else { return Vec::new() };
        let mut found = self.unnoted(overview);
        for (job, timer) in all {
            if timer.enabled && !timer.active {
                let what = format!("{} is enabled and stopped: it goes off after the next boot only", job.timer());
                found.push(Problem { severity: Severity::Bad, what, todo: format!("systemctl start {}", job.timer()) });
            }
            let Job::Backup(plan) = job else { continue };
            let elsewhere = config.plans.get(plan).is_some_and(|p| p.due.crontab.is_some());
            if !timer.enabled && !timer.active && !elsewhere {
                let what = format!("plan {plan} has no timer: nothing backs it up by itself");
                let todo = format!("backstay timer enable {plan}; or set `schedule`, when something else calls it");
                found.push(Problem { severity: Severity::Notice, what, todo });
            }
        }
        found
    }
}

/// Whether a run record tells of the failure already: then it is told with its reason.
fn is_noted(job: &Job, timer: &Schedule, overview: &Overview) -> bool {
    let (verb, plan) = match job {
        Job::Backup(plan) => (Verb::Backup, Some(plan)),
        Job::Drill(plan) => (Verb::Drill, Some(plan)),
        Job::Check => (Verb::Check, None),
        Job::Prune => (Verb::Prune, None),
        Job::Cleanup => (Verb::Cleanup, None),
    };
    let attempt = overview.record(verb, plan).and_then(|record| record.last_attempt);
    match (attempt, timer.last) {
        (Some(attempt), Some(started)) => attempt >= started,
        // It was never started by its timer: somebody did that by hand, and saw what became of it.
        (_, None) => true,
        (None, Some(_)) => false,
    }
}
