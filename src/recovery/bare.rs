//! Databases of our own on a server: made empty, and dropped.

use super::database::failed;
use crate::error::{Error, Kind, Result};
use crate::sources::postgres::connect::{ident, literal};
use crate::sources::postgres::facts::DatabaseFacts;
use crate::sources::postgres::session::{DUPLICATE_DATABASE, Session, SqlResult, UNIQUE_VIOLATION};
use crate::sources::postgres::{create, swap};
use std::time::Duration;

/// Makes an empty database, in place of what an earlier try has left. A client that was killed does not end what it had
/// asked for: its `CREATE DATABASE` may come to its end right now, and would be in the way.
pub(super) async fn make_anew(admin: &Session, name: &str, facts: &DatabaseFacts) -> Result<()> {
    for _ in 0..100 {
        drop_database(admin, name).await.map_err(failed("an old staging database cannot be dropped"))?;
        match create::database(admin, name, facts).await {
            Ok(()) => return Ok(()),
            Err(e) if e.is(UNIQUE_VIOLATION) || e.is(DUPLICATE_DATABASE) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(e) => return Err(failed("the staging database cannot be made")(e)),
        }
    }
    Err(Error::new(Kind::Restore, "the staging database cannot be made: somebody else makes one of that name").at(name))
}

/// Drops a database of ours, whoever is connected to it.
pub(super) async fn drop_database(admin: &Session, name: &str) -> SqlResult<()> {
    if swap::oid(admin, name).await?.is_none() {
        return Ok(());
    }
    // With FORCE only from 13 on; this does the same everywhere.
    let _ = admin.run(&format!("ALTER DATABASE {} ALLOW_CONNECTIONS false", ident(name))).await;
    admin
        .rows("pg_terminate_backend(pid)", &format!("FROM pg_stat_activity WHERE datname = {}", literal(name)))
        .await?;
    admin.run(&format!("DROP DATABASE IF EXISTS {}", ident(name))).await
}
