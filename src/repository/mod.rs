//! The repository format and everything that works on it. It does not know where data came from.
//!
//! Reading order: [`layout`] (where objects lie), [`secrets`] and [`record`] (who can read and write what),
//! [`segment`] and [`manifest`] (what is stored), [`writer`] (the way out), [`reader`] (the way back),
//! [`prune`] (how garbage goes without a lock), [`check`], [`retention`], [`marks`],
//! [`damage`], [`drills`].
//! `docs/format.md` says the same exactly and without code.

pub mod access;
pub mod ahead;
pub mod catalog;
pub mod check;
pub mod chunker;
pub mod claims;
pub mod condemned;
pub mod damage;
pub mod drills;
pub mod frame;
pub mod keyring;
pub mod layout;
pub mod manifest;
pub mod marks;
pub mod newest;
pub mod prune;
pub mod reader;
pub mod record;
pub mod retention;
pub mod seal;
pub mod secrets;
pub mod segment;
pub mod selection;
pub mod stream;
pub mod vault;
pub mod writer;
