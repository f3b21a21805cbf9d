//! The way back: picking a backup, and replacing what is live by what it holds, so that what was there before stays until
//! the new is proven.
//!
//! [`select`] finds the backup that is meant. [`resource`] is what the restore flow knows of each kind of thing that it
//! replaces; [`tree`] writes files and [`trees`] replaces them, [`exchange`] moves paths, [`database`] databases, [`tables`] some tables of one, [`rows`] the rows alone. [`steps`] makes the steps of a restore out of resources,
//! [`engine`] runs them, [`journal`] is what survives a crash, and [`restore`] is the whole.

pub mod database;
pub mod engine;
pub mod exchange;
pub mod journal;
pub mod resource;
pub mod restore;
pub mod rows;
pub mod select;
pub mod steps;
pub mod tables;
pub mod tree;
pub mod trees;
