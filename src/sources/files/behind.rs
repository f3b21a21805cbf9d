//! Has the disk take what is restored while more of it is being made.
//!
//! A restore ends with a sync of its file system. Left to itself the kernel begins to write when gigabytes have gathered,
//! or after half a minute, so that sync would find most of a tree still to be written while the processors stand idle,
//! and whoever else syncs on that disk (a database that goes on beside) would wait for all of it at once.

use super::place::{Shared, bad};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

/// So many bytes are handed over between two syncs: a second's work, and little enough for a slow disk.
const STEP: u64 = 256 * 1024 * 1024;

/// The thread that syncs behind.
pub struct Behind {
    since: u64,
    ask: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Behind {
    /// For the file system of an open directory, and its name. Its failures are noted in `shared`: the kernel tells
    /// each only once, so the sync at the end would not see them again.
    pub fn new(root: OwnedFd, target: &Path, shared: Arc<Shared>) -> Self {
        // One may be asked for while another is under way, not more.
        let (ask, asked) = sync_channel(1);
        let name = target.as_os_str().as_encoded_bytes().to_vec();
        let thread = std::thread::Builder::new().name("sync".into()).spawn(move || {
            while asked.recv().is_ok() {
                if let Err(e) = rustix::fs::syncfs(&root) {
                    shared.fail(bad(&name, "what was restored cannot be synced", e));
                }
            }
        });
        Behind { since: 0, ask: Some(ask), thread: thread.ok() }
    }

    /// So much more was handed over.
    pub fn handed_over(&mut self, bytes: u64) {
        self.since += bytes;
        if self.since >= STEP && self.ask.as_ref().is_some_and(|ask| ask.try_send(()).is_ok()) {
            self.since = 0;
        }
    }

    /// Waits for what was asked for. What failed is noted by then.
    pub fn end(&mut self) {
        self.ask = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn a_sync_that_fails_is_a_failure_of_the_restore() {
        // A descriptor that can be synced by nobody: one that only names a place.
        let place = rustix::fs::openat(
            rustix::fs::CWD,
            "/",
            rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        );
        let shared = Arc::new(Shared::new(false));
        let mut behind = Behind::new(place.unwrap(), Path::new("/some/where"), shared.clone());
        behind.handed_over(STEP - 1);
        std::thread::sleep(Duration::from_millis(50));
        assert!(shared.failed().is_ok(), "nothing was asked for yet");
        behind.handed_over(1);
        let begin = Instant::now();
        while shared.failed().is_ok() {
            assert!(begin.elapsed() < Duration::from_secs(30), "nothing was synced");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(shared.failed().unwrap_err().to_string().contains("/some/where"));
    }
}
