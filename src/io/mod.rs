//! Bytes on their way: between a task and a thread that may block, and into a file that counts; and out of it again.

mod blocking;
pub mod durable;
pub mod removal;

pub use blocking::{BlockingStream, Supply, Waiting};
