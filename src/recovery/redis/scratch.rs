//! A server of our own loads the staged file: the best proof that another one will.

use crate::error::{Error, Kind, Result};
use crate::sources::redis::facts::RedisFacts;
use crate::sources::redis::live::Keyspace;
use crate::sources::redis::own::{self, Folder, Own, Started};
use crate::sources::redis::rdb::versions::{Readable, readable};
use std::collections::BTreeMap;
use std::path::Path;

/// Free memory that must stay.
const SPARE: u64 = 256 << 20;

/// What came of it.
pub enum Trial {
    /// It loaded the file.
    Loaded {
        /// The program.
        server: String,
        /// Keys per database.
        keyspace: BTreeMap<u64, Keyspace>,
    },
    /// There was a reason not to try.
    NotTried(String),
}

/// Loads a file; the server's product and version say which program suits.
///
/// # Errors
/// When a program that should read the file does not.
pub async fn load(rdb: &Path, server: Option<&(String, String)>, facts: &RedisFacts) -> Result<Trial> {
    let not = |why: String| Ok(Trial::NotTried(why));
    if !facts.modules.is_empty() {
        return not("the data is of modules".into());
    }
    let product = server.map_or(facts.product.as_str(), |(product, _)| product);
    let program = format!("{product}-server");
    let Some(version) = own::version(&program).await else {
        return not(format!("{program} is not installed on this host"));
    };
    if let Some((_, wanted)) = server
        && *wanted != version
    {
        return not(format!("{program} on this host is {version}, and the server is {wanted}"));
    }
    if readable(facts.rdb_version, product, &version) != Readable::Yes {
        return not(format!("{program} {version} on this host does not read RDB version {}", facts.rdb_version));
    }
    if !own::has_short_path() {
        return not("the path of the directory for temporary files is too long for a socket".into());
    }
    let needed = facts.used_memory.saturating_mul(3) / 2 + SPARE;
    match own::available() {
        Some(free) if free < needed => {
            return not(format!("it needs about {} of memory", crate::model::size::human(needed)));
        }
        _ => {}
    }
    let name = format!("{product} {version}");
    let keyspace = run(rdb, &program, facts).await.map_err(|e| e.at(rdb.display()))?;
    Ok(Trial::Loaded { server: name, keyspace })
}

async fn run(rdb: &Path, program: &str, facts: &RedisFacts) -> Result<BTreeMap<u64, Keyspace>> {
    let folder = Folder::make()?;
    let data = folder.path().to_owned();
    let linked = std::path::absolute(rdb).and_then(|rdb| std::os::unix::fs::symlink(rdb, data.join("dump.rdb")));
    linked.map_err(|e| Error::io("a test load cannot be prepared", &data, e).kind(Kind::Restore))?;
    let databases = facts.keyspaces.iter().flatten().map(|c| c.db + 1).max().unwrap_or(16).max(16);
    let more = format!("dbfilename dump.rdb\nappendonly no\ndatabases {databases}\n");
    let mut server = Own::start(program, folder, &data, &more).await?;
    let started = server.loaded().await;
    server.end();
    match started? {
        Started::Loaded(live) => Ok(live.keyspace),
        Started::Ended(said) => {
            Err(Error::new(Kind::Mismatch, format!("{program} does not load the restored data")).because(said))
        }
    }
}
