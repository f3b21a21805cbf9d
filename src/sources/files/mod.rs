//! The `files` source: directories and files as a plain tar.
//!
//! The way out is [`walk`] (every name with its stat, in path order), [`cursor`] (the index of the backup before),
//! [`read`] (compare the two, read what changed) and [`header`] (tar headers); the way back in is [`untar`].
//! [`repack`] takes trees that come as a tar already, [`whole`] knows whether such a tar has its end.

pub mod behind;
pub mod cursor;
pub mod exclude;
pub mod header;
pub mod lanes;
pub mod large;
pub mod members;
pub mod place;
pub mod read;
pub mod repack;
pub mod report;
pub mod sparse;
mod telling;
pub mod untar;
pub mod walk;
pub mod whole;
pub mod xattrs;

use super::window::Window;
use super::{Delivered, Source};
use crate::error::{Error, Result};
use crate::model::Name;
use crate::repository::writer::BackupWriter;
use crate::telemetry::monitor::Monitor;
use async_trait::async_trait;
use std::path::PathBuf;
use std::sync::Arc;

/// The name of the artifact.
pub const TREE: &str = "tree";

/// Configured paths and how to read them.
#[derive(Clone, Debug)]
pub struct FilesSource {
    /// Absolute paths of files and directories.
    pub paths: Vec<PathBuf>,
    /// Patterns of what to leave out; see [`exclude`].
    pub exclude: Vec<String>,
    /// Paths that are never read, whatever the configuration says: our own state and repository.
    pub never: Vec<PathBuf>,
    /// Stay on the file systems of `paths`.
    pub one_file_system: bool,
    /// Read every file again after about so many days although its stat did not change; `None` never does.
    pub reread_days: Option<u32>,
}

#[async_trait]
impl Source for FilesSource {
    fn kind(&self) -> &'static str {
        "files"
    }

    async fn read(
        &self,
        name: &Name,
        writer: &BackupWriter,
        monitor: Arc<dyn Monitor>,
        window: &Window,
    ) -> Result<Delivered> {
        window.ready().await?;
        let (source, name, writer) = (self.clone(), name.clone(), writer.clone());
        let work = tokio::task::spawn_blocking(move || read::read(&source, &name, &writer, &*monitor));
        work.await.map_err(Error::panicked("reading"))?
    }
}
