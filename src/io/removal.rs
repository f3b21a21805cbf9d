//! Removes a directory into which somebody may still be writing.

use crate::error::{Error, Kind};
use std::io::{ErrorKind, Result};
use std::path::Path;
use std::time::Duration;

/// How often it is tried again, and how long apart: ten seconds in all.
const TRIES: u32 = 200;
const APART: Duration = Duration::from_millis(50);

/// Removes a directory with all that is in it. The thread that unpacks files of a restore that was stopped ends a moment after
/// it, and what it makes meanwhile makes a removal fail, which looks only once at what is there. So it is done again.
///
/// # Errors
/// Those of the file system, also that there is nothing to remove.
fn tree(directory: &Path) -> Result<()> {
    again(|| std::fs::remove_dir_all(directory))
}

/// The same for one that may be gone already.
///
/// # Errors
/// [`Kind::Restore`] with the directory.
pub fn tree_if_there(directory: &Path) -> crate::error::Result<()> {
    match tree(directory) {
        Err(e) if e.kind() != ErrorKind::NotFound => {
            Err(Error::io("a directory cannot be removed", directory, e).kind(Kind::Restore))
        }
        _ => Ok(()),
    }
}

fn again(mut remove: impl FnMut() -> Result<()>) -> Result<()> {
    for _ in 0..TRIES {
        match remove() {
            Err(e) if e.kind() == ErrorKind::DirectoryNotEmpty => std::thread::sleep(APART),
            ended => return ended,
        }
    }
    remove()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_in_which_something_was_made_meanwhile_is_removed_again() {
        let mut results =
            vec![Ok(()), Err(ErrorKind::DirectoryNotEmpty.into()), Err(ErrorKind::DirectoryNotEmpty.into())];
        again(|| results.pop().unwrap()).unwrap();
        assert!(results.is_empty());
        let denied = again(|| Err(ErrorKind::PermissionDenied.into()));
        assert_eq!(denied.unwrap_err().kind(), ErrorKind::PermissionDenied);
    }

    #[test]
    fn what_is_not_there_is_told() {
        assert_eq!(tree(Path::new("/nowhere/at/all")).unwrap_err().kind(), ErrorKind::NotFound);
        tree_if_there(Path::new("/nowhere/at/all")).unwrap();
        let no_directory = tempfile::NamedTempFile::new().unwrap();
        let refused = tree_if_there(no_directory.path()).unwrap_err();
        assert!(refused.kind == Kind::Restore && refused.to_string().contains("cannot be removed"), "{refused}");
    }
}
