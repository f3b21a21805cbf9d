//! Making a vault and getting into one: key files, the host's trust file, identities.
//!
//! Three kinds of holders:
//! * a **person** with a recovery identity (a file or a passphrase): opens the key files below `keys/`;
//! * the **host** with its trust file and its own identity: everything, for drills on the spot;
//! * the **sealed host** with the trust file only: backs up, lists and checks structure, opens no pack.
//!
//! The trust file is what the host knows without asking the store: vault id, vault secret, and for each epoch
//! recipient and catalog identity. A recipient is never learned from the store once it is pinned there, since
//! whoever controls the store could otherwise have the host seal to himself.

use super::layout;
use super::record::{Audience, RecordKind};
use super::seal::{self, OpenError};
use super::secrets::{Epoch, VaultSecret, identity_text};
use super::vault::{FORMAT, Vault, VaultHeader, read_header};
use crate::error::{Error, Kind, Result};
use crate::model::{Name, VaultId};
use crate::storage::{ObjectStore, PutOutcome};
use age::secrecy::SecretString;
use age::x25519;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Work factor of passphrase key files: about a second on a current machine. Fixed, so that a forged file
/// cannot ask for an hour.
const WORK_FACTOR: u8 = 18;
/// No key file is longer.
const MAX_KEY_FILE: usize = 64 * 1024;
/// The canary's content.
const CANARY: &[u8] = b"this identity opens this vault\n";

/// What a person or host opens key files with.
#[derive(Clone)]
pub enum Unlock {
    /// X25519 identities from a file, and the vault fingerprint that the file names, if it does.
    Identities(Vec<x25519::Identity>, Option<String>),
    /// A passphrase.
    Passphrase(SecretString),
}

impl Unlock {
    /// Opens a key file. Every reading of one comes through here: a forged passphrase file may not ask for more work
    /// than ours do.
    pub fn open(&self, sealed: &[u8]) -> std::result::Result<Vec<u8>, OpenError> {
        match self {
            Unlock::Identities(ids, _) => seal::open(ids.iter().map(|i| i as &dyn age::Identity), sealed, MAX_KEY_FILE),
            Unlock::Passphrase(p) => {
                let mut id = age::scrypt::Identity::new(p.clone());
                id.set_max_work_factor(WORK_FACTOR);
                seal::open(std::iter::once(&id as &dyn age::Identity), sealed, MAX_KEY_FILE)
            }
        }
    }
}

/// Whom a key file is sealed to.
pub enum KeyRecipient {
    /// An age public key.
    X25519(x25519::Recipient),
    /// A passphrase; it stands alone in its file, as age demands.
    Passphrase(SecretString),
}

/// Content of a key file: plain JSON inside, so that `age -d` alone shows what recovery needs.
#[derive(Serialize, Deserialize)]
struct KeyFile {
    format: u32,
    vault: VaultId,
    grace_seconds: i64,
    name: Name,
    epoch: u32,
    vault_secret: Zeroizing<String>,
    epoch_identity: Zeroizing<String>,
    catalog_identity: Zeroizing<String>,
    /// What earlier epochs say of this one, by their numbers; empty in the first.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    vouched: BTreeMap<u32, String>,
}

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
pub fn succession(vault: VaultId, epoch: &Epoch) -> String {
    format!("epoch {vault} {} {} {}", epoch.number, epoch.recipient, epoch.catalog.to_public())
}

fn parse_identity(text: &str) -> Result<x25519::Identity> {
    x25519::Identity::from_str(text).map_err(|e| Error::new(Kind::Key, "not an age identity").because(e))
}

/// Reads an identity file: age's own format, comments allowed.
///
/// # Errors
/// [`Kind::Key`] naming the file.
pub fn read_identity_file(path: &Path) -> Result<Unlock> {
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(|e| {
        Error::new(Kind::Key, "the identity file cannot be read")
            .at(path.display())
            .because(e)
            .hint("Give the file that `backstay init` wrote, or another recovery identity.")
    })?);
    let mut identities = Vec::new();
    let mut fingerprint = None;
    for line in text.lines().map(str::trim) {
        if let Some(f) = line.strip_prefix("# fingerprint: ") {
            fingerprint = Some(f.to_owned());
        } else if !line.is_empty() && !line.starts_with('#') {
            identities.push(parse_identity(line).map_err(|e| e.at(path.display()))?);
        }
    }
    if identities.is_empty() {
        return Err(Error::new(Kind::Key, "the file holds no identity")
            .at(path.display())
            .hint("An identity is a line that begins with AGE-SECRET-KEY-1."));
    }
    Ok(Unlock::Identities(identities, fingerprint))
}

/// Writes an identity file, mode 0600, never over an existing one.
///
/// # Errors
/// [`Kind::Refused`] when the file exists.
pub fn write_identity_file(
    path: &Path,
    identity: &x25519::Identity,
    what: &str,
    host: &Name,
    header: &VaultHeader,
    secret: &VaultSecret,
) -> Result<()> {
    let text = Zeroizing::new(format!(
        "# Backstay {what} identity of host {host}\n# vault: {}\n# fingerprint: {}\n# recipient: {}\n{}\n",
        header.vault,
        secret.fingerprint(),
        identity.to_public(),
        *identity_text(identity)
    ));
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent)
            .map_err(|e| Error::io("cannot make the folder of the identity file", parent, e))?;
    }
    write_new_private(path, text.as_bytes())
}

fn write_new_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|e| {
        if e.kind() == std::io::ErrorKind::AlreadyExists {
            Error::new(Kind::Refused, "the file exists and may hold a key")
                .at(path.display())
                .hint("Choose another file, or move this one away.")
        } else {
            Error::io("cannot write the file", path, e)
        }
    })?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|e| Error::io("cannot write the file", path, e))
}

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

    /// Writes the vault: key files, canary, and `vault.json` last, so that a vault that can be seen is whole.
    /// The trust file is the caller's next act.
    ///
    /// # Errors
    /// [`Kind::Refused`] when the host has a vault already.
    pub async fn write(
        self,
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
        // A kill between here and vault.json leaves key files of a vault that never was; a second init would
        // find their names taken. They open nothing, so they may be removed.
        let leftovers = crate::storage::list_all(&*store, &format!("{host}/{}", layout::KEYS)).await?;
        for object in leftovers {
            store.delete(&object.key).await?;
        }
        let vault = Vault::assemble(store.clone(), host.clone(), self.header, self.secret, vec![self.epoch]);
        for (name, role, recipient) in keys {
            write_key(&vault, &vault.epochs()[0], name, role, recipient).await?;
        }
        write_canary(&vault, &vault.epochs()[0]).await?;
        let body = serde_json::to_vec_pretty(&vault.header)
            .map_err(|e| Error::new(Kind::Internal, "encoding vault.json failed").because(e))?;
        match vault.put_raw(layout::VAULT, body).await? {
            PutOutcome::Created => Ok(vault),
            PutOutcome::Exists => Err(exists()),
        }
    }
}

/// Writes the proof object of an epoch.
pub async fn write_canary(vault: &Vault, epoch: &Epoch) -> Result<()> {
    let key = layout::canary(epoch.number);
    let sealed = super::record::encode(
        &vault.secret,
        vault.header.vault,
        epoch,
        Audience::EpochOnly,
        RecordKind::Canary,
        &key,
        CANARY,
    )?;
    vault.put_raw(&key, sealed).await?;
    Ok(())
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
    };
    let label_key = layout::key_label(epoch.number, name);
    vault.write_record(RecordKind::KeyLabel, &label_key, &label).await?;
    Ok(())
}

/// `vault.json` is plain, and races are decided by its grace time: a changed one is found here.
fn same_grace(header: &VaultHeader, pinned: i64) -> Result<()> {
    if header.grace_seconds == pinned {
        return Ok(());
    }
    Err(Error::damaged(
        layout::VAULT,
        format!("the grace time is {} s, and {pinned} s when the vault was made", header.grace_seconds),
    ))
}

/// Opens every key file that `unlock` can, and returns header, secret and epochs.
async fn unlock_epochs(
    store: &dyn ObjectStore,
    host: &Name,
    header: &VaultHeader,
    unlock: &Unlock,
) -> Result<(VaultSecret, Vec<Epoch>)> {
    let prefix = format!("{host}/{}", layout::KEYS);
    let mut secret: Option<VaultSecret> = None;
    let mut opened: Vec<(Epoch, BTreeMap<u32, String>)> = Vec::new();
    let mut damaged: Option<Error> = None;
    let mut seen = 0;
    for object in crate::storage::list_all(store, &prefix).await? {
        let rel = &object.key[host.as_str().len() + 1..];
        let Some((epoch_number, name)) =
            rel.strip_prefix(layout::KEYS).and_then(|r| r.strip_suffix(".age")).and_then(|r| r.split_once('/'))
        else {
            continue;
        };
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
        if content.vault != header.vault
            || content.name.as_str() != name
            || format!("{:04}", content.epoch) != epoch_number
        {
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
        Some(secret) => Ok((secret, epochs)),
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

/// Opens a vault with an identity alone, as on a fresh machine, and checks it against the canaries.
///
/// # Errors
/// [`Kind::Key`] when the identity does not belong to the vault.
pub async fn open_with(store: Arc<dyn ObjectStore>, host: &Name, unlock: &Unlock) -> Result<Vault> {
    let header = read_header(&*store, host).await?;
    let (secret, epochs) = unlock_epochs(&*store, host, &header, unlock).await?;
    let vault = Vault::assemble(store, host.clone(), header, secret, epochs);
    prove(&vault).await?;
    Ok(vault)
}

/// Opens the canary of the newest epoch: proof that the identity works, without touching data.
///
/// # Errors
/// [`Kind::Key`] without an identity, [`Kind::Damaged`] when the canary is not what it must be.
pub async fn prove(vault: &Vault) -> Result<()> {
    let epoch = vault.epoch()?;
    let key = layout::canary(epoch.number);
    let sealed = vault.get_raw(&key).await?.ok_or_else(|| Error::damaged(&key, "the canary is missing"))?;
    if vault.open_record(RecordKind::Canary, &key, &sealed)? != CANARY {
        return Err(Error::damaged(&key, "the canary does not sing the right song"));
    }
    Ok(())
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
    if let Some(unlock) = unlock {
        let (other, opened) = unlock_epochs(&*store, host, &header, unlock).await?;
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
    Ok(Vault::assemble(store, host.clone(), header, secret, epochs))
}

/// Writes the trust file anew: sibling, sync, rename, mode 0600.
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
    std::fs::create_dir_all(parent).map_err(|e| Error::io("cannot make the state directory", parent, e))?;
    let sibling = path.with_extension(format!("new-{:08x}", rand::random::<u32>()));
    write_new_private(&sibling, text.as_bytes())?;
    std::fs::rename(&sibling, path).map_err(|e| Error::io("cannot put the trust file in place", path, e))?;
    std::fs::File::open(parent)
        .and_then(|d| d.sync_all())
        .map_err(|e| Error::io("cannot sync the state directory", parent, e))
}
