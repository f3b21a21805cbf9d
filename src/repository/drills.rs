//! Records of drills: that a backup was restored for proof, and how that ended. Retention keeps the last proven backup of
//! each plan by them, and `list` shows them.
//!
//! A record is authentic like any other. But the vault secret, which a sealed host knows, must not decide what counts as
//! proven: a host that was broken into could call a backup proven that nobody ever read. So each record carries a code
//! that only a holder of an epoch's identity can make, and a drill has that anyway, since it reads packs. Who holds an
//! identity believes nothing without it; who holds none cannot tell, and believes what is authentic.

use super::layout;
use super::record::RecordKind;
use super::vault::Vault;
use crate::error::{Error, Kind, Result};
use crate::model::{BackupId, Name};
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::pin::pin;

/// How a drill ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// All of the backup came back and was as it should be.
    Proven,
    /// What was restored was as it should be, and it was not all.
    Partly,
    /// The backup cannot be restored, or what came back differs.
    Failed,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::Proven => "proven",
            Outcome::Partly => "partly",
            Outcome::Failed => "failed",
        })
    }
}

/// What a drill came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// How it ended.
    pub outcome: Outcome,
    /// The machine that did it.
    pub machine: String,
    /// Seconds from the first byte that was staged to the last check.
    pub seconds: f64,
    /// Facts that were compared.
    pub compared: u64,
    /// Rows of tables among them.
    pub rows: u64,
    /// Bytes of data.
    pub bytes: u64,
    /// What was left out, or why it failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drill {
    /// Format version, 1.
    pub format: u32,
    /// The store's clock.
    pub at: Timestamp,
    /// What it came to.
    #[serde(flatten)]
    pub figures: Figures,
    /// Version of the agent.
    pub agent: String,
    /// The epoch by whose identity it is vouched for.
    pub epoch: u32,
    /// What a holder of that identity says.
    pub vouched: String,
}

impl Drill {
    fn statement(&self, vault: &Vault, key: &str) -> String {
        format!("drill {} {} {key} {} {}", vault.header.vault, self.epoch, self.at, self.figures.outcome)
    }

    /// Whether a holder of an epoch's identity wrote it; nothing when that cannot be told here.
    fn is_vouched(&self, vault: &Vault, key: &str) -> Option<bool> {
        let epoch = vault.epochs().iter().find(|e| e.number == self.epoch);
        match epoch.and_then(|e| e.vouch(&self.statement(vault, key))) {
            Some(code) => Some(code == self.vouched),
            None if vault.can_read_packs() => Some(false),
            None => None,
        }
    }
}

/// Records the outcome of a drill.
///
/// # Errors
/// [`Kind::Key`] without an identity, and those of the store: credentials may be there for reading only.
pub async fn record(vault: &Vault, plan: &Name, id: &BackupId, figures: Figures) -> Result<Drill> {
    let epoch = vault.epochs().iter().rev().find(|e| e.identity.is_some());
    let epoch = epoch.ok_or_else(|| Error::new(Kind::Key, "a drill is recorded with an identity of the vault"))?;
    let at = vault.now().await?;
    let key = layout::about_backup(layout::DRILLS, plan, id, &BackupId::new(at));
    let agent = env!("CARGO_PKG_VERSION").to_owned();
    let mut drill = Drill { format: 1, at, figures, agent, epoch: epoch.number, vouched: String::new() };
    drill.vouched = epoch.vouch(&drill.statement(vault, &key)).unwrap_or_default();
    vault.write_record(RecordKind::Drill, &key, &drill).await?;
    Ok(drill)
}

/// What is recorded of the drills of a vault.
#[derive(Debug, Default)]
pub struct Drills {
    /// What counts, newest last, by backup.
    known: BTreeMap<(Name, BackupId), Vec<Drill>>,
    /// What does not: the key, the backup that it names, and why.
    refused: Vec<(String, (Name, BackupId), Error)>,
}

impl Drills {
    /// Reads them, of one plan or of all. What cannot be believed is set aside and told by [`Drills::refused`].
    ///
    /// # Errors
    /// Those of the store.
    pub async fn read(vault: &Vault, plan: Option<&Name>) -> Result<Self> {
        let folder = plan.map_or(layout::DRILLS.to_owned(), |plan| format!("{}{plan}/", layout::DRILLS));
        let mut drills = Drills::default();
        let mut read = pin!(vault.records::<Drill>(RecordKind::Drill, &folder).await?);
        while let Some((object, drill)) = read.next().await {
            let Some(about) = layout::parse_about_backup(layout::DRILLS, &object.key) else { continue };
            match drill {
                Ok(drill) if drill.is_vouched(vault, &object.key) == Some(false) => {
                    let why =
                        Error::damaged(&object.key, "nobody with an identity of the vault vouches for this drill")
                            .do_instead(
                                "Somebody who knows the vault secret only may have written it: it counts for nothing.",
                            );
                    drills.refused.push((object.key, about, why));
                }
                Ok(drill) => drills.known.entry(about).or_default().push(drill),
                Err(e) if matches!(e.kind, Kind::Damaged | Kind::Key | Kind::Newer) => {
                    drills.refused.push((object.key, about, e));
                }
                Err(e) => return Err(e),
            }
        }
        drills.known.values_mut().for_each(|of_backup| of_backup.sort_by_key(|d| d.at));
        Ok(drills)
    }

    /// The last drill of a backup that showed something about all of it: proven, or failed.
    pub fn verdict(&self, plan: &Name, id: &BackupId) -> Option<&Drill> {
        let of_backup = self.known.get(&(plan.clone(), id.clone()))?;
        of_backup.iter().rev().find(|d| d.figures.outcome != Outcome::Partly)
    }

    /// Whether a backup counts as proven, and by which drill.
    pub fn proof(&self, plan: &Name, id: &BackupId) -> Option<&Drill> {
        self.verdict(plan, id).filter(|d| d.figures.outcome == Outcome::Proven)
    }

    /// Every drill of a plan with the backup, oldest first.
    pub fn of_plan<'a>(&'a self, plan: &'a Name) -> Vec<(&'a BackupId, &'a Drill)> {
        let of_plan = self.known.iter().filter(|((p, _), _)| p == plan);
        let mut all: Vec<_> = of_plan.flat_map(|((_, id), drills)| drills.iter().map(move |d| (id, d))).collect();
        all.sort_by_key(|(_, d)| d.at);
        all
    }

    /// The plans that were drilled.
    pub fn plans(&self) -> Vec<&Name> {
        let mut plans: Vec<&Name> = self.known.keys().map(|(plan, _)| plan).collect();
        plans.dedup();
        plans
    }

    /// What retention must not remove: of those backups that exist, the newest proven one of each plan. A record that
    /// cannot be read may have been the proof of a newer one, so that one stays too.
    pub fn protected(&self, existing: &HashSet<(Name, BackupId)>) -> HashSet<(Name, BackupId)> {
        let mut newest: BTreeMap<&Name, &BackupId> = BTreeMap::new();
        for (plan, id) in self.known.keys().filter(|about| existing.contains(*about)) {
            if self.proof(plan, id).is_some() && newest.get(plan).is_none_or(|other| *other < id) {
                newest.insert(plan, id);
            }
        }
        let mut doubtful: BTreeMap<&Name, &BackupId> = BTreeMap::new();
        for (_, about, _) in self.refused.iter().filter(|(_, about, _)| existing.contains(about)) {
            let (plan, id) = about;
            let newer = |other: &BTreeMap<&Name, &BackupId>| other.get(plan).is_none_or(|other| *other < id);
            if newer(&newest) && newer(&doubtful) {
                doubtful.insert(plan, id);
            }
        }
        newest.into_iter().chain(doubtful).map(|(plan, id)| (plan.clone(), id.clone())).collect()
    }

    /// Records that count for nothing, by key, and why.
    pub fn refused(&self) -> impl Iterator<Item = (&str, &Error)> {
        self.refused.iter().map(|(key, _, why)| (key.as_str(), why))
    }
}

/// Removes the records about backups that are gone.
///
/// # Errors
/// Those of the store.
pub async fn clear(vault: &Vault, gone: &[(Name, BackupId)]) -> Result<()> {
    let mut plans: Vec<&Name> = gone.iter().map(|(plan, _)| plan).collect();
    plans.sort();
    plans.dedup();
    let mut keys = Vec::new();
    for plan in plans {
        let listed = vault.list(&format!("{}{plan}/", layout::DRILLS)).await?;
        let about_gone =
            |key: &String| layout::parse_about_backup(layout::DRILLS, key).is_some_and(|about| gone.contains(&about));
        keys.extend(listed.into_iter().map(|o| o.key).filter(about_gone));
    }
    vault.delete_all(keys).try_for_each(|_| async { Ok(()) }).await
}
