//! Whether what is stored now can be opened again, by this host and by people.

use super::Patient;
use super::check::{Check, within};
use crate::error::Result;
use crate::model::{size, time};
use crate::monitoring::problems::PROVE_KEYS_EVERY;
use crate::repository::{access, keyring, marks};
use jiff::Timestamp;

pub(super) async fn checks(p: &Patient<'_>) -> Vec<Check> {
    if p.vault().await.is_err() {
        // The area of the repository says why.
        return vec![Check::unknown("keys", "the vault cannot be opened", "Mend the repository first.")];
    }
    vec![within("this host's identity", own(p)).await, within("recovery keys", recovery(p)).await]
}

async fn own(p: &Patient<'_>) -> Result<Check> {
    let name = "this host's identity";
    let Some(file) = &p.config.identity_file else {
        return Ok(Check::good(name, "none: the host is sealed. Restores and drills need --identity"));
    };
    let unlock = p.unlock()?;
    let vault = p.vault().await?;
    keyring::require_opener(&vault, unlock.as_ref()).await?;
    let store = p.store().await?;
    let opened = access::open_on_host(store, &p.config.host, &p.config.trust_file(), unlock.as_ref()).await?;
    if opened.can_read_packs() && opened.locked.is_none() {
        return Ok(Check::good(name, format!("{} opens the vault", file.display())));
    }
    let detail = format!("{} does not open what is stored now", file.display());
    Ok(Check::bad(
        name,
        detail,
        "Put the host's identity back; when its key was removed on purpose, take `identity_file` out of the configuration.",
    ))
}

/// Without one the backups die with the host.
async fn recovery(p: &Patient<'_>) -> Result<Check> {
    let name = "recovery keys";
    let vault = p.vault().await?;
    let newest = vault.epoch()?.number;
    let proofs = marks::proofs(&vault).await?;
    let keys = keyring::list(&vault).await?;
    let mut recovery: Vec<(&str, Option<Timestamp>)> = keys
        .iter()
        .filter(|key| key.label.role == "recovery" && key.epochs.contains(&newest))
        .map(|key| (key.label.name.as_str(), proofs.get(key.label.name.as_str()).copied()))
        .collect();
    recovery.sort();
    let prove = "backstay --identity FILE key check, where the key is kept.";
    if recovery.is_empty() {
        let detail = "there is none: when this host is gone, nobody can open its backups";
        return Ok(Check::bad(
            name,
            detail,
            "backstay key add recovery --out FILE, and keep that file away from this host.",
        ));
    }
    let now = Timestamp::now();
    let stale = |at: Option<Timestamp>| at.is_none_or(|at| now.duration_since(at) > PROVE_KEYS_EVERY);
    let told: Vec<String> = recovery
        .iter()
        .filter(|(_, at)| stale(*at))
        .map(|(key, at)| match at {
            None => format!("{key} was never proven to open the vault"),
            Some(at) => format!("{key} was last proven {}", time::ago(*at, now)),
        })
        .collect();
    if told.is_empty() {
        return Ok(Check::good(name, format!("{}, proven", size::plural(recovery.len() as u64, "key"))));
    }
    Ok(Check::warning(name, told.join("; "), prove))
}
