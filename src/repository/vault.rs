//! An open vault: one host's part of a repository, with the secrets that are at hand.
//!
//! Every read and write of the layers above goes through this type, so that nothing comes out of the store
//! that was not authenticated, and nothing goes in that another machine could not have read back.

use super::layout;
use super::record::{self, Audience, RecordKind};
use super::secrets::{Epoch, VaultSecret};
use crate::error::{Error, Kind, Result};
use crate::model::{Name, VaultId};
use crate::storage::{self, ObjectInfo, ObjectStore, PutOutcome};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The format that this version writes; it reads this and everything older.
pub const FORMAT: u32 = 1;

/// Requests in flight for many small objects.
const PARALLEL: usize = 16;

/// The content of `vault.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VaultHeader {
    /// Format version.
    pub format: u32,
    /// The vault's id.
    pub vault: VaultId,
    /// When it was made, by the store's clock.
    pub created: Timestamp,
    /// Seconds that must pass between condemning a pack and deleting it, and within which a run must commit.
    pub grace_seconds: i64,
}

/// The refusal where no identity is at hand. `openers` is empty, or a space and a sentence on the keys that open.
pub(super) fn sealed_host(openers: &str) -> Error {
    Error::new(Kind::Key, "this needs an identity of the vault, and this host is sealed").hint(format!(
        "Give the recovery identity with --identity FILE, or a passphrase with --passphrase-file.{openers}"
    ))
}

/// An open vault. Cheap to share: everything in it is immutable.
pub struct Vault {
    store: Arc<dyn ObjectStore>,
    host: Name,
    /// The plain header.
    pub header: VaultHeader,
    /// The secret and what is derived from it.
    pub secret: VaultSecret,
    /// The newest key epoch, when identities were given and none of them opens it: what is stored in it stays closed.
    pub locked: Option<u32>,
    epochs: Vec<Epoch>,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vault({}/{}, {:?})", self.store.url(), self.host, self.epochs)
    }
}

impl Vault {
    /// Puts together a vault whose header and secrets were read and checked; see [`super::access`].
    pub fn assemble(
        store: Arc<dyn ObjectStore>,
        host: Name,
        header: VaultHeader,
        secret: VaultSecret,
        mut epochs: Vec<Epoch>,
    ) -> Self {
        epochs.sort_by_key(|e| e.number);
        Vault { store, host, header, secret, locked: None, epochs }
    }

    /// The host whose vault this is.
    pub fn host(&self) -> &Name {
        &self.host
    }

    /// The store that it lies in.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// All epochs known here, oldest first.
    pub fn epochs(&self) -> &[Epoch] {
        &self.epochs
    }

    /// The epoch that new objects are sealed to.
    ///
    /// # Errors
    /// [`Kind::Key`] when none is known.
    pub fn epoch(&self) -> Result<&Epoch> {
        self.epochs.last().ok_or_else(|| Error::new(Kind::Key, "no key epoch of this vault is known here"))
    }

    /// True when an identity that opens packs is at hand.
    pub fn can_read_packs(&self) -> bool {
        self.epochs.iter().any(|e| e.identity.is_some())
    }

    /// Grace time of prune.
    pub fn grace(&self) -> SignedDuration {
        SignedDuration::from_secs(self.header.grace_seconds)
    }

    /// The store's full key of a key below the vault.
    pub fn full_key(&self, key: &str) -> String {
        format!("{}/{key}", self.host)
    }

    /// Reads raw bytes; a missing object is `None`.
    pub async fn get_raw(&self, key: &str) -> Result<Option<Bytes>> {
        match self.store.get(&self.full_key(key), storage::MAX_OBJECT).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.is_not_found() => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Writes raw bytes create-only.
    pub async fn put_raw(&self, key: &str, body: impl Into<Bytes>) -> Result<PutOutcome> {
        Ok(self.store.put(&self.full_key(key), body.into(), storage::PutMode::IfAbsent).await?)
    }

    /// Seals a record for `key`.
    pub fn seal_record(&self, kind: RecordKind, audience: Audience, key: &str, body: &[u8]) -> Result<Vec<u8>> {
        record::encode(&self.secret, self.header.vault, self.epoch()?, audience, kind, key, body)
    }

    /// Opens record bytes that were read from `key`.
    pub fn open_record(&self, kind: RecordKind, key: &str, sealed: &[u8]) -> Result<Vec<u8>> {
        record::decode(&self.secret, self.header.vault, &self.epochs, kind, key, sealed)
    }

    /// Seals and writes a JSON record for everyone who holds the catalog.
    pub async fn write_record<T: Serialize>(&self, kind: RecordKind, key: &str, value: &T) -> Result<PutOutcome> {
        let body =
            serde_json::to_vec(value).map_err(|e| Error::new(Kind::Internal, "encoding a record failed").because(e))?;
        self.put_raw(key, self.seal_record(kind, Audience::Catalog, key, &body)?).await
    }

    /// Reads and authenticates a JSON record; a missing one is `None`.
    pub async fn read_record<T: DeserializeOwned>(&self, kind: RecordKind, key: &str) -> Result<Option<T>> {
        let Some(sealed) = self.get_raw(key).await? else { return Ok(None) };
        let body = self.open_record(kind, key, &sealed)?;
        parse_record(key, &body).map(Some)
    }

    /// Lists a folder; keys come back relative to the vault.
    pub async fn list(&self, folder: &str) -> Result<Vec<ObjectInfo>> {
        let prefix = self.full_key(folder);
        let strip = self.host.as_str().len() + 1;
        let mut found = storage::list_all(&*self.store, &prefix).await?;
        for object in &mut found {
            object.key.drain(..strip);
        }
        Ok(found)
    }

    /// Lists folders side by side; the listings come in the given order, and only a few are in memory at once.
    pub fn lists(&self, folders: Vec<String>) -> impl Stream<Item = Result<Vec<ObjectInfo>>> + Send {
        stream::iter(folders).map(move |folder| async move { self.list(&folder).await }).buffered(PARALLEL)
    }

    /// Deletes an object; see the port for what comes back.
    pub async fn delete(&self, key: &str) -> Result<storage::DeleteOutcome> {
        Ok(self.store.delete(&self.full_key(key)).await?)
    }

    /// Deletes objects side by side, for deletes that have no order among them; what came of each, in the given order.
    /// When one fails, others may be gone.
    pub fn delete_all(&self, keys: Vec<String>) -> impl Stream<Item = Result<(String, storage::DeleteOutcome)>> + Send {
        stream::iter(keys)
            .map(move |key| async move {
                let outcome = self.delete(&key).await?;
                Ok((key, outcome))
            })
            .buffered(PARALLEL)
    }

    /// Reads the records of a folder side by side, in the order of their keys, each with its own result. One that went
    /// since it was listed is left out.
    pub async fn records<T: DeserializeOwned + Send>(
        &self,
        kind: RecordKind,
        folder: &str,
    ) -> Result<impl Stream<Item = (ObjectInfo, Result<T>)> + Send> {
        let listed = self.list(folder).await?;
        let read = stream::iter(listed).map(move |object| async move {
            let record = self.read_record::<T>(kind, &object.key).await.transpose();
            record.map(|record| (object, record))
        });
        Ok(read.buffered(PARALLEL).filter_map(|found| async { found }))
    }

    /// The store's clock.
    pub async fn now(&self) -> Result<Timestamp> {
        Ok(self.store.now().await?)
    }
}

/// Parses an authenticated JSON body.
///
/// # Errors
/// [`Kind::Newer`] when the record's own format is newer, [`Kind::Damaged`] otherwise.
pub fn parse_record<T: DeserializeOwned>(key: &str, body: &[u8]) -> Result<T> {
    #[derive(Deserialize)]
    struct Format {
        #[serde(default)]
        format: u32,
    }
    // Asked first: a newer record may parse as an older one and mean something else.
    match serde_json::from_slice::<Format>(body) {
        Ok(f) if f.format > FORMAT => Err(newer(key, f.format)),
        _ => serde_json::from_slice(body)
            .map_err(|e| Error::damaged(key, "the record is authentic and cannot be read").because(e)),
    }
}

fn newer(key: &str, format: u32) -> Error {
    Error::new(Kind::Newer, format!("the repository has format {format}, this Backstay knows format {FORMAT}"))
        .at(key)
        .hint("Install a newer Backstay on this machine; nothing was changed.")
}

/// Reads and checks `vault.json`.
///
/// # Errors
/// [`Kind::NotFound`] when there is no vault, [`Kind::Newer`] when its format is not known.
pub async fn read_header(store: &dyn ObjectStore, host: &Name) -> Result<VaultHeader> {
    let key = format!("{host}/{}", layout::VAULT);
    let bytes = store.get(&key, 64 * 1024).await.map_err(|e| match e.kind {
        storage::ErrorKind::NotFound => {
            Error::new(Kind::NotFound, format!("there is no vault of host {host} in this repository"))
                .at(store.url())
                .hint("`backstay init` makes one; `backstay list --hosts` shows which hosts have one.")
        }
        _ => e.into(),
    })?;
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let damaged = |e| Error::damaged(&key, "vault.json cannot be read").because(e);
    let format: Format = serde_json::from_slice(&bytes).map_err(damaged)?;
    if format.format != FORMAT {
        return Err(newer(&key, format.format));
    }
    serde_json::from_slice(&bytes).map_err(damaged)
}
