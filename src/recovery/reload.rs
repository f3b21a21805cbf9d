//! What makes restored files take effect: a service manager that has read the old ones goes on with them.
//!
//! The step behind the swaps reloads; when the restore is taken back, the swaps are undone after that step, so a second
//! step, before the swaps, reloads in its undo.

use super::engine::{Notes, Step};
use super::resource::Note;
use crate::error::{Error, Kind, Result};
use crate::host::exec::Program;
use crate::host::systemd;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long nginx may look at its configuration; it resolves the names of upstreams meanwhile.
const TEST: Duration = Duration::from_secs(60);
/// Where units and their drop-ins are that an operator or a package wrote.
const UNITS: &[&str] =
    &["/etc/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];
/// Where an nginx of the distribution has its configuration.
const NGINX: &[&str] = &["/etc/nginx"];

/// What has to be told to read its files again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reload {
    /// The service manager.
    Systemd,
    /// nginx on the host.
    Nginx,
}

/// What these paths concern. Cron looks at its files by itself.
pub fn of_paths(paths: &[PathBuf]) -> Vec<Reload> {
    let concerns = |places: &[&str]| {
        paths
            .iter()
            .any(|path| places.iter().any(|place| path.starts_with(place) || Path::new(place).starts_with(path)))
    };
    let all = [(UNITS, Reload::Systemd), (NGINX, Reload::Nginx)];
    all.into_iter().filter(|(places, _)| concerns(places)).map(|(_, reload)| reload).collect()
}

impl Reload {
    /// The same as somebody types it.
    fn commands(self) -> &'static [&'static str] {
        match self {
            Reload::Systemd => &["systemctl daemon-reload"],
            Reload::Nginx => &["nginx -t -q", "systemctl reload-or-restart nginx.service"],
        }
    }

    async fn run(self) -> Result<()> {
        let done = match self {
            Reload::Systemd => systemd::reload().await,
            Reload::Nginx => nginx().await,
        };
        done.map_err(|e| {
            let what = format!("`{}` failed after files were restored", self.commands().join(" && "));
            Error { what, cause: Some(e.one_line().into()), ..e }
        })
    }
}

/// Has an nginx of the distribution take up its files, once it finds nothing wrong with them. Without the unit it is not
/// run by systemd, or not installed; its own reload is up to whoever runs it.
async fn nginx() -> Result<()> {
    let unit = systemd::look("nginx.service").await?;
    if !matches!(unit.active.as_str(), "active" | "reloading") {
        return Ok(());
    }
    let test = Program::new("nginx", ["-t", "-q"]);
    let late = |_| Err(Error::new(Kind::Restore, "nginx does not say in time whether its configuration is good"));
    tokio::time::timeout(TEST, test.output()).await.unwrap_or_else(late).map_err(|e| e.kind(Kind::Restore))?;
    systemd::reload_or_restart(&unit).await
}

/// Reloads behind the swaps, or in the undo before them.
pub struct Reloading {
    /// What.
    pub what: Vec<Reload>,
    /// True for the step that acts in its undo.
    pub on_the_way_back: bool,
}

#[async_trait]
impl Step for Reloading {
    fn name(&self) -> String {
        if self.on_the_way_back { "reload when undone".into() } else { "reload".into() }
    }

    async fn prepare(&self, _: &Notes<'_>) -> Result<Note> {
        Ok(serde_json::json!(self.what))
    }

    async fn act(&self, note: &Note) -> Result<Note> {
        if !self.on_the_way_back {
            for what in &self.what {
                what.run().await?;
            }
        }
        Ok(note.clone())
    }

    async fn undo(&self, _: &Note) -> Result<()> {
        if self.on_the_way_back {
            for what in &self.what {
                what.run().await?;
            }
        }
        Ok(())
    }

    fn by_hand(&self, _: &Note) -> Vec<String> {
        let commands = self.what.iter().flat_map(|what| what.commands()).map(|c| (*c).to_owned());
        if self.on_the_way_back { commands.collect() } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_say_who_reads_them() {
        let of = |paths: &[&str]| of_paths(&paths.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(of(&["/etc"]), [Reload::Systemd, Reload::Nginx]);
        assert_eq!(of(&["/etc/nginx/sites-enabled/app"]), [Reload::Nginx]);
        assert_eq!(of(&["/etc/systemd/system/app.service", "/opt/app"]), [Reload::Systemd]);
        assert_eq!(of(&["/opt/app", "/etc/nginx2"]), []);
    }
}
