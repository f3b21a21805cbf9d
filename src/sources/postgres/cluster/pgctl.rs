//! Clusters that nobody looks after but `pg_ctl`: made by `initdb`, or made by us for a while.

use crate::error::{Error, Kind, Result};
use crate::host::exec::{Place, Program};
use crate::host::service::Service;
use async_trait::async_trait;
use std::path::PathBuf;
use std::time::Duration;

/// How long a stop or a start may take, in seconds: a start recovers what a crash left.
const SECONDS: u64 = 900;
/// Exit status of `pg_ctl status` for one that does not run.
const DOWN: i64 = 3;
/// The same for a directory that holds no cluster.
const NONE: i64 = 4;

/// A cluster, by its directory.
#[derive(Clone, Debug)]
pub struct PgCtl {
    /// Where the programs of its version are.
    pub bin: PathBuf,
    /// The directory that holds `postgresql.conf`: that of the data, mostly.
    pub dir: PathBuf,
    /// As whom its programs run.
    pub place: Place,
    /// Where it writes its log until its own settings say otherwise.
    pub log: PathBuf,
}

impl PgCtl {
    fn program(&self, args: &[&str]) -> Program {
        let dir = self.dir.display().to_string();
        let all = ["-D", dir.as_str()].into_iter().chain(args.iter().copied());
        Program::new(self.bin.join("pg_ctl"), all).at(self.place.clone())
    }

    async fn run(&self, args: &[&str]) -> Result<()> {
        let limit = SECONDS.to_string();
        let all: Vec<&str> = ["-w", "-t", limit.as_str(), "-s"].into_iter().chain(args.iter().copied()).collect();
        let done = async { self.program(&all).alone().await?.finish(Kind::Restore).await };
        let patience = Duration::from_secs(SECONDS + 60);
        let ended = tokio::time::timeout(patience, done).await.unwrap_or_else(|_| {
            Err(Error::new(Kind::Restore, "pg_ctl does not end")
                .because(format!("it was waited for {SECONDS} seconds")))
        });
        ended.map(drop).map_err(|e| {
            let last = std::fs::read_to_string(&self.log).unwrap_or_default();
            let last: Vec<&str> = last.lines().rev().take(5).collect();
            let words = last.into_iter().rev().collect::<Vec<_>>().join("\n");
            let e = e.kind(Kind::Restore).at(self.dir.display());
            if words.is_empty() { e } else { e.hint(format!("The end of {}:\n{words}", self.log.display())) }
        })
    }

    /// Stops it without waiting for anything that it does: what it holds is thrown away, or was never good.
    ///
    /// # Errors
    /// When it does not stop.
    pub async fn abandon(&self) -> Result<()> {
        if !self.is_running().await? {
            return Ok(());
        }
        self.run(&["-m", "immediate", "stop"]).await
    }
}

#[async_trait]
impl Service for PgCtl {
    fn label(&self) -> String {
        format!("cluster in {}", self.dir.display())
    }

    async fn is_running(&self) -> Result<bool> {
        // A directory that its own user cannot enter, or that is gone, has no server.
        if !self.dir.is_dir() {
            return Ok(false);
        }
        let ended = self.program(&["status"]).alone().await?.ended(Kind::Restore).await?;
        match ended.code {
            Some(0) => Ok(true),
            Some(DOWN | NONE) => Ok(false),
            // One that is damaged says this and that.
            _ if !self.dir.join("postmaster.pid").exists() => Ok(false),
            _ => Err(Error::new(Kind::Restore, "it cannot be told whether the server runs")
                .at(self.dir.display())
                .because(format!("{}: {}", ended.how, ended.stderr.join("\n")))),
        }
    }

    async fn stop(&self) -> Result<()> {
        if !self.is_running().await? {
            return Ok(());
        }
        self.run(&["-m", "fast", "stop"]).await
    }

    async fn start(&self) -> Result<()> {
        if self.is_running().await? {
            return Ok(());
        }
        let log = self.log.display().to_string();
        self.run(&["-l", &log, "start"]).await
    }
}
