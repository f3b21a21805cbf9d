//! Bytes on their way: between a task and a thread that may block, and into a file that counts.

mod blocking;
pub mod durable;

pub use blocking::BlockingStream;
