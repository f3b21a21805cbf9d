//! A server of our own loads the staged file: the best proof that another one will.
//!
//! It listens on a socket in a directory of ours, writes nothing, and is the first to be killed when memory runs out.

use crate::error::{Error, Kind, Result};
use crate::host::exec::{Program, Running};
use crate::sources::redis::address::{Place, Server};
use crate::sources::redis::connect::Connection;
use crate::sources::redis::facts::RedisFacts;
use crate::sources::redis::live::{self, Keyspace};
use crate::sources::redis::rdb::versions::{Readable, readable};
use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;

/// How long a start may take until it answers anything.
const START: Duration = Duration::from_secs(30);
/// How often it is asked.
const PAUSE: Duration = Duration::from_millis(50);
/// Free memory that must stay.
const SPARE: u64 = 256 << 20;
/// A longer path leaves no room for a socket's name below it (sockets have 108 bytes).
const LONGEST: usize = 70;
/// Bytes of its output that are told.
const TAIL: usize = 2000;

/// What came of it.
pub enum Trial {
    /// It loaded the file.
    Loaded {
        /// The program.
        server: String,
        /// Keys per database.
        keyspace: BTreeMap<u64, Keyspace>,
    },
    /// There was a reason not to try.
    NotTried(String),
}

/// A directory that goes away with everything in it.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Loads a file; the server's product and version say which program suits.
///
/// # Errors
/// When a program that should read the file does not.
pub async fn load(rdb: &Path, server: Option<&(String, String)>, facts: &RedisFacts) -> Result<Trial> {
    let not = |why: String| Ok(Trial::NotTried(why));
    if !facts.modules.is_empty() {
        return not("the data is of modules".into());
    }
    let product = server.map_or(facts.product.as_str(), |(product, _)| product);
    let program = format!("{product}-server");
    let Ok(out) = Program::new(&program, ["--version"]).output().await else {
        return not(format!("{program} is not installed on this host"));
    };
    let out = String::from_utf8_lossy(&out).into_owned();
    let version = out.split_whitespace().find_map(|w| w.strip_prefix("v=")).unwrap_or_default().to_owned();
    if let Some((_, wanted)) = server
        && *wanted != version
    {
        return not(format!("{program} on this host is {version}, and the server is {wanted}"));
    }
    if readable(facts.rdb_version, product, &version) != Readable::Yes {
        return not(format!("{program} {version} on this host does not read RDB version {}", facts.rdb_version));
    }
    if std::env::temp_dir().as_os_str().len() > LONGEST {
        return not("the path of the directory for temporary files is too long for a socket".into());
    }
    let needed = facts.used_memory.saturating_mul(3) / 2 + SPARE;
    match available() {
        Some(free) if free < needed => {
            return not(format!("it needs about {} of memory", crate::model::size::human(needed)));
        }
        _ => {}
    }
    let name = format!("{product} {version}");
    let keyspace = run(rdb, &program, facts).await.map_err(|e| e.at(rdb.display()))?;
    Ok(Trial::Loaded { server: name, keyspace })
}

/// `MemAvailable`, in bytes.
fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// The program, which the kernel ends when we are killed.
fn bound(program: &str, file: &str) -> Program {
    const SETPRIV: &str = "/usr/bin/setpriv";
    match Path::new(SETPRIV).exists() {
        true => Program::new(SETPRIV, ["--pdeathsig", "KILL", "--", program, file]),
        false => Program::new(program, [file]),
    }
}

async fn run(rdb: &Path, program: &str, facts: &RedisFacts) -> Result<BTreeMap<u64, Keyspace>> {
    let dir = std::env::temp_dir().join(format!(".backstay-{:016x}", rand::random::<u64>()));
    let failed =
        |e: std::io::Error| Error::io("a directory for a test load cannot be made", &dir, e).kind(Kind::Restore);
    std::fs::DirBuilder::new().mode(0o700).create(&dir).map_err(failed)?;
    let scratch = Scratch(dir.clone());
    let absolute = std::path::absolute(rdb).map_err(failed)?;
    std::os::unix::fs::symlink(absolute, dir.join("dump.rdb")).map_err(failed)?;
    let socket = dir.join("s");
    let databases = facts.keyspaces.iter().flatten().map(|c| c.db + 1).max().unwrap_or(16).max(16);
    let conf = format!(
        "port 0\nunixsocket \"{0}/s\"\nunixsocketperm 700\ndir \"{0}\"\ndbfilename dump.rdb\nsave \"\"\nappendonly no\ndaemonize no\ndatabases {databases}\nlogfile \"\"\n",
        dir.display()
    );
    std::fs::write(dir.join("conf"), conf).map_err(failed)?;
    let file = dir.join("conf").display().to_string();
    let (running, mut output) = bound(program, &file).reading().await?;
    let said = tokio::spawn(async move {
        let mut last = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = output.read(&mut buffer).await {
            last.extend_from_slice(&buffer[..n]);
            last.drain(..last.len().saturating_sub(TAIL));
        }
        String::from_utf8_lossy(&last).into_owned()
    });
    let server = Server { place: Place::Unix(socket), tls: None, user: None, password: None };
    let asked = ask(&server, &said).await;
    drop::<Running>(running);
    drop(scratch);
    match asked {
        Ok(Some(keyspace)) => Ok(keyspace),
        Ok(None) => Err(Error::new(Kind::Mismatch, format!("{program} does not load the restored data"))
            .because(said.await.unwrap_or_default())),
        Err(e) => Err(e.kind(Kind::Restore)),
    }
}

/// The keys when it has loaded; `None` when it ended instead.
async fn ask(server: &Server, said: &tokio::task::JoinHandle<String>) -> Result<Option<BTreeMap<u64, Keyspace>>> {
    let started = Instant::now();
    loop {
        match Connection::open(server, None).await {
            Ok(mut connection) => match live::live(&mut connection).await {
                Ok(live) if !live.loading => return Ok(Some(live.keyspace)),
                Ok(_) => {}
                Err(_) if said.is_finished() => return Ok(None),
                Err(e) => return Err(e),
            },
            Err(_) if said.is_finished() => return Ok(None),
            Err(e) if started.elapsed() > START => return Err(e),
            Err(_) => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}
