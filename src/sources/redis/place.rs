//! Where the files of a server are on this host.

use super::RedisSource;
use super::live::Live;
use crate::error::{Error, Kind, Result};
use crate::host::docker::Docker;
use crate::host::docker::lifecycle::Meant;
use crate::host::processes;
use std::path::{Path, PathBuf};

/// Programs that serve such a directory.
pub const PROGRAMS: [&str; 4] = ["redis-server", "valkey-server", "keydb-server", "redis-sentinel"];

/// The server's directory as the host sees it. With a running server it is proven: a server works in its directory,
/// so a process of that name must be in it.
///
/// # Errors
/// [`Kind::Refused`] when it is not on this host.
pub async fn data_dir(source: &RedisSource, dir: &str, live: Option<&Live>) -> Result<PathBuf> {
    let place = match (&source.data_dir, &source.container) {
        (Some(given), _) => given.clone(),
        (None, None) => PathBuf::from(dir),
        (None, Some(reference)) => {
            let docker = Docker::connect().await?;
            let container = match docker.meant(reference).await? {
                Meant::Container(container) => *container,
                Meant::Service(service) => docker.find(&service).await?,
            };
            container.on_host(dir).ok_or_else(|| {
                Error::new(Kind::Refused, format!("the directory {dir} of {} is on no volume", container.label()))
                    .hint("What is in the container itself is lost when it is made anew. Mount a volume there.")
            })?
        }
    };
    let elsewhere = |what: &str| {
        Error::new(Kind::Refused, what.to_owned()).at(place.display()).hint(
            "Files of the server are needed for this. On the server's own host, set `data_dir` to where its directory is; for a server elsewhere, run the agent there.",
        )
    };
    if !place.is_absolute() || !place.is_dir() {
        return Err(elsewhere("the directory of the server is not on this host"));
    }
    if live.is_some() && in_dir(&place).is_empty() {
        return Err(elsewhere("no running server works in this directory"));
    }
    Ok(place)
}

/// Servers that work in a directory, as process ids.
pub fn in_dir(dir: &Path) -> Vec<u32> {
    processes::working_in(dir, &PROGRAMS)
}
