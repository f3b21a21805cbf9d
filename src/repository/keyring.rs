//! Changing who can open a vault: adding, removing, rotating, exporting keys.
//!
//! No pack is ever rewritten. Adding a key adds one small file to each epoch whose identity is at hand. Removing
//! one deletes its files and begins a new epoch: what is stored from then on is sealed to a key that the removed
//! one never saw. What it could read before it may have copied, and that cannot be taken back.

use super::access::{KeyLabel, KeyRecipient, Unlock, prove_epoch, write_canary, write_key};
use super::layout;
use super::record::RecordKind;
use super::secrets::Epoch;
use super::vault::{Vault, sealed_host};
use crate::error::{Error, Kind, Result};
use crate::model::{BackupId, Name};
use crate::storage::PutOutcome;
use age::secrecy::SecretString;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What is in the object by which somebody says that he begins an epoch.
const BEGUN: &[u8] = b"A rotation of keys is under way here, or was killed.\n";

/// One key over all its epochs.
#[derive(Clone, Debug)]
pub struct Key {
    /// Name, role and recipient.
    pub label: KeyLabel,
    /// The epochs that it opens.
    pub epochs: Vec<u32>,
}

/// Key files as `(epoch, name, key)`.
async fn files(vault: &Vault) -> Result<Vec<(u32, Name, String)>> {
    let mut out = Vec::new();
    for object in vault.list(layout::KEYS).await? {
        if let Some((epoch, name)) = layout::parse_key_file(&object.key) {
            out.push((epoch, name, object.key));
        }
    }
    Ok(out)
}

/// All keys by name.
pub async fn list(vault: &Vault) -> Result<Vec<Key>> {
    let mut keys: BTreeMap<Name, Key> = BTreeMap::new();
    for (epoch, name, _) in files(vault).await? {
        let label_key = layout::key_label(epoch, &name);
        let label: Option<KeyLabel> = match vault.read_record(RecordKind::KeyLabel, &label_key).await {
            // A label of an epoch that is not known here.
            Err(e) if e.kind == Kind::Key => None,
            other => other?,
        };
        let unknown = || KeyLabel {
            vouched: String::new(),
            file: None,
            name: name.clone(),
            role: "unknown".into(),
            recipient: "unknown".into(),
            added: jiff::Timestamp::UNIX_EPOCH,
        };
        let key = keys.entry(name.clone()).or_insert_with(|| Key { label: unknown(), epochs: Vec::new() });
        key.epochs.push(epoch);
        if let Some(label) = label {
            key.label = label;
        }
    }
    Ok(keys.into_values().collect())
}

/// Makes sure that packs can be opened, before anything is looked for in them.
///
/// # Errors
/// [`Kind::Key`] on a sealed host without an identity, with the names of the keys that open the vault.
pub async fn require_identity(vault: &Vault) -> Result<()> {
    match vault.can_read_packs() {
        true => Ok(()),
        false => Err(sealed_host(&openers(vault).await)),
    }
}

/// A sentence that names the keys of the newest epoch, with a space before it, for errors that say what is needed.
/// Empty when they cannot be read: the error that it belongs to is told all the same.
pub async fn openers(vault: &Vault) -> String {
    let (Ok(newest), Ok(keys)) = (vault.epoch(), list(vault).await) else { return String::new() };
    let named: Vec<String> = keys
        .iter()
        .filter(|k| k.epochs.contains(&newest.number))
        .map(|k| format!("{} ({})", k.label.name, k.label.recipient))
        .collect();
    if named.is_empty() { String::new() } else { format!(" What is stored now opens with: {}.", named.join(", ")) }
}

/// Refuses a name that is taken, before anything is made for it.
pub async fn ensure_free(vault: &Vault, name: &Name) -> Result<()> {
    if files(vault).await?.iter().any(|(_, n, _)| n == name) {
        return Err(Error::new(Kind::Refused, format!("there is a key named {name} already"))
            .hint("Choose another name; `backstay key list` shows the taken ones."));
    }
    Ok(())
}

/// Adds a key to every epoch whose identity is at hand; the epochs.
pub async fn add(vault: &Vault, name: &Name, role: &str, recipient: &KeyRecipient) -> Result<Vec<u32>> {
    let mut added = Vec::new();
    for epoch in vault.epochs().iter().filter(|e| e.identity.is_some()) {
        write_key(vault, epoch, name, role, recipient).await?;
        added.push(epoch.number);
    }
    Ok(added)
}

/// Removes a key and begins a new epoch for the others. The new epoch comes first: should it fail, nothing is lost.
pub async fn remove(vault: &Vault, name: &Name, passphrase: Option<SecretString>) -> Result<Vault> {
    let keys = files(vault).await?;
    if !keys.iter().any(|(_, n, _)| n == name) {
        return Err(
            Error::new(Kind::NotFound, format!("there is no key {name}")).hint("`backstay key list` shows them.")
        );
    }
    let rotated = rotate(vault, Some(name), passphrase).await?;
    for object in vault.list(layout::KEYS).await? {
        let named = layout::parse_key_file(&object.key).or_else(|| layout::parse_key_label(&object.key));
        if named.is_some_and(|(_, n)| n == *name) {
            vault.delete(&object.key).await?;
        }
    }
    Ok(rotated)
}

/// Begins a new epoch for the keys of the newest one, less the one named. Gives the vault as it is then.
///
/// # Errors
/// [`Kind::Refused`] when no key would be left, when a passphrase key cannot be sealed again since its passphrase is
/// not at hand, or when somebody else begins the same epoch.
pub async fn rotate(vault: &Vault, without: Option<&Name>, passphrase: Option<SecretString>) -> Result<Vault> {
    let newest = vault.epoch()?.number;
    let keep: Vec<Key> = list(vault)
        .await?
        .into_iter()
        .filter(|k| k.epochs.contains(&newest) && Some(&k.label.name) != without)
        .collect();
    if keep.is_empty() {
        return Err(Error::new(Kind::Refused, "no key would be left that opens the vault")
            .hint("Add another one first: backstay key add NAME --out FILE."));
    }
    let mut recipients = Vec::new();
    for key in &keep {
        if !key.label.is_vouched(vault.header.vault, vault.epoch()?) {
            return Err(Error::new(Kind::Refused, format!("nobody with an identity of the vault vouches for key {}", key.label.name))
                .at(layout::key_label(newest, &key.label.name))
                .hint("Somebody who knows the vault secret only may have added it. Remove it with `backstay key remove`, and add it again if it is right."));
        }
        let recipient = match (key.label.recipient.as_str(), &passphrase) {
            ("passphrase", Some(p)) => {
                // It must be the passphrase of this very key, or its owner would be locked out.
                let file = layout::key_file(newest, &key.label.name);
                let sealed =
                    vault.get_raw(&file).await?.ok_or_else(|| Error::damaged(&file, "the key file is missing"))?;
                if Unlock::Passphrase(p.clone()).open(&sealed).is_err() {
                    return Err(Error::new(Kind::Key, format!("the passphrase is not that of key {}", key.label.name)));
                }
                KeyRecipient::Passphrase(p.clone())
            }
            ("passphrase", None) => {
                return Err(Error::new(
                    Kind::Refused,
                    format!("key {} is a passphrase, and a new epoch cannot be sealed to it without", key.label.name),
                )
                .hint("Give it with --passphrase-file, or remove that key."));
            }
            (text, _) => KeyRecipient::X25519(text.parse().map_err(|_| {
                Error::damaged(layout::key_label(newest, &key.label.name), "the label holds no age recipient")
            })?),
        };
        recipients.push((key.label.clone(), recipient));
    }
    let taken = vault.list(layout::KEYS).await?;
    let highest = taken.iter().filter_map(|o| layout::parse_epoch(&o.key)).max().unwrap_or(0).max(newest);
    let epoch = Epoch::generate(highest + 1);
    let mut epochs = vault.epochs().to_vec();
    epochs.push(epoch.clone());
    let rotated = Vault::assemble(
        vault.store().clone(),
        vault.host().clone(),
        vault.header.clone(),
        vault.secret.clone(),
        epochs,
    );
    let begun = begin_alone(&rotated, epoch.number).await?;
    if write_canary(&rotated, &epoch).await? == PutOutcome::Exists {
        let _ = rotated.delete(&begun).await;
        return Err(begun_elsewhere(epoch.number));
    }
    for (label, recipient) in &recipients {
        write_key(&rotated, &epoch, &label.name, &label.role, recipient).await?;
    }
    // Read back, as a manifest is: hosts will seal to this epoch.
    prove_epoch(&rotated, epoch.number).await?;
    // Where credentials may not delete, it stays and means nothing.
    let _ = rotated.delete(&begun).await;
    Ok(rotated)
}

/// Makes sure that nobody else begins this epoch. The canary is create-only, and there are stores that ignore that. So
/// each says first that he begins, under a name of his own, and looks afterwards: of two, the later one sees what the
/// earlier one has written. When both see each other, both stop. Gives the key of what is to be removed in the end.
async fn begin_alone(vault: &Vault, epoch: u32) -> Result<String> {
    let own = layout::begun(epoch, &BackupId::new(vault.now().await?));
    vault.put_raw(&own, BEGUN).await?;
    let seen = vault.list(&layout::epoch(epoch)).await;
    if seen.as_ref().is_ok_and(|seen| seen.iter().all(|o| o.key == own)) {
        return Ok(own);
    }
    let _ = vault.delete(&own).await;
    Err(seen.err().unwrap_or_else(|| begun_elsewhere(epoch)))
}

fn begun_elsewhere(epoch: u32) -> Error {
    Error::new(Kind::Refused, format!("somebody else began key epoch {epoch} just now"))
        .at(layout::epoch(epoch))
        .hint("Look at `backstay key list`, and try again if it still needs to be done.")
}

/// The keys of the newest epoch that `unlock` opens.
pub async fn opened_by(vault: &Vault, unlock: &Unlock) -> Result<Vec<Name>> {
    let newest = vault.epoch()?.number;
    let mut names = Vec::new();
    for (epoch, name, key) in files(vault).await? {
        if epoch != newest {
            continue;
        }
        let Some(sealed) = vault.get_raw(&key).await? else { continue };
        if unlock.open(&sealed).is_ok() {
            names.push(name);
        }
    }
    if names.is_empty() {
        return Err(Error::new(Kind::Key, "this identity opens no key file of the newest key epoch")
            .hint("It was removed, or belongs to another vault."));
    }
    Ok(names)
}

/// Makes sure that what is sealed from now on can be opened: some key file of the newest epoch is there, and `unlock`,
/// when there is one, opens one.
///
/// # Errors
/// [`Kind::Key`] with what to do.
pub async fn require_opener(vault: &Vault, unlock: Option<&Unlock>) -> Result<()> {
    let newest = vault.epoch()?.number;
    let files: Vec<_> = files(vault).await?.into_iter().filter(|(epoch, ..)| *epoch == newest).collect();
    let lost = |what: String| {
        Error::new(Kind::Key, what).at(vault.full_key(&layout::epoch(newest))).hint(
            "Bring the key files back: a copy of HOST-EPOCH-NAME.age from the `keys` folder of the state directory, or from `key export`, belongs at keys/EPOCH/NAME.age. If the host's key was removed on purpose, take `identity_file` out of the configuration.",
        )
    };
    if files.is_empty() {
        return Err(lost(format!(
            "no key file of key epoch {newest} is left, so what is stored now could never be opened"
        )));
    }
    let Some(unlock) = unlock else { return Ok(()) };
    for (_, _, key) in &files {
        if vault.get_raw(key).await?.is_some_and(|sealed| unlock.open(&sealed).is_ok()) {
            return Ok(());
        }
    }
    Err(lost(format!("this host's identity opens no key file of key epoch {newest}, to which it seals")))
}

/// Keeps a copy of the sealed key files in a folder of the host, in place of older ones: should they vanish from the
/// store, an identity still opens what is left. The copy of one that has vanished (its label is still there) stays.
pub async fn keep_copies(vault: &Vault, folder: &Path) -> Result<()> {
    let failed = |e| Error::io("the copies of the key files cannot be kept", folder, e);
    let fresh = folder.with_extension("new");
    let remove = |path: &Path| match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(failed(e)),
        _ => Ok(()),
    };
    remove(&fresh)?;
    export(vault, &fresh).await?;
    for object in vault.list(layout::KEYS).await? {
        let Some((epoch, name)) = layout::parse_key_label(&object.key) else { continue };
        let copy = copy_name(vault, epoch, &name);
        if !fresh.join(&copy).exists() && folder.join(&copy).exists() {
            std::fs::copy(folder.join(&copy), fresh.join(&copy)).map_err(failed)?;
        }
    }
    remove(folder)?;
    std::fs::rename(&fresh, folder).map_err(failed)
}

fn copy_name(vault: &Vault, epoch: u32, name: &Name) -> String {
    format!("{}-{epoch:04}-{name}.age", vault.host())
}

/// Copies the sealed key files into a directory, which must be new or empty.
pub async fn export(vault: &Vault, directory: &Path) -> Result<Vec<PathBuf>> {
    let place = |e: Error| e.kind(Kind::Usage).hint("Give a directory that this user may write to and that has room.");
    std::fs::create_dir_all(directory).map_err(|e| place(Error::io("the directory cannot be made", directory, e)))?;
    let mut written = Vec::new();
    for (epoch, name, key) in files(vault).await? {
        let sealed = vault.get_raw(&key).await?.ok_or_else(|| Error::damaged(&key, "the key file is missing"))?;
        let path = directory.join(copy_name(vault, epoch, &name));
        if path.exists() {
            return Err(Error::new(Kind::Refused, "the file exists")
                .at(path.display())
                .hint("Export into an empty directory."));
        }
        std::fs::write(&path, &sealed).map_err(|e| place(Error::io("the key file cannot be written", &path, e)))?;
        written.push(path);
    }
    Ok(written)
}
