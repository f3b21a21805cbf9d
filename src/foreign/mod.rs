//! Backups that other scripts made: found by the layout in the configuration, read, proven and taken over. They are
//! never written and never deleted: the store behind them has no method for it.
//!
//! [`layout`] is what the configuration says of one kind of them: where they lie, what their files are. [`pattern`]
//! matches names, [`when`] reads the time in them, [`sets`] puts files together that were made together, [`sums`] reads
//! the checksums that lie beside them. [`read`] opens one file, through decryption and decompression, in bounded memory;
//! [`archive`] undoes the compression within archives of `pg_dump`, [`members`] sorts archives of files, [`image`] reads
//! those of images, [`aof`] append-only files, [`fixture`] counts objects of Django. (Dumps in SQL are taken apart by the
//! source that loads them.) [`check`] proves a set without restoring it. [`take`] writes a set
//! into a repository as a backup of our own, from which the restore flow goes on as with any other; [`scratch`] is such a
//! repository for one restore only.

pub mod aof;
pub mod archive;
pub mod check;
mod databases;
mod feed;
pub mod fixture;
pub mod image;
pub mod layout;
pub mod members;
mod owner;
pub mod pattern;
pub mod read;
mod redis;
mod rewritten;
pub mod scratch;
pub mod sets;
pub mod sums;
pub mod take;
mod trees;
pub mod when;
