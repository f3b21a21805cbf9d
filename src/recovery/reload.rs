//! What makes restored files take effect: a service manager that has read the old ones goes on with them.
//!
//! The step behind the swaps reloads; when the restore is taken back, the swaps are undone after that step, so a second
//! step, before the swaps, reloads in its undo.

use super::engine::{Notes, Step};
use super::maintenance::Maintenance;
use super::resource::Note;
use crate::error::{Error, Kind, Result};
use crate::host::systemd;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

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
    fn by_hand(self) -> &'static str {
        match self {
            Reload::Systemd => "systemctl daemon-reload",
            Reload::Nginx => "nginx -t && systemctl reload nginx.service",
        }
    }
}

/// Reloads behind the swaps, or in the undo before them.
pub struct Reloading {
    /// What.
    pub what: Vec<Reload>,
    /// nginx on the host, with what every call of it needs.
    pub nginx: Maintenance,
    /// True for the step that acts in its undo.
    pub on_the_way_back: bool,
}

impl Reloading {
    async fn run(&self) -> Result<()> {
        for what in &self.what {
            let done = match what {
                Reload::Systemd => systemd::reload().await,
                Reload::Nginx => self.nginx().await,
            };
            done.map_err(|e| {
                let what = format!("files were restored that do not take effect: {}", e.what);
                Error { what, ..e }.kind(Kind::Restore)
            })?;
        }
        Ok(())
    }
}

impl Reloading {
    /// Without the unit it is not run by systemd, or not installed; its own reload is up to whoever runs it.
    async fn nginx(&self) -> Result<()> {
        match systemd::look("nginx.service").await?.is_up() {
            true => self.nginx.apply().await,
            false => Ok(()),
        }
    }
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
            self.run().await?;
        }
        Ok(note.clone())
    }

    async fn undo(&self, _: &Note) -> Result<()> {
        if self.on_the_way_back { self.run().await } else { Ok(()) }
    }

    fn by_hand(&self, _: &Note) -> Vec<String> {
        let commands = self.what.iter().map(|what| what.by_hand().to_owned());
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
