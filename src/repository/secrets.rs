//! The vault secret, the keys derived from it, and the key epochs.
//!
//! From the vault secret come the naming key of packs, the id key of blobs, the chunker's table and the code
//! of records, each by BLAKE3's key derivation mode with a context of its own. (The design names HKDF; BLAKE3
//! does the same job and lets `b3sum --derive-key` repeat it by hand, so that recovery needs one tool less.)

use crate::error::{Error, Kind, Result};
use crate::model::ids::{from_hex, to_hex};
use crate::model::{BlobId, PackId};
use age::secrecy::ExposeSecret;
use age::x25519;
use zeroize::Zeroizing;

/// Derivation contexts; part of the format.
pub mod context {
    /// Key that names packs and meta objects.
    pub const NAME: &str = "backstay 2026 v1 pack name";
    /// Key that identifies blobs.
    pub const BLOB: &str = "backstay 2026 v1 blob id";
    /// Key that authenticates records.
    pub const RECORD: &str = "backstay 2026 v1 record code";
    /// Seed of the chunker's table.
    pub const CUT: &str = "backstay 2026 v1 cut table";
    /// Key, from an epoch's identity, that vouches for labels and for the next epoch.
    pub const VOUCH: &str = "backstay 2026 v1 epoch vouches";
    /// What people compare: proves knowledge of nothing, names the secret.
    pub const FINGERPRINT: &str = "backstay 2026 v1 fingerprint";
}

/// The secret of a vault and the keys derived from it. Never printed.
pub struct VaultSecret {
    secret: Zeroizing<[u8; 32]>,
    name: Zeroizing<[u8; 32]>,
    blob: Zeroizing<[u8; 32]>,
    record: Zeroizing<[u8; 32]>,
}

impl VaultSecret {
    /// A fresh secret.
    pub fn random() -> Self {
        Self::from_bytes(rand::random())
    }

    fn from_bytes(secret: [u8; 32]) -> Self {
        let derive = |c: &str| Zeroizing::new(blake3::derive_key(c, &secret));
        VaultSecret {
            name: derive(context::NAME),
            blob: derive(context::BLOB),
            record: derive(context::RECORD),
            secret: Zeroizing::new(secret),
        }
    }

    /// Reads the secret from its hex form.
    ///
    /// # Errors
    /// [`Kind::Key`] without repeating the text.
    pub fn from_hex(text: &str) -> Result<Self> {
        from_hex::<32>(text)
            .map(Self::from_bytes)
            .ok_or_else(|| Error::new(Kind::Key, "the vault secret is not 64 hex digits"))
    }

    /// The hex form, for key files and the host's trust file only.
    pub fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(to_hex(&*self.secret))
    }

    /// The name of a pack with this plaintext, or of a meta object with this body.
    pub fn name_of(&self, plain: &[u8]) -> PackId {
        PackId(*blake3::keyed_hash(&self.name, plain).as_bytes())
    }

    /// The id of a blob.
    pub fn blob_id(&self, bytes: &[u8]) -> BlobId {
        let hash = blake3::keyed_hash(&self.blob, bytes);
        let mut id = [0; 16];
        id.copy_from_slice(&hash.as_bytes()[..16]);
        BlobId(id)
    }

    /// The key of record codes.
    pub fn record_key(&self) -> &[u8; 32] {
        &self.record
    }

    /// The chunker's 256 random numbers: without the secret nobody can tell where a known file is cut.
    pub fn cut_table(&self) -> [u64; 256] {
        let mut bytes = [0u8; 2048];
        blake3::Hasher::new_derive_key(context::CUT).update(&*self.secret).finalize_xof().fill(&mut bytes);
        std::array::from_fn(|i| u64::from_le_bytes(std::array::from_fn(|j| bytes[i * 8 + j])))
    }

    /// Eight hex digits twice, for people to compare: `1f3a-99c0-…`. Says nothing about the secret.
    pub fn fingerprint(&self) -> String {
        let h = to_hex(&blake3::derive_key(context::FINGERPRINT, &*self.secret)[..8]);
        format!("{}-{}-{}-{}", &h[..4], &h[4..8], &h[8..12], &h[12..])
    }
}

impl Clone for VaultSecret {
    fn clone(&self) -> Self {
        Self::from_bytes(*self.secret)
    }
}

impl std::fmt::Debug for VaultSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VaultSecret({})", self.fingerprint())
    }
}

/// One key epoch as far as it is known here.
#[derive(Clone)]
pub struct Epoch {
    /// Counts from 1.
    pub number: u32,
    /// What packs of this epoch are sealed to.
    pub recipient: x25519::Recipient,
    /// Opens manifests, segments and records; every host of the vault has it.
    pub catalog: x25519::Identity,
    /// Opens packs; absent on a sealed host.
    pub identity: Option<x25519::Identity>,
}

impl Epoch {
    /// A new epoch with fresh identities.
    pub fn generate(number: u32) -> Self {
        let identity = x25519::Identity::generate();
        Epoch {
            number,
            recipient: identity.to_public(),
            catalog: x25519::Identity::generate(),
            identity: Some(identity),
        }
    }

    /// The same epoch as a sealed host knows it.
    pub fn without_identity(&self) -> Self {
        Epoch { identity: None, ..self.clone() }
    }
}

impl Epoch {
    /// A code that only a holder of this epoch's identity can make: it vouches for what the vault secret alone must
    /// not decide, which is whom the next epoch is sealed to. `None` without the identity.
    pub fn vouch(&self, statement: &str) -> Option<String> {
        let key = Zeroizing::new(blake3::derive_key(context::VOUCH, identity_text(self.identity.as_ref()?).as_bytes()));
        Some(blake3::keyed_hash(&key, statement.as_bytes()).to_hex().to_string())
    }
}

impl std::fmt::Debug for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Epoch({}, {}, identity: {})", self.number, self.recipient, self.identity.is_some())
    }
}

/// The text of an identity, wiped when dropped.
pub fn identity_text(identity: &x25519::Identity) -> Zeroizing<String> {
    Zeroizing::new(identity.to_string().expose_secret().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_keys_are_stable_and_separate() {
        let s = VaultSecret::from_bytes([7; 32]);
        // Pinned: a change here is a change of the format.
        assert_eq!(s.fingerprint(), VaultSecret::from_hex(&s.to_hex()).unwrap().fingerprint());
        assert_eq!(s.name_of(b"x"), VaultSecret::from_bytes([7; 32]).name_of(b"x"));
        assert_ne!(s.name_of(b"x").0[..16], s.blob_id(b"x").0);
        assert_ne!(s.cut_table()[0], s.cut_table()[1]);
        assert!(!format!("{s:?}").contains("0707"));
    }
}
