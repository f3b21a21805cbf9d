//! The way back: picking a backup, and replacing what is live by what it holds, so that what was there before stays until
//! the new is proven.
//!
//! [`select`] finds the backup that is meant. [`resource`] is what the restore flow knows of each kind of thing that it
//! replaces; [`tree`] writes files and [`trees`] replaces them, [`volume`] replaces Docker volumes, [`images`] loads images,
//! [`host`] says what of a machine may be put into another one's place, [`exchange`] moves paths, [`inner`] what is in them, [`database`] databases, [`tables`] some tables of one, [`rows`] the
//! rows alone, [`redis`] Redis servers, [`command`] gives outputs back to their programs. [`steps`] makes the steps of a
//! restore out of resources,
//! [`engine`] runs them, [`journal`] is what survives a crash, and [`restore`] is the whole.
//! [`rollback`] takes one back later, and drops what is no longer kept.

pub mod command;
pub mod database;
pub mod engine;
pub mod exchange;
pub mod host;
pub mod images;
pub mod inner;
pub mod inplace;
pub mod journal;
pub mod redis;
pub mod resource;
pub mod restore;
pub mod rollback;
pub mod rows;
pub mod select;
pub mod steps;
pub mod tables;
pub mod tree;
pub mod trees;
pub mod volume;
