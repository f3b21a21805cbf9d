//! A PostgreSQL server in a container of its own, of an image that is here.

use crate::error::{Error, Kind, Result};
use crate::host::docker::Docker;
use crate::model::BackupId;
use crate::sources::postgres::address::Address;
use std::time::{Duration, Instant};

/// How long it may take to come up: it makes its cluster first.
const START: Duration = Duration::from_secs(120);
/// How often it is asked.
const PAUSE: Duration = Duration::from_millis(300);

/// Makes and starts one, in place of what an earlier try has left, and waits until it answers.
///
/// # Errors
/// [`Kind::Refused`] without such an image, [`Kind::Restore`] with its own words when it ends.
pub async fn start(name: &str, image: &str, id: &BackupId) -> Result<()> {
    let docker = Docker::connect().await.map_err(|e| e.kind(Kind::Restore))?;
    docker.discard(name).await?;
    docker.start_postgres(name, image, id.as_str()).await?;
    let address = Address::parse("postgresql:///")?.in_container(Some(name.to_owned()));
    let started = Instant::now();
    loop {
        let answer = async { address.reach().await?.session("postgres").await };
        let Err(e) = answer.await else { return Ok(()) };
        let up = docker.container(name).await?.is_some_and(|c| c.is_up());
        if !up || started.elapsed() > START {
            let said = docker.last_lines(name).await;
            return Err(Error::new(Kind::Restore, format!("no PostgreSQL comes up in a container of image {image}"))
                .because(format!("{}\n{said}", e.one_line()))
                .hint("The image needs PostgreSQL, a user postgres and sh; name another one with `image`."));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Removes it with all that it holds.
///
/// # Errors
/// When the daemon does not.
pub async fn stop(name: &str) -> Result<()> {
    Docker::connect().await.map_err(|e| e.kind(Kind::Restore))?.discard(name).await.map_err(|e| e.kind(Kind::Restore))
}
