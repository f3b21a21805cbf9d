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
use crate::sources::postgres::{GLOBALS, artifact_name};
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
    wanted: Option<&[String]>,
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
            _ => script(&file, own, wanted.map(<[String]>::to_vec), writer.clone()).await,
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

async fn script(file: &Openable, own: String, wanted: Option<Vec<String>>, writer: BackupWriter) -> Result<Got> {
    let picked = file.rule.database.clone();
    let cluster = file.rule.is == Is::PgDumpall;
    file.with(move |content| {
        let mut to = Artifacts { writer, own: own.clone(), picked: picked.clone(), wanted, cluster, open: None, ended: Vec::new() };
        let mut scanned = Scanned::default();
        let mut split = Split::new(&mut to);
        let walked = walk(BufReader::with_capacity(PIECE, content), &mut Both(&mut scanned, &mut split));
        walked.and_then(|()| split.finish())?;
        let mut databases = Vec::new();
        for (name, artifact) in to.ended {
            let facts = scanned.database(&name)?.facts(&name, scanned.server_version);
            databases.push((artifact, facts));
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
    wanted: Option<Vec<String>>,
    cluster: bool,
    open: Option<(String, Feed)>,
    ended: Vec<(String, PendingArtifact)>,
}

impl Databases for Artifacts {
    fn begin(&mut self, database: Option<&str>) -> Result<bool> {
        let wanted = match (database, &self.picked, &self.wanted) {
            (None, ..) => !self.cluster,
            (Some(name), Some(picked), _) => name == picked,
            (Some(name), None, Some(wanted)) if self.cluster => wanted.iter().any(|w| w == name),
            (Some(name), None, None) if self.cluster => !["template0", "template1"].contains(&name),
            // A plain dump with its database's name is of that one, whatever it is called here.
            (Some(_), None, _) => true,
        };
        // Settings before the first \connect are said again behind it.
        let named = database.map_or_else(|| self.own.clone(), str::to_owned);
        self.ended.retain(|(name, _)| database.is_none() || *name != named || self.cluster);
        if wanted {
            let feed = Feed::new(self.writer.artifact(&artifact_name(&named), sql::MEDIA))?;
            self.open = Some((named, feed));
        }
        Ok(wanted)
    }

    fn text(&mut self, text: &[u8]) -> Result<()> {
        match &mut self.open {
            Some((_, feed)) => feed.write_all(text).map_err(super::read::unreadable),
            None => Ok(()),
        }
    }

    fn end(&mut self) -> Result<()> {
        if let Some((name, feed)) = self.open.take() {
            self.ended.push((name, feed.end()?));
        }
        Ok(())
    }
}
