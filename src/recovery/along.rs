//! What a backup leaves out moves along: a virtual environment below `/opt/app` that is excluded would otherwise vanish
//! when the directory is exchanged with the restored one.

use crate::error::{Error, Kind, Result};
use crate::sources::files::exclude::Excludes;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What is to move.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The topmost excluded entries of the live tree that have a place in the new one, relative to it.
    pub moves: Vec<PathBuf>,
    /// Those for which the new tree has no directory; they stay in the previous one.
    pub left: Vec<PathBuf>,
}

/// Looks at both trees. No effect.
///
/// # Errors
/// [`Kind::Restore`] when a directory of the live tree cannot be read.
pub fn find(live: &Path, new: &Path, excludes: &Excludes) -> Result<Found> {
    let mut found = Found::default();
    let mut todo = vec![PathBuf::new()];
    while let Some(below) = todo.pop() {
        let directory = live.join(&below);
        let failed = |e| Error::io("the live tree cannot be looked through", &directory, e).kind(Kind::Restore);
        for entry in std::fs::read_dir(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let (name, path) = (entry.file_name(), entry.path());
            let relative = below.join(&name);
            // What this restore stages where a directory cannot move.
            if below.as_os_str().is_empty() && name.as_bytes().starts_with(b".backstay-") {
                continue;
            }
            if excludes.matches(path.as_os_str().as_bytes(), name.as_bytes()) {
                if !is_directory(&new.join(&below)) {
                    found.left.push(relative);
                } else if new.join(&relative).symlink_metadata().is_err() {
                    found.moves.push(relative);
                }
            } else if entry.file_type().map_err(failed)?.is_dir() {
                todo.push(relative);
            }
        }
    }
    found.moves.sort();
    found.left.sort();
    Ok(found)
}

fn is_directory(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|m| m.is_dir())
}

/// Moves these entries from one tree to another. What is there already stays as it is.
///
/// # Errors
/// [`Kind::Restore`].
pub fn carry(from: &Path, to: &Path, moves: &[PathBuf]) -> Result<()> {
    let mut touched = BTreeSet::new();
    for relative in moves {
        let (source, target) = (from.join(relative), to.join(relative));
        match renameat_with(CWD, &source, CWD, &target, RenameFlags::NOREPLACE) {
            Ok(()) => touched.extend([source.parent(), target.parent()].into_iter().flatten().map(Path::to_owned)),
            // Moved by an earlier try, or gone with whoever made it.
            Err(Errno::NOENT) if source.symlink_metadata().is_err() => {}
            Err(e) => {
                return Err(Error::new(Kind::Restore, "what the backup leaves out cannot be moved along")
                    .at(format!("{} to {}", source.display(), target.display()))
                    .because(std::io::Error::from(e)));
            }
        }
    }
    for directory in touched {
        File::open(&directory)
            .and_then(|d| d.sync_all())
            .map_err(|e| Error::io("a directory cannot be synced", &directory, e).kind(Kind::Restore))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_topmost_excluded_entries_move_there_and_back_however_often_it_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        let (live, new) = (dir.path().join("live"), dir.path().join("new"));
        for path in ["live/venv/bin", "live/src/cache", "live/gone", "new/src"] {
            fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        for path in
            ["live/venv/bin/python", "live/src/a.pyc", "live/src/a.py", "live/gone/b.pyc", "live/c.pyc", "new/c.pyc"]
        {
            fs::write(dir.path().join(path), path).unwrap();
        }
        let patterns = ["*.pyc".to_owned(), format!("{}/venv", live.display()), "src/cache".to_owned()];
        let excludes = Excludes::new(&patterns, &[]).unwrap();
        let found = find(&live, &new, &excludes).unwrap();
        assert_eq!(found.moves, ["src/a.pyc", "src/cache", "venv"].map(PathBuf::from));
        assert_eq!(found.left, ["gone/b.pyc"].map(PathBuf::from));
        for (from, to) in [(&live, &new), (&new, &live)] {
            for _ in 0..2 {
                carry(from, to, &found.moves).unwrap();
                assert_eq!(fs::read_to_string(to.join("venv/bin/python")).unwrap(), "live/venv/bin/python");
                assert!(to.join("src/cache").exists() && !from.join("venv").exists());
            }
        }
        assert_eq!(fs::read_to_string(new.join("c.pyc")).unwrap(), "new/c.pyc");
        // Half of it was done before a crash.
        fs::rename(live.join("venv"), new.join("venv")).unwrap();
        carry(&live, &new, &found.moves).unwrap();
        assert!(new.join("venv").exists() && new.join("src/a.pyc").exists());
        // Somebody has put something else there.
        fs::write(live.join("venv"), "another").unwrap();
        assert!(carry(&new, &live, &found.moves).is_err());
    }
}
