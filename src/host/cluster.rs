//! PostgreSQL clusters, by Debian's tools.

use super::exec::{Place, Program};
use super::systemd;
use crate::error::{Error, Kind, Result};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// Where each major has its server.
const SERVERS: &str = "/usr/lib/postgresql";
/// Making a cluster writes some dozens of megabytes.
const MAKE: Duration = Duration::from_secs(600);
/// Settings are read at once.
const ANSWER: Duration = Duration::from_secs(60);
/// Roles are few.
const ROLES: Duration = Duration::from_secs(600);

/// Majors whose server is installed.
pub fn majors() -> Vec<u32> {
    let entries = std::fs::read_dir(SERVERS).into_iter().flatten().flatten();
    let mut majors: Vec<u32> = entries
        .filter(|e| e.path().join("bin/postgres").exists())
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .collect();
    majors.sort_unstable();
    majors
}

fn unit(version: &str, name: &str) -> String {
    format!("postgresql@{version}-{name}.service")
}

/// Makes a cluster that does not run yet.
///
/// # Errors
/// [`Kind::Restore`] with what `pg_createcluster` says.
pub async fn make(version: &str, name: &str, port: u16, data: Option<&Path>) -> Result<()> {
    let (port, data) = (port.to_string(), data.map(|d| d.display().to_string()));
    let mut args = vec!["--port", &port];
    args.extend(data.iter().flat_map(|data| ["--datadir", data.as_str()]));
    args.extend([version, name]);
    carry_out("pg_createcluster", &args, version, name).await
}

/// Removes a cluster that nobody has used yet. Its data is not deleted but put aside: that nobody used it is seen in names of
/// files only.
///
/// # Errors
/// [`Kind::Refused`] when its data is somewhere else than in `data`: `pg_dropcluster` deletes whatever the settings name.
/// [`Kind::Restore`] when it does not stop, when its data cannot be put aside, and with what the tools say.
pub async fn remove(version: &str, name: &str, data: &Path, aside: &Path) -> Result<()> {
    let elsewhere = |what: String| {
        Error::new(Kind::Refused, what).at(format!("cluster {version}/{name}")).hint(format!(
            "Nothing was deleted. Look where its data is, drop the cluster by `pg_dropcluster {version} {name}` if nobody needs it, and run the same command again."
        ))
    };
    let own = data_directory(version, name).await?;
    if own != data {
        return Err(elsewhere(format!("its data is in {}, and not in {}", own.display(), data.display())));
    }
    stop(version, name).await?;
    let pid = data.join("postmaster.pid");
    if pid.exists() {
        return Err(Error::new(Kind::Restore, format!("cluster {version}/{name} still runs, as it seems"))
            .at(pid.display())
            .hint(format!("`pg_ctlcluster {version} {name} stop` stops it; then run the same command again.")));
    }
    match std::fs::rename(data, aside) {
        // An interrupted recovery has done so already.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && aside.is_dir() => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(elsewhere(format!("its data is not in {}, where its settings have it", data.display())));
        }
        other => other.map_err(|e| {
            Error::io("the data of an unused cluster cannot be put aside", data, e)
                .kind(Kind::Restore)
                .hint(format!("Drop the cluster by `pg_dropcluster {version} {name}`, and run the same command again."))
        })?,
    }
    carry_out("pg_dropcluster", &["--stop", version, name], version, name).await
}

/// Where the tools look for a cluster's data: what they would delete.
async fn data_directory(version: &str, name: &str) -> Result<PathBuf> {
    let args = ["--short", version, name, "show", "data_directory"];
    let asked = tokio::time::timeout(ANSWER, Program::new("pg_conftool", args).output()).await;
    let told = asked
        .unwrap_or_else(|_| Err(Error::new(Kind::Restore, "pg_conftool does not end")))
        .map_err(|e| e.kind(Kind::Restore).at(format!("cluster {version}/{name}")))?;
    let told = told.strip_suffix(b"\n").unwrap_or(&told);
    Ok(PathBuf::from(OsStr::from_bytes(told)))
}

/// Sets the port of a cluster.
///
/// # Errors
/// [`Kind::Restore`] with what `pg_conftool` says.
pub async fn set_port(version: &str, name: &str, port: u16) -> Result<()> {
    carry_out("pg_conftool", &[version, name, "set", "port", &port.to_string()], version, name).await
}

async fn carry_out(program: &str, args: &[&str], version: &str, name: &str) -> Result<()> {
    let work =
        async { Program::new(program, args.iter().copied()).alone().await?.finish(Kind::Restore).await.map(drop) };
    tokio::time::timeout(MAKE, work)
        .await
        .unwrap_or_else(|_| Err(Error::new(Kind::Restore, format!("{program} does not end"))))
        .map_err(|e| e.at(format!("cluster {version}/{name}")))
}

/// Stops a cluster.
///
/// # Errors
/// [`Kind::Restore`] with what systemd says.
pub async fn stop(version: &str, name: &str) -> Result<()> {
    let unit = systemd::look(&unit(version, name)).await?;
    if unit.is_up() { systemd::stop(&unit).await } else { Ok(()) }
}

/// Starts a cluster and waits until it answers.
///
/// # Errors
/// [`Kind::Restore`] with what systemd says.
pub async fn start(version: &str, name: &str) -> Result<()> {
    systemd::start(&systemd::look(&unit(version, name)).await?).await
}

/// Gives a cluster the roles of a backup with their passwords, settings and memberships, as its superuser through its
/// socket. No standby is waited for: none is here yet. What is there already is no error; what cannot be made is told by the
/// restore that needs it.
///
/// # Errors
/// [`Kind::Restore`] when the cluster does not let its superuser in.
pub async fn give_roles(port: u16, globals: &[u8]) -> Result<()> {
    let port = port.to_string();
    let args = ["--no-psqlrc", "--quiet", "--port", &port, "--dbname", "postgres", "--file", "-"];
    let options = vec![("PGOPTIONS".to_owned(), "-c synchronous_commit=local".to_owned())];
    let program = Program::new("psql", args).at(Place::User("postgres".to_owned())).env(options);
    let work = async {
        let (running, mut input) = program.writing().await?;
        let written = input.write_all(globals).await;
        drop(input);
        running.finish(Kind::Restore).await?;
        written.map_err(|e| Error::new(Kind::Restore, "roles cannot be handed over").because(e))
    };
    tokio::time::timeout(ROLES, work)
        .await
        .unwrap_or_else(|_| Err(Error::new(Kind::Restore, "psql does not end")))
        .map_err(|e| {
            e.at(format!("port {port}")).hint(
                "The restored pg_hba.conf may not let the user postgres in through the socket: add the line `local all postgres peer` at its top, and run the same command again.",
            )
        })
}
