//! Maintenance as steps of a restore: on, drain, and off at the end. What was on before, by hand, stays on.

use super::snippet::State;
use super::{Maintenance, Switched};
use crate::error::{Error, Kind, Result};
use crate::host::nginx::config::Where;
use crate::recovery::by_hand::{quoted, word};
use crate::recovery::engine::{Notes, Step};
use crate::recovery::resource::{Note, parse};
use crate::telemetry::monitor::{Event, Monitor};
use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;

/// The step that switches maintenance on.
pub const ON: &str = "maintenance on";
/// The step that waits for old workers.
pub const DRAIN: &str = "drain";
/// The step that switches it off.
pub const OFF: &str = "maintenance off";

/// What goes through the journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Prior {
    /// What the page is named by.
    pub id: String,
    /// What it was before the restore.
    pub before: State,
    /// The snippet on this host.
    pub file: PathBuf,
    /// When the last name had answered as wanted; once the step is done. For how long the outage was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// What the operator should know; once the step is done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl Prior {
    fn of(note: &Note) -> Result<Self> {
        parse(note)
    }

    fn was_on(&self) -> bool {
        matches!(self.before, State::On(_))
    }

    fn done(self, switched: Switched) -> Result<Note> {
        note(&Prior { at: Some(Timestamp::now()), warnings: switched.warnings, ..self })
    }
}

fn note(prior: &Prior) -> Result<Note> {
    serde_json::to_value(prior)
        .map_err(|e| Error::new(Kind::Internal, "a note about maintenance cannot be written").because(e))
}

/// The three steps, for a restore of this id.
pub fn of(maintenance: &Arc<Maintenance>, id: &str, monitor: &Arc<dyn Monitor>) -> [Box<dyn Step>; 3] {
    [
        Box::new(On { maintenance: maintenance.clone(), id: id.to_owned() }),
        Box::new(Drain { maintenance: maintenance.clone(), monitor: monitor.clone() }),
        Box::new(Off { maintenance: maintenance.clone() }),
    ]
}

struct On {
    maintenance: Arc<Maintenance>,
    id: String,
}

#[async_trait]
impl Step for On {
    fn name(&self) -> String {
        ON.to_owned()
    }

    async fn prepare(&self, _: &Notes<'_>) -> Result<Note> {
        let site = self.maintenance.site().await?;
        site.ready()?;
        let (before, file) = (site.snippet.state()?, site.snippet.file());
        note(&Prior { id: self.id.clone(), before, file, at: None, warnings: Vec::new() })
    }

    async fn act(&self, note: &Note) -> Result<Note> {
        let prior = Prior::of(note)?;
        let switched = self.maintenance.on(&prior.id).await?;
        prior.done(switched)
    }

    async fn undo(&self, note: &Note) -> Result<()> {
        let prior = Prior::of(note)?;
        if prior.was_on() {
            return Ok(());
        }
        self.maintenance.off(prior.before, Some(&prior.file)).await.map(drop)
    }

    fn by_hand(&self, note: &Note) -> Vec<String> {
        match Prior::of(note) {
            Ok(prior) if !prior.was_on() => self.maintenance.off_by_hand(&prior.file),
            _ => Vec::new(),
        }
    }
}

struct Drain {
    maintenance: Arc<Maintenance>,
    monitor: Arc<dyn Monitor>,
}

#[async_trait]
impl Step for Drain {
    fn name(&self) -> String {
        DRAIN.to_owned()
    }

    async fn prepare(&self, _: &Notes<'_>) -> Result<Note> {
        Ok(Note::Null)
    }

    async fn act(&self, _: &Note) -> Result<Note> {
        let left = self.maintenance.drain().await?.left;
        if left > 0 {
            let seconds = self.maintenance.settings().drain.as_secs();
            self.monitor.event(Event::Warning(format!(
                "after {seconds} seconds {left} of nginx's old workers still finish requests (long downloads, WebSockets); these end when the application stops"
            )));
        }
        Ok(serde_json::json!({ "left": left }))
    }

    async fn undo(&self, _: &Note) -> Result<()> {
        Ok(())
    }

    fn by_hand(&self, _: &Note) -> Vec<String> {
        Vec::new()
    }
}

struct Off {
    maintenance: Arc<Maintenance>,
}

#[async_trait]
impl Step for Off {
    fn name(&self) -> String {
        OFF.to_owned()
    }

    async fn prepare(&self, notes: &Notes<'_>) -> Result<Note> {
        note(&Prior { at: None, warnings: Vec::new(), ..Prior::of(notes.of(ON)?)? })
    }

    async fn act(&self, note: &Note) -> Result<Note> {
        let prior = Prior::of(note)?;
        if prior.was_on() {
            return Ok(note.clone());
        }
        let switched = self.maintenance.off(prior.before.clone(), Some(&prior.file)).await?;
        prior.done(switched)
    }

    async fn undo(&self, note: &Note) -> Result<()> {
        let prior = Prior::of(note)?;
        if prior.was_on() {
            return Ok(());
        }
        self.maintenance.on(&prior.id).await.map(drop)
    }

    fn by_hand(&self, note: &Note) -> Vec<String> {
        match Prior::of(note) {
            Ok(prior) if !prior.was_on() => vec!["backstay maintenance on".to_owned()],
            _ => Vec::new(),
        }
    }
}

impl Maintenance {
    /// Commands that switch it off without Backstay.
    pub fn off_by_hand(&self, file: &std::path::Path) -> Vec<String> {
        let settings = self.settings();
        let find = |labels: &[(&str, &str)]| {
            let filters: Vec<String> =
                labels.iter().map(|(label, value)| format!("--filter label={label}={}", word(value))).collect();
            format!("$(docker ps -q {})", filters.join(" "))
        };
        let container = match &settings.r#where {
            Where::Host => None,
            Where::Container(name) => Some(match name.split_once('/') {
                Some((project, service)) => {
                    find(&[("com.docker.compose.project", project), ("com.docker.compose.service", service)])
                }
                None => word(name),
            }),
            Where::Service(name) => Some(find(&[("com.docker.swarm.service.name", name)])),
        };
        let nginx: Vec<String> = settings.command.iter().map(|w| word(w)).collect();
        let nginx = match (&settings.r#where, container) {
            (Where::Service(_), Some(ids)) => {
                let nginx = nginx.join(" ");
                return vec![
                    format!("rm -f {}", quoted(file)),
                    format!("for c in {ids}; do docker exec $c {nginx} -t && docker exec $c {nginx} -s reload; done"),
                ];
            }
            (_, Some(id)) => format!("docker exec {id} {}", nginx.join(" ")),
            (_, None) => nginx.join(" "),
        };
        vec![format!("rm -f {}", quoted(file)), format!("{nginx} -t && {nginx} -s reload")]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::nginx::config::Settings;
    use std::path::Path;

    fn by_hand(r#where: Where, command: &[&str]) -> Vec<String> {
        let command = command.iter().map(|w| (*w).to_owned()).collect();
        let settings = Settings { r#where, command, ..Settings::default() };
        Maintenance::new(settings, Path::new("/s")).off_by_hand(Path::new("/s/it's here"))
    }

    #[test]
    fn what_is_to_be_done_by_hand_can_be_pasted_into_a_shell() {
        let [rm, reload] = &by_hand(Where::Host, &["nginx", "-g", "pid /x;"])[..] else { panic!() };
        assert_eq!(rm, "rm -f '/s/it'\\''s here'");
        assert_eq!(reload, "nginx -g 'pid /x;' -t && nginx -g 'pid /x;' -s reload");
        let compose = &by_hand(Where::Container("shop/web".into()), &["nginx"])[1];
        assert!(compose.starts_with("docker exec $(docker ps -q --filter label=com.docker.compose.project=shop "));
        assert!(by_hand(Where::Service("s".into()), &["nginx"])[1].contains("for c in $(docker ps"));
    }
}
