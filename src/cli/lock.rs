//! The host's lock: one piece of work at a time.
//!
//! A restore must not exchange what a backup reads, and a drill must not fill the disk that a restore needs. Jobs that
//! timers start wait for each other (`--wait`); somebody at a terminal is told at once who is at work.

use super::context::{Context, make_state_dir};
use super::output::remark;
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use jiff::SignedDuration;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Name of the file in the state directory. It says which work of which process holds the lock.
const FILE: &str = "work.lock";
/// Between two looks at a lock that is held.
const PAUSE: Duration = Duration::from_millis(250);

/// Who has just taken the lock has not written its name yet; this often it is looked for once more.
const LOOKS: u32 = 10;

/// The lock; given back when dropped, and by the system when the process dies.
pub struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // The next one is not to be taken for us before it has written its name.
        let _ = self.0.set_len(0);
    }
}

impl Context {
    /// Takes the lock of this host for some work, waiting as long as `--wait` says.
    ///
    /// # Errors
    /// [`Kind::Busy`] with the work and the process that hold it.
    pub async fn lock(&self, config: &Config, work: &str) -> Result<Lock> {
        self.lock_in(&config.state_dir, work).await
    }

    /// The same for whoever has a state directory and no configuration.
    ///
    /// # Errors
    /// As [`Context::lock`].
    pub async fn lock_in(&self, state_dir: &Path, work: &str) -> Result<Lock> {
        let mut held = Held::open(state_dir)?;
        let limit = Instant::now() + Duration::try_from(self.global.wait).unwrap_or_default();
        let mut told = String::new();
        while !held.take(work)? {
            let holder = holder(&held.by().await, work);
            if Instant::now() >= limit {
                return Err(held.busy(&holder));
            }
            if told != holder && !self.global.quiet && !self.global.json {
                remark(&format!("waiting: {holder} on this host"));
                told = holder;
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(Lock(held.file))
    }

    /// The same at once, or nothing while it is held for work of these names, beside which ours may go on.
    ///
    /// # Errors
    /// [`Kind::Busy`] when it is held for other work.
    pub async fn lock_beside(&self, config: &Config, work: &str, others: &[&str]) -> Result<Option<Lock>> {
        let mut held = Held::open(&config.state_dir)?;
        if held.take(work)? {
            return Ok(Some(Lock(held.file)));
        }
        let by = held.by().await;
        match by.split_once(' ').is_some_and(|(other, _)| others.contains(&other)) {
            true => Ok(None),
            false => Err(held.busy(&holder(&by, work))),
        }
    }
}

/// The file of the lock, which somebody may hold.
struct Held {
    path: PathBuf,
    file: File,
}

impl Held {
    fn open(state_dir: &Path) -> Result<Self> {
        make_state_dir(state_dir)?;
        let path = state_dir.join(FILE);
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(|e| failed(&path, e))?;
        Ok(Held { path, file })
    }

    /// Takes it if nobody has it, and says what for.
    fn take(&mut self, work: &str) -> Result<bool> {
        match flock(&self.file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Ok(false),
            other => other.map_err(|e| failed(&self.path, e.into()))?,
        }
        let named = self.file.set_len(0).and_then(|()| write!(self.file, "{work} {}", std::process::id()));
        named.map(|()| true).map_err(|e| failed(&self.path, e))
    }

    /// Which work of which process it is held for, as its file says.
    async fn by(&self) -> String {
        for _ in 0..LOOKS {
            let text = std::fs::read_to_string(&self.path).unwrap_or_default();
            if !text.is_empty() {
                return text;
            }
            tokio::time::sleep(PAUSE / 10).await;
        }
        String::new()
    }

    fn busy(&self, holder: &str) -> Error {
        Error::new(Kind::Busy, format!("{holder} on this host")).at(self.path.display()).hint(
            "Wait for it, with --wait 2h for example, or stop it: on SIGTERM it ends cleanly. A lock never outlives its process.",
        )
    }
}

fn failed(path: &Path, e: std::io::Error) -> Error {
    Error::io("the lock cannot be taken", path, e)
}

/// Who holds the lock, in words.
fn holder(text: &str, work: &str) -> String {
    match text.split_once(' ') {
        Some((other, pid)) if other == work => format!("another {other} is running (process {pid})"),
        Some((other, pid)) => format!("a {other} is running (process {pid})"),
        None => "something else is running".to_owned(),
    }
}

/// Parses the time of `--wait`.
pub fn parse_wait(text: &str) -> std::result::Result<SignedDuration, String> {
    crate::model::time::parse_duration(text).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_is_named() {
        assert_eq!(holder("backup 12", "backup"), "another backup is running (process 12)");
        assert_eq!(holder("restore 12", "backup"), "a restore is running (process 12)");
        // One that is no other Backstay.
        assert_eq!(holder("", "backup"), "something else is running");
    }
}
