//! The rows of a database into one that has its tables already, all of them empty: as it was migrated by its
//! application, say. The empty tables are the staged copy, so there is nothing to swap; undone, they are empty again.

use super::database::{Stored, failed};
use super::resource::{Class, Compared, Findings, Live, Note, Previous, Resource, parse};
use super::tables::NOT_BESIDE;
use crate::error::{Error, Kind, Result};
use crate::repository::manifest::SourceRecord;
use crate::repository::reader::Reader;
use crate::sources::postgres::address::Address;
use crate::sources::postgres::connect::{Server, literal};
use crate::sources::postgres::facts::{self, DatabaseFacts};
use crate::sources::postgres::load::{self, Options};
use crate::sources::postgres::pick::TableName;
use crate::sources::postgres::session::{Session, SqlResult};
use crate::sources::postgres::{adopt, artifact_name, foreign, globals, preflight, sql, suits, swap};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Rows of one database.
pub struct Rows {
    /// The server.
    pub address: Address,
    /// The database that is filled.
    pub into: String,
    /// What the database was; nothing when only undoing is asked for.
    pub facts: Option<DatabaseFacts>,
    /// The source in the backup, and the reader; only staging needs them.
    pub from: Option<(Reader, SourceRecord)>,
    /// How to load.
    pub options: Options,
    /// Tables above this size are not counted. Bytes.
    pub count_rows_up_to: u64,
}

/// What is filled, as it was before.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Filling {
    /// Tables, which are empty.
    tables: Vec<TableName>,
    /// Comment of the schema that stands while the rows are not proven: without it nothing is emptied by us.
    mark: String,
    /// Sequences, quoted, with their values.
    sequences: Vec<(String, String, bool)>,
    #[serde(default)]
    warnings: Vec<String>,
}

/// The schema that stands while rows are on their way.
const FILLING: &str = "backstay_filling";
const LOOK: &str = "the database that is to be filled cannot be examined";

impl Rows {
    fn facts(&self) -> Result<&DatabaseFacts> {
        let none = || Error::new(Kind::Internal, "a restore without a backup cannot stage");
        self.facts.as_ref().ok_or_else(none)
    }

    /// The tables and sequences, when all tables are there and empty.
    async fn look(&self, server: &Server, session: &Session) -> Result<Filling> {
        let refused = |what: String, which: Vec<String>| {
            Error::new(Kind::Refused, what).at(server.place()).because(which.join(", "))
        };
        let found = facts::read(session).await?;
        session.run("SET row_security = off").await.map_err(failed(LOOK))?;
        let mut full = Vec::new();
        let mut tables = Vec::new();
        for table in found.tables {
            let name = TableName { schema: table.schema, name: table.name };
            if session.any(&format!("FROM ONLY {}", name.sql())).await.map_err(failed(LOOK))? {
                full.push(name.full());
            }
            tables.push(name);
        }
        if !full.is_empty() {
            return Err(refused(format!("database {} has rows already", self.into), full)
                .hint("--data-only fills empty tables. To replace rows of some tables, restore them with --table."));
        }
        let there = |t: &facts::TableFacts| tables.iter().any(|n| n.schema == t.schema && n.name == t.name);
        let missing: Vec<String> =
            self.facts()?.tables.iter().filter(|t| t.rows > 0 && !there(t)).map(|t| t.full_name()).collect();
        // Of a table with partitions by hash the facts have the whole.
        let whole: Vec<String> = session
            .rows(
                "format('%s.%s', n.nspname, c.relname)",
                "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'p'",
            )
            .await
            .map_err(failed(LOOK))?
            .iter()
            .map(|r| r.text(0))
            .collect();
        let missing: Vec<String> = missing.into_iter().filter(|t| !whole.contains(t)).collect();
        if !missing.is_empty() {
            return Err(refused(format!("database {} lacks tables that the backup has rows of", self.into), missing)
                .hint("Make them first, for example with --schema-only --to a new database."));
        }
        let mut sequences = Vec::new();
        for (name, _) in found.sequences {
            let row =
                session.row("last_value::text, is_called", &format!("FROM {name}")).await.map_err(failed(LOOK))?;
            sequences.push((name, row.text(0), row.truth(1)));
        }
        let mark = format!("rows of a backup are on their way; {:032x}", rand::random::<u128>());
        Ok(Filling { tables, mark, sequences, warnings: Vec::new() })
    }

    async fn is_marked(&self, server: &Server, filling: &Filling) -> Result<bool> {
        let session = server.session(&self.into).await?;
        adopt::has_schema(&session, FILLING, Some(&filling.mark)).await.map_err(failed(LOOK))
    }

    async fn unmark(&self, server: &Server, filling: &Filling) -> Result<()> {
        let session = server.session(&self.into).await?;
        adopt::take_back(&session, FILLING, &filling.mark).await.map_err(failed("the mark cannot be removed"))
    }

    /// Makes everything as it was: tables empty, sequences with their values.
    async fn empty(&self, server: &Server, filling: &Filling) -> Result<()> {
        let session = server.session(&self.into).await?;
        let mut sql = vec!["BEGIN".to_owned()];
        if globals::is_superuser(&session, &server.user).await? {
            sql.push("SET LOCAL session_replication_role = replica".to_owned());
        }
        if !filling.tables.is_empty() {
            let tables: Vec<String> = filling.tables.iter().map(|t| format!("ONLY {}", t.sql())).collect();
            sql.push(format!("TRUNCATE {}", tables.join(", ")));
        }
        for (name, value, called) in &filling.sequences {
            sql.push(format!(
                "DO $$ BEGIN PERFORM setval({}::regclass, {}::bigint, {called}); END $$",
                literal(name),
                literal(value)
            ));
        }
        sql.push("COMMIT".to_owned());
        session.run_all(&sql).await.map_err(failed("the tables cannot be emptied again"))
    }
}

async fn is_there(session: &Session, table: &TableName) -> SqlResult<bool> {
    let column = format!("to_regclass({}) IS NOT NULL", literal(&table.sql()));
    Ok(session.row(&column, "").await?.truth(0))
}

#[async_trait]
impl Resource for Rows {
    fn label(&self) -> String {
        format!("rows of database {}", self.into)
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
        let facts = self.facts()?;
        if swap::oid(&admin, &self.into).await.map_err(failed(LOOK))?.is_none() {
            return Err(Error::new(Kind::Refused, format!("there is no database {}", self.into))
                .at(server.place())
                .hint("--data-only fills one that has its tables; without it, --to makes a new one with everything."));
        }
        if facts.large_objects > 0 {
            return Err(Error::new(Kind::Refused, "the backup has large objects, which are not rows of a table")
                .because(format!("{} of them", facts.large_objects))
                .hint("Restore the whole database with --to, without --data-only."));
        }
        let look = preflight::Look {
            server: &server,
            options: &self.options,
            reads: 0,
            assume_space: None,
            part: Some(0),
            dropped_first: false,
        };
        look.server_suits(&admin, &[(&self.into, facts)]).await?;
        let session = server.session(&self.into).await?;
        let filling = self.look(&server, &session).await?;
        let superuser = globals::is_superuser(&admin, &server.user).await?;
        suits::triggers(&session, &filling.tables, superuser).await?;
        let keys = foreign::touching(&session, &filling.tables).await.map_err(failed(LOOK))?;
        if let Some(key) = keys.first().filter(|_| !superuser) {
            return Err(Error::new(Kind::Refused, "only a superuser can fill tables that point at each other")
                .because(key.named())
                .hint("Name a superuser in the source's url, or restore the whole database with --to."));
        }
        Ok(Findings { live: Live::Untouched, ..Findings::default() })
    }

    async fn used(&self, swap: Option<&Note>) -> Result<Findings> {
        if let Some(filling) = swap.map(parse::<Filling>).transpose()? {
            let session = self.address.reach().await?.session(&self.into).await?;
            let mut gone = Vec::new();
            for table in &filling.tables {
                if !is_there(&session, table).await.map_err(failed(LOOK))? {
                    gone.push(table.full());
                }
            }
            if !gone.is_empty() {
                return Err(Error::new(Kind::Refused, "tables whose rows were restored are gone")
                    .at(format!("database {}", self.into))
                    .because(gone.join(", "))
                    .hint("Somebody has dropped or renamed them since. Empty the others by hand: TRUNCATE."));
            }
        }
        Ok(Findings { warnings: vec![NOT_BESIDE.to_owned()], live: Live::Dropped, ..Findings::default() })
    }

    async fn plan_staging(&self) -> Result<Note> {
        let server = self.address.reach().await?;
        let session = server.session(&self.into).await?;
        Ok(json!(self.look(&server, &session).await?))
    }

    async fn stage(&self, staging: &Note) -> Result<Note> {
        let mut filling: Filling = parse(staging)?;
        let facts = self.facts()?;
        let Some((reader, record)) = &self.from else {
            return Err(Error::new(Kind::Internal, "a restore without a backup cannot stage"));
        };
        let server = self.address.reach().await?;
        if self.is_marked(&server, &filling).await? {
            self.empty(&server, &filling).await?;
        } else {
            let mark = [
                "BEGIN".to_owned(),
                format!("CREATE SCHEMA {FILLING}"),
                format!("COMMENT ON SCHEMA {FILLING} IS {}", literal(&filling.mark)),
                "COMMIT".to_owned(),
            ];
            let session = server.session(&self.into).await?;
            session.run_all(&mark).await.map_err(failed("the database cannot be marked as one that is filled"))?;
        }
        let superuser = globals::is_superuser(&server.admin().await?, &server.user).await?;
        let artifact = super::select::artifact(record, Some(&artifact_name(&facts.database)))?;
        if [sql::MEDIA, sql::archive::MEDIA].contains(&artifact.media.as_str()) {
            return Err(sql::load::parts());
        }
        let options = Options { replica: superuser, ..self.options.clone() };
        let loaded = load::load(&server, &self.into, facts, &Stored { reader, artifact }, &options).await?;
        filling.warnings = loaded.warnings;
        Ok(json!(filling))
    }

    async fn verify(&self, staged: &Note) -> Result<Vec<Compared>> {
        let filling: Filling = parse(staged)?;
        let server = self.address.reach().await?;
        let session = server.session(&self.into).await?;
        let mut found = facts::read(&session).await?;
        facts::count(&session, &mut found.tables, self.count_rows_up_to).await?;
        facts::join_hash_partitions(&mut found.tables);
        let mut compared: Vec<Compared> = facts::compare(self.facts()?, &found)
            .into_iter()
            .map(|l| Compared { what: l.what, expected: l.expected, found: l.found, good: l.good })
            .collect();
        for key in foreign::touching(&session, &filling.tables).await.map_err(failed(LOOK))? {
            if let Some(values) = key.orphan(&session).await.map_err(failed(LOOK))? {
                compared.push(Compared {
                    what: format!("foreign key {}", key.named()),
                    expected: "whole".to_owned(),
                    found: format!("({values}) is not there"),
                    good: false,
                });
            }
        }
        Ok(compared)
    }

    async fn unstage(&self, staging: &Note) -> Result<()> {
        let filling: Filling = parse(staging)?;
        let server = self.address.reach().await?;
        // Of one that was complete, and taken back later, somebody may have filled the tables since.
        if !self.is_marked(&server, &filling).await? {
            return Ok(());
        }
        self.empty(&server, &filling).await?;
        self.unmark(&server, &filling).await
    }

    async fn plan_swap(&self, staged: &Note) -> Result<Note> {
        Ok(staged.clone())
    }

    async fn swap(&self, swap: &Note) -> Result<()> {
        self.unmark(&self.address.reach().await?, &parse(swap)?).await
    }

    async fn unswap(&self, swap: &Note) -> Result<()> {
        self.empty(&self.address.reach().await?, &parse(swap)?).await
    }

    /// Tables that have been emptied are empty; one that somebody has dropped tells nothing.
    async fn reswap(&self, swap: &Note) -> Result<Option<String>> {
        let filling: Filling = parse(swap)?;
        let session = self.address.reach().await?.session(&self.into).await?;
        session.run("SET row_security = off").await.map_err(failed(LOOK))?;
        for table in &filling.tables {
            if is_there(&session, table).await.map_err(failed(LOOK))?
                && session.any(&format!("FROM ONLY {}", table.sql())).await.map_err(failed(LOOK))?
            {
                return Ok(None);
            }
        }
        Ok(Some(format!("the tables of database {} are empty as before the restore", self.into)))
    }

    fn keeps_restored(&self) -> bool {
        false
    }

    async fn previous(&self, _: &Note) -> Result<Vec<Previous>> {
        Ok(Vec::new())
    }

    async fn drop_previous(&self, _: &Note) -> Result<()> {
        Ok(())
    }
}
