//! What people and hosts open key files with: identity files and passphrases.

use super::keyfile::{MAX_KEY_FILE, WORK_FACTOR};
use super::parse_identity;
use crate::error::{Error, Kind, Result};
use crate::model::Name;
use crate::repository::seal::{self, OpenError};
use crate::repository::secrets::{VaultSecret, identity_text};
use crate::repository::vault::VaultHeader;
use age::secrecy::SecretString;
use age::x25519;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use zeroize::Zeroizing;

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

/// Writes a file for us alone, never over an existing one. Not by [`crate::io::durable`], which
/// replaces: what is there may hold the only key.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passphrase_file_that_asks_for_more_work_than_ours_do_is_refused_before_any_is_done() {
        // A terabyte of memory, if anybody tried.
        let (salt, key, code) = ("A".repeat(22), "A".repeat(43), "A".repeat(43));
        let forged = format!("age-encryption.org/v1\n-> scrypt {salt} 30\n{key}\n--- {code}\n{}", "x".repeat(64));
        let error = Unlock::Passphrase("secret".to_owned().into()).open(forged.as_bytes()).unwrap_err();
        assert!(matches!(&error, OpenError::Damaged(why) if why.contains("work")), "{error:?}");
    }
}
