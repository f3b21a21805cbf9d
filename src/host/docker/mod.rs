//! The Docker daemon of this machine, as far as backups and restores need it.
//!
//! [`find`] says which container is meant, [`exec`] runs programs in one, [`directory`] reads files in one, [`volumes`] knows where data lies and who
//! uses it, [`archive`] reaches it where it is not on this machine, [`still`] stops and starts, [`stilled`] knows whom a backup has stopped, [`services`] does that to
//! services of a swarm, [`tasks`] knows where those run, [`lifecycle`] finds what need not run, [`watch`] looks how something
//! is doing and reads its log, [`log`] has the last of it. [`deployment`] is everything that there
//! is, as [`survey`] finds it, [`specifications`] how it was asked for, [`absent`] what a fresh daemon lacks of it,
//! [`recreate`] makes containers anew, and [`scratch`] a server for a drill.
//! Nothing here pulls an image.

pub mod absent;
pub mod archive;
pub mod deployment;
pub mod directory;
pub mod exec;
pub mod find;
pub mod images;
pub mod lifecycle;
pub mod log;
pub mod recreate;
pub mod scratch;
pub mod services;
pub mod specifications;
pub mod still;
pub mod stilled;
pub mod survey;
pub mod tasks;
pub mod volumes;
pub mod watch;

use crate::error::{Error, Kind, Result};
use bollard::API_DEFAULT_VERSION;
use bollard::errors::Error as ApiError;
use bollard::query_parameters::ListServicesOptions;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where the daemon listens when `DOCKER_HOST` says nothing.
const SOCKET: &str = "/var/run/docker.sock";
/// Seconds within which the daemon must answer a request.
const TIMEOUT: u64 = 120;
/// A pause between two tries to reach it.
const AGAIN: Duration = Duration::from_millis(500);

/// A connection to the daemon. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Docker {
    api: bollard::Docker,
}

impl Docker {
    /// Connects to the daemon that `DOCKER_HOST` names, or to the one at the usual socket.
    ///
    /// # Errors
    /// [`Kind::Source`] when there is none, when it does not answer, or when we may not use it.
    pub async fn connect() -> Result<Self> {
        Self::connect_to(std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty()).as_deref()).await
    }

    /// Connects to the daemon, which may be starting. With `swarm`, it must also have found into its swarm.
    ///
    /// # Errors
    /// Those of the last try, when the time is over.
    pub async fn connect_within(limit: Duration, swarm: bool) -> Result<Self> {
        let started = Instant::now();
        loop {
            let tried = async {
                let docker = Self::connect().await?;
                if swarm {
                    docker.manages().await?;
                }
                Ok(docker)
            };
            match tried.await {
                Err(_) if started.elapsed() < limit => tokio::time::sleep(AGAIN).await,
                result => return result,
            }
        }
    }

    /// Fails unless this node can manage its swarm now.
    async fn manages(&self) -> Result<()> {
        let listed = self.api.list_services(None::<ListServicesOptions>).await;
        listed.map(drop).map_err(failed("this node cannot manage its swarm"))
    }

    /// The same with a given `DOCKER_HOST`.
    pub async fn connect_to(host: Option<&str>) -> Result<Self> {
        let socket = match host {
            None => PathBuf::from(SOCKET),
            Some(host) => match host.strip_prefix("unix://").or(host.starts_with('/').then_some(host)) {
                Some(path) => PathBuf::from(path),
                None => {
                    return Err(Error::new(Kind::Source, "DOCKER_HOST does not name a Unix socket")
                        .at(host)
                        .hint("Use unix:///path; a daemon elsewhere can be reached through `ssh -L /path:/var/run/docker.sock`."));
                }
            },
        };
        let failed = |e: ApiError| unreachable(&socket, e);
        let path = socket.to_str().ok_or_else(|| Error::new(Kind::Source, "the socket's path is not text"))?;
        let api = bollard::Docker::connect_with_unix(path, TIMEOUT, API_DEFAULT_VERSION).map_err(failed)?;
        let api = api.negotiate_version().await.map_err(failed)?;
        Ok(Docker { api })
    }
}

fn unreachable(socket: &Path, e: ApiError) -> Error {
    let may_not = std::os::unix::net::UnixStream::connect(socket)
        .is_err_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied);
    let (what, hint) = if may_not {
        ("we may not use the Docker daemon", "Run as root, or let the agent's user into the group of the socket.")
    } else {
        (
            "the Docker daemon does not answer",
            "Start it (`systemctl start docker`), or set DOCKER_HOST to where it listens.",
        )
    };
    Error::new(Kind::Source, what).at(socket.display()).because(e).hint(hint)
}

/// What failed, with what the daemon said about it.
fn failed(what: impl Into<String>) -> impl FnOnce(ApiError) -> Error {
    let what = what.into();
    move |e| {
        let error = Error::new(Kind::Source, what);
        match e {
            ApiError::DockerResponseServerError { message, .. } => error.because(message),
            ApiError::RequestTimeoutError => {
                error.because("the daemon did not answer in time").hint("Look at the daemon's log.")
            }
            other => error.because(other),
        }
    }
}

/// Whether the daemon answered with this status.
fn is_status(e: &ApiError, status: u16) -> bool {
    matches!(e, ApiError::DockerResponseServerError { status_code, .. } if *status_code == status)
}

/// A name that may become part of a request's path. Docker's own rule for containers, volumes and services.
fn checked(name: &str) -> Result<&str> {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if first && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)) {
        Ok(name)
    } else {
        Err(Error::new(Kind::Source, format!("{name:?} cannot be the name of a container, volume or service"))
            .hint("Docker's names are letters, digits, `_`, `.` and `-`."))
    }
}
