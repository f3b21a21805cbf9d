//! A repository for one restore: a directory of ours, with keys that nobody keeps. A set is taken over into it, and the
//! restore flow goes on as with any other backup; then it is gone.

use super::sets::Part;
use super::take::{Taking, take};
use crate::error::{Error, Kind, Result};
use crate::model::{BackupId, Name, size};
use crate::repository::access::{self, KeyRecipient, NewVault};
use crate::repository::catalog::Catalog;
use crate::repository::manifest::Manifest;
use crate::repository::writer::{BackupWriter, Imported, WriterOptions};
use crate::storage::fs::FsStore;
use crate::storage::open::{StorageOptions, open};
use crate::telemetry::monitor::Monitor;
use age::x25519;
use jiff::{SignedDuration, Timestamp};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The directory, below the state directory.
const FOLDER: &str = "foreign";
/// In it: the repository, and what opens it.
const REPOSITORY: &str = "repository";
const IDENTITY: &str = "identity";
/// Nobody else works in it.
const GRACE: SignedDuration = SignedDuration::from_hours(24);

/// Such a repository; gone when dropped, unless kept.
pub struct Scratch {
    /// Its one backup can be read by this.
    pub catalog: Catalog,
    dir: PathBuf,
    keep: bool,
}

impl Scratch {
    /// Makes an empty one. What an earlier restore left is removed: one restore is open on a host at a time.
    ///
    /// # Errors
    /// When there is no room for it.
    pub async fn make(state_dir: &Path, host: &Name) -> Result<Self> {
        let dir = state_dir.join(FOLDER);
        match std::fs::remove_dir_all(&dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("what an earlier restore left cannot be removed", &dir, e));
            }
            _ => {}
        }
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.map_err(|e| Error::io("a directory for the restore cannot be made", &dir, e))?;
        let root = dir.join(REPOSITORY);
        FsStore::new(&root, Duration::from_secs(60))?.create_root().await?;
        let store = open(&StorageOptions::new(format!("file://{}", root.display())), None).await?;
        // A restore that is interrupted goes on with it, so its key lies beside it.
        let new = NewVault::generate(Timestamp::now(), GRACE);
        let identity = x25519::Identity::generate();
        access::write_identity_file(&dir.join(IDENTITY), &identity, "scratch", host, &new.header, &new.secret)?;
        let key = ("scratch".parse()?, "host", KeyRecipient::X25519(identity.to_public()));
        let vault = new.write(store, host.clone(), &[key]).await?;
        Ok(Scratch { catalog: Catalog::new(Arc::new(vault), None), dir, keep: false })
    }

    /// The catalog that an interrupted restore of this backup has left, if it was one of a foreign backup.
    ///
    /// # Errors
    /// When it is there and cannot be opened.
    pub async fn left(state_dir: &Path, host: &Name, plan: &Name, id: &BackupId) -> Result<Option<Catalog>> {
        let dir = state_dir.join(FOLDER);
        let (identity, root) = (dir.join(IDENTITY), dir.join(REPOSITORY));
        if !identity.exists() {
            return Ok(None);
        }
        let store = open(&StorageOptions::new(format!("file://{}", root.display())), None).await?;
        let unlock = access::read_identity_file(&identity)?;
        let catalog = Catalog::new(Arc::new(access::open_with(store, host, &unlock).await?), None);
        match catalog.manifest(plan, id).await {
            Ok(_) => Ok(Some(catalog)),
            Err(e) if e.kind == Kind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Removes what an interrupted restore has left, when that has come to its end.
    pub fn clear(state_dir: &Path) {
        let _ = std::fs::remove_dir_all(state_dir.join(FOLDER));
    }

    /// An empty directory in it, in which archives are unpacked.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn room(&self) -> Result<PathBuf> {
        let room = self.dir.join("room");
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&room)
            .map_err(|e| Error::io("a directory to unpack into cannot be made", &room, e))?;
        Ok(room)
    }

    /// Takes a set over.
    ///
    /// # Errors
    /// As [`take`]; [`Kind::Refused`] when the state directory has no room for it.
    pub async fn fill(&self, plan: &Name, taking: &Taking<'_>, monitor: Arc<dyn Monitor>) -> Result<Manifest> {
        self.has_room(taking)?;
        let time = taking.set.time.ok_or_else(|| Error::new(Kind::Refused, "the set has no time"))?;
        let options = WriterOptions {
            // Written once and read once, on this machine.
            level: 1,
            verify: false,
            imported: Some(Imported { from: origin(taking), time }),
            ..WriterOptions::default()
        };
        let journal = self.dir.join("uploads");
        let machine = "scratch".to_owned();
        let writer =
            BackupWriter::begin(self.catalog.clone(), plan.clone(), machine, options, &journal, monitor.clone(), time)
                .await?;
        let outcomes = take(taking, &writer, monitor).await?;
        let manifest = writer.commit(outcomes, true, time).await?;
        // The unpacked files are in the repository by now.
        let room = &taking.room;
        std::fs::remove_dir_all(room).map_err(|e| Error::io("what was unpacked cannot be removed", room, e))?;
        Ok(manifest)
    }

    /// What is compressed there is compressed here; archives of files are unpacked besides, and nobody knows yet how large
    /// they are.
    fn has_room(&self, taking: &Taking<'_>) -> Result<()> {
        let rule = |part: &Part| &taking.layout.files[part.rule];
        let read = taking.set.parts.iter().filter(|p| rule(p).concerns(&taking.only));
        let needed = read.map(|p| p.object.size * if rule(p).members.is_empty() { 1 } else { 2 }).sum::<u64>();
        let failed = |e| Error::io("the free space cannot be read", &self.dir, std::io::Error::from(e));
        let stat = rustix::fs::statvfs(&self.dir).map_err(failed)?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free >= needed {
            return Ok(());
        }
        Err(Error::new(Kind::Refused, "the state directory has no room for the foreign backup")
            .at(self.dir.display())
            .because(format!("at least {} are needed, {} are free", size::human(needed), size::human(free)))
            .hint("Make room, or set `state_dir` to a larger disk."))
    }

    /// Leaves it where it is, for a restore that goes on later.
    pub fn keep(mut self) {
        self.keep = true;
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.keep {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// What a backup says it was made of.
pub fn origin(taking: &Taking<'_>) -> String {
    format!("{}:{}", taking.layout.name, taking.set.name)
}
