//! A tree of a backup (files, a machine, a volume), written into the drill's directory and counted there.

use super::aside::Aside;
use crate::error::{Error, Kind, Result};
use crate::model::size;
use crate::recovery::count;
use crate::recovery::resource::{Compared, Note, parse};
use crate::recovery::tree;
use crate::repository::manifest::Artifact;
use crate::repository::reader::Reader;
use crate::repository::selection::Selection;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// See the module.
pub struct TreeAside {
    /// What it is: `files etc`, `volume shop_documents`.
    pub label: String,
    /// The directory that is made for it.
    pub directory: PathBuf,
    /// Its artifact.
    pub artifact: Artifact,
    /// Reads it.
    pub reader: Reader,
}

/// What was written.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Written {
    files: u64,
    dirs: u64,
    links: u64,
    other: u64,
    bytes: u64,
}

/// Makes an empty directory that only we may look into.
pub(super) fn make(directory: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(directory)
        .map_err(|e| Error::io("a directory of the drill cannot be made", directory, e).kind(Kind::Restore))
}

/// Writes a whole tree, compared with its index on the way.
pub(super) async fn write(reader: &Reader, artifact: &Artifact, directory: &Path) -> Result<Note> {
    make(directory)?;
    let content = directory.join("content");
    make(&content)?;
    let restored = tree::write(reader, artifact, &Selection::of(*b"."), &content, 0, &Arc::default()).await?;
    let written = Written {
        files: restored.files,
        dirs: restored.dirs,
        links: restored.links,
        other: restored.other,
        bytes: restored.bytes,
    };
    Ok(json!(written))
}

/// What lies there, against what was written.
pub(super) async fn verify(label: &str, directory: &Path, written: &Note) -> Result<Vec<Compared>> {
    let written: Written = parse(written)?;
    let content = directory.join("content");
    let counting = tokio::task::spawn_blocking(move || count::count(&content));
    let found = counting.await.map_err(Error::panicked("counting"))??;
    let line = |what: &str, expected: u64, found: u64| Compared {
        what: format!("{what} of {label}"),
        expected: size::count(expected),
        found: size::count(found),
        good: expected == found,
    };
    Ok(vec![
        line("files", written.files, found.files),
        line("links", written.links, found.links),
        line("devices and pipes", written.other, found.other),
        line("bytes", written.bytes, found.bytes),
    ])
}

#[async_trait]
impl Aside for TreeAside {
    fn label(&self) -> String {
        self.label.clone()
    }

    async fn plan_staging(&self) -> Result<Note> {
        Ok(json!({ "directory": self.directory }))
    }

    async fn stage(&self, _: &Note) -> Result<Note> {
        write(&self.reader, &self.artifact, &self.directory).await
    }

    async fn verify(&self, staged: &Note) -> Result<Vec<Compared>> {
        verify(&self.label, &self.directory, staged).await
    }
}
