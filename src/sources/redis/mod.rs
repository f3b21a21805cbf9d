//! The `redis` source: a snapshot of all databases, taken the way a replica takes it, with the counts of its keys.
//!
//! [`address`], [`connect`] and [`resp`] reach the server, [`live`] asks it, [`conf`] reads its file when it is down,
//! [`place`] finds its directory on this host. [`transfer`] receives the snapshot, [`rdb`] reads it, [`facts`] says
//! what was true, [`dump`] is the way out; [`own`] runs a server for what only a server can do. The way back is `recovery/redis`.

pub mod address;
pub mod aof;
pub mod conf;
pub mod connect;
pub mod dump;
pub mod facts;
pub mod live;
pub mod own;
pub mod place;
pub mod rdb;
pub mod resp;
pub mod transfer;

use super::window::Window;
use super::{Delivered, Source};
use crate::error::Result;
use crate::host::docker::Docker;
use crate::model::Name;
use crate::repository::writer::BackupWriter;
use crate::telemetry::monitor::Monitor;
use address::Server;
use async_trait::async_trait;
use connect::Connection;
use std::path::PathBuf;
use std::sync::Arc;

/// Name of the artifact with the snapshot.
pub const RDB: &str = "rdb";
/// Its media type.
pub const RDB_MEDIA: &str = "redis-rdb";

/// The artifact of a part of the append-only file.
pub fn aof_artifact(file: &str) -> String {
    format!("aof:{file}")
}

/// A server, and where its files are.
#[derive(Clone, Debug)]
pub struct RedisSource {
    /// How to reach it.
    pub server: Server,
    /// Its unit, to stop and start it at a restore.
    pub unit: Option<String>,
    /// Its container: by name, or as `PROJECT/SERVICE`. It is then reached from inside that container.
    pub container: Option<String>,
    /// Its directory on this host, when that is not what the server says.
    pub data_dir: Option<PathBuf>,
    /// Its `redis.conf`, for when it is down.
    pub config_file: Option<PathBuf>,
    /// Whether to store the append-only file besides.
    pub include_aof: bool,
}

impl RedisSource {
    /// Connects to the server.
    pub async fn connect(&self) -> Result<Connection> {
        let Some(reference) = &self.container else { return Connection::open(&self.server, None).await };
        let docker = Docker::connect().await?;
        let container = docker.find(reference).await?;
        let process = docker.process(&container.name).await?;
        Connection::open(&self.server, Some(process)).await
    }
}

#[async_trait]
impl Source for RedisSource {
    fn kind(&self) -> &'static str {
        "redis"
    }

    fn needs(&self) -> Vec<String> {
        self.container.iter().cloned().collect()
    }

    async fn read(
        &self,
        _: &Name,
        writer: &BackupWriter,
        monitor: Arc<dyn Monitor>,
        window: &Window,
    ) -> Result<Delivered> {
        window.ready().await?;
        dump::dump(self, writer, monitor, window).await
    }
}
