//! Databases and roles of our own on a server: made empty, and dropped.

use super::database::failed;
use crate::error::{Error, Kind, Result};
use crate::sources::postgres::dropping::drop_database;
use crate::sources::postgres::facts::DatabaseFacts;
use crate::sources::postgres::session::{DUPLICATE_DATABASE, Session, UNIQUE_VIOLATION};
use crate::sources::postgres::{create, globals};
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

/// Drops the roles that a restore has made.
pub(super) async fn drop_roles(admin: &Session, roles: &[String]) -> Result<()> {
    let cannot = failed("the roles that were made for the restore cannot be dropped");
    globals::drop(admin, roles).await.map_err(cannot)
}
