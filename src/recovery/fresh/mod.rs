//! The way back onto a machine that has nothing yet: a whole lost host out of its backups.
//!
//! [`lost`] is what the backups tell of the host. [`look`] says whether this machine is fresh, [`room`] whether all of it
//! fits. What is to be made is decided by functions that touch nothing: [`people`], [`packages`], [`clusters`], [`start`].
//! [`fetch`] gets the files of the machine, [`merge`] puts them into their places
//! ([`rules`] says when, [`place`] how; [`settings`] is about clusters, [`container`] about those in containers, [`checks`] about what an exercise may ask). [`ways`] says which paths of other sources go that
//! way too, [`whose`] whether the server of a source is lost at all. [`phase`] has the order, and [`journal`] is what survives a crash: a recovery
//! that was interrupted goes on by the same command. Data itself is restored as by any other restore, with its own journal.

pub mod checks;
pub mod clusters;
pub mod container;
pub mod fetch;
pub mod journal;
pub mod look;
pub mod lost;
pub mod merge;
pub mod packages;
pub mod people;
pub mod phase;
pub mod place;
pub mod room;
pub mod rules;
pub mod settings;
pub mod start;
pub mod took;
pub mod ways;
pub mod whose;

use std::path::{Path, PathBuf};

/// The journal of the recovery that is open on this machine.
pub fn journal_file(state_dir: &Path) -> PathBuf {
    state_dir.join("recover.journal")
}

/// Where the files of the lost machine are fetched to.
pub fn staged(state_dir: &Path) -> PathBuf {
    state_dir.join("recover.d/files")
}

/// The names of units that are disabled until their data is there.
pub fn waiting(state_dir: &Path) -> PathBuf {
    state_dir.join("recover.d/waiting")
}

/// Where files of this machine are kept that gave way.
pub fn before(state_dir: &Path) -> PathBuf {
    state_dir.join("recover.d/before")
}
