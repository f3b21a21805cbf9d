//! What was true of a database, seen in the very snapshot that is dumped.

use super::connect::ident;
use crate::error::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

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
    /// Role that owns the database.
    pub owner: String,
    /// Bytes on the server's disk, as `pg_database_size` says.
    pub size: u64,
    /// Tables that hold rows.
    pub tables: Vec<TableFacts>,
    /// Extensions with their versions.
    pub extensions: Vec<(String, String)>,
    /// Number of large objects.
    pub large_objects: u64,
    /// Sequences with their last values.
    pub sequences: Vec<(String, Option<i64>)>,
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
}

/// An error of the server, with its code and detail.
pub fn sql_error(what: &str) -> impl Fn(tokio_postgres::Error) -> Error {
    let what = what.to_owned();
    move |e| {
        let text = match e.as_db_error() {
            Some(db) => format!("{} {}: {}", db.severity(), db.code().code(), db.message()),
            None => std::error::Error::source(&e).map_or_else(|| e.to_string(), ToString::to_string),
        };
        Error::new(Kind::Source, what.clone()).because(text)
    }
}

/// Tables that hold rows: those of extensions are the extensions' business, unlogged ones are dumped like others.
const TABLES: &str = "SELECT n.nspname::text, c.relname::text, pg_table_size(c.oid)::bigint, greatest(c.reltuples, 0)::bigint \
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema' \
     AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e') ORDER BY 1, 2";

/// Tables that were rewritten, truncated or dropped since the snapshot of this transaction was taken. Such a table
/// looks empty in the snapshot, to us and to `pg_dump`: `ALTER TABLE` and `TRUNCATE` do not keep old rows for others.
/// `pg_class` shows the file of the snapshot, the function that of now.
pub async fn rewritten(client: &Client) -> Result<Vec<String>> {
    let rows = client
        .query(
            "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relkind = 'r' AND c.relfilenode <> 0 AND c.relpersistence <> 't' AND n.nspname NOT LIKE 'pg\\_%' \
             AND n.nspname <> 'information_schema' AND pg_relation_filenode(c.oid) IS DISTINCT FROM c.relfilenode",
            &[],
        )
        .await
        .map_err(sql_error("it cannot be told whether tables were rewritten during the dump"))?;
    Ok(rows.iter().map(|r| r.get(0)).collect())
}

/// Reads the facts on a connection, in whatever transaction it is in. Tables above `count_up_to` bytes are
/// estimated.
pub async fn read(client: &Client, count_up_to: u64) -> Result<DatabaseFacts> {
    let failed = sql_error("the facts of the database cannot be read");
    // Row security would hide rows without a word; a role under it must not count at all.
    client.batch_execute("SET row_security = off").await.map_err(&failed)?;
    let row = client
        .query_one(
            "SELECT current_database()::text, current_setting('server_version_num')::int, pg_encoding_to_char(encoding)::text, datcollate::text, \
             datctype::text, pg_get_userbyid(datdba)::text, pg_database_size(oid)::bigint FROM pg_database WHERE datname = current_database()",
            &[],
        )
        .await
        .map_err(&failed)?;
    let mut facts = DatabaseFacts {
        database: row.get(0),
        server_version: row.get::<_, i32>(1).unsigned_abs(),
        encoding: row.get(2),
        collate: row.get(3),
        ctype: row.get(4),
        owner: row.get(5),
        size: row.get::<_, i64>(6).unsigned_abs(),
        tables: Vec::new(),
        extensions: Vec::new(),
        large_objects: 0,
        sequences: Vec::new(),
    };
    let tables = client.query(TABLES, &[]).await.map_err(&failed)?;
    for table in tables {
        let (schema, name, size): (String, String, i64) = (table.get(0), table.get(1), table.get(2));
        let estimated = size.unsigned_abs() > count_up_to;
        let rows = if estimated {
            table.get::<_, i64>(3)
        } else {
            let count = format!("SELECT count(*) FROM ONLY {}.{}", ident(&schema), ident(&name));
            client
                .query_one(&count, &[])
                .await
                .map_err(|e| {
                    failed(e)
                        .at(format!("{schema}.{name}"))
                        .hint("The role must be able to read every table, past row security too.")
                })?
                .get(0)
        };
        facts.tables.push(TableFacts { schema, name, rows: rows.unsigned_abs(), estimated });
    }
    let rows = client
        .query("SELECT extname::text, extversion::text FROM pg_extension ORDER BY 1", &[])
        .await
        .map_err(&failed)?;
    facts.extensions = rows.iter().map(|r| (r.get(0), r.get(1))).collect();
    let count: i64 =
        client.query_one("SELECT count(*) FROM pg_largeobject_metadata", &[]).await.map_err(&failed)?.get(0);
    facts.large_objects = count.unsigned_abs();
    let rows = client
        .query("SELECT format('%I.%I', schemaname, sequencename), last_value FROM pg_sequences ORDER BY 1", &[])
        .await
        .map_err(&failed)?;
    facts.sequences = rows.iter().map(|r| (r.get(0), r.get(1))).collect();
    Ok(facts)
}

/// What differs between the facts of a backup and those of what was restored from it; empty when all agrees.
pub fn differences(expected: &DatabaseFacts, found: &DatabaseFacts) -> Vec<String> {
    let mut out = Vec::new();
    let key = |t: &TableFacts| (t.schema.clone(), t.name.clone());
    let rows: std::collections::BTreeMap<_, _> = found.tables.iter().map(|t| (key(t), t)).collect();
    for table in &expected.tables {
        match rows.get(&key(table)) {
            None => out.push(format!("table {}.{} is missing", table.schema, table.name)),
            Some(there) if !table.estimated && !there.estimated && there.rows != table.rows => {
                out.push(format!(
                    "table {}.{} has {} rows instead of {}",
                    table.schema, table.name, there.rows, table.rows
                ));
            }
            Some(_) => {}
        }
    }
    if expected.large_objects != found.large_objects {
        out.push(format!("{} large objects instead of {}", found.large_objects, expected.large_objects));
    }
    let sequences: std::collections::BTreeMap<_, _> = found.sequences.iter().cloned().collect();
    for (name, value) in &expected.sequences {
        if sequences.get(name) != Some(value) {
            out.push(format!(
                "sequence {name} stands at {:?} instead of {value:?}",
                sequences.get(name).copied().flatten()
            ));
        }
    }
    let extensions: std::collections::BTreeSet<_> = found.extensions.iter().map(|e| &e.0).collect();
    out.extend(
        expected
            .extensions
            .iter()
            .filter(|e| !extensions.contains(&e.0))
            .map(|e| format!("extension {} is missing", e.0)),
    );
    out
}
