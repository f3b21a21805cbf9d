//! What was true of a database, seen in the very snapshot that is dumped.

use super::attributes::Attributes;
use super::connect::ident;
use super::session::{Row, Session, SqlError};
use crate::error::Result;
use crate::model::size::plural;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Facts of one database. A restore is held against these.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DatabaseFacts {
    /// Name.
    pub database: String,
    /// `server_version_num`, like 150018.
    pub server_version: u32,
    /// Encoding, like `UTF8`.
    pub encoding: String,
    /// `LC_COLLATE`.
    pub collate: String,
    /// `LC_CTYPE`.
    pub ctype: String,
    /// Where its collations come from: `libc`, `icu` or `builtin`. Empty in backups before it was recorded.
    #[serde(default)]
    pub locale_provider: String,
    /// Locale of a provider that is not libc.
    #[serde(default)]
    pub locale: Option<String>,
    /// Rules of its own that ICU sorts by besides; from version 16 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icu_rules: Option<String>,
    /// Version of the collation that its indexes were built with.
    #[serde(default)]
    pub collation_version: Option<String>,
    /// Owner, grants, settings, comment.
    #[serde(flatten)]
    pub attributes: Attributes,
    /// Bytes on the server's disk, as `pg_database_size` says.
    pub size: u64,
    /// Bytes of that in tablespaces other than the database's own, by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tablespaces: BTreeMap<String, u64>,
    /// Tables that hold rows.
    pub tables: Vec<TableFacts>,
    /// Extensions with their versions.
    pub extensions: Vec<(String, String)>,
    /// Number of large objects.
    pub large_objects: u64,
    /// Sequences with their last values.
    pub sequences: Vec<(String, Option<i64>)>,
    /// Roles that own something in it. Only of dumps that others made, which may come without their roles.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub owners: BTreeSet<String>,
    /// Where the rows of big tables are in the archive; missing when `pg_dump` wrote all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<ArchiveFacts>,
}

impl DatabaseFacts {
    /// The facts of a database with the same definitions and without content.
    #[must_use]
    pub fn emptied(mut self) -> Self {
        for table in &mut self.tables {
            (table.rows, table.estimated) = (0, false);
        }
        self.sequences.iter_mut().for_each(|(_, value)| *value = None);
        self.large_objects = 0;
        self
    }
}

/// One table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableFacts {
    /// Schema.
    pub schema: String,
    /// Name.
    pub name: String,
    /// Rows.
    pub rows: u64,
    /// True when `rows` is the planner's estimate.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
    /// OID, by which the archive names it.
    #[serde(skip)]
    pub oid: u32,
    /// Bytes of its rows on disk.
    #[serde(skip)]
    pub size: u64,
    /// Of a partition by hash, or of a part of one: the schema and name of the whole table.
    #[serde(skip)]
    pub whole: Option<(String, String)>,
    /// Of such a whole: what it was put together from.
    #[serde(skip)]
    pub parts: Vec<TableFacts>,
}

impl TableFacts {
    /// Name with schema, for messages.
    pub fn full_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

/// The parts of an archive, so that its big tables can be loaded side by side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveFacts {
    /// Bytes of the head.
    pub head: u64,
    /// Where the blocks of big tables begin: behind all that `pg_dump` wrote.
    pub big: u64,
    /// Those blocks.
    pub blocks: Vec<BigTable>,
}

/// A block of rows that came over a session of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BigTable {
    /// Schema.
    pub schema: String,
    /// Name.
    pub name: String,
    /// Number of its entry in the table of contents.
    pub entry: i32,
    /// Where the block begins in the archive.
    pub offset: u64,
    /// Its length.
    pub length: u64,
    /// Its rows.
    pub rows: u64,
}

/// Tables that hold rows: those of extensions are the extensions' business, unlogged ones are dumped like others.
const TABLES: &str = "WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' \
     AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') \
     ORDER BY n.nspname, c.relname";

/// Table `c` and all that it is a partition or a child of, by OID, as `up`.
pub(super) const UP: &str = "WITH RECURSIVE up (oid) AS \
     (SELECT c.oid UNION SELECT i.inhparent FROM pg_inherits i JOIN up ON up.oid = i.inhrelid)";

/// Whether table `c` is a partition by hash, or a part of one, however deep. A value may have another hash in another
/// database, as that of an enum has, and its row belongs elsewhere there; `pg_dump` loads such rows through the root.
pub(super) fn below_hash() -> String {
    format!(
        "c.relispartition AND EXISTS ({UP} SELECT 1 FROM up JOIN pg_partitioned_table p ON p.partrelid = up.oid \
         WHERE p.partstrat = 'h')"
    )
}

/// Tables that were rewritten, truncated or dropped since the snapshot of this transaction was taken. Such a table
/// looks empty in the snapshot, to us and to `pg_dump`: `ALTER TABLE` and `TRUNCATE` do not keep old rows for others.
/// `pg_class` shows the file of the snapshot, the function that of now.
pub async fn rewritten(session: &Session) -> Result<Vec<String>> {
    let rows = session
        .rows(
            "format('%I.%I', n.nspname, c.relname)",
            "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind = 'r' AND c.relfilenode <> 0 AND c.relpersistence <> 't' AND n.nspname NOT LIKE 'pg\\_%' \
             AND n.nspname <> 'information_schema' AND pg_relation_filenode(c.oid) IS DISTINCT FROM c.relfilenode",
        )
        .await
        .map_err(|e| e.says("it cannot be told whether tables were rewritten during the dump"))?;
    Ok(rows.iter().map(|r| r.text(0)).collect())
}

/// Reads the facts in whatever transaction the session is in, but for the numbers of rows.
pub async fn read(session: &Session) -> Result<DatabaseFacts> {
    let failed = |e: SqlError| e.says("the facts of the database cannot be read");
    let version = server_version(session).await?;
    // The columns came with the versions: ICU with 15, its rules with 16, another name and the builtin one with 17.
    let locale = match version / 10_000 {
        ..15 => "'c', NULL, NULL, NULL",
        15 => "datlocprovider, daticulocale, datcollversion, NULL",
        16 => "datlocprovider, daticulocale, datcollversion, daticurules",
        _ => "datlocprovider, datlocale, datcollversion, daticurules",
    };
    let row = session
        .row(
            &format!("datname, pg_encoding_to_char(encoding), datcollate, datctype, pg_database_size(oid), {locale}"),
            "FROM pg_database WHERE datname = current_database()",
        )
        .await
        .map_err(failed)?;
    let database = row.text(0);
    let whole = if version >= 120_000 {
        "(SELECT r.relnamespace::regnamespace::name FROM pg_class r WHERE r.oid = w.root), \
         (SELECT r.relname FROM pg_class r WHERE r.oid = w.root)"
    } else {
        "NULL, NULL"
    };
    let by_hash = if version >= 120_000 {
        format!("LEFT JOIN LATERAL (SELECT pg_partition_root(c.oid) AS root WHERE {}) w ON true", below_hash())
    } else {
        String::new()
    };
    let tables = session
        .rows(
            &format!(
                "n.nspname, c.relname, c.oid::bigint, pg_table_size(c.oid), greatest(c.reltuples, 0)::bigint, {whole}"
            ),
            &format!("FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace {by_hash} {TABLES}"),
        )
        .await
        .map_err(failed)?;
    let table = |r: &Row| TableFacts {
        schema: r.text(0),
        name: r.text(1),
        rows: r.number(4),
        estimated: true,
        oid: r.number(2) as u32,
        size: r.number(3),
        whole: r.option(5).zip(r.option(6)),
        parts: Vec::new(),
    };
    let extensions = session.rows("extname, extversion", "FROM pg_extension ORDER BY extname").await.map_err(failed)?;
    let tablespaces = session
        .rows(
            "t.spcname, sum(pg_relation_size(c.oid))::bigint",
            "FROM pg_class c JOIN pg_tablespace t ON t.oid = c.reltablespace \
             WHERE c.relkind IN ('r', 'm', 'i', 't') AND t.spcname <> 'pg_global' GROUP BY t.spcname",
        )
        .await
        .map_err(failed)?;
    let sequences = session
        .rows(
            "format('%I.%I', schemaname, sequencename), last_value",
            "FROM pg_sequences ORDER BY schemaname, sequencename",
        )
        .await
        .map_err(failed)?;
    Ok(DatabaseFacts {
        server_version: version,
        encoding: row.text(1),
        collate: row.text(2),
        ctype: row.text(3),
        size: row.number(4),
        locale_provider: match row.text(5).as_str() {
            "i" => "icu",
            "b" => "builtin",
            _ => "libc",
        }
        .to_owned(),
        locale: row.option(6),
        collation_version: row.option(7),
        icu_rules: row.option(8),
        attributes: Attributes::read(session, &database).await.map_err(failed)?,
        tablespaces: tablespaces.iter().map(|r| (r.text(0), r.number(1))).collect(),
        tables: tables.iter().map(table).collect(),
        extensions: extensions.iter().map(|r| (r.text(0), r.text(1))).collect(),
        large_objects: session.row("count(*)", "FROM pg_largeobject_metadata").await.map_err(failed)?.number(0),
        sequences: sequences.iter().map(|r| (r.text(0), r.integer(1))).collect(),
        owners: BTreeSet::new(),
        archive: None,
        database,
    })
}

/// `server_version_num`.
pub async fn server_version(session: &Session) -> Result<u32> {
    let row = session.row("current_setting('server_version_num')::int", "").await;
    Ok(row.map_err(|e| e.says("the server does not tell its version"))?.number(0) as u32)
}

/// Counts the rows of tables of which only an estimate is known, those up to so many bytes.
///
/// # Errors
/// When a table cannot be read.
pub async fn count(session: &Session, tables: &mut [TableFacts], up_to: u64) -> Result<()> {
    // Row security would hide rows without a word; a role under it must not count at all.
    session.run("SET row_security = off").await.map_err(|e| e.says("row security cannot be turned off"))?;
    for table in tables.iter_mut().filter(|t| t.estimated && t.size <= up_to) {
        let from = format!("FROM ONLY {}.{}", ident(&table.schema), ident(&table.name));
        let row = session.row("count(*)", &from).await.map_err(|e| {
            e.says("the rows of a table cannot be counted")
                .at(table.full_name())
                .hint("The role must be able to read every table, past row security too.")
        })?;
        (table.rows, table.estimated) = (row.number(0), false);
    }
    Ok(())
}

/// Puts in the numbers of rows that are known from the copies themselves, by OID.
pub fn know_rows(tables: &mut [TableFacts], rows: &BTreeMap<u32, u64>) {
    for table in tables {
        if let Some(rows) = rows.get(&table.oid) {
            (table.rows, table.estimated) = (*rows, false);
        }
    }
}

/// Takes partitions by hash together: where the hash of a value differs, as that of an enum does between two databases,
/// `pg_restore` puts a row into another partition, and is right.
pub fn join_hash_partitions(tables: &mut Vec<TableFacts>) {
    let mut whole: BTreeMap<(String, String), TableFacts> = BTreeMap::new();
    tables.retain(|table| {
        let Some(name) = &table.whole else { return true };
        let sum = whole.entry(name.clone()).or_insert_with(|| TableFacts {
            schema: name.0.clone(),
            name: name.1.clone(),
            rows: 0,
            estimated: false,
            whole: None,
            parts: Vec::new(),
            ..*table
        });
        sum.rows += table.rows;
        sum.estimated |= table.estimated;
        sum.parts.push(table.clone());
        false
    });
    tables.extend(whole.into_values());
}

/// One line of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What: `table public.orders`.
    pub what: String,
    /// In the backup.
    pub expected: String,
    /// Found.
    pub found: String,
    /// Whether that is as it should be.
    pub good: bool,
}

/// Holds what was restored against the facts of the backup.
pub fn compare(expected: &DatabaseFacts, found: &DatabaseFacts) -> Vec<Line> {
    let mut out = Vec::new();
    let mut line = |what: String, expected: String, found: String, good: bool| {
        out.push(Line { what, expected, found, good });
    };
    let missing = || "missing".to_owned();
    let rows = |t: &TableFacts| format!("{}{}", if t.estimated { "about " } else { "" }, plural(t.rows, "row"));
    // Older backups counted some partitions by themselves that are taken together now: those are no part of the whole then.
    let alone: BTreeSet<_> = expected.tables.iter().map(|t| (&t.schema, &t.name)).collect();
    let without_those = |t: &TableFacts| {
        let apart: u64 = t.parts.iter().filter(|p| alone.contains(&(&p.schema, &p.name))).map(|p| p.rows).sum();
        TableFacts { rows: t.rows.saturating_sub(apart), ..t.clone() }
    };
    let all = found.tables.iter().flat_map(|t| std::iter::once(t).chain(&t.parts));
    let there: BTreeMap<_, _> = all.map(|t| ((&t.schema, &t.name), t)).collect();
    for table in &expected.tables {
        let what = format!("table {}", table.full_name());
        match there.get(&(&table.schema, &table.name)) {
            None => line(what, rows(table), missing(), false),
            Some(t) => {
                let is = without_those(t);
                line(what, rows(table), rows(&is), table.estimated || is.estimated || is.rows == table.rows);
            }
        }
    }
    let objects = (expected.large_objects, found.large_objects);
    if objects != (0, 0) {
        line("large objects".into(), objects.0.to_string(), objects.1.to_string(), objects.0 == objects.1);
    }
    let value = |v: &Option<i64>| v.map_or_else(|| "unused".to_owned(), |v| v.to_string());
    let sequences: BTreeMap<_, _> = found.sequences.iter().map(|(name, v)| (name, v)).collect();
    for (name, wanted) in &expected.sequences {
        let is = sequences.get(name);
        let found = is.map_or_else(missing, |v| value(v));
        line(format!("sequence {name}"), value(wanted), found, is == Some(&wanted));
    }
    let extensions: BTreeMap<_, _> = found.extensions.iter().map(|(name, version)| (name, version)).collect();
    for (name, version) in &expected.extensions {
        // A newer version may be all that the server has; that it is there counts.
        let is = extensions.get(name);
        line(format!("extension {name}"), version.clone(), is.map_or_else(missing, |v| (*v).clone()), is.is_some());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_backup_may_have_counted_by_themselves_what_is_taken_together_now() {
        let part = |name: &str, rows: u64| TableFacts {
            schema: "public".into(),
            name: name.into(),
            rows,
            estimated: false,
            oid: 0,
            size: 0,
            whole: Some(("public".into(), "t".into())),
            parts: Vec::new(),
        };
        let facts = |tables: &[TableFacts]| -> DatabaseFacts {
            let mut facts: DatabaseFacts = serde_json::from_value(serde_json::json!({
                "database": "erp", "server_version": 150_018, "encoding": "UTF8", "collate": "C", "ctype": "C",
                "size": 0, "tables": [], "extensions": [], "large_objects": 0, "sequences": [],
            }))
            .unwrap();
            facts.tables = tables.to_vec();
            facts
        };
        let mut tables = vec![part("t_low", 2), part("t_high", 3)];
        let older = facts(&tables);
        join_hash_partitions(&mut tables);
        assert_eq!(tables.iter().map(|t| (t.full_name(), t.rows)).collect::<Vec<_>>(), [("public.t".to_owned(), 5)]);
        let found = facts(&tables);
        let good = |expected: &DatabaseFacts| compare(expected, &found).iter().all(|line| line.good);
        assert!(good(&found) && good(&older));
        // Of parts that are not equally deep some were added up, and others not.
        let root = |rows: u64| TableFacts { whole: None, ..part("t", rows) };
        assert!(good(&facts(&[root(2), part("t_high", 3)])) && good(&facts(&[part("t_low", 2), root(3)])));
        assert!(!good(&facts(&[root(5), part("t_high", 3)])) && !good(&facts(&[root(2), part("t_high", 4)])));
        assert!(!good(&facts(&[part("t_low", 9)])) && !good(&facts(&[part("t_lower", 2)])));
    }
}
