//! What there is to back up: one folder per kind, each with the way out and the way back in.
//!
//! A source gives byte streams to the writer and says how its producer ended; it never touches the store. To add
//! one, see `docs/adding-a-source.md`.

pub mod command;
pub mod files;
pub mod host;
pub mod image;
pub mod postgres;
pub mod redis;
pub mod url;
pub mod volume;
pub mod window;

use crate::error::Result;
use crate::repository::writer::{BackupWriter, PendingArtifact};
use crate::telemetry::monitor::Monitor;
use async_trait::async_trait;
use std::sync::Arc;
use window::{Hold, Window};

/// What a source delivers when everything in it ended well.
pub struct Delivered {
    /// Its artifacts, in the order in which a restore wants them.
    pub artifacts: Vec<PendingArtifact>,
    /// What a restore will be held against.
    pub facts: serde_json::Value,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

/// One thing to back up.
#[async_trait]
pub trait Source: Send + Sync {
    /// The kind in the configuration.
    fn kind(&self) -> &'static str;

    /// What must stand still while this source reaches its consistent point. Asked before anything is stopped.
    ///
    /// # Errors
    /// When that cannot be found out, or cannot be asked for.
    async fn holds(&self) -> Result<Vec<Hold>> {
        Ok(Vec::new())
    }

    /// Containers that must run while this source is read, as they are configured: a dump needs its server.
    fn needs(&self) -> Vec<String> {
        Vec::new()
    }

    /// Reads the whole source. An artifact counts only when this returns `Ok`: the exit status of a producer has
    /// been read by then. Nothing is read before `window` is ready; as soon as the rest no longer depends on
    /// anybody standing still, `window` is done, or else when this returns.
    ///
    /// # Errors
    /// [`crate::error::Kind::Source`] with what could not be read.
    async fn read(
        &self,
        name: &crate::model::Name,
        writer: &BackupWriter,
        monitor: Arc<dyn Monitor>,
        window: &Window,
    ) -> Result<Delivered>;
}
