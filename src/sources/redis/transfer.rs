//! The snapshot, as a replica gets it.
//!
//! The server is asked for a full synchronisation. It forks, and its child writes an RDB: straight into the
//! connection, ended by a random mark that it announced (`$EOF:…`), or to its disk first, with its length in front
//! (`$123`). Servers from 6.2 on are told that nothing else is wanted; then they keep no buffer of writes for us.

use super::connect::Connection;
use super::resp::PATIENCE;
use crate::error::{Error, Kind, Result};
use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

/// Bytes of the mark.
const MARK: usize = 40;
/// Most that is handed over at once.
const PIECE: usize = 128 << 10;

/// How the end of the snapshot is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// So many bytes.
    Length(u64),
    /// These bytes follow it.
    Mark([u8; MARK]),
}

/// Asks for a snapshot and waits until it begins.
///
/// # Errors
/// [`Kind::Source`]; a server that does not allow it is told with the rule to grant.
pub async fn begin(connection: &mut Connection) -> Result<Form> {
    // A server that can stream writes nothing to its disk then.
    connection.ask(&["REPLCONF", "capa", "eof"]).await?;
    // Servers before 6.2 do not know this; they keep a buffer for us for as long as the snapshot takes.
    connection.channel().send(&["REPLCONF", "rdb-only", "1"]).await?;
    connection.channel().reply(PATIENCE).await?;
    let psync = ["PSYNC", "?", "-1"];
    connection.channel().send(&psync).await?;
    let answer = told(connection).await?;
    if let Some(refusal) = answer.strip_prefix('-') {
        return Err(connection.refused(&psync, refusal));
    }
    let nonsense = |got: &str| {
        Error::new(Kind::Source, "the server does not begin a synchronisation").because(format!("it answered {got:?}"))
    };
    if !answer.starts_with("+FULLRESYNC") {
        return Err(nonsense(&answer).at(connection.channel().label()));
    }
    let line = told(connection).await?;
    let form = match (line.strip_prefix("$EOF:"), line.strip_prefix('$')) {
        (Some(mark), _) => mark.as_bytes().try_into().ok().map(Form::Mark),
        (None, Some(length)) => length.parse().ok().map(Form::Length),
        _ => None,
    };
    match (form, line.strip_prefix('-')) {
        (Some(form), _) => Ok(form),
        (None, Some(refusal)) => Err(connection.refused(&psync, refusal)),
        (None, None) => Err(nonsense(&line).at(connection.channel().label())),
    }
}

/// The next line that says something: empty ones keep the connection alive while the server prepares.
async fn told(connection: &mut Connection) -> Result<String> {
    loop {
        let line = connection.channel().line(PATIENCE).await?;
        if !line.is_empty() {
            return Ok(line);
        }
    }
}

/// Receives the snapshot and hands its pieces to every reader; each gets a `None` when all has come, and only then.
/// Returns false when a reader has gone, who knows why himself.
///
/// # Errors
/// When the connection ends before; what was handed over is then no snapshot.
pub async fn receive(
    connection: &mut Connection,
    form: &Form,
    readers: &[mpsc::Sender<Option<Bytes>>],
) -> Result<bool> {
    match form {
        Form::Length(length) => {
            let mut left = *length;
            while left > 0 {
                let piece = connection.channel().piece(usize::try_from(left).unwrap_or(PIECE).min(PIECE)).await?;
                left -= piece.len() as u64;
                if !hand_over(readers, Some(piece)).await {
                    return Ok(false);
                }
            }
        }
        Form::Mark(mark) => {
            // What could be the mark is held back until more has come.
            let mut held = BytesMut::new();
            while held[..] != mark[..] {
                held.extend_from_slice(&connection.channel().piece(PIECE).await?);
                let ready = held.len().saturating_sub(MARK);
                if ready > 0 && !hand_over(readers, Some(held.split_to(ready).freeze())).await {
                    return Ok(false);
                }
            }
        }
    }
    Ok(hand_over(readers, None).await)
}

async fn hand_over(readers: &[mpsc::Sender<Option<Bytes>>], piece: Option<Bytes>) -> bool {
    for reader in readers {
        if reader.send(piece.clone()).await.is_err() {
            return false;
        }
    }
    true
}
