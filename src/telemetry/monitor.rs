//! The one way in which the work tells what it does. Progress bar, log and tests are listeners; none of them
//! may slow the work down or fail it.

use crate::model::{BackupId, Name};

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A stage of a command begins, in words for the operator: `stage tree`.
    Stage(String),
    /// A source begins.
    SourceStarted(Name),
    /// A source ended; the text is why it failed.
    SourceEnded(Name, Result<(), String>),
    /// A group of sources, or one, needed the application to stand still for so many seconds, until it was put back.
    StoodStill(String, f64),
    /// About how many bytes will come, once that is known.
    Expect(u64),
    /// Bytes of input that were read, or known to be unchanged without reading.
    Read(u64),
    /// Bytes that went to the store.
    Shipped(u64),
    /// Bytes that came from the store or were written to their target.
    Restored(u64),
    /// Something that the operator should know and that fails nothing.
    Warning(String),
    /// A backup exists.
    Committed(Name, BackupId),
}

/// A listener.
pub trait Monitor: Send + Sync {
    /// Called from any thread, often; must return at once.
    fn event(&self, event: Event);
}

/// Listens to nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Monitor for Silent {
    fn event(&self, _: Event) {}
}
