//! Sessions of others that wait for a synchronous standby which does not come.

use super::facts::server_version;
use super::session::{Session, SqlError, SqlResult};
use crate::error::{Error, Kind, Result};
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// From this version on every process of the server must take note before a database is dropped.
const BARRIER: u32 = 150_000;
/// How long one and the same commit is watched. The server tells since when a statement runs, not since when it waits.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often one looks.
const PAUSE: Duration = Duration::from_millis(500);

/// What ends them.
pub const END: &str = "`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'`";

/// Refuses when sessions of others stand still in a commit: they take note of nothing, and every `DROP DATABASE` would wait as long as
/// they do. Whoever may not look at others' sessions sees none.
///
/// # Errors
/// [`Kind::Refused`].
pub async fn refuse(admin: &Session, place: &str) -> Result<()> {
    let failed = |e: SqlError| e.says("the sessions of the server cannot be looked at");
    if server_version(admin).await? < BARRIER {
        return Ok(());
    }
    let still = standing_still(admin).await.map_err(failed)?;
    if still == 0 {
        return Ok(());
    }
    Err(Error::new(Kind::Refused, "sessions of others have waited for a synchronous standby for more than ten seconds")
        .at(place)
        .because(format!("there are {still}, and while they wait this server drops no database"))
        .hint(format!(
            "Bring the standby back, or end them: {END}. What they committed is there; only their clients do not know."
        )))
}

/// How many sessions of others stand still in one and the same commit. They are watched for ten seconds, unless there
/// are none. Whoever may not look at others' sessions sees none.
///
/// # Errors
/// The server's refusal.
pub async fn standing_still(admin: &Session) -> SqlResult<usize> {
    let mut still = commits(admin).await?;
    let begun = Instant::now();
    while !still.is_empty() && begun.elapsed() < PATIENCE {
        tokio::time::sleep(PAUSE).await;
        let now = commits(admin).await?;
        still.retain(|commit| now.contains(commit));
    }
    Ok(still.len())
}

/// Those that wait now: process, statement and transaction. A session that goes on to its next commit is another one.
async fn commits(admin: &Session) -> SqlResult<HashSet<[String; 3]>> {
    let from = "FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let rows = admin.rows("pid, query_start, backend_xid", from).await?;
    Ok(rows.iter().map(|row| [row.text(0), row.text(1), row.text(2)]).collect())
}
