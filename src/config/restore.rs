//! `[plans.NAME.restore]`: how the application is treated around a restore, from keys to the checked type.

use super::SourceConfig;
use super::checks::{Check, Hook, RawCheck, RawHook, When, checks_of, hooks_of};
use super::flush::{Flush, flushes_of};
use super::target::Target;
use crate::error::{Error, Kind, Result};
use crate::host::nginx::config::Settings;
use crate::model::{Name, time};
use config::{Value, ValueKind};
use jiff::SignedDuration;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::path::Path;

/// How long what was there before a restore is kept.
const DEFAULT_KEEP_PREVIOUS: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The section as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRestore {
    /// What is stopped, in order.
    #[serde(default, deserialize_with = "crate::model::list::list")]
    pub stop: Vec<String>,
    /// Of those, or besides, what starts only when the checks have passed.
    #[serde(default, deserialize_with = "crate::model::list::list")]
    pub start_after_checks: Vec<String>,
    /// What of `stop` has to do with a source: for a restore of that source alone.
    #[serde(default)]
    pub stop_for: BTreeMap<String, Vec<String>>,
    /// Whether nginx shows a page, or how.
    pub maintenance: Option<RawMaintenance>,
    /// How long what was live is kept, `7d`.
    pub keep_previous: Option<String>,
    /// What must be so after the start.
    #[serde(default)]
    pub checks: Vec<RawCheck>,
    /// What is done with what is staged.
    #[serde(default)]
    pub after_stage: Vec<RawHook>,
    /// What is done with what is in place, before the start.
    #[serde(default)]
    pub after_swap: Vec<RawHook>,
    /// What is emptied when databases go back: caches and queues.
    #[serde(default, deserialize_with = "crate::model::list::list")]
    pub flush: Vec<String>,
}

/// `maintenance = true`, or a table as `[maintenance]`.
#[derive(Debug)]
pub enum RawMaintenance {
    /// As `[maintenance]` says, or not at all.
    Use(bool),
    /// In this way.
    Own(Box<Settings>),
}

/// An untagged enum would keep texts from the environment as they came, and would say of a mistyped key only that nothing
/// fits. So what is written decides, and the config crate converts as it does elsewhere.
impl<'de> Deserialize<'de> for RawMaintenance {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let read = match value.kind {
            ValueKind::Table(_) => Settings::deserialize(value).map(|own| RawMaintenance::Own(Box::new(own))),
            _ => bool::deserialize(value).map(RawMaintenance::Use),
        };
        read.map_err(serde::de::Error::custom)
    }
}

/// The section.
#[derive(Clone, Debug)]
pub struct RestorePlan {
    /// What is stopped, in order.
    pub stop: Vec<Target>,
    /// What starts only when the checks have passed.
    pub start_after_checks: Vec<Target>,
    /// What has to do with a source.
    pub stop_for: BTreeMap<Name, Vec<Target>>,
    /// The nginx that shows a page.
    pub maintenance: Option<Settings>,
    /// How long what was live is kept.
    pub keep_previous: SignedDuration,
    /// What must be so after the start.
    pub checks: Vec<Check>,
    /// What is done with what is staged.
    pub after_stage: Vec<Hook>,
    /// What is done with what is in place.
    pub after_swap: Vec<Hook>,
    /// What is emptied when databases go back.
    pub flush: Vec<Flush>,
}

impl Default for RestorePlan {
    fn default() -> Self {
        RestorePlan {
            stop: Vec::new(),
            start_after_checks: Vec::new(),
            stop_for: BTreeMap::new(),
            maintenance: None,
            keep_previous: DEFAULT_KEEP_PREVIOUS,
            checks: Vec::new(),
            after_stage: Vec::new(),
            after_swap: Vec::new(),
            flush: Vec::new(),
        }
    }
}

fn targets(texts: &[String]) -> Result<Vec<Target>> {
    texts.iter().map(|t| t.parse()).collect()
}

/// The section of a plan; `key` is its path, `dir` that of relative files, `maintenance` what the file says for all plans,
/// `of_plan` the plan's sources.
///
/// # Errors
/// [`Kind::Config`] for what does not fit together.
pub(super) fn restore_of(
    raw: RawRestore,
    key: &str,
    dir: &Path,
    of_plan: &[Name],
    sources: &BTreeMap<Name, SourceConfig>,
    maintenance: Option<&Settings>,
) -> Result<RestorePlan> {
    let wrong = |what: String| Error::new(Kind::Config, what);
    let (stop, late) = (targets(&raw.stop)?, targets(&raw.start_after_checks)?);
    let mut stop_for = BTreeMap::new();
    for (source, texts) in &raw.stop_for {
        let name: Name = source.parse()?;
        if !of_plan.contains(&name) {
            return Err(wrong(format!("`{key}.stop_for` names the source {name}, which the plan does not have"))
                .hint(format!("It has: {}.", of_plan.iter().map(Name::as_str).collect::<Vec<_>>().join(", "))));
        }
        let some = targets(texts)?;
        if let Some(other) = some.iter().find(|t| !stop.contains(t) && !late.contains(t)) {
            return Err(wrong(format!("`{key}.stop_for.{name}` names {other}, which `stop` does not"))
                .hint("`stop` has everything that is ever stopped, in its order; `stop_for` picks from it."));
        }
        stop_for.insert(name, some);
    }
    let maintenance = match raw.maintenance {
        Some(RawMaintenance::Use(false)) => None,
        Some(RawMaintenance::Own(settings)) => Some(settings.of_file_in(dir)?),
        Some(RawMaintenance::Use(true)) if maintenance.is_none() => Some(Settings::default()),
        None if stop.is_empty() && late.is_empty() => None,
        _ => maintenance.cloned(),
    };
    Ok(RestorePlan {
        stop,
        start_after_checks: late,
        stop_for,
        maintenance,
        keep_previous: raw.keep_previous.as_deref().map_or(Ok(DEFAULT_KEEP_PREVIOUS), time::parse_duration)?,
        checks: checks_of(raw.checks, &format!("{key}.checks"), dir, sources)?,
        after_stage: hooks_of(raw.after_stage, When::AfterStage, &format!("{key}.after_stage"), dir, sources)?,
        after_swap: hooks_of(raw.after_swap, When::AfterSwap, &format!("{key}.after_swap"), dir, sources)?,
        flush: flushes_of(&raw.flush, &format!("{key}.flush"), sources)?,
    })
}

impl RestorePlan {
    /// What of the lists is stopped for these sources: everything, unless each of them has its own.
    pub fn stopped_for(&self, sources: &[Name]) -> (Vec<Target>, Vec<Target>) {
        let own: Option<Vec<&Vec<Target>>> = sources.iter().map(|s| self.stop_for.get(s)).collect();
        let Some(own) = own.filter(|_| !sources.is_empty()) else {
            return (self.stop.clone(), self.start_after_checks.clone());
        };
        let of = |all: &[Target]| all.iter().filter(|t| own.iter().any(|o| o.contains(t))).cloned().collect();
        (of(&self.stop), of(&self.start_after_checks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_stops_what_belongs_to_it_and_what_has_no_list_stops_everything() {
        let raw: RawRestore = serde_json::from_value(serde_json::json!({
            "stop": ["beat", "worker", "web"], "start_after_checks": ["beat"],
            "stop_for": { "db": ["web", "beat"], "static": [] },
        }))
        .unwrap();
        let name = |n: &str| n.parse::<Name>().unwrap();
        let all = [name("db"), name("static"), name("etc")];
        let plan = restore_of(raw, "plans.p.restore", Path::new("/"), &all, &BTreeMap::new(), None).unwrap();
        let stopped = |sources: &[&str]| {
            let (stop, late) = plan.stopped_for(&sources.iter().map(|s| name(s)).collect::<Vec<_>>());
            let text = |targets: Vec<Target>| targets.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            (text(stop), text(late))
        };
        assert_eq!(stopped(&["db"]), ("beat.service web.service".into(), "beat.service".into()));
        assert_eq!(stopped(&["static"]), (String::new(), String::new()));
        assert_eq!(stopped(&["db", "etc"]).0, "beat.service worker.service web.service");
        assert_eq!(stopped(&[]).0, "beat.service worker.service web.service");
    }

    #[test]
    fn a_page_of_the_plans_own_lies_beside_the_configuration() {
        let page = |written: &str| {
            let raw = serde_json::json!({ "stop": ["web"], "maintenance": { "page": written } });
            let raw: RawRestore = serde_json::from_value(raw).unwrap();
            let dir = Path::new("/etc/backstay");
            let plan = restore_of(raw, "plans.p.restore", dir, &[], &BTreeMap::new(), None).unwrap();
            plan.maintenance.unwrap().page.unwrap()
        };
        assert_eq!(page("down.html"), Path::new("/etc/backstay/down.html"));
        assert_eq!(page("/srv/down.html"), Path::new("/srv/down.html"));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let of = |value| {
            let raw: RawRestore = serde_json::from_value(value).unwrap();
            let plan = ["db".parse().unwrap()];
            restore_of(raw, "plans.p.restore", Path::new("/"), &plan, &BTreeMap::new(), None).unwrap_err().to_string()
        };
        assert!(of(serde_json::json!({ "stop_for": { "other": [] } })).contains("other"));
        assert!(of(serde_json::json!({ "stop": ["a"], "stop_for": { "db": ["b"] } })).contains("b.service"));
    }
}
