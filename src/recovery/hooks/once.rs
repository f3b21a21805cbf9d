//! A transaction that is done once, though the power may fail between its commit and the journal's line about it.
//!
//! Before the commit its number is synced to a file. Whoever comes again asks the server what became of that number.

use crate::error::{Error, Kind, Result};
use crate::io::durable;
use crate::sources::postgres::session::Session;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a commit that the server is still at may take.
const PATIENCE: u32 = 100;

/// A transaction of a database. Another database of the same name has another OID.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Number {
    database: i64,
    transaction: i64,
}

/// The file of one hook of one restore.
pub(super) struct Once(PathBuf);

fn folder(state_dir: &Path) -> PathBuf {
    state_dir.join("hooks")
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> Error {
    move |e| Error::io("the number of a transaction cannot be kept", path, e).kind(Kind::Restore)
}

/// Removes what was kept of a restore that has ended.
///
/// # Errors
/// When a file cannot be removed.
pub fn forget(state_dir: &Path, restore: &str) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(folder(state_dir)) else { return Ok(()) };
    for entry in entries.flatten() {
        // With a dot before it, what a kill has left beside.
        if entry.file_name().to_string_lossy().trim_start_matches('.').starts_with(&format!("{restore}.")) {
            std::fs::remove_file(entry.path()).map_err(failed(&entry.path()))?;
        }
    }
    Ok(())
}

impl Once {
    /// Of a step of a restore.
    pub(super) fn new(state_dir: &Path, restore: &str, step: &str) -> Self {
        // A name may be any text.
        let hash = crate::model::ids::to_hex(&blake3::hash(step.as_bytes()).as_bytes()[..8]);
        Once(folder(state_dir).join(format!("{restore}.{hash}")))
    }

    /// Keeps the number of the session's transaction. Call it last before the commit.
    ///
    /// # Errors
    /// [`Kind::Restore`]; the transaction must then not be committed.
    pub(super) async fn keep(&self, session: &Session) -> Result<()> {
        let columns = "txid_current(), (SELECT oid::bigint FROM pg_database WHERE datname = current_database())";
        let row = session.row(columns, "").await.map_err(|e| e.says("the transaction has no number"))?;
        let (Some(transaction), Some(database)) = (row.integer(0), row.integer(1)) else {
            return Err(Error::new(Kind::Restore, "the transaction has no number"));
        };
        let text = serde_json::json!(Number { database, transaction }).to_string();
        durable::make_folder(self.0.parent().unwrap_or(Path::new("/")), 0o700)
            .and_then(|()| durable::replace(&self.0, text.as_bytes(), 0o600))
            .map_err(failed(&self.0))
    }

    /// Whether the transaction whose number was kept has been committed.
    ///
    /// # Errors
    /// [`Kind::Restore`] when nobody can tell.
    pub(super) async fn is_done(&self, session: &Session) -> Result<bool> {
        let text = match std::fs::read_to_string(&self.0) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(failed(&self.0)(e)),
        };
        let unknown = || {
            Error::new(Kind::Restore, "nobody can tell whether the hook was done already")
                .at(self.0.display())
                .hint("Look into the database, and unwind the restore.")
        };
        let Number { database, transaction } = serde_json::from_str(&text).map_err(|e| unknown().because(e))?;
        let columns = format!("txid_status({transaction})");
        for _ in 0..PATIENCE {
            let rest = format!("FROM pg_database WHERE datname = current_database() AND oid = {database}");
            let rows = session.rows(&columns, &rest).await.map_err(|e| unknown().because(e.text))?;
            let Some(row) = rows.first() else { return Ok(false) };
            match row.text(0).as_str() {
                "committed" => return Ok(true),
                "aborted" => return Ok(false),
                "in progress" => tokio::time::sleep(Duration::from_millis(100)).await,
                _ => return Err(unknown()),
            }
        }
        Err(unknown().because("its transaction is still open"))
    }
}
