//! What a restore replaces: the one interface between the restore flow and each kind of thing.
//!
//! A resource is staged beside the live one while the application runs, verified there, swapped in, and can be
//! swapped back. The flow owns order, journal and messages; a resource owns its own effects, and keeps nothing in
//! memory between calls that a crash must not lose: that is in the [`Note`]s, which the flow writes to the journal
//! *before* the effect that they describe.
//!
//! Every effect is idempotent. `swap` and `unswap` look at identities (device and inode, database OID, file hash)
//! before they act, since an exchange that is done twice undoes itself. After a crash a resource is made anew from
//! the configuration and the journal, on a host that may hold no identity: only [`Resource::stage`] may read the
//! repository.

use super::checks::context::Renamed;
use crate::error::{Error, Kind, Result};
use async_trait::async_trait;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What an effect needs to be done, told apart from "done already", and undone. Goes through the journal, so it
/// names things by what survives a reboot: names, paths, inodes and OIDs, never container ids or process ids, and
/// holds no secret.
pub type Note = serde_json::Value;

/// What a note says.
///
/// # Errors
/// [`Kind::Internal`] when it does not say that.
pub fn parse<T: DeserializeOwned>(note: &Note) -> Result<T> {
    T::deserialize(note).map_err(|e| Error::new(Kind::Internal, "a note of the restore cannot be read").because(e))
}

/// When a resource is swapped: trees first, then Redis, then databases, and at the very end what is live is loaded into.
/// Undone in reverse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Files, directories, volumes.
    Tree,
    /// Redis.
    Redis,
    /// Databases.
    Database,
    /// What a program of the operator's does to what is live. When everything else has succeeded it need not be
    /// undone for the sake of another.
    InPlace,
}

/// What looking at the target told, before anything is touched.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Room that staging needs.
    pub space: Vec<Space>,
    /// Containers, services, units and processes that use the live one, as `container:NAME`, `service:NAME`,
    /// `unit:NAME`, `process:PID NAME`. Each must be stopped at the swap, or it keeps what was there before.
    pub users: Vec<String>,
    /// Processes that have something of the live one open and go on with it until they are started again, in the same
    /// form. They are told unless they are stopped.
    pub lingering: Vec<String>,
    /// What the operator should know.
    pub warnings: Vec<String>,
    /// True when the swap takes a time that grows with the data (copied in, or loaded at start).
    pub slow_swap: bool,
    /// What becomes of what is live now.
    pub live: Live,
}

/// What becomes of what is live now, when something is restored or taken back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Live {
    /// It is kept beside what takes its place.
    #[default]
    Kept,
    /// Nothing of it is kept beside.
    Dropped,
    /// It stays as it is: what is restored comes beside it, or into what is empty.
    Untouched,
}

/// Room on one file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Space {
    /// A path on it, or a name when it is not of this machine.
    pub place: PathBuf,
    /// Bytes that staging will take.
    pub needed: u64,
    /// Bytes that are free; `None` when nobody can tell.
    pub free: Option<u64>,
}

/// One line of the verification: what the backup says, and what was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// What: `table public.orders`, `files`, `keys of db 0`.
    pub what: String,
    /// In the facts of the backup.
    pub expected: String,
    /// In the staged data.
    pub found: String,
    /// Whether that is as it should be. An estimate may differ and still be good.
    pub good: bool,
}

/// What a swap kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previous {
    /// Its name or path.
    pub name: String,
    /// Bytes on disk, when that is known.
    pub bytes: Option<u64>,
}

/// What an undo leaves on purpose: what others wrote meanwhile, which is nobody's to throw away but the operator's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// What it is.
    pub what: String,
    /// Where it lies.
    pub place: PathBuf,
}

impl std::fmt::Display for Left {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is in {}", self.what, self.place.display())
    }
}

/// Where staged data is while it is not live.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StagedAs {
    /// Databases.
    pub databases: Vec<Renamed>,
    /// Paths: where each will be, and where it is.
    pub paths: Vec<(PathBuf, PathBuf)>,
}

/// One thing that a restore replaces.
#[async_trait]
pub trait Resource: Send + Sync {
    /// For the plan, the journal and messages: `database erp`, `volume edms_static`, `/opt/erp`.
    fn label(&self) -> String;

    /// When it is swapped.
    fn class(&self) -> Class;

    /// Whether the server or daemon that serves it answers. After a boot it may need a while.
    async fn answers(&self) -> Result<()> {
        Ok(())
    }

    /// Looks at the target and touches nothing.
    ///
    /// # Errors
    /// [`crate::error::Kind::Refused`] for whatever would make a later step fail, with what to do about it.
    async fn preflight(&self) -> Result<Findings>;

    /// Who uses the live one now: [`Findings::users`] and [`Findings::lingering`], and what else an exchange back takes
    /// along, as warnings. For an exchange that needs nothing of a backup; `swap` is the note of the one that it takes back.
    async fn used(&self, _swap: Option<&Note>) -> Result<Findings> {
        Ok(Findings::default())
    }

    /// Decides names and places of the staged copy. No effect.
    async fn plan_staging(&self) -> Result<Note>;

    /// Loads the backup beside the live data, syncs it, and gives what [`Resource::verify`] and
    /// [`Resource::plan_swap`] will need besides. What an earlier try left at that place is removed first.
    async fn stage(&self, staging: &Note) -> Result<Note>;

    /// Holds the staged data against the facts of the backup. An `Err` means that it could not be compared; a
    /// line that is not good means that it differs.
    async fn verify(&self, staged: &Note) -> Result<Vec<Compared>>;

    /// Removes the staged copy, whatever there is of it, and what was made for it (roles). Takes the note of
    /// [`Resource::plan_staging`] or of [`Resource::stage`].
    async fn unstage(&self, staging: &Note) -> Result<()>;

    /// What [`Resource::unstage`] leaves on purpose, as far as it is there. Takes the note of [`Resource::plan_staging`],
    /// or one that was made of it later.
    fn kept_by_unstage(&self, _staging: &Note) -> Vec<Left> {
        Vec::new()
    }

    /// The same as [`Resource::unstage`] when its time is over, but for what [`Resource::drop_left`] drops, and for
    /// roles: days have passed, and by now others may own things as such a role, or log in as it.
    async fn drop_staged(&self, staging: &Note) -> Result<()> {
        self.unstage(staging).await
    }

    /// Deletes what [`Resource::drop_staged`] leaves: when nobody else has written there, or the operator has said that it
    /// is not needed any more.
    async fn drop_left(&self, _staging: &Note) -> Result<()> {
        Ok(())
    }

    /// Reads the identities of both sides and decides where the previous data will be kept. No effect.
    async fn plan_swap(&self, staged: &Note) -> Result<Note>;

    /// Puts the staged data in place and keeps what was there.
    async fn swap(&self, swap: &Note) -> Result<()>;

    /// Puts back what was there. The restored data becomes what the note calls staging again.
    async fn unswap(&self, swap: &Note) -> Result<()>;

    /// Adds to the note of a swap what has become true since, when it is to be taken back later. No effect.
    async fn plan_unswap(&self, swap: &Note) -> Result<Note> {
        Ok(swap.clone())
    }

    /// Puts in place again what [`Resource::unswap`] has taken away, from wherever that ended: the undo of a rollback. The
    /// application has written there since the restore, and no backup is at hand, so nothing is dropped or loaded for it.
    /// Gives, in words, what stays as it was before the restore, because nothing of the restored data was kept.
    async fn reswap(&self, swap: &Note) -> Result<Option<String>> {
        self.swap(swap).await.map(|()| None)
    }

    /// Whether what [`Resource::unswap`] takes away is kept where it was staged.
    fn keeps_restored(&self) -> bool {
        true
    }

    /// What the swap keeps; nothing when nothing was there.
    async fn previous(&self, swap: &Note) -> Result<Vec<Previous>>;

    /// What was staged, in terms that hooks and checks can use.
    fn staged_as(&self, _staged: &Note) -> Result<StagedAs> {
        Ok(StagedAs::default())
    }

    /// What somebody does by hand to remove what was staged: commands, or what to look for.
    fn unstage_by_hand(&self, staging: &Note) -> Vec<String> {
        vec![format!("remove what was staged for {}: {staging}", self.label())]
    }

    /// What somebody does by hand to put back what was there.
    fn unswap_by_hand(&self, swap: &Note) -> Vec<String> {
        vec![format!("put back what {} was before: {swap}", self.label())]
    }

    /// Deletes what the swap kept. Only ever called after the time that `keep_previous` says.
    async fn drop_previous(&self, swap: &Note) -> Result<()>;
}
