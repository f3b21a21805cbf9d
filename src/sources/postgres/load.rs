//! The way back in: an archive into a new database that nobody uses yet.
//!
//! Definitions first, from the head of the archive alone, which is kept in a small file. Then the rows: those of big
//! tables over sessions of their own, side by side with `pg_restore`, which gets the rest as a stream; no dump touches
//! the disk. Then indexes and constraints, several at once, from the same small file. Any error ends it: no load is
//! good that printed one.

use super::archive::ArchiveError;
use super::archive::blocks::Unframer;
use super::archive::head::Head;
use super::archive::stored::{Archive, head, newer};
use super::connect::{Server, conninfo_value, ident, literal};
use super::copy::CopyIn;
use super::facts::{self, BigTable, DatabaseFacts};
use super::headfile::HeadFile;
use super::pick::{self, Only};
use super::{globals, lacking, reserved, sql, tools};
use crate::error::{Error, Kind, Result};
use crate::host::exec::{Program, Running};
use bytes::Bytes;
use futures::{FutureExt, StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

/// Bytes of rows that are handed to a session at once.
const PIECE: usize = 256 << 10;
/// Memory for building one index, for a session that builds them: the default is for a server that does much else.
const INDEX_MEMORY: &str = "256MB";

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

/// How to load.
#[derive(Clone, Debug)]
pub struct Options {
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
    let tools = Tools {
        pg_restore: tools::find("pg_restore", major.max(expected.server_version / 10_000), place).await?,
        psql: if server.is_direct() { None } else { Some(tools::any("psql", place).await?) },
    };
    let mut loaded = Loaded::default();
    match head(archive).await? {
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
            file.remove(server).await?;
            done.map_err(|e| lacking::explained(e, &lacking))?;
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

/// Statistics for the planner, and everything on disk: a synchronous commit flushes the log up to itself, with all
/// that was committed without waiting. Of this server: a standby may be away.
///
/// # Errors
/// [`Kind::Restore`].
pub async fn settle(server: &Server, name: &str) -> Result<()> {
    let session = server.session(name).await?;
    let settled = async {
        session.run("SET synchronous_commit = local").await?;
        session.run("ANALYZE").await?;
        session.run("BEGIN").await?;
        session.rows("txid_current()", "").await?;
        session.run("COMMIT").await
    };
    settled
        .await
        .map_err(|e: super::session::SqlError| e.says("the loaded database cannot be analysed").kind(Kind::Restore))
}

struct Parts<'a> {
    server: &'a Server,
    tools: &'a Tools,
    name: &'a str,
    expected: &'a DatabaseFacts,
    archive: &'a dyn Archive,
    options: &'a Options,
}

impl Parts<'_> {
    async fn load(&self, head: &Head, length: u64, file: &HeadFile, loaded: &mut Loaded) -> Result<()> {
        match self.options.what {
            What::Schema => file.put(self.server, &pick::without_content(head)).await?,
            _ => file.put(self.server, head).await?,
        }
        if self.options.what != What::Data {
            self.run(&["--section=pre-data", &file.path()], loaded).await?;
        }
        if self.options.what != What::Schema {
            self.rows(head, length, true, loaded).await?;
        }
        if self.options.what != What::Data {
            self.behind(file, loaded).await?;
        }
        Ok(())
    }

    /// Some tables. Which are partitions of which is known when they are defined.
    async fn some(&self, only: &Only, head: &Head, length: u64, file: &HeadFile, loaded: &mut Loaded) -> Result<()> {
        file.put(self.server, &pick::without_large_objects(head)).await?;
        self.run(&["--section=pre-data", &file.path()], loaded).await?;
        let session = self.server.session(self.name).await?;
        let members = pick::members(&session, &only.tables)
            .await
            .map_err(|e| e.says("the partitions of the tables cannot be found").kind(Kind::Restore))?;
        let head = pick::narrow(head, &members, only.indexes);
        file.put(self.server, &head).await?;
        self.rows(&head, length, false, loaded).await?;
        if only.indexes {
            self.behind(file, loaded).await?;
        }
        Ok(())
    }

    async fn behind(&self, file: &HeadFile, loaded: &mut Loaded) -> Result<()> {
        let jobs = format!("--jobs={}", self.options.jobs.max(1));
        self.run(&["--section=post-data", &jobs, &file.path()], loaded).await
    }

    async fn run(&self, args: &[&str], loaded: &mut Loaded) -> Result<()> {
        let program = restore(self.server, self.tools, self.name, self.options, args);
        let (running, _) = program.reading().await?;
        loaded.warnings.extend(self.finish(running).await?);
        Ok(())
    }

    async fn finish(&self, running: Running) -> Result<Vec<String>> {
        running.finish(Kind::Restore).await.map_err(|e| e.at(format!("database {}", self.name)))
    }

    /// The rows that the head names: `pg_restore` with what `pg_dump` wrote, and the big tables beside it. When it
    /// names not all, `pg_restore` stops reading behind the last that it wants.
    async fn rows(&self, head: &Head, length: u64, whole: bool, loaded: &mut Loaded) -> Result<()> {
        let blocks = self.expected.archive.as_ref().map(|a| a.blocks.as_slice()).unwrap_or_default();
        let end = self.expected.archive.as_ref().map_or(self.archive.length(), |a| a.big);
        let big: HashSet<i32> = blocks.iter().map(|b| b.entry).collect();
        let wanted: HashSet<i32> = head.entries.iter().map(|e| e.dump_id).collect();
        let main = restore(self.server, self.tools, self.name, self.options, &["--section=data"]);
        let main_head = head.without(&big);
        let rest = match whole || main_head.entries.iter().any(|e| e.is("TABLE DATA")) {
            true => self.archive.range(length, end - length),
            false => mpsc::channel(1).1,
        };
        let mut said = Loaded::default();
        let main = feed(main, main_head.encode(), rest, whole, &mut said);
        let mut tables = Vec::new();
        for block in blocks.iter().filter(|b| wanted.contains(&b.entry)) {
            tables.push(self.table(head, block).boxed());
        }
        let tables = futures::stream::iter(tables).buffer_unordered(self.options.jobs.max(1)).try_collect::<Vec<_>>();
        let ((), tables) = tokio::try_join!(main, tables)?;
        loaded.warnings.extend(said.warnings);
        loaded.rows.extend(tables);
        Ok(())
    }

    /// The rows of one big table.
    async fn table(&self, head: &Head, block: &BigTable) -> Result<((String, String), u64)> {
        let name = format!("{}.{}", block.schema, block.name);
        let odd = |e: ArchiveError| {
            Error::new(Kind::Damaged, "the rows of a table cannot be taken from the archive").at(&name).because(e)
        };
        let entry = head.entries.iter().find(|e| e.dump_id == block.entry);
        let copy = entry
            .and_then(|e| e.copy_from())
            .ok_or_else(|| odd(ArchiveError::Malformed("its table of contents does not name them")))?;
        let mut before: Vec<String> = [
            ("client_encoding", self.expected.encoding.as_str()),
            ("search_path", ""),
            ("row_security", "off"),
            ("statement_timeout", "0"),
            ("lock_timeout", "0"),
            ("idle_in_transaction_session_timeout", "0"),
            ("synchronous_commit", "off"),
            ("xmloption", "content"),
        ]
        .iter()
        .map(|(name, value)| format!("SET {name} = {}", literal(value)))
        .collect();
        before.extend(replica(self.options).map(|(name, value)| format!("SET {name} = {}", literal(value))));
        let fresh = self.options.what == What::All;
        if fresh {
            // In the transaction that emptied the table rows are frozen as they come: nobody must do it later.
            before.push(format!("TRUNCATE ONLY {}.{}", ident(&block.schema), ident(&block.name)));
        }
        let copy = if fresh { format!("{copy} WITH (FREEZE)") } else { copy.to_owned() };
        let psql = self.tools.psql.as_deref();
        let mut into = CopyIn::begin(self.server, psql, self.name, &before, &copy).await.map_err(|e| e.at(&name))?;
        let mut pieces = self.archive.range(block.offset, block.length);
        let mut unframer = Unframer::default();
        let mut rows = Vec::new();
        while let Some(piece) = pieces.recv().await {
            unframer.feed(&piece?, &mut rows).map_err(odd)?;
            if rows.len() >= PIECE {
                let full = std::mem::replace(&mut rows, Vec::with_capacity(2 * PIECE));
                if let Err(e) = into.send(full.into()).await {
                    // The server has refused a row; only the end of the copy tells which.
                    return Err(into.finish().await.err().unwrap_or(e).at(&name));
                }
            }
        }
        unframer.finish().map_err(odd)?;
        let sent = into.send(rows.into()).await;
        let rows = into.finish().await.map_err(|e| e.at(&name))?;
        sent.map_err(|e| e.at(&name))?;
        if rows != block.rows {
            return Err(
                Error::new(Kind::Mismatch, format!("{rows} rows were loaded instead of {}", block.rows)).at(&name)
            );
        }
        Ok(((block.schema.clone(), block.name.clone()), rows))
    }
}

/// A setting of sessions that fill tables which have their triggers and foreign keys already.
fn replica(options: &Options) -> Option<(&'static str, &'static str)> {
    (options.what == What::Data && options.replica).then_some(("session_replication_role", "replica"))
}

/// A `pg_restore` into a database.
fn restore(server: &Server, tools: &Tools, name: &str, options: &Options, args: &[&str]) -> Program {
    let mut all =
        vec!["--exit-on-error".to_owned(), "--no-password".into(), format!("--dbname=dbname={}", conninfo_value(name))];
    for (set, flag) in [
        (options.no_owner, "--no-owner"),
        (options.no_privileges, "--no-privileges"),
        (options.no_tablespaces || options.scratch, "--no-tablespaces"),
    ] {
        if set {
            all.push(flag.into());
        }
    }
    all.extend(args.iter().map(|a| (*a).to_owned()));
    let mut program = server.program(&tools.pg_restore, all);
    // Only for these sessions; the log is flushed before the load counts.
    let mut settings = format!(
        "-c synchronous_commit=off -c maintenance_work_mem={INDEX_MEMORY} -c statement_timeout=0 -c lock_timeout=0"
    );
    if let Some((name, value)) = replica(options) {
        settings.push_str(&format!(" -c {name}={value}"));
    }
    program.env.0.push(("PGOPTIONS".to_owned(), settings));
    program
}

/// Gives a program its input, and reads its exit status. One that wants the whole must take all of it.
async fn feed(
    program: Program,
    first: Vec<u8>,
    mut rest: mpsc::Receiver<Result<Bytes>>,
    whole: bool,
    loaded: &mut Loaded,
) -> Result<()> {
    let (running, mut input) = program.writing().await?;
    let mut next = Some(Ok(Bytes::from(first)));
    let mut broken = None;
    while let Some(piece) = next {
        if let Err(e) = input.write_all(&piece?).await {
            // It is gone; its exit status says why.
            broken = Some(Error::new(Kind::Restore, "pg_restore stopped reading").because(e));
            break;
        }
        next = rest.recv().await;
    }
    let ended = input.shutdown().await;
    drop(input);
    loaded.warnings.extend(running.finish(Kind::Restore).await?);
    if let Some(e) = broken {
        return if whole { Err(e) } else { Ok(()) };
    }
    ended
        .or_else(|e| if e.kind() == std::io::ErrorKind::BrokenPipe { Ok(()) } else { Err(e) })
        .map_err(|e| Error::new(Kind::Restore, "the input of pg_restore cannot be ended").because(e))
}
