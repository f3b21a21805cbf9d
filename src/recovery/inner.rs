//! The swap of what is in a directory, where the directory itself cannot change its place: a mount point, or a file
//! system that exchanges nothing.
//!
//! Names move one by one, so this is no single step; which of three directories exist tells how far it is, and each
//! move can be asked for again. `staged` exists until all that was live is in `before`; renaming it to `placing` is
//! the turning point; `placing` exists until all of it is in place.

use super::exchange::{Identity, identity};
use crate::error::{Error, Kind, Result};
use rustix::fs::{AtFlags, CWD, Gid, Mode, RenameFlags, Timespec, Timestamps, UTIME_OMIT, Uid, renameat_with};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// One swap: what undo and a second look need, for the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inner {
    /// The directory.
    pub root: PathBuf,
    /// What it is.
    pub is: Identity,
    /// Part of the names of ours in it.
    pub id: String,
}

/// Where new content for a directory is staged in it.
pub fn staged(root: &Path, id: &str) -> PathBuf {
    root.join(format!(".backstay-{id}.staged"))
}

impl Inner {
    /// Looks at the directory. No effect.
    ///
    /// # Errors
    /// [`Kind::Restore`] when nothing is staged in it.
    pub fn plan(root: &Path, id: &str) -> Result<Self> {
        let lost = |what: &str| Error::new(Kind::Restore, what.to_owned()).at(root.display());
        let is = identity(root)?.ok_or_else(|| lost("the directory is not there"))?;
        identity(&staged(root, id))?.ok_or_else(|| lost("what was staged is not there"))?;
        Ok(Inner { root: root.to_owned(), is, id: id.to_owned() })
    }

    /// Where what was restored is before the swap, and after it was taken back.
    pub fn staged(&self) -> PathBuf {
        staged(&self.root, &self.id)
    }

    fn placing(&self) -> PathBuf {
        self.root.join(format!(".backstay-{}.placing", self.id))
    }

    /// Where what was live is kept.
    pub fn before(&self) -> PathBuf {
        self.root.join(format!(".backstay-before-{}", self.id))
    }

    /// Swaps, from wherever an earlier try ended.
    ///
    /// # Errors
    /// [`Kind::Restore`].
    pub fn swap(&self) -> Result<()> {
        self.same_root()?;
        if exists(&self.staged())? {
            make(&self.before())?;
            copy_meta(&self.root, &self.before())?;
            self.empty_into(&self.before(), &[&self.staged()])?;
            rename(&self.staged(), &self.placing())?;
        }
        if exists(&self.placing())? {
            self.fill_from(&self.placing())?;
        }
        if exists(&self.before())? {
            return Ok(());
        }
        Err(Error::new(Kind::Restore, "neither what was staged nor what was live is there").at(self.root.display()))
    }

    /// Swaps back, from wherever an earlier try ended.
    ///
    /// # Errors
    /// [`Kind::Restore`].
    pub fn unswap(&self) -> Result<()> {
        self.same_root()?;
        if !exists(&self.before())? {
            return Ok(());
        }
        if !exists(&self.staged())? {
            if !exists(&self.placing())? {
                // Else it is from a swap that was interrupted, and the directory is not yet what it is to be.
                make(&self.placing())?;
                copy_meta(&self.root, &self.placing())?;
            }
            self.empty_into(&self.placing(), &[&self.before()])?;
            rename(&self.placing(), &self.staged())?;
        }
        self.fill_from(&self.before())
    }

    /// True when a swap is complete and taking it back has not begun.
    ///
    /// # Errors
    /// [`Kind::Restore`].
    pub fn is_complete(&self) -> Result<bool> {
        Ok(exists(&self.before())? && !exists(&self.staged())? && !exists(&self.placing())?)
    }

    fn same_root(&self) -> Result<()> {
        if identity(&self.root)? == Some(self.is) {
            return Ok(());
        }
        Err(Error::new(Kind::Restore, "the directory is another one than before, or is not mounted")
            .at(self.root.display())
            .hint("Mount what was there, then go on."))
    }

    /// Moves everything in the directory into one of ours, except ours.
    fn empty_into(&self, to: &Path, but: &[&Path]) -> Result<()> {
        for path in entries(&self.root)? {
            if path != to && !but.contains(&path.as_path()) {
                rename(&path, &to.join(path.file_name().unwrap_or_default()))?;
            }
        }
        sync(to)?;
        sync(&self.root)
    }

    /// Moves everything from one of ours into the directory, which becomes what that was; ours goes.
    fn fill_from(&self, from: &Path) -> Result<()> {
        for path in entries(from)? {
            rename(&path, &self.root.join(path.file_name().unwrap_or_default()))?;
        }
        copy_meta(from, &self.root)?;
        sync(&self.root)?;
        std::fs::remove_dir(from).map_err(|e| failed("a directory cannot be removed", from, e))?;
        sync(&self.root)
    }
}

fn failed(what: &str, path: &Path, e: impl Into<std::io::Error>) -> Error {
    Error::io(what, path, e.into()).kind(Kind::Restore)
}

fn exists(path: &Path) -> Result<bool> {
    identity(path).map(|i| i.is_some())
}

fn make(path: &Path) -> Result<()> {
    match std::fs::create_dir(path) {
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => Err(failed("a directory cannot be made", path, e)),
        _ => Ok(()),
    }
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let read = std::fs::read_dir(dir).and_then(|entries| entries.map(|e| e.map(|e| e.path())).collect());
    read.map_err(|e| failed("a directory cannot be read", dir, e))
}

/// Moves a path to a name that is free.
pub(super) fn rename(from: &Path, to: &Path) -> Result<()> {
    let plain = || std::fs::rename(from, to);
    let moved = match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // NFS and others know no flags; there nobody else has a name like ours either.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) if !exists(to)? => plain(),
        other => other.map_err(Into::into),
    };
    moved.map_err(|e| failed("a path cannot be moved", from, e))
}

/// Syncs a directory.
pub(super) fn sync(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(|e| failed("a directory cannot be synced", dir, e))
}

/// Owner, mode, time and attributes of a directory to another.
pub(super) fn copy_meta(from: &Path, to: &Path) -> Result<()> {
    let bad = |e: std::io::Error| failed("the owner and mode of a directory cannot be set", to, e);
    let meta = std::fs::metadata(from).map_err(bad)?;
    let as_io = std::io::Error::from;
    rustix::fs::chownat(CWD, to, Some(Uid::from_raw(meta.uid())), Some(Gid::from_raw(meta.gid())), AtFlags::empty())
        .map_err(as_io)
        .map_err(bad)?;
    rustix::fs::chmodat(CWD, to, Mode::from_raw_mode(meta.mode() & 0o7777), AtFlags::empty())
        .map_err(as_io)
        .map_err(bad)?;
    let xattrs = crate::sources::files::xattrs::of_path(std::os::unix::ffi::OsStrExt::as_bytes(from.as_os_str()))
        .map_err(as_io)
        .map_err(bad)?;
    for (name, value) in xattrs {
        let set = rustix::fs::setxattr(to, &name[..], &value, rustix::fs::XattrFlags::empty());
        match set {
            // Some belong to the place and not to the content.
            Ok(()) | Err(rustix::io::Errno::NOTSUP | rustix::io::Errno::PERM) => {}
            Err(e) => return Err(bad(e.into())),
        }
    }
    let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT as _ };
    let times = Timestamps {
        last_access: omit,
        last_modification: Timespec { tv_sec: meta.mtime(), tv_nsec: meta.mtime_nsec() as _ },
    };
    rustix::fs::utimensat(CWD, to, &times, AtFlags::empty()).map_err(as_io).map_err(bad)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn world() -> (tempfile::TempDir, Inner) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        let new = staged(&root, "ID");
        fs::create_dir_all(new.join("sub")).unwrap();
        for n in 0..3 {
            fs::write(root.join(format!("old{n}")), "old").unwrap();
            fs::write(new.join(format!("new{n}")), "new").unwrap();
        }
        fs::write(root.join("both"), "old").unwrap();
        fs::write(new.join("both"), "new").unwrap();
        fs::set_permissions(&root, fs::Permissions::from_mode(0o750)).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o711)).unwrap();
        let inner = Inner::plan(&root, "ID").unwrap();
        (dir, inner)
    }

    /// Names, the content of the common one, and the mode.
    fn picture(dir: &Path) -> (Vec<String>, String, u32) {
        let mut names: Vec<String> = entries(dir)
            .unwrap()
            .iter()
            .map(|p| p.file_name().unwrap().to_string_lossy().into_owned())
            .filter(|n| !n.starts_with(".backstay"))
            .collect();
        names.sort();
        (names, fs::read_to_string(dir.join("both")).unwrap_or_default(), fs::metadata(dir).unwrap().mode() & 0o777)
    }

    #[test]
    fn each_way_may_be_gone_twice_and_from_any_point_between() {
        let (_dir, x) = world();
        let (old, new) = (picture(&x.root), picture(&x.staged()));
        for _ in 0..2 {
            x.swap().unwrap();
            assert_eq!((picture(&x.root), picture(&x.before())), (new.clone(), old.clone()));
        }
        for _ in 0..2 {
            x.unswap().unwrap();
            assert_eq!((picture(&x.root), picture(&x.staged())), (old.clone(), new.clone()));
        }
        // Killed within the moves of each phase.
        for (in_placing, forward) in [(false, true), (false, false), (true, true), (true, false)] {
            let (_dir, x) = world();
            make(&x.before()).unwrap();
            copy_meta(&x.root, &x.before()).unwrap();
            fs::rename(x.root.join("old1"), x.before().join("old1")).unwrap();
            if in_placing {
                for name in ["old0", "old2", "both"] {
                    fs::rename(x.root.join(name), x.before().join(name)).unwrap();
                }
                fs::rename(x.staged(), x.placing()).unwrap();
                fs::rename(x.placing().join("new2"), x.root.join("new2")).unwrap();
            }
            if forward {
                x.swap().unwrap();
                assert_eq!((picture(&x.root), picture(&x.before())), (new.clone(), old.clone()));
            } else {
                x.unswap().unwrap();
                assert_eq!((picture(&x.root), picture(&x.staged())), (old.clone(), new.clone()));
            }
        }
    }

    #[test]
    fn another_directory_in_its_place_is_not_touched() {
        let (dir, x) = world();
        fs::rename(&x.root, dir.path().join("away")).unwrap();
        fs::create_dir(&x.root).unwrap();
        assert!(x.swap().is_err() && x.unswap().is_err());
    }
}
