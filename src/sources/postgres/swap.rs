//! The exchange of databases: new ones take the names of live ones, all of a cluster in one transaction.
//!
//! Renaming is what PostgreSQL does in one catalog row, whatever the size, but only while nobody is connected. So
//! connections are disallowed first, and that is committed, since a session that comes back in between makes the rename
//! wait and fail; a limit of zero would not do, superusers pass it. Then sessions are ended. In the transaction the new
//! database gets what belongs to the name and not to the content: owner, grants, settings, comment. The old database
//! stays, closed, under a name that says when.
//!
//! Which database is which is told by OID: an exchange that is asked for twice must not undo itself.

use super::attributes::Attributes;
use super::connect::{Server, ident, literal};
use super::dropping::is_half_dropped;
use super::globals;
use super::session::{Session, SqlError, SqlResult};
use super::sessions;
use crate::error::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

/// Longest name of a database, in bytes; PostgreSQL cuts longer ones without a word.
const MAX_NAME: usize = 63;

/// One exchange: what undo and a second look need, for the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// The name that counts.
    pub live: String,
    /// OID of the database that has it, if there is one.
    pub live_oid: Option<u32>,
    /// The name of the new database before the exchange.
    pub staged: String,
    /// Its OID.
    pub staged_oid: u32,
    /// The name that the old one will have.
    pub before: String,
    /// What the new one gets: of the live database, or else of the backup.
    pub attributes: Attributes,
    /// What cannot be given, and why.
    pub left_out: Vec<String>,
}

/// A name beside another: `NAME_INFIX_ID`, with the name cut and a hash of it where that would be too long.
pub fn beside(name: &str, infix: &str, id: &str) -> String {
    let tail = format!("_{infix}_{id}");
    if name.len() + tail.len() <= MAX_NAME {
        return format!("{name}{tail}");
    }
    let hash = blake3::hash(name.as_bytes()).to_hex();
    let tail = format!("_{}{tail}", &hash[..6]);
    let mut cut = MAX_NAME - tail.len();
    while !name.is_char_boundary(cut) {
        cut -= 1;
    }
    format!("{}{tail}", &name[..cut])
}

/// The OID of a database.
///
/// # Errors
/// The server's refusal.
pub async fn oid(admin: &Session, name: &str) -> SqlResult<Option<u32>> {
    let rows = admin.rows("oid::bigint", &format!("FROM pg_database WHERE datname = {}", literal(name))).await?;
    Ok(rows.first().map(|r| r.number(0) as u32))
}

/// Looks at both sides; no effect.
///
/// # Errors
/// [`Kind::Restore`] when the staged database is not there.
pub async fn plan(admin: &Session, live: &str, staged: &str, id: &str, of_backup: &Attributes) -> Result<Exchange> {
    let failed = |e: SqlError| e.says("the databases cannot be looked at").kind(Kind::Restore);
    let staged_oid = oid(admin, staged)
        .await
        .map_err(failed)?
        .ok_or_else(|| Error::new(Kind::Restore, format!("there is no staged database {staged}")))?;
    let live_oid = oid(admin, live).await.map_err(failed)?;
    let (attributes, beyond) = match live_oid {
        Some(_) => (Attributes::read(admin, live).await.map_err(failed)?, Vec::new()),
        None => of_backup.clone().within_reach(admin).await.map_err(failed)?,
    };
    let mut before = beside(live, "before", id);
    for n in 1.. {
        if oid(admin, &before).await.map_err(failed)?.is_none() {
            break;
        }
        before = beside(live, "before", &format!("{id}-{n}"));
    }
    let (_, mut left_out) = attributes.statements(live, &globals::roles(admin).await?);
    left_out.extend(beyond);
    Ok(Exchange {
        live: live.to_owned(),
        live_oid,
        staged: staged.to_owned(),
        staged_oid,
        before,
        attributes,
        left_out,
    })
}

/// Exchanges. What is done already is left as it is.
///
/// # Errors
/// [`Kind::Restore`]; the live databases are then open again under their names.
pub async fn swap(server: &Server, exchanges: &[Exchange]) -> Result<()> {
    let admin = admin(server, exchanges).await?;
    let roles = globals::roles(&admin).await?;
    let mut open = Vec::new();
    for x in exchanges {
        match oid(&admin, &x.live).await.map_err(cannot)? {
            // Perhaps closed by an exchange back that was cut off.
            Some(oid) if oid == x.staged_oid => open_again(&admin, &x.live).await?,
            found if found == x.live_oid => open.push(x),
            _ => return Err(stranger(&x.live)),
        }
    }
    let mut sql = Vec::new();
    for x in &open {
        if x.live_oid.is_some() {
            sql.push(rename(&x.live, &x.before));
        }
        sql.push(rename(&x.staged, &x.live));
        sql.extend(x.attributes.statements(&x.live, &roles).0);
        sql.push(allow(&x.live, true));
    }
    let live: Vec<&str> = open.iter().filter(|x| x.live_oid.is_some()).map(|x| x.live.as_str()).collect();
    let staged: Vec<&str> = open.iter().map(|x| x.staged.as_str()).collect();
    exchange(&admin, &live, &staged, &sql).await
}

/// Exchanges back: the old databases take their names again, the new ones those they were staged under.
///
/// # Errors
/// [`Kind::Restore`].
pub async fn unswap(server: &Server, exchanges: &[Exchange]) -> Result<()> {
    let admin = admin(server, exchanges).await?;
    let mut sql = Vec::new();
    let (mut live, mut before) = (Vec::new(), Vec::new());
    for x in exchanges {
        let found = oid(&admin, &x.live).await.map_err(cannot)?;
        if found == Some(x.staged_oid) {
            live.push(x.live.as_str());
            sql.push(rename(&x.live, &x.staged));
            if x.live_oid.is_some() {
                before.push(x.before.as_str());
                sql.push(rename(&x.before, &x.live));
                sql.push(allow(&x.live, true));
            }
        } else if found == x.live_oid {
            // Never exchanged, or exchanged back; perhaps closed by a swap that was killed.
            if x.live_oid.is_some() {
                open_again(&admin, &x.live).await?;
            }
        } else {
            return Err(stranger(&x.live));
        }
    }
    exchange(&admin, &live, &before, &sql).await
}

/// Refuses an exchange back that would fail because one of both databases is gone, or is another one by now.
///
/// # Errors
/// [`Kind::Refused`] with which one it is.
pub async fn refuse_back(admin: &Session, x: &Exchange) -> Result<()> {
    let looked = |e: SqlError| e.says("the databases cannot be looked at");
    let found = oid(admin, &x.live).await.map_err(looked)?;
    // Exchanged back already, by hand: there is nothing to do.
    if found == x.live_oid {
        return Ok(());
    }
    if found != Some(x.staged_oid) {
        return Err(Error::new(Kind::Refused, format!("database {} is not the one that was restored", x.live))
            .hint("Somebody has made, renamed or dropped it since. Look at it, and rename by hand."));
    }
    if x.live_oid.is_none() {
        return Ok(());
    }
    if oid(admin, &x.before).await.map_err(looked)? != x.live_oid {
        return Err(Error::new(
            Kind::Refused,
            format!("database {}, which is what was there before the restore, is not there any more", x.before),
        )
        .hint("Restore an older backup instead."));
    }
    if is_half_dropped(admin, &x.before).await.map_err(looked)? {
        return Err(Error::new(
            Kind::Refused,
            format!("a DROP of database {}, which is what was there before the restore, was interrupted", x.before),
        )
        .hint("Nothing of it is left but its name. Restore an older backup instead."));
    }
    Ok(())
}

/// A session with a database that is not exchanged itself. It waits for nobody without end: whoever is just altering or
/// dropping one of the databases may himself wait for somebody.
async fn admin(server: &Server, exchanges: &[Exchange]) -> Result<Session> {
    let session = match exchanges.iter().any(|x| x.live == "postgres") {
        true => server.session("template1").await?,
        false => server.admin().await?,
    };
    session.run("SET statement_timeout = '10s'").await.map_err(cannot)?;
    Ok(session)
}

/// Opens a database that an exchange has closed and then did not come to rename. One that is open is not touched: after
/// an exchange it may belong to somebody else. Nor is one that is half dropped: the session would be lost.
async fn open_again(admin: &Session, name: &str) -> Result<()> {
    let which = format!("datname = {} AND NOT datallowconn AND datconnlimit <> -2", literal(name));
    if admin.any(&format!("FROM pg_database WHERE {which}")).await.map_err(cannot)? {
        admin.run(&allow(name, true)).await.map_err(cannot)?;
    }
    Ok(())
}

/// Closes databases, and renames in one transaction. Opens the live ones again when that fails; the others, staged or
/// kept, are for nobody then.
async fn exchange(admin: &Session, live: &[&str], others: &[&str], sql: &[String]) -> Result<()> {
    if sql.is_empty() {
        return Ok(());
    }
    let names = [live, others].concat();
    let done = async {
        for name in &names {
            admin.run(&allow(name, false)).await.map_err(cannot)?;
        }
        sessions::end(admin, &names).await?;
        let all = [&["BEGIN".to_owned()][..], sql, &["COMMIT".to_owned()]].concat();
        admin.run_all(&all).await.map_err(cannot)
    };
    let Err(e) = done.await else { return Ok(()) };
    let _ = admin.run("ROLLBACK").await;
    let mut error = e;
    for name in live {
        if let Err(closed) = open_again(admin, name).await {
            let why = closed.one_line();
            error = error.hint(format!("Database {name} is still closed ({why}): {};", allow(name, true)));
        }
    }
    Err(error)
}

fn rename(from: &str, to: &str) -> String {
    format!("ALTER DATABASE {} RENAME TO {}", ident(from), ident(to))
}

fn allow(name: &str, yes: bool) -> String {
    format!("ALTER DATABASE {} ALLOW_CONNECTIONS {yes}", ident(name))
}

fn cannot(e: SqlError) -> Error {
    e.says("the databases cannot be exchanged").kind(Kind::Restore)
}

fn stranger(name: &str) -> Error {
    Error::new(Kind::Restore, format!("database {name} is neither the one that was there nor the restored one"))
        .hint("Somebody has made or renamed it meanwhile. Look at it, and rename by hand.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beside_are_never_cut_by_the_server() {
        assert_eq!(beside("erp", "before", "20260103T220000Z-ab12"), "erp_before_20260103T220000Z-ab12");
        let long = "x".repeat(63);
        let other = format!("{}y", "x".repeat(62));
        let (a, b) =
            (beside(&long, "before", "20260103T220000Z-ab12"), beside(&other, "before", "20260103T220000Z-ab12"));
        assert!(a.len() <= MAX_NAME && a != b, "{a} {b}");
        assert!(super::super::load::is_ours(&a));
        assert!(beside(&"ü".repeat(31), "staged", "20260103T220000Z-ab12").len() <= MAX_NAME);
        assert!(!super::super::load::is_ours("my_before_breakfast"));
    }
}
