//! The way back in: an archive into a new database that nobody uses yet.
//!
//! Definitions first, from the head of the archive alone, which is kept in a small file. Then the rows: those of big
//! tables over sessions of their own, side by side with `pg_restore`, which gets the rest as a stream; no dump touches
//! the disk. A big table gets its own indexes as soon as its rows are in ([`super::ripe`]), while others still load. Then all other
//! indexes and constraints, several at once, from the same small file. Any error ends it: no load is good that printed one.

mod parts;
mod program;

use super::archive::stored::{Archive, head, newer};
use super::connect::Server;
use super::facts::{self, DatabaseFacts};
use super::headfile::HeadFile;
use super::pick::Only;
use super::{globals, lacking, reserved, sql, tools};
use crate::error::{Kind, Result};
use crate::host::exec::Place;
use parts::Parts;
use program::{feed, restore};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Settings of a program's sessions that load. Only of these: the log is flushed before the load counts. The memory for indexes stays
/// what the server has: more of it was slower, since what is sorted then fits no cache (docs/performance.md).
pub(super) const SETTINGS: &str = "-c synchronous_commit=off -c statement_timeout=0 -c lock_timeout=0";

/// What of an archive is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Everything.
    #[default]
    All,
    /// Definitions only.
    Schema,
    /// Rows only, into tables that are there.
    Data,
}

/// Whose work a load is. Its program is looked for before anything is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Loader {
    /// `pg_restore`: archives.
    #[default]
    PgRestore,
    /// `psql`: dumps in SQL that others made.
    Psql,
    /// A program of the operator's.
    Other,
}

/// How to load.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who does it.
    pub loader: Loader,
    /// Tables at once, and indexes at once.
    pub jobs: usize,
    /// Leave objects to the connecting role.
    pub no_owner: bool,
    /// Leave out grants.
    pub no_privileges: bool,
    /// What to load.
    pub what: What,
    /// With [`What::Data`]: triggers and foreign keys do not act. For superusers; the keys must be looked at afterwards.
    pub replica: bool,
    /// These tables only, with the definitions of all.
    pub only: Option<Only>,
    /// Everything goes into the default tablespace; set by a load that finds another one missing.
    pub no_tablespaces: bool,
    /// The server is made for this load and thrown away: extensions that it lacks are left out, and tablespaces.
    pub scratch: bool,
}

impl Options {
    /// All of an archive, as it was.
    pub fn whole(jobs: usize) -> Self {
        Options {
            loader: Loader::default(),
            jobs,
            no_owner: false,
            no_privileges: false,
            what: What::All,
            replica: false,
            only: None,
            no_tablespaces: false,
            scratch: false,
        }
    }
}

/// What a load did.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// Rows that sessions of ours put in, as the server counted them, by schema and name.
    pub rows: BTreeMap<(String, String), u64>,
    /// What the tools said although they succeeded.
    pub warnings: Vec<String>,
    /// What only a superuser may make.
    pub left_out: Vec<String>,
}

/// Looks for the program of a load into a server of a major version, where it will run. `reads` is the oldest version that
/// reads the archives.
///
/// # Errors
/// [`Kind::Refused`] that names the version to install.
pub async fn is_possible(loader: Loader, major: u32, reads: u32, place: &Place) -> Result<()> {
    let found = match loader {
        Loader::PgRestore if reads > major => tools::find_for("the archive", "pg_restore", reads, place)
            .await
            .map_err(|e| e.because(format!("the backup was made with a pg_dump of version {reads} or newer"))),
        Loader::PgRestore => tools::find("pg_restore", major, place).await,
        Loader::Psql => tools::any("psql", place).await,
        Loader::Other => return Ok(()),
    };
    found.map(drop).map_err(|e| e.kind(Kind::Refused))
}

/// The tools of a load.
struct Tools {
    pg_restore: PathBuf,
    psql: Option<PathBuf>,
}

/// Loads an archive into the empty database `name`.
///
/// # Errors
/// [`Kind::Restore`] with the words of whoever refused. The database is then half full.
pub async fn load(
    server: &Server,
    name: &str,
    expected: &DatabaseFacts,
    archive: &dyn Archive,
    options: &Options,
) -> Result<Loaded> {
    let admin = server.admin().await?;
    let major = facts::server_version(&admin).await? / 10_000;
    let superuser = globals::is_superuser(&admin, &server.user).await?;
    let spaces =
        admin.rows("spcname", "FROM pg_tablespace").await.map_err(|e| e.says("the tablespaces cannot be read"))?;
    let lacking = if options.scratch { lacking::of(&admin, expected).await? } else { Vec::new() };
    drop(admin);
    let lacks = expected.tablespaces.keys().any(|wanted| spaces.iter().all(|r| r.text(0) != *wanted));
    let options = &Options { no_tablespaces: options.no_tablespaces || lacks, ..options.clone() };
    let place = &server.place;
    let found = head(archive).await?;
    let reads = found.as_ref().map_or(0, |(head, _)| head.oldest_reader());
    let tools = Tools {
        pg_restore: tools::find("pg_restore", major.max(expected.server_version / 10_000).max(reads), place).await?,
        psql: if server.is_direct() { None } else { Some(tools::any("psql", place).await?) },
    };
    let mut loaded = Loaded::default();
    match found {
        None if options.only.is_some() || options.what != What::All => return Err(newer()),
        None => {
            let run = restore(server, &tools, name, options, &[]);
            feed(run, Vec::new(), archive.range(0, archive.length()), true, &mut loaded).await?;
        }
        Some((head, length)) => {
            let head = match superuser {
                true => head,
                false => reserved::without(&head, &mut loaded.left_out),
            };
            let head = if options.no_owner { sql::archive::without_owners(&head) } else { head };
            let head = lacking::without(&head, &lacking, &mut loaded.left_out);
            let file = HeadFile::make(server, options.scratch).await?;
            let parts = Parts { server, tools: &tools, name, expected, archive, options };
            let done = match &options.only {
                None => parts.load(&head, length, &file, &mut loaded).await,
                Some(only) => parts.some(only, &head, length, &file, &mut loaded).await,
            };
            let removed = file.remove(server).await;
            // What made the load fail may also keep its file from being removed.
            done.map_err(|e| lacking::explained(e, &lacking))?;
            removed?;
        }
    }
    settle(server, name).await?;
    Ok(loaded)
}

/// True for names that a restore gives to databases beside the live one.
pub fn is_ours(name: &str) -> bool {
    ["_staged_", "_before_", "_failed_"].iter().any(|infix| {
        name.rsplit_once(infix).is_some_and(|(_, id)| id.len() >= 8 && id.starts_with(|c: char| c.is_ascii_digit()))
    })
}

/// Statistics for the planner, and everything on disk: a commit that waits flushes the log up to itself, with all that was
/// committed without waiting. One that has written nothing would not.
///
/// # Errors
/// [`Kind::Restore`].
pub async fn settle(server: &Server, name: &str) -> Result<()> {
    let session = server.session(name).await?;
    let settled = async {
        session.run("ANALYZE").await?;
        session.rows("pg_logical_emit_message(true, 'backstay', 'loaded')::text", "").await.map(|_| ())
    };
    settled
        .await
        .map_err(|e: super::session::SqlError| e.says("the loaded database cannot be analysed").kind(Kind::Restore))
}
