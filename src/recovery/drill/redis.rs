//! The snapshot of a Redis server, written into the drill's directory, read again, and loaded by a server of our own where one
//! is installed. The live server is not asked anything.

use super::aside::Aside;
use super::tree;
use crate::error::Result;
use crate::model::BackupId;
use crate::recovery::redis::Wanted;
use crate::recovery::redis::stage::{self, Layout, Staging};
use crate::recovery::resource::{Class, Compared, Note, parse};
use async_trait::async_trait;
use serde_json::json;
use std::path::PathBuf;

/// See the module.
pub struct RedisAside {
    /// The source.
    pub source: String,
    /// The drill.
    pub id: BackupId,
    /// The directory that is made for it.
    pub directory: PathBuf,
    /// The snapshot.
    pub wanted: Wanted,
}

#[async_trait]
impl Aside for RedisAside {
    fn label(&self) -> String {
        format!("redis {}", self.source)
    }

    fn class(&self) -> Class {
        Class::Redis
    }

    async fn plan_staging(&self) -> Result<Note> {
        let name = "dump.rdb".to_owned();
        let staging = Staging {
            id: self.id.clone(),
            dir: self.directory.clone(),
            rdb: self.directory.join("staged.rdb"),
            layout: Layout::Rdb(name),
            server: None,
        };
        Ok(json!(staging))
    }

    async fn stage(&self, staging: &Note) -> Result<Note> {
        tree::make(&self.directory)?;
        Ok(json!(stage::stage(parse(staging)?, &self.wanted).await?))
    }

    async fn verify(&self, staged: &Note) -> Result<Vec<Compared>> {
        stage::verify(&parse(staged)?, &self.wanted.facts).await
    }
}
