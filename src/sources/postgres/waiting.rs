//! Sessions of others that wait for a synchronous standby which does not come.

use super::facts::server_version;
use super::session::{Session, SqlError};
use crate::error::{Error, Kind, Result};

/// From this version on every process of the server must take note before a database is dropped.
const BARRIER: u32 = 150_000;

/// Refuses when sessions of others stand still in a commit: they take note of nothing, and every `DROP DATABASE` would wait as long as
/// they do. Whoever may not look at others' sessions sees none.
///
/// # Errors
/// [`Kind::Refused`].
pub async fn refuse(admin: &Session, place: &str) -> Result<()> {
    let failed = |e: SqlError| e.says("the sessions of the server cannot be looked at");
    // Others are on their way.
    let from = "FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND state_change < now() - interval '10 s'";
    let waiting = admin.row("count(*)", from).await.map_err(failed)?.number(0);
    if waiting == 0 || server_version(admin).await? < BARRIER {
        return Ok(());
    }
    Err(Error::new(Kind::Refused, "sessions of others have waited for a synchronous standby for more than ten seconds")
        .at(place)
        .because(format!("there are {waiting}, and while they wait this server drops no database"))
        .hint(
            "Bring the standby back, or end them: `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'`. \
             What they committed is there; only their clients do not know.",
        ))
}
