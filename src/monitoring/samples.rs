//! Metrics of an [`Overview`]. What is configured and has never happened is there with 0, so that an alert on it needs no
//! special case.

use super::overview::Overview;
use super::view::View;
use crate::model::Name;
use crate::telemetry::metrics::Samples;
use crate::telemetry::metrics::table as t;
use crate::telemetry::monitor::Verb;
use crate::telemetry::report::Report;
use crate::telemetry::runs::{Finished, Record};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

fn unix(at: Option<Timestamp>) -> f64 {
    at.map_or(0.0, |at| at.as_millisecond() as f64 / 1000.0)
}

/// All metrics of a host.
pub fn samples(o: &Overview) -> Samples {
    let mut s = Samples::default();
    s.set(&t::BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1.0);
    s.set(&t::METRICS_AT, &[o.host.as_str()], unix(Some(o.now)));
    configured(&mut s, o);
    for record in &o.records {
        of_record(&mut s, record);
    }
    measured(&mut s, o);
    for (host, plan) in restorable(o) {
        s.set(&t::RESTORE_PROVEN, &[host.as_str(), plan.as_str()], unix(o.proven(host, plan)));
    }
    for (host, view) in &o.others {
        s.set(&t::REPOSITORY_SEEN, &[host.as_str()], unix(view.as_ref().map(|v| v.at)));
    }
    o.views().for_each(|view| of_view(&mut s, o, view));
    of_restores(&mut s, o);
    s
}

/// Plans whose proof matters: those configured here, and those of other hosts that are restored or drilled here.
fn restorable(o: &Overview) -> BTreeSet<(&Name, &Name)> {
    let tried = |r: &&Record| matches!(r.verb, Verb::Restore | Verb::Drill);
    let others = o.records.iter().filter(tried).filter_map(|r| Some((&r.host, r.plan.as_ref()?)));
    let watched = o.others.iter().filter_map(|(_, view)| view.as_ref());
    let watched = watched.flat_map(|view| view.backups.iter().map(|b| (&view.host, &b.plan)));
    o.plans.keys().map(|plan| (&o.host, plan)).chain(others).chain(watched).collect()
}

/// Zeros, over which what has happened is written.
fn configured(s: &mut Samples, o: &Overview) {
    let host = o.host.as_str();
    s.set(&t::REPOSITORY_SEEN, &[host], unix(o.view.as_ref().map(|v| v.at)));
    for (name, plan) in &o.plans {
        let name = name.as_str();
        s.set(&t::PLAN_MAX_AGE, &[host, name], plan.max_age.as_secs_f64());
        let run = [host, Verb::Backup.name(), name];
        for metric in [&t::RUN_ATTEMPT, &t::RUN_SUCCESS, &t::RUN_ACTIVE] {
            s.set(metric, &run, 0.0);
        }
        for result in ["success", "failure", "killed"] {
            s.set(&t::RUNS, &[run[0], run[1], run[2], result], 0.0);
        }
        for (source, kind) in &plan.sources {
            for metric in [&t::SOURCE_ATTEMPT, &t::SOURCE_SUCCESS, &t::SOURCE_FAILED] {
                s.set(metric, &[host, name, source.as_str(), kind], 0.0);
            }
        }
    }
}

fn of_record(s: &mut Samples, r: &Record) {
    let (host, verb) = (r.host.as_str(), r.verb.name());
    let plan = r.plan.as_ref().map_or("", Name::as_str);
    let run = [host, verb, plan];
    s.set(&t::RUN_ATTEMPT, &run, unix(r.last_attempt));
    s.set(&t::RUN_SUCCESS, &run, unix(r.last_success.map(|at| at.ended)));
    let active = r.open.as_ref().is_some_and(|open| open.process.is_alive());
    s.set(&t::RUN_ACTIVE, &run, f64::from(u8::from(active)));
    let counts = [("success", r.counts.success), ("failure", r.counts.failure), ("killed", r.counts.killed)];
    for (result, n) in counts {
        s.set(&t::RUNS, &[host, verb, plan, result], n as f64);
    }
    if let Some(last) = &r.last {
        of_last(s, r, last, &run);
    }
    if r.verb == Verb::Backup {
        s.set(&t::BACKUP_READ_TOTAL, &[host, plan], r.counts.read as f64);
        s.set(&t::BACKUP_SHIPPED_TOTAL, &[host, plan], r.counts.shipped as f64);
    }
    for (name, source) in r.sources.iter().filter(|(_, source)| !source.kind.is_empty()) {
        let labels = [host, plan, name.as_str(), source.kind.as_str()];
        s.set(&t::SOURCE_ATTEMPT, &labels, unix(source.last_attempt));
        s.set(&t::SOURCE_SUCCESS, &labels, unix(source.last_success));
        s.set(&t::SOURCE_FAILED, &labels, f64::from(u8::from(source.error.is_some())));
        if source.last_success.is_some() {
            s.set(&t::SOURCE_DURATION, &labels, source.seconds);
            s.set(&t::SOURCE_BYTES, &labels, source.bytes as f64);
            source.files.iter().for_each(|n| s.set(&t::SOURCE_FILES, &labels, *n as f64));
        }
    }
    if let Some((_, report)) = &r.last_report {
        of_report(s, report, host, plan, &run);
    }
}

fn of_last(s: &mut Samples, r: &Record, last: &Finished, run: &[&str; 3]) {
    s.set(&t::RUN_END, run, unix(Some(last.ended)));
    s.set(&t::RUN_EXIT_CODE, run, last.exit_code.map_or(-1.0, f64::from));
    s.set(&t::RUN_WARNINGS, run, last.warnings as f64);
    last.seconds.iter().for_each(|seconds| s.set(&t::RUN_DURATION, run, *seconds));
    last.outage.iter().for_each(|seconds| s.set(&t::RESTORE_OUTAGE, run, *seconds));
    if r.verb == Verb::Backup {
        last.stood_still.iter().for_each(|seconds| s.set(&t::BACKUP_STOOD_STILL, &[run[0], run[2]], *seconds));
    }
    for step in &last.steps {
        s.set(&t::RESTORE_STEP, &[run[0], run[1], run[2], &step.name], step.seconds);
    }
}

fn of_report(s: &mut Samples, report: &Report, host: &str, plan: &str, run: &[&str; 3]) {
    match report {
        Report::Backup(b) => {
            let values = [
                (&t::BACKUP_BYTES, b.bytes),
                (&t::BACKUP_READ, b.read),
                (&t::BACKUP_NEW, b.new),
                (&t::BACKUP_SHIPPED, b.shipped),
                (&t::BACKUP_PACKS, b.packs),
                (&t::BACKUP_REPAIRED, b.repaired),
            ];
            values.iter().for_each(|(metric, value)| s.set(metric, &[host, plan], *value as f64));
            if b.bytes > 0 {
                let known = 1.0 - b.new as f64 / b.bytes as f64;
                s.set(&t::BACKUP_DEDUPLICATED, &[host, plan], known.clamp(0.0, 1.0));
            }
        }
        Report::Check(c) => {
            let broken = c.backups.saturating_sub(c.whole);
            for (state, n) in [("whole", c.whole), ("broken", broken)] {
                s.set(&t::CHECK_BACKUPS, &[host, plan, state], n as f64);
            }
            for (state, n) in [("named", c.packs), ("read", c.packs_read)] {
                s.set(&t::CHECK_PACKS, &[host, plan, state], n as f64);
            }
            s.set(&t::CHECK_DAMAGED, &[host, plan], c.damaged as f64);
            s.set(&t::CHECK_MISSING, &[host, plan], c.missing_predecessors as f64);
        }
        Report::Forget(f) => {
            // With a plan and without are two records of one thing: the whole one tells, when there is one.
            if plan.is_empty() {
                s.set(&t::FORGET_BACKUPS, &[host, "removed"], f.removed as f64);
                s.set(&t::FORGET_BACKUPS, &[host, "retained"], f.retained as f64);
            }
            f.kept.iter().for_each(|(plan, n)| s.set(&t::FORGET_KEPT, &[host, plan.as_str()], *n as f64));
        }
        Report::Prune(p) => {
            let objects = [
                ("live", p.live_objects),
                ("condemned", p.condemned_objects),
                ("waiting", p.waiting_objects),
                ("deleted", p.deleted_objects),
                ("retained", p.retained_objects),
            ];
            objects.iter().for_each(|(state, n)| s.set(&t::PRUNE_OBJECTS, &[host, state], *n as f64));
            s.set(&t::PRUNE_BYTES, &[host, "live"], p.live_bytes as f64);
            s.set(&t::PRUNE_BYTES, &[host, "condemned"], p.condemned_bytes as f64);
        }
        Report::Restore(r) => {
            let values = [(&t::RESTORE_ROWS, r.rows), (&t::RESTORE_COMPARED, r.compared), (&t::RESTORE_BYTES, r.bytes)];
            values.iter().for_each(|(metric, value)| s.set(metric, run, *value as f64));
        }
        Report::KeyCheck { .. } => {}
    }
}

fn measured(s: &mut Samples, o: &Overview) {
    let hosts: BTreeSet<&Name> = o.records.iter().map(|record| &record.host).collect();
    for host in hosts {
        let Some((at, bytes, objects)) = o.measured(host) else { continue };
        s.set(&t::REPOSITORY_MEASURED, &[host.as_str()], unix(Some(at)));
        s.set(&t::REPOSITORY_BYTES, &[host.as_str()], bytes as f64);
        s.set(&t::REPOSITORY_OBJECTS, &[host.as_str()], objects as f64);
    }
}

fn of_view(s: &mut Samples, o: &Overview, view: &View) {
    let host = view.host.as_str();
    s.set(&t::REPOSITORY_MISSING, &[host], view.missing as f64);
    s.set(&t::REPOSITORY_DAMAGED, &[host], view.damaged as f64);
    for key in &view.keys {
        s.set(&t::KEY_PROVEN, &[host, key.name.as_str(), &key.role], unix(key.proven));
    }
    let configured = o.plans.keys().filter(|_| view.host == o.host);
    let plans: BTreeSet<&Name> = view.backups.iter().map(|b| &b.plan).chain(configured).collect();
    for plan in plans {
        let labels = [host, plan.as_str()];
        s.set(&t::REPOSITORY_NEWEST, &labels, unix(view.newest_complete(plan).map(|b| b.at)));
        s.set(&t::REPOSITORY_PROVEN, &labels, unix(view.proven(plan)));
        if let Some(oldest) = view.of_plan(plan).next() {
            s.set(&t::REPOSITORY_OLDEST, &labels, unix(Some(oldest.at)));
        }
        let complete = view.of_plan(plan).filter(|b| b.complete).count();
        let unreadable = view.unreadable.iter().filter(|(p, _)| p == plan).count();
        let partial = view.of_plan(plan).count() - complete;
        for (state, n) in [("complete", complete), ("partial", partial), ("unreadable", unreadable)] {
            s.set(&t::REPOSITORY_BACKUPS, &[host, plan.as_str(), state], n as f64);
        }
        let Some(newest) = view.of_plan(plan).next_back() else { continue };
        for source in &newest.sources {
            let Some((backup, bytes, usual)) = view.sizes(plan, &source.name) else { continue };
            let labels = [host, plan.as_str(), source.name.as_str(), source.kind.as_str()];
            s.set(&t::REPOSITORY_SOURCE_NEWEST, &labels, unix(Some(backup.at)));
            s.set(&t::REPOSITORY_SOURCE_BYTES, &labels, bytes as f64);
            usual.iter().for_each(|usual| s.set(&t::REPOSITORY_SOURCE_USUAL, &labels, *usual as f64));
        }
    }
}

fn of_restores(s: &mut Samples, o: &Overview) {
    let host = o.host.as_str();
    s.set(&t::RESTORE_OPEN, &[host], f64::from(u8::from(o.open_restore.is_some())));
    if let Some(since) = o.open_restore {
        s.set(&t::RESTORE_OPEN_SINCE, &[host], unix(Some(since)));
    }
    let mut kept: BTreeMap<&Name, u64> = o.plans.keys().map(|plan| (plan, 0)).collect();
    for restore in o.restores.iter().filter(|r| r.kept) {
        *kept.entry(&restore.plan).or_default() += 1;
    }
    kept.into_iter().for_each(|(plan, n)| s.set(&t::RESTORE_KEPT, &[host, plan.as_str()], n as f64));
}
