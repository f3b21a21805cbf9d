//! Plain data that every folder may use: ids, lists, names, paths, sizes, times. No I/O.

pub mod ids;
pub mod list;
pub mod paths;
pub mod size;
pub mod time;

pub use ids::{BackupId, BlobId, Name, PackId, PackKey, VaultId};
