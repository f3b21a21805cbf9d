//! Whose backup is drilled: this host's own, whose configuration is at hand, or another one's, of which nothing is known but what
//! its backup holds.

use crate::cli::context::Context;
use crate::config::checks::{Check, What};
use crate::config::{Config, DrillPlan, load, recorded};
use crate::error::{Error, Kind, Result};
use crate::model::Name;
use crate::recovery::{chosen, select};
use crate::repository::manifest::Manifest;
use crate::repository::reader::Reader;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// See the module.
pub struct Whose {
    /// The configuration of this machine, if it has one.
    pub local: Option<Config>,
    /// Whether the backup is of this very host.
    is_own: bool,
    /// Where journal and lock are.
    pub state_dir: PathBuf,
}

impl Whose {
    /// Finds out. With a configuration, `--host` and `--repository` may still mean another host.
    ///
    /// # Errors
    /// [`Kind::Config`] when the configuration cannot be used.
    pub fn find(context: &Context) -> Result<Self> {
        let global = &context.global;
        let local = match global.repository.is_some() && !global.config.exists() {
            true => None,
            false => Some(load::load(&global.config)?),
        };
        let same_host = |c: &Config| global.host.as_ref().is_none_or(|host| host == c.host.as_str());
        let same_store = |c: &Config| global.repository.as_ref().is_none_or(|url| *url == c.storage.url);
        let is_own = local.as_ref().is_some_and(|c| same_host(c) && same_store(c));
        let state_dir = local.as_ref().map_or_else(state_dir, |c| c.state_dir.clone());
        Ok(Whose { local, is_own, state_dir })
    }

    /// The configuration, when it is that of the host whose backup is drilled.
    pub fn own(&self) -> Option<&Config> {
        self.local.as_ref().filter(|_| self.is_own)
    }

    /// The queries among the plan's checks: as they are configured here, or else as the backup has them. Gives also why
    /// there are none.
    ///
    /// # Errors
    /// When the backup cannot be read.
    pub async fn queries(
        &self,
        m: &Manifest,
        reader: &Reader,
        settings: &DrillPlan,
    ) -> Result<(Vec<Check>, Option<String>)> {
        if let Some(plan) = self.own().and_then(|c| c.plans.get(&m.plan)) {
            let wanted = |c: &&Check| matches!(c.what, What::Sql(_)) && !settings.skip_checks.contains(&c.name);
            return Ok((plan.restore.checks.iter().filter(wanted).cloned().collect(), None));
        }
        let mut sources: BTreeMap<Name, Vec<String>> = BTreeMap::new();
        for record in m.sources.iter().filter(|s| s.kind == "postgres" && s.is_complete()) {
            let names = chosen::facts_of(record)?.into_iter().map(|f| f.database).collect();
            sources.insert(record.name.clone(), names);
        }
        let Some(record) = m.sources.iter().find(|s| s.kind == "config" && s.is_complete()) else {
            return Ok((Vec::new(), None));
        };
        let text = reader.small(select::artifact(record, None)?).await?;
        match recorded::queries(&String::from_utf8_lossy(&text), &m.plan, &sources) {
            Ok(checks) => Ok((checks, None)),
            Err(e) if e.kind == Kind::Config => Ok((Vec::new(), Some(not_asked(&e)))),
            Err(e) => Err(e),
        }
    }
}

fn not_asked(e: &Error) -> String {
    format!("the plan's queries are not asked: {}", e.one_line())
}

/// Where a machine without a configuration has its state.
fn state_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("BACKSTAY__STATE_DIR").filter(|dir| !dir.is_empty()) {
        return dir.into();
    }
    let home = |name: &str| std::env::var_os(name).filter(|dir| !dir.is_empty()).map(PathBuf::from);
    match rustix::process::geteuid().is_root() {
        true => load::DEFAULT_STATE.into(),
        false => home("XDG_STATE_HOME")
            .or_else(|| Some(home("HOME")?.join(".local/state")))
            .map_or_else(|| load::DEFAULT_STATE.into(), |dir| dir.join("backstay")),
    }
}
