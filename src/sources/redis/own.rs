//! A server of our own, for what only a server can do: load a file, or replay one. It listens on a socket in a directory
//! of ours and nowhere else, and ends when we do.

use super::address::{Place, Server};
use super::connect::Connection;
use super::live::{self, Live};
use crate::error::{Error, Kind, Result};
use crate::host::exec::{Program, Running};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::task::JoinHandle;

/// How long a start may take until it answers anything.
const START: Duration = Duration::from_secs(30);
/// How long it may take to end after it has broken a connection.
const ENDING: Duration = Duration::from_secs(5);
/// How often it is asked.
const PAUSE: Duration = Duration::from_millis(50);
/// A longer path leaves no room for a socket's name below it (sockets have 108 bytes).
const LONGEST: usize = 70;
/// Bytes of its output that are told.
const TAIL: usize = 2000;

/// A directory for temporary files that goes away with everything in it.
pub struct Folder(PathBuf);

impl Folder {
    /// Makes one.
    ///
    /// # Errors
    /// When there is no room, or no room for the name of a socket.
    pub fn make() -> Result<Self> {
        let dir = std::env::temp_dir().join(format!(".backstay-{:016x}", rand::random::<u64>()));
        if !has_short_path() {
            return Err(Error::new(
                Kind::Restore,
                "the path of the directory for temporary files is too long for a socket",
            )
            .at(dir.display()));
        }
        std::fs::DirBuilder::new().mode(0o700).create(&dir).map_err(|e| {
            Error::io("a directory for a server of our own cannot be made", &dir, e).kind(Kind::Restore)
        })?;
        Ok(Folder(dir))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Whether a socket can be made in a [`Folder`].
pub fn has_short_path() -> bool {
    std::env::temp_dir().as_os_str().len() <= LONGEST
}

/// The version of a program, when it is installed on this host.
pub async fn version(program: &str) -> Option<String> {
    let out = Program::new(program, ["--version"]).output().await.ok()?;
    let out = String::from_utf8_lossy(&out).into_owned();
    Some(out.split_whitespace().find_map(|w| w.strip_prefix("v=")).unwrap_or_default().to_owned())
}

/// `MemAvailable`, in bytes.
pub fn available() -> Option<u64> {
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

/// A server that runs.
pub struct Own {
    server: Server,
    running: Running,
    said: JoinHandle<String>,
    folder: Folder,
}

/// How its start ended.
pub enum Started {
    /// It has loaded what it was given.
    Loaded(Box<Live>),
    /// It ended instead, and said this.
    Ended(String),
}

impl Own {
    /// Starts a program on the data of a directory, with more lines of its configuration.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn start(program: &str, folder: Folder, data: &Path, more: &str) -> Result<Self> {
        let socket = folder.0.join("s");
        let quoted = |path: &Path| path.display().to_string().replace('\\', "\\\\").replace('"', "\\\"");
        let conf = format!(
            "port 0\nunixsocket \"{}\"\nunixsocketperm 700\ndir \"{}\"\nsave \"\"\ndaemonize no\nlogfile \"\"\n{more}",
            quoted(&socket),
            quoted(data)
        );
        let file = folder.0.join("conf");
        std::fs::write(&file, conf)
            .map_err(|e| Error::io("a server of our own cannot be configured", &file, e).kind(Kind::Restore))?;
        let (running, mut output) = bound(program, &file.display().to_string()).reading().await?;
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
        Ok(Own { server, running, said, folder })
    }

    /// Waits until it has loaded its data, however long that takes, or has ended.
    ///
    /// # Errors
    /// When it runs and does not answer.
    pub async fn loaded(&mut self) -> Result<Started> {
        let started = Instant::now();
        loop {
            match Connection::open(&self.server, None).await {
                Ok(mut connection) => match live::live(&mut connection).await {
                    Ok(live) if !live.loading => return Ok(Started::Loaded(Box::new(live))),
                    Ok(_) => {}
                    Err(_) if self.is_ending().await => return self.ended().await,
                    Err(e) => return Err(e.kind(Kind::Restore)),
                },
                Err(_) if self.said.is_finished() => return self.ended().await,
                Err(e) if started.elapsed() > START => return Err(e.kind(Kind::Restore)),
                Err(_) => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Whether it ends, after it has broken a connection: it closes them before its output ends.
    async fn is_ending(&self) -> bool {
        let broken = Instant::now();
        while !self.said.is_finished() && broken.elapsed() < ENDING {
            tokio::time::sleep(PAUSE).await;
        }
        self.said.is_finished()
    }

    async fn ended(&mut self) -> Result<Started> {
        Ok(Started::Ended((&mut self.said).await.unwrap_or_default()))
    }

    /// A connection to it.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn connect(&self) -> Result<Connection> {
        Connection::open(&self.server, None).await
    }

    /// Kills it. What it has saved stays where it is.
    pub fn end(self) {
        let Own { running, folder, .. } = self;
        drop::<Running>(running);
        drop(folder);
    }
}
