//! The host's trust file: what it knows without asking the store.

use super::identity::Unlock;
use super::unlock::{Unlocked, open_with, unlock_epochs};
use super::{parse_identity, same_grace};
use crate::error::{Error, Kind, Result};
use crate::io::durable;
use crate::model::{Name, VaultId};
use crate::repository::layout;
use crate::repository::secrets::{Epoch, VaultSecret, identity_text};
use crate::repository::vault::{FORMAT, Vault, read_header};
use crate::storage::ObjectStore;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;
use zeroize::Zeroizing;

/// The host's trust file.
#[derive(Serialize, Deserialize)]
struct TrustFile {
    format: u32,
    vault: VaultId,
    grace_seconds: i64,
    vault_secret: Zeroizing<String>,
    epochs: Vec<TrustedEpoch>,
}

#[derive(Serialize, Deserialize)]
struct TrustedEpoch {
    epoch: u32,
    recipient: String,
    catalog_identity: Zeroizing<String>,
}

/// Opens a vault on the host, by its trust file; `unlock` adds the identities that open packs.
///
/// # Errors
/// [`Kind::Key`] when neither is there, [`Kind::Refused`] when the store holds another vault than the pinned one.
pub async fn open_on_host(
    store: Arc<dyn ObjectStore>,
    host: &Name,
    trust: &Path,
    unlock: Option<&Unlock>,
) -> Result<Vault> {
    let text = match std::fs::read_to_string(trust) {
        Ok(text) => Zeroizing::new(text),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let unlock = unlock.ok_or_else(|| {
                Error::new(Kind::Key, "this host does not know the vault's secret").at(trust.display()).hint(
                    "Run `backstay init` for a new vault, or give an identity of the existing one with --identity.",
                )
            })?;
            let vault = open_with(store, host, unlock).await?;
            write_trust(trust, &vault)?;
            return Ok(vault);
        }
        Err(e) => return Err(Error::io("the trust file cannot be read", trust, e).kind(Kind::Key)),
    };
    let damaged = |what: &str| {
        Error::new(Kind::Key, format!("the trust file cannot be used: {what}"))
            .at(trust.display())
            .hint("Move it away and give an identity with --identity to make it anew.")
    };
    let file: TrustFile =
        serde_json::from_str(&text).map_err(|e| damaged(&format!("line {}, column {}", e.line(), e.column())))?;
    let header = read_header(&*store, host).await?;
    if header.vault != file.vault {
        return Err(Error::new(
            Kind::Refused,
            "the store holds another vault under this host's name than the one this host trusts",
        )
        .at(format!("{}/{host}", store.url()))
        .hint(format!(
            "Expected vault {}. If the repository was moved on purpose, move {} away and give an identity.",
            file.vault,
            trust.display()
        )));
    }
    same_grace(&header, file.grace_seconds)?;
    let secret = VaultSecret::from_hex(&file.vault_secret)?;
    let mut epochs = Vec::new();
    for e in &file.epochs {
        let recipient = e.recipient.parse().map_err(|_| damaged("a recipient is not an age recipient"))?;
        epochs.push(Epoch {
            number: e.epoch,
            recipient,
            catalog: parse_identity(&e.catalog_identity)?,
            identity: None,
        });
    }
    let mut locked = None;
    if let Some(unlock) = unlock {
        let Unlocked { secret: other, epochs: opened, newest } = unlock_epochs(&*store, host, &header, unlock).await?;
        let newest = epochs.iter().map(|e| e.number).max().unwrap_or(0).max(newest);
        locked = (!opened.iter().any(|e| e.number == newest)).then_some(newest);
        if other.fingerprint() != secret.fingerprint() {
            return Err(Error::new(
                Kind::Refused,
                "the key files hold another vault secret than the one this host trusts",
            )
            .at(format!("{}/{host}", store.url())));
        }
        for e in opened {
            match epochs.iter_mut().find(|known| known.number == e.number) {
                Some(known) if known.recipient.to_string() == e.recipient.to_string() => known.identity = e.identity,
                Some(_) => {
                    return Err(Error::new(
                        Kind::Refused,
                        format!(
                            "key epoch {} in the store has another recipient than the one this host trusts",
                            e.number
                        ),
                    )
                    .at(layout::epoch(e.number)));
                }
                // A rotation elsewhere: the person who runs this command vouches for it with the identity.
                None => epochs.push(e),
            }
        }
    }
    let mut vault = Vault::assemble(store, host.clone(), header, secret, epochs);
    vault.locked = locked;
    Ok(vault)
}

/// Writes the trust file anew, for us alone. At any moment there is the old one or the new one: without it the host can
/// neither back up nor read.
pub fn write_trust(path: &Path, vault: &Vault) -> Result<()> {
    let file = TrustFile {
        format: FORMAT,
        vault: vault.header.vault,
        grace_seconds: vault.header.grace_seconds,
        vault_secret: vault.secret.to_hex(),
        epochs: vault
            .epochs()
            .iter()
            .map(|e| TrustedEpoch {
                epoch: e.number,
                recipient: e.recipient.to_string(),
                catalog_identity: identity_text(&e.catalog),
            })
            .collect(),
    };
    let text = Zeroizing::new(
        serde_json::to_string_pretty(&file)
            .map_err(|e| Error::new(Kind::Internal, "encoding the trust file failed").because(e))?,
    );
    let parent =
        path.parent().ok_or_else(|| Error::new(Kind::Config, "the trust file has no folder").at(path.display()))?;
    durable::make_folder(parent, 0o755).map_err(|e| Error::io("cannot make the state directory", parent, e))?;
    durable::replace(path, text.as_bytes(), 0o600).map_err(|e| Error::io("cannot write the trust file", path, e))
}
