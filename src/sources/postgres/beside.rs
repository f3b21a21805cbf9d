//! The rows of big tables: each over a session of its own, in the snapshot of the dump, framed as `pg_dump` frames rows.

use super::archive::blocks::Framer;
use super::artifact_name;
use super::big::Big;
use super::connect::literal;
use super::copy::{CopyOut, FAITHFUL};
use super::dump::{Dumping, MEDIA, Stopped, blocking, patient};
use super::facts::DatabaseFacts;
use super::session::LOCK_NOT_AVAILABLE;
use crate::error::{Error, Kind, Result};
use crate::repository::writer::PendingArtifact;
use bytes::Bytes;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, TryStreamExt};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::io::{StreamReader, SyncIoBridge};

/// Framed rows that are handed over at once.
const PIECE: usize = 256 << 10;

type Stoppable<T> = std::result::Result<T, Stopped>;

/// The rows of one big table, as a part of the archive.
pub(super) struct Part {
    pub artifact: PendingArtifact,
    pub entry: i32,
    pub rows: u64,
}

/// The big tables of a database, when the head of its archive is there and `pg_dump` has locked them.
pub(super) struct Parts<'a> {
    pub with: &'a Dumping<'a>,
    pub facts: &'a DatabaseFacts,
    pub snapshot: &'a str,
    pub big: &'a [Big],
    /// The entry of each in the archive.
    pub entries: Vec<i32>,
}

impl Parts<'_> {
    /// Begins all of them, so that their locks are had now.
    pub async fn begin(&self) -> Stoppable<Vec<CopyOut>> {
        let begun: Vec<_> =
            self.big.iter().map(|table| begin(self.with, self.facts, self.snapshot, table).boxed()).collect();
        futures::future::try_join_all(begun).await
    }

    /// Writes them, a few at a time; what was not begun begins with its turn.
    pub async fn copy(&self, begun: Option<Vec<CopyOut>>) -> Stoppable<Vec<Part>> {
        let mut begun = begun.map(Vec::into_iter);
        // In the order of the tables; one that is done makes room for the next, whichever it is.
        let turns = &Semaphore::new(self.with.source.jobs.max(1));
        let mut parts = Vec::new();
        for (n, (table, entry)) in self.big.iter().zip(&self.entries).enumerate() {
            let copy = begun.as_mut().and_then(Iterator::next);
            let part = async move {
                let closed = |_| Error::new(Kind::Internal, "the queue of tables is gone");
                let _turn = turns.acquire().await.map_err(closed)?;
                let copy = match copy {
                    Some(copy) => copy,
                    None => begin(self.with, self.facts, self.snapshot, table).await?,
                };
                Ok::<_, Stopped>((n, write(self.with, self.facts, copy, table, *entry).await?))
            };
            parts.push(part.boxed());
        }
        // Whichever fails first ends it all.
        let parts = parts.into_iter().collect::<FuturesUnordered<_>>();
        let mut parts = parts.try_collect::<Vec<_>>().await?;
        parts.sort_by_key(|(n, _)| *n);
        Ok(parts.into_iter().map(|(_, part)| part).collect())
    }
}

/// What a session needs to see what `pg_dump` sees, and to write it as `pg_dump` would.
fn statements(facts: &DatabaseFacts, snapshot: &str, table: &Big) -> Vec<String> {
    let mut before = vec![
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY".to_owned(),
        format!("SET TRANSACTION SNAPSHOT {}", literal(snapshot)),
    ];
    before.extend(patient(facts.server_version));
    for (name, value) in FAITHFUL.iter().copied().chain([("client_encoding", facts.encoding.as_str())]) {
        before.push(format!("SET {name} = {}", literal(value)));
    }
    before.push(format!("LOCK TABLE ONLY {} IN ACCESS SHARE MODE NOWAIT", table.sql));
    before
}

async fn begin(with: &Dumping<'_>, facts: &DatabaseFacts, snapshot: &str, table: &Big) -> Stoppable<CopyOut> {
    let before = statements(facts, snapshot, table);
    let rows = format!("COPY {} {} TO STDOUT", table.sql, table.columns);
    let begun = CopyOut::begin(with.server, with.tools.psql.as_deref(), &facts.database, &before, &rows).await?;
    begun.map_err(|e| match e.is(LOCK_NOT_AVAILABLE) {
        true => Stopped::Together(table.sql.clone()),
        false => e.says("a big table cannot be dumped").at(&table.sql).into(),
    })
}

/// Streams one table into a part of the archive.
async fn write(with: &Dumping<'_>, facts: &DatabaseFacts, copy: CopyOut, table: &Big, entry: i32) -> Stoppable<Part> {
    let (pieces, received) = mpsc::channel::<std::io::Result<Bytes>>(2);
    let received = futures::stream::unfold(received, |mut r| async { Some((r.recv().await?, r)) });
    let mut artifact = with.writer.artifact(&artifact_name(&facts.database), MEDIA);
    let mut reader = SyncIoBridge::new(StreamReader::new(Box::pin(received)));
    let writing = blocking(move || {
        artifact.stream_part(&mut reader)?;
        artifact.finish()
    });
    // A task of its own stays with that of the connection on one thread, and is not woken from another one for each 8 KiB; it ends
    // when it is not waited for any more.
    let mut copying = JoinSet::new();
    copying.spawn(frame(copy, entry, pieces));
    // When the copy fails, its end of the channel is dropped and the writer sees an end; its artifact is dropped too.
    let (copied, artifact) = futures::future::join(copying.join_next(), writing).await;
    let copied = copied.ok_or_else(|| Error::new(Kind::Internal, "the copy of a table is gone"))?;
    let rows =
        copied.map_err(Error::panicked("copying"))?.map_err(|e| match e.to_string().contains(LOCK_NOT_AVAILABLE) {
            true => Stopped::Together(table.sql.clone()),
            false => Stopped::Failed(e.at(&table.sql)),
        })?;
    Ok(Part { artifact: artifact??, entry, rows })
}

/// Frames the rows of a table as a block of the archive; gives their number.
async fn frame(mut copy: CopyOut, entry: i32, pieces: mpsc::Sender<std::io::Result<Bytes>>) -> Result<u64> {
    let mut framer = Framer::new(entry);
    let mut rest: Vec<u8> = Vec::new();
    while let Some(piece) = copy.next().await.map_err(|e| e.says("the rows of a table cannot be read"))? {
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', &piece) {
            if rest.is_empty() {
                framer.row(&piece[start..=end]);
            } else {
                rest.extend_from_slice(&piece[start..=end]);
                framer.row(&rest);
                rest.clear();
            }
            start = end + 1;
        }
        rest.extend_from_slice(&piece[start..]);
        // The writer is gone when it failed, and says why.
        if framer.ready() >= PIECE && pieces.send(Ok(framer.take().into())).await.is_err() {
            return Ok(framer.rows);
        }
    }
    copy.finish().await?;
    if !rest.is_empty() {
        return Err(Error::new(Kind::Source, "the last row of a table is not whole"));
    }
    let rows = framer.rows;
    let _ = pieces.send(Ok(framer.finish().into())).await;
    Ok(rows)
}
