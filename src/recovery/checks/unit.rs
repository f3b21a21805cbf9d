//! A check of a unit of systemd: in the state that it should have, and not starting over and over.

use super::Verdict;
use crate::config::checks::UnitState;
use crate::error::{Error, Kind, Result};
use crate::host::systemd;
use crate::host::systemd::unit::Unit;
use std::time::Duration;

/// What should be, in words.
pub(super) fn expected(unit: &UnitState) -> String {
    let sub = unit.sub.as_ref().map(|sub| format!(" ({sub})")).unwrap_or_default();
    format!("{} {}{sub}, and not started again for {} s", unit.unit, unit.state, unit.settle.as_secs_f64())
}

fn unknown(unit: &str, load: &str) -> String {
    format!("systemd knows no unit {unit}: it is {load}")
}

/// Whether there is such a unit.
pub(super) async fn preflight(name: &str) -> Result<()> {
    match systemd::look(name).await?.load.as_str() {
        "loaded" => Ok(()),
        load => Err(Error::new(Kind::Refused, unknown(name, load))
            .hint("Correct the name; `systemctl list-units --all` shows what there is.")),
    }
}

/// Looks, and looks again after a while. A systemd that does not answer has the limit of one try.
pub(super) async fn look(wanted: &UnitState, limit: Duration) -> Verdict {
    let once = async || {
        let late = |_| Err(Error::new(Kind::Source, "systemd does not answer in time"));
        tokio::time::timeout(limit, systemd::look(&wanted.unit)).await.unwrap_or_else(late)
    };
    let before = match once().await {
        Ok(seen) => seen,
        Err(e) => return Verdict::Bad(e.one_line()),
    };
    if let Some(verdict) = wrong(wanted, &before) {
        return verdict;
    }
    tokio::time::sleep(wanted.settle).await;
    let after = match once().await {
        Ok(seen) => seen,
        Err(e) => return Verdict::Bad(e.one_line()),
    };
    match wrong(wanted, &after) {
        Some(verdict) => verdict,
        None if (&before.restarts, &before.invocation) != (&after.restarts, &after.invocation) => {
            Verdict::Bad(format!("{}, and started again within {} s", told(&after), wanted.settle.as_secs_f64()))
        }
        None => Verdict::Good(told(&after)),
    }
}

fn told(seen: &Unit) -> String {
    let result =
        if seen.result.is_empty() || seen.result == "success" { String::new() } else { format!(": {}", seen.result) };
    format!("{}{result}", seen.state())
}

fn wrong(wanted: &UnitState, seen: &Unit) -> Option<Verdict> {
    if seen.load != "loaded" {
        return Some(Verdict::Final(unknown(&wanted.unit, &seen.load)));
    }
    let good = seen.active == wanted.state && wanted.sub.as_ref().is_none_or(|sub| *sub == seen.sub);
    if good {
        return None;
    }
    // systemd starts it no more, and nobody else will before we are through.
    let ended = seen.active == "failed" && wanted.state != "failed";
    Some(if ended { Verdict::Final(told(seen)) } else { Verdict::Bad(told(seen)) })
}
