//! What was true of a server at backup time.

use super::live::{Live, Settings};
use super::rdb::{Counts, Summary};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Facts of a server. A restore is held against these. The counts are those of the stored RDB itself, so that they
/// are of the very moment of the data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RedisFacts {
    /// `redis` or `valkey`.
    pub product: String,
    /// Version of the server.
    pub server_version: String,
    /// `primary` or `replica`.
    pub role: String,
    /// Version of the RDB format.
    pub rdb_version: u32,
    /// True when it is Valkey's own format.
    pub rdb_valkey: bool,
    /// Whether the RDB has a checksum.
    pub checksum: bool,
    /// Databases that hold keys; `None` when the RDB has something that this version of the agent cannot read.
    pub keyspaces: Option<Vec<Counts>>,
    /// Function libraries.
    pub functions: Vec<String>,
    /// Modules with their versions.
    pub modules: BTreeMap<String, String>,
    /// Bytes of memory that the data took.
    pub used_memory: u64,
    /// How the server kept its data; `None` when it was not allowed to say.
    pub settings: Option<Settings>,
    /// Parts of the append-only file that are stored besides, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aof_files: Vec<String>,
}

impl RedisFacts {
    /// Of a server and the RDB that it gave.
    pub fn new(live: &Live, rdb: &Summary, settings: Option<Settings>) -> Self {
        RedisFacts {
            product: live.product.clone(),
            server_version: live.version.clone(),
            role: if live.role == "slave" { "replica" } else { "primary" }.to_owned(),
            rdb_version: rdb.version,
            rdb_valkey: rdb.valkey,
            checksum: rdb.checksum,
            keyspaces: rdb.unknown.is_none().then(|| rdb.databases.clone()),
            functions: rdb.functions.clone(),
            modules: live.modules.clone(),
            used_memory: live.used_memory,
            settings,
            aof_files: Vec::new(),
        }
    }

    /// All keys, when they were counted.
    pub fn keys(&self) -> Option<u64> {
        self.keyspaces.as_ref().map(|all| all.iter().map(|c| c.keys).sum())
    }

    /// Keys that do not expire, when they were counted.
    pub fn lasting(&self) -> Option<u64> {
        self.keyspaces.as_ref().map(|all| all.iter().map(Counts::lasting).sum())
    }
}
