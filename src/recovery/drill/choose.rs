//! Which PostgreSQL server the databases of a source are loaded into.

use super::cluster;
use super::server::{How, cannot};
use crate::config::DrillPlan;
use crate::config::drill::Scratch;
use crate::error::Result;
use crate::host::docker::Docker;
use crate::model::BackupId;
use crate::sources::postgres::PostgresSource;
use std::path::Path;

/// What is asked for.
pub struct Wanted<'a> {
    /// The drill.
    pub id: &'a BackupId,
    /// Which server of the drill this is, from 0.
    pub number: usize,
    /// The recorded major version.
    pub major: u32,
    /// The recorded extensions.
    pub extensions: &'a [String],
    /// The source as it is configured, on the host whose backup this is.
    pub own: Option<&'a PostgresSource>,
    /// Programs of this machine load it: they reach a cluster or the live server.
    pub programs: bool,
    /// How the plan wants it.
    pub settings: &'a DrillPlan,
    /// The drill's directory.
    pub dir: &'a Path,
}

/// The server: one of the drill's own, or nothing for the live one.
///
/// # Errors
/// [`crate::error::Kind::Refused`] with what to install or to set.
pub async fn server(wanted: &Wanted<'_>) -> Result<Option<How>> {
    let Wanted { major, settings, own, .. } = wanted;
    match settings.scratch {
        Some(Scratch::Live) if own.is_some() => Ok(None),
        Some(Scratch::Live) => Err(cannot("the live server is known to the host itself only")
            .hint("Drill there, or into a scratch server: --scratch cluster, or --scratch container with --image.")),
        Some(Scratch::Cluster) => wanted.cluster().await?.map(Some).ok_or_else(|| {
            cannot(format!("PostgreSQL {major}, of which the backup is, is not installed here"))
                .hint(format!("Install the package postgresql-{major}, or set `scratch` to \"container\" or \"live\"."))
        }),
        Some(Scratch::Container) => wanted.container().await?.map(Some).ok_or_else(|| {
            cannot("it is not known of which image the scratch server is to be")
                .hint(format!("Name one of PostgreSQL {major} that is here, with `image` or --image."))
        }),
        None => {
            let cluster = wanted.cluster().await?;
            if cluster.is_some() && wanted.suits() {
                return Ok(cluster);
            }
            if wanted.programs {
                return Ok(None);
            }
            if let Some(container) = wanted.container().await? {
                return Ok(Some(container));
            }
            match (cluster, own) {
                (_, Some(_)) => Ok(None),
                (Some(cluster), None) => Ok(Some(cluster)),
                (None, None) => Err(cannot(format!(
                    "there is no PostgreSQL {major} on this machine to load databases into"
                ))
                .hint(format!("Install the package postgresql-{major}, or name an image that is here with --image."))),
            }
        }
    }
}

impl Wanted<'_> {
    /// Whether a cluster would lack nothing.
    fn suits(&self) -> bool {
        self.extensions.iter().all(|name| cluster::has_extension(self.major, name))
    }

    async fn cluster(&self) -> Result<Option<How>> {
        if cluster::bin(self.major).is_none() {
            return Ok(None);
        }
        cluster::fits(self.dir)?;
        Ok(Some(How::Cluster { folder: format!("pg{}", self.number), user: cluster::user().await? }))
    }

    async fn container(&self) -> Result<Option<How>> {
        let image = match (&self.settings.image, self.own.and_then(|own| own.address.container())) {
            (Some(image), _) => image.clone(),
            (None, Some(reference)) => Docker::connect().await?.find(reference).await?.image_id,
            (None, None) => return Ok(None),
        };
        let name = format!("backstay-drill-{}-{}", self.id, self.number);
        Ok(Some(How::Container { name, image }))
    }
}
