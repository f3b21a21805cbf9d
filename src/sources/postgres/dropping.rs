//! Dropping a database of ours: whoever is connected to it, and in a time of its own.

use super::connect::{ident, literal};
use super::session::{OBJECT_IN_USE, QUERY_CANCELED, Session, SqlError, SqlResult};
use super::waiting::{self, END};
use super::{sessions, swap};
use std::time::{Duration, Instant};

/// How long each try to drop a database may take before it is looked at why. A large server has a checkpoint to write
/// first, and very many files to delete. Seconds.
const TRIES: &[u64] = &[30, 60, 120, 240, 480];

/// Drops a database of ours, whoever is connected to it. Comes to an end also where the server does not.
///
/// # Errors
/// The server's refusal, and why it does not come to the end of it.
pub async fn drop_database(admin: &Session, name: &str) -> SqlResult<()> {
    if swap::oid(admin, name).await?.is_none() {
        return Ok(());
    }
    let dropped = async {
        // Closing it waits for whoever is just altering or dropping it.
        admin.run("SET statement_timeout = '30s'").await?;
        // With FORCE only from 13 on; this does the same everywhere. Who alters one that is half dropped loses the
        // session, and one that is closed may become that right now, by a `DROP` that was asked for before.
        let open = format!("datname = {} AND datallowconn AND datconnlimit <> -2", literal(name));
        if admin.any(&format!("FROM pg_database WHERE {open}")).await? {
            let _ = admin.run(&format!("ALTER DATABASE {} ALLOW_CONNECTIONS false", ident(name))).await;
        }
        sessions::ask_to_end(admin, name).await?;
        drop_in_time(admin, name).await
    }
    .await;
    let reset = admin.run("RESET statement_timeout").await;
    dropped.and(reset)
}

/// From version 15 on a server drops no database while any of its sessions takes note of nothing, as those do that wait
/// for a synchronous standby. What was interrupted can be dropped once more, and what it had done by then stays done.
async fn drop_in_time(admin: &Session, name: &str) -> SqlResult<()> {
    let mut dropped: SqlResult<()> = Ok(());
    for seconds in TRIES {
        admin.run(&format!("SET statement_timeout = '{seconds}s'")).await?;
        let began = Instant::now();
        let Err(e) = admin.run(&format!("DROP DATABASE IF EXISTS {}", ident(name))).await else { return Ok(()) };
        // Otherwise somebody has ended it.
        let timed_out = e.is(QUERY_CANCELED) && began.elapsed() >= Duration::from_secs(*seconds);
        if !timed_out {
            let told = match e.is(OBJECT_IN_USE) {
                true => sessions::told(&sessions::beyond(admin, &[name]).await?),
                false => None,
            };
            let text = told.map_or_else(|| e.text.clone(), |told| format!("{}; {told}", e.text));
            // What an earlier try has begun is begun, whatever this one says.
            return Err(SqlError { code: dropped.err().map_or(e.code, |before| before.code), text });
        }
        let waiting = waiting::standing_still(admin).await?;
        dropped = Err(SqlError { text: format!("{}; {}", e.text, stands_still(waiting)), ..e });
        if waiting > 0 {
            break;
        }
    }
    dropped
}

/// Why a database is not dropped, as far as that can be seen, and what to do.
fn stands_still(waiting: usize) -> String {
    match waiting {
        0 => format!(
            "the server does not come to the end of it; sessions that wait for a synchronous standby would be a \
             reason, and this role may not see them: have a superuser look, and end them by {END}"
        ),
        n => format!(
            "sessions of others wait for a synchronous standby ({n}), and while they do this server drops no \
             database: bring the standby back, or end them by {END}"
        ),
    }
}

/// True for a database whose `DROP` was begun and interrupted: it still has its name and its OID, and nothing can be
/// done with it but to drop it. Servers of before August 2023 do not tell.
///
/// # Errors
/// The server's refusal.
pub async fn is_half_dropped(admin: &Session, name: &str) -> SqlResult<bool> {
    admin.any(&format!("FROM pg_database WHERE datname = {} AND datconnlimit = -2", literal(name))).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_is_not_dropped_in_time_is_told_with_who_waits_or_who_may() {
        let seen = stands_still(3);
        assert!(seen.contains("(3)") && seen.contains("bring the standby back"), "{seen}");
        assert!(stands_still(0).contains("this role may not see them"));
        assert!([0, 3].iter().all(|n| stands_still(*n).contains("pg_terminate_backend(pid)")));
    }
}
