//! The swap of one path, whole or by what is in it, with what the backup leaves out moving along.

use super::along;
use super::by_hand;
use super::exchange::{self, Exchange};
use super::inner::Inner;
use crate::error::{Error, Kind, Result};
use crate::sources::files::exclude::Excludes;
use serde::{Deserialize, Serialize};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// How one path is swapped: what doing, undoing and a second look need, for the journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Swapping {
    /// Which way.
    pub how: How,
    /// What moves along, relative to the path.
    #[serde(default)]
    pub along: Vec<PathBuf>,
    /// What would, and has no directory in the restored tree; it stays with what was there before.
    #[serde(default)]
    pub left: Vec<PathBuf>,
}

/// The two ways.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum How {
    /// The path and what was staged change places.
    Whole(Exchange),
    /// What is in both does.
    Inner(Inner),
}

impl Swapping {
    /// The path that counts.
    pub fn path(&self) -> &Path {
        match &self.how {
            How::Whole(x) => &x.path,
            How::Inner(x) => &x.root,
        }
    }

    /// Looks at both sides. No effect.
    ///
    /// # Errors
    /// [`Kind::Restore`] when nothing is staged, or the live tree cannot be read.
    pub fn plan(path: &Path, staged: &Path, inner: bool, id: &str, excludes: Option<&Excludes>) -> Result<Self> {
        let is_tree = |path: &Path| path.symlink_metadata().is_ok_and(|m| m.is_dir());
        let how = match inner {
            true => How::Inner(Inner::plan(path, id)?),
            false if is_tree(path) => How::Whole(exchange::plan(path, staged, id)?),
            false => How::Whole(exchange::plan_unseen(path, staged, id)?),
        };
        let found = match excludes {
            Some(excludes) if is_tree(path) && is_tree(staged) => along::find(path, staged, excludes)?,
            _ => along::Found::default(),
        };
        Ok(Swapping { how, along: found.moves, left: found.left })
    }

    /// True when the swap has begun: asked for again after a crash.
    ///
    /// # Errors
    /// [`Kind::Restore`].
    pub fn is_begun(&self) -> Result<bool> {
        Ok(match &self.how {
            How::Whole(x) => exchange::identity(&x.path)? == Some(x.new),
            How::Inner(x) => exchange::identity(&x.before())?.is_some(),
        })
    }

    /// Where what was live is once the swap is done; nothing before that, or when nothing was live.
    ///
    /// # Errors
    /// [`Kind::Restore`].
    pub fn previous(&self) -> Result<Option<PathBuf>> {
        Ok(match &self.how {
            How::Whole(x) => {
                (x.live.is_some() && exchange::identity(&x.previous)? == x.live).then(|| x.previous.clone())
            }
            How::Inner(x) => exchange::identity(&x.before())?.map(|_| x.before()),
        })
    }

    /// Swaps, from wherever an earlier try ended.
    ///
    /// # Errors
    /// [`Kind::Restore`].
    pub fn swap(&self) -> Result<()> {
        match &self.how {
            How::Whole(x) => {
                x.swap()?;
                // Only its empty directory is left.
                if let Some(directory) = x.staged.parent() {
                    let _ = std::fs::remove_dir(directory);
                }
            }
            How::Inner(x) => x.swap()?,
        }
        match self.previous()? {
            Some(previous) => along::carry(&previous, self.path(), &self.along),
            None => Ok(()),
        }
    }

    /// Swaps back, from wherever an earlier try ended.
    ///
    /// # Errors
    /// [`Kind::Restore`].
    pub fn unswap(&self) -> Result<()> {
        // Half taken back, the two trees are not what the list speaks of; what moved along is back by then.
        let complete = match &self.how {
            How::Whole(_) => true,
            How::Inner(x) => x.is_complete()?,
        };
        if let Some(previous) = self.previous()?.filter(|_| complete) {
            along::carry(self.path(), &previous, &self.along)?;
        }
        match &self.how {
            How::Whole(x) => {
                if let Some(directory) = x.staged.parent() {
                    let made = std::fs::DirBuilder::new().mode(0o700).recursive(true).create(directory);
                    made.map_err(|e| {
                        Error::io("the staging directory cannot be made", directory, e).kind(Kind::Restore)
                    })?;
                }
                x.unswap()
            }
            How::Inner(x) => x.unswap(),
        }
    }

    /// What somebody does to take the swap back.
    pub fn by_hand(&self) -> Vec<String> {
        let path = self.path();
        let (kept, new) = match &self.how {
            How::Whole(x) => (x.previous.clone(), x.staged.clone()),
            How::Inner(x) => (x.before(), x.staged()),
        };
        let has_kept = match &self.how {
            How::Whole(x) => x.live.is_some(),
            How::Inner(_) => true,
        };
        let mut left: Vec<String> = self.along.iter().map(|p| by_hand::rename(&path.join(p), &kept.join(p))).collect();
        match &self.how {
            How::Whole(_) => {
                left.push(by_hand::rename(path, &new));
                left.extend(has_kept.then(|| by_hand::rename(&kept, path)));
            }
            How::Inner(_) => left.push(format!(
                "move everything in {} but .backstay-* to {}, then everything in {} to {0}",
                path.display(),
                new.display(),
                kept.display()
            )),
        }
        left
    }

    /// Deletes what the swap kept.
    ///
    /// # Errors
    /// [`Kind::Restore`].
    pub fn drop_previous(&self) -> Result<()> {
        let Some(previous) = self.previous()? else { return Ok(()) };
        let is_tree = previous.symlink_metadata().is_ok_and(|m| m.is_dir());
        let removed = if is_tree { std::fs::remove_dir_all(&previous) } else { std::fs::remove_file(&previous) };
        removed.map_err(|e| Error::io("the previous copy cannot be removed", &previous, e).kind(Kind::Restore))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_is_left_out_is_in_the_live_tree_before_and_after_and_after_the_way_back() {
        for inner in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("app");
            let staged = match inner {
                true => super::super::inner::staged(&path, "ID"),
                false => dir.path().join(".staging/app"),
            };
            fs::create_dir_all(path.join("src/cache")).unwrap();
            fs::create_dir_all(path.join("venv")).unwrap();
            fs::write(path.join("src/a"), "old").unwrap();
            fs::create_dir_all(staged.join("src")).unwrap();
            fs::write(staged.join("src/a"), "new").unwrap();
            let excludes = Excludes::new(&["venv".into(), "cache".into()], &[]).unwrap();
            let swapping = Swapping::plan(&path, &staged, inner, "ID", Some(&excludes)).unwrap();
            let look = |expected: &str| {
                assert_eq!(fs::read_to_string(path.join("src/a")).unwrap(), expected, "inner: {inner}");
                assert!(path.join("venv").is_dir() && path.join("src/cache").is_dir(), "inner: {inner}");
            };
            look("old");
            for _ in 0..2 {
                for _ in 0..2 {
                    swapping.swap().unwrap();
                    look("new");
                    assert!(swapping.is_begun().unwrap());
                }
                for _ in 0..2 {
                    swapping.unswap().unwrap();
                    look("old");
                }
            }
            swapping.swap().unwrap();
            let previous = swapping.previous().unwrap().unwrap();
            assert_eq!(fs::read_to_string(previous.join("src/a")).unwrap(), "old");
            swapping.drop_previous().unwrap();
            assert!(!previous.exists());
            look("new");
        }
    }
}
