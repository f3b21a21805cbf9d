//! The files of the lost machine, from where they were fetched to into their places.
//!
//! What is here and was not there stays. What is in the way of a file is kept below another directory. Files are linked,
//! so a place has the old content or the new one, whatever happens meanwhile; done again, nothing changes any more.

use super::place::{below, copy, copy_attributes, same};
pub use super::rules::Which;
use super::rules::{WHOLE, which};
use crate::error::{Error, Kind, Result};
use crate::sources::host::bound::{self, Why};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// From where to where.
pub struct Merge<'a> {
    /// Where the files were fetched to.
    pub staged: &'a Path,
    /// The root of this machine.
    pub root: &'a Path,
    /// Where what is in the way is kept.
    pub before: &'a Path,
    /// This is the machine that was backed up: nothing belongs to another one.
    pub same_machine: bool,
    /// Never put in place, nor what lies in it: our program, clusters that are to be made.
    pub never: &'a [PathBuf],
    /// Files that stay as a package of this release brought them.
    pub stay: &'a BTreeSet<PathBuf>,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Files and links that were put in place.
    pub put: u64,
    /// Those that were so already.
    pub same: u64,
    /// Those that replaced something.
    pub replaced: u64,
    /// Left out, since they belonged to the other machine.
    pub bound: BTreeMap<PathBuf, Why>,
    /// Left as the package brought them.
    pub stayed: BTreeSet<PathBuf>,
    /// Put aside, since the lost machine did not have them.
    pub aside: Vec<PathBuf>,
    /// What could not be put in place, and why.
    pub problems: Vec<String>,
}

fn failed<'a>(what: &'a str, path: &'a Path) -> impl Fn(std::io::Error) -> Error + 'a {
    move |e| Error::io(what, path, e).kind(Kind::Restore)
}

impl Merge<'_> {
    /// Puts those files in place.
    ///
    /// # Errors
    /// [`Kind::Restore`] when a directory cannot be made or a file not be written; run again, it goes on.
    pub fn run(&self, wanted: Which) -> Result<Merged> {
        let mut merged = Merged::default();
        self.folder(Path::new("/"), wanted, &mut merged)?;
        // In another release a package's own files have other names.
        let whole = WHOLE.iter().map(Path::new).filter(|p| self.stay.is_empty() && self.staged_at(p).is_dir());
        for folder in whole.filter(|_| wanted == Which::Lying) {
            self.put_aside(folder, &mut merged)?;
        }
        self.settle()?;
        Ok(merged)
    }

    /// Puts files and links aside that were not fetched.
    fn put_aside(&self, folder: &Path, merged: &mut Merged) -> Result<()> {
        for entry in std::fs::read_dir(below(self.root, folder)).into_iter().flatten().flatten() {
            let (path, at) = (folder.join(entry.file_name()), entry.path());
            let Ok(meta) = at.symlink_metadata() else { continue };
            if meta.is_dir() {
                self.put_aside(&path, merged)?;
            } else if self.staged_at(&path).symlink_metadata().is_err() {
                let kept = self.kept(&path)?;
                let moved = std::fs::rename(&at, &kept)
                    .or_else(|_| copy(&at, &meta, &kept).and_then(|()| std::fs::remove_file(&at)));
                moved.map_err(failed("what is in the way cannot be kept", &at))?;
                merged.aside.push(path);
            }
        }
        Ok(())
    }

    /// Puts one directory with everything in it in place, whatever the rules say.
    ///
    /// # Errors
    /// As [`Merge::run`].
    pub fn only(&self, folder: &Path) -> Result<Merged> {
        let mut merged = Merged::default();
        let whole = Merge { never: &[], same_machine: true, ..*self };
        if self.staged_at(folder).is_dir() {
            whole.make_parents(folder)?;
            whole.folder(folder, Which::Lying, &mut merged)?;
            self.settle()?;
        }
        Ok(merged)
    }

    fn settle(&self) -> Result<()> {
        let synced = std::fs::File::open(self.root).and_then(|d| rustix::fs::syncfs(&d).map_err(std::io::Error::from));
        synced.map_err(failed("the files cannot be synced", self.root))
    }

    fn staged_at(&self, path: &Path) -> PathBuf {
        below(self.staged, path)
    }

    fn folder(&self, path: &Path, wanted: Which, merged: &mut Merged) -> Result<()> {
        let from = self.staged_at(path);
        let reading = "what was fetched cannot be read";
        let mut names: Vec<_> = std::fs::read_dir(&from)
            .and_then(|entries| entries.map(|e| e.map(|e| e.file_name())).collect::<std::io::Result<Vec<_>>>())
            .map_err(failed(reading, &from))?;
        names.sort();
        for name in names {
            let path = path.join(name);
            if self.never.iter().any(|n| path.starts_with(n)) {
                continue;
            }
            if let Some(why) = bound::why(&path).filter(|_| !self.same_machine) {
                merged.bound.insert(path, why);
                continue;
            }
            let from = self.staged_at(&path);
            let meta = from.symlink_metadata().map_err(failed(reading, &from))?;
            if meta.is_dir() {
                // A directory of things that start is there with what lies; it starts nothing by itself.
                if wanted == Which::Lying {
                    self.make_folder(&path, &meta)?;
                }
                self.folder(&path, wanted, merged)?;
            } else if which(&path) == wanted && (meta.is_file() || meta.is_symlink()) {
                if self.stay.contains(&path) {
                    merged.stayed.insert(path);
                    continue;
                }
                self.put(&path, &from, &meta, merged)?;
            }
        }
        Ok(())
    }

    /// Makes the directories above one, as they were.
    fn make_parents(&self, folder: &Path) -> Result<()> {
        let mut above: Vec<&Path> = folder.ancestors().filter(|p| p.parent().is_some()).collect();
        above.reverse();
        for path in above {
            let from = self.staged_at(path);
            let meta = from.symlink_metadata().map_err(failed("what was fetched cannot be read", &from))?;
            self.make_folder(path, &meta)?;
        }
        Ok(())
    }

    fn make_folder(&self, path: &Path, as_it_was: &Metadata) -> Result<()> {
        let at = below(self.root, path);
        let what = "a directory cannot be made";
        match at.symlink_metadata() {
            // A link to a directory is how this machine has it.
            Ok(meta) if meta.is_dir() || (meta.is_symlink() && at.is_dir()) => return Ok(()),
            Ok(_) => {
                let kept = self.kept(path)?;
                std::fs::rename(&at, &kept).map_err(failed("what is in the way cannot be kept", &at))?;
            }
            Err(_) => {}
        }
        std::fs::create_dir(&at)
            .and_then(|()| std::os::unix::fs::lchown(&at, Some(as_it_was.uid()), Some(as_it_was.gid())))
            .and_then(|()| std::fs::set_permissions(&at, as_it_was.permissions()))
            .and_then(|()| copy_attributes(&self.staged_at(path), &at))
            .map_err(failed(what, &at))
    }

    /// A place for what is in the way.
    fn kept(&self, path: &Path) -> Result<PathBuf> {
        let mut kept = below(self.before, path);
        let parent = kept.parent().unwrap_or(self.before).to_owned();
        std::fs::create_dir_all(&parent).map_err(failed("a directory cannot be made", &parent))?;
        for n in 1.. {
            if kept.symlink_metadata().is_err() {
                break;
            }
            kept = PathBuf::from(format!("{}.{n}", below(self.before, path).display()));
        }
        Ok(kept)
    }

    fn put(&self, path: &Path, from: &Path, meta: &Metadata, merged: &mut Merged) -> Result<()> {
        let at = below(self.root, path);
        let there = at.symlink_metadata().ok();
        if let Some(there) = &there
            && same(from, meta, &at, there)
        {
            merged.same += 1;
            return Ok(());
        }
        let name = at.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let new = at.with_file_name(format!(".{name}.backstay-new"));
        let what = "a file cannot be put in place";
        // Not by `io::durable`: it may be a link, and is a second name of what was fetched or a copy with all it has.
        let _ = std::fs::remove_file(&new);
        // On another file system it is copied.
        if std::fs::hard_link(from, &new).is_err() {
            copy(from, meta, &new).map_err(failed(what, &at))?;
        }
        if let Some(there) = &there {
            let kept = self.kept(path)?;
            let moved = match there.is_dir() {
                true => std::fs::rename(&at, &kept),
                false => std::fs::hard_link(&at, &kept).or_else(|_| copy(&at, there, &kept)),
            };
            moved.map_err(failed("what is in the way cannot be kept", &at))?;
            merged.replaced += 1;
        }
        match std::fs::rename(&new, &at) {
            Ok(()) => merged.put += 1,
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::BUSY.raw_os_error()) => {
                let _ = std::fs::remove_file(&new);
                merged.problems.push(format!("{} is a mount point and stays as it is", path.display()));
            }
            Err(e) => return Err(failed(what, &at)(e)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::place::add;
    use super::*;
    use std::os::unix::fs::symlink;

    struct Two {
        _dir: tempfile::TempDir,
        staged: PathBuf,
        root: PathBuf,
        before: PathBuf,
    }

    fn write(root: &Path, path: &str, text: &str) {
        let path = below(root, Path::new(path));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    impl Two {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let at = |name: &str| dir.path().join(name);
            let two = Two { staged: at("staged"), root: at("root"), before: at("before"), _dir: dir };
            for path in [
                "/etc/nginx/nginx.conf",
                "/etc/fstab",
                "/etc/app.conf",
                "/etc/postgresql/15/main/postgresql.conf",
                "/usr/local/bin/backstay",
                "/etc/cron.d/app",
                "/etc/ssl/openssl.cnf",
            ] {
                write(&two.staged, path, "then");
            }
            let units = two.staged.join("etc/systemd/system");
            for target in ["multi-user.target.wants", "timers.target.wants"] {
                std::fs::create_dir_all(units.join(target)).unwrap();
            }
            symlink("/etc/systemd/system/app.service", units.join("multi-user.target.wants/app.service")).unwrap();
            symlink("/lib/x", units.join("timers.target.wants/backstay-backup@p.timer")).unwrap();
            symlink("/dev/null", units.join("masked.service")).unwrap();
            write(&two.root, "/etc/nginx/nginx.conf", "here");
            write(&two.root, "/etc/nginx/sites-enabled/default", "here");
            write(&two.root, "/etc/only-here.conf", "here");
            write(&two.root, "/etc/fstab", "here");
            write(&two.root, "/etc/app.conf", "then");
            write(&two.root, "/etc/ssl/openssl.cnf", "here");
            two
        }

        fn run(&self, which: Which, stay: &[&str]) -> Merged {
            let stay = stay.iter().map(PathBuf::from).collect();
            let never = [PathBuf::from("/usr/local/bin/backstay"), PathBuf::from("/etc/postgresql/15/main")];
            self.merge(&stay, &never).run(which).unwrap()
        }

        fn merge<'a>(&'a self, stay: &'a BTreeSet<PathBuf>, never: &'a [PathBuf]) -> Merge<'a> {
            Merge { staged: &self.staged, root: &self.root, before: &self.before, same_machine: false, never, stay }
        }

        fn read(&self, path: &str) -> Option<String> {
            std::fs::read_to_string(below(&self.root, Path::new(path))).ok()
        }

        fn is_link(&self, path: &str) -> bool {
            below(&self.root, Path::new(path)).is_symlink()
        }
    }

    #[test]
    fn files_come_and_what_starts_something_waits() {
        let two = Two::new();
        let stay = ["/etc/ssl/openssl.cnf"];
        let merged = two.run(Which::Lying, &stay);
        assert_eq!(two.read("/etc/nginx/nginx.conf").as_deref(), Some("then"));
        assert_eq!(two.read("/etc/only-here.conf").as_deref(), Some("here"));
        assert_eq!(two.read("/etc/fstab").as_deref(), Some("here"));
        assert_eq!(two.read("/etc/ssl/openssl.cnf").as_deref(), Some("here"));
        assert_eq!(
            (two.read("/usr/local/bin/backstay"), two.read("/etc/postgresql/15/main/postgresql.conf")),
            (None, None)
        );
        assert!(two.is_link("/etc/systemd/system/masked.service"));
        assert_eq!(two.read("/etc/cron.d/app"), None);
        assert!(!two.is_link("/etc/systemd/system/multi-user.target.wants/app.service"));
        assert_eq!(std::fs::read_to_string(two.before.join("etc/nginx/nginx.conf")).unwrap(), "here");
        assert_eq!((merged.put, merged.same, merged.replaced), (2, 1, 1), "{merged:?}");
        assert_eq!(merged.bound.keys().collect::<Vec<_>>(), [Path::new("/etc/fstab")]);
        assert_eq!(merged.stayed.len(), 1);
        // Once more: nothing is left to do, and what was kept is still what was there first.
        let again = two.run(Which::Lying, &stay);
        assert_eq!((again.put, again.same, again.replaced), (0, 3, 0), "{again:?}");
        assert_eq!(std::fs::read_to_string(two.before.join("etc/nginx/nginx.conf")).unwrap(), "here");

        two.run(Which::Starting, &stay);
        assert!(two.is_link("/etc/systemd/system/multi-user.target.wants/app.service"));
        assert_eq!(two.read("/etc/cron.d/app").as_deref(), Some("then"));
        let timer = "/etc/systemd/system/timers.target.wants/backstay-backup@p.timer";
        assert!(!two.is_link(timer));
        two.run(Which::Jobs, &stay);
        assert!(two.is_link(timer));
    }

    #[test]
    fn a_cluster_gets_its_settings_when_it_is_there() {
        let two = Two::new();
        let stay = BTreeSet::new();
        let merged = two.merge(&stay, &[]).only(Path::new("/etc/postgresql/15/main")).unwrap();
        assert_eq!(merged.put, 1);
        assert_eq!(two.read("/etc/postgresql/15/main/postgresql.conf").as_deref(), Some("then"));
        assert_eq!(two.merge(&stay, &[]).only(Path::new("/etc/postgresql/17/main")).unwrap(), Merged::default());
    }

    #[test]
    fn a_site_that_came_with_the_package_and_was_removed_there_is_put_aside() {
        let two = Two::new();
        let site = "/etc/nginx/sites-enabled/default";
        // In another release it stays: there it may be what makes the server work.
        assert!(two.run(Which::Lying, &["/etc/ssl/openssl.cnf"]).aside.is_empty());
        assert!(two.read(site).is_some());
        let merged = two.run(Which::Lying, &[]);
        assert_eq!(merged.aside, [Path::new(site)]);
        assert_eq!((two.read(site), two.read("/etc/only-here.conf").as_deref()), (None, Some("here")));
        assert_eq!(std::fs::read_to_string(below(&two.before, Path::new(site))).unwrap(), "here");
        assert!(two.run(Which::Lying, &[]).aside.is_empty());
    }

    #[test]
    fn sources_of_packages_are_added_and_none_is_replaced() {
        let two = Two::new();
        write(&two.staged, "/etc/apt/sources.list.d/pgdg.list", "then");
        write(&two.staged, "/etc/apt/sources.list.d/debian.sources", "then");
        write(&two.root, "/etc/apt/sources.list.d/debian.sources", "here");
        let folders = ["/etc/apt/sources.list.d", "/etc/apt/keyrings"];
        assert_eq!(add(&two.staged, &two.root, &folders).unwrap(), 1);
        assert_eq!(add(&two.staged, &two.root, &folders).unwrap(), 0);
        assert_eq!(two.read("/etc/apt/sources.list.d/pgdg.list").as_deref(), Some("then"));
        assert_eq!(two.read("/etc/apt/sources.list.d/debian.sources").as_deref(), Some("here"));
    }

    #[test]
    fn what_is_of_another_kind_is_kept_and_gives_way() {
        let two = Two::new();
        std::fs::remove_file(two.root.join("etc/app.conf")).unwrap();
        write(&two.root, "/etc/app.conf/inner", "here");
        let merged = two.run(Which::Lying, &["/etc/ssl/openssl.cnf"]);
        assert_eq!(two.read("/etc/app.conf").as_deref(), Some("then"));
        assert_eq!(std::fs::read_to_string(two.before.join("etc/app.conf/inner")).unwrap(), "here");
        assert_eq!(merged.replaced, 2);
    }
}
