//! Who may write under a host's name.
//!
//! A vault without a claim belongs to the machine of its newest backup. A machine that takes the name over writes a
//! claim of the next generation, create-only, so that of two that try at once one wins. From then on only that machine
//! writes backups. Those that it replaced remove nothing either: a survivor would push the new machine's backups out by
//! its own rules. Machines that never wrote here, and prune for others, go on.

use super::layout;
use super::record::RecordKind;
use super::vault::Vault;
use crate::error::{Error, Kind, Result};
use crate::model::time;
use crate::storage::PutOutcome;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A claim on the name of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Format version, 1.
    pub format: u32,
    /// The first is 1.
    pub generation: u32,
    /// The store's clock.
    pub at: Timestamp,
    /// The machine that the name is of, as in manifests.
    pub machine: String,
    /// Machines that wrote under the name before.
    pub replaces: BTreeSet<String>,
    /// How it came to be.
    pub note: String,
}

/// The claim that holds; `None` when nobody ever took the name over.
///
/// # Errors
/// [`Kind::Damaged`] when the newest one is not authentic: nothing is written on a guess.
pub async fn newest(vault: &Vault) -> Result<Option<Claim>> {
    let listed = vault.list(layout::CLAIMS).await?;
    let Some(generation) = listed.iter().filter_map(|o| layout::parse_claim(&o.key)).max() else { return Ok(None) };
    let key = layout::claim(generation);
    let claim: Claim = vault
        .read_record(RecordKind::Claim, &key)
        .await?
        .ok_or_else(|| Error::damaged(&key, "a claim on the host's name is listed and cannot be read"))?;
    if claim.generation == generation {
        Ok(Some(claim))
    } else {
        Err(Error::damaged(&key, "the claim speaks of another generation"))
    }
}

/// Takes the name over for a machine. `before` are machines that are known to have written under it. A machine that has
/// the name already keeps its claim.
///
/// # Errors
/// [`Kind::Refused`] when another machine takes it at the same moment.
pub async fn take(vault: &Vault, machine: &str, before: impl IntoIterator<Item = String>, note: &str) -> Result<Claim> {
    let last = newest(vault).await?;
    if let Some(own) = last.as_ref().filter(|claim| claim.machine == machine) {
        return Ok(own.clone());
    }
    let mut replaces: BTreeSet<String> = before.into_iter().collect();
    let generation = last.as_ref().map_or(1, |claim| claim.generation.saturating_add(1));
    replaces.extend(last.into_iter().flat_map(|claim| claim.replaces.into_iter().chain([claim.machine])));
    replaces.remove(machine);
    let claim = Claim {
        format: 1,
        generation,
        at: vault.now().await?,
        machine: machine.to_owned(),
        replaces,
        note: note.to_owned(),
    };
    let key = layout::claim(generation);
    let outcome = vault.write_record(RecordKind::Claim, &key, &claim).await?;
    // A store that ignores the condition has let the later one win.
    let holds = newest(vault).await?;
    match (outcome, holds) {
        (_, Some(holds)) if holds.machine == machine => Ok(holds),
        (PutOutcome::Created | PutOutcome::Exists, _) => Err(Error::new(
            Kind::Refused,
            format!("another machine takes over the name {} at this moment", vault.host()),
        )
        .at(key)
        .hint("Only one of them can be the host: find the other one, and stop it or this one.")),
    }
}

/// Fails for every machine but the one that has the name.
///
/// # Errors
/// [`Kind::Refused`] with what to do.
pub fn only_for(claim: &Claim, machine: &str, vault: &Vault) -> Result<()> {
    if claim.machine == machine {
        return Ok(());
    }
    let replaced = claim.replaces.contains(machine);
    let what = match replaced {
        true => format!("this machine was replaced: another one took over the name {} ", vault.host()),
        false => format!("another machine has the name {} ", vault.host()),
    };
    let hint = match replaced {
        true => {
            "Nothing was written. Stop this machine, or at least its timers (`systemctl disable --now 'backstay-*.timer'`): two machines must not work as one host. If it is to be the host again, run `backstay backup --take-over` once."
        }
        false => {
            "If this machine replaces that one, run once with --take-over; that holds for all plans. If it is a clone, give it a `host` name of its own."
        }
    };
    Err(Error::new(Kind::Refused, format!("{what}on {} (generation {})", time::utc(claim.at), claim.generation))
        .at(layout::claim(claim.generation))
        .hint(hint))
}

/// Fails for a machine that was replaced, and for no other: before something is removed by a host's own rules.
///
/// # Errors
/// [`Kind::Refused`] with what to do.
pub async fn not_replaced(vault: &Vault, machine: &str) -> Result<()> {
    match newest(vault).await? {
        Some(claim) if claim.replaces.contains(machine) => only_for(&claim, machine, vault),
        _ => Ok(()),
    }
}
