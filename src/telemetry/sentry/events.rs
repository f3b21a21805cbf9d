//! What is sent to Sentry, in its protocol's types.

use super::super::monitor::{Failure, Run};
use super::{Options, Schedule};
use crate::model::{BackupId, Name};
use sentry::Envelope;
use sentry::protocol::{
    Breadcrumb, Context, Event, Exception, Level, Map, MonitorCheckIn, MonitorCheckInStatus, MonitorConfig,
    MonitorSchedule, SpanStatus, TraceContext, Transaction, Values,
};
use sentry::types::Uuid;
use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

/// Breadcrumbs that are kept: the newest.
const CRUMBS: usize = 100;
/// The length of a monitor's slug that Sentry takes.
const SLUG: usize = 50;

/// What went on before an error.
#[derive(Default)]
pub struct Crumbs(VecDeque<Breadcrumb>);

impl Crumbs {
    /// Adds one.
    pub fn add(&mut self, category: &str, level: Level, message: String) {
        if self.0.len() == CRUMBS {
            self.0.pop_front();
        }
        let (category, message) = (Some(category.to_owned()), Some(message));
        self.0.push_back(Breadcrumb { category, level, message, ..Breadcrumb::default() });
    }
}

/// A step that ended.
pub struct Span {
    /// Its name.
    pub name: String,
    /// When it began.
    pub began: SystemTime,
    /// When it ended.
    pub ended: SystemTime,
    /// Whether it failed.
    pub failed: bool,
}

/// What is known of every run.
pub fn tags(run: &Run) -> Map<String, String> {
    let mut tags = Map::new();
    tags.insert("verb".to_owned(), run.verb.to_string());
    tags.insert("host".to_owned(), run.host.to_string());
    tags.extend(run.plan.iter().map(|plan| ("plan".to_owned(), plan.to_string())));
    tags
}

/// An error. Those of the same command, plan, source and kind are one issue, whatever numbers their texts hold.
pub fn error(run: &Run, failure: &Failure, level: Level, tags: Map<String, String>, crumbs: &Crumbs) -> Event<'static> {
    let part = |name: &str| tags.get(name).cloned().unwrap_or_default().into();
    let fingerprint = vec![part("verb"), part("host"), part("plan"), part("source"), failure.kind.name().into()];
    let exception = Exception {
        ty: format!("{} failed: {}", run.verb, failure.kind.name()),
        value: Some(failure.text.clone()),
        ..Exception::default()
    };
    let mut extra = Map::new();
    extra.extend(failure.hint.iter().map(|hint| ("hint".to_owned(), hint.clone().into())));
    extra.insert("exit_code".to_owned(), failure.kind.exit_code().into());
    Event {
        level,
        transaction: Some(run.to_string()),
        exception: Values { values: vec![exception] },
        fingerprint: fingerprint.into(),
        breadcrumbs: Values { values: crumbs.0.iter().cloned().collect() },
        tags,
        extra,
        ..Event::default()
    }
}

/// A restore, rollback or drill as a transaction.
pub fn transaction(
    (run, backup, options): (&Run, Option<&BackupId>, &Options),
    begun: SystemTime,
    status: SpanStatus,
    spans: &[Span],
) -> Envelope {
    let trace = TraceContext { op: Some(run.verb.to_string()), status: Some(status), ..TraceContext::default() };
    let span = |span: &Span| sentry::protocol::Span {
        trace_id: trace.trace_id,
        parent_span_id: Some(trace.span_id),
        op: Some("step".to_owned()),
        description: Some(span.name.clone()),
        start_timestamp: span.began,
        timestamp: Some(span.ended),
        status: Some(if span.failed { SpanStatus::InternalError } else { SpanStatus::Ok }),
        ..Default::default()
    };
    let spans = spans.iter().map(span).collect();
    let mut tags = tags(run);
    tags.extend(backup.map(|id| ("backup".to_owned(), id.to_string())));
    let mut contexts = Map::new();
    contexts.insert("trace".to_owned(), Context::from(trace));
    Envelope::from(Transaction {
        name: Some(match &run.plan {
            Some(plan) => format!("{} {plan}", run.verb),
            None => run.verb.to_string(),
        }),
        release: Some(concat!("backstay@", env!("CARGO_PKG_VERSION")).into()),
        environment: Some(options.environment.clone().into()),
        server_name: Some(options.host.clone().into()),
        start_timestamp: begun,
        timestamp: Some(SystemTime::now()),
        tags,
        spans,
        contexts,
        ..Transaction::default()
    })
}

/// The fields of cron, when Sentry takes them.
pub fn crontab(text: &str) -> Option<MonitorSchedule> {
    MonitorSchedule::from_crontab(text).ok()
}

/// That a scheduled backup began or ended. Sentry makes the monitor when it does not know it, and takes over a changed
/// schedule.
pub fn check_in(
    run: &Run,
    plan: &Name,
    schedule: &Schedule,
    (id, status, seconds): (Uuid, MonitorCheckInStatus, Option<f64>),
    environment: &str,
) -> Option<Envelope> {
    let minutes = |d: Duration| Some(d.as_secs().div_ceil(60).max(1));
    let mut envelope = Envelope::new();
    envelope.add_item(MonitorCheckIn {
        check_in_id: id,
        monitor_slug: slug(run.host.as_str(), plan.as_str()),
        status,
        environment: Some(environment.to_owned()),
        duration: seconds,
        monitor_config: Some(MonitorConfig {
            schedule: crontab(&schedule.crontab)?,
            checkin_margin: minutes(schedule.margin),
            max_runtime: minutes(schedule.max_runtime),
            timezone: schedule.timezone.clone(),
            failure_issue_threshold: None,
            recovery_threshold: None,
        }),
    });
    Some(envelope)
}

/// A name for the monitor of a plan on a host, in the letters that Sentry takes.
fn slug(host: &str, plan: &str) -> String {
    let text = format!("{host}-{plan}").to_lowercase();
    let kept: String = text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect();
    if kept.len() <= SLUG {
        return kept;
    }
    // Cut names would meet: the rest is told by a hash.
    let hash = blake3::hash(text.as_bytes()).to_hex();
    format!("{}-{}", &kept[..SLUG - 9], &hash[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_what_sentry_takes_and_stay_apart() {
        assert_eq!(slug("Web-1.example", "shop.db"), "web-1-example-shop-db");
        let long = "x".repeat(64);
        let (a, b) = (slug(&long, "a"), slug(&long, "b"));
        assert!(a.len() == SLUG && b.len() == SLUG && a != b, "{a} {b}");
    }

    #[test]
    fn schedules_are_checked() {
        assert!(crontab("0 3 * * *").is_some());
        assert!(crontab("daily at three").is_none());
    }
}
