//! Single files of a directory store: written whole under a temporary name, then given their own. Not by `io::durable`:
//! a name that exists stays, and what a kill leaves is found by its name and swept.

use super::PutOutcome;
use rustix::fs::{CWD, IFlags, RenameFlags};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const TEMPORARY: &str = ".tmp-";

/// A new name for an unfinished file.
pub(super) fn temporary_name() -> String {
    format!("{TEMPORARY}{:016x}", rand::random::<u64>())
}

/// Whether a name is one of an unfinished file.
pub(super) fn is_temporary(name: &str) -> bool {
    name.starts_with(TEMPORARY)
}

/// A file under a temporary name, removed when dropped.
pub(super) struct Temporary {
    path: PathBuf,
}

impl Temporary {
    /// Where the file is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes and syncs a new file (mode 0600) in `directory`.
    pub(super) fn write(directory: &Path, body: &[u8]) -> io::Result<Self> {
        let path = directory.join(temporary_name());
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let temporary = Temporary { path };
        file.write_all(body)?;
        file.sync_all()?;
        Ok(temporary)
    }

    /// Gives the file its name unless the name exists.
    pub(super) fn publish(self, name: &Path) -> io::Result<PutOutcome> {
        match rustix::fs::link(&self.path, name) {
            Ok(()) => Ok(PutOutcome::Created),
            Err(Errno::EXIST) => Ok(PutOutcome::Exists),
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK) => self.rename(name),
            Err(error) => Err(error.into()),
        }
    }

    /// As [`Self::publish`], for file systems without hard links.
    fn rename(self, name: &Path) -> io::Result<PutOutcome> {
        match rustix::fs::renameat_with(CWD, &self.path, CWD, name, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(PutOutcome::Created),
            Err(Errno::EXIST) => Ok(PutOutcome::Exists),
            Err(Errno::INVAL) => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the file system has neither hard links nor RENAME_NOREPLACE",
            )),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives the file its name in place of what is there.
    pub(super) fn replace(self, name: &Path) -> io::Result<PutOutcome> {
        fs::rename(&self.path, name).map(|()| PutOutcome::Created)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename there is nothing to remove; any other failure leaves a name that `sweep` removes.
        let _ = fs::remove_file(&self.path);
    }
}

/// Makes the names in a directory durable.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    match File::open(path)?.sync_all() {
        // Some file systems (FUSE, CIFS) cannot sync a directory and say so in this way.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => Ok(()),
        other => other,
    }
}

/// Whether a file has an attribute that forbids its removal.
pub(super) fn is_immutable(path: &Path) -> bool {
    let flags = File::open(path).ok().and_then(|file| rustix::fs::ioctl_getflags(file).ok());
    flags.is_some_and(|flags| flags.intersects(IFlags::IMMUTABLE | IFlags::APPEND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_naming_a_file_keep_what_exists() {
        let folder = tempfile::tempdir().unwrap();
        let publish: [fn(Temporary, &Path) -> io::Result<PutOutcome>; 2] = [Temporary::publish, Temporary::rename];
        for (name, publish) in ["linked", "renamed"].into_iter().zip(publish) {
            let path = folder.path().join(name);
            for (body, expected) in [("one", PutOutcome::Created), ("two", PutOutcome::Exists)] {
                let temporary = Temporary::write(folder.path(), body.as_bytes()).unwrap();
                assert_eq!(publish(temporary, &path).unwrap(), expected);
                assert_eq!(fs::read(&path).unwrap(), b"one");
            }
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file is left");
    }
}
