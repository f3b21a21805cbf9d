//! What Redis kept, as an artifact of our own: a snapshot as it is, or an append-only file, which a server of our own
//! replays into a snapshot.

use super::aof;
use super::layout::Is;
use super::read::Openable;
use super::take::{Taken, Taking};
use crate::error::{Error, Kind, Result};
use crate::model::{Name, size};
use crate::repository::writer::{BackupWriter, PendingArtifact};
use crate::sources::redis::facts::RedisFacts;
use crate::sources::redis::own::{self, Folder, Own, Started};
use crate::sources::redis::rdb::{self, Summary};
use crate::sources::redis::{RDB, RDB_MEDIA};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

/// Programs that replay an append-only file, the first that is installed.
const PROGRAMS: &[&str] = &["redis-server", "valkey-server"];
/// Commands that no server writes into its append-only file, and that would reach beyond it.
const FORBIDDEN: &[&str] = &["CONFIG", "DEBUG", "MIGRATE", "MODULE", "REPLICAOF", "SHUTDOWN", "SLAVEOF"];
/// The file, and what becomes of it.
const AOF: &str = "appendonly.aof";
const SAVED: &str = "dump.rdb";
/// How long the replayed data may take to be saved.
const SAVE: Duration = Duration::from_secs(3600);
/// Free memory that must stay.
const SPARE: u64 = 256 << 20;

/// Takes the first file of the source that is good: what is further down in the layout stands in for it.
pub(super) async fn take(taking: &Taking<'_>, name: &Name, writer: &BackupWriter) -> Result<Taken> {
    let mut warnings = Vec::new();
    let mut unfit: Option<Error> = None;
    for file in taking.files_of(|r| r.source.as_ref() == Some(name)) {
        let place = file.part.object.key.clone();
        let got = match file.rule.is {
            Is::Aof => replayed(&file, &taking.room.join(format!("aof-{name}")), writer, &mut warnings).await,
            _ => snapshot(&file, writer).await,
        };
        match got {
            Ok((artifact, facts)) => {
                let facts = serde_json::json!({ "redis": facts });
                return Ok(Taken { artifacts: vec![artifact], facts, warnings });
            }
            Err(e) if matches!(e.kind, Kind::Damaged | Kind::Key | Kind::Refused) => {
                warnings.push(format!("{place} cannot be used: {}", e.one_line()));
                unfit.get_or_insert(e);
            }
            Err(e) => return Err(e),
        }
    }
    Err(unfit.unwrap_or_else(|| Error::new(Kind::NotFound, format!("the set has no file of source {name}"))))
}

/// A snapshot: proven first, then stored as it is.
async fn snapshot(file: &Openable, writer: &BackupWriter) -> Result<(PendingArtifact, RedisFacts)> {
    let summary = file.with(|content| whole(content)).await?;
    let mut artifact = writer.artifact(RDB, RDB_MEDIA);
    let stored = file
        .with(move |content| {
            artifact.stream(content)?;
            artifact.finish()
        })
        .await?;
    Ok((stored, facts_of(&summary)))
}

fn whole(content: &mut dyn Read) -> Result<Summary> {
    rdb::read(content).map_err(|e| Error::new(Kind::Damaged, "the RDB is not whole").because(e.to_string()))
}

fn facts_of(summary: &Summary) -> RedisFacts {
    let mut version = summary.aux.get("redis-ver").or_else(|| summary.aux.get("valkey-ver")).cloned();
    RedisFacts {
        product: if summary.valkey || summary.aux.contains_key("valkey-ver") { "valkey" } else { "redis" }.to_owned(),
        server_version: version.take().unwrap_or_default(),
        role: "primary".to_owned(),
        rdb_version: summary.version,
        rdb_valkey: summary.valkey,
        checksum: summary.checksum,
        keyspaces: summary.unknown.is_none().then(|| summary.databases.clone()),
        functions: summary.functions.clone(),
        ..RedisFacts::default()
    }
}

/// An append-only file: proven while it is written into a directory of ours, loaded there by a server, and saved.
async fn replayed(
    file: &Openable,
    dir: &Path,
    writer: &BackupWriter,
    warnings: &mut Vec<String>,
) -> Result<(PendingArtifact, RedisFacts)> {
    let program = program().await?;
    let failed = |e: std::io::Error| Error::io("the append-only file cannot be unpacked", dir, e);
    // Left of a file before it that was not good.
    if let Err(e) = std::fs::remove_dir_all(dir)
        && e.kind() != std::io::ErrorKind::NotFound
    {
        return Err(failed(e));
    }
    std::fs::DirBuilder::new().mode(0o700).create(dir).map_err(failed)?;
    let path = dir.join(AOF);
    let (looked, bytes) = file.with(move |content| unpack(content, &path)).await?;
    if looked.cut {
        warnings.push(format!("{} ends in the middle of a command, which is left out", file.part.object.key));
    }
    let needed = bytes.saturating_mul(2) + SPARE;
    if own::available().is_some_and(|free| free < needed) {
        return Err(Error::new(Kind::Refused, "there is not enough memory to replay the append-only file")
            .because(format!("about {} are needed", size::human(needed)))
            .hint("Have the script keep the RDB too, and name it in the layout behind the append-only file."));
    }
    let saved = replay(program, dir, &looked).await?;
    let mut artifact = writer.artifact(RDB, RDB_MEDIA);
    let storing = tokio::task::spawn_blocking(move || {
        let open = || File::open(&saved).map_err(|e| Error::io("the replayed data cannot be read", &saved, e));
        let summary = whole(&mut open()?)?;
        artifact.stream(&mut open()?)?;
        Ok((artifact.finish()?, facts_of(&summary)))
    });
    let stored = storing.await.map_err(Error::panicked("storing"))?;
    let _ = std::fs::remove_dir_all(dir);
    stored
}

async fn program() -> Result<&'static str> {
    for program in PROGRAMS {
        if own::version(program).await.is_some() {
            return Ok(program);
        }
    }
    Err(Error::new(Kind::Refused, "an append-only file is replayed by a server, and none is installed on this host")
        .hint("Install redis-server (it need not run), or name an RDB of the set in the layout."))
}

/// Writes the file while it is read.
fn unpack(content: &mut dyn Read, path: &Path) -> Result<(aof::Looked, u64)> {
    let failed = |e| Error::io("the append-only file cannot be unpacked", path, e);
    let to = File::options().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    let mut copy = Copy { from: content, to, bytes: 0, broken: None };
    let looked = aof::read(&mut copy);
    let rest = std::io::copy(&mut copy, &mut std::io::sink());
    match copy.broken.take() {
        Some(e) => Err(failed(e)),
        None => {
            let looked = looked?;
            rest.map_err(super::read::unreadable)?;
            Ok((looked, copy.bytes))
        }
    }
}

/// Passes on what it reads, and writes it besides.
struct Copy<'a> {
    from: &'a mut dyn Read,
    to: File,
    bytes: u64,
    broken: Option<std::io::Error>,
}

impl Read for Copy<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.from.read(buffer)?;
        self.bytes += n as u64;
        self.to.write_all(&buffer[..n]).map_err(|e| {
            self.broken = Some(e);
            std::io::Error::other("the copy cannot be written")
        })?;
        Ok(n)
    }
}

/// Gives the saved snapshot.
async fn replay(program: &str, dir: &Path, looked: &aof::Looked) -> Result<std::path::PathBuf> {
    let mut more = format!(
        "dbfilename {SAVED}\nappendonly yes\nappendfilename {AOF}\nappendfsync no\nauto-aof-rewrite-percentage 0\ndatabases {}\n",
        looked.databases.clamp(16, 1 << 20)
    );
    for command in FORBIDDEN {
        more.push_str(&format!("rename-command {command} \"\"\n"));
    }
    let mut server = Own::start(program, Folder::make()?, dir, &more).await?;
    let saved = async {
        match server.loaded().await? {
            Started::Loaded(_) => {}
            Started::Ended(said) => {
                return Err(Error::new(Kind::Damaged, format!("{program} does not load the append-only file"))
                    .because(said)
                    .hint("Take another set; `redis-check-aof` on a copy says more."));
            }
        }
        server.connect().await?.ask_patiently(&["SAVE"], SAVE).await.map(drop).map_err(|e| e.kind(Kind::Restore))
    }
    .await;
    server.end();
    saved.map(|()| dir.join(SAVED))
}
