//! Writing the backup beside the live data, and comparing it with the facts.

use super::files::{Identity, identity};
use super::scratch::{self, Trial};
use super::target::Target;
use super::{Error, Kind, Result, Wanted};
use crate::io::BlockingStream;
use crate::model::BackupId;
use crate::recovery::resource::Compared;
use crate::sources::redis::aof::{manifest_name, manifest_of};
use crate::sources::redis::facts::RedisFacts;
use crate::sources::redis::rdb::{self, Counts, Fault, Summary};
use rustix::fs::{Gid, Uid};
use serde::{Deserialize, Serialize};
use std::fs::{File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Names of what will be staged and where it goes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Staging {
    /// The backup.
    pub id: BackupId,
    /// Directory of the server.
    pub dir: PathBuf,
    /// The staged RDB.
    pub rdb: PathBuf,
    /// What the server reads it as.
    pub layout: Layout,
    /// The product and version of the server, when it runs.
    pub server: Option<(String, String)>,
}

/// What a server reads at its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// An RDB of this name.
    Rdb(String),
    /// An append-only file that consists of the RDB.
    Single(String),
    /// A directory of parts with the RDB as base; and the RDB besides, for a start without append-only file.
    Parts {
        /// Name of the RDB.
        rdb: String,
        /// Name of the directory.
        dir: String,
        /// How the names of the parts begin.
        file: String,
        /// The staged directory.
        staged: PathBuf,
    },
}

/// What was staged.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Staged {
    /// Where.
    #[serde(flatten)]
    pub staging: Staging,
    /// The staged RDB.
    pub identity: Identity,
    /// The staged directory of parts.
    pub parts: Option<Identity>,
    /// Keys that will be there after any time, when they were counted.
    pub lasting: Option<u64>,
}

impl Staging {
    /// Names for a target. No effect.
    pub fn plan(target: &Target, id: &BackupId) -> Self {
        let s = &target.settings;
        let at = |ending: &str| target.dir.join(format!(".backstay-{id}.{ending}"));
        let layout = match (s.appendonly, target.parts) {
            (false, _) => Layout::Rdb(s.dbfilename.clone()),
            (true, false) => Layout::Single(s.appendfilename.clone()),
            (true, true) => Layout::Parts {
                rdb: s.dbfilename.clone(),
                dir: s.appenddirname.clone(),
                file: s.appendfilename.clone(),
                staged: at("aof"),
            },
        };
        let server = target.live.as_ref().map(|l| (l.product.clone(), l.version.clone()));
        Staging { id: id.clone(), dir: target.dir.clone(), rdb: at("rdb"), layout, server }
    }

    /// Removes what is staged, whatever there is of it.
    pub fn remove(&self) -> Result<()> {
        let gone = |path: &Path, done: std::io::Result<()>| match done {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("what was staged cannot be removed", path, e).kind(Kind::Restore))
            }
            _ => Ok(()),
        };
        if let Layout::Parts { staged, .. } = &self.layout {
            gone(staged, std::fs::remove_dir_all(staged))?;
        }
        gone(&self.rdb, std::fs::remove_file(&self.rdb))
    }

    /// The file whose owner and mode the staged one gets, or else the directory of the server.
    fn model(&self) -> PathBuf {
        let name = match &self.layout {
            Layout::Rdb(name) | Layout::Single(name) | Layout::Parts { rdb: name, .. } => name,
        };
        let live = self.dir.join(name);
        if live.exists() { live } else { self.dir.clone() }
    }
}

/// Writes the RDB and what the server needs besides, synced.
pub async fn stage(staging: Staging, wanted: &Wanted) -> Result<Staged> {
    staging.remove()?;
    let stream = BlockingStream::new(wanted.stream()?);
    let facts = wanted.facts.clone();
    let writing = tokio::task::spawn_blocking(move || {
        let owner = Owner::of(&staging.model())?;
        let summary = write(stream, &staging.rdb, Some(&owner))?;
        if let Some(different) = compare(&facts, &summary).into_iter().find(|c| !c.good) {
            return Err(differs(&different));
        }
        let parts = match &staging.layout {
            Layout::Parts { file, staged, .. } => Some(make_parts(&staging.rdb, staged, file, &owner)?),
            _ => None,
        };
        sync_dir(&staging.dir)?;
        let missing = || Error::new(Kind::Restore, "the staged data is gone").at(staging.rdb.display());
        let identity = identity(&staging.rdb)?.ok_or_else(missing)?;
        Ok(Staged { identity, parts, lasting: facts.lasting(), staging })
    });
    writing.await.map_err(Error::panicked("writing"))?
}

fn differs(line: &Compared) -> Error {
    Error::new(Kind::Mismatch, "what was restored differs from the facts of the backup")
        .because(format!("{}: {} instead of {}", line.what, line.found, line.expected))
}

/// Writes the RDB of a backup into a file, new and synced, and reads it while it passes.
pub fn write(mut stream: BlockingStream, path: &Path, owner: Option<&Owner>) -> Result<Summary> {
    let failed = |e: std::io::Error| {
        let full = e.kind() == std::io::ErrorKind::StorageFull;
        let error = Error::io("the restored data cannot be written", path, e).kind(Kind::Restore);
        if full { error.hint("Make room on that file system; the live data is untouched.") } else { error }
    };
    let file = File::options().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    let mut copy = Copy { from: &mut stream, to: &file, broken: None };
    let summary = rdb::read(&mut copy);
    if let Some(e) = copy.broken.take() {
        return Err(failed(e));
    }
    let summary = match summary {
        Ok(summary) => summary,
        Err(fault) => return Err(stream.take_error().unwrap_or_else(|| damaged(path, fault))),
    };
    if let Some(owner) = owner {
        owner.give(path, false).map_err(failed)?;
    }
    file.sync_all().map_err(failed)?;
    Ok(summary)
}

fn damaged(path: &Path, fault: Fault) -> Error {
    Error::new(Kind::Mismatch, "what was restored is no whole RDB").at(path.display()).because(fault)
}

/// Passes on what it reads, and writes it to a file besides.
struct Copy<'a> {
    from: &'a mut BlockingStream,
    to: &'a File,
    broken: Option<std::io::Error>,
}

impl Read for Copy<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.from.read(buffer)?;
        self.to.write_all(&buffer[..n]).map_err(|e| {
            let told = std::io::Error::other("the copy cannot be written");
            self.broken = Some(e);
            told
        })?;
        Ok(n)
    }
}

/// Owner and mode of what the server writes.
pub struct Owner {
    uid: u32,
    gid: u32,
    mode: u32,
}

impl Owner {
    fn of(model: &Path) -> Result<Self> {
        let m = std::fs::metadata(model)
            .map_err(|e| Error::io("a file of the server cannot be looked at", model, e).kind(Kind::Restore))?;
        // A directory's bits of execution mean nothing for a file.
        Ok(Owner { uid: m.uid(), gid: m.gid(), mode: m.mode() & if m.is_dir() { 0o660 } else { 0o777 } })
    }

    fn give(&self, path: &Path, directory: bool) -> std::io::Result<()> {
        if rustix::process::geteuid().is_root() {
            rustix::fs::chown(path, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))?;
        }
        // Whoever may read a directory may enter it.
        let mode = if directory { self.mode | (self.mode & 0o444) >> 2 } else { self.mode };
        std::fs::set_permissions(path, Permissions::from_mode(mode))
    }
}

/// A directory of parts whose base is the RDB: a second name of it, since neither is ever written to again.
fn make_parts(rdb: &Path, staged: &Path, file: &str, owner: &Owner) -> Result<Identity> {
    let failed = |e: std::io::Error| Error::io("the append-only file cannot be made", staged, e).kind(Kind::Restore);
    let base = format!("{file}.1.base.rdb");
    let make = || {
        std::fs::DirBuilder::new().mode(0o700).create(staged)?;
        std::fs::hard_link(rdb, staged.join(&base)).or_else(|_| std::fs::copy(rdb, staged.join(&base)).map(drop))?;
        let manifest = staged.join(manifest_name(file));
        std::fs::write(&manifest, manifest_of(&base))?;
        for path in [&staged.join(&base), &manifest] {
            owner.give(path, false)?;
            File::open(path)?.sync_all()?;
        }
        owner.give(staged, true)?;
        File::open(staged)?.sync_all()
    };
    make().map_err(failed)?;
    identity(staged)?.ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))
}

fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir)
        .and_then(|d| d.sync_all())
        .map_err(|e| Error::io("the directory of the server cannot be synced", dir, e).kind(Kind::Restore))
}

/// Reads the staged file again, and has a server load it where that can be.
pub async fn verify(staged: &Staged, facts: &RedisFacts) -> Result<Vec<Compared>> {
    let path = staged.staging.rdb.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let file =
            File::open(&path).map_err(|e| Error::io("the staged data cannot be read", &path, e).kind(Kind::Restore))?;
        rdb::read(file).map_err(|fault| damaged(&path, fault))
    });
    let summary = reading.await.map_err(Error::panicked("reading"))??;
    let mut lines = compare(facts, &summary);
    match scratch::load(&staged.staging.rdb, staged.staging.server.as_ref(), facts).await? {
        Trial::Loaded { server, keyspace } => {
            for counts in facts.keyspaces.iter().flatten() {
                let found = keyspace.get(&counts.db).copied().unwrap_or_default();
                let lasting = found.keys - found.expires;
                lines.push(Compared {
                    what: format!("keys of db {} without expiry, loaded by {server}", counts.db),
                    expected: counts.lasting().to_string(),
                    found: lasting.to_string(),
                    // Hashes whose fields expire are there as long as one field is.
                    good: (counts.lasting()..=counts.lasting() + counts.fields_expire).contains(&lasting),
                });
            }
        }
        Trial::NotTried(why) => lines.push(Compared {
            what: "loaded by a server".into(),
            expected: "-".into(),
            found: format!("not tried: {why}"),
            good: true,
        }),
    }
    Ok(lines)
}

/// Holds what was read against the facts.
pub fn compare(facts: &RedisFacts, found: &Summary) -> Vec<Compared> {
    let mut lines = vec![
        line("RDB version", facts.rdb_version, found.version),
        line("checksum", word(facts.checksum), word(found.checksum)),
        line("function libraries", facts.functions.join(" "), found.functions.join(" ")),
    ];
    if let (Some(expected), None) = (&facts.keyspaces, &found.unknown) {
        let mut numbers: Vec<u64> = expected.iter().chain(&found.databases).map(|c| c.db).collect();
        numbers.sort_unstable();
        numbers.dedup();
        for db in numbers {
            let of = |all: &[Counts]| all.iter().find(|c| c.db == db).copied().unwrap_or_default();
            let (expected, found) = (of(expected), of(&found.databases));
            lines.push(line(&format!("keys of db {db} without expiry"), expected.lasting(), found.lasting()));
            lines.push(line(&format!("keys of db {db} with expiry"), expected.expiring, found.expiring));
        }
    }
    lines
}

fn word(checksum: bool) -> &'static str {
    if checksum { "right" } else { "none" }
}

fn line<T: std::fmt::Display>(what: &str, expected: T, found: T) -> Compared {
    let (expected, found) = (expected.to_string(), found.to_string());
    Compared { what: what.to_owned(), good: expected == found, expected, found }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_from_the_facts_has_its_line() {
        let counts = |db, keys, expiring| Counts { db, keys, expiring, fields_expire: 0 };
        let summary = Summary {
            version: 10,
            checksum: true,
            databases: vec![counts(0, 10, 4), counts(3, 1, 0)],
            functions: vec!["lib".into()],
            ..Summary::default()
        };
        let facts = |keyspaces: Vec<Counts>, functions: &[&str]| RedisFacts {
            rdb_version: 10,
            checksum: true,
            keyspaces: Some(keyspaces),
            functions: functions.iter().map(|f| (*f).to_owned()).collect(),
            ..RedisFacts::default()
        };
        let bad = |facts: &RedisFacts| -> Vec<String> {
            compare(facts, &summary).into_iter().filter(|c| !c.good).map(|c| c.what).collect()
        };
        assert!(bad(&facts(vec![counts(0, 10, 4), counts(3, 1, 0)], &["lib"])).is_empty());
        assert_eq!(bad(&facts(vec![counts(0, 10, 4)], &["lib"])), ["keys of db 3 without expiry"]);
        assert_eq!(
            bad(&facts(vec![counts(0, 11, 4), counts(3, 1, 0)], &[])),
            ["function libraries", "keys of db 0 without expiry"]
        );
        let more = facts(vec![counts(0, 11, 5), counts(3, 1, 0), counts(7, 1, 1)], &["lib"]);
        assert_eq!(bad(&more), ["keys of db 0 with expiry", "keys of db 7 with expiry"]);
    }
}
