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

mod create;
mod identity;
mod keyfile;
mod trust;
mod unlock;

pub use create::NewVault;
pub use identity::{Unlock, read_identity_file, write_identity_file};
pub use keyfile::{KeyLabel, KeyRecipient, MAX_KEY_FILE, prove, prove_epoch, write_canary, write_key};
pub use trust::{open_on_host, write_trust};
pub use unlock::open_with;

use super::layout;
use super::vault::VaultHeader;
use crate::error::{Error, Kind, Result};
use age::x25519;
use std::str::FromStr;

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

fn parse_identity(text: &str) -> Result<x25519::Identity> {
    x25519::Identity::from_str(text).map_err(|e| {
        Error::new(Kind::Key, "not an age identity")
            .because(e)
            .hint("Give the file that `backstay init` or `key add` wrote: its identity is a line that begins with AGE-SECRET-KEY-1.")
    })
}

/// Reads a recipient that somebody gave.
///
/// # Errors
/// [`Kind::Usage`] for what is none.
pub fn parse_recipient(text: &str) -> Result<x25519::Recipient> {
    text.parse().map_err(|e: &str| {
        Error::new(Kind::Usage, "not an age recipient")
            .at(text)
            .because(e.to_owned())
            .hint("A recipient begins with age1; `age-keygen -y FILE` tells that of an identity.")
    })
}
