//! The way back in: an archive into a new database that nobody uses yet.
//!
//! Definitions first, from the head of the archive alone, which is kept in a small file. Then the rows: those of big
//! tables over sessions of their own, side by side with `pg_restore`, which gets the rest as a stream; no dump touches
//! the disk. Then indexes and constraints, several at once, from the same small file. Any error ends it: no load is
//! good that printed one.

use super::archive::ArchiveError;
use super::archive::blocks::Unframer;
use super::archive::head::Head;
use super::connect::{Server, conninfo_value, ident, literal};
use super::copy::CopyIn;
use super::facts::{self, BigTable, DatabaseFacts};
use super::tools;
use crate::error::{Error, Kind, Result};
use crate::host::exec::{Program, Running};
use bytes::Bytes;
use futures::{FutureExt, StreamExt, TryStreamExt};
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio_util::io::{StreamReader, SyncIoBridge};

/// Bytes of rows that are handed to a session at once.
const PIECE: usize = 256 << 10;
/// Memory for building one index, for a session that builds them: the default is for a server that does much else.
const INDEX_MEMORY: &str = "256MB";

/// The bytes of an archive, in any order.
pub trait Archive: Send + Sync {
    /// A stream of `length` bytes from `offset` on.
    fn range(&self, offset: u64, length: u64) -> mpsc::Receiver<Result<Bytes>>;

    /// Bytes in all.
    fn length(&self) -> u64;
}

/// What of an archive is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
}

/// What a load did.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// Rows that sessions of ours put in, as the server counted them, by schema and name.
    pub rows: BTreeMap<(String, String), u64>,
    /// What the tools said although they succeeded.
    pub warnings: Vec<String>,
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
    drop(admin);
    let place = &server.place;
    let tools = Tools {
        pg_restore: tools::find("pg_restore", major.max(expected.server_version / 10_000), place).await?,
        psql: if server.is_direct() { None } else { Some(tools::any("psql", place).await?) },
    };
    let mut loaded = Loaded::default();
    match head(archive).await? {
        None => {
            let run = restore(server, &tools, name, options, &[]);
            feed(run, Vec::new(), archive.range(0, archive.length()), &mut loaded).await?;
        }
        Some((head, length)) => {
            let file = HeadFile::write(server, &head.encode()).await?;
            let parts = Parts { server, tools: &tools, name, expected, archive, options };
            let done = parts.load(&head, length, &file.path, &mut loaded).await;
            file.remove(server).await?;
            done?;
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
/// that was committed without waiting.
///
/// # Errors
/// [`Kind::Restore`].
pub async fn settle(server: &Server, name: &str) -> Result<()> {
    let session = server.session(name).await?;
    let settled = async {
        session.run("ANALYZE").await?;
        session.run("SET synchronous_commit = on").await?;
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
    async fn load(&self, head: &Head, length: u64, file: &Path, loaded: &mut Loaded) -> Result<()> {
        let file = file.display().to_string();
        let jobs = format!("--jobs={}", self.options.jobs.max(1));
        if self.options.what != What::Data {
            self.run(&["--section=pre-data", &file], loaded).await?;
        }
        if self.options.what != What::Schema {
            self.rows(head, length, loaded).await?;
        }
        if self.options.what != What::Data {
            self.run(&["--section=post-data", &jobs, &file], loaded).await?;
        }
        Ok(())
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

    /// All rows: `pg_restore` with what `pg_dump` wrote, and the big tables beside it.
    async fn rows(&self, head: &Head, length: u64, loaded: &mut Loaded) -> Result<()> {
        let blocks = self.expected.archive.as_ref().map(|a| a.blocks.as_slice()).unwrap_or_default();
        let end = self.expected.archive.as_ref().map_or(self.archive.length(), |a| a.big);
        let big: HashSet<i32> = blocks.iter().map(|b| b.entry).collect();
        let main = restore(self.server, self.tools, self.name, self.options, &["--section=data"]);
        let mut warnings = Loaded::default();
        let main = feed(main, head.without(&big).encode(), self.archive.range(length, end - length), &mut warnings);
        let mut tables = Vec::new();
        for block in blocks {
            tables.push(self.table(head, block).boxed());
        }
        let tables = futures::stream::iter(tables).buffer_unordered(self.options.jobs.max(1)).try_collect::<Vec<_>>();
        let ((), tables) = tokio::try_join!(main, tables)?;
        loaded.warnings.extend(warnings.warnings);
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

/// A `pg_restore` into a database.
fn restore(server: &Server, tools: &Tools, name: &str, options: &Options, args: &[&str]) -> Program {
    let mut all =
        vec!["--exit-on-error".to_owned(), "--no-password".into(), format!("--dbname=dbname={}", conninfo_value(name))];
    for (set, flag) in [(options.no_owner, "--no-owner"), (options.no_privileges, "--no-privileges")] {
        if set {
            all.push(flag.into());
        }
    }
    all.extend(args.iter().map(|a| (*a).to_owned()));
    let mut program = server.program(&tools.pg_restore, all);
    // Only for these sessions; the log is flushed before the load counts.
    let options = format!(
        "-c synchronous_commit=off -c maintenance_work_mem={INDEX_MEMORY} -c statement_timeout=0 -c lock_timeout=0"
    );
    program.env.0.push(("PGOPTIONS".to_owned(), options));
    program
}

/// Gives a program its input, and reads its exit status.
async fn feed(
    program: Program,
    first: Vec<u8>,
    mut rest: mpsc::Receiver<Result<Bytes>>,
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
        return Err(e);
    }
    ended
        .or_else(|e| if e.kind() == std::io::ErrorKind::BrokenPipe { Ok(()) } else { Err(e) })
        .map_err(|e| Error::new(Kind::Restore, "the input of pg_restore cannot be ended").because(e))
}

/// The head of an archive and its length, or nothing when it is of a version that is not taken apart.
async fn head(archive: &dyn Archive) -> Result<Option<(Head, u64)>> {
    let pieces = archive.range(0, archive.length());
    let pieces = futures::stream::unfold(pieces, |mut p| async { Some((p.recv().await?, p)) });
    // An error of the store must come out as it is, not as the end of an archive.
    let (errors, mut error) = mpsc::channel(1);
    let pieces = pieces.map(move |piece| {
        piece.map_err(|e| {
            let text = e.one_line();
            let _ = errors.try_send(e);
            std::io::Error::other(text)
        })
    });
    let mut reader = SyncIoBridge::new(StreamReader::new(Box::pin(pieces)));
    let read = tokio::task::spawn_blocking(move || {
        let mut counting = Counting { inner: &mut reader, bytes: 0 };
        let head = Head::read(&mut counting);
        (head, counting.bytes)
    });
    let (head, bytes) = read.await.map_err(|_| Error::new(Kind::Internal, "the reading thread ended by a panic"))?;
    match head {
        Ok(head) => Ok(Some((head, bytes))),
        Err(ArchiveError::Unknown(..)) => Ok(None),
        Err(e) => Err(match error.try_recv() {
            Ok(e) => e,
            Err(_) => Error::new(Kind::Damaged, "the archive cannot be read").because(e),
        }),
    }
}

struct Counting<R> {
    inner: R,
    bytes: u64,
}

impl<R: std::io::Read> std::io::Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.bytes += n as u64;
        Ok(n)
    }
}

/// The head of an archive in a file where `pg_restore` runs: it reads that file several times at once.
struct HeadFile {
    directory: PathBuf,
    path: PathBuf,
}

impl HeadFile {
    async fn write(server: &Server, head: &[u8]) -> Result<Self> {
        // Readable by its maker only: it may name what nobody should know.
        let made = server.program(Path::new("mktemp"), ["-d"]).output().await?;
        let directory = PathBuf::from(String::from_utf8_lossy(&made).trim_end());
        let path = directory.join("head.dump");
        let path_text = path.display().to_string();
        let (running, mut input) =
            server.program(Path::new("sh"), ["-c", "cat > \"$1\"", "sh", &path_text]).writing().await?;
        let written = async {
            input.write_all(head).await?;
            input.shutdown().await
        };
        let written = written.await;
        drop(input);
        running.finish(Kind::Restore).await?;
        written.map_err(|e| Error::io("the head of the archive cannot be written", &path, e).kind(Kind::Restore))?;
        Ok(HeadFile { directory, path })
    }

    async fn remove(self, server: &Server) -> Result<()> {
        let directory = self.directory.display().to_string();
        server.program(Path::new("rm"), ["-r", "--", &directory]).output().await.map(|_| ())
    }
}
