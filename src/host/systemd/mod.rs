//! systemd of this machine, through `systemctl`.
//!
//! It speaks with the first process itself, so it works without a message bus, early at boot too, and it waits for the
//! jobs that it asks for. [`unit`] is what there is to know of a unit, [`hold`] keeps one from starting, [`journal`] is what
//! it said.

pub mod hold;
pub mod journal;
pub mod unit;

use super::exec::Program;
use crate::error::{Error, Kind, Result};
use std::time::Duration;
use unit::Unit;

/// How long systemd may take to answer a question, or to read its files.
const ANSWER: Duration = Duration::from_secs(90);
/// Names that are proposed for one that is unknown.
const PROPOSED: usize = 8;

async fn systemctl(args: &[&str], limit: Duration) -> Result<Vec<u8>> {
    let program = Program::new("systemctl", args.iter().copied());
    match tokio::time::timeout(limit, program.output()).await {
        Ok(result) => result.map_err(|e| e.kind(Kind::Restore)),
        Err(_) => Err(Error::new(Kind::Restore, format!("systemctl {} does not end", args[0]))
            .because(format!("it was waited for {} seconds", limit.as_secs()))
            .hint("`systemctl list-jobs` shows what systemd waits for.")),
    }
}

/// What systemd knows of a unit, also of one that there is not: then it says so.
///
/// # Errors
/// When systemd does not answer.
pub async fn look(name: &str) -> Result<Unit> {
    let properties = format!("--property={}", unit::PROPERTIES);
    let out = systemctl(&["show", &properties, "--", name], ANSWER).await.map_err(|e| e.at(name))?;
    Ok(Unit::parse(name, &String::from_utf8_lossy(&out)))
}

/// Starts a unit and waits until it has started, or failed to. Nothing happens to one that runs, or that a condition
/// keeps from starting.
///
/// # Errors
/// [`Kind::Restore`] with what systemd says about its job.
pub async fn start(unit: &Unit) -> Result<()> {
    // A target would start all that it wants, also what did not run.
    let mode = if unit.name.ends_with(".target") { "--job-mode=ignore-dependencies" } else { "--job-mode=replace" };
    systemctl(&["start", mode, "--", &unit.name], unit.start_limit).await.map(drop).map_err(|e| of(&unit.name, e))
}

/// Asks for the start of a unit and does not wait.
///
/// # Errors
/// [`Kind::Restore`] when systemd refuses.
pub async fn begin(unit: &Unit) -> Result<()> {
    systemctl(&["start", "--no-block", "--", &unit.name], ANSWER).await.map(drop).map_err(|e| of(&unit.name, e))
}

/// Stops a unit and waits until it has stopped; systemd kills it when its time is up.
///
/// # Errors
/// [`Kind::Restore`] with what systemd says about its job.
pub async fn stop(unit: &Unit) -> Result<()> {
    systemctl(&["stop", "--", &unit.name], unit.stop_limit).await.map(drop).map_err(|e| of(&unit.name, e))
}

/// Has a unit read its files again, or starts it anew where it cannot, and waits for the end of that.
///
/// # Errors
/// [`Kind::Restore`] with what systemd says about its job.
pub async fn reload_or_restart(unit: &Unit) -> Result<()> {
    let limit = unit.start_limit + unit.stop_limit;
    systemctl(&["reload-or-restart", "--", &unit.name], limit).await.map(drop).map_err(|e| of(&unit.name, e))
}

/// Keeps a unit from starting at boot, and stops it.
///
/// # Errors
/// [`Kind::Restore`] with what systemd says.
pub async fn disable(name: &str) -> Result<()> {
    systemctl(&["disable", "--now", "--quiet", "--", name], ANSWER).await.map(drop).map_err(|e| of(name, e))
}

/// Has a unit start at boot, and does not start it now.
///
/// # Errors
/// [`Kind::Restore`] with what systemd says.
pub async fn enable(name: &str) -> Result<()> {
    systemctl(&["enable", "--quiet", "--", name], ANSWER).await.map(drop).map_err(|e| of(name, e))
}

/// Lets systemd read its files again.
///
/// # Errors
/// [`Kind::Restore`].
pub async fn reload() -> Result<()> {
    systemctl(&["daemon-reload"], ANSWER).await.map(drop)
}

fn of(unit: &str, e: Error) -> Error {
    e.at(unit).hint(format!("`systemctl status {unit}` and `journalctl -u {unit}` say more."))
}

/// Units of the machine with a name like this one, for the message about one that there is not.
pub async fn similar(name: &str) -> Vec<String> {
    alike(name, listed(&[]).await)
}

/// The unit of this name, without its kind, in each kind that there is, and the instances of its template, loaded or
/// installed. None without systemd. Only they are asked for: for each file that is listed systemd looks through all
/// directories for what enables it, which for all of a machine takes a second of the first process.
pub async fn of_name(name: &str) -> Vec<String> {
    let all = listed(&[&format!("{name}.*"), &format!("{name}@*")]).await;
    // A template, `NAME@.service`, is no unit.
    all.into_iter().filter(|unit| !unit.starts_with(&format!("{name}@."))).collect()
}

/// Those that match one of these patterns, or all.
async fn listed(patterns: &[&str]) -> Vec<String> {
    let mut all = Vec::new();
    for list in ["list-unit-files", "list-units"] {
        let args = [list, "--all", "--plain", "--full", "--no-legend", "--no-pager", "--"];
        let out = systemctl(&[&args[..], patterns].concat(), ANSWER).await.unwrap_or_default();
        let text = String::from_utf8_lossy(&out).into_owned();
        all.extend(text.lines().filter_map(|l| l.split_whitespace().next()).map(str::to_owned));
    }
    all.sort();
    all.dedup();
    all
}

/// Those that share a word of some length with the name.
fn alike(name: &str, all: Vec<String>) -> Vec<String> {
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let words: Vec<&str> = stem.split(['-', '@', '.', '_']).filter(|w| w.len() > 2).collect();
    let kinds = [".service", ".timer", ".socket", ".path", ".target"];
    let shared = |unit: &String| words.iter().filter(|w| unit.contains(**w)).count();
    let mut found: Vec<String> =
        all.into_iter().filter(|u| kinds.iter().any(|k| u.ends_with(k)) && shared(u) > 0).collect();
    found.sort_by_key(|u| std::cmp::Reverse(shared(u)));
    found.truncate(PROPOSED);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_share_a_word_are_proposed_best_first() {
        let all = ["cron.service", "erp-web.service", "erp-celery.service", "erp.mount", "x-erp.slice"];
        let found = alike("erp-celry-web.service", all.map(str::to_owned).to_vec());
        assert_eq!(found, ["erp-web.service", "erp-celery.service"]);
        assert!(alike("ab.service", vec!["ab2.service".into()]).is_empty());
    }
}
