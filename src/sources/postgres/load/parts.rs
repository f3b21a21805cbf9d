//! The parts of an archive in their order: definitions, rows, and what is built behind rows.

use super::program::{feed, replica, restore};
use super::{Loaded, Options, Tools, What};
use crate::error::{Error, Kind, Result};
use crate::host::exec::Running;
use crate::sources::postgres::archive::ArchiveError;
use crate::sources::postgres::archive::blocks::Unframer;
use crate::sources::postgres::archive::head::Head;
use crate::sources::postgres::archive::stored::Archive;
use crate::sources::postgres::connect::{Server, ident, literal};
use crate::sources::postgres::copy::CopyIn;
use crate::sources::postgres::facts::{BigTable, DatabaseFacts};
use crate::sources::postgres::headfile::HeadFile;
use crate::sources::postgres::pick::{self, Only};
use crate::sources::postgres::ripe;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, TryStreamExt};
use std::collections::HashSet;
use tokio::sync::{AcquireError, Semaphore, mpsc};

/// Bytes of rows that are handed to a session at once.
const PIECE: usize = 256 << 10;

/// What is loaded, where to, and with what.
pub(super) struct Parts<'a> {
    pub(super) server: &'a Server,
    pub(super) tools: &'a Tools,
    pub(super) name: &'a str,
    pub(super) expected: &'a DatabaseFacts,
    pub(super) archive: &'a dyn Archive,
    pub(super) options: &'a Options,
}

impl Parts<'_> {
    /// All of it, or all of a kind.
    pub(super) async fn load(&self, head: &Head, length: u64, file: &HeadFile, loaded: &mut Loaded) -> Result<()> {
        match self.options.what {
            What::Schema => file.put(self.server, &pick::without_content(head)).await?,
            _ => file.put(self.server, head).await?,
        }
        if self.options.what != What::Data {
            self.run(&["--section=pre-data", &file.path()], loaded).await?;
        }
        let built = match self.options.what {
            What::Schema => HashSet::new(),
            What::Data => self.rows(head, length, true, None, loaded).await?,
            What::All => self.rows(head, length, true, Some(file), loaded).await?,
        };
        if self.options.what != What::Data {
            if !built.is_empty() {
                file.put(self.server, &ripe::without(head, &built)).await?;
            }
            self.behind(file, loaded).await?;
        }
        Ok(())
    }

    /// Some tables. Which are partitions of which is known when they are defined.
    pub(super) async fn some(
        &self,
        only: &Only,
        head: &Head,
        length: u64,
        file: &HeadFile,
        loaded: &mut Loaded,
    ) -> Result<()> {
        file.put(self.server, &pick::without_large_objects(head)).await?;
        self.run(&["--section=pre-data", &file.path()], loaded).await?;
        let session = self.server.session(self.name).await?;
        let members = pick::members(&session, &only.tables)
            .await
            .map_err(|e| e.says("the partitions of the tables cannot be found").kind(Kind::Restore))?;
        let head = pick::narrow(head, &members, only.indexes);
        file.put(self.server, &head).await?;
        self.rows(&head, length, false, None, loaded).await?;
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
        loaded.warnings.extend(self.told(args).await?);
        Ok(())
    }

    /// Runs a `pg_restore`; gives its warnings.
    async fn told(&self, args: &[&str]) -> Result<Vec<String>> {
        let program = restore(self.server, self.tools, self.name, self.options, args);
        let (running, _) = program.reading().await?;
        self.finish(running).await
    }

    async fn finish(&self, running: Running) -> Result<Vec<String>> {
        running.finish(Kind::Restore).await.map_err(|e| e.at(format!("database {}", self.name)))
    }

    /// The rows that the head names: `pg_restore` with what `pg_dump` wrote, and the big tables beside it. When it
    /// names not all, `pg_restore` stops reading behind the last that it wants. With a file for heads a big table gets
    /// its indexes too; gives the entries that are done so.
    async fn rows(
        &self,
        head: &Head,
        length: u64,
        whole: bool,
        early: Option<&HeadFile>,
        loaded: &mut Loaded,
    ) -> Result<HashSet<i32>> {
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
        // Whoever asks first gets the next turn: all tables before any index.
        let turns = &Semaphore::new(self.options.jobs.max(1));
        let tables = blocks.iter().filter(|b| wanted.contains(&b.entry)).map(|block| {
            async move {
                let turn = turns.acquire().await.map_err(closed)?;
                let rows = self.table(head, block).await?;
                drop(turn);
                Ok::<_, Error>((rows, self.ripe(head, block, turns, early).await?))
            }
            .boxed()
        });
        // Whichever fails first ends it all.
        let tables = tables.collect::<FuturesUnordered<_>>().try_collect::<Vec<_>>();
        let ((), tables) = tokio::try_join!(main, tables)?;
        loaded.warnings.extend(said.warnings);
        let mut done = HashSet::new();
        for (rows, built) in tables {
            loaded.rows.extend([rows]);
            for (id, warnings) in built {
                loaded.warnings.extend(warnings);
                done.insert(id);
            }
        }
        Ok(done)
    }

    /// Builds the indexes of a big table whose rows are in; gives their numbers, and what was said.
    async fn ripe(
        &self,
        head: &Head,
        block: &BigTable,
        turns: &Semaphore,
        early: Option<&HeadFile>,
    ) -> Result<Vec<(i32, Vec<String>)>> {
        let rows = head.entries.iter().find(|e| e.dump_id == block.entry);
        let Some((file, rows)) = early.zip(rows) else { return Ok(Vec::new()) };
        let indexes = ripe::of(head, rows).into_iter().map(|id| {
            async move {
                let _turn = turns.acquire().await.map_err(closed)?;
                let path = file.put_as(self.server, &format!("{id}.dump"), &ripe::only(head, id)).await?;
                Ok::<_, Error>((id, self.told(&["--section=post-data", &path]).await?))
            }
            .boxed()
        });
        indexes.collect::<FuturesUnordered<_>>().try_collect().await
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

fn closed(_: AcquireError) -> Error {
    Error::new(Kind::Internal, "the queue of tables and indexes is gone")
}
