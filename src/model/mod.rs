//! Plain data that every folder may use: ids, lists, names, paths, sizes, times, processors. No I/O.

pub mod ids;
pub mod list;
pub mod paths;
pub mod size;
pub mod time;

pub use ids::{BackupId, BlobId, Name, PackId, PackKey, VaultId};

/// The processors that we may use; two when nobody can tell.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}
