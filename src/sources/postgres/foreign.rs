//! Foreign keys to and from tables whose rows are replaced: who would be left without what he points at.

use super::connect::ident;
use super::pick::{TableName, members_sql};
use super::session::{Row, Session, SqlResult};

/// A foreign key, as it was declared: with those of partitions it is one.
#[derive(Clone, Debug)]
pub struct ForeignKey {
    /// Its name.
    pub name: String,
    /// The table that points.
    pub from: TableName,
    /// The table that is pointed at.
    pub to: TableName,
    /// True when it points from outside at one of the tables.
    pub incoming: bool,
    /// True when it points at a table outside.
    pub outgoing: bool,
    /// Pairs: column, operator, column that it points at.
    columns: Vec<(String, String, String)>,
    /// `MATCH FULL`.
    full: bool,
    /// Whether the two are partitioned.
    whole: (bool, bool),
}

/// The foreign keys that have one of the tables on either side, and that the server holds to.
///
/// # Errors
/// The server's refusal.
pub async fn touching(session: &Session, tables: &[TableName]) -> SqlResult<Vec<ForeignKey>> {
    let names = |relation: &str, numbers: &str| {
        format!(
            "(SELECT json_agg(a.attname ORDER BY u.n) FROM unnest(k.{numbers}) WITH ORDINALITY u(num, n) \
             JOIN pg_attribute a ON a.attrelid = k.{relation} AND a.attnum = u.num)"
        )
    };
    let operators = "(SELECT json_agg(format('OPERATOR(%I.%s)', o.oprnamespace::regnamespace::name, o.oprname) ORDER BY u.n) \
                     FROM unnest(k.conpfeqop) WITH ORDINALITY u(num, n) JOIN pg_operator o ON o.oid = u.num)";
    let columns = format!(
        "k.conname, fn.nspname, f.relname, pn.nspname, p.relname, q.incoming, q.outgoing, {}, {operators}, {}, \
         k.confmatchtype = 'f', f.relkind = 'p', p.relkind = 'p'",
        names("conrelid", "conkey"),
        names("confrelid", "confkey")
    );
    // A partition has a copy of its own of each; only the topmost speaks of all rows.
    let rest = format!(
        "FROM (WITH RECURSIVE {}, climb AS (SELECT c.oid, c.conparentid, \
           c.confrelid IN (SELECT oid FROM members) AND c.conrelid NOT IN (SELECT oid FROM members) AS incoming, \
           c.conrelid IN (SELECT oid FROM members) AND c.confrelid NOT IN (SELECT oid FROM members) AS outgoing \
           FROM pg_constraint c WHERE c.contype = 'f' AND c.convalidated AND \
             (c.conrelid IN (SELECT oid FROM members) OR c.confrelid IN (SELECT oid FROM members)) \
           UNION ALL SELECT p.oid, p.conparentid, climb.incoming, climb.outgoing \
           FROM climb JOIN pg_constraint p ON p.oid = climb.conparentid) \
         SELECT oid, bool_or(incoming) AS incoming, bool_or(outgoing) AS outgoing FROM climb WHERE conparentid = 0 GROUP BY oid) q \
         JOIN pg_constraint k ON k.oid = q.oid \
         JOIN pg_class f ON f.oid = k.conrelid JOIN pg_namespace fn ON fn.oid = f.relnamespace \
         JOIN pg_class p ON p.oid = k.confrelid JOIN pg_namespace pn ON pn.oid = p.relnamespace \
         ORDER BY fn.nspname, f.relname, k.conname",
        members_sql(tables)
    );
    Ok(session.rows(&columns, &rest).await?.iter().map(ForeignKey::of).collect())
}

impl ForeignKey {
    fn of(row: &Row) -> Self {
        let list = |n: usize| -> Vec<String> {
            let all = row.value(n).as_array().cloned().unwrap_or_default();
            all.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect()
        };
        let (from, operators, to) = (list(7), list(8), list(9));
        ForeignKey {
            name: row.text(0),
            from: TableName { schema: row.text(1), name: row.text(2) },
            to: TableName { schema: row.text(3), name: row.text(4) },
            incoming: row.truth(5),
            outgoing: row.truth(6),
            columns: from.into_iter().zip(operators).zip(to).map(|((f, o), t)| (f, o, t)).collect(),
            full: row.truth(10),
            whole: (row.truth(11), row.truth(12)),
        }
    }

    /// For messages.
    pub fn named(&self) -> String {
        format!("{} of {} to {}", self.name, self.from.full(), self.to.full())
    }

    /// The values of a row that points at nothing, if there is one.
    ///
    /// # Errors
    /// The server's refusal.
    pub async fn orphan(&self, session: &Session) -> SqlResult<Option<String>> {
        let join = |words: Vec<String>, with: &str| words.join(with);
        let values = join(self.columns.iter().map(|(f, _, _)| format!("f.{}", ident(f))).collect(), ", ");
        let set = self.columns.iter().map(|(f, _, _)| format!("f.{} IS NOT NULL", ident(f))).collect();
        let set = join(set, if self.full { " OR " } else { " AND " });
        let equal = self.columns.iter().map(|(f, o, t)| format!("p.{} {o} f.{}", ident(t), ident(f))).collect();
        let only = |whole: bool| if whole { "" } else { "ONLY " };
        let found = session
            .rows(
                &format!("concat_ws(', ', {values})"),
                &format!(
                    "FROM {}{} f WHERE ({set}) AND NOT EXISTS (SELECT 1 FROM {}{} p WHERE {}) LIMIT 1",
                    only(self.whole.0),
                    self.from.sql(),
                    only(self.whole.1),
                    self.to.sql(),
                    join(equal, " AND ")
                ),
            )
            .await?;
        Ok(found.first().map(|r| r.text(0)))
    }
}
