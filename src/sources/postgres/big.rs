//! Which tables are dumped over sessions of their own: the big ones, as long as nothing about them is odd. What is
//! odd stays with `pg_dump`.

use super::facts::{DatabaseFacts, UP, below_hash};
use super::session::{Row, Session, SqlError, SqlResult};
use crate::error::Result;
use serde_json::Value;
use std::collections::HashSet;

/// Most tables that leave the main archive; each is an argument of `pg_dump`.
const MOST: usize = 256;

/// The first OID of what is not PostgreSQL's own.
const FIRST_OWN: u32 = 16384;

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
    let failed = |e: SqlError| e.says("the columns of big tables cannot be read");
    let called = Called::read(session, facts.server_version).await.map_err(failed)?;
    let rows = session
        .rows(
            &format!(
                "c.oid::bigint, n.nspname, c.relname, {schema} || '.' || {table}, \
                 (SELECT string_agg({column}, ', ' ORDER BY a.attnum) FROM pg_attribute a \
                  WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND {generated}), \
                 ({UP} SELECT json_agg(u.relname) FROM up JOIN pg_class u ON u.oid = up.oid)"
            ),
            &format!(
                "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid IN ({oids}) AND NOT ({})",
                below_hash()
            ),
        )
        .await
        .map_err(failed)?;
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
            let odd = called.by.contains(&r.number(0)) || called.name_one_of(&r.value(5));
            (plain(&big.sql) && plain(&big.columns) && !odd).then_some(big)
        })
        .collect();
    // In the order of size again.
    Ok(big.iter().filter_map(|t| found.iter().find(|b| b.oid == t.oid).cloned()).collect())
}

/// Types that hold a domain, however deep, and the domain itself: over another domain, in an array, a range, a row.
const HOLDS: &str = "WITH RECURSIVE parts (typ, part) AS (\
     SELECT y.oid, y.typbasetype FROM pg_type y WHERE y.typtype = 'd' \
     UNION ALL SELECT y.oid, y.typelem FROM pg_type y WHERE y.typelem <> 0 \
     UNION ALL SELECT g.rngtypid, g.rngsubtype FROM pg_range g \
     UNION ALL SELECT y.oid, a.atttypid FROM pg_type y JOIN pg_attribute a ON a.attrelid = y.typrelid \
     WHERE y.typtype = 'c' AND a.attnum > 0 AND NOT a.attisdropped), \
     holds (typ, domain) AS (SELECT y.oid, y.oid FROM pg_type y WHERE y.typtype = 'd' \
     UNION SELECT p.typ, h.domain FROM holds h JOIN parts p ON p.part = h.typ)";

/// The database's own functions that a row calls on its way in, by a CHECK, by the domains that its columns hold, or by
/// a generated column. Such a function may look into another table all the same, and rows that come beside those of that
/// table would be refused, or get another value. Those in C come with extensions, and look at their arguments.
struct Called {
    /// The tables whose rows call one, by OID.
    by: HashSet<u64>,
    /// What they say, and what the functions and views say that they use, in lower case.
    bodies: Vec<String>,
}

impl Called {
    async fn read(session: &Session, version: u32) -> SqlResult<Self> {
        // One that the standard's syntax defines has no text but this.
        let body = if version >= 140_000 { "coalesce(pg_get_function_sqlbody(f.oid), f.prosrc)" } else { "f.prosrc" };
        let generated = if version >= 120_000 { "a.attgenerated = 's'" } else { "false" };
        let of = |class: &str, object: &str| {
            format!(
                "JOIN pg_depend d ON d.classid = '{class}'::regclass AND d.objid = {object} \
                 AND d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass)"
            )
        };
        let (of_check, of_value) = (of("pg_constraint", "k.oid"), of("pg_attrdef", "g.oid"));
        // Up to version 14 what a generated column needs is said of the column itself.
        let from = format!(
            "FROM ({HOLDS} SELECT k.conrelid, d.refclassid, d.refobjid FROM pg_constraint k {of_check} \
              WHERE k.contype = 'c' AND k.conrelid <> 0 \
              UNION SELECT a.attrelid, d.refclassid, d.refobjid FROM pg_constraint k {of_check} \
              JOIN holds h ON h.domain = k.contypid JOIN pg_attribute a ON a.atttypid = h.typ WHERE k.contypid <> 0 \
              UNION SELECT a.attrelid, d.refclassid, d.refobjid FROM pg_attrdef g {of_value} \
              JOIN pg_attribute a ON a.attrelid = g.adrelid AND a.attnum = g.adnum AND {generated} \
              UNION SELECT d.objid, d.refclassid, d.refobjid FROM pg_depend d \
              WHERE d.classid = 'pg_class'::regclass AND d.objsubid > 0) u (rel, class, object) \
             LEFT JOIN pg_operator o ON u.class = 'pg_operator'::regclass AND o.oid = u.object \
             JOIN pg_proc f ON f.oid = CASE u.class WHEN 'pg_proc'::regclass THEN u.object ELSE o.oprcode::oid END \
             JOIN pg_language l ON l.oid = f.prolang AND l.lanname NOT IN ('internal', 'c') \
             WHERE f.oid >= {FIRST_OWN} GROUP BY f.oid, f.prosrc"
        );
        let rows = session.rows(&format!("{body}, json_agg(u.rel::bigint)"), &from).await?;
        let by = rows.iter().flat_map(|r| r.value(1).as_array().cloned().unwrap_or_default());
        let by = by.filter_map(|oid| oid.as_u64()).collect();
        let mut bodies: Vec<String> = rows.iter().map(|r| r.text(0).to_lowercase()).collect();
        if !bodies.is_empty() {
            let others = session.rows("t.name, t.body", &texts(body)).await?;
            let lower = |r: &Row| (r.text(0).to_lowercase(), r.text(1).to_lowercase());
            extend(&mut bodies, others.iter().map(lower).collect());
        }
        Ok(Called { by, bodies })
    }

    /// Whether one of them speaks of a table of one of these names.
    fn name_one_of(&self, names: &Value) -> bool {
        let mut names = names.as_array().into_iter().flatten().filter_map(Value::as_str);
        names.any(|name| self.bodies.iter().any(|body| speaks_of(body, &name.to_lowercase())))
    }
}

/// All functions and views of the database's own that say something, by their names. Of a view only what it uses: its
/// text is not to be had without locks.
fn texts(body: &str) -> String {
    format!(
        "FROM (SELECT f.proname::text, {body} FROM pg_proc f \
          JOIN pg_language l ON l.oid = f.prolang AND l.lanname NOT IN ('internal', 'c') WHERE f.oid >= {FIRST_OWN} \
          UNION ALL SELECT v.relname::text, string_agg(coalesce(c.relname, f.proname)::text, ' ') FROM pg_class v \
          JOIN pg_rewrite w ON w.ev_class = v.oid \
          JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid \
          LEFT JOIN pg_class c ON d.refclassid = 'pg_class'::regclass AND c.oid = d.refobjid AND c.oid <> v.oid \
          LEFT JOIN pg_proc f ON d.refclassid = 'pg_proc'::regclass AND f.oid = d.refobjid \
          WHERE v.relkind IN ('v', 'm') AND v.oid >= {FIRST_OWN} GROUP BY v.oid, v.relname) t (name, body)"
    )
}

/// Adds to what is said that of all others that it speaks of, until nothing more comes.
fn extend(bodies: &mut Vec<String>, mut others: Vec<(String, String)>) {
    let mut read = 0;
    while let Some(body) = bodies.get(read) {
        let (spoken, rest): (Vec<_>, Vec<_>) = others.into_iter().partition(|(name, _)| speaks_of(body, name));
        others = rest;
        bodies.extend(spoken.into_iter().map(|(_, body)| body));
        read += 1;
    }
}

/// Whether a text has a name in it, not as a part of a longer one.
fn speaks_of(text: &str, name: &str) -> bool {
    let goes_on = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(name)
        .any(|(at, _)| !text[..at].ends_with(goes_on) && !text[at + name.len()..].starts_with(goes_on))
}

/// SQL that quotes a name whether it needs it or not.
fn quote(name: &str) -> String {
    format!("'\"' || replace({name}, '\"', '\"\"') || '\"'")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_called_function_calls_or_looks_at_is_read_too() {
        let text = |name: &str, body: &str| (name.to_owned(), body.to_owned());
        let mut bodies = vec!["select is_seen($1)".to_owned()];
        let others = [
            text("seen", "codes is_seen"),
            text("secret", "secrets"),
            text("is_seen", "select $1 in (select code from seen)"),
        ];
        extend(&mut bodies, others.to_vec());
        let called = Called { by: HashSet::new(), bodies };
        assert!(called.name_one_of(&serde_json::json!(["codes"])));
        assert!(!called.name_one_of(&serde_json::json!(["secrets"])));
    }

    #[test]
    fn a_function_speaks_of_a_table_by_its_whole_name() {
        let body = "select name from public.codes where code = $1";
        for (name, speaks) in
            [("codes", true), ("code", true), ("odes", false), ("nam", false), ("$1", true), ("x", false)]
        {
            assert_eq!(speaks_of(body, name), speaks, "{name}");
        }
        let called = Called { by: HashSet::new(), bodies: vec![body.to_owned()] };
        assert!(called.name_one_of(&serde_json::json!(["codes_2026", "Codes"])));
        assert!(!called.name_one_of(&serde_json::json!(["codes_2026"])));
    }
}
