//! A PostgreSQL server in a container of its own, which is thrown away with all that it holds. No image is pulled.

use super::{Docker, checked, failed, is_status};
use crate::error::{Error, Kind, Result};
use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder};
use std::collections::HashMap;

/// Marks containers of drills with the drill.
pub const DRILL: &str = "backstay.drill";
/// Where the server has its data and its socket.
const PLACE: &str = "/tmp/backstay-drill";
/// The user whom images of PostgreSQL have for it.
const USER: &str = "postgres";
/// Makes a cluster that nobody but that user reaches, and becomes its server. What it holds need not survive anything.
const SCRIPT: &str = r#"set -e
b=$(command -v initdb || ls -d /usr/lib/postgresql/*/bin/initdb | tail -n 1)
b=${b%/initdb}
mkdir -m 700 "$PGHOST"
"$b/initdb" -D "$PGHOST/data" -U postgres -A trust -E UTF8 --locale=C --no-sync
exec "$b/postgres" -D "$PGHOST/data" -c listen_addresses= -c unix_socket_directories="$PGHOST" -c fsync=off \
    -c full_page_writes=off -c synchronous_commit=off -c wal_level=minimal -c max_wal_senders=0 -c max_wal_size=1GB -c autovacuum=off
"#;

impl Docker {
    /// Makes and starts one. It has no network: its clients run in it.
    ///
    /// # Errors
    /// [`Kind::Refused`] when there is no such image here.
    pub async fn start_postgres(&self, name: &str, image: &str, drill: &str) -> Result<()> {
        if self.image(image).await?.is_none() {
            return Err(Error::new(Kind::Refused, format!("there is no image {image} on this machine"))
                .hint("Backstay pulls none: `docker pull` it, or name another one with `image`."));
        }
        let body = ContainerCreateBody {
            image: Some(image.to_owned()),
            user: Some(USER.to_owned()),
            entrypoint: Some(vec!["sh".to_owned(), "-c".to_owned(), SCRIPT.to_owned()]),
            cmd: Some(Vec::new()),
            env: Some(vec![format!("PGHOST={PLACE}")]),
            labels: Some(HashMap::from([(DRILL.to_owned(), drill.to_owned())])),
            host_config: Some(HostConfig {
                network_mode: Some("none".to_owned()),
                // One part in eight of what others get.
                cpu_shares: Some(128),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let options = CreateContainerOptionsBuilder::new().name(checked(name)?).build();
        let made = self.api.create_container(Some(options), body).await;
        made.map_err(failed(format!("no container can be made of image {image}")))?;
        self.start(name).await.map(drop)
    }

    /// Removes a container with its volumes, whether it runs or not. One that is gone is fine.
    pub async fn discard(&self, name: &str) -> Result<()> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match self.api.remove_container(checked(name)?, Some(options)).await {
            Err(e) if is_status(&e, 404) => Ok(()),
            other => other.map_err(failed(format!("container {name} cannot be removed"))),
        }
    }
}
