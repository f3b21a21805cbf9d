//! Sessions with databases that are to be renamed or dropped, and who may end them.
//!
//! A worker of autovacuum is of no role, and only a superuser may end it. Nobody need to: `ALTER DATABASE … RENAME` and
//! `DROP DATABASE` have it go by themselves. Of the others a role ends those of roles that it is a member of, and with
//! `pg_signal_backend` all that are not a superuser's.

use super::connect::literal;
use super::session::{Row, Session, SqlError, SqlResult};
use crate::error::{Error, Kind, Result};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long sessions may take to end.
const TO_END: Duration = Duration::from_secs(15);
/// A pause between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// Whether the connecting role may end session `a` of role `r`.
const MAY_END: &str = "((SELECT rolsuper FROM pg_roles WHERE rolname = current_user) \
     OR (NOT coalesce(r.rolsuper, false) AND (pg_has_role(a.usesysid, 'USAGE') \
     OR pg_has_role('pg_signal_backend'::name, 'USAGE'))))";

/// The sessions that must end before these databases can be renamed or dropped.
fn with(names: &[&str]) -> String {
    let list = names.iter().map(|n| literal(n)).collect::<Vec<_>>().join(", ");
    format!(
        "FROM pg_stat_activity a LEFT JOIN pg_roles r ON r.oid = a.usesysid \
         WHERE a.datname IN ({list}) AND a.usesysid IS NOT NULL AND a.pid <> pg_backend_pid()"
    )
}

/// Ends every session with these databases and waits until they are gone.
///
/// # Errors
/// [`Kind::Restore`] with who stays.
pub async fn end(admin: &Session, names: &[&str]) -> Result<()> {
    let cannot = |e: SqlError| e.says("sessions of the database cannot be ended").kind(Kind::Restore);
    let ending = format!("CASE WHEN {MAY_END} THEN pg_terminate_backend(a.pid) END");
    let columns = format!("{ending}, a.pid, a.usename, a.application_name");
    let from = with(names);
    let deadline = Instant::now() + TO_END;
    loop {
        let left = admin.rows(&columns, &from).await.map_err(cannot)?;
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            let one = |r: &Row| format!("pid {} of {} ({})", r.number(1), r.text(2), r.text(3));
            let mut why = left.iter().map(one).collect::<Vec<_>>().join(", ");
            if let Some(told) = told(&beyond(admin, names).await.map_err(cannot)?) {
                why = format!("{why}; {told}");
            }
            return Err(Error::new(Kind::Restore, "sessions of the database do not end").because(why));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Has those sessions with a database end that may be ended, and waits for none.
///
/// # Errors
/// The server's refusal.
pub async fn ask_to_end(admin: &Session, name: &str) -> SqlResult<()> {
    let from = format!("{} AND {MAY_END}", with(&[name]));
    admin.rows("pg_terminate_backend(a.pid)", &from).await.map(|_| ())
}

/// Roles whose sessions with these databases the connecting one may not end, with how many each has now.
///
/// # Errors
/// The server's refusal.
pub async fn beyond(admin: &Session, names: &[&str]) -> SqlResult<BTreeMap<String, u64>> {
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let from = format!("{} AND NOT {MAY_END} GROUP BY a.usename", with(names));
    let rows = admin.rows("a.usename, count(*)", &from).await?;
    Ok(rows.iter().map(|r| (r.text(0), r.number(1))).collect())
}

/// The same as somebody should know it, if there are any.
pub fn told(beyond: &BTreeMap<String, u64>) -> Option<String> {
    let who: Vec<String> = beyond.iter().map(|(role, n)| format!("{role} ({n})")).collect();
    (!who.is_empty()).then(|| {
        format!(
            "the connecting role may not end sessions of {}: have what works as that role stopped, or grant \
             pg_signal_backend, which ends all but a superuser's",
            who.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_cannot_be_ended_is_named_with_a_remedy_and_nobody_is_no_news() {
        let beyond = BTreeMap::from([("app".to_owned(), 2), ("boss".to_owned(), 1)]);
        let said = told(&beyond).unwrap();
        assert!(said.contains("app (2), boss (1)") && said.contains("pg_signal_backend"), "{said}");
        assert_eq!(told(&BTreeMap::new()), None);
    }
}
