//! The directory of a drill: everything that needs no server of its own is staged in it.

use crate::error::{Error, Kind, Result};
use crate::io::removal;
use crate::model::{BackupId, size};
use crate::recovery::engine::{Notes, Step};
use crate::recovery::resource::Note;
use async_trait::async_trait;
use serde_json::json;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// How its name begins.
const NAME: &str = "backstay-drill-";

/// The directory of a drill below that of the configuration.
pub fn of(dir: &Path, id: &BackupId) -> PathBuf {
    dir.join(format!("{NAME}{id}"))
}

/// What only we may look into.
pub fn private(dir: &Path) -> PathBuf {
    dir.join("private")
}

/// What programs of the operator's make, perhaps as other users: each of its directories is one user's alone.
pub fn commands(dir: &Path) -> PathBuf {
    dir.join("commands")
}

/// Refuses what does not fit: into the limit, or onto the disk. Bytes.
///
/// # Errors
/// [`Kind::Refused`].
pub fn room(dir: &Path, needed: u64, most: Option<u64>) -> Result<()> {
    if let Some(most) = most.filter(|most| *most < needed) {
        let (needed, most) = (size::human(needed), size::human(most));
        return Err(Error::new(Kind::Refused, format!("the drill would take {needed}, and {most} is the limit"))
            .at(dir.display())
            .hint("Raise `max_bytes` of the plan's [drill] section, or --max-bytes; or drill on another machine."));
    }
    let there = dir.ancestors().find(|a| a.exists()).unwrap_or(dir);
    let stat = rustix::fs::statvfs(there).map_err(|e| Error::io("the free space cannot be told", there, e.into()))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if free < needed {
        let (needed, free) = (size::human(needed), size::human(free));
        return Err(Error::new(Kind::Refused, format!("there is no room: the drill takes {needed}, {free} are free"))
            .at(there.display())
            .hint(
                "Set `dir` of the plan's [drill] section, or --dir, to a larger disk; or drill on another machine.",
            ));
    }
    Ok(())
}

/// Removes it with all that is in it. One that is gone is fine.
///
/// # Errors
/// [`Kind::Restore`], also for a path that is none of ours.
pub fn remove(dir: &Path) -> Result<()> {
    let ours = dir.is_absolute() && dir.file_name().is_some_and(|name| name.to_string_lossy().starts_with(NAME));
    if !ours {
        return Err(Error::new(Kind::Restore, "that is no directory of a drill").at(dir.display()));
    }
    removal::tree_if_there(dir)
}

/// Makes it.
pub struct Make {
    /// Which.
    pub dir: PathBuf,
}

#[async_trait]
impl Step for Make {
    fn name(&self) -> String {
        "make room".to_owned()
    }

    async fn prepare(&self, _: &Notes<'_>) -> Result<Note> {
        Ok(json!({ "dir": self.dir }))
    }

    async fn act(&self, note: &Note) -> Result<Note> {
        // Others may pass through, to what is theirs, and see nothing.
        for (dir, mode) in [(self.dir.clone(), 0o711), (private(&self.dir), 0o700), (commands(&self.dir), 0o711)] {
            std::fs::DirBuilder::new()
                .mode(mode)
                .create(&dir)
                .map_err(|e| Error::io("the directory of the drill cannot be made", &dir, e).kind(Kind::Restore))?;
        }
        Ok(note.clone())
    }

    async fn undo(&self, _: &Note) -> Result<()> {
        remove(&self.dir)
    }

    fn by_hand(&self, _: &Note) -> Vec<String> {
        vec![crate::recovery::by_hand::remove(&self.dir)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_before_anything_is_written() {
        let dir = tempfile::tempdir().unwrap();
        room(&dir.path().join("not/there/yet"), 1000, Some(1000)).unwrap();
        let e = room(dir.path(), 1001, Some(1000)).unwrap_err();
        assert!(e.kind == Kind::Refused && e.what.contains("limit"), "{e}");
        let e = room(dir.path(), u64::MAX, None).unwrap_err();
        assert!(e.kind == Kind::Refused && e.what.contains("are free"), "{e}");
    }

    #[test]
    fn only_a_directory_of_a_drill_is_ever_removed() {
        let dir = tempfile::tempdir().unwrap();
        let other = dir.path().join("precious");
        std::fs::create_dir(&other).unwrap();
        assert!(remove(&other).is_err() && other.exists());
        let ours = of(dir.path(), &BackupId::new(jiff::Timestamp::UNIX_EPOCH));
        std::fs::create_dir_all(private(&ours)).unwrap();
        remove(&ours).unwrap();
        remove(&ours).unwrap();
        assert!(!ours.exists());
    }
}
