//! Databases of one server, as a restore replaces them: loaded under names of their own, held against the facts, and
//! exchanged with the live ones in one transaction.

use super::checks::context::Renamed;
use super::resource::{Class, Compared, Findings, Note, Previous, Resource, StagedAs};
use crate::error::{Error, Kind, Result};
use crate::model::BackupId;
use crate::repository::manifest::{Artifact, SourceRecord};
use crate::repository::reader::Reader;
use crate::sources::postgres::address::Address;
use crate::sources::postgres::connect::{Server, ident, literal};
use crate::sources::postgres::facts::{self, DatabaseFacts};
use crate::sources::postgres::load::{self, Archive, Loaded, Options, What};
use crate::sources::postgres::session::{DUPLICATE_DATABASE, Session, SqlError, SqlResult, UNIQUE_VIOLATION};
use crate::sources::postgres::swap::{self, Exchange};
use crate::sources::postgres::{GLOBALS, artifact_name, create, globals, lacking, preflight, sql};
use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;

/// The facts of the databases in a source's record.
pub fn facts_of(record: &SourceRecord) -> Result<Vec<DatabaseFacts>> {
    let databases = record.facts.get("databases").cloned().unwrap_or_default();
    serde_json::from_value(databases).map_err(|e| {
        Error::new(Kind::Damaged, format!("the facts of source {} cannot be read", record.name)).because(e)
    })
}

/// One database to restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Its name in the backup.
    pub database: String,
    /// The name that it will have.
    pub live: String,
    /// True when nothing may have that name: it is a copy beside the live one.
    pub copy: bool,
}

/// Databases of one source.
pub struct Databases {
    /// The source.
    pub source: String,
    /// Its server.
    pub address: Address,
    /// What to restore.
    pub targets: Vec<Target>,
    /// What it was; empty when only undoing is asked for.
    pub facts: Vec<DatabaseFacts>,
    /// The restore: what it stages and keeps is named by it.
    pub id: BackupId,
    /// The source in the backup, and the reader; only staging needs them.
    pub from: Option<(Reader, SourceRecord)>,
    /// How to load.
    pub options: Options,
    /// Tables above this size are not counted again when the load counted them. Bytes.
    pub count_rows_up_to: u64,
    /// Free space on a server of which nobody can tell. Bytes.
    pub assume_space: Option<u64>,
    /// True when the live ones are dropped before the load, and make room.
    pub dropped_first: bool,
}

/// What staging will make.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Staging {
    databases: Vec<Staged>,
    /// Roles that the server lacks and that the backup has.
    roles: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Staged {
    live: String,
    staged: String,
    /// Rows of tables that the server counted while loading.
    #[serde(default)]
    loaded: Vec<(String, String, u64)>,
    /// What the tools said.
    #[serde(default)]
    warnings: Vec<String>,
    /// What only a superuser may make.
    #[serde(default)]
    left_out: Vec<String>,
}

impl Staged {
    pub(super) fn new(live: &str, staged: String) -> Self {
        Staged { live: live.to_owned(), staged, loaded: Vec::new(), warnings: Vec::new(), left_out: Vec::new() }
    }
}

/// Chooses databases of a source: all, or one, each under its own name or one under another.
///
/// # Errors
/// [`Kind::NotFound`] for one that is not in the backup, [`Kind::Usage`] for several under one name.
pub fn targets(record: &SourceRecord, only: Option<&str>, to: Option<&str>) -> Result<Vec<Target>> {
    let all = facts_of(record)?;
    let names: Vec<String> = all.iter().map(|f| f.database.clone()).collect();
    let chosen: Vec<DatabaseFacts> = all.into_iter().filter(|f| only.is_none_or(|o| o == f.database)).collect();
    if chosen.is_empty() {
        return Err(Error::new(
            Kind::NotFound,
            format!("source {} holds no database {}", record.name, only.unwrap_or_default()),
        )
        .hint(format!("It holds: {}.", names.join(", "))));
    }
    if to.is_some() && chosen.len() > 1 {
        return Err(Error::new(Kind::Usage, "--to names one database, and the backup holds several")
            .hint("Pick one with --database."));
    }
    let target = |f: DatabaseFacts| Target {
        live: to.unwrap_or(&f.database).to_owned(),
        database: f.database,
        copy: to.is_some(),
    };
    Ok(chosen.into_iter().map(target).collect())
}

/// An archive in the repository.
pub(super) struct Stored<'a> {
    pub(super) reader: &'a Reader,
    pub(super) artifact: &'a Artifact,
}

impl Archive for Stored<'_> {
    fn range(&self, offset: u64, length: u64) -> mpsc::Receiver<Result<Bytes>> {
        self.reader.range(self.artifact, offset, length)
    }

    fn length(&self) -> u64 {
        self.artifact.bytes
    }
}

pub(super) fn failed(what: &str) -> impl Fn(SqlError) -> Error {
    let what = what.to_owned();
    move |e| e.says(what.clone()).kind(Kind::Restore)
}

pub(super) fn parse<T: serde::de::DeserializeOwned>(note: &Note) -> Result<T> {
    serde_json::from_value(note.clone())
        .map_err(|e| Error::new(Kind::Internal, "a note of the restore cannot be read").because(e))
}

impl Databases {
    pub(super) async fn globals(&self) -> Result<Vec<u8>> {
        let Some((reader, record)) = &self.from else { return Ok(Vec::new()) };
        match record.artifacts.iter().find(|a| a.name == GLOBALS) {
            Some(artifact) => reader.small(artifact).await,
            None => Ok(Vec::new()),
        }
    }

    /// The facts of the database that will have this name.
    pub(super) fn facts(&self, live: &str) -> Result<&DatabaseFacts> {
        let target = self.targets.iter().find(|t| t.live == live);
        target
            .and_then(|t| self.facts.iter().find(|f| f.database == t.database))
            .ok_or_else(|| Error::new(Kind::Internal, format!("database {live} is not one of this restore")))
    }

    pub(super) async fn stage_one(&self, server: &Server, admin: &Session, staged: &mut Staged) -> Result<()> {
        let facts = self.facts(&staged.live)?;
        let Some((reader, record)) = &self.from else {
            return Err(Error::new(Kind::Internal, "a restore without a backup cannot stage"));
        };
        let artifact = super::select::artifact(record, Some(&artifact_name(&facts.database)))?;
        make_anew(admin, &staged.staged, facts).await?;
        let Loaded { rows, warnings, left_out } = match artifact.media.as_str() {
            sql::MEDIA => {
                let dump = reader.stream(artifact, |_| true);
                sql::load::load(server, &staged.staged, dump, &self.options).await?
            }
            _ => load::load(server, &staged.staged, facts, &Stored { reader, artifact }, &self.options).await?,
        };
        staged.loaded = rows.into_iter().map(|((schema, name), rows)| (schema, name, rows)).collect();
        (staged.warnings, staged.left_out) = (warnings, left_out);
        Ok(())
    }

    /// What a staged database holds, held against the facts.
    pub(super) async fn verify_one(&self, server: &Server, staged: &Staged) -> Result<Vec<Compared>> {
        let expected = self.facts(&staged.live)?;
        let session = server.session(&staged.staged).await?;
        let mut found = facts::read(&session).await?;
        let loaded: BTreeMap<_, _> = staged.loaded.iter().map(|(s, n, rows)| ((s, n), *rows)).collect();
        for table in &mut found.tables {
            // Small ones are counted all the same: a count is worth more than what the load said.
            if table.size > self.count_rows_up_to
                && let Some(rows) = loaded.get(&(&table.schema, &table.name))
            {
                (table.rows, table.estimated) = (*rows, false);
            }
        }
        facts::count(&session, &mut found.tables, self.count_rows_up_to).await?;
        facts::join_hash_partitions(&mut found.tables);
        let expected = match self.options.what {
            What::Schema => expected.clone().emptied(),
            _ => expected.clone(),
        };
        let lines = facts::compare(&expected, &found);
        let compared = |l: facts::Line| {
            let left_out = l.what.strip_prefix("extension ").is_some_and(|e| lacking::is_left_out(e, &staged.left_out));
            Compared {
                what: format!("{}: {}", staged.live, l.what),
                expected: l.expected,
                found: if left_out { "not installed there".to_owned() } else { l.found },
                good: l.good || left_out,
            }
        };
        Ok(lines.into_iter().map(compared).collect())
    }

    fn exchanges(note: &Note) -> Result<Vec<Exchange>> {
        #[derive(Deserialize)]
        struct Swap {
            exchanges: Vec<Exchange>,
        }
        Ok(parse::<Swap>(note)?.exchanges)
    }
}

/// Makes an empty database, in place of what an earlier try has left. A client that was killed does not end what it had
/// asked for: its `CREATE DATABASE` may come to its end right now, and would be in the way.
async fn make_anew(admin: &Session, name: &str, facts: &DatabaseFacts) -> Result<()> {
    for _ in 0..20 {
        drop_database(admin, name).await.map_err(failed("an old staging database cannot be dropped"))?;
        match admin.run(&create::statement(name, facts)).await {
            Ok(()) => return Ok(()),
            Err(e) if e.is(UNIQUE_VIOLATION) || e.is(DUPLICATE_DATABASE) => {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Err(e) => return Err(failed("the staging database cannot be made")(e)),
        }
    }
    Err(Error::new(Kind::Restore, "the staging database cannot be made: somebody else makes one of that name").at(name))
}

/// Drops a database of ours, whoever is connected to it.
pub(super) async fn drop_database(admin: &Session, name: &str) -> SqlResult<()> {
    if swap::oid(admin, name).await?.is_none() {
        return Ok(());
    }
    // With FORCE only from 13 on; this does the same everywhere.
    let _ = admin.run(&format!("ALTER DATABASE {} ALLOW_CONNECTIONS false", ident(name))).await;
    admin
        .rows("pg_terminate_backend(pid)", &format!("FROM pg_stat_activity WHERE datname = {}", literal(name)))
        .await?;
    admin.run(&format!("DROP DATABASE IF EXISTS {}", ident(name))).await
}

#[async_trait]
impl Resource for Databases {
    fn label(&self) -> String {
        let names: Vec<&str> = self.targets.iter().map(|t| t.live.as_str()).collect();
        match &names[..] {
            [one] => format!("database {one}"),
            several => format!("databases {}", several.join(", ")),
        }
    }

    fn class(&self) -> Class {
        Class::Database
    }

    async fn answers(&self) -> Result<()> {
        self.address.reach().await?.admin().await.map(drop)
    }

    async fn preflight(&self) -> Result<Findings> {
        let server = self.address.reach().await?;
        let wanted: Vec<_> =
            self.targets.iter().map(|t| Ok((t.live.as_str(), self.facts(&t.live)?))).collect::<Result<_>>()?;
        let admin = server.admin().await?;
        for target in self.targets.iter().filter(|t| t.copy) {
            let there = swap::oid(&admin, &target.live).await.map_err(failed("the server cannot be examined"))?;
            if there.is_some() {
                return Err(Error::new(Kind::Refused, format!("database {} exists", target.live))
                    .at(server.place())
                    .hint("Give a name that is free with --to; without --to the live database is exchanged."));
            }
        }
        let look = preflight::Look {
            server: &server,
            options: &self.options,
            assume_space: self.assume_space,
            part: (self.options.what == What::Schema).then_some(0),
            dropped_first: self.dropped_first,
        };
        let told = look.at(&wanted, &self.globals().await?).await?;
        Ok(Findings {
            space: told
                .space
                .into_iter()
                .map(|s| super::resource::Space { place: s.place, needed: s.needed, free: s.free })
                .collect(),
            warnings: told.warnings,
            ..Findings::default()
        })
    }

    async fn plan_staging(&self) -> Result<Note> {
        let server = self.address.reach().await?;
        let admin = server.admin().await?;
        let id = self.id.as_str();
        let staged = |t: &Target| Staged::new(&t.live, swap::beside(&t.live, "staged", id));
        let roles = globals::missing(&admin, &self.globals().await?).await?;
        Ok(json!(Staging { databases: self.targets.iter().map(staged).collect(), roles }))
    }

    async fn stage(&self, staging: &Note) -> Result<Note> {
        let mut staging: Staging = parse(staging)?;
        let server = self.address.reach().await?;
        let admin = server.admin().await?;
        globals::make(&admin, &self.globals().await?, &staging.roles).await?;
        for staged in &mut staging.databases {
            self.stage_one(&server, &admin, staged).await?;
        }
        Ok(json!(staging))
    }

    async fn verify(&self, staged: &Note) -> Result<Vec<Compared>> {
        let staging: Staging = parse(staged)?;
        let server = self.address.reach().await?;
        let mut compared = Vec::new();
        for staged in &staging.databases {
            compared.extend(self.verify_one(&server, staged).await?);
        }
        Ok(compared)
    }

    async fn unstage(&self, staging: &Note) -> Result<()> {
        let staging: Staging = parse(staging)?;
        let admin = self.address.reach().await?.admin().await?;
        for staged in &staging.databases {
            let name = &staged.staged;
            drop_database(&admin, name).await.map_err(|e| {
                failed("the staging database cannot be dropped")(e).hint(format!("DROP DATABASE {}", ident(name)))
            })?;
        }
        globals::drop(&admin, &staging.roles)
            .await
            .map_err(failed("the roles that were made for the restore cannot be dropped"))
    }

    async fn plan_swap(&self, staged: &Note) -> Result<Note> {
        let staging: Staging = parse(staged)?;
        let admin = self.address.reach().await?.admin().await?;
        let mut exchanges = Vec::new();
        for staged in &staging.databases {
            let attributes = &self.facts(&staged.live)?.attributes;
            exchanges.push(swap::plan(&admin, &staged.live, &staged.staged, self.id.as_str(), attributes).await?);
        }
        Ok(json!({ "exchanges": exchanges }))
    }

    async fn swap(&self, swap: &Note) -> Result<()> {
        swap::swap(&self.address.reach().await?, &Self::exchanges(swap)?).await
    }

    async fn unswap(&self, swap: &Note) -> Result<()> {
        swap::unswap(&self.address.reach().await?, &Self::exchanges(swap)?).await
    }

    async fn previous(&self, swap: &Note) -> Result<Vec<Previous>> {
        let admin = self.address.reach().await?.admin().await?;
        let mut previous = Vec::new();
        for x in Self::exchanges(swap)?.into_iter().filter(|x| x.live_oid.is_some()) {
            let size = admin
                .rows("pg_database_size(oid)", &format!("FROM pg_database WHERE oid = {}", x.live_oid.unwrap_or(0)))
                .await
                .map_err(failed("the previous database cannot be looked at"))?;
            if let Some(row) = size.first() {
                previous.push(Previous { name: format!("database {}", x.before), bytes: Some(row.number(0)) });
            }
        }
        Ok(previous)
    }

    fn staged_as(&self, staged: &Note) -> Result<StagedAs> {
        let staging: Staging = parse(staged)?;
        let renamed = |s: Staged| Renamed { source: self.source.clone(), live: s.live, staging: s.staged };
        let databases = staging.databases.into_iter().map(renamed).collect();
        Ok(StagedAs { databases, ..StagedAs::default() })
    }

    fn unstage_by_hand(&self, staging: &Note) -> Vec<String> {
        let staged = parse::<Staging>(staging).map(|s| s.databases).unwrap_or_default();
        staged.iter().map(|s| format!("in psql: DROP DATABASE IF EXISTS {};", ident(&s.staged))).collect()
    }

    fn unswap_by_hand(&self, swap: &Note) -> Vec<String> {
        let mut left = Vec::new();
        for x in Self::exchanges(swap).unwrap_or_default() {
            left.push(format!(
                "in psql, when database {} has the OID {}: ALTER DATABASE {} RENAME TO {};",
                x.live,
                x.staged_oid,
                ident(&x.live),
                ident(&x.staged)
            ));
            if let Some(oid) = x.live_oid {
                left.push(format!(
                    "in psql, for the database with the OID {oid}: ALTER DATABASE {} RENAME TO {}; ALTER DATABASE {1} ALLOW_CONNECTIONS true;",
                    ident(&x.before),
                    ident(&x.live)
                ));
            }
        }
        left
    }

    async fn drop_previous(&self, swap: &Note) -> Result<()> {
        let admin = self.address.reach().await?.admin().await?;
        for x in Self::exchanges(swap)? {
            let there = swap::oid(&admin, &x.before).await.map_err(failed("the previous database cannot be found"))?;
            if there.is_some() && there == x.live_oid {
                drop_database(&admin, &x.before).await.map_err(failed("the previous database cannot be dropped"))?;
            }
        }
        Ok(())
    }
}
