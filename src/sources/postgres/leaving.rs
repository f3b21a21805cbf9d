//! What would go along with a database that gives its name away, and must not.

use super::connect::literal;
use super::session::{INSUFFICIENT_PRIVILEGE, Row, Session, SqlError};
use crate::error::{Error, Kind, Result};

/// Why a database gives its name to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum For {
    /// A restored one takes it.
    Restore,
    /// What was there before a restore takes it back.
    Rollback,
}

/// Refuses a live database with replication slots, prepared transactions or subscriptions.
///
/// # Errors
/// [`Kind::Refused`] by their names, with what to do about them.
pub async fn refuse(admin: &Session, live: &str, why: For) -> Result<()> {
    let failed = |e: SqlError| e.says("the server cannot be examined");
    let name = literal(live);
    let list = |rows: Vec<Row>| rows.iter().map(|r| r.text(0)).collect::<Vec<_>>().join(", ");
    let refused = |what: &str, found: Vec<Row>| {
        Error::new(Kind::Refused, format!("database {live} has {what}")).because(list(found))
    };
    let (then, otherwise) = match why {
        For::Restore => ("restore", ", or restore with --to"),
        For::Rollback => ("rollback", ""),
    };
    let slots =
        admin.rows("slot_name", &format!("FROM pg_replication_slots WHERE database = {name}")).await.map_err(failed)?;
    if !slots.is_empty() {
        let what = "replication slots, which would go along with it and keep the server's log until the disk is full";
        return Err(refused(what, slots).hint(format!(
            "Drop them with pg_drop_replication_slot() and let their readers begin anew after the {then}{otherwise}."
        )));
    }
    let prepared =
        admin.rows("gid", &format!("FROM pg_prepared_xacts WHERE database = {name}")).await.map_err(failed)?;
    if !prepared.is_empty() {
        return Err(refused("prepared transactions, which hold it where it is", prepared)
            .hint("COMMIT PREPARED or ROLLBACK PREPARED them."));
    }
    // Readable by superusers only, and by name of the database it works in.
    let subscriptions = admin
        .rows(
            "s.subname",
            &format!("FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = {name}"),
        )
        .await;
    match subscriptions {
        Ok(found) if !found.is_empty() => {
            Err(refused("subscriptions, which would go along with it and write on there", found).hint(format!(
                "ALTER SUBSCRIPTION … DISABLE, SET (slot_name = NONE) and DROP them; subscribe anew after the {then}."
            )))
        }
        Ok(_) => Ok(()),
        Err(e) if e.is(INSUFFICIENT_PRIVILEGE) => Ok(()),
        Err(e) => Err(failed(e)),
    }
}
