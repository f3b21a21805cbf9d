//! The output of a `command` source, as a restore takes it back: into a [`file`] or directory beside the live one, into a
//! [`database`] beside the live one, or [`in_place`], into what is live.
//!
//! The first two are staged, verified and exchanged like everything else. The third has no copy beside, so the output
//! is fetched, checked and put on the disk first, and loaded last of all.

pub mod database;
pub mod file;
pub mod in_place;

use super::resource::{Compared, Findings, Resource, Space, parse};
use super::select;
use crate::error::{Error, Kind, Result};
use crate::model::{BackupId, Name, size};
use crate::repository::manifest::SourceRecord;
use crate::repository::reader::Reader;
use crate::sources::command::pump::{Sink, pump};
use crate::sources::command::run::{Call, Given};
use crate::sources::command::{CommandFacts, CommandSource, OUTPUT, Target};
use bytes::Bytes;
use futures::Stream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One output and the source that takes it back.
pub struct Taking {
    /// The source.
    pub source: Name,
    /// The restore: what it stages and keeps is named by it.
    pub id: BackupId,
    /// The source as it is configured.
    pub configured: CommandSource,
    /// What was true at the backup; nothing in it when only undoing is asked for.
    pub facts: CommandFacts,
    /// The source in the backup, and the reader; only staging needs them.
    pub from: Option<(Reader, SourceRecord)>,
}

/// The resource of a source; with `to`, a database of that name beside the live one.
///
/// # Errors
/// [`Kind::Config`] when nothing takes the output back.
pub fn resource(taking: Taking, to: Option<&str>, own: &[PathBuf], state_dir: &Path) -> Result<Arc<dyn Resource>> {
    Ok(match taking.configured.back.into.clone() {
        Target::File(path) => Arc::new(file::FileCommand { taking, path, own: own.to_vec() }),
        Target::Database(bound) => Arc::new(database::DatabaseCommand::new(taking, *bound, to)),
        Target::InPlace { undo } => {
            let name = format!("{}-{}", taking.id, taking.source);
            Arc::new(in_place::InPlaceCommand { directory: state_dir.join("commands").join(name), taking, undo })
        }
        Target::Nothing => {
            return Err(Error::new(Kind::Config, format!("source {} has no `load`", taking.source))
                .hint("It can be written out: --source NAME --to FILE."));
        }
    })
}

/// The facts of a source's record.
///
/// # Errors
/// [`Kind::Damaged`] when they cannot be read.
pub fn facts_of(record: &SourceRecord) -> Result<CommandFacts> {
    serde_json::from_value(record.facts.get("command").cloned().unwrap_or_default()).map_err(|e| {
        Error::new(Kind::Damaged, format!("the facts of source {} cannot be read", record.name)).because(e)
    })
}

impl Taking {
    /// The output, and its length.
    fn stream(&self) -> Result<(impl Stream<Item = Result<Bytes>> + Unpin + use<>, u64)> {
        let Some((reader, record)) = &self.from else {
            return Err(Error::new(Kind::Internal, "a restore without a backup cannot stage"));
        };
        let artifact = select::artifact(record, Some(OUTPUT))?;
        let mut pieces = reader.stream(artifact, |_| true);
        Ok((futures::stream::poll_fn(move |cx| pieces.poll_recv(cx)), artifact.bytes))
    }

    fn given(&self) -> Given {
        Given { words: vec![("{restore}", self.id.to_string())], ..Given::default() }
    }

    async fn call(&self, key: &'static str, argv: &[String], given: &Given) -> Result<Call> {
        self.configured
            .runner
            .call(key, argv, self.configured.back.limit, given)
            .await
            .map_err(|e| e.kind(Kind::Restore))
    }

    async fn check(&self, given: &Given) -> Result<Option<Call>> {
        match &self.configured.check {
            Some(check) => Ok(Some(self.call("check", check, given).await?)),
            None => Ok(None),
        }
    }

    /// What every form looks at: that programs can be found, and room.
    fn preflight(&self, argvs: &[Option<&Vec<String>>], place: &Path) -> Result<Findings> {
        let runner = &self.configured.runner;
        let mut argvs = argvs.iter().copied().chain([self.configured.check.as_ref()]).flatten();
        if let Some(argv) = argvs.find(|argv| !runner.finds(argv)) {
            let program = argv.first().cloned().unwrap_or_default();
            return Err(Error::new(Kind::Refused, format!("the program {program} is not there"))
                .at(format!("source {}", self.source))
                .hint(format!("Install {program}, or correct its path.")));
        }
        let needed = self.from.as_ref().map_or(0, |(_, record)| record.bytes());
        let there = place.ancestors().find(|a| a.exists()).unwrap_or(place);
        let free = rustix::fs::statvfs(there).ok().map(|s| s.f_bavail * s.f_frsize);
        if let Some(free) = free.filter(|free| *free < needed) {
            let (needed, free) = (size::human(needed), size::human(free));
            return Err(Error::new(
                Kind::Refused,
                format!("there is no room for a second copy: {needed} are needed, {free} are free"),
            )
            .at(there.display()));
        }
        Ok(Findings { space: vec![Space { place: there.to_owned(), needed, free }], ..Findings::default() })
    }

    /// Hands the output to `load` and to `check` side by side.
    async fn load(&self, given: &Given) -> Result<u64> {
        let load = self.configured.back.load.clone().unwrap_or_default();
        let load = self.call("load", &load, given).await?;
        let check = self.check(given).await?;
        let (stream, length) = self.stream()?;
        let calls: Vec<&Call> = [Some(&load), check.as_ref()].into_iter().flatten().collect();
        whole(crate::sources::command::run::feed(&calls, stream).await?, length)
    }

    /// Writes the output to a new file that only we read, with `check` beside it, and syncs it.
    ///
    /// # Errors
    /// [`Kind::Restore`]; what is there of the file is then not whole.
    pub async fn write(&self, path: &Path) -> Result<u64> {
        let failed = |e| Error::io("the output cannot be written", path, e).kind(Kind::Restore);
        let file = tokio::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).await;
        let file = file.map_err(failed)?;
        let again = file.try_clone().await.map_err(failed)?;
        let given = Given { words: vec![("{staging}", path.display().to_string())], ..self.given() };
        let check = self.check(&given).await?;
        let (stream, length) = self.stream()?;
        let work = async {
            let mut sinks = vec![Sink::new(Box::new(file))];
            let mut running = None;
            if let Some(check) = &check {
                let started = check.program().writing().await.map_err(|e| check.tell(e.kind(Kind::Restore)))?;
                running = Some((check, started.0));
                sinks.push(Sink::new(started.1));
            }
            let written = pump(stream, &mut sinks).await?;
            if let Some(e) = sinks.swap_remove(0).why() {
                return Err(failed(e));
            }
            drop(sinks);
            if let Some((check, running)) = running {
                check.finish(running, Kind::Restore).await?;
            }
            whole(written, length)
        };
        let written = match &check {
            Some(check) => check.within(Kind::Restore, work).await?,
            None => work.await?,
        };
        again.sync_all().await.map_err(failed)?;
        Ok(written)
    }

    /// What `check` and `verify` said, as lines of the verification.
    fn said(&self, verified: bool) -> Vec<Compared> {
        let line = |what: &str, said: &str| Compared {
            what: format!("{}: {what}", self.source),
            expected: said.to_owned(),
            found: said.to_owned(),
            good: true,
        };
        let mut lines = vec![line("output", &format!("{} bytes", self.facts.bytes))];
        lines.extend(self.configured.check.as_ref().map(|_| line("`check`", "exit status 0")));
        lines.extend(verified.then(|| line("`verify`", "exit status 0")));
        lines
    }
}

fn whole(came: u64, length: u64) -> Result<u64> {
    if came == length {
        return Ok(came);
    }
    Err(Error::new(Kind::Restore, format!("{came} bytes of the output were taken, and the backup holds {length}")))
}
