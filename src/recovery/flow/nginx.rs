//! nginx in containers, whose files are restored: it goes on with the ones before until it is told to read them again.
//!
//! As with everything that reloads, a step behind the swaps does so, and one before them in its undo.

use crate::config::Config;
use crate::error::{Kind, Result};
use crate::host::docker::Docker;
use crate::host::nginx::config::{Settings, Where};
use crate::recovery::engine::{Notes, Step};
use crate::recovery::maintenance::Maintenance;
use crate::recovery::resource::Note;
use async_trait::async_trait;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The nginx of `[maintenance]`, when it runs in containers and one of these paths is mounted into it, in whole or in part.
///
/// # Errors
/// When Docker does not say what is mounted.
pub async fn that_sees(config: &Config, paths: &[PathBuf]) -> Result<Option<Settings>> {
    let Some(settings) = &config.maintenance else { return Ok(None) };
    let (Where::Container(name) | Where::Service(name)) = &settings.r#where else { return Ok(None) };
    if paths.is_empty() {
        return Ok(None);
    }
    // Without a daemon nothing runs in a container.
    let Ok(docker) = Docker::connect().await else { return Ok(None) };
    let running = docker.running(name).await.map_err(|e| e.kind(Kind::Restore))?;
    let sees = |path: &PathBuf| {
        let mut mounts = running.iter().flat_map(|nginx| &nginx.mounts).map(|m| Path::new(&m.source));
        mounts.any(|mount| mount.starts_with(path) || path.starts_with(mount))
    };
    Ok(paths.iter().any(sees).then(|| settings.clone()))
}

/// Has it read its configuration behind the swaps, or in the undo before them. Without a page it may be stopped like the
/// rest of the application, and then reads its files when that starts.
pub struct TakeUp {
    /// nginx.
    pub nginx: Arc<Maintenance>,
    /// True for the step that acts in its undo.
    pub on_the_way_back: bool,
}

#[async_trait]
impl Step for TakeUp {
    fn name(&self) -> String {
        if self.on_the_way_back { "reload nginx when undone".into() } else { "reload nginx".into() }
    }

    async fn prepare(&self, _: &Notes<'_>) -> Result<Note> {
        Ok(Note::Null)
    }

    async fn act(&self, _: &Note) -> Result<Note> {
        if !self.on_the_way_back {
            self.nginx.apply_if_up().await?;
        }
        Ok(Note::Null)
    }

    async fn undo(&self, _: &Note) -> Result<()> {
        if self.on_the_way_back { self.nginx.apply_if_up().await } else { Ok(()) }
    }

    fn by_hand(&self, _: &Note) -> Vec<String> {
        match self.on_the_way_back {
            true => vec!["`nginx -t`, then `nginx -s reload` in the containers of nginx, if they run".to_owned()],
            false => Vec::new(),
        }
    }
}
