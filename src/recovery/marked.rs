//! Which of two databases has a live name, where no OID tells it: one that is dropped and loaded anew has another one each
//! time, and may hold just as many rows as what it takes the place of. So what is put in place bears a comment of ours, from
//! the transaction that gives it its name until all databases are in place.

use super::database::failed;
use crate::error::Result;
use crate::model::BackupId;
use crate::sources::postgres::connect::{ident, literal};
use crate::sources::postgres::session::Session;

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

/// Gives a database the comment that belongs to it, in place of ours. One that does not bear ours is left alone.
pub(super) async fn unmark(admin: &Session, live: &str, restore: &BackupId, own: Option<&str>) -> Result<()> {
    let cannot = failed("the comment of a database cannot be set");
    let marks = [Put::Restored, Put::Before].map(|put| put.mark(restore));
    if !admin.any(&bearing(live, &marks)).await.map_err(&cannot)? {
        return Ok(());
    }
    let own = own.map_or_else(|| "NULL".to_owned(), literal);
    admin.run(&format!("COMMENT ON DATABASE {} IS {own}", ident(live))).await.map_err(&cannot)
}
