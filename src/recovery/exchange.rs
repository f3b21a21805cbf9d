//! The exchange of paths: what was staged takes the place of what is live, and what was live stays beside it.
//!
//! Which is which is told by device and inode, never by name: an exchange is its own inverse, and one that is asked for
//! twice after a crash must not put the old data back.

use crate::error::{Error, Kind, Result};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    device: u64,
    inode: u64,
}

/// The identity of what is at a path, not followed; nothing when nothing is there.
///
/// # Errors
/// [`Kind::Restore`] when it cannot be looked at.
pub fn identity(path: &Path) -> Result<Option<Identity>> {
    match std::fs::symlink_metadata(path) {
        Ok(m) => Ok(Some(Identity { device: m.dev(), inode: m.ino() })),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("a path cannot be looked at", path, e).kind(Kind::Restore)),
    }
}

/// Whether directories can be exchanged below `parent`: not on NFS, nor on the lower layers of an overlay. Leaves
/// nothing behind.
pub fn is_possible(parent: &Path) -> bool {
    let name = |n| parent.join(format!(".backstay-probe-{:08x}-{n}", rand::random::<u32>()));
    let (one, two) = (name(1), name(2));
    let made = std::fs::create_dir(&one).and_then(|()| std::fs::create_dir(&two));
    let possible = made.is_ok() && renameat_with(CWD, &one, CWD, &two, RenameFlags::EXCHANGE).is_ok();
    let _ = std::fs::remove_dir(&one);
    let _ = std::fs::remove_dir(&two);
    possible
}

/// One exchange: what undo and a second look need, for the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// The place that counts.
    pub path: PathBuf,
    /// Where the new content is staged, on the same file system.
    pub staged: PathBuf,
    /// What it is.
    pub new: Identity,
    /// What is at the path, if anything.
    pub live: Option<Identity>,
    /// Where that will be kept.
    pub previous: PathBuf,
}

/// Looks at both sides, and finds a free name for what will be kept. No effect.
///
/// # Errors
/// [`Kind::Restore`] when nothing is staged.
pub fn plan(path: &Path, staged: &Path, id: &str) -> Result<Exchange> {
    plan_as(&path.display().to_string(), path, staged, id)
}

/// The same with a name that begins with a dot: cron, nginx, sudo and others read every file of a directory, and pass over
/// those. What was kept of a file there must not be read beside the new one.
///
/// # Errors
/// As above.
pub fn plan_unseen(path: &Path, staged: &Path, id: &str) -> Result<Exchange> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let hidden = if name.starts_with('.') { name.into_owned() } else { format!(".{name}") };
    plan_as(&path.with_file_name(hidden).display().to_string(), path, staged, id)
}

fn plan_as(kept: &str, path: &Path, staged: &Path, id: &str) -> Result<Exchange> {
    let new = identity(staged)?
        .ok_or_else(|| Error::new(Kind::Restore, "what was staged is not there").at(staged.display()))?;
    let mut previous = PathBuf::from(format!("{kept}_before_{id}"));
    for n in 1.. {
        if identity(&previous)?.is_none() {
            break;
        }
        previous = PathBuf::from(format!("{kept}_before_{id}.{n}"));
    }
    Ok(Exchange { path: path.to_owned(), staged: staged.to_owned(), new, live: identity(path)?, previous })
}

impl Exchange {
    /// Exchanges. What is done already is left as it is.
    ///
    /// # Errors
    /// [`Kind::Restore`]; what was live is then untouched at its path.
    pub fn swap(&self) -> Result<()> {
        let at_path = identity(&self.path)?;
        if at_path == Some(self.new) {
            return Ok(());
        }
        if at_path != self.live {
            return Err(self.stranger());
        }
        if self.live.is_none() {
            return self.rename(&self.staged, &self.path, RenameFlags::NOREPLACE);
        }
        // The new content first takes the name that the previous one will have, and then both change places. In this
        // order a crash never leaves live data where staged data is expected, which would be removed.
        if identity(&self.previous)? != Some(self.new) {
            self.rename(&self.staged, &self.previous, RenameFlags::NOREPLACE)?;
        }
        self.rename(&self.previous, &self.path, RenameFlags::EXCHANGE)
    }

    /// Exchanges back: the new content is where it was staged again.
    ///
    /// # Errors
    /// [`Kind::Restore`].
    pub fn unswap(&self) -> Result<()> {
        let at_path = identity(&self.path)?;
        if at_path == Some(self.new) {
            let Some(live) = self.live else {
                return self.rename(&self.path, &self.staged, RenameFlags::NOREPLACE);
            };
            if identity(&self.previous)? != Some(live) {
                return Err(Error::new(Kind::Restore, "what was there before the restore is not where it was kept")
                    .at(self.previous.display()));
            }
            self.rename(&self.previous, &self.path, RenameFlags::EXCHANGE)?;
        } else if at_path != self.live {
            return Err(self.stranger());
        }
        if identity(&self.previous)? == Some(self.new) {
            self.rename(&self.previous, &self.staged, RenameFlags::NOREPLACE)?;
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path, flags: RenameFlags) -> Result<()> {
        renameat_with(CWD, from, CWD, to, flags).map_err(|e: Errno| {
            Error::new(Kind::Restore, "a path cannot be exchanged")
                .at(format!("{} and {}", from.display(), to.display()))
                .because(std::io::Error::from(e))
        })?;
        for side in [from, to] {
            if let Some(parent) = side.parent() {
                File::open(parent)
                    .and_then(|d| d.sync_all())
                    .map_err(|e| Error::io("a directory cannot be synced", parent, e).kind(Kind::Restore))?;
            }
        }
        Ok(())
    }

    fn stranger(&self) -> Error {
        Error::new(Kind::Restore, "what is there is neither what was live nor what was restored")
            .at(self.path.display())
            .hint("Somebody has put it there meanwhile. Look at it, and move it by hand.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn world(live: bool) -> (tempfile::TempDir, Exchange) {
        let dir = tempfile::tempdir().unwrap();
        let at = |n: &str| dir.path().join(n);
        fs::create_dir_all(at(".staging/data")).unwrap();
        fs::write(at(".staging/data/x"), "new").unwrap();
        if live {
            fs::create_dir(at("data")).unwrap();
            fs::write(at("data/x"), "old").unwrap();
        }
        let x = plan(&at("data"), &at(".staging/data"), "ID").unwrap();
        (dir, x)
    }

    fn content(path: &Path) -> Option<String> {
        fs::read_to_string(path.join("x")).ok()
    }

    #[test]
    fn each_way_may_be_gone_twice_and_from_any_point_between() {
        for live in [true, false] {
            let (_dir, x) = world(live);
            let old = live.then(|| "old".to_owned());
            for _ in 0..2 {
                x.swap().unwrap();
                assert_eq!(content(&x.path).as_deref(), Some("new"));
                assert_eq!(content(&x.previous), old);
            }
            for _ in 0..2 {
                x.unswap().unwrap();
                assert_eq!(content(&x.path), old);
                assert_eq!(content(&x.staged).as_deref(), Some("new"));
                assert_eq!(content(&x.previous), None);
            }
        }
        // Killed between the two renames of a swap.
        for forward in [true, false] {
            let (_dir, x) = world(true);
            fs::rename(&x.staged, &x.previous).unwrap();
            if forward {
                x.swap().unwrap();
                assert_eq!((content(&x.path).as_deref(), content(&x.previous).as_deref()), (Some("new"), Some("old")));
            } else {
                x.unswap().unwrap();
                assert_eq!((content(&x.path).as_deref(), content(&x.staged).as_deref()), (Some("old"), Some("new")));
            }
        }
    }

    #[test]
    fn what_somebody_else_put_there_is_not_touched() {
        let (dir, x) = world(true);
        fs::rename(&x.path, dir.path().join("elsewhere")).unwrap();
        fs::create_dir(&x.path).unwrap();
        assert!(x.swap().is_err() && x.unswap().is_err());
        assert_eq!(content(&x.staged).as_deref(), Some("new"));
    }
}
