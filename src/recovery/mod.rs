//! The way back: picking a backup, and replacing what is live by what it holds, so that what was there before stays until
//! the new is proven.
//!
//! [`select`] finds the backup that is meant. [`resource`] is what the restore flow knows of each kind of thing that it
//! replaces; [`tree`] writes files and [`trees`] replaces them, [`volume`] replaces Docker volumes, [`images`] loads images,
//! [`exchange`] moves paths, [`inner`] what is in them, [`database`] databases, [`tables`] some tables of one, [`rows`] the
//! rows alone, [`redis`] Redis servers, [`command`] gives outputs back to their programs. [`application`] is what is stopped
//! meanwhile. [`steps`] makes the steps of a restore out of resources,
//! rows alone, [`redis`] Redis servers, [`command`] gives outputs back to their programs. [`steps`] makes the steps of a
//! restore out of resources, [`maintenance`] those that show nginx's clients a page meanwhile,
//! [`engine`] runs them, [`journal`] is what survives a crash, and [`restore`] is the whole.
//! [`checks`] tell whether the application is well afterwards, [`hooks`] do what else is to be done with the restored data.
//! [`rollback`] takes one back later, and drops what is no longer kept.

pub mod along;
pub mod asked;
pub mod by_hand;
pub mod application;
pub mod checks;
pub mod command;
pub mod database;
pub mod engine;
pub mod exchange;
pub mod flow;
pub mod hooks;
pub mod images;
pub mod inner;
pub mod inplace;
pub mod journal;
pub mod outline;
pub mod maintenance;
pub mod redis;
pub mod reload;
pub mod report;
pub mod resource;
pub mod resources;
pub mod restore;
pub mod rollback;
pub mod rows;
pub mod select;
pub mod steps;
pub mod swapping;
pub mod tables;
pub mod tree;
pub mod trees;
pub mod volume;
