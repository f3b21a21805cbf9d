//! Work on files that blocks, on a thread of its own.
//!
//! Who waits for it may give up before it ends: a restore that is asked to stop goes back at once. Such work is told to end, and
//! the next on the same files begins when it has: else it would write into what is just being removed.

use crate::error::{Error, Kind, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Mutex;

/// Tells work that nobody waits for it any more.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// To be asked where one may end: before each file, and before what cannot be told from what is whole.
    ///
    /// # Errors
    /// [`Kind::Interrupted`] when the work is to end.
    pub fn look(&self) -> Result<()> {
        match self.0.load(Ordering::SeqCst) {
            true => Err(Error::new(Kind::Interrupted, "the work on the files of the server was given up")),
            false => Ok(()),
        }
    }

    /// Says that it is to end.
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Says so when whoever waits is gone.
struct Waiting(Stop);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// Work on the files of one server: one after the other.
#[derive(Clone, Debug, Default)]
pub struct Work(Arc<Mutex<()>>);

impl Work {
    /// Does it where it may block, when what was begun before has ended.
    ///
    /// # Errors
    /// Its own.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Stop) -> Result<T> + Send + 'static) -> Result<T> {
        let turn = self.0.clone().lock_owned().await;
        let stop = Stop::default();
        let _waiting = Waiting(stop.clone());
        let done = tokio::task::spawn_blocking(move || {
            let done = stop.look().and_then(|()| work(&stop));
            drop(turn);
            done
        });
        done.await.map_err(Error::panicked("copying"))?
    }

    /// Waits until what was begun has ended.
    pub async fn ended(&self) {
        drop(self.0.lock().await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn what_nobody_waits_for_ends_before_the_next_begins() {
        let work = Work::default();
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let ended = Arc::new(AtomicBool::new(false));
        let end = ended.clone();
        let first = work.run(move |stop| {
            let _ = begun.send(());
            while stop.look().is_ok() {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_millis(100));
            end.store(true, Ordering::SeqCst);
            Ok(())
        });
        tokio::select! {
            _ = first => panic!("it ended by itself"),
            told = has_begun => told.unwrap(),
        }
        let seen = ended.clone();
        assert!(work.run(move |_| Ok(seen.load(Ordering::SeqCst))).await.unwrap());
        work.ended().await;
    }
}
