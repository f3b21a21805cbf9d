//! Units of systemd: what is to run, and what does.

use super::told;
use crate::error::Result;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// States of unit files that somebody chose; the others follow from the packages.
const CHOSEN: &[&str] = &["enabled", "enabled-runtime", "linked", "disabled", "masked"];
/// Kinds of units whose state is told.
const KINDS: &str = "--type=service,timer,socket,path";

/// Units.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Units {
    /// State of unit files by name: `enabled`, `disabled`, `masked`, `linked`, `enabled-runtime`.
    pub files: BTreeMap<String, String>,
    /// Services, timers, sockets and paths that are active; `None` when systemd does not run.
    pub active: Option<BTreeSet<String>>,
    /// Those that failed.
    pub failed: BTreeSet<String>,
}

impl Units {
    /// Units that start at boot.
    pub fn enabled(&self) -> impl Iterator<Item = &str> {
        self.files.iter().filter(|(_, state)| *state == "enabled").map(|(name, _)| name.as_str())
    }
}

/// `None` on a machine without systemd.
pub(super) async fn read() -> Result<Option<Units>> {
    if !Path::new("/etc/systemd/system").exists() {
        return Ok(None);
    }
    let mut units = Units {
        files: files(&told("systemctl", &["list-unit-files", "--no-legend", "--plain"]).await?),
        ..Units::default()
    };
    // Otherwise it is in a container, or another program is the first one.
    if Path::new("/run/systemd/system").exists() {
        let listed = async |state: &str| -> Result<BTreeSet<String>> {
            let out = told("systemctl", &["list-units", "--no-legend", "--plain", KINDS, state]).await?;
            Ok(out.lines().filter_map(|l| l.split_whitespace().next().map(str::to_owned)).collect())
        };
        units.active = Some(listed("--state=active").await?);
        units.failed = listed("--state=failed").await?;
    }
    Ok(Some(units))
}

fn files(listed: &str) -> BTreeMap<String, String> {
    let pairs = listed.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?, words.next()?))
    });
    pairs.filter(|(_, state)| CHOSEN.contains(state)).map(|(name, state)| (name.to_owned(), state.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_that_were_chosen_are_kept() {
        let listed = "cron.service enabled enabled\nrc.service masked enabled\ngetty@.service static -\nnginx.service disabled enabled\n\n";
        let units = Units { files: files(listed), ..Units::default() };
        assert_eq!(units.enabled().collect::<Vec<_>>(), ["cron.service"]);
        assert_eq!(units.files.len(), 3);
        assert_eq!(units.files["nginx.service"], "disabled");
    }
}
