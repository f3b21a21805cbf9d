//! Making a vault.

use super::keyfile::{KeyRecipient, write_canary, write_key};
use crate::error::{Error, Kind, Result};
use crate::model::{Name, VaultId};
use crate::repository::layout;
use crate::repository::secrets::{Epoch, VaultSecret};
use crate::repository::vault::{FORMAT, Vault, VaultHeader, read_header};
use crate::storage::{ObjectStore, PutOutcome};
use std::sync::Arc;

/// Everything that `init` makes.
pub struct NewVault {
    /// Header, not yet written.
    pub header: VaultHeader,
    /// Secret.
    pub secret: VaultSecret,
    /// Epoch 1.
    pub epoch: Epoch,
}

impl NewVault {
    /// Fresh secrets.
    pub fn generate(created: jiff::Timestamp, grace: jiff::SignedDuration) -> Self {
        let header = VaultHeader { format: FORMAT, vault: VaultId::random(), created, grace_seconds: grace.as_secs() };
        NewVault { header, secret: VaultSecret::random(), epoch: Epoch::generate(1) }
    }

    /// Writes the vault: canary, key files, and `vault.json` last, so that a vault that can be seen is whole.
    /// The trust file is the caller's next act.
    ///
    /// Several may do this at once, and one may have been killed here before: each takes a key epoch of its own and
    /// touches nobody else's objects. Whose `vault.json` is there first has made the vault and clears the rest away.
    ///
    /// # Errors
    /// [`Kind::Refused`] when the host has a vault already, by now.
    pub async fn write(
        mut self,
        store: Arc<dyn ObjectStore>,
        host: Name,
        keys: &[(Name, &str, KeyRecipient)],
    ) -> Result<Vault> {
        let exists = || {
            Error::new(Kind::Refused, format!("host {host} has a vault in this repository already"))
                .at(store.url())
                .hint("Back up into it with the identity that belongs to it, or choose another `host` name or prefix.")
        };
        match store.stat(&format!("{host}/{}", layout::VAULT)).await {
            Ok(_) => return Err(exists()),
            Err(e) if e.is_not_found() => {}
            Err(e) => return Err(e.into()),
        }
        // Keys of a vault that has lost its vault.json are not leftovers: they open what is still there.
        for folder in [layout::BACKUPS, layout::PACKS] {
            if !store.list(&format!("{host}/{folder}"), None).await?.objects.is_empty() {
                return Err(Error::new(
                    Kind::Refused,
                    format!("host {host} has backups in this repository, and its {} is missing", layout::VAULT),
                )
                .at(store.url())
                .hint("Bring that object back (from a version of the bucket or a copy), or choose another `host` name or prefix."));
            }
        }
        let vault = loop {
            let taken = crate::storage::list_all(&*store, &format!("{host}/{}", layout::KEYS)).await?;
            let relative = |key: &str| layout::parse_epoch(key.strip_prefix(host.as_str())?.strip_prefix('/')?);
            self.epoch.number = taken.iter().filter_map(|o| relative(&o.key)).max().unwrap_or(0) + 1;
            let (header, secret, epochs) = (self.header.clone(), self.secret.clone(), vec![self.epoch.clone()]);
            let vault = Vault::assemble(store.clone(), host.clone(), header, secret, epochs);
            if write_canary(&vault, &self.epoch).await? == PutOutcome::Created {
                break vault;
            }
        };
        for (name, role, recipient) in keys {
            write_key(&vault, &self.epoch, name, role, recipient).await?;
        }
        let own = layout::epoch(self.epoch.number);
        if write_header(&vault).await? == PutOutcome::Exists {
            clear(&vault, |key| key.starts_with(&own)).await;
            return Err(exists());
        }
        // A store that ignores the condition may have let a later one write over it. Whose the keys are then is not
        // known here, so none of them is touched. No answer means no such thing: the vault is made.
        if let Ok(there) = read_header(&*store, &host).await
            && there.vault != vault.header.vault
        {
            return Err(exists());
        }
        clear(&vault, |key| !key.starts_with(&own)).await;
        Ok(vault)
    }
}

/// Writes `vault.json`. When the answer is lost, what is there tells who made the vault.
async fn write_header(vault: &Vault) -> Result<PutOutcome> {
    let body = serde_json::to_vec_pretty(&vault.header)
        .map_err(|e| Error::new(Kind::Internal, "encoding vault.json failed").because(e))?;
    match vault.put_raw(layout::VAULT, body).await {
        Err(e) => match read_header(&**vault.store(), vault.host()).await {
            Ok(there) if there.vault == vault.header.vault => Ok(PutOutcome::Created),
            _ => Err(e),
        },
        outcome => outcome,
    }
}

/// Removes objects below `keys/`. They belong to vaults that never were and open nothing; one that cannot be removed
/// must not fail what is done already.
async fn clear(vault: &Vault, which: impl Fn(&str) -> bool) {
    for object in vault.list(layout::KEYS).await.unwrap_or_default() {
        if which(&object.key) {
            let _ = vault.delete(&object.key).await;
        }
    }
}
