//! A PostgreSQL cluster of its own: made with the programs of a version that are installed here, run by a user without rights,
//! and reached by a socket in a directory that only this user and root can enter.
//!
//! What it holds need not survive anything, so nothing of it is synced.

use super::server::cannot;
use crate::error::{Error, Kind, Result};
use crate::host::exec::{Place, Program};
use crate::host::user;
use crate::sources::postgres::address::Address;
use crate::sources::url::encode;
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where distributions put the programs of each major version.
const BY_VERSION: &str = "/usr/lib/postgresql";
/// Where they put what belongs to its extensions.
const SHARE: &str = "/usr/share/postgresql";
/// Who may run it, when we are root: a server refuses to run as root.
const USERS: &[&str] = &["postgres", "nobody"];
/// A socket's whole path has at most 107 bytes; this is what comes behind the drill's directory.
const SOCKET: &str = "/pg00/.s.PGSQL.5432";
/// How long a server may take to end.
const TO_END: Duration = Duration::from_secs(30);
/// Between two looks whether it has.
const PAUSE: Duration = Duration::from_millis(50);
/// Lines of its log that are told.
const TOLD: usize = 20;

/// The programs of a version, if its server is installed.
pub fn bin(major: u32) -> Option<PathBuf> {
    let bin = Path::new(BY_VERSION).join(major.to_string()).join("bin");
    ["initdb", "pg_ctl", "postgres"].iter().all(|program| bin.join(program).is_file()).then_some(bin)
}

/// Whether an extension is installed for a version.
pub fn has_extension(major: u32, name: &str) -> bool {
    Path::new(SHARE).join(major.to_string()).join("extension").join(format!("{name}.control")).is_file()
}

/// The user of the operating system that is to run it; nothing when that is who we are.
///
/// # Errors
/// [`Kind::Refused`] when we are root and there is nobody else.
pub async fn user() -> Result<Option<String>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    for name in USERS {
        if user::find(name).await.is_ok() {
            return Ok(Some((*name).to_owned()));
        }
    }
    Err(cannot("a PostgreSQL server does not run as root, and there is no user postgres or nobody"))
}

/// Whether sockets below a directory can have names.
///
/// # Errors
/// [`Kind::Refused`].
pub fn fits(dir: &Path) -> Result<()> {
    match dir.as_os_str().len() + SOCKET.len() > 107 {
        true => Err(cannot("the path of the directory is too long for a socket in it")
            .at(dir.display())
            .hint("Set `dir` of the plan's [drill] section, or --dir, to a shorter one.")),
        false => Ok(()),
    }
}

/// The data directory within its folder.
pub fn data(folder: &Path) -> PathBuf {
    folder.join("data")
}

/// How it is reached.
///
/// # Errors
/// Never, for a path that was checked.
pub fn address(folder: &Path) -> Result<Address> {
    Address::parse(&format!(
        "postgresql://postgres@/postgres?host={}&port=5432&sslmode=disable",
        encode(&folder.display().to_string())
    ))
}

fn quoted(path: &Path) -> String {
    path.display().to_string().replace('\'', "''")
}

/// Makes a cluster and starts its server, in place of what an earlier try has left.
///
/// # Errors
/// [`Kind::Restore`] with the words of the program that failed.
pub async fn start(folder: &Path, major: u32, user: Option<&str>) -> Result<()> {
    let bin = bin(major).ok_or_else(|| cannot(format!("PostgreSQL {major} is not installed here")))?;
    stop(folder).await?;
    let failed = |e: std::io::Error| Error::io("a cluster cannot be made", folder, e).kind(Kind::Restore);
    match std::fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    std::fs::DirBuilder::new().mode(0o700).create(folder).map_err(failed)?;
    let place = match user {
        None => Place::Host,
        Some(name) => {
            let user = user::find(name).await?;
            std::os::unix::fs::chown(folder, Some(user.uid), Some(user.gid)).map_err(failed)?;
            Place::User(name.to_owned())
        }
    };
    let data = data(folder);
    let at = data.display().to_string();
    let program = |name: &str, args: &[&str]| Program::new(bin.join(name), args.iter().copied()).at(place.clone());
    let initdb = ["-D", &at, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"];
    program("initdb", &initdb).output().await.map_err(|e| e.kind(Kind::Restore))?;
    let settings = format!(
        "\nlisten_addresses = ''\nport = 5432\nunix_socket_directories = '{}'\nunix_socket_permissions = 0700\n\
         fsync = off\nfull_page_writes = off\nsynchronous_commit = off\nwal_level = minimal\nmax_wal_senders = 0\n\
         max_wal_size = '1GB'\nautovacuum = off\nlogging_collector = off\n",
        quoted(folder)
    );
    let file = data.join("postgresql.conf");
    let written = std::fs::read_to_string(&file).and_then(|text| std::fs::write(&file, text + &settings));
    written.map_err(failed)?;
    let log = folder.join("log");
    let start = ["-D", &at, "-l", &log.display().to_string(), "-w", "-t", "120", "start"];
    program("pg_ctl", &start).output().await.map(drop).map_err(|e| {
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<&str> = said.lines().collect();
        let said = lines[lines.len().saturating_sub(TOLD)..].join("\n");
        Error::new(Kind::Restore, format!("the scratch server of PostgreSQL {major} does not start"))
            .at(folder.display())
            .because(format!("{}\n{said}", e.one_line()))
    })
}

/// The server of a data directory, if one runs.
fn server_of(data: &Path) -> Option<Pid> {
    let text = std::fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let number: i32 = text.lines().next()?.trim().parse().ok()?;
    // After a reboot the number may be anybody's.
    let command = std::fs::read(format!("/proc/{number}/cmdline")).ok()?;
    let path = data.as_os_str().as_encoded_bytes();
    memchr::memmem::find(&command, path).and_then(|_| Pid::from_raw(number))
}

/// Ends its server at once; what it holds is thrown away.
///
/// # Errors
/// [`Kind::Restore`] when it runs on.
pub async fn stop(folder: &Path) -> Result<()> {
    let data = data(folder);
    let Some(pid) = server_of(&data) else { return Ok(()) };
    // Its own word for "at once": its processes end with it.
    let _ = kill_process(pid, Signal::QUIT);
    let started = Instant::now();
    while server_of(&data) == Some(pid) {
        if started.elapsed() > TO_END {
            let _ = kill_process(pid, Signal::KILL);
        }
        if started.elapsed() > TO_END * 2 {
            return Err(Error::new(Kind::Restore, format!("the scratch server (process {pid:?}) does not end"))
                .at(data.display()));
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_number_that_is_somebody_elses_by_now_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(data(dir.path())).unwrap();
        std::fs::write(data(dir.path()).join("postmaster.pid"), format!("{}\n/x\n", std::process::id())).unwrap();
        assert_eq!(server_of(&data(dir.path())), None);
        stop(dir.path()).await.unwrap();
    }

    #[test]
    fn a_directory_that_is_too_long_for_a_socket_is_told_before() {
        assert!(fits(Path::new("/var/tmp/backstay-drill-20260103T220000Z-k3v9q2")).is_ok());
        assert!(fits(&Path::new("/var/tmp").join("x".repeat(90))).is_err());
    }
}
