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
use std::path::Path;
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

    /// The same for a machine that has no configuration yet.
    ///
    /// # Errors
    /// As [`Context::lock`].
    pub async fn lock_in(&self, state_dir: &Path, work: &str) -> Result<Lock> {
        make_state_dir(state_dir)?;
        let path = state_dir.join(FILE);
        let failed = |e: std::io::Error| Error::io("the lock cannot be taken", &path, e);
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        let limit = Instant::now() + Duration::try_from(self.global.wait).unwrap_or_default();
        let mut told = String::new();
        while let Err(e) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if e != Errno::WOULDBLOCK {
                return Err(failed(e.into()));
            }
            let mut text = String::new();
            for _ in 0..LOOKS {
                text = std::fs::read_to_string(&path).unwrap_or_default();
                if !text.is_empty() {
                    break;
                }
                tokio::time::sleep(PAUSE / 10).await;
            }
            let holder = holder(&text, work);
            if Instant::now() >= limit {
                return Err(Error::new(Kind::Busy, format!("{holder} on this host"))
                    .at(path.display())
                    .hint("Wait for it, with --wait 2h for example, or stop it: on SIGTERM it ends cleanly. A lock never outlives its process."));
            }
            if told != holder && !self.global.quiet && !self.global.json {
                remark(&format!("waiting: {holder} on this host"));
                told = holder;
            }
            tokio::time::sleep(PAUSE).await;
        }
        file.set_len(0).and_then(|()| write!(file, "{work} {}", std::process::id())).map_err(failed)?;
        Ok(Lock(file))
    }
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
