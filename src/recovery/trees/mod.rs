//! Files and directories of one source, as a restore replaces them: each path is written beside its place, on the same
//! file system, and takes its place by an exchange; where the directory itself cannot move, what is in it does.
//! What the source leaves out moves along.

mod preflight;

use super::by_hand;
use super::count;
use super::exchange;
use super::inner;
use super::resource::{Class, Compared, Findings, Note, Previous, Resource, StagedAs, parse};
use super::select;
use super::swapping::{How, Swapping};
use super::tree;
use crate::error::{Error, Kind, Result};
use crate::host::nginx::config::Where;
use crate::io::removal;
use crate::model::{BackupId, size};
use crate::repository::manifest::SourceRecord;
use crate::repository::reader::Reader;
use crate::repository::selection::Selection;
use crate::sources::files::TREE;
use crate::sources::files::exclude::Excludes;
use crate::sources::files::untar::{Ids, Restored};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Paths of one source.
pub struct Trees {
    /// The source.
    pub source: String,
    /// The paths.
    pub paths: Vec<PathBuf>,
    /// The restore: what it stages and keeps is named by it.
    pub id: BackupId,
    /// The source in the backup, and the reader; only staging needs them.
    pub from: Option<(Reader, SourceRecord)>,
    /// What an exchange must not take away from under this very run: its state, configuration, program, repository.
    pub own: Vec<PathBuf>,
    /// Other numbers for owners; only staging needs them.
    pub ids: Arc<Ids>,
    /// What the source leaves out, as it is configured now.
    pub excludes: Option<Excludes>,
    /// Where the nginx is that shows the page meanwhile.
    pub nginx: Where,
}

/// What staging makes.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Staging {
    paths: Vec<Staged>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Staged {
    path: PathBuf,
    /// The directory beside it, or in it, that is ours.
    directory: PathBuf,
    /// The path cannot change its place: what is in it does.
    #[serde(default)]
    inner: bool,
    /// Directories above it that are not there, outermost first.
    parents: Vec<PathBuf>,
    #[serde(default)]
    files: u64,
    #[serde(default)]
    dirs: u64,
    #[serde(default)]
    links: u64,
    #[serde(default)]
    other: u64,
    #[serde(default)]
    bytes: u64,
    #[serde(default)]
    left_out: Vec<(String, u64)>,
}

impl Staged {
    fn content(&self) -> PathBuf {
        match self.inner {
            true => self.directory.clone(),
            false => self.directory.join(self.path.file_name().unwrap_or_default()),
        }
    }

    fn remember(&mut self, restored: &Restored) {
        (self.files, self.dirs) = (restored.files, restored.dirs);
        (self.links, self.other, self.bytes) = (restored.links, restored.other, restored.bytes);
        self.left_out = restored.left_out.iter().map(|(what, n)| (what.to_string(), *n)).collect();
    }
}

/// What the disk holds, held against what was written to it, which is what the index of the backup says. A hard link whose first
/// name was not asked for became a file.
fn compared(staged: &Staged) -> Result<Compared> {
    let words = |entries: u64, bytes: u64| format!("{}, {}", size::plural(entries, "entry"), size::human(bytes));
    let written = staged.files + staged.dirs + staged.links + staged.other;
    let (found, good) = match exchange::identity(&staged.content())? {
        Some(_) => {
            let counted = count::count(&staged.content())?;
            let good = counted.entries() == written && counted.bytes >= staged.bytes;
            (words(counted.entries(), counted.bytes), good)
        }
        None => ("nothing".to_owned(), false),
    };
    Ok(Compared { what: staged.path.display().to_string(), expected: words(written, staged.bytes), found, good })
}

impl Trees {
    async fn plan_path(&self, path: &Path) -> Result<Staged> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Error::new(Kind::Usage, "not a path that can be restored").at(path.display()));
        };
        let mut parents: Vec<PathBuf> =
            parent.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.exists()).map(Path::to_owned).collect();
        parents.reverse();
        let fixed = self.stays(path).await?;
        Ok(Staged {
            path: path.to_owned(),
            directory: match fixed {
                true => inner::staged(path, self.id.as_str()),
                false => parent.join(format!(".{}.backstay-{}", name.to_string_lossy(), self.id)),
            },
            inner: fixed,
            parents,
            files: 0,
            dirs: 0,
            links: 0,
            other: 0,
            bytes: 0,
            left_out: Vec::new(),
        })
    }

    async fn stage_path(&self, staged: &mut Staged) -> Result<()> {
        let Some((reader, record)) = &self.from else {
            return Err(Error::new(Kind::Internal, "a restore without a backup cannot stage"));
        };
        let artifact = select::artifact(record, Some(TREE))?;
        // Left by an interrupted run of this very restore; the name is ours.
        removal::tree_if_there(&staged.directory)?;
        let made = staged.path.parent().map_or(Ok(()), std::fs::create_dir_all);
        made.and_then(|()| std::fs::DirBuilder::new().mode(0o700).create(&staged.directory))
            .map_err(|e| Error::io("the staging directory cannot be made", &staged.directory, e).kind(Kind::Restore))?;
        let member = tree::member_name(&staged.path);
        let depth = member.split(|b| *b == b'/').count();
        let selection = Selection::of(member);
        let restored = match staged.inner {
            true => tree::write_as_root(reader, artifact, &selection, &staged.directory, depth, &self.ids).await?,
            false => tree::write(reader, artifact, &selection, &staged.directory, depth - 1, &self.ids).await?,
        };
        if exchange::identity(&staged.content())?.is_none() {
            return Err(Error::new(Kind::NotFound, "the backup does not hold this path")
                .at(staged.path.display())
                .hint("`backstay find` searches a backup."));
        }
        // It is synced by now.
        staged.remember(&restored);
        Ok(())
    }

    fn swaps(note: &Note) -> Result<Vec<Swapping>> {
        #[derive(Deserialize)]
        struct Swap {
            swaps: Vec<Swapping>,
        }
        Ok(parse::<Swap>(note)?.swaps)
    }
}

#[async_trait]
impl Resource for Trees {
    fn label(&self) -> String {
        format!("files {}", self.source)
    }

    fn class(&self) -> Class {
        Class::Tree
    }

    async fn preflight(&self) -> Result<Findings> {
        self.look().await
    }

    async fn used(&self, swap: Option<&Note>) -> Result<Findings> {
        let swaps = swap.map(Self::swaps).transpose()?.unwrap_or_default();
        let mut findings = Findings::default();
        for path in &self.paths {
            // It goes back the way it came, whatever is mounted by now.
            let stays = match swaps.iter().find(|s| s.path() == path) {
                Some(swapping) => matches!(swapping.how, How::Inner(_)),
                None => self.stays(path).await?,
            };
            self.users_of(path, stays, &mut findings).await?;
        }
        Ok(findings)
    }

    async fn plan_staging(&self) -> Result<Note> {
        let mut paths = Vec::new();
        for path in &self.paths {
            paths.push(self.plan_path(path).await?);
        }
        Ok(json!(Staging { paths }))
    }

    async fn stage(&self, staging: &Note) -> Result<Note> {
        let mut staging: Staging = parse(staging)?;
        for staged in &mut staging.paths {
            self.stage_path(staged).await?;
        }
        Ok(json!(staging))
    }

    /// Files were compared with the index while they were written; this says with what result.
    async fn verify(&self, staged: &Note) -> Result<Vec<Compared>> {
        let staging: Staging = parse(staged)?;
        let counting = tokio::task::spawn_blocking(move || staging.paths.iter().map(compared).collect());
        counting.await.map_err(Error::panicked("counting"))?
    }

    async fn unstage(&self, staging: &Note) -> Result<()> {
        let staging: Staging = parse(staging)?;
        for staged in &staging.paths {
            removal::tree_if_there(&staged.directory)?;
            for parent in staged.parents.iter().rev() {
                // Somebody else may use it by now.
                let _ = std::fs::remove_dir(parent);
            }
        }
        Ok(())
    }

    async fn plan_swap(&self, staged: &Note) -> Result<Note> {
        let staging: Staging = parse(staged)?;
        let plan =
            |s: &Staged| Swapping::plan(&s.path, &s.content(), s.inner, self.id.as_str(), self.excludes.as_ref());
        let swaps: Vec<Swapping> = staging.paths.iter().map(plan).collect::<Result<_>>()?;
        Ok(json!({ "swaps": swaps }))
    }

    async fn swap(&self, swap: &Note) -> Result<()> {
        Self::swaps(swap)?.iter().try_for_each(Swapping::swap)
    }

    async fn unswap(&self, swap: &Note) -> Result<()> {
        Self::swaps(swap)?.iter().rev().try_for_each(Swapping::unswap)
    }

    async fn previous(&self, swap: &Note) -> Result<Vec<Previous>> {
        let mut previous = Vec::new();
        for swapping in Self::swaps(swap)? {
            let path = swapping.previous()?;
            previous.extend(path.map(|p| Previous { name: p.display().to_string(), bytes: None }));
        }
        Ok(previous)
    }

    fn staged_as(&self, staged: &Note) -> Result<StagedAs> {
        let staging: Staging = parse(staged)?;
        let paths = staging.paths.iter().map(|s| (s.path.clone(), s.content())).collect();
        Ok(StagedAs { paths, ..StagedAs::default() })
    }

    fn unstage_by_hand(&self, staging: &Note) -> Vec<String> {
        let staged = parse::<Staging>(staging).map(|s| s.paths).unwrap_or_default();
        staged.iter().map(|s| by_hand::remove(&s.directory)).collect()
    }

    fn unswap_by_hand(&self, swap: &Note) -> Vec<String> {
        Self::swaps(swap).unwrap_or_default().iter().rev().flat_map(Swapping::by_hand).collect()
    }

    async fn drop_previous(&self, swap: &Note) -> Result<()> {
        Self::swaps(swap)?.iter().try_for_each(Swapping::drop_previous)
    }
}
