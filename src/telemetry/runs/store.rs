//! The files of run records: `runs/HOST/VERB/PLAN.json` in the state directory, replaced as a whole. Whoever changes one
//! holds a lock meanwhile, so that two commands, or a command and `serve`, do not undo each other's notes.

use super::super::monitor::{Run, Verb};
use super::Record;
use crate::error::{Error, Result};
use crate::io::durable;
use crate::model::Name;
use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::path::{Path, PathBuf};

/// The file of what concerns a whole vault; no plan can have this name.
const WHOLE_VAULT: &str = "_all";

/// The records of a state directory.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// Those of this state directory; nothing is made yet.
    pub fn new(state_dir: &Path) -> Self {
        Store { folder: state_dir.join("runs") }
    }

    /// All records, by host, verb and plan. One that cannot be read is passed over: it is made anew by the next run.
    pub fn all(&self) -> Vec<Record> {
        self.files().iter().filter_map(|file| read(file)).collect()
    }

    /// The record of a run, if there is one.
    pub fn of(&self, host: &Name, verb: Verb, plan: Option<&Name>) -> Option<Record> {
        read(&self.file(host, verb, plan))
    }

    /// Changes the record of a run, which is begun when there is none.
    ///
    /// # Errors
    /// When it cannot be written; then the old one stands.
    pub fn change(&self, run: &Run, change: impl FnOnce(&mut Record)) -> Result<()> {
        let _lock = self.lock()?;
        let file = self.file(&run.host, run.verb, run.plan.as_ref());
        let mut record = read(&file).unwrap_or_else(|| Record::new(run));
        change(&mut record);
        replace_json(&file, &record)
    }

    /// Closes every open run whose process is gone, and gives them. Each is given to one caller only.
    ///
    /// # Errors
    /// When a record cannot be written.
    pub fn close_lost(&self) -> Result<Vec<Run>> {
        let lost = |record: &Record| record.open.as_ref().is_some_and(|open| !open.process.is_alive());
        if !self.all().iter().any(lost) {
            return Ok(Vec::new());
        }
        let _lock = self.lock()?;
        let mut found = Vec::new();
        for file in self.files() {
            let Some(mut record) = read(&file) else { continue };
            if let Some(run) = record.close_lost(Timestamp::now()) {
                replace_json(&file, &record)?;
                found.push(run);
            }
        }
        Ok(found)
    }

    fn file(&self, host: &Name, verb: Verb, plan: Option<&Name>) -> PathBuf {
        let plan = plan.map_or(WHOLE_VAULT, Name::as_str);
        self.folder.join(host.as_str()).join(verb.name()).join(format!("{plan}.json"))
    }

    fn files(&self) -> Vec<PathBuf> {
        let below = |folder: &Path| -> Vec<PathBuf> {
            let mut paths: Vec<PathBuf> =
                std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
            paths.sort();
            paths
        };
        let files = below(&self.folder).into_iter().flat_map(|host| below(&host)).flat_map(|verb| below(&verb));
        files.filter(|file| file.extension().is_some_and(|e| e == "json")).collect()
    }

    fn lock(&self) -> Result<File> {
        let path = self.folder.join("lock");
        let failed = |e: std::io::Error| Error::io("the run records cannot be locked", &path, e);
        durable::make_folder(&self.folder, 0o700).map_err(failed)?;
        let file = File::options().write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        flock(&file, FlockOperation::LockExclusive).map_err(|e| failed(e.into()))?;
        Ok(file)
    }
}

fn read(file: &Path) -> Option<Record> {
    serde_json::from_slice(&std::fs::read(file).ok()?).ok()
}

/// Replaces a file by JSON.
fn replace_json(file: &Path, value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_vec_pretty(value)
        .map_err(|e| Error::new(crate::error::Kind::Internal, "a run record cannot be encoded").because(e))?;
    durable::make_folder(file.parent().unwrap_or(Path::new("/")), 0o700)
        .and_then(|()| durable::replace(file, &text, 0o600))
        .map_err(|e| Error::io("a run record cannot be written", file, e))
}

#[cfg(test)]
mod tests {
    use super::super::Attempt;
    use super::super::process::Process;
    use super::*;

    fn run(plan: Option<&str>) -> Run {
        Run {
            verb: Verb::Check,
            host: "h".parse().unwrap(),
            plan: plan.map(|p| p.parse().unwrap()),
            at: Timestamp::UNIX_EPOCH,
            whole: true,
        }
    }

    #[test]
    fn records_are_kept_by_host_verb_and_plan_and_a_damaged_one_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        assert!(store.all().is_empty());
        for plan in [None, Some("a"), Some("b.c")] {
            let attempt = Attempt { at: Timestamp::UNIX_EPOCH, process: Process::this(), whole: true };
            store.change(&run(plan), |r| r.begin(attempt)).unwrap();
        }
        let plans: Vec<_> = store.all().into_iter().map(|r| r.plan.map(|p| p.to_string())).collect();
        assert_eq!(plans, [None, Some("a".to_owned()), Some("b.c".to_owned())]);
        let file = dir.path().join("runs/h/check/a.json");
        std::fs::write(&file, b"{").unwrap();
        assert_eq!(store.all().len(), 2);
        store.change(&run(Some("a")), |r| r.counts.success = 4).unwrap();
        assert_eq!(
            store.of(&"h".parse().unwrap(), Verb::Check, run(Some("a")).plan.as_ref()).unwrap().counts.success,
            4
        );
    }

    #[test]
    fn a_lost_run_is_given_to_one_only() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        let process = Process { boot: "before".into(), ..Process::this() };
        let attempt = Attempt { at: Timestamp::UNIX_EPOCH, process, whole: true };
        store.change(&run(None), |r| r.open = Some(attempt)).unwrap();
        assert_eq!(store.close_lost().unwrap(), [run(None)]);
        assert_eq!(store.close_lost().unwrap(), []);
    }
}
