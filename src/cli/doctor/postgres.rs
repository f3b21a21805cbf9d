//! A PostgreSQL server: reached, with tools of its version, and with the privileges that a dump needs.

use super::check::{Check, within};
use crate::error::{Error, Kind, Result};
use crate::host::docker::find::Mount;
use crate::host::exec::Place;
use crate::model::{Name, size};
use crate::sources::postgres::connect::Server;
use crate::sources::postgres::dump::Tools;
use crate::sources::postgres::session::{Session, SqlError};
use crate::sources::postgres::{PostgresSource, facts, pooler, tools};
use std::path::Path;

/// Tables and the like that are told by name.
const TOLD: usize = 5;
/// What is the server's own.
const OWN_SCHEMAS: &str = "n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_%'";

pub(super) async fn checks(name: &Name, source: &PostgresSource) -> Vec<Check> {
    let label = |what: &str| format!("{name} (postgres), {what}");
    let mut reached = None;
    let reaching = async {
        let (there, check) = reach(label("server"), source).await?;
        reached = Some(there);
        Ok(check)
    };
    let mut checks = vec![within(label("server"), reaching).await];
    if let Some((server, major)) = reached {
        checks.push(within(label("tools"), installed(label("tools"), &server, major)).await);
        checks.push(within(label("privileges"), privileges(label("privileges"), source, &server)).await);
    }
    checks
}

fn failed(e: SqlError) -> Error {
    e.says("the server does not answer questions about itself")
}

async fn reach(label: String, source: &PostgresSource) -> Result<((Server, u32), Check)> {
    let server = source.address.reach().await?;
    pooler::refuse(&server).await?;
    let admin = server.session(&server.database).await?;
    let major = facts::server_version(&admin).await? / 10_000;
    let standby = admin.row("pg_is_in_recovery()", "").await.map_err(failed)?.truth(0);
    let there = format!("PostgreSQL {major} at {}", server.place());
    let check = match standby {
        false => match inside_only(&server, &admin).await? {
            None => Check::good(label, there),
            Some(directory) => Check::bad(
                label,
                format!(
                    "{there} has its data in the container itself ({directory}): it is lost when that is made anew"
                ),
                format!("Give the container a volume or a directory of the host at {directory}."),
            ),
        },
        true => Check::warning(
            label,
            format!("{there} is a standby: it can be backed up, and takes no restore"),
            "Name the primary in the source's url where restores are to go.",
        ),
    };
    drop(admin);
    Ok(((server, major), check))
}

/// The data directory of a server in a container, when nothing is mounted there.
async fn inside_only(server: &Server, admin: &Session) -> Result<Option<String>> {
    let Place::Container(inside) = &server.place else { return Ok(None) };
    let told = admin.rows("setting", "FROM pg_settings WHERE name = 'data_directory'").await.map_err(failed)?;
    let Some(directory) = told.first().map(|row| row.text(0)).filter(|d| !d.is_empty()) else { return Ok(None) };
    let container = inside.docker.container(&inside.container).await?;
    let mounts = container.map(|c| c.mounts).unwrap_or_default();
    Ok((!is_mounted(&directory, &mounts)).then_some(directory))
}

/// Whether a directory of a container is on a mount that outlives it.
fn is_mounted(directory: &str, mounts: &[Mount]) -> bool {
    mounts.iter().any(|m| m.kind != "tmpfs" && Path::new(directory).starts_with(&m.destination))
}

/// Those of a backup, and those of a restore.
async fn installed(label: String, server: &Server, major: u32) -> Result<Check> {
    Tools::find(server, major).await?;
    for tool in ["pg_dumpall", "pg_restore"] {
        tools::find(tool, major, &server.place).await?;
    }
    tools::any("psql", &server.place).await?;
    Ok(Check::good(label, format!("pg_dump, pg_dumpall, pg_restore and psql for PostgreSQL {major} are there")))
}

async fn privileges(label: String, source: &PostgresSource, server: &Server) -> Result<Check> {
    let admin = server.session(&server.database).await?;
    let role = admin
        .row("rolsuper, rolbypassrls, rolcreatedb", "FROM pg_roles WHERE rolname = current_user")
        .await
        .map_err(failed)?;
    let (superuser, bypasses, creates) = (role.truth(0), role.truth(1), role.truth(2));
    let databases = source.chosen(server, &admin).await?;
    if superuser {
        let databases = size::plural(databases.len() as u64, "database");
        return Ok(Check::good(label, format!("role {} is a superuser; {databases} to back up", server.user)));
    }
    for database in &databases {
        let session = server.session(database).await?;
        let closed = names(&session, "NOT has_table_privilege(c.oid, 'SELECT')").await?;
        if !closed.is_empty() {
            return Err(Error::new(Kind::Source, format!("role {} may not read {}", server.user, closed.join(", ")))
                .at(format!("database {database}"))
                .hint(format!("GRANT pg_read_all_data TO {};", server.user)));
        }
        let hidden = match bypasses {
            true => Vec::new(),
            false => names(&session, "c.relrowsecurity AND NOT pg_has_role(c.relowner, 'USAGE')").await?,
        };
        if !hidden.is_empty() {
            let what = format!("row security hides rows of {} from role {}", hidden.join(", "), server.user);
            return Err(Error::new(Kind::Source, what)
                .at(format!("database {database}"))
                .hint(format!("ALTER ROLE {} BYPASSRLS;", server.user)));
        }
    }
    let lacks = match creates {
        true => "may not read the passwords of roles, so they are not in backups".to_owned(),
        false => "may not read the passwords of roles, so they are not in backups; nor create databases, which a restore needs".to_owned(),
    };
    let mend = format!(
        "Use a superuser for backups and restores, or leave it so: ALTER ROLE {} CREATEDB is enough to restore.",
        server.user
    );
    Ok(Check::warning(label, format!("role {} reads everything; it {lacks}", server.user), mend))
}

/// Tables and sequences of the operator's for which something is so.
async fn names(session: &Session, so: &str) -> Result<Vec<String>> {
    let from = format!(
        "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'p', 'm', 'S') AND {OWN_SCHEMAS} AND {so} ORDER BY n.nspname, c.relname"
    );
    let rows = session.rows("n.nspname || '.' || c.relname", &from).await.map_err(failed)?;
    let mut names: Vec<String> = rows.iter().take(TOLD).map(|row| row.text(0)).collect();
    if rows.len() > TOLD {
        names.push(format!("{} more", rows.len() - TOLD));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_that_is_on_no_mount_goes_with_its_container() {
        let mount = |kind: &str, at: &str| Mount { kind: kind.into(), destination: at.into(), ..Mount::default() };
        let data = "/var/lib/postgresql/data";
        assert!(is_mounted(data, &[mount("bind", "/etc/x"), mount("volume", "/var/lib/postgresql")]));
        assert!(is_mounted(data, &[mount("bind", data)]));
        assert!(!is_mounted(data, &[mount("volume", "/var/lib/postgresql/other"), mount("bind", "/var/lib/post")]));
        assert!(!is_mounted(data, &[mount("tmpfs", data)]));
    }
}
