//! Backstay: a host agent for cloud-backed disaster recovery.
//!
//! It ships encrypted, deduplicated dumps and file trees to S3, GCS or a directory, and brings them back. Reading
//! order, which is also the data's way:
//!
//! 1. [`model`] and [`error`]: ids, names, sizes, times; what an error says. Plain data. [`io`]: streams for code that
//!    blocks, files that are replaced as a whole.
//! 2. [`storage`]: the object store port with its promises, and the stores behind it.
//! 3. [`repository`]: the format. Who can read and write what, the way out, the way back, prune, check, retention.
//! 4. [`sources`]: what there is to back up, one folder per kind; [`host`] runs processes for them.
//! 5. [`backup`]: the story of one run, where sources and repository meet. [`recovery`]: the way back.
//! 6. [`foreign`]: backups that other scripts made, read, proven and taken over.
//! 7. [`config`], [`telemetry`], [`monitoring`], [`cli`]: the edges.
//!
//! A folder uses only what its purpose needs; `tests/layering.rs` reads the imports and keeps it so. `docs/format.md`
//! has the format without code.

pub mod backup;
pub mod cli;
pub mod config;
pub mod error;
pub mod foreign;
pub mod host;
pub mod io;
pub mod model;
pub mod monitoring;
pub mod recovery;
pub mod repository;
pub mod sources;
pub mod storage;
pub mod telemetry;
