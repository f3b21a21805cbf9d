//! Whether the rows of live tables can be replaced: what would act on its own, and what is not alike.

use super::connect::literal;
use super::foreign;
use super::pick::{TableName, members_sql};
use super::session::{Session, SqlError};
use crate::error::{Error, Kind, Result};
use std::collections::BTreeMap;

fn failed(e: SqlError) -> Error {
    e.says("the live tables cannot be examined")
}

fn refused(what: impl Into<String>) -> Error {
    Error::new(Kind::Refused, what)
}

/// Refuses tables that are missing, that others point at, or that have triggers which cannot be kept still.
///
/// # Errors
/// [`Kind::Refused`] by name.
pub async fn live(session: &Session, tables: &[TableName], replica_mode: bool, superuser: bool) -> Result<()> {
    for table in tables {
        let kind = kind(session, table).await?;
        if kind.is_none_or(|k| k != "r" && k != "p") {
            return Err(refused("there is no such table in the live database").at(table.full()).hint(
                "Restore it into a schema of its own with --to NEWSCHEMA, and move it: ALTER TABLE … SET SCHEMA.",
            ));
        }
    }
    if replica_mode && !superuser {
        return Err(refused("--replica-mode needs a superuser, and the role of the source is none")
            .hint("Name a superuser in the source's url, or restore the tables that point at these with them."));
    }
    let keys = foreign::touching(session, tables).await.map_err(failed)?;
    let incoming: Vec<String> = keys.iter().filter(|k| k.incoming).map(foreign::ForeignKey::named).collect();
    if !incoming.is_empty() && !replica_mode {
        return Err(refused("tables that are not restored point at these by foreign keys")
            .because(incoming.join(", "))
            .hint(
                "Restore those tables too (--table is repeatable). With --replica-mode the rows are replaced all the \
                 same, unless one of them would be left pointing at nothing.",
            ));
    }
    if let Some(key) = keys.iter().find(|k| !superuser && k.from != k.to && !k.incoming && !k.outgoing)
        && keys.iter().any(|k| k.from == key.to && k.to == key.from)
    {
        return Err(refused("the tables point at each other, and only a superuser can fill both")
            .because(key.named())
            .hint("Name a superuser in the source's url, or restore beside the live tables with --to."));
    }
    triggers(session, tables, superuser).await
}

/// Triggers would change what is restored, or tell others of it. A superuser's session can be one for replication,
/// where only those act that ask for it.
///
/// # Errors
/// [`Kind::Refused`] by name.
pub async fn triggers(session: &Session, tables: &[TableName], superuser: bool) -> Result<()> {
    let acting = if superuser { "'A', 'R'" } else { "'O', 'A'" };
    let found = session
        .rows(
            "t.tgname, n.nspname, c.relname",
            &format!(
                "FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
                 WHERE NOT t.tgisinternal AND t.tgenabled IN ({acting}) \
                 AND c.oid IN (WITH RECURSIVE {} SELECT oid FROM members) ORDER BY n.nspname, c.relname, t.tgname",
                members_sql(tables)
            ),
        )
        .await
        .map_err(failed)?;
    if found.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = found.iter().map(|r| format!("{} of {}.{}", r.text(0), r.text(1), r.text(2))).collect();
    let hint = if superuser {
        "They are enabled always or for replication: ALTER TABLE … DISABLE TRIGGER them for the restore."
    } else {
        "Name a superuser in the source's url, which keeps them still; or ALTER TABLE … DISABLE TRIGGER them for the restore."
    };
    Err(refused("triggers of the live tables would act on the restored rows").because(names.join(", ")).hint(hint))
}

/// What somebody should know who has old rows kept in a schema of the live database.
///
/// # Errors
/// The server's refusal.
pub async fn keeping(session: &Session) -> Result<Vec<String>> {
    let all = session.rows("pubname", "FROM pg_publication WHERE puballtables").await.map_err(failed)?;
    let told = |p: String| {
        format!(
            "publication {p} is for all tables: its subscribers would need the schema with the old rows too, unless --no-keep"
        )
    };
    Ok(all.iter().map(|r| told(r.text(0))).collect())
}

async fn kind(session: &Session, table: &TableName) -> Result<Option<String>> {
    let rows = session
        .rows(
            "c.relkind",
            &format!(
                "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = {} AND c.relname = {}",
                literal(&table.schema),
                literal(&table.name)
            ),
        )
        .await
        .map_err(failed)?;
    Ok(rows.first().map(|r| r.text(0)))
}

/// A column: its type, and whether it is generated.
type Columns = BTreeMap<String, (String, bool)>;

async fn columns(session: &Session, table: &TableName) -> Result<Columns> {
    session.run("SET search_path = ''").await.map_err(failed)?;
    let version = super::facts::server_version(session).await?;
    let generated = if version >= 120_000 { "a.attgenerated <> ''" } else { "false" };
    let rows = session
        .rows(
            &format!("a.attname, format_type(a.atttypid, a.atttypmod), {generated}"),
            &format!(
                "FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
                 WHERE a.attnum > 0 AND NOT a.attisdropped AND n.nspname = {} AND c.relname = {}",
                literal(&table.schema),
                literal(&table.name)
            ),
        )
        .await
        .map_err(failed)?;
    Ok(rows.iter().map(|r| (r.text(0), (r.text(1), r.truth(2)))).collect())
}

/// Compares a table on both sides; gives its columns without generated ones, and whether it is partitioned.
///
/// # Errors
/// [`Kind::Refused`] with what differs.
pub async fn alike(staged: &Session, live: &Session, table: &TableName) -> Result<(Vec<String>, bool)> {
    let (from, to) = (columns(staged, table).await?, columns(live, table).await?);
    let said = |c: Option<&(String, bool)>| match c {
        None => "missing".to_owned(),
        Some((kind, generated)) => format!("{kind}{}", if *generated { ", generated" } else { "" }),
    };
    let mut names: Vec<&String> = from.keys().chain(to.keys()).collect();
    names.sort();
    names.dedup();
    let mut different: Vec<String> = names
        .into_iter()
        .filter(|n| from.get(*n) != to.get(*n))
        .map(|n| format!("column {n}: {} in the backup, {} now", said(from.get(n)), said(to.get(n))))
        .collect();
    let kinds = (kind(staged, table).await?, kind(live, table).await?);
    if kinds.0 != kinds.1 {
        different.push("one of the two is partitioned".to_owned());
    }
    if !different.is_empty() {
        return Err(refused("the live table is not like that of the backup")
            .at(table.full())
            .because(different.join("; "))
            .hint(
                "Restore it into a schema of its own with --to NEWSCHEMA, and copy what you need with INSERT … SELECT.",
            ));
    }
    let columns = from.into_iter().filter(|(_, (_, generated))| !generated).map(|(name, _)| name).collect();
    Ok((columns, kinds.0.as_deref() == Some("p")))
}
