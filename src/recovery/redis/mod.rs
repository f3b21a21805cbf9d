//! Restoring a Redis server: an RDB beside the live data, verified, and put in place while the server is stopped.
//!
//! [`target`] looks at the server, [`stage`] writes and compares, [`scratch`] has a server of its own load it,
//! [`files`] are the renames, [`swap`] stops the server around them.
//!
//! A server that keeps an append-only file does not look at its RDB when it starts. It gets one that begins with the
//! RDB: since Redis 7 a directory with a manifest that names it as base, before that a file that consists of it.

pub mod files;
pub mod scratch;
pub mod stage;
pub mod swap;
pub mod target;

use super::resource::{Class, Compared, Findings, Note, Previous, Resource};
use crate::error::{Error, Kind, Result};
use crate::host::docker::Docker;
use crate::host::service::{Contained, Finishing, Service, Unit};
use crate::model::BackupId;
use crate::repository::manifest::{Artifact, SourceRecord};
use crate::repository::reader::Reader;
use crate::sources::redis::facts::RedisFacts;
use crate::sources::redis::{RDB, RedisSource};
use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use tokio::sync::mpsc;

/// What is restored: part of a backup.
pub struct Wanted {
    /// Reads the repository; only staging needs it.
    pub reader: Option<Reader>,
    /// The snapshot.
    pub artifact: Artifact,
    /// What is known of it.
    pub facts: RedisFacts,
}

impl Wanted {
    /// From the record of a source.
    ///
    /// # Errors
    /// When the record is none of a Redis server.
    pub fn new(reader: Option<Reader>, record: &SourceRecord) -> Result<Self> {
        let artifact = super::select::artifact(record, Some(RDB))?.clone();
        let facts = record.facts.get("redis").cloned().unwrap_or_default();
        let facts = serde_json::from_value(facts).map_err(|e| {
            Error::new(Kind::Damaged, format!("the facts of source {} cannot be read", record.name)).because(e)
        })?;
        Ok(Wanted { reader, artifact, facts })
    }

    /// The snapshot's bytes.
    pub fn stream(&self) -> Result<mpsc::Receiver<Result<Bytes>>> {
        let reader = self.reader.as_ref();
        let reader = reader.ok_or_else(|| Error::new(Kind::Internal, "a restore without a backup cannot stage"))?;
        Ok(reader.stream(&self.artifact, |_| true))
    }
}

/// A server that is restored.
pub struct RedisResource {
    name: String,
    id: BackupId,
    source: RedisSource,
    service: Option<Arc<dyn Service>>,
    /// Missing when a crash is being cleaned up on a host without an identity.
    wanted: Option<Wanted>,
}

impl RedisResource {
    /// A source of the configuration. Without a service the server is stopped and started by hand.
    pub fn new(
        name: impl Into<String>,
        id: BackupId,
        source: RedisSource,
        service: Option<Arc<dyn Service>>,
        wanted: Option<Wanted>,
    ) -> Self {
        // An undo that starts the server comes right after a stop that was given up.
        RedisResource { name: name.into(), id, source, service: service.map(Finishing::of), wanted }
    }

    fn wanted(&self) -> Result<&Wanted> {
        self.wanted.as_ref().ok_or_else(|| Error::new(Kind::Internal, "this needs the backup and was made without it"))
    }
}

/// What stops and starts the server of a source.
pub async fn service_of(source: &RedisSource) -> Result<Option<Arc<dyn Service>>> {
    Ok(match (&source.unit, &source.container) {
        (Some(unit), _) => Some(Arc::new(Unit(unit.clone()))),
        (None, Some(reference)) => {
            Some(Arc::new(Contained { docker: Docker::connect().await?, reference: reference.clone() }))
        }
        (None, None) => None,
    })
}

fn note(value: &impl Serialize) -> Result<Note> {
    serde_json::to_value(value).map_err(|e| Error::new(Kind::Internal, "a note cannot be written").because(e))
}

fn of<T: DeserializeOwned>(note: &Note) -> Result<T> {
    serde_json::from_value(note.clone())
        .map_err(|e| Error::new(Kind::Restore, "the journal of the restore cannot be understood").because(e))
}

#[async_trait]
impl Resource for RedisResource {
    fn label(&self) -> String {
        format!("redis {}", self.name)
    }

    fn class(&self) -> Class {
        Class::Redis
    }

    async fn preflight(&self) -> Result<Findings> {
        let wanted = self.wanted()?;
        let mut found = target::look(&self.source, self.service.as_deref(), &wanted.facts).await?.findings(wanted)?;
        if self.service.is_none() {
            found.warnings.push("nothing starts this server: start it by hand when its data is in place".to_owned());
        }
        Ok(found)
    }

    async fn plan_staging(&self) -> Result<Note> {
        let facts = &self.wanted()?.facts;
        let target = target::look(&self.source, self.service.as_deref(), facts).await?;
        note(&stage::Staging::plan(&target, &self.id))
    }

    async fn stage(&self, staging: &Note) -> Result<Note> {
        note(&stage::stage(of(staging)?, self.wanted()?).await?)
    }

    async fn verify(&self, staged: &Note) -> Result<Vec<Compared>> {
        stage::verify(&of(staged)?, &self.wanted()?.facts).await
    }

    async fn unstage(&self, staging: &Note) -> Result<()> {
        of::<stage::Staging>(staging)?.remove()
    }

    async fn plan_swap(&self, staged: &Note) -> Result<Note> {
        note(&swap::Swap::plan(&of(staged)?, self.service.as_deref()).await?)
    }

    async fn swap(&self, swap: &Note) -> Result<()> {
        of::<swap::Swap>(swap)?.apply(&self.source, self.service.as_deref()).await
    }

    async fn unswap(&self, swap: &Note) -> Result<()> {
        of::<swap::Swap>(swap)?.undo(&self.source, self.service.as_deref()).await
    }

    async fn previous(&self, swap: &Note) -> Result<Vec<Previous>> {
        Ok(of::<swap::Swap>(swap)?.previous()?.into_iter().collect())
    }

    async fn drop_previous(&self, swap: &Note) -> Result<()> {
        of::<swap::Swap>(swap)?.drop_previous()
    }
}
