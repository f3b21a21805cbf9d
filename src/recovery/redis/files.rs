//! Putting files of a stopped server in place, and back.
//!
//! Each step is told apart from "done already" by what is on disk, so it can be repeated after a crash at any
//! moment. For a file the three names and their inodes say it: the previous content gets its second name first, and
//! then the new one takes the first name in one rename; at no time there is none. A server that saves makes a new
//! inode, so the live file's own inode says nothing from before the stop. For a directory, which servers keep, the
//! recorded inode does, and the two change places.

use crate::error::{Error, Kind, Result};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Device and inode.
pub type Identity = (u64, u64);

/// One file or directory that changes places with another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Where the server looks for it.
    pub live: PathBuf,
    /// The restored one.
    pub staged: PathBuf,
    /// Where what was there is kept.
    pub previous: PathBuf,
    /// What the restored one is.
    pub identity: Identity,
    /// Whether it is a directory.
    pub directory: bool,
    /// Whether something is there that it takes the place of: now, or when the server has saved at its stop.
    pub replaces: bool,
}

/// What a path is, if anything is there.
pub fn identity(path: &Path) -> Result<Option<Identity>> {
    match std::fs::symlink_metadata(path) {
        Ok(m) => Ok(Some((m.dev(), m.ino()))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("a file of the server cannot be looked at", path, e).kind(Kind::Restore)),
    }
}

impl Move {
    fn all(&self) -> Result<[Option<Identity>; 3]> {
        Ok([identity(&self.live)?, identity(&self.staged)?, identity(&self.previous)?])
    }

    /// Whether the restored one is in place.
    pub fn is_done(&self) -> Result<bool> {
        let [live, staged, previous] = self.all()?;
        Ok(match self.directory {
            true => live == Some(self.identity) && (previous.is_some() || staged.is_none()),
            false => staged.is_none() && live.is_some() && (previous.is_some() || !self.replaces),
        })
    }

    /// Whether nothing was begun, or all of it was undone.
    pub fn is_undone(&self) -> Result<bool> {
        let [live, staged, previous] = self.all()?;
        Ok(staged.is_some() && previous.is_none() && live != staged)
    }

    /// Puts the restored one in place. The server must have stopped.
    pub fn apply(&self) -> Result<()> {
        if self.is_done()? {
            return Ok(());
        }
        let [_, staged, previous] = self.all()?;
        if staged.is_none() && previous.is_none() {
            return Err(Error::new(Kind::Restore, "the staged data is gone").at(self.staged.display()));
        }
        if self.directory { self.apply_directory() } else { self.apply_file() }
    }

    fn apply_file(&self) -> Result<()> {
        let [live, staged, previous] = self.all()?;
        if live == staged {
            // An undo was cut short after it had begun: both names are the restored one.
            std::fs::remove_file(&self.staged).map_err(|e| self.failed(&self.staged, e))?;
            return self.sync();
        }
        if live.is_some() && live != previous {
            if previous.is_some() {
                // An earlier try came as far as the second name, and the server ran and saved since.
                std::fs::remove_file(&self.previous).map_err(|e| self.failed(&self.previous, e))?;
            }
            second_name(&self.live, &self.previous).map_err(|e| self.failed(&self.previous, e))?;
            self.sync()?;
        }
        std::fs::rename(&self.staged, &self.live).map_err(|e| self.failed(&self.live, e))?;
        self.sync()
    }

    fn apply_directory(&self) -> Result<()> {
        let [live, staged, previous] = self.all()?;
        let ours = Some(self.identity);
        if staged == ours && live.is_none() {
            self.rename(&self.staged, &self.live)?;
        } else if staged == ours {
            // The new one takes the name that the previous one will have, and then both change places: live data
            // is never under the name of the staged one, which a later run removes.
            self.rename(&self.staged, &self.previous)?;
            self.exchange(&self.live, &self.previous)?;
        } else if previous == ours && live.is_some() {
            self.exchange(&self.live, &self.previous)?;
        } else if previous == ours {
            self.rename(&self.previous, &self.live)?;
        } else if live != ours {
            return Err(self.puzzled());
        }
        // A file system that cannot exchange was helped by a third name.
        if identity(&self.previous)?.is_none() && identity(&self.staged)?.is_some_and(|s| Some(s) != ours) {
            self.rename(&self.staged, &self.previous)?;
        }
        self.sync()
    }

    /// Puts back what was there. The server must have stopped.
    pub fn undo(&self) -> Result<()> {
        if self.directory { self.undo_directory() } else { self.undo_file() }
    }

    fn undo_file(&self) -> Result<()> {
        let [live, staged, previous] = self.all()?;
        match (live, staged, previous) {
            // Nothing was begun, or all is undone.
            (_, Some(_), None) | (None, None, None) => return Ok(()),
            (Some(_), None, None) if self.replaces => return Err(self.nothing_kept()),
            // Nothing was there before.
            (Some(_), None, None) => self.rename(&self.live, &self.staged)?,
            (Some(_), None, Some(_)) => {
                second_name(&self.live, &self.staged).map_err(|e| self.failed(&self.staged, e))?;
                self.sync()?;
                std::fs::rename(&self.previous, &self.live).map_err(|e| self.failed(&self.live, e))?;
            }
            (Some(live), Some(_), Some(previous)) if live == previous => {
                // Cut short between the second name and the rename: two names of what was there.
                std::fs::remove_file(&self.previous).map_err(|e| self.failed(&self.previous, e))?;
            }
            (Some(live), Some(staged), Some(_)) if live == staged || staged != self.identity => {
                std::fs::rename(&self.previous, &self.live).map_err(|e| self.failed(&self.live, e))?;
            }
            (None, _, Some(_)) => self.rename(&self.previous, &self.live)?,
            (Some(_), Some(_), Some(_)) => return Err(self.puzzled()),
        }
        self.sync()
    }

    fn undo_directory(&self) -> Result<()> {
        let [live, _, previous] = self.all()?;
        let ours = Some(self.identity);
        if live == ours && previous.is_none() {
            if self.replaces {
                return Err(self.nothing_kept());
            }
            self.rename(&self.live, &self.staged)?;
        } else if live == ours {
            self.exchange(&self.live, &self.previous)?;
        }
        if identity(&self.previous)? == ours && identity(&self.staged)?.is_none() {
            self.rename(&self.previous, &self.staged)?;
        } else if identity(&self.live)?.is_none() && identity(&self.previous)?.is_some() {
            self.rename(&self.previous, &self.live)?;
        }
        self.sync()
    }

    /// Two names change places; where the file system cannot, by way of the third, which is free then.
    fn exchange(&self, a: &Path, b: &Path) -> Result<()> {
        match renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE) {
            Ok(()) => self.sync(),
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                self.rename(&self.live, &self.staged)?;
                self.rename(&self.previous, &self.live)
            }
            Err(e) => Err(self.failed(a, e.into())),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let renamed = match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // Network file systems know the plain rename only.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) if identity(to)?.is_none() => std::fs::rename(from, to),
            other => other.map_err(Into::into),
        };
        renamed.map_err(|e| self.failed(to, e))?;
        self.sync()
    }

    fn sync(&self) -> Result<()> {
        let dir = self.live.parent().unwrap_or(Path::new("/"));
        std::fs::File::open(dir)
            .and_then(|d| d.sync_all())
            .map_err(|e| Error::io("the directory of the server cannot be synced", dir, e).kind(Kind::Restore))
    }

    fn failed(&self, path: &Path, e: std::io::Error) -> Error {
        Error::io("a file of the server cannot change its name", path, e).kind(Kind::Restore).hint(format!(
            "What was there is {} or {}; nothing was deleted.",
            self.live.display(),
            self.previous.display()
        ))
    }

    fn nothing_kept(&self) -> Error {
        Error::new(Kind::Refused, "what was there before is not kept any more").at(self.previous.display())
    }

    fn puzzled(&self) -> Error {
        Error::new(Kind::Refused, "it cannot be told which file is the restored one, since the server ran in between")
            .at(self.live.display())
            .hint(format!(
                "Look at {}, {} and {}, and put the right one in place by hand.",
                self.live.display(),
                self.previous.display(),
                self.staged.display()
            ))
    }
}

/// A second name for a file; where there are no hard links, the file itself moves.
fn second_name(from: &Path, to: &Path) -> std::io::Result<()> {
    match std::fs::hard_link(from, to) {
        Err(e)
            if matches!(
                e.raw_os_error().map(Errno::from_raw_os_error),
                Some(Errno::PERM | Errno::OPNOTSUPP | Errno::MLINK)
            ) =>
        {
            std::fs::rename(from, to)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct Place {
        dir: tempfile::TempDir,
        step: Move,
    }

    /// A live and a staged one, each holding its own word; the live one may be missing.
    fn place(directory: bool, with_live: bool) -> Place {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let write = |name: &str, word: &str| {
            if directory {
                fs::create_dir(at(name)).unwrap();
                fs::write(at(name).join("f"), word).unwrap();
            } else {
                fs::write(at(name), word).unwrap();
            }
        };
        if with_live {
            write("live", "old");
        }
        write("staged", "new");
        let identity = identity(&at("staged")).unwrap().unwrap();
        let step = Move {
            live: at("live"),
            staged: at("staged"),
            previous: at("previous"),
            identity,
            directory,
            replaces: with_live,
        };
        Place { dir, step }
    }

    impl Place {
        /// The three words: live, staged, previous.
        fn words(&self) -> [String; 3] {
            ["live", "staged", "previous"].map(|name| {
                let path = self.dir.path().join(name);
                let path = if self.step.directory { path.join("f") } else { path };
                fs::read_to_string(path).unwrap_or_default()
            })
        }

        fn at(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }
    }

    #[test]
    fn both_ways_are_idempotent_and_nothing_is_lost() {
        for directory in [false, true] {
            for with_live in [false, true] {
                let p = place(directory, with_live);
                let old = if with_live { "old" } else { "" };
                assert!(p.step.is_undone().unwrap() && !p.step.is_done().unwrap());
                for _ in 0..3 {
                    p.step.undo().unwrap();
                    assert_eq!(p.words(), [old, "new", ""]);
                }
                for _ in 0..3 {
                    p.step.apply().unwrap();
                    assert_eq!(p.words(), ["new", "", old], "{directory} {with_live}");
                    assert!(p.step.is_done().unwrap() && !p.step.is_undone().unwrap());
                }
                for _ in 0..3 {
                    p.step.undo().unwrap();
                    assert_eq!(p.words(), [old, "new", ""], "{directory} {with_live}");
                }
                p.step.apply().unwrap();
                assert_eq!(p.words(), ["new", "", old]);
            }
        }
    }

    /// Every state in which a kill can leave a file, reached by the same calls that the code makes.
    #[test]
    fn a_kill_between_two_calls_is_continued_or_undone() {
        type Cut = fn(&Place);
        let forwards: [(bool, Cut); 2] = [
            (false, |p| fs::hard_link(p.at("live"), p.at("previous")).unwrap()),
            (true, |p| fs::rename(p.at("staged"), p.at("previous")).unwrap()),
        ];
        for (directory, cut) in forwards {
            let p = place(directory, true);
            cut(&p);
            p.step.apply().unwrap();
            assert_eq!(p.words(), ["new", "", "old"], "{directory}");
            let p = place(directory, true);
            cut(&p);
            p.step.undo().unwrap();
            assert_eq!(p.words(), ["old", "new", ""], "{directory}");
        }
        let backwards: [(bool, Cut); 2] = [
            (false, |p| fs::hard_link(p.at("live"), p.at("staged")).unwrap()),
            (true, |p| p.step.exchange(&p.at("live"), &p.at("previous")).unwrap()),
        ];
        for (directory, cut) in backwards {
            let p = place(directory, true);
            p.step.apply().unwrap();
            cut(&p);
            p.step.undo().unwrap();
            assert_eq!(p.words(), ["old", "new", ""], "{directory}");
        }
    }

    #[test]
    fn a_server_that_saved_in_between_is_no_obstacle() {
        let p = place(false, true);
        // It saves at its stop: another inode than at any time before.
        fs::write(p.at("temp"), "old, later").unwrap();
        fs::rename(p.at("temp"), p.at("live")).unwrap();
        p.step.apply().unwrap();
        assert_eq!(p.words(), ["new", "", "old, later"]);
        fs::write(p.at("temp"), "new, later").unwrap();
        fs::rename(p.at("temp"), p.at("live")).unwrap();
        assert!(p.step.is_done().unwrap());
        p.step.undo().unwrap();
        assert_eq!(p.words(), ["old, later", "new, later", ""]);
        p.step.undo().unwrap();
        assert_eq!(p.words(), ["old, later", "new, later", ""]);
    }

    #[test]
    fn what_is_not_kept_any_more_cannot_be_put_back() {
        for directory in [false, true] {
            let p = place(directory, true);
            p.step.apply().unwrap();
            let previous = p.at("previous");
            if directory {
                fs::remove_dir_all(previous).unwrap()
            } else {
                fs::remove_file(previous).unwrap()
            }
            assert_eq!(p.step.undo().unwrap_err().kind, Kind::Refused);
            assert_eq!(p.words(), ["new", "", ""]);
        }
    }

    #[test]
    fn where_names_cannot_change_places_three_renames_do_it() {
        // The states between the renames of the fallback.
        let p = place(true, true);
        fs::rename(p.at("staged"), p.at("previous")).unwrap();
        fs::rename(p.at("live"), p.at("staged")).unwrap();
        p.step.apply().unwrap();
        assert_eq!(p.words(), ["new", "", "old"]);
        fs::rename(p.at("live"), p.at("staged")).unwrap();
        p.step.undo().unwrap();
        assert_eq!(p.words(), ["old", "new", ""]);
    }
}
