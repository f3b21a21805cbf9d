//! The moment in which the dumps of a source's databases are fixed, and no later.
//!
//! A dump is fixed when its snapshot is exported and every table of it is locked: nothing that anybody does from then
//! on shows in it. `pg_dump` has all locks when it writes its table of contents. Where somebody stands still for the
//! moment, the dumps of all databases go as far as that side by side, and wait; then the application goes on, and they
//! are written one after the other. What would have to begin anew after that cannot: the moment has passed.

use crate::error::{Error, Kind};
use crate::sources::window::{Moment, Window};
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{Semaphore, SemaphorePermit, watch};

/// Databases that wait with their locks. Of more, the rest begin when the first have ended, and the moment lasts as long.
const DATABASES: usize = 10;
/// Sessions of big tables that wait with their locks, of all databases together.
const SESSIONS: usize = 24;

/// The moment of one source.
pub struct Point<'a> {
    window: &'a Window,
    moment: Moment,
    databases: usize,
    left: AtomicUsize,
    passed: watch::Sender<bool>,
    turn: Semaphore,
}

impl<'a> Point<'a> {
    /// Of so many databases.
    pub fn new(window: &'a Window, moment: Moment, databases: usize) -> Self {
        let passed = watch::Sender::new(moment == Moment::Any);
        Point { window, moment, databases, left: AtomicUsize::new(databases), passed, turn: Semaphore::new(1) }
    }

    /// Whether the moment cannot be had again.
    pub fn is_once(&self) -> bool {
        self.moment == Moment::Once
    }

    /// How many databases go towards it side by side.
    pub fn at_once(&self) -> usize {
        if self.is_once() { DATABASES } else { 1 }
    }

    /// How many big tables of one database may have sessions of their own.
    pub fn sessions(&self) -> usize {
        if self.is_once() { SESSIONS / self.databases.clamp(1, DATABASES) } else { usize::MAX }
    }

    /// One more database is fixed. Returns when it is its turn to be written, which lasts as long as what is given.
    pub async fn reached(&self) -> Option<SemaphorePermit<'_>> {
        if self.is_once() && self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.window.done();
            self.passed.send_replace(true);
        }
        // It is never closed.
        self.turn.acquire().await.ok()
    }

    /// Returns when all databases are fixed.
    pub async fn passed(&self) {
        let _ = self.passed.subscribe().wait_for(|passed| *passed).await;
    }
}

/// The error of a dump that would have to begin anew.
pub fn too_late(tables: &[String]) -> Error {
    Error::new(Kind::Source, "the dump would have to begin anew, and the moment that its group shares has passed")
        .because(format!("somebody alters or truncates {}", tables.join(", ")))
        .hint("Run the backup when nobody alters tables.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::window::Shutter;

    #[tokio::test]
    async fn the_window_closes_with_the_last_database_and_they_are_written_in_turn() {
        let shutter = Shutter::new();
        let window = shutter.window();
        let closed = tokio::spawn(shutter.open(Ok(Moment::Once)));
        let point = Point::new(&window, window.ready().await.unwrap(), 2);
        let first = point.reached().await;
        tokio::task::yield_now().await;
        assert!(!closed.is_finished());
        let second = tokio::time::timeout(std::time::Duration::from_millis(100), point.reached()).await;
        // It waits for its turn, and the window does not.
        assert!(second.is_err());
        point.passed().await;
        closed.await.unwrap();
        drop(first);
        assert!(point.turn.try_acquire().is_ok());
    }

    #[tokio::test]
    async fn where_nobody_waits_any_moment_is_as_good() {
        let window = Window::always();
        let point = Point::new(&window, window.ready().await.unwrap(), 3);
        point.passed().await;
        assert_eq!((point.at_once(), point.sessions()), (1, usize::MAX));
        for _ in 0..5 {
            drop(point.reached().await);
        }
    }
}
