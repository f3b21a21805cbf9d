//! Databases out of dumps, as artifacts of our own.

use super::archive;
use super::feed::Feed;
use super::layout::Is;
use super::read::Openable;
use super::rewritten;
use super::take::{Taken, Taking};
use crate::error::{Error, Kind, Result};
use crate::model::Name;
use crate::repository::writer::{BackupWriter, PendingArtifact};
use crate::sources::postgres::facts::{self, DatabaseFacts};
use crate::sources::postgres::sql::cut::{Databases, Split};
use crate::sources::postgres::sql::facts::Scanned;
use crate::sources::postgres::sql::walk::{Of, Visit, walk};
use crate::sources::postgres::sql::{self};
use crate::sources::postgres::{GLOBALS, Picked, PostgresSource, artifact_name};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{BufReader, Write};
use std::time::Duration;

/// Bytes that are read at once.
const PIECE: usize = 256 << 10;
/// How long a server may take to say how large its tables are.
const TO_ASK: Duration = Duration::from_secs(30);

/// Tables by database that our own backups dump beside the others, and frame in a way of their own.
pub(super) type Large = BTreeMap<String, HashSet<(String, String)>>;

/// What was taken of one file.
pub(super) struct Got {
    pub(super) databases: Vec<(PendingArtifact, DatabaseFacts)>,
    pub(super) globals: Vec<u8>,
}

/// Which databases of a dump in SQL are taken, and under which names.
#[derive(Clone, Debug, Default)]
pub(super) struct Picking {
    /// The name of a database that the dump does not name.
    own: String,
    /// The one that the layout says.
    picked: Option<String>,
    wanted: Option<Picked>,
    pub(super) cluster: bool,
}

impl Picking {
    /// The name under which a database is taken, if it is.
    pub(super) fn name(&self, database: Option<&str>) -> Option<String> {
        match (database, &self.picked) {
            // A plain dump is of one database, whatever it was called where it was made.
            _ if !self.cluster => Some(self.own.clone()),
            (Some(name), Some(picked)) => (name == picked).then(|| name.to_owned()),
            (Some(name), None) => self.wanted.as_ref().is_some_and(|w| w.has(name)).then(|| name.to_owned()),
            (None, _) => None,
        }
    }

    /// The error of a dump that holds none of them.
    pub(super) fn nothing(&self, scanned: &Scanned) -> Error {
        Error::new(Kind::NotFound, format!("the dump holds no database {}", self.own))
            .hint(format!("It holds: {}.", scanned.names().join(", ")))
    }
}

/// A file that is damaged.
struct Unfit {
    /// The database that it was to give; nothing when it was to give all that are wanted of a cluster.
    only: Option<String>,
    error: Error,
}

impl Unfit {
    /// Whether other files gave what it was to give: these databases, or all that are wanted of a cluster. `names` are
    /// those that are wanted, when no pattern is among them.
    fn is_replaced(&self, done: &BTreeSet<String>, whole_cluster: bool, names: Option<&[&str]>) -> bool {
        match &self.only {
            Some(database) => done.contains(database),
            None => whole_cluster || names.is_some_and(|names| names.iter().all(|name| done.contains(*name))),
        }
    }
}

/// Takes the databases of a source. Of two files that hold the same one, the second stands in when the first is damaged.
/// One for which none does fails the whole, however many others there are.
pub(super) async fn take(
    taking: &Taking<'_>,
    name: &Name,
    wanted: &PostgresSource,
    default: &str,
    writer: &BackupWriter,
) -> Result<Taken> {
    let large = if taking.shared { large_tables(wanted, default).await } else { Large::new() };
    let files = taking.files_of(|r| r.source.as_ref() == Some(name));
    let (mut artifacts, mut facts, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
    let mut globals = Vec::new();
    let mut done: BTreeSet<String> = BTreeSet::new();
    let mut damaged: Vec<Unfit> = Vec::new();
    let mut whole_cluster = false;
    for file in files {
        let own = file.rule.database.clone().unwrap_or_else(|| default.to_owned());
        if file.rule.is != Is::PgDumpall && done.contains(&own) {
            continue;
        }
        let place = file.part.object.key.clone();
        let gives_all = file.rule.is == Is::PgDumpall && file.rule.database.is_none();
        let only = (!gives_all).then(|| own.clone());
        let got = match file.rule.is {
            Is::PgCustom => custom(&file, own, &large, writer).await,
            is => {
                let (picked, cluster) = (file.rule.database.clone(), is == Is::PgDumpall);
                let picking = Picking { own, picked, wanted: Some(wanted.picked()), cluster };
                script(&file, picking, taking.shared.then_some(&large), writer.clone()).await
            }
        };
        match got {
            Ok(got) => {
                whole_cluster |= gives_all;
                globals.extend_from_slice(&got.globals);
                for (artifact, f) in got.databases {
                    if done.insert(f.database.clone()) {
                        artifacts.push(artifact);
                        facts.push(f);
                    }
                }
            }
            Err(error) if matches!(error.kind, Kind::Damaged | Kind::Key) => {
                warnings.push(format!("{place} cannot be used: {}", error.one_line()));
                damaged.push(Unfit { only, error });
            }
            Err(e) => return Err(damaged.into_iter().next().map_or(e, |first| first.error)),
        }
    }
    let picked = wanted.picked();
    let names = picked.names();
    if let Some(lost) = damaged.into_iter().find(|d| !d.is_replaced(&done, whole_cluster, names.as_deref())) {
        return Err(lost.error);
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

/// The tables that the next backup of our own will take for large. It goes on without where nobody can tell: they are then
/// shipped once more.
async fn large_tables(server: &PostgresSource, default: &str) -> Large {
    let mut large = Large::new();
    let names = async {
        let reached = server.address.reach().await?;
        let admin = reached.session(default).await?;
        server.chosen(&reached, &admin).await
    };
    let Ok(Ok(names)) = tokio::time::timeout(TO_ASK, names).await else { return large };
    for name in names {
        let look = async { facts::read(&server.address.reach().await?.session(&name).await?).await };
        if let Ok(Ok(facts)) = tokio::time::timeout(TO_ASK, look).await {
            let tables = facts.tables.into_iter().filter(|t| t.size > server.big_tables).map(|t| (t.schema, t.name));
            large.insert(name, tables.collect());
        }
    }
    large
}

async fn custom(file: &Openable, database: String, large: &Large, writer: &BackupWriter) -> Result<Got> {
    let artifact = writer.artifact(&artifact_name(&database), "pg-custom");
    let large = large.get(&database).cloned().unwrap_or_default();
    file.with(move |content| {
        let mut feed = Feed::new(artifact)?;
        let looked = archive::rewrite(content, &mut feed, &large);
        let stored = feed.end();
        let facts = DatabaseFacts { database, ..looked?.facts };
        Ok(Got { databases: vec![(stored?, facts)], globals: Vec::new() })
    })
    .await
}

/// The databases of a dump in SQL; with `shared` as archives, unless they have to stay SQL.
async fn script(file: &Openable, picking: Picking, shared: Option<&Large>, writer: BackupWriter) -> Result<Got> {
    if let Some(large) = shared
        && let Some(got) = rewritten::take(file, &picking, large, &writer).await?
    {
        return Ok(got);
    }
    file.with(move |content| {
        let mut to = Artifacts { writer, picking: picking.clone(), open: None, ended: Vec::new() };
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
            return Err(picking.nothing(&scanned));
        }
        Ok(Got { databases, globals: if picking.cluster { scanned.globals } else { Vec::new() } })
    })
    .await
}

/// Two who look at one dump.
pub(super) struct Both<'a>(pub(super) &'a mut dyn Visit, pub(super) &'a mut dyn Visit);

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

    fn connected(&mut self) {
        self.0.connected();
        self.1.connected();
    }

    fn server(&mut self, version: &str) {
        self.0.server(version);
        self.1.server(version);
    }
}

/// An artifact for each database that is wanted.
struct Artifacts {
    writer: BackupWriter,
    picking: Picking,
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
        let Some(named) = self.picking.name(database) else { return Ok(false) };
        if !self.picking.cluster {
            // Settings before its \connect are said again behind it.
            self.ended.clear();
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_holds_the_same_stands_in_for_a_damaged_file() {
        let done = BTreeSet::from(["b".to_owned()]);
        let unfit = |only: Option<&str>| Unfit {
            only: only.map(str::to_owned),
            error: Error::new(Kind::Damaged, "it is cut short"),
        };
        assert!(unfit(Some("b")).is_replaced(&done, false, None));
        assert!(!unfit(Some("a")).is_replaced(&done, false, None));
        // A dump of the cluster in which it was not found does not help either.
        assert!(!unfit(Some("a")).is_replaced(&done, true, Some(&["b"])));
        let cluster = unfit(None);
        assert!(cluster.is_replaced(&done, true, None) && cluster.is_replaced(&done, false, Some(&["b"])));
        assert!(!cluster.is_replaced(&done, false, Some(&["a", "b"])) && !cluster.is_replaced(&done, false, None));
    }
}
