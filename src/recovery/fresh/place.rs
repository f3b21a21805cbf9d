//! Files in their places: comparing, copying, adding.

use crate::error::{Error, Kind, Result};
use std::fs::Metadata;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

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
        && matches!((std::fs::read(from), std::fs::read(at)), (Ok(a), Ok(b)) if a == b)
}

/// A copy with owner, mode and time.
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
    let file = std::fs::File::options().write(true).open(to)?;
    file.set_modified(meta.modified()?)?;
    file.sync_all()
}
