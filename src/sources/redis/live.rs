//! What a running server says about itself.

use super::connect::Connection;
use super::resp::Reply;
use crate::error::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where and how a server keeps its data: from the server, or from its `redis.conf`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Directory of everything that it writes.
    pub dir: String,
    /// RDB file in it.
    pub dbfilename: String,
    /// Whether it keeps an append-only file; the RDB is then not read at start.
    pub appendonly: bool,
    /// Name of the append-only file, or the beginning of the names of its parts.
    pub appendfilename: String,
    /// Directory of the parts; empty for servers before Redis 7, which have one file.
    pub appenddirname: String,
    /// Saving points; empty for none.
    pub save: String,
    /// Limit of memory in bytes; 0 for none.
    pub maxmemory: u64,
    /// What is thrown out at the limit.
    pub maxmemory_policy: String,
    /// Number of databases.
    pub databases: u64,
}

/// A running server.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// `redis` or `valkey`.
    pub product: String,
    /// Version.
    pub version: String,
    /// `standalone`, `cluster` or `sentinel`.
    pub mode: String,
    /// `master` or `slave`, in the server's words.
    pub role: String,
    /// Connected replicas.
    pub replicas: u64,
    /// Whether it is still loading.
    pub loading: bool,
    /// Whether a background save is going on.
    pub saving: bool,
    /// Bytes of memory that the data takes.
    pub used_memory: u64,
    /// The `redis.conf` that it was started with, in its own view of the file system.
    pub config_file: String,
    /// Keys and keys with expiry, per database.
    pub keyspace: BTreeMap<u64, Keyspace>,
    /// Modules that are loaded, with their versions.
    pub modules: BTreeMap<String, String>,
}

/// One line of `INFO keyspace`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keyspace {
    /// All keys.
    pub keys: u64,
    /// Those with a time of expiry.
    pub expires: u64,
}

/// Asks the server for everything that needs no further right than `INFO`.
pub async fn live(connection: &mut Connection) -> Result<Live> {
    let text = connection.ask(&["INFO", "everything"]).await?.text();
    let fields: BTreeMap<&str, &str> = text.lines().filter_map(|l| l.trim_end().split_once(':')).collect();
    let field = |name: &str| fields.get(name).copied().unwrap_or_default();
    let number = |name: &str| field(name).parse().unwrap_or(0);
    let valkey = !field("valkey_version").is_empty();
    let version = if valkey { field("valkey_version") } else { field("redis_version") };
    if version.is_empty() {
        return Err(Error::new(Kind::Source, "the server does not say what it is")
            .at(connection.channel().label())
            .hint("Only Redis and Valkey are supported."));
    }
    let mode = if valkey && !field("server_mode").is_empty() { field("server_mode") } else { field("redis_mode") };
    let mut modules = BTreeMap::new();
    for line in text.lines().filter_map(|l| l.strip_prefix("module:")) {
        let parts: BTreeMap<&str, &str> = line.trim_end().split(',').filter_map(|p| p.split_once('=')).collect();
        if let Some(name) = parts.get("name") {
            modules.insert((*name).to_owned(), parts.get("ver").copied().unwrap_or_default().to_owned());
        }
    }
    Ok(Live {
        product: if valkey { "valkey" } else { "redis" }.to_owned(),
        version: version.to_owned(),
        mode: mode.to_owned(),
        role: field("role").to_owned(),
        replicas: number("connected_slaves"),
        loading: number("loading") != 0 || number("async_loading") != 0,
        saving: number("rdb_bgsave_in_progress") != 0,
        used_memory: number("used_memory"),
        config_file: field("config_file").to_owned(),
        keyspace: fields.iter().filter_map(|(k, v)| keyspace(k, v)).collect(),
        modules,
    })
}

/// `db0:keys=2,expires=1,avg_ttl=0`
fn keyspace(name: &str, value: &str) -> Option<(u64, Keyspace)> {
    let db = name.strip_prefix("db")?.parse().ok()?;
    let parts: BTreeMap<&str, &str> = value.split(',').filter_map(|p| p.split_once('=')).collect();
    let number = |name: &str| parts.get(name).and_then(|n| n.parse().ok());
    Some((db, Keyspace { keys: number("keys")?, expires: number("expires")? }))
}

/// Asks the server for its settings.
///
/// # Errors
/// An error that is [`Error::denied`] when the user may not ask.
pub async fn settings(connection: &mut Connection) -> Result<Settings> {
    let c = connection;
    Ok(Settings {
        dir: setting(c, "dir").await?,
        dbfilename: setting(c, "dbfilename").await?,
        appendonly: setting(c, "appendonly").await? == "yes",
        appendfilename: setting(c, "appendfilename").await?,
        // Unknown to servers before Redis 7, which answer with nothing.
        appenddirname: setting(c, "appenddirname").await?,
        save: setting(c, "save").await?,
        maxmemory: setting(c, "maxmemory").await?.parse().unwrap_or(0),
        maxmemory_policy: setting(c, "maxmemory-policy").await?,
        databases: setting(c, "databases").await?.parse().unwrap_or(0),
    })
}

async fn setting(connection: &mut Connection, name: &str) -> Result<String> {
    let reply = connection.ask(&["CONFIG", "GET", name]).await?;
    Ok(reply.elements().get(1).map(Reply::text).unwrap_or_default())
}

/// Whether a Sentinel watches the server: each subscribes to a channel of it.
pub async fn watched_by_sentinel(connection: &mut Connection) -> Result<bool> {
    let reply = connection.ask(&["PUBSUB", "NUMSUB", "__sentinel__:hello"]).await?;
    Ok(reply.elements().get(1).is_some_and(|n| n.text() != "0"))
}
