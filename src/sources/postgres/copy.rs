//! Rows of one table over a session of their own, out and in, in COPY's text format.

use super::connect::Server;
use super::session::{SqlError, SqlResult};
use crate::error::{Error, Kind, Result};
use crate::host::exec::{Input, Output, Running};
use bytes::{Bytes, BytesMut};
use futures::{SinkExt, Stream, StreamExt};
use std::path::Path;
use std::pin::Pin;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_postgres::{Client, CopyInSink, CopyOutStream};

/// What is read from a `psql` at once.
const PIECE: usize = 256 << 10;

/// Settings with which a session writes values as every server reads them, `pg_dump`'s.
pub const FAITHFUL: &[(&str, &str)] = &[
    ("row_security", "off"),
    ("DateStyle", "ISO"),
    ("IntervalStyle", "postgres"),
    ("extra_float_digits", "3"),
    ("synchronize_seqscans", "off"),
    ("search_path", ""),
];

/// Rows on their way out.
pub enum CopyOut {
    /// Over a connection; the client is kept, since the transaction ends with it.
    Direct(Client, Pin<Box<CopyOutStream>>),
    /// Through a `psql`.
    Psql(Running, Output),
}

impl CopyOut {
    /// Begins: the statements, then `COPY … TO STDOUT`.
    ///
    /// # Errors
    /// The refusal of one of the statements.
    pub async fn begin(
        server: &Server,
        psql: Option<&Path>,
        database: &str,
        before: &[String],
        copy: &str,
    ) -> Result<std::result::Result<Self, SqlError>> {
        let Some(psql) = psql else {
            let client = server.client(database).await?;
            let begun = async {
                client.batch_execute(&before.join(";")).await?;
                client.copy_out(copy).await
            };
            return Ok(match begun.await {
                Ok(stream) => Ok(CopyOut::Direct(client, Box::pin(stream))),
                Err(e) => Err(e.into()),
            });
        };
        let program = server.psql(psql, database, before.iter().map(String::as_str).chain([copy]), true);
        let (running, output) = program.reading().await?;
        Ok(Ok(CopyOut::Psql(running, output)))
    }

    /// The next bytes; nothing at the end. A `psql` must then still be asked how it ended.
    pub async fn next(&mut self) -> std::result::Result<Option<Bytes>, SqlError> {
        match self {
            CopyOut::Direct(_, stream) => Ok(stream.next().await.transpose()?),
            CopyOut::Psql(_, output) => {
                let mut piece = BytesMut::with_capacity(PIECE);
                let n = output.read_buf(&mut piece).await.map_err(|e| SqlError { code: None, text: e.to_string() })?;
                Ok((n > 0).then(|| piece.freeze()))
            }
        }
    }

    /// The rows as a stream, with how it ended at its end.
    pub fn stream(self) -> impl Stream<Item = SqlResult<Bytes>> + Unpin + Send {
        let lost = |e: Error| SqlError { code: None, text: e.one_line() };
        Box::pin(futures::stream::unfold(Some(self), move |copy| async move {
            let mut copy = copy?;
            match copy.next().await {
                Ok(Some(piece)) => Some((Ok(piece), Some(copy))),
                Ok(None) => copy.finish().await.err().map(|e| (Err(lost(e)), None)),
                Err(e) => Some((Err(e), None)),
            }
        }))
    }

    /// How it ended.
    ///
    /// # Errors
    /// What `psql` said when it failed.
    pub async fn finish(self) -> Result<()> {
        match self {
            CopyOut::Direct(..) => Ok(()),
            CopyOut::Psql(running, _) => running.finish(Kind::Source).await.map(|_| ()),
        }
    }
}

/// Rows on their way in.
pub enum CopyIn {
    /// Over a connection.
    Direct(Client, Pin<Box<CopyInSink<Bytes>>>),
    /// Through a `psql`.
    Psql(Running, Input, Output),
}

impl CopyIn {
    /// Begins a transaction: the statements, then `COPY … FROM STDIN`.
    ///
    /// # Errors
    /// The refusal of one of the statements.
    pub async fn begin(
        server: &Server,
        psql: Option<&Path>,
        database: &str,
        before: &[String],
        copy: &str,
    ) -> Result<Self> {
        let refused = |e: tokio_postgres::Error| refused(e.into());
        let Some(psql) = psql else {
            let client = server.client(database).await?;
            client.batch_execute(&format!("BEGIN;{}", before.join(";"))).await.map_err(refused)?;
            let sink = client.copy_in(copy).await.map_err(refused)?;
            return Ok(CopyIn::Direct(client, Box::pin(sink)));
        };
        let statements = ["BEGIN"].into_iter().chain(before.iter().map(String::as_str)).chain([copy, "COMMIT"]);
        let (running, input, output) = server.psql(psql, database, statements, false).duplex().await?;
        Ok(CopyIn::Psql(running, input, output))
    }

    /// Gives bytes.
    ///
    /// # Errors
    /// The server's refusal of a row.
    pub async fn send(&mut self, bytes: Bytes) -> Result<()> {
        match self {
            CopyIn::Direct(_, sink) => sink.send(bytes).await.map_err(|e| refused(e.into())),
            CopyIn::Psql(_, input, _) => {
                input.write_all(&bytes).await.map_err(|e| Error::new(Kind::Restore, "psql stopped reading").because(e))
            }
        }
    }

    /// Ends the rows and commits; gives how many the server took.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn finish(self) -> Result<u64> {
        match self {
            CopyIn::Direct(client, mut sink) => {
                let rows = sink.as_mut().finish().await.map_err(|e| refused(e.into()))?;
                client.batch_execute("COMMIT").await.map_err(|e| refused(e.into()))?;
                Ok(rows)
            }
            CopyIn::Psql(running, mut input, mut output) => {
                // When psql is gone already, its exit status says why.
                let _ = input.shutdown().await;
                drop(input);
                let mut said = String::new();
                let read = output.read_to_string(&mut said).await;
                running.finish(Kind::Restore).await?;
                read.map_err(|e| Error::new(Kind::Restore, "the answer of psql cannot be read").because(e))?;
                said.lines().find_map(|l| l.strip_prefix("COPY ")?.parse().ok()).ok_or_else(|| {
                    Error::new(Kind::Restore, "psql does not say how many rows were copied").because(said)
                })
            }
        }
    }
}

fn refused(e: SqlError) -> Error {
    e.says("the server refuses rows of the backup").kind(Kind::Restore)
}
