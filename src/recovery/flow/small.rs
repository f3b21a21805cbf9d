//! Steps of the flow that are nobody else's.

use super::FindStaged;
use crate::config::checks::Check;
use crate::error::{Error, Kind, Result};
use crate::recovery::checks::context::Marks;
use crate::recovery::engine::{Notes, Step};
use crate::recovery::maintenance::Maintenance;
use crate::recovery::resource::{Note, parse};
use crate::telemetry::monitor::{Event, Monitor};
use async_trait::async_trait;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;

/// The step that looks where log files end.
pub const MARKS: &str = "mark the logs";

/// Looks where log files end before the start: what they hold by then is not the start's.
pub struct MarkLogs {
    pub checks: Vec<Check>,
}

#[async_trait]
impl Step for MarkLogs {
    fn name(&self) -> String {
        MARKS.to_owned()
    }

    async fn prepare(&self, _: &Notes<'_>) -> Result<Note> {
        Ok(json!(Marks::of(&self.checks)))
    }

    async fn act(&self, note: &Note) -> Result<Note> {
        Ok(note.clone())
    }

    async fn undo(&self, _: &Note) -> Result<()> {
        Ok(())
    }

    fn by_hand(&self, _: &Note) -> Vec<String> {
        Vec::new()
    }
}

/// A check that is told when it fails, and undoes nothing.
pub struct KeepGoing {
    pub step: Box<dyn Step>,
    pub monitor: Arc<dyn Monitor>,
}

#[async_trait]
impl Step for KeepGoing {
    fn name(&self) -> String {
        self.step.name()
    }

    async fn prepare(&self, notes: &Notes<'_>) -> Result<Note> {
        self.step.prepare(notes).await
    }

    async fn act(&self, note: &Note) -> Result<Note> {
        match self.step.act(note).await {
            Err(e) => {
                self.monitor.event(Event::Warning(format!("{}; the restore goes on all the same", e.one_line())));
                Ok(json!({ "name": self.step.name(), "good": false, "found": e.one_line() }))
            }
            good => good,
        }
    }

    async fn undo(&self, note: &Note) -> Result<()> {
        self.step.undo(note).await
    }

    fn by_hand(&self, note: &Note) -> Vec<String> {
        self.step.by_hand(note)
    }
}

/// A check or hook that is not configured any more: nobody can do it, and its place in the journal is kept.
pub struct Gone(pub String);

#[async_trait]
impl Step for Gone {
    fn name(&self) -> String {
        self.0.clone()
    }

    async fn prepare(&self, _: &Notes<'_>) -> Result<Note> {
        Ok(Note::Null)
    }

    async fn act(&self, _: &Note) -> Result<Note> {
        Err(Error::new(Kind::Restore, format!("the step \"{}\" is not configured any more", self.0))
            .hint("Put it back into the plan's [restore] section, and go on with `backstay restore --resume`."))
    }

    async fn undo(&self, _: &Note) -> Result<()> {
        Ok(())
    }

    fn by_hand(&self, _: &Note) -> Vec<String> {
        vec![format!("take back what the step \"{}\" did, if it did something", self.0)]
    }
}

/// A restored configuration of nginx may be from before maintenance was installed: without the include, the reload in the
/// middle of the restore would end maintenance.
pub struct IncludeStaged {
    pub maintenance: Arc<Maintenance>,
    pub staged: FindStaged,
}

#[async_trait]
impl Step for IncludeStaged {
    fn name(&self) -> String {
        "include maintenance in what is staged".to_owned()
    }

    async fn prepare(&self, notes: &Notes<'_>) -> Result<Note> {
        Ok(json!((self.staged)(notes)?.paths))
    }

    async fn act(&self, note: &Note) -> Result<Note> {
        let paths: Vec<(PathBuf, PathBuf)> = parse(note)?;
        Ok(json!(self.maintenance.include_in_staged(&paths).await?))
    }

    async fn undo(&self, _: &Note) -> Result<()> {
        Ok(())
    }

    fn by_hand(&self, _: &Note) -> Vec<String> {
        Vec::new()
    }
}
