//! Create-only writes on servers that may ignore the condition.
//!
//! Some S3 servers accept `If-None-Match: *` and overwrite all the same (garage 2.5 does). [`CreateOnly`] finds
//! out by a probe, once per store, and replaces the condition by look, write, read back, compare where it is
//! ignored.
//!
//! Why the replacement is safe for what Backstay writes: packs and metadata are named by their content, so two
//! writers of one key write the same bytes; manifests and records have random names, so no two writers meet. Who
//! needs one key for himself (a key epoch, a claim on a host's name) does not rely on the answer: he says under a
//! random name that he begins, or reads back. `vault.json` is written by `init`, which an operator runs once.
//!
//! What it cannot do: two processes that create one key with different bytes at the same moment may both be told
//! `Created`, and the later bytes stay. Within one process this cannot happen: writers of one key take turns.
//! And it cannot stop anybody else with write access from overwriting; on such a server nothing can.

use super::{DeleteOutcome, ErrorKind, ObjectInfo, ObjectStore, Page, PutMode, PutOutcome, Result, StorageError};
use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{Mutex, OnceCell};

/// The name of the probe object, next to what is being written.
const PROBE: &str = "probe";

const FIRST: &[u8] = b"Backstay writes this object to find out whether the server keeps what exists.\n";
const SECOND: &[u8] = b"The server replaced an object although it was asked not to.\n";

/// How long a remembered verdict counts. A server may be replaced behind its address.
const REMEMBERED: jiff::SignedDuration = jiff::SignedDuration::from_hours(7 * 24);

/// How many locks the writers of all keys share.
const TURNS: usize = 64;

/// What a server does with a conditional write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Conditional {
    /// It refuses to overwrite.
    Enforced,
    /// It overwrites in spite of the condition.
    Ignored,
}

/// One line of the file of verdicts.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Verdict {
    conditional: Conditional,
    checked: Timestamp,
}

/// A store whose `put` with [`PutMode::IfAbsent`] can be relied upon.
#[derive(Debug)]
pub struct CreateOnly {
    inner: Arc<dyn ObjectStore>,
    identity: String,
    remember: Option<PathBuf>,
    verdict: OnceCell<Conditional>,
    turns: Vec<Mutex<()>>,
    hasher: RandomState,
}

impl CreateOnly {
    /// Wraps a store whose behaviour is not known. The probe is made by the first conditional write.
    ///
    /// `identity` names the server and the bucket in the file `remember`: the URL alone is not enough, because
    /// `s3://bucket` may live on any endpoint.
    pub fn new(inner: Arc<dyn ObjectStore>, identity: impl Into<String>, remember: Option<&Path>) -> Self {
        CreateOnly {
            inner,
            identity: identity.into(),
            remember: remember.map(Path::to_path_buf),
            verdict: OnceCell::new(),
            turns: (0..TURNS).map(|_| Mutex::new(())).collect(),
            hasher: RandomState::new(),
        }
    }

    /// Wraps a store whose behaviour is known; nothing is probed.
    pub fn known(inner: Arc<dyn ObjectStore>, conditional: Conditional) -> Self {
        let store = Self::new(inner, "", None);
        CreateOnly { verdict: OnceCell::new_with(Some(conditional)), ..store }
    }

    /// What the server does, if it is known yet.
    pub fn conditional(&self) -> Option<Conditional> {
        self.verdict.get().copied()
    }

    /// Finds out what the server does, with the object `probe` (a key of the caller's) as the test object, unless
    /// that is known or remembered.
    ///
    /// # Errors
    /// Those of `put`.
    pub async fn probe(&self, probe: &str) -> Result<Conditional> {
        let verdict = self.verdict.get_or_try_init(|| async {
            if let Some(remembered) = self.recall() {
                return Ok(remembered);
            }
            let conditional = self.ask(probe).await?;
            self.write_down(conditional);
            Ok(conditional)
        });
        verdict.await.copied()
    }

    /// Creates an object twice. The second body differs from the first, so that a retry below this store, which
    /// takes an existing object with the same bytes for its own, cannot blur the answer.
    async fn ask(&self, probe: &str) -> Result<Conditional> {
        for body in [FIRST, SECOND] {
            let outcome = self.inner.put(probe, Bytes::from_static(body), PutMode::IfAbsent).await?;
            if outcome == PutOutcome::Exists {
                return Ok(Conditional::Enforced);
            }
        }
        Ok(Conditional::Ignored)
    }

    fn verdicts(&self) -> BTreeMap<String, Verdict> {
        let text = self.remember.as_deref().and_then(|path| std::fs::read(path).ok());
        text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    fn recall(&self) -> Option<Conditional> {
        let verdict = self.verdicts().get(&self.identity).copied()?;
        let age = Timestamp::now().duration_since(verdict.checked);
        (!age.is_negative() && age < REMEMBERED).then_some(verdict.conditional)
    }

    /// Remembers a verdict. A file that cannot be written costs the next process one probe, hence no error.
    fn write_down(&self, conditional: Conditional) {
        let Some(path) = &self.remember else { return };
        let mut verdicts = self.verdicts();
        verdicts.insert(self.identity.clone(), Verdict { conditional, checked: Timestamp::now() });
        if let Ok(text) = serde_json::to_vec_pretty(&verdicts) {
            let _ = replace_file(path, &text);
        }
    }

    /// Look, write, read back, compare.
    async fn put_unconditionally(&self, key: &str, body: Bytes) -> Result<PutOutcome> {
        let turn = usize::try_from(self.hasher.hash_one(key) % TURNS as u64).unwrap_or_default();
        let _turn = self.turns[turn].lock().await;
        match self.inner.stat(key).await {
            Ok(_) => return Ok(PutOutcome::Exists),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        self.inner.put(key, body.clone(), PutMode::Blind).await?;
        match self.inner.get(key, body.len() as u64).await {
            Ok(found) if found == body => Ok(PutOutcome::Created),
            Ok(_) => Ok(PutOutcome::Exists),
            Err(error) if error.kind == ErrorKind::TooLarge => Ok(PutOutcome::Exists),
            Err(error) if error.is_not_found() => {
                Err(StorageError { kind: ErrorKind::Unavailable, op: "put", ..error })
            }
            Err(error) => Err(error),
        }
    }
}

/// Where the probe of a key goes: into the folder of its host.
fn probe_beside(key: &str) -> String {
    match key.split_once('/') {
        Some((host, _)) => format!("{host}/{PROBE}"),
        None => PROBE.to_owned(),
    }
}

/// As `io::durable`, which a store does not use; without syncing the directory, since a lost verdict is found again.
fn replace_file(path: &Path, text: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension(format!("tmp-{:016x}", rand::random::<u64>()));
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let written = file.write_all(text).and_then(|()| file.sync_all());
    let renamed = written.and_then(|()| std::fs::rename(&temporary, path));
    if renamed.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    renamed
}

#[async_trait]
impl ObjectStore for CreateOnly {
    fn url(&self) -> &str {
        self.inner.url()
    }

    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<PutOutcome> {
        super::check_key("put", self.inner.url(), key)?;
        if mode == PutMode::Blind {
            return self.inner.put(key, body, mode).await;
        }
        match self.probe(&probe_beside(key)).await? {
            Conditional::Enforced => self.inner.put(key, body, mode).await,
            Conditional::Ignored => self.put_unconditionally(key, body).await,
        }
    }

    async fn get(&self, key: &str, limit: u64) -> Result<Bytes> {
        self.inner.get(key, limit).await
    }

    async fn stat(&self, key: &str) -> Result<ObjectInfo> {
        self.inner.stat(key).await
    }

    async fn list(&self, prefix: &str, token: Option<&str>) -> Result<Page> {
        self.inner.list(prefix, token).await
    }

    async fn folders(&self, prefix: &str) -> Result<Vec<String>> {
        self.inner.folders(prefix).await
    }

    async fn delete(&self, key: &str) -> Result<DeleteOutcome> {
        self.inner.delete(key).await
    }

    async fn now(&self) -> Result<Timestamp> {
        self.inner.now().await
    }
}
