//! Stopping the server, exchanging its files, starting it again; and the same way back.

use super::files::Move;
use super::stage::{Layout, Staged};
use crate::error::{Error, Kind, Result};
use crate::host::service::Service;
use crate::recovery::resource::Previous;
use crate::sources::redis::connect::is_down;
use crate::sources::redis::live::{self, Live};
use crate::sources::redis::{RedisSource, place};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a save may take.
const SAVE: Duration = Duration::from_secs(3600);
/// How long a process may linger after its service has stopped: it may be saving.
const LINGER: Duration = Duration::from_secs(900);
/// How long a socket may still answer after its process is gone.
const ECHO: Duration = Duration::from_secs(5);
/// How long a started server may be silent before it loads.
const SILENCE: Duration = Duration::from_secs(120);
/// How often one looks.
const PAUSE: Duration = Duration::from_millis(100);

/// Everything that swap and unswap need.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Swap {
    /// Directory of the server.
    pub dir: PathBuf,
    /// What changes places, in this order.
    pub moves: Vec<Move>,
    /// Whether the server ran before.
    pub ran: bool,
    /// Whether an RDB saved at the stop is what was there: not with an append-only file.
    pub save: bool,
    /// Keys that must be there afterwards, when that is known.
    pub lasting: Option<u64>,
}

impl Swap {
    /// Decides where the previous files go. No effect.
    pub async fn plan(staged: &Staged, service: Option<&dyn Service>) -> Result<Self> {
        let s = &staged.staging;
        let ran = match service {
            Some(service) => service.is_running().await?,
            None => false,
        };
        let save = matches!(s.layout, Layout::Rdb(_));
        let step = |name: &str, from: &Path, identity, directory| -> Result<Move> {
            let live = s.dir.join(name);
            let previous = free_name(&s.dir, name, s.id.as_str())?;
            let replaces = ran && save || super::files::identity(&live)?.is_some();
            Ok(Move { live, staged: from.to_owned(), previous, identity, directory, replaces })
        };
        let moves = match (&s.layout, staged.parts) {
            (Layout::Rdb(name) | Layout::Single(name), _) => vec![step(name, &s.rdb, staged.identity, false)?],
            (Layout::Parts { rdb, dir, staged: from, .. }, Some(parts)) => {
                vec![step(rdb, &s.rdb, staged.identity, false)?, step(dir, from, parts, true)?]
            }
            (Layout::Parts { .. }, None) => {
                return Err(Error::new(Kind::Internal, "the journal lacks the staged directory"));
            }
        };
        Ok(Swap { dir: s.dir.clone(), moves, ran, save, lasting: staged.lasting })
    }

    /// Puts the restored files in place around a restart.
    pub async fn apply(&self, source: &RedisSource, service: Option<&dyn Service>) -> Result<()> {
        if !self.all(Move::is_done)? {
            if self.save {
                self.keep_what_is_there(source, service).await?;
            }
            self.stopped(source, service).await?;
            for step in &self.moves {
                step.apply()?;
            }
        }
        match service {
            Some(service) => self.started(source, service, true).await,
            None => Ok(()),
        }
    }

    /// Puts back what was there around a restart.
    pub async fn undo(&self, source: &RedisSource, service: Option<&dyn Service>) -> Result<()> {
        if !self.all(Move::is_undone)? {
            // What the server took in since the swap is kept with the restored data, if it can still be saved.
            if self.save && self.all(Move::is_done)? {
                let _ = self.keep_what_is_there(source, service).await;
            }
            self.stopped(source, service).await?;
            for step in self.moves.iter().rev() {
                step.undo()?;
            }
        }
        match service {
            Some(service) if self.ran => self.started(source, service, false).await,
            _ => Ok(()),
        }
    }

    fn all(&self, is: impl Fn(&Move) -> Result<bool>) -> Result<bool> {
        self.moves.iter().try_fold(true, |all, step| Ok(all && is(step)?))
    }

    /// Has a running server save. Only then it may be stopped: a stop has its grace time, and a server that is
    /// killed while it saves keeps its last file only. A server that never saves would lose everything.
    async fn keep_what_is_there(&self, source: &RedisSource, service: Option<&dyn Service>) -> Result<()> {
        let running = match service {
            Some(service) => service.is_running().await?,
            None => false,
        };
        if !running {
            return Ok(());
        }
        let failed = |e: Error| {
            e.kind(Kind::Restore).do_instead(
                "What is in the server could not be saved, and without that it would be lost. Nothing was stopped. See the log of the server; a user with ACL rules needs +save.",
            )
        };
        let mut connection = source.connect().await.map_err(failed)?;
        let started = Instant::now();
        loop {
            match connection.ask_patiently(&["SAVE"], SAVE).await {
                Ok(_) => return Ok(()),
                // Another save is under way; this one must begin after the last write.
                Err(e) if e.one_line().contains("in progress") && started.elapsed() < SAVE => {
                    tokio::time::sleep(PAUSE).await;
                }
                Err(e) => return Err(failed(e)),
            }
        }
    }

    /// Stops the server and waits until its last process is gone, which may still be writing.
    async fn stopped(&self, source: &RedisSource, service: Option<&dyn Service>) -> Result<()> {
        if let Some(service) = service {
            service.stop().await?;
        }
        let started = Instant::now();
        loop {
            let processes = place::in_dir(&self.dir);
            if processes.is_empty() {
                break;
            }
            if service.is_none() || started.elapsed() > LINGER {
                return Err(Error::new(Kind::Refused, format!("the server still runs as process {processes:?}"))
                    .at(self.dir.display())
                    .hint("Stop it; its files were not touched."));
            }
            tokio::time::sleep(PAUSE).await;
        }
        // A process that dies lets go of its directory before it lets go of its sockets. What still answers after that
        // is another server, or one that something started again.
        let gone = Instant::now();
        while source.connect().await.is_ok() {
            if gone.elapsed() < ECHO {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            return Err(Error::new(Kind::Refused, "the server answers although it was stopped")
                .at(source.server.label())
                .hint("Something else starts it; find out what, and correct `unit` or `container`."));
        }
        Ok(())
    }

    /// Starts the server and waits until it has loaded its data.
    async fn started(&self, source: &RedisSource, service: &dyn Service, restored: bool) -> Result<()> {
        service.start().await?;
        let live = loaded(source, service).await?;
        let keys: u64 = live.keyspace.values().map(|k| k.keys).sum();
        if restored && keys == 0 && self.lasting.is_some_and(|n| n > 0) {
            return Err(Error::new(Kind::Mismatch, "the server started without the restored data")
                .at(source.server.label())
                .because(format!("it holds no keys, and the backup {}", self.lasting.unwrap_or_default()))
                .hint("It reads its data from elsewhere: compare CONFIG GET dir, dbfilename and appendonly with how it is started."));
        }
        Ok(())
    }

    /// Names and sizes of what is kept.
    pub fn previous(&self) -> Result<Option<Previous>> {
        let kept: Vec<&Path> = self.moves.iter().map(|m| m.previous.as_path()).filter(|p| p.exists()).collect();
        if kept.is_empty() {
            return Ok(None);
        }
        let name = kept.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ");
        let bytes = kept.iter().map(|p| bytes(p)).sum::<std::io::Result<u64>>().ok();
        Ok(Some(Previous { name, bytes }))
    }

    /// Deletes what is kept.
    pub fn drop_previous(&self) -> Result<()> {
        for step in &self.moves {
            let removed = match step.directory {
                true => std::fs::remove_dir_all(&step.previous),
                false => std::fs::remove_file(&step.previous),
            };
            match removed {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io("the previous data cannot be removed", &step.previous, e).kind(Kind::Restore));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn bytes(path: &Path) -> std::io::Result<u64> {
    let m = std::fs::symlink_metadata(path)?;
    if !m.is_dir() {
        return Ok(m.len());
    }
    std::fs::read_dir(path)?.map(|entry| bytes(&entry?.path())).sum()
}

fn free_name(dir: &Path, name: &str, id: &str) -> Result<PathBuf> {
    (0..1000)
        .map(|n| dir.join(if n == 0 { format!("{name}_before_{id}") } else { format!("{name}_before_{id}.{n}") }))
        .find(|p| std::fs::symlink_metadata(p).is_err())
        .ok_or_else(|| Error::new(Kind::Restore, "a thousand previous copies are in the way").at(dir.display()))
}

/// Waits until a started server has loaded; however long that takes, as long as it is at it.
async fn loaded(source: &RedisSource, service: &dyn Service) -> Result<Live> {
    let mut heard = Instant::now();
    loop {
        let answer = match source.connect().await {
            Ok(mut connection) => live::live(&mut connection).await,
            Err(e) => Err(e),
        };
        match answer {
            Ok(live) if !live.loading => return Ok(live),
            Ok(_) => heard = Instant::now(),
            Err(e) if !service.is_running().await? => {
                return Err(Error::new(Kind::Restore, "the server ended while it was starting")
                    .at(service.label())
                    .because(e.one_line())
                    .hint("Its log says why."));
            }
            Err(e) if heard.elapsed() > SILENCE || !is_down(&e) && heard.elapsed() > SILENCE / 4 => {
                return Err(e.kind(Kind::Restore));
            }
            Err(_) => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}
