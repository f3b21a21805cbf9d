//! Tables of a staged database into a schema of their own in the live one: gathered in that schema where they are
//! staged, then carried over by `pg_dump` and `pg_restore` in one transaction, without a file.

use super::connect::{Server, conninfo_value, ident, literal};
use super::facts;
use super::load::Options;
use super::pick::{self, TableName};
use super::session::{Session, SqlError, SqlResult};
use super::tools;
use crate::error::{Error, Kind, Result};
use tokio::io::AsyncWriteExt;

/// True when there is a schema of this name, with this comment where one is given.
///
/// # Errors
/// The server's refusal.
pub async fn has_schema(session: &Session, name: &str, comment: Option<&str>) -> SqlResult<bool> {
    let with = comment.map(|c| format!(" AND obj_description(oid, 'pg_namespace') = {}", literal(c)));
    session.any(&format!("FROM pg_namespace WHERE nspname = {}{}", literal(name), with.unwrap_or_default())).await
}

fn failed(e: SqlError) -> Error {
    e.says("the tables cannot be gathered in a schema of their own").kind(Kind::Restore)
}

/// Moves tables with their partitions into a new schema of the staged database, which says by its comment whose it is.
/// What is done already is left as it is.
///
/// # Errors
/// [`Kind::Restore`], as when two tables have the same name.
pub async fn gather(server: &Server, staged: &str, tables: &[TableName], schema: &str, comment: &str) -> Result<()> {
    let session = server.session(staged).await?;
    if has_schema(&session, schema, Some(comment)).await.map_err(failed)? {
        return Ok(());
    }
    let members = pick::members(&session, tables).await.map_err(failed)?;
    // What hangs on a table that stays behind is cut off.
    let parents = session
        .rows(
            "cn.nspname, c.relname, pn.nspname, p.relname, p.relkind = 'p'",
            &format!(
                "FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace cn ON cn.oid = c.relnamespace \
                 JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace pn ON pn.oid = p.relnamespace \
                 WHERE c.oid IN (WITH RECURSIVE {members} SELECT oid FROM members) \
                 AND p.oid NOT IN (WITH RECURSIVE {members} SELECT oid FROM members)",
                members = pick::members_sql(tables)
            ),
        )
        .await
        .map_err(failed)?;
    let mut sql = vec![
        "BEGIN".to_owned(),
        "SET LOCAL search_path = ''".to_owned(),
        format!("CREATE SCHEMA {}", ident(schema)),
        format!("COMMENT ON SCHEMA {} IS {}", ident(schema), literal(comment)),
    ];
    for row in &parents {
        let child = TableName { schema: row.text(0), name: row.text(1) }.sql();
        let parent = TableName { schema: row.text(2), name: row.text(3) }.sql();
        sql.push(match row.truth(4) {
            true => format!("ALTER TABLE {parent} DETACH PARTITION {child}"),
            false => format!("ALTER TABLE {child} NO INHERIT {parent}"),
        });
    }
    sql.extend(members.iter().map(|t| format!("ALTER TABLE {} SET SCHEMA {}", t.sql(), ident(schema))));
    sql.push("COMMIT".to_owned());
    session.run_all(&sql).await.map_err(failed)
}

/// Carries a schema from one database of a server to another, all of it or nothing.
///
/// # Errors
/// [`Kind::Restore`] with the words of whoever refused: a type or a function that the live database lacks, say.
pub async fn carry(server: &Server, from: &str, to: &str, schema: &str, options: &Options) -> Result<()> {
    let major = facts::server_version(&server.admin().await?).await? / 10_000;
    let database = |name: &str| format!("--dbname=dbname={}", conninfo_value(name));
    let pg_dump = tools::find("pg_dump", major, &server.place).await?;
    let args = [
        "--format=custom".to_owned(),
        "--compress=0".into(),
        "--no-password".into(),
        // In quotes a pattern is a name.
        format!("--schema={}", ident(schema)),
        database(from),
    ];
    let (dumping, mut output) = server.program(&pg_dump, args).reading().await?;
    let pg_restore = tools::find("pg_restore", major, &server.place).await?;
    let mut args =
        vec!["--single-transaction".to_owned(), "--exit-on-error".into(), "--no-password".into(), database(to)];
    for (set, flag) in [(options.no_owner, "--no-owner"), (options.no_privileges, "--no-privileges")] {
        if set {
            args.push(flag.into());
        }
    }
    let (restoring, mut input) = server.program(&pg_restore, args).writing().await?;
    let copied = tokio::io::copy(&mut output, &mut input).await;
    let _ = input.shutdown().await;
    drop((input, output));
    // Whoever stopped reading says more than the one who could not write any more.
    restoring.finish(Kind::Restore).await.map_err(|e| e.at(format!("database {to}")))?;
    dumping.finish(Kind::Restore).await.map_err(|e| e.at(format!("database {from}")))?;
    copied
        .map(|_| ())
        .map_err(|e| Error::new(Kind::Restore, "the tables cannot be carried to the live database").because(e))
}

/// Drops the schema if it is the one that was carried.
///
/// # Errors
/// The server's refusal.
pub async fn take_back(session: &Session, schema: &str, comment: &str) -> SqlResult<()> {
    if has_schema(session, schema, Some(comment)).await? {
        session.run(&format!("DROP SCHEMA {} CASCADE", ident(schema))).await?;
    }
    Ok(())
}
