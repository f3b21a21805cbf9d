//! What makes restored files take effect: a service manager that has read the old ones goes on with them.
//!
//! The step behind the swaps reloads; when the restore is taken back, the swaps are undone after that step, so a second
//! step, before the swaps, reloads in its undo.

use super::engine::{Notes, Step};
use super::resource::Note;
use crate::error::{Error, Kind, Result};
use crate::host::exec::Program;
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
    fn commands(self) -> &'static [&'static [&'static str]] {
        match self {
            Reload::Systemd => &[&["systemctl", "daemon-reload"]],
            Reload::Nginx => &[&["nginx", "-t", "-q"], &["systemctl", "reload-or-restart", "nginx.service"]],
        }
    }

    async fn run(self) -> Result<()> {
        // Without the unit it is not run by systemd, or not installed; its own reload is up to whoever runs it.
        if self == Reload::Nginx && !is_active("nginx.service").await? {
            return Ok(());
        }
        for command in self.commands() {
            Program::new(command[0], command[1..].iter().copied()).output().await.map_err(|e| {
                Error::new(Kind::Restore, format!("`{}` failed after files were restored", command.join(" ")))
                    .because(e.one_line())
            })?;
        }
        Ok(())
    }
}

async fn is_active(unit: &str) -> Result<bool> {
    let out = Program::new("systemctl", ["show", "--property=ActiveState", "--value", unit]).output().await?;
    Ok(out.starts_with(b"active"))
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
        let commands = self.what.iter().flat_map(|what| what.commands()).map(|c| c.join(" "));
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
