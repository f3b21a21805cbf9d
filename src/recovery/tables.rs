//! Some tables of one database, brought into the live one: into a schema of their own beside what is there, or in the
//! place of the rows that are there.
//!
//! They are staged in a database of their own, like a whole one, and verified there. The swap is one transaction of
//! the live database, and drops the staged one.

use super::bare::drop_roles;
use super::database::{Stored, failed};
use super::resource::{Class, Compared, Findings, Live, Note, Previous, Resource, Space, parse};
use super::wanted::{To, WantedTables};
use crate::error::{Error, Kind, Result};
use crate::model::BackupId;
use crate::repository::manifest::SourceRecord;
use crate::repository::reader::Reader;
use crate::sources::postgres::address::Address;
use crate::sources::postgres::connect::{Server, literal};
use crate::sources::postgres::dropping::drop_database;
use crate::sources::postgres::facts::{self, DatabaseFacts};
use crate::sources::postgres::load::{self, Options};
use crate::sources::postgres::pick::{self, TableName};
use crate::sources::postgres::replace::{self, Replacement};
use crate::sources::postgres::{GLOBALS, adopt, artifact_name, create, globals, preflight, suits, swap, tools};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeSet;

/// What a rollback takes along.
pub(super) const NOT_BESIDE: &str = "the restored rows go, with all that was written there since; none are kept beside";

/// Tables of a database.
pub struct Tables {
    /// The server.
    pub address: Address,
    /// What, and where to.
    pub wanted: WantedTables,
    /// What the database was; nothing when only undoing is asked for.
    pub facts: Option<DatabaseFacts>,
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
}

/// What staging makes.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Staging {
    staged: String,
    roles: Vec<String>,
    #[serde(default)]
    loaded: Vec<(String, String, u64)>,
    #[serde(default)]
    warnings: Vec<String>,
    #[serde(default)]
    left_out: Vec<String>,
}

/// What the swap does.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Swap {
    Adopt { staged: String, schema: String, comment: String },
    Replace(Replacement),
}

impl Swap {
    fn staged(&self) -> &str {
        match self {
            Swap::Adopt { staged, .. } => staged,
            Swap::Replace(x) => &x.staged,
        }
    }
}

impl Tables {
    fn facts(&self) -> Result<&DatabaseFacts> {
        let none = || Error::new(Kind::Internal, "a restore without a backup cannot stage");
        self.facts.as_ref().ok_or_else(none)
    }

    async fn globals(&self) -> Result<Vec<u8>> {
        let Some((reader, record)) = self.from.as_ref().filter(|_| !self.options.no_owner) else {
            return Ok(Vec::new());
        };
        match record.artifacts.iter().find(|a| a.name == GLOBALS) {
            Some(artifact) => reader.small(artifact).await,
            None => Ok(Vec::new()),
        }
    }

    /// Bytes that staging and the swap take, from what the tables take now and from what the archive has of them:
    /// staged, in their new place, and what is kept.
    async fn room(&self, server: &Server) -> Result<u64> {
        let live = server.session(&self.wanted.database).await?;
        let sizes = live
            .row(
                "coalesce(sum(pg_total_relation_size(oid)), 0)::bigint",
                &format!("FROM (WITH RECURSIVE {} SELECT oid FROM members) q", pick::members_sql(&self.wanted.tables)),
            )
            .await
            .map_err(failed("the live tables cannot be measured"))?;
        let of = |b: &facts::BigTable| self.wanted.tables.iter().any(|t| t.schema == b.schema && t.name == b.name);
        let blocks = self.facts()?.archive.iter().flat_map(|a| &a.blocks);
        let stored = blocks.filter(|b| of(b)).map(|b| b.length).sum();
        let copies = if matches!(self.wanted.to, To::Place { keep: true, .. }) { 3 } else { 2 };
        Ok(copies * sizes.number(0).max(stored))
    }
}

#[async_trait]
impl Resource for Tables {
    fn label(&self) -> String {
        let names: Vec<String> = self.wanted.tables.iter().map(TableName::full).collect();
        let what = match (&self.wanted.schema, &names[..]) {
            (Some(schema), _) => format!("schema {schema}"),
            (None, [one]) => format!("table {one}"),
            (None, several) => format!("tables {}", several.join(", ")),
        };
        format!("{what} of database {}", self.wanted.database)
    }

    fn class(&self) -> Class {
        Class::Database
    }

    async fn answers(&self) -> Result<()> {
        self.address.reach().await?.admin().await.map(drop)
    }

    async fn preflight(&self) -> Result<Findings> {
        let server = self.address.reach().await?;
        let admin = server.admin().await?;
        let database = &self.wanted.database;
        if swap::oid(&admin, database).await.map_err(failed("the server cannot be examined"))?.is_none() {
            return Err(Error::new(Kind::Refused, format!("there is no database {database} to restore tables into"))
                .at(server.place())
                .hint("Restore the whole database: leave out --table and --schema."));
        }
        let live = server.session(database).await?;
        let mut warnings = Vec::new();
        match &self.wanted.to {
            To::Schema(schema) => {
                let there = adopt::has_schema(&live, schema, None).await;
                if there.map_err(failed("the live database cannot be examined"))? {
                    return Err(Error::new(
                        Kind::Refused,
                        format!("database {database} has a schema {schema} already"),
                    )
                    .at(server.place())
                    .hint("Give a name that is free with --to."));
                }
                let major = facts::server_version(&admin).await? / 10_000;
                tools::find("pg_dump", major, &server.place).await.map_err(|e| e.kind(Kind::Refused))?;
            }
            To::Place { replica_mode, keep } => {
                if *keep {
                    warnings = suits::keeping(&live).await?;
                }
                let superuser = globals::is_superuser(&admin, &server.user).await?;
                suits::live(&live, &self.wanted.tables, *replica_mode, superuser).await?;
            }
        }
        drop(live);
        let look = preflight::Look {
            server: &server,
            options: &self.options,
            reads: 0,
            assume_space: self.assume_space,
            part: Some(self.room(&server).await?),
            dropped_first: false,
        };
        let told = look.at(&[(database, self.facts()?)], &self.globals().await?).await?;
        let space = told.space.into_iter().map(|s| Space { place: s.place, needed: s.needed, free: s.free }).collect();
        warnings.extend(told.warnings);
        let live = match self.wanted.to {
            To::Schema(_) => Live::Untouched,
            To::Place { keep: true, .. } => Live::Kept,
            To::Place { keep: false, .. } => Live::Dropped,
        };
        Ok(Findings { space, warnings, live, ..Findings::default() })
    }

    /// Whether the rows that were there before are kept still; what is there now will not be.
    async fn used(&self, swap: Option<&Note>) -> Result<Findings> {
        if let Some(Swap::Replace(x)) = swap.map(parse::<Swap>).transpose()? {
            if !x.keep {
                return Err(replace::not_kept().kind(Kind::Refused).do_instead("Restore an older backup instead."));
            }
            let live = self.address.reach().await?.session(&x.live).await?;
            if !replace::is_done(&live, &x).await.map_err(failed("the previous rows cannot be found"))? {
                return Err(Error::new(Kind::Refused, "the rows that were there before are not kept any more")
                    .at(format!("schema {} of database {}", x.schema, x.live))
                    .hint("Somebody has dropped them, or put them back. Restore an older backup instead."));
            }
        }
        Ok(Findings { warnings: vec![NOT_BESIDE.to_owned()], live: Live::Dropped, ..Findings::default() })
    }

    async fn plan_staging(&self) -> Result<Note> {
        let admin = self.address.reach().await?.admin().await?;
        let roles = globals::missing(&admin, &self.globals().await?).await?;
        let staged = swap::beside(&self.wanted.database, "staged", self.id.as_str());
        Ok(json!(Staging { staged, roles, loaded: Vec::new(), warnings: Vec::new(), left_out: Vec::new() }))
    }

    async fn stage(&self, staging: &Note) -> Result<Note> {
        let mut staging: Staging = parse(staging)?;
        let facts = self.facts()?;
        let Some((reader, record)) = &self.from else {
            return Err(Error::new(Kind::Internal, "a restore without a backup cannot stage"));
        };
        let server = self.address.reach().await?;
        let admin = server.admin().await?;
        globals::make(&admin, &self.globals().await?, &staging.roles).await?;
        let artifact = super::select::artifact(record, Some(&artifact_name(&facts.database)))?;
        drop_database(&admin, &staging.staged).await.map_err(failed("an old staging database cannot be dropped"))?;
        create::database(&admin, &staging.staged, facts)
            .await
            .map_err(failed("the staging database cannot be made"))?;
        let loaded = load::load(&server, &staging.staged, facts, &Stored { reader, artifact }, &self.options).await?;
        staging.loaded = loaded.rows.into_iter().map(|((schema, name), rows)| (schema, name, rows)).collect();
        (staging.warnings, staging.left_out) = (loaded.warnings, loaded.left_out);
        Ok(json!(staging))
    }

    async fn verify(&self, staged: &Note) -> Result<Vec<Compared>> {
        let staging: Staging = parse(staged)?;
        let server = self.address.reach().await?;
        let session = server.session(&staging.staged).await?;
        let members =
            pick::members(&session, &self.wanted.tables).await.map_err(failed("the staged tables cannot be found"))?;
        let members: BTreeSet<(String, String)> = members.into_iter().map(|t| (t.schema, t.name)).collect();
        let mut found = facts::read(&session).await?;
        found.tables.retain(|t| members.contains(&(t.schema.clone(), t.name.clone())));
        for table in &mut found.tables {
            let loaded = staging.loaded.iter().find(|(s, n, _)| (s, n) == (&table.schema, &table.name));
            if let Some((_, _, rows)) = loaded.filter(|_| table.size > self.count_rows_up_to) {
                (table.rows, table.estimated) = (*rows, false);
            }
        }
        let alone = |t: &&facts::TableFacts| t.whole.as_ref().is_some_and(|whole| !members.contains(whole));
        if let Some(table) = found.tables.iter().find(alone) {
            return Err(Error::new(Kind::Refused, "a partition by hash cannot be restored alone")
                .at(table.full_name())
                .because("elsewhere its rows may belong to another partition, so the backup counts them all together")
                .hint("Restore the whole table."));
        }
        facts::count(&session, &mut found.tables, self.count_rows_up_to).await?;
        facts::join_hash_partitions(&mut found.tables);
        let mut expected = self.facts()?.clone();
        let names: BTreeSet<(&str, &str)> = found.tables.iter().map(|t| (&*t.schema, &*t.name)).collect();
        expected.tables.retain(|t| {
            names.contains(&(&*t.schema, &*t.name)) || members.contains(&(t.schema.clone(), t.name.clone()))
        });
        (expected.sequences, expected.extensions, expected.large_objects) = Default::default();
        found.large_objects = 0;
        Ok(facts::compare(&expected, &found)
            .into_iter()
            .map(|l| Compared { what: l.what, expected: l.expected, found: l.found, good: l.good })
            .collect())
    }

    async fn unstage(&self, staging: &Note) -> Result<()> {
        self.drop_staged(staging).await?;
        let staging: Staging = parse(staging)?;
        let admin = self.address.reach().await?.admin().await?;
        drop_roles(&admin, &staging.roles).await
    }

    async fn drop_staged(&self, staging: &Note) -> Result<()> {
        let staging: Staging = parse(staging)?;
        let admin = self.address.reach().await?.admin().await?;
        drop_database(&admin, &staging.staged).await.map_err(failed("the staging database cannot be dropped"))
    }

    async fn plan_swap(&self, staged: &Note) -> Result<Note> {
        let staging: Staging = parse(staged)?;
        let id = self.id.as_str();
        Ok(json!(match &self.wanted.to {
            To::Schema(schema) => Swap::Adopt {
                staged: staging.staged,
                schema: schema.clone(),
                comment: format!("restored by restore {id}; {:032x}", rand::random::<u128>()),
            },
            To::Place { replica_mode, keep } => {
                let server = self.address.reach().await?;
                let both = (self.wanted.database.as_str(), staging.staged.as_str());
                Swap::Replace(replace::plan(&server, both, &self.wanted.tables, id, (*keep, *replica_mode)).await?)
            }
        }))
    }

    async fn swap(&self, swap: &Note) -> Result<()> {
        let swap: Swap = parse(swap)?;
        let server = self.address.reach().await?;
        let admin = server.admin().await?;
        let staged = swap::oid(&admin, swap.staged()).await.map_err(failed("the staged database cannot be found"))?;
        // It goes last: without it, all was done.
        if staged.is_none() {
            return Ok(());
        }
        match &swap {
            Swap::Adopt { staged, schema, comment } => {
                let live = server.session(&self.wanted.database).await?;
                let cannot = failed("the live database cannot be examined");
                if !adopt::has_schema(&live, schema, Some(comment)).await.map_err(cannot)? {
                    adopt::gather(&server, staged, &self.wanted.tables, schema, comment).await?;
                    adopt::carry(&server, staged, &self.wanted.database, schema, &self.options).await?;
                }
            }
            Swap::Replace(x) => replace::replace(&server, x).await?,
        }
        drop_database(&admin, swap.staged()).await.map_err(failed("the staged database cannot be dropped"))?;
        if let Swap::Replace(x) = &swap
            && !x.keep
        {
            // Nothing but the mark.
            let live = server.session(&x.live).await?;
            adopt::take_back(&live, &x.schema, &x.mark).await.map_err(failed("an empty schema cannot be dropped"))?;
        }
        Ok(())
    }

    async fn unswap(&self, swap: &Note) -> Result<()> {
        let server = self.address.reach().await?;
        match parse::<Swap>(swap)? {
            Swap::Adopt { schema, comment, .. } => {
                let live = server.session(&self.wanted.database).await?;
                adopt::take_back(&live, &schema, &comment)
                    .await
                    .map_err(failed("the restored schema cannot be dropped"))
            }
            Swap::Replace(x) => {
                let admin = server.admin().await?;
                let staged = swap::oid(&admin, &x.staged).await;
                // Dropped last, so all was done, and of this nothing is left.
                if !x.keep && staged.map_err(failed("the staged database cannot be found"))?.is_none() {
                    return Err(replace::not_kept());
                }
                replace::put_back(&server, &x).await
            }
        }
    }

    /// Of restored rows nothing is kept once they have gone, so they cannot be put in place again.
    async fn reswap(&self, swap: &Note) -> Result<Option<String>> {
        let live = self.address.reach().await?.session(&self.wanted.database).await?;
        let stands = match parse::<Swap>(swap)? {
            Swap::Adopt { schema, comment, .. } => adopt::has_schema(&live, &schema, Some(&comment)).await,
            // Where none were kept, none were put back.
            Swap::Replace(x) if !x.keep => Ok(true),
            Swap::Replace(x) => replace::is_done(&live, &x).await,
        };
        let stands = stands.map_err(failed("the live database cannot be examined"))?;
        Ok((!stands).then(|| format!("{} stays as before the restore, and what was restored is gone", self.label())))
    }

    fn keeps_restored(&self) -> bool {
        false
    }

    async fn previous(&self, swap: &Note) -> Result<Vec<Previous>> {
        let Swap::Replace(x) = parse::<Swap>(swap)? else { return Ok(Vec::new()) };
        if !x.keep {
            return Ok(Vec::new());
        }
        let live = self.address.reach().await?.session(&x.live).await?;
        if !replace::is_done(&live, &x).await.map_err(failed("the previous rows cannot be found"))? {
            return Ok(Vec::new());
        }
        let from = format!(
            "FROM pg_class WHERE relkind = 'r' AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = {})",
            literal(&x.schema)
        );
        let row = live.row("coalesce(sum(pg_total_relation_size(oid)), 0)::bigint", &from).await;
        let bytes = row.map_err(failed("the previous rows cannot be measured"))?.number(0);
        Ok(vec![Previous { name: format!("schema {} of database {}", x.schema, x.live), bytes: Some(bytes) }])
    }

    async fn drop_previous(&self, swap: &Note) -> Result<()> {
        let Swap::Replace(x) = parse::<Swap>(swap)? else { return Ok(()) };
        let live = self.address.reach().await?.session(&x.live).await?;
        adopt::take_back(&live, &x.schema, &x.mark).await.map_err(failed("the previous rows cannot be dropped"))
    }
}
