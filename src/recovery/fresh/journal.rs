//! The journal of one recovery: which phases are done, synced before anything follows from it.
//!
//! One line a record: a checksum and JSON. A line that is not whole was not synced, so its phase is not done, and every
//! phase may be done again.

use super::phase::Phase;
use super::took::{self, Took};
use crate::error::{Error, Kind, Result};
use crate::io::durable;
use crate::model::{BackupId, Name, VaultId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What a recovery is about: enough to go on with just the same backups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    /// The recovery's id: its UTC time and a random tail.
    pub id: BackupId,
    /// The host.
    pub host: Name,
    /// Its vault.
    pub vault: VaultId,
    /// The backup of each plan.
    pub backups: Vec<(Name, BackupId)>,
    /// Whether nothing is taken over.
    pub exercise: bool,
    /// Whether what is here already may give way.
    pub onto_existing: bool,
    /// Whether servers of other machines are restored too.
    #[serde(default)]
    pub other_servers: bool,
    /// In an exercise, the units that are started.
    pub start: Vec<String>,
    /// Whether the given identity stays on this machine.
    pub keep_identity: bool,
    /// Units that were enabled here before.
    pub enabled: Vec<String>,
    /// The phases, in order.
    pub phases: Vec<Phase>,
    /// By which moment the backups were to be begun.
    #[serde(default)]
    pub at: Option<Timestamp>,
    /// What the operator should know of the backups.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Sources that were shown as another machine's when it began. They stay so, wherever a name leads later.
    #[serde(default)]
    pub elsewhere: Vec<Name>,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// The first.
    Begin(Begin),
    /// From here on it is about this instead: another backup of a plan, or packages besides.
    Amended(Begin),
    /// A phase begins, or begins once more.
    Doing(Phase),
    /// It is done; what the operator should know of it.
    Done(Phase, Vec<String>),
    /// It failed, and may be tried again.
    Failed(Phase, String),
}

/// A record with its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The host's clock.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub record: Record,
}

/// A journal on disk.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    begin: Begin,
    entries: Vec<Entry>,
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> Error + '_ {
    move |e| {
        Error::io("the journal of the recovery cannot be written or read", path, e)
            .kind(Kind::Restore)
            .hint("Free space or mend the disk, and run the same command again.")
    }
}

fn line(entry: &Entry) -> Result<String> {
    let json = serde_json::to_string(entry)
        .map_err(|e| Error::new(Kind::Internal, "a record of the recovery cannot be written").because(e))?;
    Ok(format!("{:08x} {json}\n", crc32c::crc32c(json.as_bytes())))
}

fn parse(line: &str) -> Option<Entry> {
    let (crc, json) = line.split_once(' ')?;
    (u32::from_str_radix(crc, 16).ok()? == crc32c::crc32c(json.as_bytes())).then_some(())?;
    serde_json::from_str(json).ok()
}

impl Journal {
    /// Begins one. It has its name when its beginning is synced.
    ///
    /// # Errors
    /// [`Kind::Restore`] when it cannot be written.
    pub fn begin(path: &Path, begin: Begin) -> Result<Self> {
        let failed = failed(path);
        let folder = path.parent().unwrap_or(Path::new("/"));
        let entry = Entry { at: Timestamp::now(), record: Record::Begin(begin.clone()) };
        let text = line(&entry)?;
        durable::make_folder(folder, 0o755)
            .and_then(|()| durable::replace(path, text.as_bytes(), 0o600))
            .map_err(&failed)?;
        let file = File::options().append(true).open(path).map_err(&failed)?;
        Ok(Journal { path: path.to_owned(), file, begin, entries: vec![entry] })
    }

    /// Opens the one that is there; `None` when there is none.
    ///
    /// # Errors
    /// [`Kind::Damaged`] when it is not what was written.
    pub fn open(path: &Path) -> Result<Option<Self>> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(path)(e)),
        };
        let damaged = || {
            Error::new(Kind::Damaged, "the journal of the recovery is damaged")
                .at(path.display())
                .hint("Move it away and begin anew; what was restored so far may be there already: --onto-existing.")
        };
        let mut entries = Vec::new();
        let mut whole = 0;
        for l in text.split_inclusive('\n') {
            match l.strip_suffix('\n').and_then(parse) {
                Some(entry) => {
                    entries.push(entry);
                    whole += l.len();
                }
                // The torn end of a record that was never synced.
                None if whole + l.len() == text.len() => break,
                None => return Err(damaged()),
            }
        }
        let Some(Record::Begin(mut begin)) = entries.first().map(|e| e.record.clone()) else { return Err(damaged()) };
        for entry in &entries {
            if let Record::Amended(now) = &entry.record {
                begin.clone_from(now);
            }
        }
        let file = File::options().append(true).open(path).map_err(failed(path))?;
        file.set_len(whole as u64).map_err(failed(path))?;
        Ok(Some(Journal { path: path.to_owned(), file, begin, entries }))
    }

    /// What it is about.
    pub fn about(&self) -> &Begin {
        &self.begin
    }

    /// When it began.
    pub fn began(&self) -> Timestamp {
        self.entries.first().map_or(Timestamp::UNIX_EPOCH, |e| e.at)
    }

    /// When its last record was written.
    pub fn last(&self) -> Timestamp {
        self.entries.last().map_or(Timestamp::UNIX_EPOCH, |e| e.at)
    }

    /// Adds a record and syncs it.
    ///
    /// # Errors
    /// [`Kind::Restore`]; then nothing further may happen.
    pub fn write(&mut self, record: Record) -> Result<()> {
        let entry = Entry { at: Timestamp::now(), record };
        let text = line(&entry)?;
        self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data()).map_err(failed(&self.path))?;
        if let Record::Amended(now) = &entry.record {
            self.begin.clone_from(now);
        }
        self.entries.push(entry);
        Ok(())
    }

    /// Whether a phase is done: what failed after it was done, as for another backup, is to be done again.
    pub fn is_done(&self, phase: &Phase) -> bool {
        let last = self.entries.iter().rev().find_map(|e| match &e.record {
            Record::Done(p, _) if p == phase => Some(true),
            Record::Failed(p, _) if p == phase => Some(false),
            _ => None,
        });
        last == Some(true)
    }

    /// Takes another backup of a plan. What was done with the one before it is to be done again.
    ///
    /// # Errors
    /// [`Kind::Refused`] when its databases are restored already or the recovery is not about the plan, and when the
    /// journal cannot be written.
    pub fn take(&mut self, plan: &Name, backup: &BackupId) -> Result<()> {
        let mut begin = self.begin.clone();
        let Some(taken) = begin.backups.iter_mut().find(|(p, _)| p == plan) else {
            return Err(Error::new(Kind::Refused, format!("the recovery is not about plan {plan}"))
                .hint("Give --start-over to begin another one."));
        };
        if taken.1 == *backup {
            return Ok(());
        }
        let data = Phase::Data(plan.clone());
        let trees = Phase::Trees(plan.clone());
        let last = if begin.phases.contains(&data) { &data } else { &trees };
        if self.is_done(last) {
            return Err(Error::new(Kind::Refused, format!("plan {plan} is restored already, from backup {}", taken.1))
                .hint("When the recovery is done, `backstay restore` takes another backup; or give --start-over."));
        }
        taken.1 = backup.clone();
        let why = format!("backup {backup} is taken instead");
        // Before it is about the other backup: cut between these, it does again what was done, with either of them.
        let fetched = [Phase::Fetch].into_iter().filter(|_| !self.is_done(&Phase::Config));
        for phase in fetched.chain([trees]).collect::<Vec<_>>() {
            if self.is_done(&phase) {
                self.write(Record::Failed(phase, why.clone()))?;
            }
        }
        self.write(Record::Amended(begin))
    }

    /// How each phase went, in their order.
    pub fn phases(&self) -> Vec<Took> {
        self.begin.phases.iter().map(|phase| took::of(phase, &self.entries)).collect()
    }

    /// Puts a journal that is done away, beside those of earlier recoveries.
    ///
    /// # Errors
    /// [`Kind::Restore`].
    pub fn close(self) -> Result<()> {
        let folder = self.path.with_extension("d");
        let to = folder.join(format!("{}.journal", self.begin.id));
        std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::rename(&self.path, &to))
            .and_then(|()| durable::sync_folder(self.path.parent().unwrap_or(Path::new("/"))))
            .map_err(failed(&to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin() -> Begin {
        Begin {
            id: BackupId::new(Timestamp::UNIX_EPOCH),
            host: "erp-1".parse().unwrap(),
            vault: VaultId([7; 16]),
            backups: vec![("erp".parse().unwrap(), BackupId::new(Timestamp::UNIX_EPOCH))],
            exercise: false,
            onto_existing: false,
            other_servers: false,
            start: Vec::new(),
            keep_identity: false,
            enabled: vec!["cron.service".into()],
            phases: vec![Phase::Config, Phase::Trees("erp".parse().unwrap()), Phase::Data("erp".parse().unwrap())],
            at: None,
            notes: Vec::new(),
            elsewhere: Vec::new(),
        }
    }

    #[test]
    fn a_journal_is_read_back_wherever_it_was_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state/recover.journal");
        assert!(Journal::open(&path).unwrap().is_none());
        let data = Phase::Data("erp".parse().unwrap());
        let begun = begin();
        let mut j = Journal::begin(&path, begun.clone()).unwrap();
        j.write(Record::Doing(Phase::Config)).unwrap();
        j.write(Record::Done(Phase::Config, vec!["a\nb".into()])).unwrap();
        j.write(Record::Doing(data.clone())).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let ends: Vec<usize> = whole.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(i, _)| i + 1).collect();
        for cut in ends[0]..=whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let j = Journal::open(&path).unwrap().unwrap();
            assert_eq!(*j.about(), begun);
            assert_eq!(j.is_done(&Phase::Config), cut >= ends[2], "cut at {cut}");
            assert!(!j.is_done(&data));
        }
        // After the torn end it goes on.
        std::fs::write(&path, &whole[..whole.len() - 3]).unwrap();
        let mut j = Journal::open(&path).unwrap().unwrap();
        j.write(Record::Doing(data.clone())).unwrap();
        j.write(Record::Failed(data.clone(), "x".into())).unwrap();
        j.write(Record::Doing(data.clone())).unwrap();
        j.write(Record::Done(data.clone(), Vec::new())).unwrap();
        let j = Journal::open(&path).unwrap().unwrap();
        let took = j.phases();
        assert_eq!((took[0].done, took[0].tries, took[0].notes.len()), (true, 1, 1));
        assert_eq!((took[2].done, took[2].tries), (true, 2));
        j.close().unwrap();
        assert!(Journal::open(&path).unwrap().is_none());
        assert_eq!(std::fs::read_dir(dir.path().join("state/recover.d")).unwrap().count(), 1);
    }

    #[test]
    fn another_backup_is_taken_until_the_data_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("recover.journal");
        let plan: Name = "erp".parse().unwrap();
        let (trees, data) = (Phase::Trees(plan.clone()), Phase::Data(plan.clone()));
        let older = BackupId::new(Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(60));
        let mut j = Journal::begin(&path, begin()).unwrap();
        j.write(Record::Done(Phase::Config, Vec::new())).unwrap();
        j.write(Record::Done(trees.clone(), Vec::new())).unwrap();
        j.take(&plan, &older).unwrap();
        // What came out of the other one is not left standing beside it.
        for j in [&j, &Journal::open(&path).unwrap().unwrap()] {
            assert_eq!(j.about().backups, [(plan.clone(), older.clone())]);
            assert!(j.is_done(&Phase::Config) && !j.is_done(&trees));
        }
        j.write(Record::Done(trees, Vec::new())).unwrap();
        j.write(Record::Done(data, Vec::new())).unwrap();
        j.take(&plan, &older).unwrap();
        let error = j.take(&plan, &BackupId::new(Timestamp::UNIX_EPOCH)).unwrap_err();
        assert!(error.kind == Kind::Refused && error.what.contains("restored already"), "{error:?}");
        assert_eq!(j.take(&"other".parse().unwrap(), &older).unwrap_err().kind, Kind::Refused);
    }

    #[test]
    fn cut_within_that_no_two_backups_are_mixed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("recover.journal");
        let plan: Name = "erp".parse().unwrap();
        let trees = Phase::Trees(plan.clone());
        let older = BackupId::new(Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(60));
        let mut j = Journal::begin(&path, begin()).unwrap();
        j.write(Record::Done(Phase::Fetch, Vec::new())).unwrap();
        j.write(Record::Done(trees.clone(), Vec::new())).unwrap();
        let before = std::fs::read(&path).unwrap().len();
        j.take(&plan, &older).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let ends = (before..=whole.len()).filter(|end| whole[end - 1] == b'\n').collect::<Vec<_>>();
        assert_eq!(ends.len(), 4);
        for cut in ends {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let mut j = Journal::open(&path).unwrap().unwrap();
            let other = j.about().backups[0].1 == older;
            assert!(!(other && (j.is_done(&Phase::Fetch) || j.is_done(&trees))), "cut at {cut}");
            // The same command again.
            j.take(&plan, &older).unwrap();
            assert_eq!(j.about().backups[0].1, older);
            assert!(!j.is_done(&Phase::Fetch) && !j.is_done(&trees), "cut at {cut}");
        }
    }

    #[test]
    fn a_flipped_bit_in_the_middle_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("recover.journal");
        let mut j = Journal::begin(&path, begin()).unwrap();
        j.write(Record::Doing(Phase::Config)).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[20] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(Journal::open(&path).unwrap_err().kind, Kind::Damaged);
    }
}
