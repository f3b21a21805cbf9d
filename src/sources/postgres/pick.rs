//! Some tables out of an archive: what of its table of contents belongs to them.
//!
//! Definitions are loaded whole, since a table may need any type or function of its database. Of the rest only what
//! speaks of the tables and of nothing else: a foreign key to a table that is not loaded is left out. Policies,
//! triggers and rules are left out too; they are for those who use a table, and nobody uses the staged one.

use super::archive::entry::{Entry, Section};
use super::archive::head::Head;
use super::connect::{ident, literal};
use super::session::{Session, SqlResult};
use crate::error::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap, HashSet};

/// What of a table is built behind its rows.
const BEHIND: &[&str] = &["INDEX", "CONSTRAINT", "CHECK CONSTRAINT", "FK CONSTRAINT", "INDEX ATTACH", "STATISTICS"];
/// Large objects, which no table owns.
const LARGE_OBJECTS: &[&str] = &["BLOB", "BLOB METADATA", "BLOBS"];

/// A table by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TableName {
    /// Schema.
    pub schema: String,
    /// Name.
    pub name: String,
}

impl TableName {
    /// For messages.
    pub fn full(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// In a statement.
    pub fn sql(&self) -> String {
        format!("{}.{}", ident(&self.schema), ident(&self.name))
    }
}

/// Which tables are loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Only {
    /// Those that were named; their partitions go with them.
    pub tables: Vec<TableName>,
    /// With indexes and constraints.
    pub indexes: bool,
}

fn text(bytes: Option<&Vec<u8>>) -> Option<&str> {
    std::str::from_utf8(bytes?).ok()
}

/// Tables of an archive, in its order.
fn tables(head: &Head) -> impl Iterator<Item = TableName> {
    head.entries.iter().filter(|e| e.is("TABLE")).filter_map(|e| {
        Some(TableName { schema: text(e.namespace.as_ref())?.to_owned(), name: text(e.tag.as_ref())?.to_owned() })
    })
}

/// Finds tables by what somebody typed, `NAME` or `SCHEMA.NAME`, or all of a schema.
///
/// # Errors
/// [`Kind::NotFound`] for one that the archive does not have, [`Kind::Usage`] for one that several schemas have.
pub fn find(head: &Head, asked: &[String], schema: Option<&str>) -> Result<Vec<TableName>> {
    let all: Vec<TableName> = tables(head).collect();
    let mut found: Vec<TableName> = Vec::new();
    if let Some(schema) = schema {
        found.extend(all.iter().filter(|t| t.schema == schema).cloned());
        if found.is_empty() {
            let schemas: BTreeSet<&str> = all.iter().map(|t| t.schema.as_str()).collect();
            return Err(Error::new(Kind::NotFound, format!("the backup has no tables in a schema {schema}"))
                .hint(format!("There are: {}.", schemas.into_iter().collect::<Vec<_>>().join(", "))));
        }
    }
    for name in asked {
        let fits: Vec<&TableName> = all.iter().filter(|t| t.name == *name || t.full() == *name).collect();
        match fits[..] {
            [one] => found.push(one.clone()),
            [] => {
                return Err(Error::new(Kind::NotFound, format!("the backup has no table {name}")).hint(
                    "Names are written as they are, without quotes: NAME or SCHEMA.NAME. `backstay show --json` lists tables.",
                ));
            }
            _ => {
                let names: Vec<String> = fits.iter().map(|t| t.full()).collect();
                return Err(Error::new(Kind::Usage, format!("{name} names several tables"))
                    .hint(format!("Give one with its schema: {}.", names.join(", "))));
            }
        }
    }
    let mut seen = HashSet::new();
    found.retain(|t| seen.insert(t.clone()));
    Ok(found)
}

/// Two tables of one name, in two schemas.
pub fn of_one_name(tables: &[TableName]) -> Option<(&TableName, &TableName)> {
    tables.iter().enumerate().find_map(|(n, one)| Some((one, tables[n + 1..].iter().find(|t| t.name == one.name)?)))
}

/// True when the archive makes this schema.
pub fn has_schema(head: &Head, name: &str) -> bool {
    head.entries.iter().any(|e| e.is("SCHEMA") && text(e.tag.as_ref()) == Some(name))
}

/// A common table expression `members` with the OIDs of tables and of all their partitions.
pub fn members_sql(tables: &[TableName]) -> String {
    let names: Vec<String> = tables.iter().map(|t| format!("({}, {})", literal(&t.schema), literal(&t.name))).collect();
    format!(
        "members AS (SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'p') AND (n.nspname, c.relname) IN ({}) \
         UNION SELECT i.inhrelid FROM members m JOIN pg_class p ON p.oid = m.oid AND p.relkind = 'p' \
         JOIN pg_inherits i ON i.inhparent = m.oid)",
        names.join(", ")
    )
}

/// The tables with all their partitions, those that there are.
///
/// # Errors
/// The server's refusal.
pub async fn members(session: &Session, tables: &[TableName]) -> SqlResult<Vec<TableName>> {
    let rows = session
        .rows(
            "n.nspname, c.relname",
            &format!(
                "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid IN \
                 (WITH RECURSIVE {} SELECT oid FROM members) ORDER BY n.nspname, c.relname",
                members_sql(tables)
            ),
        )
        .await?;
    Ok(rows.iter().map(|r| TableName { schema: r.text(0), name: r.text(1) }).collect())
}

/// The head without large objects, for the definitions.
pub fn without_large_objects(head: &Head) -> Head {
    keep(head, |e| !LARGE_OBJECTS.iter().any(|desc| e.is(desc)))
}

/// The head without what holds content: large objects, and the filling of materialized views.
pub fn without_content(head: &Head) -> Head {
    keep(head, |e| !e.is("MATERIALIZED VIEW DATA") && !LARGE_OBJECTS.iter().any(|desc| e.is(desc)))
}

/// The head with the rows, and the indexes and constraints, of these tables only.
pub fn narrow(head: &Head, members: &[TableName], indexes: bool) -> Head {
    let wanted: HashSet<(&[u8], &[u8])> = members.iter().map(|t| (t.schema.as_bytes(), t.name.as_bytes())).collect();
    let is_wanted = |e: &Entry| match (&e.namespace, &e.tag) {
        (Some(schema), Some(name)) => wanted.contains(&(schema.as_slice(), name.as_slice())),
        _ => false,
    };
    let by_id: HashMap<i32, &Entry> = head.entries.iter().map(|e| (e.dump_id, e)).collect();
    keep(head, |e| match e.section() {
        Section::PreData => !LARGE_OBJECTS.iter().any(|desc| e.is(desc)),
        Section::Data => e.is("SEQUENCE SET") || (e.is("TABLE DATA") && is_wanted(e)),
        Section::PostData => {
            let of = tables_of(e, &by_id);
            indexes && BEHIND.iter().any(|desc| e.is(desc)) && !of.is_empty() && of.iter().all(|t| is_wanted(t))
        }
        Section::None => true,
    })
}

/// The tables that an index or a constraint speaks of, also by way of another index.
fn tables_of<'a>(entry: &Entry, by_id: &HashMap<i32, &'a Entry>) -> Vec<&'a Entry> {
    let mut found = Vec::new();
    let mut todo = entry.depends.clone();
    let mut seen = HashSet::new();
    while let Some(id) = todo.pop() {
        let Some(e) = by_id.get(&id).filter(|_| seen.insert(id)) else { continue };
        if e.is("TABLE") {
            found.push(*e);
        } else if e.section() == Section::PostData {
            todo.extend(&e.depends);
        }
    }
    found
}

/// The head with the entries for which something is true, and with what goes with those (comments, grants).
pub fn keep(head: &Head, mut wanted: impl FnMut(&Entry) -> bool) -> Head {
    let mut out: HashSet<i32> =
        head.entries.iter().filter(|e| e.section() != Section::None && !wanted(e)).map(|e| e.dump_id).collect();
    // They come behind what they belong to.
    for e in head.entries.iter().filter(|e| e.section() == Section::None) {
        if e.depends.iter().any(|id| out.contains(id)) || !wanted(e) {
            out.insert(e.dump_id);
        }
    }
    head.without(&out)
}
