//! The way back in: a new database, loaded, and held against the facts before anybody uses it.
//!
//! A database that exists is never touched here. What was loaded and does not agree with the facts is dropped
//! again, and so are the roles that were made for it.

use super::connect::{Server, ident};
use super::dump::{conninfo_value, create_database};
use super::facts::{self, DatabaseFacts, sql_error};
use super::tools;
use crate::error::{Error, Kind, Result};
use crate::host::exec::Program;
use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio_postgres::Client;

/// What a load did.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The new database.
    pub database: String,
    /// Rows, as counted in it afterwards.
    pub rows: u64,
    /// Tables.
    pub tables: u64,
    /// Roles that were missing and were made.
    pub roles_made: Vec<String>,
}

/// Loads an archive into a new database `name`.
///
/// # Errors
/// [`Kind::Refused`] when the database exists, [`Kind::Restore`] when the load failed, [`Kind::Mismatch`] when
/// the result differs from the facts. In each case nothing of it is left.
pub async fn load(
    server: &Server,
    name: &str,
    expected: &DatabaseFacts,
    globals: &[u8],
    archive: mpsc::Receiver<Result<Bytes>>,
) -> Result<Loaded> {
    // The database of the URL may be the one that is lost.
    let admin = match server.connect("postgres").await {
        Ok(client) => client,
        Err(_) => server.connect("template1").await?,
    };
    preflight(&admin, server, name, expected).await?;
    let major = server_major(&admin).await?;
    let pg_restore = tools::find("pg_restore", major.max(expected.server_version / 10_000)).await?;
    let failed = sql_error("the new database cannot be made");
    let mut roles_made = Vec::new();
    let made = &mut roles_made;
    let result = async {
        make_missing_roles(&admin, globals, made).await?;
        admin.batch_execute(&create_database(name, expected)).await.map_err(&failed)?;
        restore_into(server, &pg_restore, name, archive).await?;
        verify(server, name, expected).await
    };
    match result.await {
        Ok(found) => {
            if role_exists(&admin, &expected.owner).await? {
                admin
                    .batch_execute(&format!("ALTER DATABASE {} OWNER TO {}", ident(name), ident(&expected.owner)))
                    .await
                    .map_err(&failed)?;
            }
            Ok(Loaded {
                database: name.to_owned(),
                rows: found.tables.iter().map(|t| t.rows).sum(),
                tables: found.tables.len() as u64,
                roles_made,
            })
        }
        Err(e) => {
            let mut undone = admin.batch_execute(&format!("DROP DATABASE IF EXISTS {}", ident(name))).await;
            for role in &roles_made {
                undone = undone.and(admin.batch_execute(&format!("DROP ROLE IF EXISTS {}", ident(role))).await);
            }
            match undone {
                Ok(()) => Err(e),
                Err(undo) => Err(e.hint(format!("What was made for the restore could not be removed ({undo}): drop database {name} and roles {roles_made:?} by hand."))),
            }
        }
    }
}

async fn server_major(client: &Client) -> Result<u32> {
    let version: i32 = client
        .query_one("SELECT current_setting('server_version_num')::int", &[])
        .await
        .map_err(sql_error("the server's version cannot be read"))?
        .get(0);
    Ok(version.unsigned_abs() / 10_000)
}

/// Everything that can be known to go wrong, before anything is made.
async fn preflight(admin: &Client, server: &Server, name: &str, expected: &DatabaseFacts) -> Result<()> {
    let failed = sql_error("the server cannot be examined");
    if name.len() > 63 {
        return Err(Error::new(Kind::Usage, "a database name has at most 63 bytes")
            .at(name.to_owned())
            .hint("PostgreSQL would cut it silently; choose a shorter one."));
    }
    if admin.query_opt("SELECT 1 FROM pg_database WHERE datname = $1", &[&name]).await.map_err(&failed)?.is_some() {
        return Err(Error::new(Kind::Refused, format!("database {name} exists"))
            .at(server.place())
            .hint(format!("Restore beside it with --to OTHER_NAME, compare, and rename; or rename the existing one away: ALTER DATABASE {} RENAME TO …", ident(name))));
    }
    let major = server_major(admin).await?;
    if major < expected.server_version / 10_000 {
        return Err(Error::new(
            Kind::Refused,
            format!("the backup is of PostgreSQL {}, the server is {major}", expected.server_version / 10_000),
        )
        .at(server.place())
        .hint("A dump does not go back to an older version. Restore to a server of the same version or a newer one."));
    }
    let available: Vec<String> = admin
        .query("SELECT name::text FROM pg_available_extensions", &[])
        .await
        .map_err(&failed)?
        .iter()
        .map(|r| r.get(0))
        .collect();
    let missing: Vec<&str> =
        expected.extensions.iter().map(|e| e.0.as_str()).filter(|e| !available.iter().any(|a| a == e)).collect();
    if !missing.is_empty() {
        return Err(Error::new(
            Kind::Refused,
            format!("the server lacks extensions that the backup uses: {}", missing.join(", ")),
        )
        .at(server.place())
        .hint("Install their packages on the server first."));
    }
    Ok(())
}

async fn restore_into(
    server: &Server,
    pg_restore: &std::path::Path,
    name: &str,
    mut archive: mpsc::Receiver<Result<Bytes>>,
) -> Result<()> {
    let args = [
        "--exit-on-error",
        "--no-password",
        "--single-transaction",
        &format!("--dbname=dbname={}", conninfo_value(name)),
    ];
    let mut env = server.env();
    // Only for this session, and the cluster is synced before the load counts.
    env.push(("PGOPTIONS".to_owned(), "-c synchronous_commit=off -c maintenance_work_mem=256MB".to_owned()));
    let (running, mut stdin) = Program::new(pg_restore, args).env(env).writing().await?;
    let mut broken = None;
    while let Some(piece) = archive.recv().await {
        match piece {
            Ok(bytes) => {
                if let Err(e) = stdin.write_all(&bytes).await {
                    // pg_restore is gone; its exit status says why.
                    broken = Some(Error::new(Kind::Restore, "pg_restore stopped reading").because(e));
                    break;
                }
            }
            Err(e) => return Err(e),
        }
    }
    drop(stdin);
    running.finish(Kind::Restore).await.map_err(|e| e.at(format!("database {name}")))?;
    broken.map_or(Ok(()), Err)
}

async fn verify(server: &Server, name: &str, expected: &DatabaseFacts) -> Result<DatabaseFacts> {
    let client = server.connect(name).await?;
    client.batch_execute("ANALYZE").await.map_err(sql_error("the loaded database cannot be analysed"))?;
    client
        .batch_execute("CHECKPOINT")
        .await
        .or_else(|e| if e.code().is_some_and(|c| c.code() == "42501") { Ok(()) } else { Err(e) })
        .map_err(sql_error("the cluster cannot be synced"))?;
    let found = facts::read(&client, u64::MAX).await?;
    let differences = facts::differences(expected, &found);
    if differences.is_empty() {
        return Ok(found);
    }
    Err(Error::new(Kind::Mismatch, format!("database {name} was loaded and differs from the facts of the backup"))
        .because(differences.join("\n")))
}

async fn role_exists(admin: &Client, role: &str) -> Result<bool> {
    Ok(admin
        .query_opt("SELECT 1 FROM pg_roles WHERE rolname = $1", &[&role])
        .await
        .map_err(sql_error("the roles cannot be read"))?
        .is_some())
}

/// Makes the roles of the backup that the server does not have, and notes each in `made` at once, so that a failure
/// can take back those before it. Existing ones are never altered.
async fn make_missing_roles(admin: &Client, globals: &[u8], made: &mut Vec<String>) -> Result<()> {
    let failed = sql_error("a role of the backup cannot be made");
    let statements = statements(&String::from_utf8_lossy(globals));
    for statement in &statements {
        if let Some(name) = role_name(statement, "CREATE ROLE ")
            && !role_exists(admin, &name).await?
        {
            admin.batch_execute(statement).await.map_err(&failed)?;
            made.push(name);
        }
    }
    for statement in &statements {
        if let Some(name) = role_name(statement, "ALTER ROLE ")
            && made.contains(&name)
        {
            admin.batch_execute(statement).await.map_err(&failed)?;
        }
    }
    for statement in &statements {
        // Memberships: only those that a new role is given.
        if statement.starts_with("GRANT ")
            && let Some((_, to)) = statement.rsplit_once(" TO ")
            && role_name(&format!("TO {to}"), "TO ").is_some_and(|n| made.contains(&n))
        {
            admin.batch_execute(statement).await.map_err(&failed)?;
        }
    }
    Ok(())
}

/// Splits what `pg_dumpall --globals-only` writes into statements, minding quotes and comments. Lines that are
/// meta-commands of psql (`\restrict` of recent versions) are left out.
fn statements(sql: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut current = String::new();
    let mut quote: Option<char> = None;
    let mut chars = sql.chars().peekable();
    let mut line_start = true;
    while let Some(c) = chars.next() {
        let at_start = std::mem::replace(&mut line_start, c == '\n');
        match quote {
            Some(q) => {
                current.push(c);
                // A doubled quote closes and opens again, which comes to the same.
                if c == q {
                    quote = None;
                }
            }
            None => match c {
                '\'' | '"' => {
                    quote = Some(c);
                    current.push(c);
                }
                '-' if chars.peek() == Some(&'-') => {
                    for d in chars.by_ref() {
                        if d == '\n' {
                            break;
                        }
                    }
                    line_start = true;
                }
                '\\' if at_start && current.trim().is_empty() => {
                    for d in chars.by_ref() {
                        if d == '\n' {
                            break;
                        }
                    }
                    line_start = true;
                }
                ';' => {
                    let statement = std::mem::take(&mut current).trim().to_owned();
                    if !statement.is_empty() {
                        out.push(statement);
                    }
                }
                _ => current.push(c),
            },
        }
    }
    out
}

/// The role that a statement speaks of.
fn role_name(statement: &str, verb: &str) -> Option<String> {
    let rest = statement.strip_prefix(verb)?;
    if let Some(quoted) = rest.strip_prefix('"') {
        let mut name = String::new();
        let mut chars = quoted.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '"' if chars.peek() == Some(&'"') => {
                    chars.next();
                    name.push('"');
                }
                '"' => return Some(name),
                c => name.push(c),
            }
        }
        return None;
    }
    Some(rest.split([' ', ';']).next()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globals_are_split_by_statements_not_by_lines() {
        let sql = "--\n-- Roles; all\n--\n\\restrict abc\nCREATE ROLE \"a;\"\"b\";\nALTER ROLE \"a;\"\"b\" WITH LOGIN PASSWORD 'x''y;z\n\\q';\n\\unrestrict abc\nCREATE ROLE app;\n";
        let s = statements(sql);
        assert_eq!(s.len(), 3, "{s:?}");
        assert_eq!(role_name(&s[0], "CREATE ROLE ").unwrap(), "a;\"b");
        assert!(s[1].contains("\\q'"));
        assert_eq!(role_name(&s[2], "CREATE ROLE ").unwrap(), "app");
    }
}
