//! A check of a log since the start: no more bad lines than are good still, watched for a while.

use super::Verdict;
use super::context::Context;
use super::logfile::{self, Mark};
use super::words::{excerpt, listed};
use crate::config::checks::{Log, LogOf};
use crate::error::Result;
use crate::host::docker::Docker;
use crate::host::systemd::journal;
use std::time::{Duration, Instant};

/// Bad lines that are told.
const LINES: usize = 3;
/// Characters of one.
const WIDTH: usize = 150;

/// What should be, in words.
pub(super) fn expected(log: &Log) -> String {
    let settle = log.settle.as_secs_f64();
    format!("at most {} lines like {:?} since the start, watched for {settle} s", log.maximum, log.pattern.as_str())
}

/// Whether there is somebody who writes such a log. A file need not be there before the start.
pub(super) async fn preflight(log: &Log) -> Result<()> {
    match &log.of {
        LogOf::Unit(name) => super::unit::preflight(name).await,
        LogOf::Container(name) | LogOf::Service(name) => super::container::preflight(name).await,
        LogOf::File(_) => Ok(()),
    }
}

/// What was counted.
#[derive(Default)]
struct Counted {
    lines: u64,
    bad: u64,
    first: Vec<String>,
}

impl Counted {
    fn told(&self) -> String {
        let lines = crate::model::size::plural(self.lines, "line");
        match self.bad {
            0 => format!("none of {lines}"),
            bad => format!("{bad} of {lines}: {}", listed(&self.first, " | ")),
        }
    }
}

/// Watches until the time is over, or there are too many.
pub(super) async fn look(log: &Log, context: &Context, every: Duration) -> Verdict {
    let started = Instant::now();
    let mark = match &log.of {
        LogOf::File(path) => context.marks.0.get(path).copied().unwrap_or_else(|| Mark::of(path)),
        _ => Mark::default(),
    };
    loop {
        let counted = match count(log, context, &mark).await {
            Ok(counted) => counted,
            // A log that is just being made, by a container or a program that is.
            Err(e) => return Verdict::Bad(e.one_line()),
        };
        if counted.bad > log.maximum {
            // They do not go away again.
            return Verdict::Final(counted.told());
        }
        let left = log.settle.saturating_sub(started.elapsed());
        if left.is_zero() {
            return Verdict::Good(counted.told());
        }
        tokio::time::sleep(left.min(every)).await;
    }
}

async fn count(log: &Log, context: &Context, mark: &Mark) -> Result<Counted> {
    let mut counted = Counted::default();
    let mut each = |line: &str| {
        counted.lines += 1;
        if log.pattern.is_match(line) && !log.ignore.as_ref().is_some_and(|harmless| harmless.is_match(line)) {
            counted.bad += 1;
            if counted.first.len() < LINES {
                counted.first.push(excerpt(line, WIDTH));
            }
        }
    };
    match &log.of {
        LogOf::Unit(name) => journal::lines_since(name, context.since, &mut each).await?,
        LogOf::Container(name) => Docker::connect().await?.container_log(name, context.since, &mut each).await?,
        LogOf::Service(name) => Docker::connect().await?.service_log(name, context.since, &mut each).await?,
        LogOf::File(path) => logfile::lines(path, mark, &mut each)?,
    }
    Ok(counted)
}
