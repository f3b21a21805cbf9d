//! The steps of a restore that deal with the application. Their note is the snapshot.

use super::snapshot::{Item, Snapshot};
use super::start::{Steady, Why};
use super::{Application, PATIENCE, hold, look, start, stop};
use crate::error::Result;
use crate::recovery::engine::{Notes, START, Step};
use crate::recovery::resource::Note;
use crate::telemetry::monitor::Monitor;
use async_trait::async_trait;
use std::sync::Arc;

/// The name of the step that takes the snapshot.
const HOLD: &str = "hold the application";

/// Keeps everything from starting again.
pub(super) struct Hold {
    pub application: Application,
    pub monitor: Arc<dyn Monitor>,
}

#[async_trait]
impl Step for Hold {
    fn name(&self) -> String {
        HOLD.to_owned()
    }

    async fn prepare(&self, _: &Notes<'_>) -> Result<Note> {
        Ok(look::look(&self.application, PATIENCE).await?.to_note())
    }

    async fn act(&self, note: &Note) -> Result<Note> {
        let snapshot = Snapshot::from_note(note)?;
        hold::put(&snapshot.items.iter().collect::<Vec<_>>(), &*self.monitor).await?;
        Ok(note.clone())
    }

    async fn undo(&self, note: &Note) -> Result<()> {
        let snapshot = Snapshot::from_note(note)?;
        // When the power failed before the stop, the hold alone kept everything down.
        start::start(&snapshot.items.iter().collect::<Vec<_>>(), Why::Over, Steady::Started, &*self.monitor).await
    }

    fn by_hand(&self, note: &Note) -> Vec<String> {
        Snapshot::from_note(note).map(|s| start::by_hand(&s)).unwrap_or_default()
    }
}

/// Stops everything.
pub(super) struct Stop {
    pub monitor: Arc<dyn Monitor>,
    /// What may be stopping still when that has not come to its end.
    pub told: stop::Told,
}

#[async_trait]
impl Step for Stop {
    fn name(&self) -> String {
        "stop the application".to_owned()
    }

    async fn prepare(&self, notes: &Notes<'_>) -> Result<Note> {
        // When it is taken up after a crash, another process has told some of them.
        self.told.nobody_yet();
        notes.of(HOLD).cloned()
    }

    async fn act(&self, note: &Note) -> Result<Note> {
        let snapshot = Snapshot::from_note(note)?;
        stop::stop(&snapshot.items.iter().collect::<Vec<_>>(), &self.told, &*self.monitor).await?;
        self.told.nobody_yet();
        Ok(note.clone())
    }

    async fn undo(&self, note: &Note) -> Result<()> {
        let snapshot = Snapshot::from_note(note)?;
        let items: Vec<&Item> = snapshot.items.iter().collect();
        stop::settled(&items, &self.told).await?;
        start::start(&items, Why::AsItWas, Steady::Started, &*self.monitor).await
    }

    fn by_hand(&self, _: &Note) -> Vec<String> {
        // What is held is started by the commands of the hold.
        Vec::new()
    }
}

/// Starts what ran.
pub(super) struct Start {
    pub late: bool,
    /// Whether there is something that starts late. Then that start looks whether all of it goes on running: the checks
    /// take their time, and what they have seen need not be waited for once more.
    pub in_two: bool,
    pub monitor: Arc<dyn Monitor>,
}

impl Start {
    fn mine<'a>(&self, snapshot: &'a Snapshot) -> Vec<&'a Item> {
        snapshot.items.iter().filter(|item| item.late == self.late).collect()
    }
}

#[async_trait]
impl Step for Start {
    fn name(&self) -> String {
        if self.late { "start the rest of the application" } else { START }.to_owned()
    }

    async fn prepare(&self, notes: &Notes<'_>) -> Result<Note> {
        let mut snapshot = Snapshot::from_note(notes.of(HOLD)?)?;
        snapshot.started = notes.began(START).filter(|_| self.late);
        Ok(snapshot.to_note())
    }

    async fn act(&self, note: &Note) -> Result<Note> {
        let snapshot = Snapshot::from_note(note)?;
        let earlier: Vec<&Item> = snapshot.items.iter().filter(|item| !item.late).collect();
        let steady = match (self.late, snapshot.started) {
            (false, _) if self.in_two => Steady::Later,
            (true, Some(started)) if self.in_two => Steady::With(&earlier, started),
            _ => Steady::Started,
        };
        start::start(&self.mine(&snapshot), Why::Restored, steady, &*self.monitor).await?;
        Ok(note.clone())
    }

    async fn undo(&self, note: &Note) -> Result<()> {
        let snapshot = Snapshot::from_note(note)?;
        let items = self.mine(&snapshot);
        hold::put(&items, &*self.monitor).await?;
        stop::stop(&items, &stop::Told::default(), &*self.monitor).await
    }

    fn by_hand(&self, note: &Note) -> Vec<String> {
        Snapshot::from_note(note).map(|s| stop::by_hand(&self.mine(&s))).unwrap_or_default()
    }
}
