//! Whether a pooler stands between us and the server.
//!
//! A dump is one transaction and its settings belong to its session. In transaction mode a pooler hands each
//! transaction to another session: the snapshot is lost, and settings (an empty `search_path`, `row_security = off`)
//! stay with sessions that other clients get next. After an exchange of databases it holds sessions with the old one.

use super::connect::Server;
use crate::error::{Error, Kind, Result};
use tokio_postgres::SimpleQueryMessage;

/// The database in which a pgbouncer answers for itself. A server has none of that name, and says `3D000`.
const CONSOLE: &str = "pgbouncer";
/// SQLSTATE with which pgbouncer turns away whoever is no administrator of it.
const PROTOCOL_VIOLATION: &str = "08P01";

/// What a pgbouncer says to whoever begins a session with settings, as ours do, unless it is told to ignore them.
const UNSUPPORTED: &str = "unsupported startup parameter";

/// Whether that is how a pooler refuses a session.
pub(super) fn takes_no_settings(refusal: &str) -> bool {
    refusal.contains(UNSUPPORTED)
}

/// Refuses a pgbouncer where the server should be. Only what we connect to ourselves is asked; a `psql` that meets one is
/// mostly refused by it.
///
/// # Errors
/// [`Kind::Refused`] with what to do.
pub async fn refuse(server: &Server) -> Result<()> {
    if !server.is_direct() {
        return Ok(());
    }
    let found = match server.connect(CONSOLE, None).await? {
        Ok(client) => match client.simple_query("SHOW VERSION").await {
            Ok(rows) => rows.iter().find_map(version),
            // A database that really has this name.
            Err(_) => None,
        },
        Err(e) => (e.code().map(tokio_postgres::error::SqlState::code) == Some(PROTOCOL_VIOLATION))
            .then(|| "it does not tell its version".to_owned()),
    };
    found.map_or(Ok(()), |version| Err(refused(server, version)))
}

/// That one is there instead of the server, and how that is known.
pub(super) fn refused(server: &Server, why: String) -> Error {
    Error::new(Kind::Refused, "this is a pgbouncer and not a PostgreSQL server")
        .at(server.place())
        .because(why)
        .hint("Name the server itself in the source's url: its own host and port, usually 5432, or its socket.")
}

fn version(message: &SimpleQueryMessage) -> Option<String> {
    match message {
        SimpleQueryMessage::Row(row) => row.get(0).filter(|v| v.starts_with("PgBouncer")).map(str::to_owned),
        _ => None,
    }
}
