//! A source's part in a moment in which the application stands still.
//!
//! Before any source of a group is read, everything that one of them wants still is stopped or paused. Then each
//! is told that the moment is there ([`Window::ready`]), reaches its consistent point, and says so
//! ([`Window::done`]): a dump when its snapshot is taken, a volume when it is read. When all have, the application
//! goes on, and the sources take what time they need for the rest.

use crate::error::{Error, Result};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, watch};

/// What somebody must not go on doing while a source reaches its consistent point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Who.
    pub who: Who,
    /// How.
    pub how: How,
}

/// Who is to stand still.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// A container, by name.
    Container(String),
    /// A swarm service, by name.
    Service(String),
}

/// How somebody stands still. The later one comprises the earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum How {
    /// Frozen: what it holds in memory is not on disk.
    Pause,
    /// Stopped: everything is on disk.
    Stop,
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Who::Container(name) => write!(f, "container {name}"),
            Who::Service(name) => write!(f, "service {name}"),
        }
    }
}

/// Whether a moment is one that cannot be had again within a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Others share it, or somebody stands still for it: a source that has said [`Window::done`] must not read anew.
    Once,
    /// Nobody waits and nobody shares it: any moment is as good.
    Any,
}

/// Opening: nothing yet, what moment it is, or why there is none.
type Opening = Option<std::result::Result<Moment, Arc<Error>>>;

/// The window as a source sees it. Dropping it is as good as [`Window::done`].
pub struct Window {
    opening: watch::Receiver<Opening>,
    open: Mutex<Option<mpsc::Sender<()>>>,
}

/// The window as the one who opens it sees it.
pub struct Shutter {
    opening: watch::Sender<Opening>,
    sender: Option<mpsc::Sender<()>>,
    open: mpsc::Receiver<()>,
}

impl Window {
    /// A window that is open from the start and for which nobody waits.
    pub fn always() -> Self {
        let shutter = Shutter::new();
        let window = shutter.window();
        drop(shutter.open(Ok(Moment::Any)));
        window
    }

    /// Waits until everything that was to stand still does, and says whether that can be had again.
    ///
    /// # Errors
    /// When that could not be reached: then nothing of the group may count as consistent.
    pub async fn ready(&self) -> Result<Moment> {
        let mut opening = self.opening.clone();
        let opened = opening.wait_for(Option::is_some).await;
        match opened.as_deref() {
            Ok(Some(Err(e))) => Err(e.again()),
            // Whoever opens is gone: this run is at its end, and so is the window.
            Ok(None) | Err(_) => {
                Err(Error::new(crate::error::Kind::Internal, "the window of the source was never opened"))
            }
            Ok(Some(Ok(moment))) => Ok(*moment),
        }
    }

    /// The consistent point is reached: what comes from here on does not need the application to stand still. Where the
    /// moment is one of [`Moment::Once`], nothing can be read anew from here on.
    pub fn done(&self) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Shutter {
    /// A closed one.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        let (sender, open) = mpsc::channel(1);
        Shutter { opening: watch::Sender::new(None), sender: Some(sender), open }
    }

    /// A window on it for one source.
    pub fn window(&self) -> Window {
        Window { opening: self.opening.subscribe(), open: Mutex::new(self.sender.clone()) }
    }

    /// Opens, or says why not. No more windows after this. Gives what waits until all sources are done.
    pub fn open(mut self, result: std::result::Result<Moment, Error>) -> impl Future<Output = ()> + Send {
        self.sender = None;
        self.opening.send_replace(Some(result.map_err(Arc::new)));
        async move {
            // Nobody ever sends; it ends when the last sender is gone.
            while self.open.recv().await.is_some() {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[tokio::test]
    async fn it_closes_when_the_last_source_is_done_however_it_ends() {
        let shutter = Shutter::new();
        let (one, two) = (shutter.window(), shutter.window());
        let closed = tokio::spawn(async move {
            let done = shutter.open(Ok(Moment::Once));
            done.await;
        });
        assert_eq!(one.ready().await.unwrap(), Moment::Once);
        assert_eq!(Window::always().ready().await.unwrap(), Moment::Any);
        one.done();
        tokio::task::yield_now().await;
        assert!(!closed.is_finished());
        drop(two);
        closed.await.unwrap();
    }

    #[tokio::test]
    async fn every_source_learns_why_it_did_not_open() {
        let shutter = Shutter::new();
        let window = shutter.window();
        let _closed = shutter.open(Err(Error::new(Kind::Source, "container x cannot be stopped")));
        assert_eq!(window.ready().await.unwrap_err().what, "container x cannot be stopped");
    }
}
