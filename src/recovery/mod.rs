//! The way back: picking a backup, and restoring trees and databases so that what was there before stays until
//! the new is whole.
//!
//! [`select`] finds the backup that is meant, [`tree`] restores files, [`database`] restores databases,
//! [`redis`] Redis servers.
//! [`resource`] is what the restore flow knows of each kind of thing that it replaces.

pub mod database;
pub mod redis;
pub mod resource;
pub mod select;
pub mod tree;
