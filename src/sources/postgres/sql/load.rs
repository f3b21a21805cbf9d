//! A plain dump into a new database that nobody uses yet, by `psql`, one statement at a time. Any error ends it: no load
//! is good that had one.

use super::super::connect::Server;
use super::super::load::{Loaded, Options, SETTINGS, What, settle};
use super::super::{globals, tools};
use super::cut::{Leave, Runnable, Text};
use super::walk::walk;
use crate::error::{Error, Kind, Result};
use crate::io::BlockingStream;
use bytes::Bytes;
use std::io::BufReader;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

/// Bytes that are handed over at once.
const PIECE: usize = 256 << 10;

/// Loads the dump into the empty database `name`.
///
/// # Errors
/// [`Kind::Restore`] with the words of the server, [`Kind::Damaged`] for a dump that is not whole. The database is then
/// half full.
pub async fn load(
    server: &Server,
    name: &str,
    dump: mpsc::Receiver<Result<Bytes>>,
    options: &Options,
) -> Result<Loaded> {
    if options.what != What::All || options.only.is_some() {
        return Err(parts());
    }
    let admin = server.admin().await?;
    let superuser = globals::is_superuser(&admin, &server.user).await?;
    drop(admin);
    let leave = Leave { owners: options.no_owner, privileges: options.no_privileges, superuser_only: !superuser };
    let (sender, mut script) = mpsc::channel(4);
    let cutting = tokio::task::spawn_blocking(move || {
        let mut stream = BlockingStream::new(dump);
        let mut out = Out { sender, piece: Vec::with_capacity(PIECE) };
        let mut runnable = Runnable::new(&mut out, leave);
        let walked = walk(BufReader::with_capacity(PIECE, &mut stream), &mut runnable);
        let left_out = std::mem::take(&mut runnable.left_out);
        let walked = walked.and_then(|()| out.end());
        // The script's error only says that reading failed; the stream knows why.
        walked.map(|()| left_out).map_err(|e| stream.take_error().unwrap_or(e))
    });
    let psql = tools::any("psql", &server.place).await?;
    let mut program = server.psql(&psql, name, [], true);
    program.env.0.push(("PGOPTIONS".to_owned(), SETTINGS.to_owned()));
    let (running, mut input) = program.writing().await?;
    let mut gone = None;
    while let Some(piece) = script.recv().await {
        if let Err(e) = input.write_all(&piece).await {
            gone = Some(e);
            break;
        }
    }
    if let Err(e) = input.shutdown().await {
        gone.get_or_insert(e);
    }
    drop((input, script));
    let said = running.finish(Kind::Restore).await.map_err(|e| {
        let hint = match e.cause.as_ref().is_some_and(|c| c.to_string().contains("role \"")) {
            true => "Make the role first, or leave owners and grants out with --no-owner --no-privileges.",
            false => "Nothing that is live was touched; every error of a dump counts.",
        };
        Error { what: "a statement of the dump was refused".into(), ..e }.at(format!("database {name}")).hint(hint)
    });
    let cut = cutting.await.map_err(Error::panicked("reading"))?;
    // A refusal ends the reading too; the dump's own fault is told only when the server had none.
    let warnings = said?;
    let left_out = cut?;
    if let Some(e) = gone {
        return Err(Error::new(Kind::Restore, "psql stopped reading").because(e));
    }
    settle(server, name).await?;
    Ok(Loaded { warnings, left_out, ..Loaded::default() })
}

/// Why nothing can be picked out of such a dump.
pub fn parts() -> Error {
    Error::new(Kind::Refused, "tables or sections cannot be picked out of a dump in SQL")
        .hint("Restore the whole database beside the live one with --to, and copy from there.")
}

struct Out {
    sender: mpsc::Sender<Bytes>,
    piece: Vec<u8>,
}

impl Out {
    fn end(&mut self) -> Result<()> {
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        let stopped = |_| Error::new(Kind::Restore, "psql stopped reading");
        self.sender.blocking_send(piece.into()).map_err(stopped)
    }
}

impl Text for Out {
    fn put(&mut self, text: &[u8]) -> Result<()> {
        self.piece.extend_from_slice(text);
        if self.piece.len() >= PIECE { self.end() } else { Ok(()) }
    }
}
