//! Emptying what was made of data that is not live any more: caches, queues, sessions. After the exchange, before anything
//! starts.
//!
//! What is emptied does not come back. When the restore is taken back it is emptied once more, before the application starts
//! on the old data: meanwhile it may have been filled from the restored one. A server that does not answer by then is
//! told, and does not keep the old data from going back.

use crate::config::flush::Flush;
use crate::error::{Error, Kind, Result};
use crate::model::size;
use crate::recovery::engine::{Notes, Step};
use crate::recovery::resource::Note;
use crate::sources::redis::connect::Connection;
use crate::sources::redis::live::{self, Live};
use crate::telemetry::monitor::{Event, Monitor};
use async_trait::async_trait;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// How long emptying may take.
const PATIENCE: Duration = Duration::from_secs(600);

impl Flush {
    fn says(&self, e: Error) -> Error {
        let what = format!("{} cannot be emptied: {}", self.label(), e.what);
        Error { what, ..e }
    }

    fn keys(&self, live: &Live) -> u64 {
        let meant = live.keyspace.iter().filter(|(number, _)| self.database.is_none_or(|d| u64::from(d) == **number));
        meant.map(|(_, of)| of.keys).sum()
    }

    /// Looks whether it can be emptied, and touches nothing. Gives a line for the plan.
    ///
    /// # Errors
    /// [`Kind::Refused`].
    pub async fn preflight(&self) -> Result<String> {
        let refused = |e: Error| self.says(e).kind(Kind::Refused);
        let mut connection = self.server.connect().await.map_err(refused)?;
        let live = live::live(&mut connection).await.map_err(refused)?;
        let why = match (live.mode.as_str(), live.role.as_str()) {
            ("standalone", "slave") => "it is a replica, which takes no writes",
            ("standalone", _) => return Ok(format!("{} ({})", self.label(), size::plural(self.keys(&live), "key"))),
            _ => "only a standalone server is emptied as a whole",
        };
        Err(refused(Error::new(Kind::Refused, why).at(self.server.server.label()).hint("Take it out of `flush`.")))
    }

    fn by_hand(&self) -> String {
        match self.database {
            None => format!("redis-cli FLUSHALL   # on the server of source {}", self.source),
            Some(number) => format!("redis-cli -n {number} FLUSHDB   # on the server of source {}", self.source),
        }
    }
}

/// The step that empties one.
pub struct Flushing {
    pub flush: Flush,
    pub monitor: Arc<dyn Monitor>,
}

impl Flushing {
    /// Gives how many keys it held.
    async fn empty(&self) -> Result<u64> {
        let mut connection = self.flush.server.connect().await?;
        let live = live::live(&mut connection).await?;
        if let Some(number) = self.flush.database {
            connection.ask(&["SELECT", &number.to_string()]).await?;
        }
        let all = if self.flush.database.is_none() { "FLUSHALL" } else { "FLUSHDB" };
        connection.ask_patiently(&[all], PATIENCE).await?;
        if let Err(e) = keep(&mut connection).await {
            let what = format!("what {} held would come back if its server were killed now", self.flush.label());
            self.monitor.event(Event::Warning(format!("{what}: {}", e.one_line())));
        }
        Ok(self.flush.keys(&live))
    }
}

/// A server that reads its last snapshot when it starts again would have the keys again: it makes another. Whoever may not
/// ask how it keeps its data leaves it at that.
async fn keep(connection: &mut Connection) -> Result<()> {
    match live::settings(connection).await {
        Ok(settings) if !settings.appendonly && !settings.save.is_empty() => {
            connection.ask_patiently(&["SAVE"], PATIENCE).await.map(drop)
        }
        _ => Ok(()),
    }
}

#[async_trait]
impl Step for Flushing {
    fn name(&self) -> String {
        self.flush.step()
    }

    async fn prepare(&self, _: &Notes<'_>) -> Result<Note> {
        Ok(Note::Null)
    }

    async fn act(&self, _: &Note) -> Result<Note> {
        let keys = self.empty().await.map_err(|e| self.flush.says(e).kind(Kind::Restore))?;
        Ok(json!({ "keys": keys }))
    }

    async fn undo(&self, _: &Note) -> Result<()> {
        if let Err(e) = self.empty().await {
            let why = self.flush.says(e).one_line();
            let text = format!("{why}; it may hold what was made of the restored data: {}", self.flush.by_hand());
            self.monitor.event(Event::Warning(text));
        }
        Ok(())
    }

    fn by_hand(&self, _: &Note) -> Vec<String> {
        vec![self.flush.by_hand()]
    }
}
