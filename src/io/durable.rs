//! Files that are replaced as a whole: at any moment there is the old one or the new one, also after a power cut.
//!
//! Written beside, synced, renamed, and the directory synced.

use rustix::io::Errno;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Makes a file or replaces the one that is there, with just this mode, whatever the umask. Its directory must be there.
///
/// # Errors
/// Those of the file system. The old file stands then; but when it is the directory that cannot be synced, the new one
/// stands, and a power cut may bring the old one back.
pub fn replace(file: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    replace_with(file, |new| {
        new.write_all(content)?;
        new.set_permissions(Permissions::from_mode(mode))
    })
}

/// The same with what the caller writes, and with the owner and mode that the caller gives. Until then the file is for us
/// alone.
///
/// # Errors
/// As [`replace`], and those of the caller; then the old file stands.
pub fn replace_with(file: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let name = file.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let folder = above(file);
    // Another name each time: neither a second writer nor what a kill has left is in the way. With a dot before it and an
    // ending of its own, so that those who read `*.conf` or `*.json` there do not take it for a file of theirs.
    let beside = folder.join(format!(".{name}.{:016x}.new", rand::random::<u64>()));
    let write = || {
        let mut new = File::options().write(true).create_new(true).mode(0o600).open(&beside)?;
        fill(&mut new)?;
        new.sync_all()?;
        fs::rename(&beside, file)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&beside);
    })?;
    sync_folder(folder)
}

/// Makes a directory unless it is there, and those above it, with this mode as far as the umask lets it. Those that are
/// new are there after a power cut too.
///
/// # Errors
/// Those of the file system.
pub fn make_folder(folder: &Path, mode: u32) -> io::Result<()> {
    let missing = |f: &&Path| !f.as_os_str().is_empty() && !f.exists();
    let new: Vec<&Path> = folder.ancestors().take_while(missing).collect();
    DirBuilder::new().recursive(true).mode(mode).create(folder)?;
    new.into_iter().try_for_each(|made| sync_folder(above(made)))
}

/// Makes what happened to the names in a directory last.
///
/// # Errors
/// Those of the file system.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        // Some file systems (FUSE, CIFS) cannot sync a directory and say so in this way.
        Err(e) if Errno::from_io_error(&e) == Some(Errno::INVAL) => Ok(()),
        other => other,
    }
}

/// The directory in which a name is; that of a bare name is the one in which we are.
fn above(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_mode_is_what_was_said_whatever_the_umask_and_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.conf");
        // No usual umask lets the second through.
        for wanted in [0o600, 0o666, 0o644] {
            replace(&file, b"x", wanted).unwrap();
            assert_eq!(mode(&file), wanted);
        }
    }

    #[test]
    fn who_reads_the_old_file_reads_it_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("a"), dir.path().join("link"));
        replace(&file, b"what was there before", 0o600).unwrap();
        fs::hard_link(&file, &link).unwrap();
        replace(&file, b"new", 0o600).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert_eq!(fs::read(&link).unwrap(), b"what was there before");
        assert_eq!(names(dir.path()), ["a", "link"]);
    }

    #[test]
    fn when_the_new_file_cannot_be_written_the_old_one_stands_and_nothing_is_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        replace(&file, b"old", 0o600).unwrap();
        let full = replace_with(&file, |new| {
            new.write_all(b"ne")?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert_eq!(full.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read(&file).unwrap(), b"old");
        assert_eq!(names(dir.path()), ["a"]);
        // A directory is no file that could be replaced.
        fs::create_dir(dir.path().join("d")).unwrap();
        assert!(replace(&dir.path().join("d"), b"", 0o600).is_err());
        assert!(replace(&dir.path().join("none/a"), b"", 0o600).is_err());
        assert!(replace(Path::new("/"), b"", 0o600).is_err());
        assert_eq!(names(dir.path()), ["a", "d"]);
    }

    #[test]
    fn what_a_kill_has_left_does_not_hinder_the_next_and_nobody_takes_it_for_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.conf");
        replace(&file, b"old", 0o644).unwrap();
        // Nothing of ours cleans up after a panic, as after a kill.
        let killed = catch_unwind(AssertUnwindSafe(|| {
            replace_with(&file, |new| {
                new.write_all(b"ne")?;
                panic!("killed")
            })
        }));
        assert!(killed.is_err());
        assert_eq!(fs::read(&file).unwrap(), b"old");
        let left: Vec<String> = names(dir.path()).into_iter().filter(|n| n != "a.conf").collect();
        assert!(left.len() == 1 && left[0].starts_with('.') && left[0].ends_with(".new"), "{left:?}");
        assert_eq!(mode(&dir.path().join(&left[0])), 0o600);
        replace(&file, b"new", 0o644).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert_eq!(names(dir.path()).len(), 2);
    }

    #[test]
    fn directories_that_are_made_have_the_mode_and_those_that_were_there_keep_theirs() {
        let dir = tempfile::tempdir().unwrap();
        let there = dir.path().join("there");
        fs::create_dir(&there).unwrap();
        fs::set_permissions(&there, Permissions::from_mode(0o755)).unwrap();
        make_folder(&there.join("a/b"), 0o700).unwrap();
        make_folder(&there.join("a/b"), 0o755).unwrap();
        let modes = [there.clone(), there.join("a"), there.join("a/b")].map(|path| mode(&path));
        assert_eq!(modes, [0o755, 0o700, 0o700]);
        fs::write(there.join("file"), b"").unwrap();
        assert!(make_folder(&there.join("file"), 0o700).is_err());
    }
}
