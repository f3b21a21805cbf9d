//! Whether the application is well: what a plan checks after a restore has started it, each with retries until a
//! deadline.
//!
//! [`Check::run`] never fails: that something cannot be looked at is told like that it is wrong. What is looked at is
//! one file a kind: [`http`] (with a [`browser`] that logs in), [`sql`], [`command`], [`tcp`], [`container`], [`unit`],
//! [`log`]. [`context`] is what a check knows of the restore, [`step`] makes steps of it.

mod browser;
mod command;
mod container;
pub mod context;
mod cookies;
mod csrf;
mod http;
mod log;
mod logfile;
mod login;
mod sql;
pub mod step;
mod tcp;
mod unit;
mod wanted;
mod words;

pub(in crate::recovery) use sql::as_live;

use crate::config::checks::{Auth, Check, What};
use crate::config::secret::Secret;
use crate::error::{Error, Kind, Result};
use crate::sources::command::run::hide;
use context::Context;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};
use words::excerpt;

/// Characters of a finding that are kept.
const FOUND: usize = 600;

/// How a check went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The check's name.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// Whether all is as it should be.
    pub good: bool,
    /// Whether what is checked answered at all; without an answer nothing speaks against it.
    #[serde(default = "yes")]
    pub asked: bool,
    /// How often it looked.
    pub tries: u32,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// What should be.
    pub expected: String,
    /// What was found at last; never a secret of the configuration.
    pub found: String,
}

fn yes() -> bool {
    true
}

/// What one look told.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// All is well.
    Good(String),
    /// Not yet, perhaps.
    Bad(String),
    /// Nobody answered, perhaps not yet.
    Unasked(String),
    /// Looking again would not help, or do harm.
    Final(String),
    /// The deadline came before it could be seen.
    Cut(String),
}

impl Check {
    /// Looks until all is well, the deadline has come, or looking again does not help.
    pub async fn run(&self, context: &Context) -> Outcome {
        let started = Instant::now();
        let mut tries = 0;
        let mut last = None;
        let (good, asked, found) = loop {
            tries += 1;
            let left = self.within.saturating_sub(started.elapsed());
            let (asked, found) = match self.look(context, left).await {
                Verdict::Good(found) => break (true, true, found),
                Verdict::Final(found) => break (false, true, found),
                // What was seen before tells more than that the time was over.
                Verdict::Cut(found) => {
                    let (asked, found) = last.unwrap_or((false, found));
                    break (false, asked, found);
                }
                Verdict::Bad(found) => (true, found),
                Verdict::Unasked(found) => (false, found),
            };
            if started.elapsed() + self.every >= self.within {
                break (false, asked, found);
            }
            last = Some((asked, found));
            tokio::time::sleep(self.every).await;
        };
        let found = hide(&found, self.secrets());
        Outcome {
            name: self.name.clone(),
            kind: self.kind().to_owned(),
            good,
            asked,
            tries,
            took_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            expected: self.expected(),
            found: excerpt(&found, FOUND),
        }
    }

    /// One look. What must stay so for a while may take all the time that is left.
    async fn look(&self, context: &Context, left: Duration) -> Verdict {
        let limit = match &self.what {
            What::Container(_) | What::Unit(_) | What::Log(_) => left,
            _ => self.timeout.min(left),
        };
        let look = async {
            match &self.what {
                What::Http(http) => http::look(http).await,
                What::Sql(query) => sql::look(query, context, limit).await,
                What::Command(command) => command::look(command, limit).await,
                What::Tcp(port) => tcp::look(port).await,
                What::Container(stays) => container::look(stays, self.timeout).await,
                What::Unit(unit) => unit::look(unit, self.timeout).await,
                What::Log(log) => log::look(log, context, self.every).await,
            }
        };
        let silent = format!("no answer within {:.1} s", limit.as_secs_f64());
        match tokio::time::timeout(limit, look).await {
            Ok(verdict) => verdict,
            Err(_) if limit < left => Verdict::Unasked(silent),
            Err(_) => Verdict::Cut(silent),
        }
    }

    /// What should be, in words.
    pub fn expected(&self) -> String {
        match &self.what {
            What::Http(http) => http::expected(http),
            What::Sql(query) => {
                wanted::expected(&query.wanted, "at least one row that begins with neither NULL nor false")
            }
            What::Command(command) => command::expected(command),
            What::Tcp(port) => tcp::expected(port),
            What::Container(stays) => container::expected(stays),
            What::Unit(unit) => unit::expected(unit),
            What::Log(log) => log::expected(log),
        }
    }

    /// Looks whether the check can work at all, so that a wrong name does not come out when the application stands still.
    /// Nothing is asked of the application itself.
    ///
    /// # Errors
    /// [`Kind::Refused`] with what is missing.
    pub async fn preflight(&self) -> Result<()> {
        let looked = match &self.what {
            What::Http(http) => browser::Browser::new(http).map(drop).map_err(|why| Error::new(Kind::Refused, why)),
            What::Command(command) => command::preflight(command),
            What::Unit(unit) => unit::preflight(&unit.unit).await,
            What::Container(stays) => container::preflight(&stays.reference).await,
            What::Log(log) => log::preflight(log).await,
            What::Sql(_) | What::Tcp(_) => Ok(()),
        };
        looked.map_err(|e| {
            let what = format!("the check {} cannot work: {}", self.name, e.what);
            Error { what, ..e }.kind(Kind::Refused)
        })
    }

    /// Everything that no message may hold.
    fn secrets(&self) -> Vec<&Secret> {
        match &self.what {
            What::Http(http) => {
                let auth = http.auth.as_ref().map(|(Auth::Bearer(secret) | Auth::Basic(_, secret))| secret);
                let login = http.login.as_ref().and_then(|login| login.password.as_ref());
                let headers = http.secret_headers.iter().map(|(_, secret)| secret);
                headers.chain(auth).chain(login.map(|(_, password)| password)).collect()
            }
            What::Command(command) => command.runner.secrets.iter().map(|(_, secret)| secret).collect(),
            What::Sql(query) => query.place.server.address.password().into_iter().collect(),
            _ => Vec::new(),
        }
    }
}

impl Outcome {
    /// The error of one that is not good.
    pub fn error(&self) -> Error {
        let tries = crate::model::size::plural(u64::from(self.tries), "try");
        let seconds = self.took_ms as f64 / 1000.0;
        Error::new(Kind::Mismatch, format!("the check {} failed", self.name))
            .because(format!("expected {}\nfound {}\nafter {tries} in {seconds:.1} s", self.expected, self.found))
            .hint("Look at the application's log. When the check asks too much, or too early, correct it: docs/checks.md.")
    }
}
