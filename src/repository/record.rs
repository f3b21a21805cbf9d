//! Authenticated records: manifests, segments, canaries, marks.
//!
//! A record's plaintext is one line of 64 hex digits, the code, and then a zstd frame of the body. The code
//! is the BLAKE3, keyed with the vault's record key, of
//!
//! ```text
//! backstay record 1\n VAULT-ID \n KIND \n KEY \n FRAME
//! ```
//!
//! and therefore binds the vault, the kind, the full key below the vault and every byte. It is checked before
//! the frame is decompressed. Whoever does not know the vault secret cannot make a record, nor move one to
//! another name or vault.

use super::seal::{self, OpenError};
use super::secrets::{Epoch, VaultSecret};
use crate::error::{Error, Kind, Result};
use crate::model::VaultId;
use crate::storage::MAX_OBJECT;
use age::{Identity, Recipient};

/// The largest body of a record, decompressed. Segments are cut far below this.
pub const MAX_BODY: usize = 64 * 1024 * 1024;
const CODE_LEN: usize = 65;
/// Metadata is small and read often; above this level the gain is within a few percent.
const LEVEL: i32 = 3;

/// What a record is; part of its code, so that one kind can never be taken for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// A backup's manifest.
    Manifest,
    /// A segment of an index or recipe.
    Segment,
    /// The proof object of a key epoch.
    Canary,
    /// Packs that a prune condemned.
    Condemned,
    /// A manifest that was forgotten on purpose.
    Forgotten,
    /// A pack that a check found damaged.
    Damaged,
    /// A hold set or released.
    Hold,
    /// A suspiciously small backup that a person looked at.
    Acknowledged,
    /// An identity that was proven.
    Proven,
    /// How a drill of a backup ended.
    Drill,
    /// The name and role of a key file.
    KeyLabel,
    /// A machine that took the host's name over.
    Claim,
}

impl RecordKind {
    fn name(self) -> &'static str {
        match self {
            RecordKind::Manifest => "manifest",
            RecordKind::Segment => "segment",
            RecordKind::Canary => "canary",
            RecordKind::Condemned => "condemned",
            RecordKind::Forgotten => "forgotten",
            RecordKind::Damaged => "damaged",
            RecordKind::Hold => "hold",
            RecordKind::Acknowledged => "acknowledged",
            RecordKind::Proven => "proven",
            RecordKind::Drill => "drill",
            RecordKind::KeyLabel => "key-label",
            RecordKind::Claim => "claim",
        }
    }
}

/// Who may read a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// The epoch's identity and the catalog identity that every host of the vault holds.
    Catalog,
    /// The epoch's identity only.
    EpochOnly,
}

fn code(secret: &VaultSecret, vault: VaultId, kind: RecordKind, key: &str, frame: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(secret.record_key());
    hasher.update(format!("backstay record 1\n{vault}\n{}\n{key}\n", kind.name()).as_bytes());
    hasher.update(frame);
    hasher.finalize()
}

/// Seals a record for the key that it will be stored under.
///
/// # Errors
/// [`Kind::Internal`] when compression or sealing fails.
pub fn encode(
    secret: &VaultSecret,
    vault: VaultId,
    epoch: &Epoch,
    audience: Audience,
    kind: RecordKind,
    key: &str,
    body: &[u8],
) -> Result<Vec<u8>> {
    let too_large = || {
        Error::new(Kind::Internal, format!("the {} is larger than any reader would take", kind.name()))
            .at(key)
            .hint("A single file of several hundred gigabytes does this: back it up as a source of its own kind, or split it.")
    };
    if body.len() > MAX_BODY {
        return Err(too_large());
    }
    let frame = zstd::bulk::compress(body, LEVEL)
        .map_err(|e| Error::new(Kind::Internal, "compressing a record failed").because(e))?;
    let mut plain = code(secret, vault, kind, key, &frame).to_hex().as_bytes().to_vec();
    plain.push(b'\n');
    plain.extend_from_slice(&frame);
    let catalog = epoch.catalog.to_public();
    let mut recipients: Vec<&dyn Recipient> = vec![&epoch.recipient];
    if audience == Audience::Catalog {
        recipients.push(&catalog);
    }
    let sealed = seal::seal(recipients.into_iter(), &plain)?;
    if sealed.len() as u64 > MAX_OBJECT {
        return Err(too_large());
    }
    Ok(sealed)
}

/// Opens a record and returns its body; nothing is returned that was not written for exactly this vault,
/// kind and key by somebody who knows the vault secret.
///
/// # Errors
/// [`Kind::Key`] when no identity at hand opens it, [`Kind::Damaged`] for everything else.
pub fn decode(
    secret: &VaultSecret,
    vault: VaultId,
    epochs: &[Epoch],
    kind: RecordKind,
    key: &str,
    sealed: &[u8],
) -> Result<Vec<u8>> {
    let identities = epochs.iter().rev().flat_map(|e| {
        std::iter::once(&e.catalog as &dyn Identity).chain(e.identity.iter().map(|i| i as &dyn Identity))
    });
    let plain = seal::open(identities, sealed, MAX_BODY + CODE_LEN).map_err(|e| match e {
        OpenError::NoMatchingKey => Error::new(Kind::Key, format!("no key at hand opens this {}", kind.name()))
            .at(key)
            .hint("It was sealed in a key epoch that this host does not know: give an identity with --identity."),
        OpenError::Damaged(why) => Error::damaged(key, format!("the {} cannot be opened", kind.name())).because(why),
    })?;
    let forged = || {
        Error::damaged(
            key,
            format!("the {} is not authentic: it was not written for this vault and this name", kind.name()),
        )
    };
    if plain.len() < CODE_LEN || plain[CODE_LEN - 1] != b'\n' {
        return Err(forged());
    }
    let (head, frame) = plain.split_at(CODE_LEN);
    let claimed = std::str::from_utf8(&head[..CODE_LEN - 1])
        .ok()
        .and_then(|h| blake3::Hash::from_hex(h).ok())
        .ok_or_else(forged)?;
    // blake3::Hash compares in constant time.
    if claimed != code(secret, vault, kind, key, frame) {
        return Err(forged());
    }
    decompress(frame, MAX_BODY)
        .map_err(|why| Error::damaged(key, format!("the {} cannot be decompressed", kind.name())).because(why))
}

/// Decompresses one frame of at most `limit` bytes, whatever the frame claims.
pub fn decompress(frame: &[u8], limit: usize) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut body = Vec::new();
    zstd::stream::read::Decoder::with_buffer(frame)?.take(limit as u64 + 1).read_to_end(&mut body)?;
    if body.len() > limit {
        return Err(std::io::Error::other("longer than it may be"));
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_bound_to_vault_kind_key_and_bytes() {
        let secret = VaultSecret::random();
        let vault = VaultId([1; 16]);
        let epochs = [Epoch::generate(1)];
        let sealed =
            encode(&secret, vault, &epochs[0], Audience::Catalog, RecordKind::Manifest, "backups/p/x", b"body")
                .unwrap();
        let read = |s: &VaultSecret, v, k, key: &str, bytes: &[u8]| decode(s, v, &epochs, k, key, bytes);
        assert_eq!(read(&secret, vault, RecordKind::Manifest, "backups/p/x", &sealed).unwrap(), b"body");
        for (what, result) in [
            ("vault", read(&secret, VaultId([2; 16]), RecordKind::Manifest, "backups/p/x", &sealed)),
            ("kind", read(&secret, vault, RecordKind::Segment, "backups/p/x", &sealed)),
            ("key", read(&secret, vault, RecordKind::Manifest, "backups/p/y", &sealed)),
            ("author", read(&VaultSecret::random(), vault, RecordKind::Manifest, "backups/p/x", &sealed)),
            ("length", read(&secret, vault, RecordKind::Manifest, "backups/p/x", &sealed[..sealed.len() - 1])),
        ] {
            assert_eq!(result.unwrap_err().kind, Kind::Damaged, "{what}");
        }
    }

    #[test]
    fn the_catalog_reads_manifests_and_not_canaries() {
        let secret = VaultSecret::random();
        let vault = VaultId([1; 16]);
        let full = Epoch::generate(1);
        let sealed_host = [full.without_identity()];
        let open = |audience| {
            let sealed = encode(&secret, vault, &full, audience, RecordKind::Canary, "k", b"b").unwrap();
            decode(&secret, vault, &sealed_host, RecordKind::Canary, "k", &sealed)
        };
        assert!(open(Audience::Catalog).is_ok());
        assert_eq!(open(Audience::EpochOnly).unwrap_err().kind, Kind::Key);
    }
}
