//! The way out of one database: one exported snapshot, in which `pg_dump` writes all but the rows of big tables, and
//! those come over sessions of their own, side by side. Together they are one archive.
//!
//! The order of locks matters. `pg_dump` locks every table before it writes its table of contents, and only then our
//! sessions ask for theirs ([`super::beside`]), without waiting: a lock that is not to be had at once means that somebody
//! waits to alter the table, and whoever waits behind him would wait for the end of the dump, which waits for us. Then
//! the dump is made again, all by `pg_dump`; or, when it belongs to a moment that has passed ([`super::point`]), not at all.

use super::archive::ArchiveError;
use super::archive::blocks::Scanner;
use super::archive::head::Head;
use super::beside;
use super::big::{self, Big};
use super::connect::{Server, conninfo_value};
use super::facts::{self, ArchiveFacts, BigTable, DatabaseFacts};
use super::point::{Point, too_late};
use super::session::Session;
use super::{PostgresSource, artifact_name, tools};
use crate::error::{Error, Kind, Result};
use crate::host::exec::Program;
use crate::repository::writer::{ArtifactWriter, BackupWriter, PendingArtifact};
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::oneshot;
use tokio_util::io::SyncIoBridge;

/// How often a dump is tried while somebody alters tables.
const TRIES: usize = 4;
/// Media type of an archive.
pub(super) const MEDIA: &str = "pg-custom";

/// The tools of a run.
pub struct Tools {
    /// `pg_dump` of the server's version.
    pub pg_dump: PathBuf,
    /// `psql`, when sessions go through it.
    pub psql: Option<PathBuf>,
}

impl Tools {
    /// Finds them.
    pub async fn find(server: &Server, major: u32) -> Result<Self> {
        let psql = if server.is_direct() { None } else { Some(tools::any("psql", &server.place).await?) };
        Ok(Tools { pg_dump: tools::find("pg_dump", major, &server.place).await?, psql })
    }
}

/// What a dump works with.
#[derive(Clone, Copy)]
pub struct Dumping<'a> {
    /// The source.
    pub source: &'a PostgresSource,
    /// Its server.
    pub server: &'a Server,
    /// Its tools.
    pub tools: &'a Tools,
    /// Where the bytes go.
    pub writer: &'a BackupWriter,
}

/// One try.
enum Try {
    Done(PendingArtifact, Box<DatabaseFacts>),
    /// These tables were rewritten or truncated meanwhile, and may be empty in the dump.
    Rewritten(Vec<String>),
    /// A big table could not be dumped beside the others.
    Together(String),
}

/// Dumps one database, again when a table was rewritten meanwhile and there is still time for that.
///
/// # Errors
/// What failed, and [`Kind::Source`] when tables were rewritten during each try.
pub async fn database(
    with: &Dumping<'_>,
    database: &str,
    point: &Point<'_>,
) -> Result<(PendingArtifact, DatabaseFacts)> {
    let mut threshold = with.source.big_tables;
    let mut rewritten = Vec::new();
    let reached = AtomicBool::new(false);
    for _ in 0..TRIES {
        match once(with, database, threshold, point, &reached).await? {
            Try::Done(artifact, facts) => return Ok((artifact, *facts)),
            Try::Rewritten(tables) => rewritten = tables,
            Try::Together(table) => {
                rewritten = vec![table];
                threshold = u64::MAX;
            }
        }
        if point.is_once() && reached.load(Ordering::SeqCst) {
            return Err(too_late(&rewritten));
        }
    }
    Err(Error::new(Kind::Source, "tables were rewritten or truncated during each try, and may be empty in the dump")
        .because(rewritten.join(", "))
        .hint("Run the backup when nobody alters tables."))
}

async fn once(
    with: &Dumping<'_>,
    database: &str,
    threshold: u64,
    point: &Point<'_>,
    reached: &AtomicBool,
) -> Result<Try> {
    let holder = with.server.session(database).await?;
    let snapshot = export_snapshot(&holder).await?;
    let mut facts = facts::read(&holder).await?;
    let mut big = big::choose(&holder, &facts, threshold).await?;
    // The biggest come first.
    big.truncate(point.sessions());

    let (heading, headed) = oneshot::channel();
    let (go, may_go) = oneshot::channel();
    let main = main_part(with, database, &snapshot, big.clone(), Between { heading, may_go });
    let parts = async {
        // The other side failed, and says why.
        let Ok(entries) = headed.await else { return std::future::pending().await };
        let parts = beside::Parts { with, facts: &facts, snapshot: &snapshot, big: &big, entries };
        let begun = if point.is_once() { Some(parts.begin().await?) } else { None };
        if point.is_once() {
            let rewritten = facts::rewritten(&holder).await?;
            if !rewritten.is_empty() {
                return Err(Stopped::Rewritten(rewritten));
            }
        }
        reached.store(true, Ordering::SeqCst);
        let turn = point.reached().await;
        // When nobody listens, the other side failed.
        let _ = go.send(());
        Ok((parts.copy(begun).await?, turn))
    };
    // Dropping the other future ends its processes and sessions.
    let ((main, known), (parts, _turn)) = match tokio::try_join!(main, parts) {
        Ok(both) => both,
        Err(Stopped::Together(table)) => return Ok(Try::Together(table)),
        Err(Stopped::Rewritten(tables)) => return Ok(Try::Rewritten(tables)),
        Err(Stopped::Failed(e)) => return Err(e),
    };

    let mut rows = known.rows;
    let mut offset = main.bytes();
    let mut archive = ArchiveFacts { head: known.head, big: offset, blocks: Vec::new() };
    let mut behind = Vec::new();
    for (table, part) in big.into_iter().zip(parts) {
        let length = part.artifact.bytes();
        rows.insert(table.oid, part.rows);
        let (schema, name) = (table.schema, table.name);
        archive.blocks.push(BigTable { schema, name, entry: part.entry, offset, length, rows: part.rows });
        offset += length;
        behind.push(part.artifact);
    }
    facts::know_rows(&mut facts.tables, &rows);
    // Only what the archive did not tell.
    facts::count(&holder, &mut facts.tables, with.source.count_rows_up_to).await?;
    facts::join_hash_partitions(&mut facts.tables);
    let rewritten = facts::rewritten(&holder).await?;
    if !rewritten.is_empty() {
        return Ok(Try::Rewritten(rewritten));
    }
    facts.archive = (!archive.blocks.is_empty()).then_some(archive);
    Ok(Try::Done(main.join(behind), Box::new(facts)))
}

/// Settings of a session whose transaction must outlive the whole dump.
pub(super) fn patient(version: u32) -> Vec<String> {
    let mut names = vec!["idle_in_transaction_session_timeout", "statement_timeout", "lock_timeout"];
    if version >= 170_000 {
        names.push("transaction_timeout");
    }
    names.iter().map(|name| format!("SET {name} = 0")).collect()
}

async fn export_snapshot(holder: &Session) -> Result<String> {
    let version = facts::server_version(holder).await?;
    let begun = async {
        holder.run_all(&patient(version)).await?;
        holder.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        holder.row("pg_export_snapshot()", "").await
    };
    Ok(begun.await.map_err(|e| e.says("the snapshot for the dump cannot be taken"))?.text(0))
}

/// Why a part ended early.
pub(super) enum Stopped {
    Failed(Error),
    Together(String),
    Rewritten(Vec<String>),
}

impl From<Error> for Stopped {
    fn from(e: Error) -> Self {
        Stopped::Failed(e)
    }
}

/// What the part that `pg_dump` writes and the others tell each other.
struct Between {
    /// The entries of big tables, when the head is read: then every table is locked.
    heading: oneshot::Sender<Vec<i32>>,
    /// The rest may be written.
    may_go: oneshot::Receiver<()>,
}

impl Between {
    /// Tells, and waits. Blocks.
    fn meet(self, entries: Vec<i32>) -> Result<()> {
        // Nobody listens when the run failed elsewhere; it says why.
        let _ = self.heading.send(entries);
        self.may_go.blocking_recv().map_err(|_| Error::new(Kind::Source, "the dump was given up"))
    }
}

/// What is known of the part that `pg_dump` wrote.
#[derive(Default)]
struct Main {
    /// Bytes of the head, with our entries.
    head: u64,
    /// Rows of tables, by OID.
    rows: BTreeMap<u32, u64>,
}

async fn main_part(
    with: &Dumping<'_>,
    database: &str,
    snapshot: &str,
    big: Vec<Big>,
    between: Between,
) -> std::result::Result<(PendingArtifact, Main), Stopped> {
    let mut args = vec![
        "--format=custom".to_owned(),
        "--compress=0".into(),
        "--no-password".into(),
        format!("--snapshot={snapshot}"),
        format!("--dbname=dbname={}", conninfo_value(database)),
    ];
    args.extend(big.iter().map(|b| format!("--exclude-table-data={}", b.sql)));
    let (running, stdout) = with.server.program(&with.tools.pg_dump, args).reading().await?;
    let mut artifact = with.writer.artifact(&artifact_name(database), MEDIA);
    let (artifact, written) = blocking(move || {
        let written = write_main(&mut artifact, SyncIoBridge::new(stdout), &big, between);
        (artifact, written)
    })
    .await?;
    match written {
        // When it failed by itself, its words tell more than a stream that ended early.
        Err(e) if e.kind == Kind::Source => Err(running.finish(Kind::Source).await.err().unwrap_or(e).into()),
        // Dropping the child kills it: nobody reads its output any more.
        Err(e) => Err(e.into()),
        Ok(main) => {
            running.finish(Kind::Source).await?;
            // Handing over the last pack may wait for the budget.
            Ok((blocking(move || artifact.finish()).await??, main))
        }
    }
}

/// Streams an archive into an artifact, and adds the entries of big tables to its head on the way.
fn write_main(artifact: &mut ArtifactWriter, mut stdout: impl Read, big: &[Big], between: Between) -> Result<Main> {
    let odd = |e: ArchiveError| Error::new(Kind::Source, "the output of pg_dump is not what it should be").because(e);
    let mut start = [0; Head::START];
    stdout.read_exact(&mut start).map_err(|e| odd(e.into()))?;
    if big.is_empty() && !Head::is_known(&start) {
        // A newer pg_dump: nothing is known of the inside, and nothing needs to be.
        between.meet(Vec::new())?;
        artifact.stream(&mut start.chain(stdout))?;
        return Ok(Main::default());
    }
    let mut head = Head::read(&mut start.chain(&mut stdout)).map_err(odd)?;
    let ids: std::result::Result<_, _> = big.iter().map(|b| head.add_rows(b.oid, &b.columns)).collect();
    between.meet(ids.map_err(odd)?)?;
    let encoded = head.encode();
    let mut body = Scanning { inner: stdout, scanner: Scanner::new(encoded.len() as u64) };
    match big.is_empty() {
        true => artifact.stream(&mut encoded.chain(&mut body))?,
        false => artifact.stream_part(&mut encoded.chain(&mut body))?,
    }
    let tables: HashMap<i32, u32> = head
        .entries
        .iter()
        .filter(|e| e.is("TABLE DATA"))
        .filter_map(|e| Some((e.dump_id, std::str::from_utf8(e.oid.as_deref()?).ok()?.parse().ok()?)))
        .collect();
    let blocks = body.scanner.finish().map_err(odd)?;
    let rows = blocks.iter().filter_map(|b| Some((*tables.get(&b.entry)?, b.rows?))).collect();
    Ok(Main { head: encoded.len() as u64, rows })
}

/// Looks at the blocks of an archive while it passes.
struct Scanning<R> {
    inner: R,
    scanner: Scanner,
}

impl<R: Read> Read for Scanning<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.scanner.feed(&buffer[..n]).map_err(std::io::Error::other)?;
        Ok(n)
    }
}

pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(Error::panicked("reading"))
}

/// Streams a program's output into an artifact; it counts only when the program exited with 0.
pub async fn stream(writer: &BackupWriter, name: &str, media: &str, program: Program) -> Result<PendingArtifact> {
    let (running, stdout) = program.reading().await?;
    let mut artifact = writer.artifact(name, media);
    let (artifact, streamed) = blocking(move || {
        let streamed = artifact.stream(&mut SyncIoBridge::new(stdout));
        (artifact, streamed)
    })
    .await?;
    // Dropping the child kills it: nobody reads its output any more.
    streamed?;
    running.finish(Kind::Source).await?;
    blocking(move || artifact.finish()).await?
}
