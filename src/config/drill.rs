//! `[plans.NAME.drill]`: how a plan's backups are restored for proof, from keys to the checked type.

use super::checks::{Check, What};
use crate::error::{Error, Kind, Result};
use crate::model::{size, time};
use serde::{Deserialize, Serialize};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

/// Where everything is staged that needs no server of its own.
const DIR: &str = "/var/tmp";
/// How long a drill may take.
const TIMEOUT: Duration = Duration::from_secs(12 * 60 * 60);

/// The section as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawDrill {
    /// The PostgreSQL that databases are loaded into.
    pub scratch: Option<Scratch>,
    /// The image of a container for that.
    pub image: Option<String>,
    /// Where the rest is staged.
    pub dir: Option<PathBuf>,
    /// The room that it may take there.
    pub max_bytes: Option<String>,
    /// The time that it may take.
    pub timeout: Option<String>,
    /// Bytes per second from the store.
    pub limit_download: Option<String>,
    /// Whether everybody else goes first.
    pub low_priority: Option<bool>,
    /// Checks that only the running application passes.
    #[serde(default, deserialize_with = "crate::model::list::list")]
    pub skip_checks: Vec<String>,
}

/// The PostgreSQL that databases are loaded into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scratch {
    /// A cluster of its own, made with the programs of the recorded version that are installed here.
    Cluster,
    /// A server in a container of its own.
    Container,
    /// The server of the source itself, under names of their own.
    Live,
}

impl std::str::FromStr for Scratch {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "cluster" => Ok(Scratch::Cluster),
            "container" => Ok(Scratch::Container),
            "live" => Ok(Scratch::Live),
            _ => Err("write cluster, container or live".to_owned()),
        }
    }
}

/// The section.
#[derive(Clone, Debug)]
pub struct DrillPlan {
    /// The PostgreSQL that databases are loaded into; nothing means the first of the three that can be had.
    pub scratch: Option<Scratch>,
    /// The image of a container for that; nothing means that of the source's own container.
    pub image: Option<String>,
    /// Where the rest is staged.
    pub dir: PathBuf,
    /// The room that it may take there. Bytes.
    pub max_bytes: Option<u64>,
    /// The time that it may take.
    pub timeout: Duration,
    /// Bytes per second from the store.
    pub limit_download: Option<NonZeroU64>,
    /// Whether everybody else on this machine goes first.
    pub low_priority: bool,
    /// Names of checks that only the running application passes.
    pub skip_checks: Vec<String>,
}

impl Default for DrillPlan {
    fn default() -> Self {
        DrillPlan {
            scratch: None,
            image: None,
            dir: DIR.into(),
            max_bytes: None,
            timeout: TIMEOUT,
            limit_download: None,
            low_priority: true,
            skip_checks: Vec::new(),
        }
    }
}

/// The section of a plan; `checks` are those of its `[restore]` section.
///
/// # Errors
/// [`Kind::Config`] for what does not fit together.
pub(super) fn drill_of(raw: RawDrill, checks: &[Check]) -> Result<DrillPlan> {
    let default = DrillPlan::default();
    let wrong = |what: String| Error::new(Kind::Config, what);
    let dir = raw.dir.unwrap_or(default.dir);
    if !dir.is_absolute() {
        return Err(wrong(format!("`dir` is {}, which is no absolute path", dir.display())));
    }
    let known = |name: &&String| checks.iter().any(|c| c.name == **name && matches!(c.what, What::Sql(_)));
    if let Some(unknown) = raw.skip_checks.iter().find(|name| !known(name)) {
        let names: Vec<&str> = checks.iter().map(|c| c.name.as_str()).collect();
        return Err(wrong(format!("`skip_checks` names {unknown:?}, which is no SQL check of the plan"))
            .hint(format!("Its checks are: {}.", names.join(", "))));
    }
    if raw.image.is_some() && raw.scratch.is_some_and(|s| s != Scratch::Container) {
        return Err(wrong("`image` is of a container, and `scratch` asks for none".to_owned()));
    }
    let timeout = match &raw.timeout {
        None => default.timeout,
        Some(text) => timeout(text)?,
    };
    Ok(DrillPlan {
        scratch: raw.scratch,
        image: raw.image,
        dir,
        max_bytes: raw.max_bytes.as_deref().map(size::parse).transpose()?,
        timeout,
        limit_download: raw.limit_download.as_deref().map(size::parse).transpose()?.and_then(NonZeroU64::new),
        low_priority: raw.low_priority.unwrap_or(default.low_priority),
        skip_checks: raw.skip_checks,
    })
}

/// A time that is more than nothing.
///
/// # Errors
/// [`Kind::Config`].
pub fn timeout(text: &str) -> Result<Duration> {
    let parsed = Duration::try_from(time::parse_duration(text)?).unwrap_or_default();
    match parsed {
        Duration::ZERO => Err(Error::new(Kind::Config, format!("`timeout` is {text:?}, which is no time at all"))),
        timeout => Ok(timeout),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: serde_json::Value) -> Result<DrillPlan> {
        drill_of(serde_json::from_value(value).unwrap(), &[])
    }

    #[test]
    fn every_key_has_a_default_and_what_does_not_fit_is_named() {
        let all = read(serde_json::json!({
            "scratch": "container", "image": "postgres:15", "dir": "/srv/drills", "max_bytes": "2GiB", "timeout": "30m",
            "limit_download": "5MiB", "low_priority": false,
        }))
        .unwrap();
        assert_eq!((all.scratch, all.max_bytes), (Some(Scratch::Container), Some(2 << 30)));
        assert_eq!((all.timeout.as_secs(), all.low_priority), (1800, false));
        let none = read(serde_json::json!({})).unwrap();
        assert_eq!((none.scratch, none.dir.as_path(), none.low_priority), (None, std::path::Path::new(DIR), true));
        for (value, said) in [
            (serde_json::json!({ "dir": "drills" }), "absolute"),
            (serde_json::json!({ "timeout": "0s" }), "no time at all"),
            (serde_json::json!({ "skip_checks": ["rows"] }), "rows"),
            (serde_json::json!({ "scratch": "live", "image": "postgres:15" }), "`image`"),
        ] {
            let e = read(value).unwrap_err();
            assert!(e.kind == Kind::Config && e.to_string().contains(said), "{e}");
        }
    }
}
