//! The `postgres` source: logical dumps in custom format, with globals, and facts from the same snapshot.
//!
//! [`connect`] reaches the server (the same settings for us and for its own tools), [`facts`] says what was true,
//! [`dump`] is the way out and [`load`] the way back in.

pub mod connect;
pub mod dump;
pub mod facts;
pub mod load;
pub mod tools;

use super::window::Window;
use super::{Delivered, Source};
use crate::error::Result;
use crate::model::Name;
use crate::repository::writer::BackupWriter;
use crate::telemetry::monitor::Monitor;
use async_trait::async_trait;
use connect::Server;
use std::sync::Arc;

/// Name of the artifact with roles and tablespaces.
pub const GLOBALS: &str = "globals";

/// The artifact of a database.
pub fn artifact_name(database: &str) -> String {
    format!("db:{database}")
}

/// Which databases of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Databases {
    /// Those named.
    Named(Vec<String>),
    /// Every one that allows connections and is no template.
    All,
}

/// A server and what to dump of it.
#[derive(Clone, Debug)]
pub struct PostgresSource {
    /// How to reach it.
    pub server: Server,
    /// What to dump.
    pub databases: Databases,
    /// Tables above this size are estimated instead of counted. Bytes.
    pub count_rows_up_to: u64,
}

#[async_trait]
impl Source for PostgresSource {
    fn kind(&self) -> &'static str {
        "postgres"
    }

    async fn read(
        &self,
        _: &Name,
        writer: &BackupWriter,
        monitor: Arc<dyn Monitor>,
        window: &Window,
    ) -> Result<Delivered> {
        window.ready().await?;
        dump::dump(self, writer, monitor).await
    }
}
