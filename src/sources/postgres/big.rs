//! Which tables are dumped over sessions of their own: the big ones, as long as nothing about them is odd. What is
//! odd stays with `pg_dump`.

use super::facts::DatabaseFacts;
use super::session::Session;
use crate::error::Result;

/// Most tables that leave the main archive; each is an argument of `pg_dump`.
const MOST: usize = 256;

/// A table that is dumped beside the others.
#[derive(Clone, Debug)]
pub struct Big {
    /// OID.
    pub oid: u32,
    /// Schema.
    pub schema: String,
    /// Name.
    pub name: String,
    /// Quoted, with schema. Also the pattern by which `pg_dump` knows it: in quotes only quotes are special.
    pub sql: String,
    /// Its columns in parentheses, quoted, without generated ones, as `pg_dump` lists them.
    pub columns: String,
}

/// Picks tables above `threshold` bytes, the biggest first.
///
/// # Errors
/// When the catalog cannot be read.
pub async fn choose(session: &Session, facts: &DatabaseFacts, threshold: u64) -> Result<Vec<Big>> {
    let mut big: Vec<_> = facts.tables.iter().filter(|t| t.size > threshold).collect();
    big.sort_by_key(|t| std::cmp::Reverse(t.size));
    big.truncate(MOST);
    if big.is_empty() {
        return Ok(Vec::new());
    }
    let oids = big.iter().map(|t| t.oid.to_string()).collect::<Vec<_>>().join(",");
    let (schema, table, column) = (quote("n.nspname"), quote("c.relname"), quote("a.attname"));
    let generated = if facts.server_version >= 120_000 { "a.attgenerated = ''" } else { "true" };
    // A partition by hash may belong elsewhere on another machine, so pg_dump loads some of them through the root.
    let rows = session
        .rows(
            &format!(
                "c.oid::bigint, n.nspname, c.relname, {schema} || '.' || {table}, \
                 (SELECT string_agg({column}, ', ' ORDER BY a.attnum) FROM pg_attribute a \
                  WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND {generated})"
            ),
            &format!(
                "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid IN ({oids}) AND NOT EXISTS \
                 (SELECT 1 FROM pg_inherits i JOIN pg_partitioned_table p ON p.partrelid = i.inhparent \
                  WHERE i.inhrelid = c.oid AND p.partstrat = 'h')"
            ),
        )
        .await
        .map_err(|e| e.says("the columns of big tables cannot be read"))?;
    let utf8 = facts.encoding == "UTF8";
    let found: Vec<Big> = rows
        .iter()
        .filter_map(|r| {
            let columns = r.option(4)?;
            let big = Big {
                oid: r.number(0) as u32,
                schema: r.text(1),
                name: r.text(2),
                sql: r.text(3),
                columns: format!("({columns})"),
            };
            let plain = |text: &str| (utf8 || text.is_ascii()) && !text.chars().any(char::is_control);
            (plain(&big.sql) && plain(&big.columns)).then_some(big)
        })
        .collect();
    // In the order of size again.
    Ok(big.iter().filter_map(|t| found.iter().find(|b| b.oid == t.oid).cloned()).collect())
}

/// SQL that quotes a name whether it needs it or not.
fn quote(name: &str) -> String {
    format!("'\"' || replace({name}, '\"', '\"\"') || '\"'")
}
