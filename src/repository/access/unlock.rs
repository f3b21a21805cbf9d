//! Opening a vault with an identity or a passphrase: every key file that it opens, and which epochs to believe.

use super::identity::Unlock;
use super::keyfile::{KeyFile, MAX_KEY_FILE, prove, succession};
use super::{parse_identity, same_grace};
use crate::error::{Error, Kind, Result};
use crate::model::{Name, VaultId};
use crate::repository::layout;
use crate::repository::seal::OpenError;
use crate::repository::secrets::{Epoch, VaultSecret};
use crate::repository::vault::{Vault, VaultHeader, read_header};
use crate::storage::ObjectStore;
use std::collections::BTreeMap;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Opens a vault with an identity alone, as on a fresh machine, and checks it against the canaries.
///
/// # Errors
/// [`Kind::Key`] when the identity does not belong to the vault.
pub async fn open_with(store: Arc<dyn ObjectStore>, host: &Name, unlock: &Unlock) -> Result<Vault> {
    let header = read_header(&*store, host).await?;
    let Unlocked { secret, epochs, newest } = unlock_epochs(&*store, host, &header, unlock).await?;
    let mut vault = Vault::assemble(store, host.clone(), header, secret, epochs);
    vault.locked = vault.epochs().last().is_none_or(|e| e.number < newest).then_some(newest);
    prove(&vault).await?;
    Ok(vault)
}

/// What an identity or a passphrase opens.
pub(super) struct Unlocked {
    pub(super) secret: VaultSecret,
    /// The epochs that are believed.
    pub(super) epochs: Vec<Epoch>,
    /// The highest epoch of which there is any object but the word that somebody begins it.
    pub(super) newest: u32,
}

/// Opens every key file that `unlock` can.
pub(super) async fn unlock_epochs(
    store: &dyn ObjectStore,
    host: &Name,
    header: &VaultHeader,
    unlock: &Unlock,
) -> Result<Unlocked> {
    let prefix = format!("{host}/{}", layout::KEYS);
    let mut secret: Option<VaultSecret> = None;
    let mut opened: Vec<(Epoch, BTreeMap<u32, String>)> = Vec::new();
    let mut damaged: Option<Error> = None;
    let (mut seen, mut newest) = (0, 0);
    for object in crate::storage::list_all(store, &prefix).await? {
        let rel = &object.key[host.as_str().len() + 1..];
        // A rotation that was killed right behind that word has sealed nothing; `check` tells of it.
        newest = newest.max(layout::parse_epoch(rel).filter(|_| !layout::is_begun(rel)).unwrap_or(0));
        let Some((epoch_number, name)) = layout::parse_key_file(rel) else { continue };
        seen += 1;
        let sealed = store.get(&object.key, MAX_KEY_FILE as u64).await?;
        let attempt = unlock.open(&sealed);
        let plain = match attempt {
            Ok(plain) => Zeroizing::new(plain),
            Err(OpenError::NoMatchingKey) => continue,
            Err(OpenError::Damaged(why)) => {
                // A passphrase is also tried on files that are sealed to keys, and on those of other people.
                if matches!(unlock, Unlock::Identities(..)) {
                    damaged = Some(Error::damaged(rel, "the key file is damaged").because(why));
                }
                continue;
            }
        };
        let content: KeyFile =
            serde_json::from_slice(&plain).map_err(|_| Error::damaged(rel, "the key file opens and cannot be read"))?;
        if content.vault != header.vault || content.name != name || content.epoch != epoch_number {
            return Err(Error::damaged(rel, "the key file belongs to another vault, epoch or name"));
        }
        same_grace(header, content.grace_seconds)?;
        let this = VaultSecret::from_hex(&content.vault_secret)?;
        if secret.as_ref().is_some_and(|s| s.fingerprint() != this.fingerprint()) {
            return Err(Error::damaged(rel, "key files of this vault hold different secrets"));
        }
        if let Unlock::Identities(_, Some(expected)) = unlock
            && *expected != this.fingerprint()
        {
            return Err(Error::damaged(
                rel,
                format!("the vault's fingerprint is {}, the identity file was made for {expected}", this.fingerprint()),
            ));
        }
        secret = Some(this);
        let identity = parse_identity(&content.epoch_identity)?;
        let epoch = Epoch {
            number: content.epoch,
            recipient: identity.to_public(),
            catalog: parse_identity(&content.catalog_identity)?,
            identity: Some(identity),
        };
        match opened.iter().find(|(e, _)| e.number == epoch.number) {
            Some((e, _)) if e.recipient.to_string() == epoch.recipient.to_string() => {}
            Some(_) => return Err(Error::damaged(rel, "key files of this epoch hold different identities")),
            None => opened.push((epoch, content.vouched.clone())),
        }
    }
    let epochs = believe(header.vault, opened)?;
    match secret {
        Some(secret) => Ok(Unlocked { secret, epochs, newest }),
        None => Err(damaged.unwrap_or_else(|| {
            Error::new(Kind::Key, format!("this identity opens none of the {seen} key files of host {host}"))
                .at(store.url())
                .hint(
                    "Use the recovery identity that `backstay init` wrote for this vault, or one that was added later.",
                )
        })),
    }
}

/// The first epoch that an identity opens is where its trust begins; every later one must be vouched for by one that
/// is believed already. Otherwise whoever knows the vault secret could plant an epoch of his own, and have hosts seal
/// to it.
fn believe(vault: VaultId, mut opened: Vec<(Epoch, BTreeMap<u32, String>)>) -> Result<Vec<Epoch>> {
    opened.sort_by_key(|(e, _)| e.number);
    let mut believed: Vec<Epoch> = Vec::new();
    for (epoch, vouched) in opened {
        let statement = succession(vault, &epoch);
        let good = believed.is_empty()
            || believed.iter().any(|e| vouched.get(&e.number).is_some_and(|v| e.vouch(&statement).as_ref() == Some(v)));
        if !good {
            return Err(Error::new(Kind::Refused, format!("no earlier key epoch vouches for key epoch {}", epoch.number))
                .at(layout::epoch(epoch.number))
                .hint("Somebody who knows the vault secret may have planted it. Compare with whoever rotated the keys; if nobody did, delete that folder."));
        }
        believed.push(epoch);
    }
    Ok(believed)
}
