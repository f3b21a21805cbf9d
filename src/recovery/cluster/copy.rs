//! Copies of directory trees of a stopped server: files share their blocks where the file system can do that.

use super::work::Stop;
use crate::error::{Error, Kind, Result};
use crate::recovery::inner::{copy_meta, sync};
use rustix::fs::{AtFlags, CWD, Gid, Uid};
use rustix::process::{getegid, geteuid, getgroups};
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

fn failed(what: &str, path: &Path, e: impl Into<std::io::Error>) -> Error {
    Error::io(what, path, e.into()).kind(Kind::Restore)
}

/// The name of a copy that is not whole.
pub fn part(of: &Path) -> PathBuf {
    let mut name = of.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    of.with_file_name(name)
}

/// Copies a tree with owners, modes and attributes, and syncs it. What is at the target is removed first.
///
/// # Errors
/// [`Kind::Restore`], or [`Kind::Interrupted`] when it was to `stop`; what was copied until then is there.
pub fn tree(from: &Path, to: &Path, stop: &Stop) -> Result<()> {
    remove(to)?;
    directory(from, to, stop)?;
    let synced = File::open(to).and_then(|d| rustix::fs::syncfs(&d).map_err(std::io::Error::from));
    synced.map_err(|e| failed("the copy cannot be synced", to, e))?;
    to.parent().map_or(Ok(()), sync)
}

fn directory(from: &Path, to: &Path, stop: &Stop) -> Result<()> {
    let unreadable = |e| failed("a directory of the server cannot be read", from, e);
    std::fs::create_dir(to).map_err(|e| failed("a directory of the copy cannot be made", to, e))?;
    for entry in std::fs::read_dir(from).map_err(unreadable)? {
        stop.look()?;
        let entry = entry.map_err(unreadable)?;
        let (path, copy) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(unreadable)?;
        if kind.is_dir() {
            directory(&path, &copy, stop)?;
        } else if kind.is_symlink() {
            link(&path, &copy)?;
        } else if kind.is_file() {
            // The kernel copies, without reading where blocks can be shared.
            std::fs::copy(&path, &copy).map_err(|e| failed("a file of the server cannot be copied", &path, e))?;
            copy_meta(&path, &copy)?;
        }
    }
    copy_meta(from, to)
}

/// Copies a link, with its owner where we may.
///
/// # Errors
/// [`Kind::Restore`].
pub fn link(from: &Path, to: &Path) -> Result<()> {
    let bad = |e: std::io::Error| failed("a link of the server cannot be copied", from, e);
    let meta = from.symlink_metadata().map_err(bad)?;
    let target = std::fs::read_link(from).map_err(bad)?;
    std::os::unix::fs::symlink(target, to).map_err(bad)?;
    let (uid, gid) = (Uid::from_raw(meta.uid()), Gid::from_raw(meta.gid()));
    match rustix::fs::chownat(CWD, to, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW) {
        // Only root gives a link away, and whose it is is of no account.
        Ok(()) | Err(rustix::io::Errno::PERM) => Ok(()),
        Err(e) => Err(bad(e.into())),
    }
}

/// Whether only root could make a file with this owner.
pub(super) fn is_anothers(meta: &Metadata) -> bool {
    let (me, mine) = (geteuid(), getegid());
    let among = || getgroups().unwrap_or_default().iter().any(|group| group.as_raw() == meta.gid());
    !me.is_root() && (meta.uid() != me.as_raw() || (meta.gid() != mine.as_raw() && !among()))
}

/// The first file or directory of a tree that is such a one, if any is; of those that [`tree`] copies with their owner.
/// What vanishes meanwhile is none.
pub fn first(tree: &Path, is_such: &dyn Fn(&Metadata) -> bool) -> Option<PathBuf> {
    let meta = tree.symlink_metadata().ok()?;
    if (meta.is_dir() || meta.is_file()) && is_such(&meta) {
        return Some(tree.to_owned());
    }
    if !meta.is_dir() {
        return None;
    }
    std::fs::read_dir(tree).into_iter().flatten().flatten().find_map(|entry| first(&entry.path(), is_such))
}

/// Removes a tree, if there is one.
///
/// # Errors
/// [`Kind::Restore`].
pub fn remove(tree: &Path) -> Result<()> {
    match std::fs::remove_dir_all(tree) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(failed("a directory cannot be removed", tree, e)),
        _ => Ok(()),
    }
}

/// Removes what is in a directory, if there is one.
///
/// # Errors
/// [`Kind::Restore`].
pub fn empty(directory: &Path) -> Result<()> {
    let bad = |e| failed("a directory cannot be emptied", directory, e);
    let entries = match std::fs::read_dir(directory) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(bad)?,
    };
    for entry in entries {
        let entry = entry.map_err(bad)?;
        match entry.file_type().map_err(bad)?.is_dir() {
            true => remove(&entry.path())?,
            false => std::fs::remove_file(entry.path()).map_err(bad)?,
        }
    }
    Ok(())
}

/// Bytes that a tree takes on its disk. What vanishes meanwhile is not counted.
pub fn bytes(tree: &Path) -> u64 {
    let Ok(meta) = tree.symlink_metadata() else { return 0 };
    let own = meta.blocks() * 512;
    if !meta.is_dir() {
        return own;
    }
    own + std::fs::read_dir(tree).into_iter().flatten().flatten().map(|e| bytes(&e.path())).sum::<u64>()
}

/// Free bytes where a path is, or would be.
pub fn free(path: &Path) -> Option<u64> {
    let there = path.ancestors().find(|p| p.exists())?;
    let stat = rustix::fs::statvfs(there).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Whether a copy of this file in that directory shares its blocks. Leaves nothing behind.
pub fn shares(file: &Path, directory: &Path) -> bool {
    let probe = directory.join(format!(".backstay-probe-{:08x}", rand::random::<u32>()));
    let shared = File::open(file)
        .and_then(|from| Ok((from, File::create_new(&probe)?)))
        .is_ok_and(|(from, to)| rustix::fs::ioctl_ficlone(&to, &from).is_ok());
    let _ = std::fs::remove_file(&probe);
    shared
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_copy_has_what_the_tree_has_and_nothing_that_was_there_before() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("data"), dir.path().join("copy"));
        fs::create_dir_all(from.join("base/1")).unwrap();
        fs::create_dir_all(to.join("older")).unwrap();
        fs::write(from.join("base/1/2"), vec![7; 100_000]).unwrap();
        fs::write(from.join("empty"), "").unwrap();
        std::os::unix::fs::symlink("/nowhere/at all", from.join("link")).unwrap();
        let bind = std::os::unix::net::UnixListener::bind(from.join("socket")).unwrap();
        fs::set_permissions(from.join("empty"), fs::Permissions::from_mode(0o640)).unwrap();
        fs::set_permissions(&from, fs::Permissions::from_mode(0o700)).unwrap();
        tree(&from, &to, &Stop::default()).unwrap();
        drop(bind);
        assert_eq!(fs::read(to.join("base/1/2")).unwrap(), vec![7; 100_000]);
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("/nowhere/at all"));
        assert_eq!(fs::metadata(to.join("empty")).unwrap().mode() & 0o777, 0o640);
        assert_eq!(fs::metadata(&to).unwrap().mode() & 0o777, 0o700);
        assert!(!to.join("older").exists() && !to.join("socket").exists());
        assert!(bytes(&to) >= 100_000);
        assert_eq!(part(&to), dir.path().join("copy.part"));
        assert_eq!(first(&from, &|meta| meta.len() == 100_000), Some(from.join("base/1/2")));
        // Of a link it is of no account.
        assert_eq!(first(&from, &|meta| meta.mode() & 0o777 == 0o777), None);
        let stop = Stop::default();
        stop.set();
        assert_eq!(tree(&from, &to, &stop).unwrap_err().kind, Kind::Interrupted);
    }
}
