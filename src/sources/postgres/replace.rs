//! The rows of live tables replaced by those of staged ones, in one transaction of the live database.
//!
//! Whoever uses the tables waits, and sees all of the old rows or all of the new. The old rows are kept in a schema of
//! their own, made in the same transaction: its comment also says that the transaction was committed, to whoever asks
//! after a crash. Nothing goes through a file: a session reads the staged rows and another takes them.

use super::adopt::has_schema;
use super::connect::{Server, ident, literal};
use super::copy::{CopyOut, FAITHFUL};
use super::facts;
use super::foreign::{self, ForeignKey};
use super::globals;
use super::pick::{self, TableName};
use super::session::{LOCK_NOT_AVAILABLE, Session, SqlError, SqlResult};
use super::suits;
use super::tools;
use crate::error::{Error, Kind, Result};
use crate::model::size::plural;
use serde::{Deserialize, Serialize};

/// How long others may hold a table before the replacement gives up.
const WAIT: &str = "15s";

/// A table whose rows are replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Its name.
    pub name: TableName,
    /// Its columns, but for generated ones.
    pub columns: Vec<String>,
    /// True when its rows are in partitions.
    pub partitioned: bool,
    /// The name under which its old rows are kept.
    pub kept: String,
    /// Sequences of its columns: column, sequence.
    pub sequences: Vec<(String, TableName)>,
}

/// A replacement: what undo and a second look need, for the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replacement {
    /// The live database.
    pub live: String,
    /// The staged one.
    pub staged: String,
    /// Tables, those that are pointed at first.
    pub tables: Vec<Table>,
    /// The schema that keeps the old rows and marks what was committed.
    pub schema: String,
    /// Its comment: nobody else's schema has it.
    pub mark: String,
    /// Whether old rows are kept.
    pub keep: bool,
    /// Whether foreign keys of other tables may point at these.
    pub replica_mode: bool,
}

impl Table {
    fn columns(&self) -> String {
        self.columns.iter().map(|c| ident(c)).collect::<Vec<_>>().join(", ")
    }

    /// The table with the list of its columns, unless it has none.
    fn listed(&self) -> String {
        match self.columns.is_empty() {
            true => self.name.sql(),
            false => format!("{} ({})", self.name.sql(), self.columns()),
        }
    }

    /// After `FROM` and its kin.
    fn sql(&self) -> String {
        format!("{}{}", if self.partitioned { "" } else { "ONLY " }, self.name.sql())
    }
}

fn failed(e: SqlError) -> Error {
    let busy = e.is(LOCK_NOT_AVAILABLE);
    let error = e.says("the rows of the tables cannot be replaced").kind(Kind::Restore);
    if busy { error.hint("Somebody holds one of the tables; try again when he has ended.") } else { error }
}

/// The name of the sequences' values among what is kept.
const SEQUENCES: &str = "backstay sequences";

/// Looks at both sides; no effect.
///
/// # Errors
/// [`Kind::Refused`] for tables that are not alike, by name.
pub async fn plan(
    server: &Server,
    (live, staged): (&str, &str),
    tables: &[TableName],
    id: &str,
    (keep, replica_mode): (bool, bool),
) -> Result<Replacement> {
    let from = server.session(staged).await?;
    let to = server.session(live).await?;
    let tables = topmost(&from, tables).await.map_err(failed)?;
    let mut found = Vec::new();
    for (n, name) in tables.iter().enumerate() {
        let kept = if tables.iter().any(|t| t.name == name.name && t != name) {
            format!("{}_{n}", name.name.chars().take(12).collect::<String>())
        } else {
            name.name.clone()
        };
        let (columns, partitioned) = suits::alike(&from, &to, name).await?;
        let sequences = owned(&to, name).await.map_err(failed)?;
        found.push(Table { name: name.clone(), columns, partitioned, kept, sequences });
    }
    let keys = foreign::touching(&to, &tables).await.map_err(failed)?;
    let tables = in_order(found, &keys);
    let mut schema = format!("backstay_before_{id}");
    for n in 1.. {
        if !has_schema(&to, &schema, None).await.map_err(failed)? {
            break;
        }
        schema = format!("backstay_before_{id}-{n}");
    }
    let mark = format!("rows before restore {id}; {:032x}", rand::random::<u128>());
    Ok(Replacement { live: live.into(), staged: staged.into(), tables, schema, mark, keep, replica_mode })
}

/// The tables without those that are partitions of another one of them.
async fn topmost(session: &Session, tables: &[TableName]) -> SqlResult<Vec<TableName>> {
    let mut top = Vec::new();
    for table in tables {
        let others: Vec<TableName> = tables.iter().filter(|t| *t != table).cloned().collect();
        if others.is_empty() || !pick::members(session, &others).await?.contains(table) {
            top.push(table.clone());
        }
    }
    Ok(top)
}

/// Those that are pointed at first, as far as that is possible.
fn in_order(mut left: Vec<Table>, keys: &[ForeignKey]) -> Vec<Table> {
    let mut out: Vec<Table> = Vec::new();
    while !left.is_empty() {
        let waits =
            |t: &Table| keys.iter().any(|k| k.from == t.name && k.to != t.name && left.iter().any(|l| l.name == k.to));
        let next = left.iter().position(|t| !waits(t)).unwrap_or(0);
        out.push(left.remove(next));
    }
    out
}

/// The sequences that belong to columns of a table.
async fn owned(session: &Session, table: &TableName) -> SqlResult<Vec<(String, TableName)>> {
    let rows = session
        .rows(
            "a.attname, sn.nspname, s.relname",
            &format!(
                "FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S' \
                 JOIN pg_namespace sn ON sn.oid = s.relnamespace JOIN pg_class t ON t.oid = d.refobjid \
                 JOIN pg_namespace tn ON tn.oid = t.relnamespace \
                 JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid \
                 WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass \
                 AND d.deptype IN ('a', 'i') AND tn.nspname = {} AND t.relname = {} ORDER BY a.attnum",
                literal(&table.schema),
                literal(&table.name)
            ),
        )
        .await?;
    Ok(rows.iter().map(|r| (r.text(0), TableName { schema: r.text(1), name: r.text(2) })).collect())
}

/// Whether the replacement was committed.
///
/// # Errors
/// The server's refusal.
pub async fn is_done(session: &Session, x: &Replacement) -> SqlResult<bool> {
    has_schema(session, &x.schema, Some(&x.mark)).await
}

/// Replaces the rows. What is done already is left as it is.
///
/// # Errors
/// [`Kind::Restore`], [`Kind::Refused`] or [`Kind::Mismatch`]; nothing has changed then.
pub async fn replace(server: &Server, x: &Replacement) -> Result<()> {
    let live = server.session(&x.live).await?;
    if is_done(&live, x).await.map_err(failed)? {
        return Ok(());
    }
    let staged = server.session(&x.staged).await?;
    let keys = begin(server, &live, x).await?;
    let mut sql = vec![
        format!("CREATE SCHEMA {}", ident(&x.schema)),
        format!("COMMENT ON SCHEMA {} IS {}", ident(&x.schema), literal(&x.mark)),
    ];
    if x.keep {
        sql.extend(keeping(x));
    }
    sql.extend(emptying(x, &keys));
    live.run_all(&sql).await.map_err(failed)?;
    let psql = if server.is_direct() { None } else { Some(tools::any("psql", &server.place).await?) };
    let mut before: Vec<String> = FAITHFUL.iter().map(|(n, v)| format!("SET {n} = {}", literal(v))).collect();
    before.push("SET client_encoding = 'UTF8'".to_owned());
    for table in &x.tables {
        let read = format!("COPY (SELECT {} FROM {}) TO STDOUT", table.columns(), table.sql());
        let rows = CopyOut::begin(server, psql.as_deref(), &x.staged, &before, &read).await?;
        let rows = rows.map_err(|e| failed(e).at(table.name.full()))?.stream();
        let write = format!("COPY {} FROM STDIN", table.listed());
        live.copy_in(&write, rows).await.map_err(|e| failed(e).at(table.name.full()))?;
        let from = format!("FROM {}", table.sql());
        equal_numbers(table, (&live, &from), (&staged, &from)).await?;
    }
    for table in &x.tables {
        let recorded = owned(&staged, &table.name).await.map_err(failed)?;
        for (column, sequence) in &table.sequences {
            let Some((_, source)) = recorded.iter().find(|(c, _)| c == column) else { continue };
            let row = staged.row("last_value::text, is_called", &format!("FROM {}", source.sql())).await;
            let row = row.map_err(failed)?;
            set_sequence(&live, sequence, &row.text(0), row.truth(1)).await.map_err(failed)?;
        }
    }
    no_orphans(&live, &keys).await?;
    live.run("COMMIT").await.map_err(failed)
}

/// Opens the transaction and locks the tables; gives their foreign keys, as they are now.
async fn begin(server: &Server, live: &Session, x: &Replacement) -> Result<Vec<ForeignKey>> {
    let mut sql: Vec<String> =
        ["BEGIN ISOLATION LEVEL READ COMMITTED", "SET LOCAL statement_timeout = 0"].map(str::to_owned).to_vec();
    if facts::server_version(live).await? >= 170_000 {
        sql.push("SET LOCAL transaction_timeout = 0".to_owned());
    }
    sql.push(format!("SET LOCAL lock_timeout = {}", literal(WAIT)));
    sql.extend(FAITHFUL.iter().map(|(name, value)| format!("SET LOCAL {name} = {}", literal(value))));
    sql.push(lock(x.tables.iter().map(Table::sql), "ACCESS EXCLUSIVE"));
    live.run_all(&sql).await.map_err(failed)?;
    let names: Vec<TableName> = x.tables.iter().map(|t| t.name.clone()).collect();
    let superuser = globals::is_superuser(live, &server.user).await?;
    suits::live(live, &names, x.replica_mode, superuser).await?;
    let keys = foreign::touching(live, &names).await.map_err(failed)?;
    if superuser {
        // Neither triggers nor foreign keys act; the keys are looked at before the end, so whoever writes to the other
        // side of one must wait that long.
        let others: Vec<String> = keys
            .iter()
            .flat_map(|k| [k.incoming.then_some(&k.from), k.outgoing.then_some(&k.to)])
            .flatten()
            .map(TableName::sql)
            .collect();
        if !others.is_empty() {
            live.run(&lock(others.into_iter(), "SHARE")).await.map_err(failed)?;
        }
        live.run("SET LOCAL session_replication_role = replica").await.map_err(failed)?;
    }
    Ok(keys)
}

fn lock(tables: impl Iterator<Item = String>, mode: &str) -> String {
    let mut tables: Vec<String> = tables.collect();
    tables.sort();
    tables.dedup();
    format!("LOCK TABLE {} IN {mode} MODE", tables.join(", "))
}

/// Statements that copy the rows and the sequences' values away.
fn keeping(x: &Replacement) -> Vec<String> {
    let schema = ident(&x.schema);
    let mut sql = Vec::new();
    for t in &x.tables {
        sql.push(format!("CREATE TABLE {schema}.{} AS SELECT {} FROM {}", ident(&t.kept), t.columns(), t.sql()));
    }
    sql.push(format!("CREATE TABLE {schema}.{} (sequence text, value bigint, called boolean)", ident(SEQUENCES)));
    for (_, s) in x.tables.iter().flat_map(|t| &t.sequences) {
        sql.push(format!(
            "INSERT INTO {schema}.{} SELECT {}, last_value, is_called FROM {}",
            ident(SEQUENCES),
            literal(&s.sql()),
            s.sql()
        ));
    }
    sql
}

/// Statements that empty the tables. `TRUNCATE` refuses where a table outside points at one of them, row or no row.
fn emptying(x: &Replacement, keys: &[ForeignKey]) -> Vec<String> {
    if keys.iter().any(|k| k.incoming) {
        return x.tables.iter().map(|t| format!("DELETE FROM {}", t.sql())).collect();
    }
    vec![format!("TRUNCATE {}", x.tables.iter().map(Table::sql).collect::<Vec<_>>().join(", "))]
}

/// Compares what a table has with what it should have: a session, and from where.
async fn equal_numbers(table: &Table, is: (&Session, &str), should: (&Session, &str)) -> Result<()> {
    let is = is.0.row("count(*)", is.1).await.map_err(failed)?.number(0);
    let should = should.0.row("count(*)", should.1).await.map_err(failed)?.number(0);
    if is == should {
        return Ok(());
    }
    Err(Error::new(Kind::Mismatch, format!("{} are in the table instead of {should}", plural(is, "row")))
        .at(table.name.full()))
}

/// Sets a sequence so that a rollback takes it back: its restart gives it a new file, in this transaction.
async fn set_sequence(live: &Session, sequence: &TableName, value: &str, called: bool) -> SqlResult<()> {
    live.run(&format!("ALTER SEQUENCE {} RESTART", sequence.sql())).await?;
    live.row(&format!("setval({}::regclass, {}::bigint, {called})", literal(&sequence.sql()), literal(value)), "")
        .await
        .map(|_| ())
}

async fn no_orphans(live: &Session, keys: &[ForeignKey]) -> Result<()> {
    for key in keys {
        if let Some(values) = key.orphan(live).await.map_err(failed)? {
            return Err(Error::new(Kind::Refused, "rows would point at rows that are not there")
                .at(format!("foreign key {}", key.named()))
                .because(format!("({values}) is not there"))
                .hint("Restore that table with it (--table is repeatable), or beside the live one with --to."));
        }
    }
    Ok(())
}

/// Why rows cannot be put back.
pub fn not_kept() -> Error {
    Error::new(Kind::Restore, "the rows that were there were not kept, as --no-keep asked")
        .hint("If the restore is open, `backstay restore --resume` finishes it.")
}

/// Puts the old rows back, if the replacement was committed.
///
/// # Errors
/// [`Kind::Restore`]; nothing has changed then.
pub async fn put_back(server: &Server, x: &Replacement) -> Result<()> {
    let live = server.session(&x.live).await?;
    if !is_done(&live, x).await.map_err(failed)? {
        return Ok(());
    }
    if !x.keep {
        return Err(not_kept());
    }
    let keys = begin(server, &live, x).await?;
    let mut sql = emptying(x, &keys);
    for t in &x.tables {
        sql.push(format!(
            "INSERT INTO {} OVERRIDING SYSTEM VALUE SELECT {} FROM {}.{}",
            t.listed(),
            t.columns(),
            ident(&x.schema),
            ident(&t.kept)
        ));
    }
    live.run_all(&sql).await.map_err(failed)?;
    for t in &x.tables {
        // A rule may have made something else of it.
        let (is, should) = (format!("FROM {}", t.sql()), format!("FROM {}.{}", ident(&x.schema), ident(&t.kept)));
        equal_numbers(t, (&live, &is), (&live, &should)).await?;
    }
    let kept = format!("FROM {}.{}", ident(&x.schema), ident(SEQUENCES));
    let kept = live.rows("sequence, value::text, called", &kept).await.map_err(failed)?;
    for (_, s) in x.tables.iter().flat_map(|t| &t.sequences) {
        if let Some(row) = kept.iter().find(|r| r.text(0) == s.sql()) {
            set_sequence(&live, s, &row.text(1), row.truth(2)).await.map_err(failed)?;
        }
    }
    no_orphans(&live, &keys).await?;
    live.run_all(&[format!("DROP SCHEMA {} CASCADE", ident(&x.schema)), "COMMIT".to_owned()]).await.map_err(failed)
}
