//! The way out: the program's output goes to the store and to `check` side by side, and counts when both ended well.

use super::pump::{Sink, pump};
use super::run::{Call, Given};
use super::{Bound, CommandFacts, CommandSource, OUTPUT, Owned, Target};
use crate::error::{Error, Kind, Result};
use crate::repository::writer::{BackupWriter, PendingArtifact};
use crate::sources::Delivered;
use crate::sources::postgres::facts::{self, DatabaseFacts};
use crate::sources::window::Window;
use futures::StreamExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use tokio_util::io::{ReaderStream, SyncIoBridge};

/// Bytes that wait between the program and the store.
const AHEAD: usize = 1 << 20;
/// Bytes that are read at once.
const PIECE: usize = 128 << 10;

/// Backs up the output of a program.
pub async fn dump(source: &CommandSource, writer: &BackupWriter, window: &Window) -> Result<Delivered> {
    let (given, database) = match &source.back.into {
        Target::Database(bound) => {
            let (given, facts) = look(bound).await?;
            (given, Some(facts))
        }
        _ => (Given::default(), None),
    };
    let runner = &source.runner;
    let call = runner.call("dump", &source.dump, source.limit, &given).await?;
    let check = match &source.check {
        Some(check) => Some(runner.call("check", check, source.limit, &given).await?),
        None => None,
    };
    let artifact = call.within(Kind::Source, stream(source, &call, check.as_ref(), writer, window)).await?;
    let mut warnings = Vec::new();
    if source.back.load.is_none() && matches!(source.back.into, Target::Nothing) {
        warnings.push("the source has no `load`: a restore can only write it out with --to FILE".to_owned());
    }
    let facts = CommandFacts {
        program: source.dump.first().cloned().unwrap_or_default(),
        bytes: artifact.bytes(),
        checked: check.is_some(),
        file: match &source.back.into {
            Target::File(path) => owned(path),
            _ => None,
        },
        database,
    };
    let facts = serde_json::to_value(facts)
        .map_err(|e| Error::new(Kind::Internal, "the facts of the source cannot be written").because(e))?;
    Ok(Delivered { artifacts: vec![artifact], facts: serde_json::json!({ "command": facts }), warnings })
}

/// To whom the file belongs that is there, if one is.
pub fn owned(path: &Path) -> Option<Owned> {
    let m = std::fs::metadata(path).ok()?;
    Some(Owned { mode: m.mode() & 0o7777, uid: m.uid(), gid: m.gid() })
}

/// What the database is like that the output is of, and how the program reaches it.
async fn look(bound: &Bound) -> Result<(Given, DatabaseFacts)> {
    let server = bound.server.address.reach().await?;
    let session = server.session(&bound.name).await?;
    let mut facts = facts::read(&session).await?;
    facts::count(&session, &mut facts.tables, bound.server.count_rows_up_to).await?;
    facts::join_hash_partitions(&mut facts.tables);
    Ok((bound.given(&server, &bound.name), facts))
}

async fn stream(
    source: &CommandSource,
    call: &Call,
    check: Option<&Call>,
    writer: &BackupWriter,
    window: &Window,
) -> Result<PendingArtifact> {
    let (running, output) = call.program().reading().await.map_err(|e| call.tell(e))?;
    let (to_store, stored) = tokio::io::duplex(AHEAD);
    let mut artifact = writer.artifact(OUTPUT, &source.media);
    let storing = tokio::task::spawn_blocking(move || {
        let streamed = artifact.stream(&mut SyncIoBridge::new(stored));
        (artifact, streamed)
    });
    let mut sinks = vec![Sink::new(Box::new(to_store))];
    let mut checking = None;
    if let Some(check) = check {
        let (running, input) = check.program().writing().await.map_err(|e| check.tell(e))?;
        sinks.push(Sink::new(input));
        checking = Some((check, running));
    }
    let pieces = ReaderStream::with_capacity(output, PIECE).map(|piece| {
        piece.map_err(|e| Error::new(Kind::Source, "the output of the program cannot be read").because(e))
    });
    let length = pump(pieces, &mut sinks).await?;
    window.done();
    drop(sinks);
    // What was stored has no end yet: it counts when everybody has said that all went well.
    let (artifact, streamed) = storing.await.map_err(Error::panicked("reading"))?;
    streamed?;
    call.finish(running, Kind::Source).await?;
    if let Some((check, running)) = checking {
        check.finish(running, Kind::Source).await.map_err(|e| {
            Error { what: format!("the output is not whole: {}", e.what), ..e }
                .hint("`dump` ended well, and `check` does not accept what it wrote.")
        })?;
    }
    if length == 0 && !source.may_be_empty {
        return Err(call.tell(
            Error::new(Kind::Source, "the program ended well and wrote nothing")
                .hint("Look why; if that is as it should be, set `may_be_empty = true`."),
        ));
    }
    let finishing = tokio::task::spawn_blocking(move || artifact.finish());
    finishing.await.map_err(Error::panicked("reading"))?
}
