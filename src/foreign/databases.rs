//! Databases out of dumps, as artifacts of our own.

use super::archive;
use super::feed::Feed;
use super::layout::Is;
use super::read::Openable;
use super::take::{Taken, Taking};
use crate::error::{Error, Kind, Result};
use crate::model::Name;
use crate::repository::writer::{BackupWriter, PendingArtifact};
use crate::sources::postgres::facts::DatabaseFacts;
use crate::sources::postgres::sql::cut::{Databases, Split};
use crate::sources::postgres::sql::facts::Scanned;
use crate::sources::postgres::sql::walk::{Of, Visit, walk};
use crate::sources::postgres::sql::{self};
use crate::sources::postgres::{GLOBALS, Picked, artifact_name};
use std::collections::BTreeSet;
use std::io::{BufReader, Write};

/// Bytes that are read at once.
const PIECE: usize = 256 << 10;

/// What was taken of one file.
struct Got {
    databases: Vec<(PendingArtifact, DatabaseFacts)>,
    globals: Vec<u8>,
}

/// Takes the databases of a source. Of two files that hold the same one, the second stands in when the first is damaged.
pub(super) async fn take(
    taking: &Taking<'_>,
    name: &Name,
    wanted: &Picked,
    default: &str,
    writer: &BackupWriter,
) -> Result<Taken> {
    let files = taking.files_of(|r| r.source.as_ref() == Some(name));
    let (mut artifacts, mut facts, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
    let mut globals = Vec::new();
    let mut done: BTreeSet<String> = BTreeSet::new();
    let mut damaged: Option<Error> = None;
    for file in files {
        let own = file.rule.database.clone().unwrap_or_else(|| default.to_owned());
        if file.rule.is != Is::PgDumpall && done.contains(&own) {
            continue;
        }
        let place = file.part.object.key.clone();
        let got = match file.rule.is {
            Is::PgCustom => custom(&file, own, writer).await,
            _ => script(&file, own, wanted.clone(), writer.clone()).await,
        };
        match got {
            Ok(got) => {
                globals.extend_from_slice(&got.globals);
                for (artifact, f) in got.databases {
                    if done.insert(f.database.clone()) {
                        artifacts.push(artifact);
                        facts.push(f);
                    }
                }
            }
            Err(e) if matches!(e.kind, Kind::Damaged | Kind::Key) && damaged.is_none() => {
                warnings.push(format!("{place} cannot be used: {}", e.one_line()));
                damaged = Some(e);
            }
            Err(e) => return Err(damaged.unwrap_or(e)),
        }
    }
    if let (Some(e), true) = (damaged, facts.is_empty()) {
        return Err(e);
    }
    if !globals.is_empty() {
        let mut artifact = writer.artifact(GLOBALS, "sql");
        let stored = tokio::task::spawn_blocking(move || {
            artifact.value(&globals)?;
            artifact.finish()
        });
        let stored = stored.await.map_err(|_| Error::new(Kind::Internal, "the roles could not be stored"))??;
        artifacts.insert(0, stored);
    }
    Ok(Taken { artifacts, facts: serde_json::json!({ "databases": facts }), warnings })
}

async fn custom(file: &Openable, database: String, writer: &BackupWriter) -> Result<Got> {
    let artifact = writer.artifact(&artifact_name(&database), "pg-custom");
    file.with(move |content| {
        let mut feed = Feed::new(artifact)?;
        let looked = archive::rewrite(content, &mut feed);
        let stored = feed.end();
        let facts = DatabaseFacts { database, ..looked?.facts };
        Ok(Got { databases: vec![(stored?, facts)], globals: Vec::new() })
    })
    .await
}

async fn script(file: &Openable, own: String, wanted: Picked, writer: BackupWriter) -> Result<Got> {
    let picked = file.rule.database.clone();
    let cluster = file.rule.is == Is::PgDumpall;
    file.with(move |content| {
        let mut to = Artifacts {
            writer,
            own: own.clone(),
            picked: picked.clone(),
            wanted,
            cluster,
            open: None,
            ended: Vec::new(),
        };
        let mut scanned = Scanned::default();
        let mut split = Split::new(&mut to);
        let walked = walk(BufReader::with_capacity(PIECE, content), &mut Both(&mut scanned, &mut split));
        walked.and_then(|()| split.finish())?;
        let mut databases = Vec::new();
        for Ended { name, in_dump, artifact } in to.ended {
            let described = scanned.databases.get(&in_dump).cloned().unwrap_or_default();
            databases.push((artifact, described.facts(&name, scanned.server_version)));
        }
        if databases.is_empty() {
            return Err(Error::new(Kind::NotFound, format!("the dump holds no database {own}"))
                .hint(format!("It holds: {}.", scanned.names().join(", "))));
        }
        Ok(Got { databases, globals: if cluster { scanned.globals } else { Vec::new() } })
    })
    .await
}

/// Two who look at one dump.
struct Both<'a>(&'a mut dyn Visit, &'a mut dyn Visit);

impl Visit for Both<'_> {
    fn statement(&mut self, of: Of<'_>, sql: &[u8]) -> Result<()> {
        self.0.statement(of, sql)?;
        self.1.statement(of, sql)
    }

    fn copy(&mut self, of: Of<'_>, sql: &[u8]) -> Result<()> {
        self.0.copy(of, sql)?;
        self.1.copy(of, sql)
    }

    fn rows(&mut self, rows: &[u8]) -> Result<()> {
        self.0.rows(rows)?;
        self.1.rows(rows)
    }

    fn copied(&mut self, rows: u64) -> Result<()> {
        self.0.copied(rows)?;
        self.1.copied(rows)
    }

    fn server(&mut self, version: &str) {
        self.0.server(version);
    }
}

/// An artifact for each database that is wanted.
struct Artifacts {
    writer: BackupWriter,
    /// The name of a database that the dump does not name.
    own: String,
    picked: Option<String>,
    wanted: Picked,
    cluster: bool,
    open: Option<(String, Option<String>, Feed)>,
    ended: Vec<Ended>,
}

struct Ended {
    name: String,
    in_dump: Option<String>,
    artifact: PendingArtifact,
}

impl Databases for Artifacts {
    fn begin(&mut self, database: Option<&str>) -> Result<bool> {
        let named = match (database, &self.picked) {
            // A plain dump is of one database, whatever it was called where it was made. Settings before its \connect
            // are said again behind it.
            _ if !self.cluster => {
                self.ended.clear();
                self.own.clone()
            }
            (Some(name), Some(picked)) if name == picked => name.to_owned(),
            (Some(name), None) if self.wanted.has(name) => name.to_owned(),
            _ => return Ok(false),
        };
        let feed = Feed::new(self.writer.artifact(&artifact_name(&named), sql::MEDIA))?;
        self.open = Some((named, database.map(str::to_owned), feed));
        Ok(true)
    }

    fn text(&mut self, text: &[u8]) -> Result<()> {
        match &mut self.open {
            Some((.., feed)) => feed.write_all(text).map_err(super::read::unreadable),
            None => Ok(()),
        }
    }

    fn end(&mut self) -> Result<()> {
        if let Some((name, in_dump, feed)) = self.open.take() {
            self.ended.push(Ended { name, in_dump, artifact: feed.end()? });
        }
        Ok(())
    }
}
