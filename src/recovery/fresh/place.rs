//! Files in their places: comparing, copying, adding.

use crate::error::{Error, Kind, Result};
use crate::sources::files::xattrs;
use rustix::io::Errno;
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Bytes of each of two files that are compared at once.
const BLOCK: u64 = 256 << 10;
/// Attributes that say who may do what; others belong to a machine's own way of marking files.
const RIGHTS: &[&[u8]] = &[b"system.posix_acl_access", b"system.posix_acl_default", b"security.capability"];

/// Copies files of directories that are not here, and nothing else: how packages of others are had. What is here stays.
///
/// # Errors
/// [`Kind::Restore`] when one cannot be written.
pub fn add(staged: &Path, root: &Path, folders: &[&str]) -> Result<u64> {
    let mut added = 0;
    for folder in folders.iter().map(Path::new) {
        let (from, to) = (below(staged, folder), below(root, folder));
        for entry in std::fs::read_dir(&from).into_iter().flatten().flatten() {
            let (from, to) = (entry.path(), to.join(entry.file_name()));
            let Ok(meta) = from.symlink_metadata() else { continue };
            if !meta.is_file() || to.symlink_metadata().is_ok() {
                continue;
            }
            let made = to.parent().map_or(Ok(()), std::fs::create_dir_all);
            made.and_then(|()| copy(&from, &meta, &to))
                .map_err(|e| Error::io("a file cannot be put in place", &to, e).kind(Kind::Restore))?;
            added += 1;
        }
    }
    Ok(added)
}

/// A path below another root.
pub fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// Whether a place holds what is to be put there.
pub fn same(from: &Path, meta: &Metadata, at: &Path, there: &Metadata) -> bool {
    if (meta.dev(), meta.ino()) == (there.dev(), there.ino()) {
        return true;
    }
    let alike = (meta.file_type(), meta.uid(), meta.gid(), meta.len())
        == (there.file_type(), there.uid(), there.gid(), there.len());
    if !alike {
        return false;
    }
    if meta.is_symlink() {
        return std::fs::read_link(from).ok() == std::fs::read_link(at).ok();
    }
    meta.permissions().mode() == there.permissions().mode()
        && rights(from) == rights(at)
        && is_equal(from, at).unwrap_or(false)
}

fn rights(path: &Path) -> Option<xattrs::Xattrs> {
    let mut found = xattrs::of_path(path.as_os_str().as_bytes()).ok()?;
    found.retain(|(name, _)| RIGHTS.contains(&name.as_slice()));
    Some(found)
}

fn is_equal(one: &Path, other: &Path) -> std::io::Result<bool> {
    let (mut one, mut other) = (File::open(one)?, File::open(other)?);
    let (mut a, mut b) = (Vec::new(), Vec::new());
    loop {
        a.clear();
        b.clear();
        one.by_ref().take(BLOCK).read_to_end(&mut a)?;
        other.by_ref().take(BLOCK).read_to_end(&mut b)?;
        if a != b || a.is_empty() {
            return Ok(a == b);
        }
    }
}

/// Gives a file or directory the extended attributes of another one: access lists and capabilities are among them. After
/// owner and mode, since a change of the owner takes capabilities away.
///
/// # Errors
/// Those of the file system; that it has no such attributes is none.
pub fn copy_attributes(from: &Path, to: &Path) -> std::io::Result<()> {
    for (name, value) in xattrs::of_path(from.as_os_str().as_bytes())? {
        match rustix::fs::setxattr(to, &name[..], &value, rustix::fs::XattrFlags::empty()) {
            Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// A copy with owner, mode, attributes and time.
///
/// # Errors
/// Those of the file system.
pub fn copy(from: &Path, meta: &Metadata, to: &Path) -> std::io::Result<()> {
    if meta.is_symlink() {
        std::os::unix::fs::symlink(std::fs::read_link(from)?, to)?;
        return std::os::unix::fs::lchown(to, Some(meta.uid()), Some(meta.gid()));
    }
    std::fs::copy(from, to)?;
    std::os::unix::fs::lchown(to, Some(meta.uid()), Some(meta.gid()))?;
    // A change of the owner takes set-user-id bits away.
    std::fs::set_permissions(to, meta.permissions())?;
    copy_attributes(from, to)?;
    let file = File::options().write(true).open(to)?;
    file.set_modified(meta.modified()?)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_compared_to_their_last_byte() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let mut bytes = vec![b'x'; (2 * BLOCK) as usize + 1];
        let (one, two) = (write("one", &bytes), write("two", &bytes));
        assert!(is_equal(&one, &two).unwrap());
        *bytes.last_mut().unwrap() = b'y';
        assert!(!is_equal(&one, &write("three", &bytes)).unwrap());
        bytes.truncate(BLOCK as usize);
        assert!(!is_equal(&one, &write("four", &bytes)).unwrap());
    }

    #[test]
    fn a_copy_has_the_attributes_of_its_origin() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        std::fs::write(&from, "x").unwrap();
        let set = rustix::fs::setxattr(&from, "user.note", b"kept", rustix::fs::XattrFlags::empty());
        let meta = from.symlink_metadata().unwrap();
        copy(&from, &meta, &to).unwrap();
        let read = |path: &Path| xattrs::of_path(path.as_os_str().as_bytes()).unwrap();
        assert_eq!(read(&from), read(&to));
        // Some file systems have none of a user's.
        assert_eq!(set.is_ok(), read(&to).iter().any(|(name, _)| name == b"user.note"));
    }
}
