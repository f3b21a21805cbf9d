//! What a drill says.

use crate::cli::context::Context;
use crate::cli::output::{Align, Table, bad, good, json, notice, say};
use crate::cli::restore::report::{rows, verification};
use crate::error::Result;
use crate::model::{size, time};
use crate::recovery::drill::Outcome as Drilled;
use crate::recovery::drill::plan::Planned;
use crate::repository::drills::Outcome;
use crate::repository::manifest::Manifest;
use jiff::SignedDuration;

/// How it went.
pub struct Told<'a> {
    /// The backup.
    pub m: &'a Manifest,
    /// What it says of the backup; nothing when it says nothing.
    pub verdict: Option<Outcome>,
    /// What was found.
    pub outcome: &'a Drilled,
    /// What went where.
    pub planned: &'a Planned,
    /// What was not restored, and why.
    pub left_out: &'a [String],
    /// Bytes of data.
    pub bytes: u64,
}

fn words(seconds: f64) -> String {
    time::words(SignedDuration::from_millis((seconds * 1000.0) as i64))
}

impl Told<'_> {
    /// Prints it.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn print(&self, context: &Context, recorded: bool) -> Result<()> {
        let Drilled { failure, compared, checks, steps, seconds } = self.outcome;
        let servers: Vec<String> = self.planned.staging.servers.iter().map(|s| s.label()).collect();
        if context.global.json {
            return json(&serde_json::json!({
                "backup": self.m.id, "plan": self.m.plan, "host": self.m.host, "outcome": self.verdict,
                "error": failure.as_ref().map(crate::error::Error::one_line), "seconds": seconds, "bytes": self.bytes,
                "rows": rows(compared), "verified": compared, "checks": checks, "steps": steps, "scratch": servers,
                "left_out": self.left_out, "limits": self.planned.limits, "recorded": recorded,
            }));
        }
        let word = match (self.verdict, failure) {
            (Some(Outcome::Proven), _) => good("proven"),
            (_, None) => notice("partly proven"),
            _ => bad("failed"),
        };
        say(&format!(
            "{word} backup {} of plan {} on host {}, begun {} ({}), in {}",
            self.m.id,
            self.m.plan,
            self.m.host,
            time::utc(self.m.started),
            time::local(self.m.started),
            words(*seconds)
        ))?;
        let mut table = Table::new(&[("step", Align::Left), ("took", Align::Right)]);
        for step in steps {
            table.row(vec![step.name.clone(), words(step.seconds)]);
        }
        table.print()?;
        if !compared.is_empty() {
            verification(compared)?;
        }
        let text = |check: &serde_json::Value, key: &str| check[key].as_str().unwrap_or_default().to_owned();
        if !checks.is_empty() {
            let mut table = Table::new(&[("check", Align::Left), ("found", Align::Left)]);
            checks.iter().for_each(|check| table.row(vec![text(check, "name"), text(check, "found")]));
            table.print()?;
        }
        say(&format!(
            "  {} of data; nothing live was touched, and all that was staged is gone",
            size::human(self.bytes)
        ))?;
        for what in self.left_out {
            say(&format!("  {} {what}", notice("not proven:")))?;
        }
        for what in &self.planned.limits {
            say(&format!("  {} {what}", notice("not tried:")))?;
        }
        if recorded {
            say("  recorded in the repository")?;
        }
        Ok(())
    }
}
