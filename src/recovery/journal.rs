//! The journal of one restore: what was begun and what was done, synced before each effect, so that after a crash
//! somebody who was not there can finish or undo it.
//!
//! One line a record: a checksum and JSON. A line that is not whole was not synced, so what it speaks of has not
//! happened. What may follow what is in one function, [`State::after`]; anything else is an error and never a guess.

use super::resource::Note;
use crate::error::{Error, Kind, Result};
use crate::model::{BackupId, Name};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What a restore is about; enough to make its steps anew.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Begin {
    /// The restore's id: its UTC time and a random tail.
    pub id: BackupId,
    /// Plan.
    pub plan: Name,
    /// Backup.
    pub backup: BackupId,
    /// Who asked, and how.
    pub asked: Value,
    /// Names of all steps, in order.
    pub steps: Vec<String>,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// The first.
    Begin(Begin),
    /// A step is about to have its effect; the note is what its undo needs.
    Doing(usize, Note),
    /// It has had it; the note is what later steps need of it.
    Done(usize, Note),
    /// It failed, or it was decided to go back: from here on all is undone, this step included.
    Failed(usize, String),
    /// The undo of a step has left this on purpose: what it is, and where.
    Kept(usize, Vec<String>),
    /// A step was undone.
    Undone(usize),
    /// An undo failed. Both copies stay, and somebody must look.
    Stuck(usize, String),
    /// The restore is complete and stays.
    Committed,
    /// Everything was undone.
    Unwound,
}

/// Where a restore stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing is written.
    Empty,
    /// So many steps are done, and none is in the middle.
    Between(usize),
    /// This step is in the middle.
    Within(usize),
    /// Going back: what is below this number is still to be undone.
    Unwinding(usize),
    /// The undo of this step failed.
    Stuck(usize),
    /// Complete.
    Committed,
    /// Undone.
    Unwound,
}

impl State {
    /// The state after a record, with so many steps in all.
    ///
    /// # Errors
    /// [`Kind::Internal`] when the record cannot follow.
    pub fn after(&self, record: &Record, steps: usize) -> Result<State> {
        use State as S;
        Ok(match (self, record) {
            (S::Empty, Record::Begin(_)) => S::Between(0),
            (S::Between(n), Record::Doing(step, _)) if n == step && *step < steps => S::Within(*step),
            // Done again after a crash, with the note that was written before it.
            (S::Within(n), Record::Doing(step, _)) if n == step => S::Within(*step),
            (S::Within(n), Record::Done(step, _)) if n == step => S::Between(step + 1),
            (S::Within(n), Record::Failed(step, _)) if n == step => S::Unwinding(step + 1),
            (S::Between(n), Record::Failed(step, _)) if n == step => S::Unwinding(*n),
            (S::Unwinding(n), Record::Kept(step, _)) if *n == step + 1 => S::Unwinding(*n),
            (S::Unwinding(n), Record::Undone(step)) if *n == step + 1 => S::Unwinding(*step),
            (S::Unwinding(n), Record::Stuck(step, _)) if *n == step + 1 => S::Stuck(*step),
            // Somebody has looked, and asks for another try.
            (S::Stuck(n), Record::Kept(step, _)) if n == step => S::Stuck(*step),
            (S::Stuck(n), Record::Undone(step)) if n == step => S::Unwinding(*step),
            (S::Stuck(n), Record::Stuck(step, _)) if n == step => S::Stuck(*step),
            (S::Unwinding(0), Record::Unwound) => S::Unwound,
            (S::Between(n), Record::Committed) if *n == steps => S::Committed,
            _ => {
                return Err(Error::new(Kind::Internal, "the journal of the restore does not make sense")
                    .because(format!("{record:?} after {self:?}")));
            }
        })
    }

    /// True when an undo failed, and somebody has to look.
    pub fn is_stuck(&self) -> bool {
        matches!(self, State::Stuck(_))
    }

    /// True when nothing is left to do.
    pub fn is_closed(&self) -> bool {
        matches!(self, State::Committed | State::Unwound)
    }
}

/// A record with its time, as it is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The host's clock.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub record: Record,
}

/// An open journal.
pub struct Journal {
    path: PathBuf,
    file: File,
    entries: Vec<Entry>,
    state: State,
    begin: Begin,
}

fn cannot(what: &str, path: &Path) -> impl Fn(std::io::Error) -> Error {
    let (what, path) = (what.to_owned(), path.to_owned());
    move |e| Error::io(what.clone(), &path, e).kind(Kind::Restore)
}

impl Journal {
    /// Begins a journal; its directory is made when it is not there.
    ///
    /// # Errors
    /// [`Kind::Restore`] when it cannot be written, or exists.
    pub fn begin(path: &Path, begin: Begin) -> Result<Self> {
        let failed = cannot("the journal of the restore cannot be made", path);
        let directory = path.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(directory).map_err(&failed)?;
        // It gets its name when its first record is synced: a journal that is there has a beginning. By a link and not
        // by a rename as in `io::durable`: one that is there is not replaced.
        let new = path.with_extension("new");
        let _ = std::fs::remove_file(&new);
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&new).map_err(&failed)?;
        let mut journal =
            Journal { path: path.to_owned(), file, entries: Vec::new(), state: State::Empty, begin: begin.clone() };
        journal.write(Record::Begin(begin))?;
        std::fs::hard_link(&new, path).and_then(|()| std::fs::remove_file(&new)).map_err(&failed)?;
        File::open(directory).and_then(|d| d.sync_all()).map_err(&failed)?;
        journal.file = OpenOptions::new().append(true).open(path).map_err(&failed)?;
        Ok(journal)
    }

    /// Opens the journal of a restore that was interrupted. A last line that is not whole is cut off.
    ///
    /// # Errors
    /// [`Kind::Restore`] when it cannot be read, [`Kind::Internal`] when it does not make sense.
    pub fn open(path: &Path) -> Result<Self> {
        Self::load(path, true)
    }

    /// One to look at, which somebody else may be writing to: nothing is cut off, and nothing can be written.
    ///
    /// # Errors
    /// As [`Journal::open`].
    pub fn read(path: &Path) -> Result<Self> {
        Self::load(path, false)
    }

    fn load(path: &Path, own: bool) -> Result<Self> {
        let failed = cannot("the journal of the restore cannot be read", path);
        let bytes = std::fs::read(path).map_err(&failed)?;
        let mut entries = Vec::new();
        let mut whole = 0;
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            let Some(entry) = parse(line) else { break };
            whole += line.len();
            entries.push(entry);
        }
        if bytes[whole..].contains(&b'\n') {
            return Err(Error::new(Kind::Internal, "the journal of the restore is damaged").at(path.display()));
        }
        let file = OpenOptions::new().read(!own).append(own).open(path).map_err(&failed)?;
        if own && whole < bytes.len() {
            file.set_len(whole as u64).and_then(|()| file.sync_all()).map_err(&failed)?;
        }
        let Some(Entry { record: Record::Begin(begin), .. }) = entries.first().cloned() else {
            return Err(Error::new(Kind::Internal, "the journal of the restore has no beginning").at(path.display()));
        };
        let mut state = State::Empty;
        for entry in &entries {
            state = state.after(&entry.record, begin.steps.len()).map_err(|e| e.at(path.display()))?;
        }
        Ok(Journal { path: path.to_owned(), file, entries, state, begin })
    }

    /// Writes a record and waits until it is on disk. When this fails, what it speaks of must not happen.
    ///
    /// # Errors
    /// [`Kind::Restore`].
    pub fn write(&mut self, record: Record) -> Result<()> {
        let state = self.state.after(&record, self.begin.steps.len())?;
        let entry = Entry { at: Timestamp::now(), record };
        let json = serde_json::to_string(&entry)
            .map_err(|e| Error::new(Kind::Internal, "a record of the journal cannot be written").because(e))?;
        let line = format!("{:08x} {json}\n", crc32c::crc32c(json.as_bytes()));
        let failed = cannot("the journal of the restore cannot be written", &self.path);
        self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data()).map_err(failed)?;
        self.entries.push(entry);
        self.state = state;
        Ok(())
    }

    /// Where the restore stands.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What it is about.
    pub fn about(&self) -> &Begin {
        &self.begin
    }

    /// All records.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The note with which a step began.
    pub fn begun(&self, step: usize) -> Option<&Note> {
        self.entries.iter().rev().find_map(|e| match &e.record {
            Record::Doing(n, note) if *n == step => Some(note),
            _ => None,
        })
    }

    /// When a step of this name began, the last time it did.
    pub fn began(&self, step: &str) -> Option<Timestamp> {
        let step = self.position(step)?;
        self.entries.iter().rev().find(|e| matches!(&e.record, Record::Doing(n, _) if *n == step)).map(|e| e.at)
    }

    /// When a step of this name was done.
    pub fn ended(&self, step: &str) -> Option<Timestamp> {
        let step = self.position(step)?;
        self.entries.iter().rev().find(|e| matches!(&e.record, Record::Done(n, _) if *n == step)).map(|e| e.at)
    }

    /// The number of the step of this name.
    pub fn position(&self, step: &str) -> Option<usize> {
        self.begin.steps.iter().position(|s| s == step)
    }

    /// The note with which a step ended.
    pub fn done(&self, step: usize) -> Option<&Note> {
        self.entries.iter().rev().find_map(|e| match &e.record {
            Record::Done(n, note) if *n == step => Some(note),
            _ => None,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The first record of a journal that somebody else may be writing to; nothing is cut off.
pub fn first_entry(path: &Path) -> Option<Entry> {
    let bytes = std::fs::read(path).ok()?;
    parse(bytes.split_inclusive(|b| *b == b'\n').next()?)
}

fn parse(line: &[u8]) -> Option<Entry> {
    let line = std::str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
    let (crc, json) = line.split_once(' ')?;
    (u32::from_str_radix(crc, 16).ok()? == crc32c::crc32c(json.as_bytes())).then_some(())?;
    serde_json::from_str(json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn begin() -> Begin {
        Begin {
            id: BackupId::new(Timestamp::UNIX_EPOCH),
            plan: "erp".parse().unwrap(),
            backup: BackupId::new(Timestamp::UNIX_EPOCH),
            asked: json!({ "by": "root" }),
            steps: vec!["one".into(), "two".into()],
        }
    }

    #[test]
    fn a_journal_is_read_back_as_it_stands_and_a_torn_line_never_happened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/j");
        let mut j = Journal::begin(&path, begin()).unwrap();
        j.write(Record::Doing(0, json!({ "a": 1 }))).unwrap();
        j.write(Record::Done(0, json!({ "b": 2 }))).unwrap();
        j.write(Record::Doing(1, json!({ "c": "x\ny" }))).unwrap();
        drop(j);
        let whole = std::fs::read(&path).unwrap();
        let lines: Vec<usize> = whole.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(i, _)| i + 1).collect();
        for cut in lines[0]..=whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let j = Journal::open(&path).unwrap();
            let records = lines.iter().filter(|l| **l <= cut).count();
            assert_eq!(j.entries().len(), records, "cut at {cut}");
            let expected = [State::Between(0), State::Within(0), State::Between(1), State::Within(1)];
            assert_eq!(*j.state(), expected[records - 1]);
        }
        // Who only looks leaves a line alone that is being written.
        std::fs::write(&path, &whole[..whole.len() - 3]).unwrap();
        let mut seen = Journal::read(&path).unwrap();
        assert_eq!(*seen.state(), State::Between(1));
        assert!(seen.write(Record::Doing(1, json!({}))).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), whole[..whole.len() - 3]);
        std::fs::write(&path, &whole).unwrap();
        let j = Journal::open(&path).unwrap();
        assert_eq!(j.begun(1), Some(&json!({ "c": "x\ny" })));
        assert_eq!(j.done(0), Some(&json!({ "b": 2 })));
        assert!(Journal::begin(&path, begin()).is_err());
        // A flipped bit in the middle is not a torn end.
        let mut flipped = whole.clone();
        flipped[lines[0] + 12] ^= 1;
        std::fs::write(&path, flipped).unwrap();
        assert!(Journal::open(&path).is_err());
    }

    #[test]
    fn only_what_makes_sense_may_follow() {
        let note = || Note::Null;
        let ok = |records: &[Record]| {
            let mut state = State::Empty;
            for record in records {
                state = state.after(record, 2)?;
            }
            Ok::<_, Error>(state)
        };
        let start = [Record::Begin(begin()), Record::Doing(0, note()), Record::Done(0, note())];
        let with = |more: &[Record]| ok(&[&start[..], more].concat());
        assert_eq!(
            with(&[Record::Doing(1, note()), Record::Done(1, note()), Record::Committed]).unwrap(),
            State::Committed
        );
        assert_eq!(
            with(&[
                Record::Doing(1, note()),
                Record::Failed(1, "x".into()),
                Record::Kept(1, vec!["y".into()]),
                Record::Undone(1),
                Record::Undone(0),
                Record::Unwound
            ])
            .unwrap(),
            State::Unwound
        );
        assert_eq!(with(&[Record::Failed(1, "asked".into()), Record::Undone(0)]).unwrap(), State::Unwinding(0));
        assert!(with(&[Record::Committed]).is_err());
        assert!(with(&[Record::Doing(0, note())]).is_err());
        assert!(with(&[Record::Done(1, note())]).is_err());
        assert!(with(&[Record::Doing(1, note()), Record::Failed(1, "x".into()), Record::Undone(0)]).is_err());
        assert!(with(&[Record::Doing(1, note()), Record::Failed(1, "x".into()), Record::Done(1, note())]).is_err());
        assert!(with(&[Record::Unwound]).is_err());
        assert!(with(&[Record::Kept(1, Vec::new())]).is_err());
        assert!(with(&[Record::Failed(1, "x".into()), Record::Kept(1, Vec::new())]).is_err());
    }
}
