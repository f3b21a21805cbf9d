//! What is in a staged tree, counted anew: what the disk holds, not what was written to it.

use crate::error::{Error, Kind, Result};
use crate::sources::files::exclude::Excludes;
use crate::sources::files::walk::{Step, Walk};
use rustix::fs::FileType;
use std::collections::HashSet;
use std::path::Path;

/// What there is.
#[derive(Default)]
pub(in crate::recovery) struct Counted {
    pub files: u64,
    pub dirs: u64,
    pub links: u64,
    pub other: u64,
    pub bytes: u64,
}

impl Counted {
    /// Everything that has a name.
    pub fn entries(&self) -> u64 {
        self.files + self.dirs + self.links + self.other
    }
}

/// Counts, as the index of a backup does: an inode with several names is one file and links.
///
/// # Errors
/// [`Kind::Restore`] when something cannot be read.
pub(in crate::recovery) fn count(directory: &Path) -> Result<Counted> {
    let mut counted = Counted::default();
    let mut seen = HashSet::new();
    for step in Walk::new(vec![directory.to_owned()], Excludes::new(&[], &[])?, false, 2) {
        match step {
            Step::Entry(_, stat) => match stat.kind() {
                FileType::RegularFile if stat.links > 1 && !seen.insert((stat.dev, stat.inode)) => counted.links += 1,
                FileType::RegularFile => {
                    counted.files += 1;
                    counted.bytes += stat.size;
                }
                FileType::Directory => counted.dirs += 1,
                FileType::Symlink => counted.links += 1,
                _ => counted.other += 1,
            },
            Step::Failed(path, e) => {
                return Err(Error::new(Kind::Restore, "what was staged cannot be read")
                    .at(String::from_utf8_lossy(&path))
                    .because(e));
            }
            Step::Vanished(_) => {}
        }
    }
    Ok(counted)
}
