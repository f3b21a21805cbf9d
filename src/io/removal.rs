//! Removes a directory into which somebody may still be writing.

use std::io::{ErrorKind, Result};
use std::path::Path;
use std::time::Duration;

/// How often it is tried again, and how long apart: ten seconds in all.
const TRIES: u32 = 200;
const APART: Duration = Duration::from_millis(50);

/// Removes a directory with all that is in it. The thread that unpacks files of a restore that was stopped does not end with
/// it: it goes on until it finds that its directory is gone, and what it makes meanwhile makes the removal fail, which looks only
/// once at what is there. So it is done again.
///
/// # Errors
/// Those of the file system, also that there is nothing to remove.
pub fn tree(directory: &Path) -> Result<()> {
    for _ in 0..TRIES {
        match std::fs::remove_dir_all(directory) {
            Err(e) if e.kind() == ErrorKind::DirectoryNotEmpty => std::thread::sleep(APART),
            ended => return ended,
        }
    }
    std::fs::remove_dir_all(directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, Mode, OFlags};

    #[test]
    fn what_is_made_while_it_is_removed_goes_too_and_ends_who_makes_it() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("staged");
        std::fs::create_dir(&directory).unwrap();
        let fd = rustix::fs::openat(CWD, &directory, OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty()).unwrap();
        let writer = std::thread::spawn(move || {
            for n in 0.. {
                let made = rustix::fs::mkdirat(&fd, format!("d{n}"), Mode::from_raw_mode(0o700));
                if made.is_err() {
                    return n;
                }
            }
            0
        });
        while std::fs::read_dir(&directory).unwrap().count() < 1000 {}
        tree(&directory).unwrap();
        assert!(!directory.exists());
        assert!(writer.join().unwrap() >= 1000);
    }

    #[test]
    fn what_is_not_there_is_told() {
        assert_eq!(tree(Path::new("/nowhere/at/all")).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
