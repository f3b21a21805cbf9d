//! The objects of a key epoch: key files, the labels beside them, the canary.

use crate::error::{Error, Kind, Result};
use crate::model::{Name, VaultId};
use crate::repository::layout;
use crate::repository::record::{self, Audience, RecordKind};
use crate::repository::seal;
use crate::repository::secrets::{Epoch, identity_text};
use crate::repository::vault::{FORMAT, Vault};
use crate::storage::PutOutcome;
use age::secrecy::SecretString;
use age::x25519;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// Work factor of passphrase key files: about a second on a current machine. Fixed, so that a forged file
/// cannot ask for an hour.
pub(super) const WORK_FACTOR: u8 = 18;
/// No key file is longer.
pub const MAX_KEY_FILE: usize = 64 * 1024;
/// The canary's content.
const CANARY: &[u8] = b"this identity opens this vault\n";

/// Whom a key file is sealed to.
pub enum KeyRecipient {
    /// An age public key.
    X25519(x25519::Recipient),
    /// A passphrase; it stands alone in its file, as age demands.
    Passphrase(SecretString),
}

/// Content of a key file: plain JSON inside, so that `age -d` alone shows what recovery needs.
#[derive(Serialize, Deserialize)]
pub(super) struct KeyFile {
    pub(super) format: u32,
    pub(super) vault: VaultId,
    pub(super) grace_seconds: i64,
    pub(super) name: Name,
    pub(super) epoch: u32,
    pub(super) vault_secret: Zeroizing<String>,
    pub(super) epoch_identity: Zeroizing<String>,
    pub(super) catalog_identity: Zeroizing<String>,
    /// What earlier epochs say of this one, by their numbers; empty in the first.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) vouched: BTreeMap<u32, String>,
}

/// Name and role of a key, in a record beside its key file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeyLabel {
    /// Name of the key.
    pub name: Name,
    /// `host` or `recovery`.
    pub role: String,
    /// The age recipient, or `passphrase`.
    pub recipient: String,
    /// When it was added, by the store's clock.
    pub added: jiff::Timestamp,
    /// Made with the epoch's identity: a host that knows the vault secret only cannot add a recipient of its own,
    /// which the next rotation would seal to.
    pub vouched: String,
    /// BLAKE3 of the key file, so that damage is seen by those whom it does not open to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

impl KeyLabel {
    fn statement(vault: VaultId, epoch: u32, name: &Name, role: &str, recipient: &str) -> String {
        format!("key {vault} {epoch} {name} {role} {recipient}")
    }

    /// Whether a holder of the epoch's identity made this label.
    pub fn is_vouched(&self, vault: VaultId, epoch: &Epoch) -> bool {
        epoch
            .vouch(&Self::statement(vault, epoch.number, &self.name, &self.role, &self.recipient))
            .is_some_and(|v| v == self.vouched)
    }
}

/// What the epoch before says of an epoch.
pub(super) fn succession(vault: VaultId, epoch: &Epoch) -> String {
    format!("epoch {vault} {} {} {}", epoch.number, epoch.recipient, epoch.catalog.to_public())
}

/// Seals one epoch's secrets to one recipient and stores them, with the label beside them.
///
/// # Errors
/// [`Kind::Refused`] when the name is taken, [`Kind::Key`] when the epoch's identity is not at hand.
pub async fn write_key(vault: &Vault, epoch: &Epoch, name: &Name, role: &str, recipient: &KeyRecipient) -> Result<()> {
    let identity = epoch.identity.as_ref().ok_or_else(|| {
        Error::new(Kind::Key, "adding a key needs an identity of this vault").hint("Give one with --identity.")
    })?;
    let says = |e: &Epoch| Some((e.number, e.vouch(&succession(vault.header.vault, epoch))?));
    let content = KeyFile {
        vouched: vault.epochs().iter().filter(|e| e.number < epoch.number).filter_map(says).collect(),
        format: FORMAT,
        vault: vault.header.vault,
        grace_seconds: vault.header.grace_seconds,
        name: name.clone(),
        epoch: epoch.number,
        vault_secret: vault.secret.to_hex(),
        epoch_identity: identity_text(identity),
        catalog_identity: identity_text(&epoch.catalog),
    };
    let plain = Zeroizing::new(
        serde_json::to_vec_pretty(&content)
            .map_err(|e| Error::new(Kind::Internal, "encoding a key file failed").because(e))?,
    );
    let (sealed, recipient_text) = match recipient {
        KeyRecipient::X25519(r) => (seal::seal(std::iter::once(r as &dyn age::Recipient), &plain)?, r.to_string()),
        KeyRecipient::Passphrase(p) => {
            let mut r = age::scrypt::Recipient::new(p.clone());
            r.set_work_factor(WORK_FACTOR);
            (seal::seal(std::iter::once(&r as &dyn age::Recipient), &plain)?, "passphrase".to_owned())
        }
    };
    let key = layout::key_file(epoch.number, name);
    let file = Some(blake3::hash(&sealed).to_hex().to_string());
    if vault.put_raw(&key, sealed).await? == PutOutcome::Exists {
        return Err(Error::new(Kind::Refused, format!("there is a key named {name} already"))
            .at(key)
            .hint("Choose another name, or remove that key first."));
    }
    let statement = KeyLabel::statement(vault.header.vault, epoch.number, name, role, &recipient_text);
    let label = KeyLabel {
        vouched: epoch.vouch(&statement).unwrap_or_default(),
        name: name.clone(),
        role: role.to_owned(),
        recipient: recipient_text,
        added: vault.now().await?,
        file,
    };
    let label_key = layout::key_label(epoch.number, name);
    vault.write_record(RecordKind::KeyLabel, &label_key, &label).await?;
    Ok(())
}

/// Writes the proof object of an epoch; whether the epoch's number was free.
pub async fn write_canary(vault: &Vault, epoch: &Epoch) -> Result<PutOutcome> {
    let key = layout::canary(epoch.number);
    let sealed = record::encode(
        &vault.secret,
        vault.header.vault,
        epoch,
        Audience::EpochOnly,
        RecordKind::Canary,
        &key,
        CANARY,
    )?;
    vault.put_raw(&key, sealed).await
}

/// Opens the canary of the newest epoch: proof that the identity works, without touching data.
///
/// # Errors
/// [`Kind::Key`] without an identity, [`Kind::Damaged`] when the canary is not what it must be.
pub async fn prove(vault: &Vault) -> Result<()> {
    prove_epoch(vault, vault.epoch()?.number).await
}

/// The same for any epoch.
pub async fn prove_epoch(vault: &Vault, number: u32) -> Result<()> {
    let key = layout::canary(number);
    let sealed = vault.get_raw(&key).await?.ok_or_else(|| Error::damaged(&key, "the canary is missing"))?;
    if vault.open_record(RecordKind::Canary, &key, &sealed)? != CANARY {
        return Err(Error::damaged(&key, "the canary does not sing the right song"));
    }
    Ok(())
}
