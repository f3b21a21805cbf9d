//! The way out: one snapshot by replication, read and counted while it goes to the store.

use super::connect::Connection;
use super::facts::RedisFacts;
use super::live::{self, Live, Settings};
use super::rdb::{self, Fault, Summary};
use super::transfer::{self, Form};
use super::{RDB, RDB_MEDIA, RedisSource, aof, aof_artifact, place};
use crate::error::{Error, Kind, Result};
use crate::repository::writer::{ArtifactWriter, BackupWriter, PendingArtifact};
use crate::sources::Delivered;
use crate::sources::window::Window;
use crate::telemetry::monitor::{Event, Monitor};
use bytes::Bytes;
use std::io::Read;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Pieces that wait between the connection and those who read them.
const AHEAD: usize = 16;

/// Backs up a server.
pub async fn dump(
    source: &RedisSource,
    writer: &BackupWriter,
    monitor: Arc<dyn Monitor>,
    window: &Window,
) -> Result<Delivered> {
    let mut connection = source.connect().await?;
    let live = live::live(&mut connection).await?;
    let mut warnings = Vec::new();
    suitable(&live, source, &mut warnings)?;
    let settings = match live::settings(&mut connection).await {
        Ok(settings) => Some(settings),
        Err(e) if e.denied => {
            warnings.push(format!(
                "the server's settings are not in the facts of the backup ({}); a restore then needs the running server or its redis.conf",
                e.one_line()
            ));
            None
        }
        Err(e) => return Err(e),
    };
    monitor.event(Event::Expect(live.used_memory / 2));
    let form = transfer::begin(&mut connection).await?;
    // The server has forked: the snapshot is of this moment, and the append-only file is read up to here.
    let parts = if source.include_aof { append_only(source, &live, settings.clone()).await? } else { Vec::new() };
    window.done();
    let (artifact, summary) = snapshot(connection, &form, writer).await.map_err(|e| e.at(source.server.label()))?;
    if !summary.checksum {
        warnings
            .push("the server writes no checksums (rdbchecksum no): damage on the way here would not be seen".into());
    }
    if let Some(what) = &summary.unknown {
        warnings.push(format!(
            "the keys were not counted, since this version of Backstay does not know {what} (RDB version {}); a restore is then verified by the checksum alone",
            summary.version
        ));
    }
    let mut facts = RedisFacts::new(&live, &summary, settings);
    let keys = facts.keys().map_or("keys not counted".to_owned(), |n| crate::model::size::plural(n, "key"));
    monitor.event(Event::Stage(format!("{} {}: {keys}", live.product, live.version)));
    let mut artifacts = vec![artifact];
    for part in parts {
        facts.aof_files.push(part.name.clone());
        artifacts.push(store(writer.artifact(&aof_artifact(&part.name), "redis-aof"), part.content).await?);
    }
    let facts = serde_json::to_value(facts)
        .map_err(|e| Error::new(Kind::Internal, "the facts of the server cannot be written").because(e))?;
    Ok(Delivered { artifacts, facts: serde_json::json!({ "redis": facts }), warnings })
}

/// Refuses what is no server with data of its own.
///
/// # Errors
/// [`Kind::Source`] with what it is.
pub fn suitable(live: &Live, source: &RedisSource, warnings: &mut Vec<String>) -> Result<()> {
    let refuse = |what: &str, hint: &str| Err(Error::new(Kind::Source, what).at(source.server.label()).hint(hint));
    match live.mode.as_str() {
        "sentinel" => {
            return refuse("this is a Sentinel, which holds no data", "Give the URL of the server that it watches.");
        }
        "cluster" => {
            return refuse(
                "this is a node of a cluster, which holds a part of the keys only",
                "Clusters are not supported; use the tools of the cluster.",
            );
        }
        _ => {}
    }
    if live.loading {
        return refuse("the server is still loading its data", "Try again when it is done.");
    }
    if live.role == "slave" {
        // One that has lost its primary refuses to be synchronised with.
        warnings.push("this is a replica: what the primary has not sent yet is not in the backup".to_owned());
    }
    Ok(())
}

/// Takes the snapshot: its bytes go to the store and to the parser side by side.
async fn snapshot(
    mut connection: Connection,
    form: &Form,
    writer: &BackupWriter,
) -> Result<(PendingArtifact, Summary)> {
    let (to_store, stored) = Feed::new();
    let (to_parser, parsed) = Feed::new();
    let artifact = writer.artifact(RDB, RDB_MEDIA);
    let storing = tokio::spawn(store(artifact, stored));
    let parsing = tokio::task::spawn_blocking(move || rdb::read(parsed));
    let readers = [to_store, to_parser];
    let received = transfer::receive(&mut connection, form, &readers).await;
    drop(readers);
    let panicked = Error::panicked("reading");
    let (stored, summary) = (storing.await.map_err(panicked)?, parsing.await.map_err(panicked)?);
    received?;
    let damaged = |e: Fault| {
        Error::new(Kind::Source, "the snapshot that the server sent is damaged")
            .because(e)
            .hint("Check the memory of the server's machine and the log of the server, and run the backup again.")
    };
    match (stored, summary) {
        (Ok(artifact), Ok(summary)) => Ok((artifact, summary)),
        // Whoever stopped first is the cause; the other only saw the stream break.
        (Err(e), Err(Fault::Read(_)) | Ok(_)) => Err(e),
        (_, Err(e)) => Err(damaged(e)),
    }
}

/// Puts a stream into an artifact.
async fn store(mut artifact: ArtifactWriter, mut content: impl Read + Send + 'static) -> Result<PendingArtifact> {
    let writing = tokio::task::spawn_blocking(move || {
        artifact.stream(&mut content)?;
        artifact.finish()
    });
    writing.await.map_err(Error::panicked("reading"))?
}

/// Pieces from the connection as a reader. It ends well only when the sender said that all has come.
struct Feed {
    pieces: mpsc::Receiver<Option<Bytes>>,
    current: Bytes,
    ended: bool,
}

impl Feed {
    fn new() -> (mpsc::Sender<Option<Bytes>>, Self) {
        let (sender, pieces) = mpsc::channel(AHEAD);
        (sender, Feed { pieces, current: Bytes::new(), ended: false })
    }
}

impl Read for Feed {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.pieces.blocking_recv() {
                Some(Some(piece)) => self.current = piece,
                Some(None) => self.ended = true,
                None => return Err(std::io::Error::other("the snapshot broke off")),
            }
        }
        let n = buffer.len().min(self.current.len());
        buffer[..n].copy_from_slice(&self.current.split_to(n));
        Ok(n)
    }
}

/// The append-only file, when the server keeps one.
async fn append_only(source: &RedisSource, live: &Live, settings: Option<Settings>) -> Result<Vec<aof::Part>> {
    let Some(settings) = settings else {
        return Err(Error::new(Kind::Source, "`include_aof` needs to know where the server keeps its files")
            .at(source.server.label())
            .hint("Let the user read the settings (ACL: +config|get), or leave `include_aof` out."));
    };
    if !settings.appendonly {
        return Err(Error::new(Kind::Source, "`include_aof` is set and the server keeps no append-only file")
            .at(source.server.label())
            .hint("Leave `include_aof` out, or set `appendonly yes` on the server."));
    }
    let dir = place::data_dir(source, &settings.dir, Some(live)).await.map_err(|e| e.kind(Kind::Source))?;
    let opening = tokio::task::spawn_blocking(move || aof::open(&dir, &settings));
    opening.await.map_err(Error::panicked("reading"))?
}
