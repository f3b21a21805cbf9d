//! Which of two databases has a live name, where no OID tells it: one that is dropped and loaded anew has another one each
//! time, and may hold just as many rows as what it takes the place of. So what is put in place bears a comment of ours, from
//! the transaction that gives it its name until all databases are in place.
//!
//! And what is live bears one from right before it is dropped. A server goes on with a `DROP` whose client is gone, and one of
//! before August 2023 keeps the name of a database whose content it has thrown away already: what bears it is lost.

use super::database::failed;
use crate::error::Result;
use crate::model::BackupId;
use crate::sources::postgres::connect::{ident, literal};
use crate::sources::postgres::session::{Session, SqlResult};

/// What is put in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// What is restored.
    Restored,
    /// What was live before, from the safety backup.
    Before,
}

impl Put {
    /// The comment that it bears.
    pub(super) fn mark(self, restore: &BackupId) -> String {
        let what = match self {
            Put::Restored => "what is restored",
            Put::Before => "what was live before",
        };
        format!("backstay: {what}, put here by restore {restore}, which has not ended")
    }

    /// Whether the database of this name is that one.
    pub(super) async fn is_at(self, admin: &Session, live: &str, restore: &BackupId) -> Result<bool> {
        let from = bearing(live, &[self.mark(restore)]);
        admin.any(&from).await.map_err(failed("the databases cannot be looked at"))
    }
}

fn bearing(live: &str, marks: &[String]) -> String {
    let marks: Vec<String> = marks.iter().map(|mark| literal(mark)).collect();
    format!(
        "FROM pg_database WHERE datname = {} AND shobj_description(oid, 'pg_database') IN ({})",
        literal(live),
        marks.join(", ")
    )
}

fn dropping(restore: &BackupId) -> String {
    format!("backstay: being dropped by restore {restore}, which has not ended")
}

/// Whether the database of this name is one that a `DROP` of ours has perhaps been begun of.
pub(super) async fn is_dropping(admin: &Session, live: &str, restore: &BackupId) -> SqlResult<bool> {
    admin.any(&bearing(live, &[dropping(restore)])).await
}

/// Marks a database that is about to be dropped. False when it was marked before.
pub(super) async fn mark_dropping(admin: &Session, live: &str, restore: &BackupId) -> Result<bool> {
    let cannot = failed("the live database cannot be marked as one that is dropped");
    if is_dropping(admin, live, restore).await.map_err(&cannot)? {
        return Ok(false);
    }
    // Somebody may hold it, in a `DROP` of their own.
    admin.run("SET statement_timeout = '30s'").await.map_err(&cannot)?;
    let mark = format!("COMMENT ON DATABASE {} IS {}", ident(live), literal(&dropping(restore)));
    let marked = admin.run(&mark).await;
    admin.run("RESET statement_timeout").await.map_err(&cannot)?;
    marked.map_err(&cannot)?;
    Ok(true)
}

/// Gives a database the comment that belongs to it, in place of ours. One that does not bear ours is left alone.
pub(super) async fn unmark(admin: &Session, live: &str, restore: &BackupId, own: Option<&str>) -> Result<()> {
    let cannot = failed("the comment of a database cannot be set");
    let marks = [Put::Restored.mark(restore), Put::Before.mark(restore), dropping(restore)];
    if !admin.any(&bearing(live, &marks)).await.map_err(&cannot)? {
        return Ok(());
    }
    let own = own.map_or_else(|| "NULL".to_owned(), literal);
    admin.run(&format!("COMMENT ON DATABASE {} IS {own}", ident(live))).await.map_err(&cannot)
}
