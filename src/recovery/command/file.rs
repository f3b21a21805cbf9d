//! A file or directory that a program makes of the output, or that the output is: made beside the live one, and exchanged
//! with it.
//!
//! A SQLite database is more than its file: beside it lie a log of changes (`-wal`) with its index (`-shm`), or a
//! `-journal`. One of the old database beside the new file would be replayed into it. So these move with their file.

use super::{Taking, parse};
use crate::error::{Error, Kind, Result};
use crate::host::{holders, user};
use crate::recovery::exchange::{self, Exchange, Identity};
use crate::recovery::resource::{Class, Compared, Findings, Note, Previous, Resource};
use crate::sources::command::Owned;
use crate::sources::command::dump::owned;
use crate::sources::command::run::Given;
use async_trait::async_trait;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::fs::{File, Permissions};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What a SQLite file begins with.
const SQLITE: &[u8] = b"SQLite format 3\0";
/// What belongs to it, by what is added to its name.
const BESIDE_SQLITE: &[&str] = &["-wal", "-shm", "-journal"];

/// See the module.
pub struct FileCommand {
    /// The output.
    pub taking: Taking,
    /// What is replaced.
    pub path: PathBuf,
    /// What an exchange must not take away from under this very run.
    pub own: Vec<PathBuf>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Staging {
    /// The directory beside the live one that is ours.
    directory: PathBuf,
    /// Directories above it that are not there, outermost first.
    parents: Vec<PathBuf>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Swap {
    exchange: Exchange,
    /// What lies beside the live file and belongs to it, by what is added to the name.
    beside: Vec<(String, Option<Identity>)>,
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn is_sqlite(path: &Path) -> bool {
    let mut begin = [0; SQLITE.len()];
    File::open(path).and_then(|mut f| f.read_exact(&mut begin)).is_ok() && begin == SQLITE
}

fn remove(path: &Path) -> Result<()> {
    let removed =
        if path.is_dir() && !path.is_symlink() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match removed {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("it cannot be removed", path, e).kind(Kind::Restore))
        }
        _ => Ok(()),
    }
}

fn move_to(from: &Path, to: &Path) -> Result<()> {
    renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE).map_err(|e| {
        Error::new(Kind::Restore, "what belongs to a database cannot be moved with it")
            .at(format!("{} to {}", from.display(), to.display()))
            .because(std::io::Error::from(e))
    })
}

impl Staging {
    fn content(&self, path: &Path) -> PathBuf {
        self.directory.join(path.file_name().unwrap_or_default())
    }
}

impl Swap {
    /// Those of the new file lie where it was staged, or beside it when it is live; those of the old one are known by
    /// identity.
    fn forward(&self) -> Result<()> {
        let x = &self.exchange;
        for (suffix, old) in self.beside.iter().filter(|(_, old)| old.is_some()) {
            let live = beside(&x.path, suffix);
            if exchange::identity(&live)? == *old {
                move_to(&live, &beside(&x.previous, suffix))?;
            }
        }
        x.swap()?;
        for (suffix, _) in &self.beside {
            let staged = beside(&x.staged, suffix);
            if exchange::identity(&staged)?.is_some() {
                move_to(&staged, &beside(&x.path, suffix))?;
            }
        }
        Ok(())
    }

    fn back(&self) -> Result<()> {
        let x = &self.exchange;
        if exchange::identity(&x.path)? == Some(x.new) {
            for (suffix, old) in &self.beside {
                let live = beside(&x.path, suffix);
                let there = exchange::identity(&live)?;
                if there.is_some() && there != *old {
                    move_to(&live, &beside(&x.staged, suffix))?;
                }
            }
        }
        x.unswap()?;
        for (suffix, old) in self.beside.iter().filter(|(_, old)| old.is_some()) {
            let previous = beside(&x.previous, suffix);
            if exchange::identity(&previous)? == *old {
                move_to(&previous, &beside(&x.path, suffix))?;
            }
        }
        Ok(())
    }
}

impl FileCommand {
    fn given(&self, content: &Path) -> Given {
        let mut given = self.taking.given();
        given.words.push(("{staging}", content.display().to_string()));
        given
    }

    /// The staging directory belongs to whom the programs run as.
    async fn make(&self, directory: &Path) -> Result<()> {
        let failed = |e| Error::io("the staging directory cannot be made", directory, e).kind(Kind::Restore);
        let made = directory.parent().map_or(Ok(()), std::fs::create_dir_all);
        made.and_then(|()| std::fs::DirBuilder::new().mode(0o700).create(directory)).map_err(failed)?;
        if let Some(name) = &self.taking.configured.runner.os_user {
            let user = user::find(name).await?;
            std::os::unix::fs::chown(directory, Some(user.uid), Some(user.gid)).map_err(failed)?;
        }
        Ok(())
    }

    /// Mode and owner of what is live, or else of what was in the backup.
    fn own_it(&self, content: &Path) -> Result<()> {
        let Some(Owned { mode, uid, gid }) = owned(&self.path).or(self.taking.facts.file) else { return Ok(()) };
        std::os::unix::fs::chown(content, Some(uid), Some(gid))
            .and_then(|()| std::fs::set_permissions(content, Permissions::from_mode(mode)))
            .map_err(|e| Error::io("mode and owner cannot be set", content, e).kind(Kind::Restore))
    }
}

#[async_trait]
impl Resource for FileCommand {
    fn label(&self) -> String {
        format!("{} of source {}", self.path.display(), self.taking.source)
    }

    fn class(&self) -> Class {
        Class::Tree
    }

    async fn preflight(&self) -> Result<Findings> {
        let refused = |what: String| Error::new(Kind::Refused, what).at(self.path.display());
        if let Some(own) = self.own.iter().find(|o| o.starts_with(&self.path)) {
            return Err(refused(format!("it holds {}, which this restore itself needs", own.display())));
        }
        if self.path.is_symlink() {
            return Err(refused("it is a symbolic link, which the exchange would replace".to_owned())
                .hint("Set `stage_path` to what it leads to."));
        }
        let parent = self.path.parent().and_then(|p| p.ancestors().find(|a| a.is_dir())).unwrap_or(Path::new("/"));
        if holders::is_mount_point(&self.path) || !exchange::is_possible(parent) {
            return Err(refused("it cannot be exchanged on this file system".to_owned())
                .hint("It is a mount point, or its file system has no exchange (NFS)."));
        }
        let back = &self.taking.configured.back;
        let mut found = self.taking.preflight(&[back.load.as_ref(), back.verify.as_ref()], parent)?;
        let users = holders::of(&self.path);
        found.users = users.into_iter().map(|h| format!("process:{} {}", h.pid, h.name)).collect();
        Ok(found)
    }

    async fn plan_staging(&self) -> Result<Note> {
        let (Some(parent), Some(name)) = (self.path.parent(), self.path.file_name()) else {
            return Err(Error::new(Kind::Usage, "not a path that can be restored").at(self.path.display()));
        };
        let mut parents: Vec<PathBuf> = parent.ancestors().take_while(|p| !p.exists()).map(Path::to_owned).collect();
        parents.reverse();
        let directory = parent.join(format!(".{}.backstay-{}", name.to_string_lossy(), self.taking.id));
        Ok(json!(Staging { directory, parents }))
    }

    async fn stage(&self, staging: &Note) -> Result<Note> {
        let note: Staging = parse(staging)?;
        let content = note.content(&self.path);
        // Left by an interrupted run of this very restore; the name is ours.
        remove(&note.directory)?;
        self.make(&note.directory).await?;
        match &self.taking.configured.back.load {
            Some(_) => self.taking.load(&self.given(&content)).await?,
            None => self.taking.write(&content).await?,
        };
        if exchange::identity(&content)?.is_none() {
            return Err(Error::new(Kind::Restore, "`load` ended well and made nothing")
                .at(content.display())
                .hint("It must write to the path that {staging} stands for."));
        }
        self.own_it(&content)?;
        let synced = File::open(&note.directory).and_then(|d| rustix::fs::syncfs(&d).map_err(std::io::Error::from));
        synced.map_err(|e| Error::io("what was staged cannot be synced", &note.directory, e).kind(Kind::Restore))?;
        Ok(staging.clone())
    }

    async fn verify(&self, staged: &Note) -> Result<Vec<Compared>> {
        let note: Staging = parse(staged)?;
        let verify = &self.taking.configured.back.verify;
        if let Some(argv) = verify {
            let given = self.given(&note.content(&self.path));
            self.taking.call("verify", argv, &given).await?.run(Kind::Mismatch).await?;
        }
        Ok(self.taking.said(verify.is_some()))
    }

    async fn unstage(&self, staging: &Note) -> Result<()> {
        let note: Staging = parse(staging)?;
        remove(&note.directory)?;
        for parent in note.parents.iter().rev() {
            // Somebody else may use it by now.
            let _ = std::fs::remove_dir(parent);
        }
        Ok(())
    }

    async fn plan_swap(&self, staged: &Note) -> Result<Note> {
        let note: Staging = parse(staged)?;
        let content = note.content(&self.path);
        let exchange = exchange::plan(&self.path, &content, self.taking.id.as_str())?;
        let suffixes = if is_sqlite(&self.path) || is_sqlite(&content) { BESIDE_SQLITE } else { &[] };
        let beside = suffixes
            .iter()
            .map(|s| Ok(((*s).to_owned(), exchange::identity(&beside(&self.path, s))?)))
            .collect::<Result<_>>()?;
        Ok(json!(Swap { exchange, beside }))
    }

    async fn swap(&self, swap: &Note) -> Result<()> {
        let swap: Swap = parse(swap)?;
        swap.forward()?;
        if let Some(directory) = swap.exchange.staged.parent() {
            let _ = std::fs::remove_dir(directory);
        }
        Ok(())
    }

    async fn unswap(&self, swap: &Note) -> Result<()> {
        let swap: Swap = parse(swap)?;
        if let Some(directory) = swap.exchange.staged.parent() {
            let made = std::fs::DirBuilder::new().mode(0o700).recursive(true).create(directory);
            made.map_err(|e| Error::io("the staging directory cannot be made", directory, e).kind(Kind::Restore))?;
        }
        swap.back()
    }

    async fn previous(&self, swap: &Note) -> Result<Vec<Previous>> {
        let x = parse::<Swap>(swap)?.exchange;
        if x.live.is_none() || exchange::identity(&x.previous)? != x.live {
            return Ok(Vec::new());
        }
        let bytes = std::fs::metadata(&x.previous).ok().filter(|m| m.is_file()).map(|m| m.len());
        Ok(vec![Previous { name: x.previous.display().to_string(), bytes }])
    }

    async fn drop_previous(&self, swap: &Note) -> Result<()> {
        let swap: Swap = parse(swap)?;
        let x = &swap.exchange;
        if x.live.is_none() || exchange::identity(&x.previous)? != x.live {
            return Ok(());
        }
        for (suffix, old) in swap.beside.iter().filter(|(_, old)| old.is_some()) {
            let previous = beside(&x.previous, suffix);
            if exchange::identity(&previous)? == *old {
                remove(&previous)?;
            }
        }
        remove(&x.previous)
    }
}
