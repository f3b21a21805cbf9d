//! A program that loads into what is live. There is no copy beside it, so everything that can fail is done before: the
//! output is fetched, checked and synced to a file, and loaded when all else has been swapped. What was there comes back
//! by `undo`, or not at all.

use super::{Taking, parse};
use crate::error::{Error, Kind, Result};
use crate::recovery::resource::{Class, Compared, Findings, Live, Note, Previous, Resource};
use crate::sources::command::run::{Given, feed};
use async_trait::async_trait;
use futures::StreamExt;
use serde_json::json;
use std::fs::File;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use tokio_util::io::ReaderStream;

/// The output, until it is loaded.
const OUTPUT: &str = "output";
/// Is there from before the load begins.
const BEGAN: &str = "began";
/// Is there when it ended well, until `undo` begins.
const LOADED: &str = "loaded";
/// What `{kept}` stands for.
const KEPT: &str = "kept";
/// Bytes that are read at once.
const PIECE: usize = 128 << 10;

/// See the module.
pub struct InPlaceCommand {
    /// The output.
    pub taking: Taking,
    /// What puts back what was there.
    pub undo: Option<Vec<String>>,
    /// What this restore knows about it, on this machine; only we read it.
    pub directory: PathBuf,
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> Error {
    let path = path.to_owned();
    move |e| Error::io("the state of the load cannot be kept", &path, e).kind(Kind::Restore)
}

impl InPlaceCommand {
    fn at(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn given(&self) -> Given {
        let mut given = self.taking.given();
        given.words.push(("{kept}", self.at(KEPT).display().to_string()));
        given
    }

    /// Makes a file that says something by being there, and has it survive a power cut.
    fn mark(&self, name: &str) -> Result<()> {
        let path = self.at(name);
        File::create(&path)
            .and_then(|f| f.sync_all())
            .and_then(|()| File::open(&self.directory)?.sync_all())
            .map_err(failed(&path))
    }

    fn unmark(&self, name: &str) -> Result<()> {
        let path = self.at(name);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(failed(&path)(e)),
            _ => File::open(&self.directory).and_then(|d| d.sync_all()).map_err(failed(&self.directory)),
        }
    }

    fn remove(&self) -> Result<()> {
        match std::fs::remove_dir_all(&self.directory) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(failed(&self.directory)(e)),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Resource for InPlaceCommand {
    fn label(&self) -> String {
        format!("what `load` of source {} acts on", self.taking.source)
    }

    fn class(&self) -> Class {
        Class::InPlace
    }

    async fn preflight(&self) -> Result<Findings> {
        let programs = [self.taking.configured.back.load.as_ref(), self.undo.as_ref()];
        let mut found = self.taking.preflight(&programs, &self.directory)?;
        found.slow_swap = true;
        found.live = Live::Dropped;
        found.warnings.push(match &self.undo {
            Some(argv) => format!(
                "`load` acts on what is live, and nothing of it is kept beside; should it fail, or be rolled back, `undo` ({}) must put it back",
                argv.first().map(String::as_str).unwrap_or_default()
            ),
            None => "`load` acts on what is live, and there is no undo: a load that fails half way leaves half, and the restore cannot be rolled back".to_owned(),
        });
        Ok(found)
    }

    /// Refuses a rollback that nothing could do.
    async fn used(&self, swap: Option<&Note>) -> Result<Findings> {
        if swap.is_some() && self.undo.is_none() && self.at(BEGAN).exists() {
            return Err(Error::new(
                Kind::Refused,
                format!("source {} has no `undo`, so what it loaded cannot be taken back", self.taking.source),
            )
            .hint("Set `undo`, or restore an older backup instead."));
        }
        let told =
            "`undo` takes away what was loaded, with all that was written there since; none of it is kept beside";
        Ok(Findings { live: Live::Dropped, warnings: vec![told.to_owned()], ..Findings::default() })
    }

    async fn plan_staging(&self) -> Result<Note> {
        Ok(json!({ "directory": self.directory }))
    }

    async fn stage(&self, staging: &Note) -> Result<Note> {
        // Left by an interrupted run of this very restore, which had not come to the load.
        self.remove()?;
        std::fs::DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(self.at(KEPT))
            .map_err(failed(&self.directory))?;
        self.taking.write(&self.at(OUTPUT)).await?;
        Ok(staging.clone())
    }

    async fn verify(&self, _: &Note) -> Result<Vec<Compared>> {
        Ok(self.taking.said(false))
    }

    async fn unstage(&self, _: &Note) -> Result<()> {
        self.remove()
    }

    async fn plan_swap(&self, staged: &Note) -> Result<Note> {
        Ok(staged.clone())
    }

    async fn swap(&self, swap: &Note) -> Result<()> {
        let _: serde_json::Map<_, _> = parse(swap)?;
        if self.at(LOADED).exists() {
            // Perhaps killed before it was gone.
            return self.unmark(OUTPUT);
        }
        let output = self.at(OUTPUT);
        let file = tokio::fs::File::open(&output).await.map_err(failed(&output))?;
        let load = self.taking.configured.back.load.clone().unwrap_or_default();
        let load = self.taking.call("load", &load, &self.given()).await?;
        self.mark(BEGAN)?;
        let pieces = ReaderStream::with_capacity(file, PIECE).map(|piece| piece.map_err(failed(&output)));
        feed(&[&load], pieces).await?;
        self.mark(LOADED)?;
        self.unmark(OUTPUT)
    }

    async fn unswap(&self, _: &Note) -> Result<()> {
        if !self.at(BEGAN).exists() {
            return Ok(());
        }
        let Some(argv) = &self.undo else {
            return Err(Error::new(Kind::Restore, format!("the load of source {} had begun, and it has no `undo`", self.taking.source))
                .hint("Look at what it acts on, and put it right. Then set `undo`, to [\"true\"] when nothing is left to do, and run `backstay restore --unwind`."));
        };
        let undo = self.taking.call("undo", argv, &self.given()).await?;
        self.unmark(LOADED)?;
        undo.run(Kind::Restore).await?;
        self.unmark(BEGAN)
    }

    /// The output is not kept once it is loaded, so it cannot be loaded again when `undo` has taken it away.
    async fn reswap(&self, _: &Note) -> Result<Option<String>> {
        if self.at(LOADED).exists() {
            return Ok(None);
        }
        Ok(Some(match self.at(BEGAN).exists() {
            true => {
                format!("`undo` of source {} did not come to its end, so look at what it acts on", self.taking.source)
            }
            false => format!("{} stays as before the restore, and what was restored is gone", self.label()),
        }))
    }

    fn keeps_restored(&self) -> bool {
        false
    }

    async fn previous(&self, _: &Note) -> Result<Vec<Previous>> {
        let mut bytes = 0;
        for entry in std::fs::read_dir(self.at(KEPT)).into_iter().flatten().flatten() {
            bytes += entry.metadata().map_or(0, |m| m.len());
        }
        let name = || Previous { name: self.at(KEPT).display().to_string(), bytes: Some(bytes) };
        Ok((bytes > 0).then(name).into_iter().collect())
    }

    async fn drop_previous(&self, _: &Note) -> Result<()> {
        self.remove()
    }
}
