//! The status as JSON.

use super::Status;
use crate::cli::jobs::Jobs;
use crate::host::systemd_timer::{Job, Schedule};
use crate::monitoring::problems::Severity;
use crate::telemetry::monitor::Verb;
use crate::telemetry::runs::Record;
use serde_json::{Value, json};

/// All of it. Times are in UTC, sizes in bytes, durations in seconds.
pub(super) fn value(s: &Status) -> Value {
    let o = &s.overview;
    let problems = s.problems.iter().map(|p| json!({ "severity": p.severity.name(), "what": p.what, "do": p.todo }));
    let plans = o.plans.iter().map(|(name, plan)| {
        let newest = o.view.as_ref().and_then(|v| v.newest_complete(name));
        json!({
            "plan": name,
            "newest_complete": newest.map(|b| json!({
                "id": b.id, "begun": b.at, "age_seconds": o.now.duration_since(b.at).as_secs(), "bytes": b.bytes,
                "shipped": b.shipped,
            })),
            "max_age_seconds": plan.max_age.as_secs(),
            "backups": o.view.as_ref().map(|v| v.of_plan(name).count()),
            "last_run": o.record(Verb::Backup, Some(name)).map(run),
            "last_drill": o.record(Verb::Drill, Some(name)).map(run),
            "restore_proven": o.proven(&o.host, name),
            "timer": s.jobs.of(&Job::Backup(name.clone())).map(timer),
            "drill_timer": s.jobs.of(&Job::Drill(name.clone())).map(timer),
        })
    });
    let upkeep = o.records.iter().filter(|r| r.host == o.host && r.plan.is_none());
    let kept = s.kept.iter().map(|k| {
        let copies: Vec<Value> = k.copies.iter().map(|c| json!({ "name": c.name, "bytes": c.bytes })).collect();
        json!({ "restore": k.restore, "plan": k.plan, "until": k.until, "copies": copies, "unknown": k.unknown })
    });
    let keys = o.view.iter().flat_map(|v| &v.keys);
    json!({
        "host": o.host,
        "at": o.now,
        "state": s.worst().map_or("good", Severity::name),
        "problems": problems.collect::<Vec<_>>(),
        "plans": plans.collect::<Vec<_>>(),
        "timers": match &s.jobs {
            Jobs::Known(_) => json!({
                "check": s.jobs.of(&Job::Check).map(timer),
                "prune": s.jobs.of(&Job::Prune).map(timer),
                "cleanup": s.jobs.of(&Job::Cleanup).map(timer),
            }),
            Jobs::Unknown(why) => json!({ "unknown": why }),
        },
        "upkeep": upkeep.map(|r| json!({ "verb": r.verb, "last_run": run(r) })).collect::<Vec<_>>(),
        "open_restore": o.open_restore,
        "kept": kept.collect::<Vec<_>>(),
        "keys": keys.map(|k| json!({ "key": k.name, "role": k.role, "proven": k.proven })).collect::<Vec<_>>(),
        "repository": {
            "url": s.config.storage.url, "seen": o.view.as_ref().map(|v| v.at),
            "measured": o.measured(&o.host).map(|(at, bytes, objects)| json!({ "at": at, "bytes": bytes, "objects": objects })),
        },
    })
}

fn run(r: &Record) -> Value {
    let running = r.open.as_ref().is_some_and(|open| open.process.is_alive());
    json!({
        "running": running, "begun": r.last_attempt, "last": r.last, "last_success": r.last_success.map(|s| s.ended),
    })
}

fn timer(s: &Schedule) -> Value {
    json!({
        "enabled": s.enabled, "active": s.active, "next": s.next, "last": s.last, "running": s.running,
        "failure": s.failure,
    })
}
