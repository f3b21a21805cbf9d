//! What serves the data of a plan itself: it is needed during the restore, or stopped in a step of its own.

use crate::config::{Config, SourceConfig};
use crate::error::{Kind, Result};
use crate::host::docker::Docker;
use crate::host::docker::lifecycle::Meant;
use crate::host::nginx::config::{Settings, Where};
use crate::host::systemd;
use crate::model::Name;
use crate::recovery::maintenance::Maintenance;
use crate::sources::command::Target;
use crate::sources::postgres::PostgresSource;
use std::path::Path;

/// Units of the distributions' packages, without instance and suffix.
const POSTGRES: &str = "postgresql";
const REDIS: &[&str] = &["redis", "redis-server", "valkey", "valkey-server"];

/// Everything that serves these sources, as `unit:NAME`, `container:NAME`, `service:NAME`.
pub async fn of(config: &Config, sources: &[Name]) -> Result<Vec<String>> {
    let mut spare = Vec::new();
    for source in sources.iter().filter_map(|s| config.sources.get(s)) {
        match source {
            SourceConfig::Postgres(postgres) => spare.extend(of_server(postgres).await?),
            SourceConfig::Command(command) => {
                if let Target::Database(bound) = &command.back.into {
                    spare.extend(of_server(&bound.server).await?);
                }
            }
            SourceConfig::Redis(redis) => match (&redis.container, &redis.unit) {
                (Some(reference), _) => spare.push(contained(reference).await?),
                (None, Some(unit)) => spare.push(format!("unit:{unit}")),
                (None, None) => {
                    for name in REDIS {
                        spare.extend(units(name).await);
                    }
                }
            },
            _ => {}
        }
    }
    spare.sort();
    spare.dedup();
    Ok(spare)
}

async fn of_server(postgres: &PostgresSource) -> Result<Vec<String>> {
    if let Some(reference) = postgres.address.container() {
        return Ok(vec![contained(reference).await?]);
    }
    let mut spare: Vec<String> = postgres.unit.iter().map(|unit| format!("unit:{unit}")).collect();
    spare.extend(units(POSTGRES).await);
    Ok(spare)
}

/// Who runs the nginx that shows the page: it must go on. On the host nobody where it does not run, which is refused later, with the
/// reason.
pub async fn of_nginx(settings: &Settings, state_dir: &Path) -> Result<Vec<String>> {
    Ok(match &settings.r#where {
        Where::Host => {
            let groups = Maintenance::new(settings.clone(), state_dir).groups().await;
            let units = groups.iter().filter_map(|g| systemd::unit::of_groups(g)).filter(|u| u.ends_with(".service"));
            units.map(|unit| format!("unit:{unit}")).collect()
        }
        Where::Container(reference) => vec![contained(reference).await.map_err(|e| e.kind(Kind::Refused))?],
        Where::Service(name) => vec![format!("service:{name}")],
    })
}

async fn contained(reference: &str) -> Result<String> {
    Ok(match Docker::connect().await?.meant(reference).await? {
        Meant::Service(name) => format!("service:{name}"),
        Meant::Container(container) => format!("container:{}", container.name),
    })
}

/// The unit of this name and its instances; without systemd there are none.
async fn units(name: &str) -> Vec<String> {
    systemd::of_name(name).await.into_iter().map(|unit| format!("unit:{unit}")).collect()
}
