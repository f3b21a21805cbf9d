//! A PostgreSQL server that is made for a drill, and the steps that start it and look at it.

use super::{cluster, container};
use crate::error::{Error, Kind, Result};
use crate::model::{BackupId, Name};
use crate::recovery::engine::{Notes, Step};
use crate::recovery::resource::{Note, Resource};
use crate::repository::manifest::Artifact;
use crate::repository::reader::Reader;
use crate::sources::postgres::address::Address;
use crate::sources::postgres::globals;
use crate::telemetry::monitor::{Event, Monitor};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A server of its own for the databases of one source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scratched {
    /// The source.
    pub source: Name,
    /// Its major version, which is the recorded one.
    pub major: u32,
    /// How it is made.
    pub how: How,
    /// The source whose roles it gets first, for programs that know nothing of roles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles_of: Option<Name>,
}

/// How a server is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// A cluster in this folder of the drill's directory.
    Cluster {
        /// The folder.
        folder: String,
        /// The user of the operating system that runs it; nothing means ourselves.
        user: Option<String>,
    },
    /// A container.
    Container {
        /// Its name.
        name: String,
        /// Its image.
        image: String,
    },
}

impl Scratched {
    /// For messages and steps.
    pub fn label(&self) -> String {
        format!("PostgreSQL {} for {}", self.major, self.source)
    }

    /// How it is reached.
    ///
    /// # Errors
    /// Never, for a directory that was checked.
    pub fn address(&self, dir: &Path) -> Result<Address> {
        match &self.how {
            How::Cluster { folder, .. } => cluster::address(&dir.join(folder)),
            How::Container { name, .. } => Ok(Address::parse("postgresql:///")?.in_container(Some(name.clone()))),
        }
    }

    /// Stops it, however much of it there is. It need not be there.
    ///
    /// # Errors
    /// When it runs on.
    pub async fn stop(&self, dir: &Path) -> Result<()> {
        match &self.how {
            How::Cluster { folder, .. } => cluster::stop(&dir.join(folder)).await,
            How::Container { name, .. } => container::stop(name).await,
        }
    }
}

/// Makes and starts one.
pub struct Start {
    /// Which.
    pub server: Scratched,
    /// The drill's directory.
    pub dir: PathBuf,
    /// The drill.
    pub id: BackupId,
}

#[async_trait]
impl Step for Start {
    fn name(&self) -> String {
        format!("start {}", self.server.label())
    }

    async fn prepare(&self, _: &Notes<'_>) -> Result<Note> {
        Ok(json!(self.server))
    }

    async fn act(&self, note: &Note) -> Result<Note> {
        match &self.server.how {
            How::Cluster { folder, user } => {
                cluster::start(&self.dir.join(folder), self.server.major, user.as_deref()).await?;
            }
            How::Container { name, image } => container::start(name, image, &self.id).await?,
        }
        Ok(note.clone())
    }

    async fn undo(&self, _: &Note) -> Result<()> {
        self.server.stop(&self.dir).await
    }

    fn by_hand(&self, _: &Note) -> Vec<String> {
        match &self.server.how {
            How::Cluster { folder, .. } => {
                vec![format!("end the postgres whose data is in {}", cluster::data(&self.dir.join(folder)).display())]
            }
            How::Container { name, .. } => vec![format!("docker rm -fv {name}")],
        }
    }
}

/// Makes the roles of a backup on a server of the drill's own.
pub struct Roles {
    /// Which server.
    pub server: Scratched,
    /// The drill's directory.
    pub dir: PathBuf,
    /// What `pg_dumpall` wrote of them.
    pub globals: Artifact,
    /// Reads it.
    pub reader: Reader,
}

#[async_trait]
impl Step for Roles {
    fn name(&self) -> String {
        format!("make roles on {}", self.server.label())
    }

    async fn prepare(&self, _: &Notes<'_>) -> Result<Note> {
        Ok(Note::Null)
    }

    async fn act(&self, _: &Note) -> Result<Note> {
        let globals = self.reader.small(&self.globals).await?;
        let admin = self.server.address(&self.dir)?.reach().await?.admin().await?;
        let missing = globals::missing(&admin, &globals).await?;
        globals::make(&admin, &globals, &missing).await.map_err(|e| e.kind(Kind::Restore))?;
        Ok(json!({ "roles": missing }))
    }

    async fn undo(&self, _: &Note) -> Result<()> {
        // They go with their server.
        Ok(())
    }

    fn by_hand(&self, _: &Note) -> Vec<String> {
        Vec::new()
    }
}

/// Looks whether a server takes what will be loaded.
pub struct Look {
    /// What will be loaded.
    pub resource: Arc<dyn Resource>,
    /// Who is told.
    pub monitor: Arc<dyn Monitor>,
}

#[async_trait]
impl Step for Look {
    fn name(&self) -> String {
        format!("look where to stage {}", self.resource.label())
    }

    async fn prepare(&self, _: &Notes<'_>) -> Result<Note> {
        Ok(Note::Null)
    }

    async fn act(&self, _: &Note) -> Result<Note> {
        let warnings = self.resource.preflight().await?.warnings;
        // That it lacks every role is no news.
        for warning in warnings.iter().filter(|w| !w.starts_with("roles that the server lacks")) {
            self.monitor.event(Event::Warning(format!("{}: {warning}", self.resource.label())));
        }
        Ok(json!({ "warnings": warnings }))
    }

    async fn undo(&self, _: &Note) -> Result<()> {
        Ok(())
    }

    fn by_hand(&self, _: &Note) -> Vec<String> {
        Vec::new()
    }
}

/// The error of a server that is not to be had.
pub(super) fn cannot(what: impl Into<String>) -> Error {
    Error::new(Kind::Refused, what)
}
