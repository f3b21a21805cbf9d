//! Networks and containers, made anew as they were asked for.

use super::running::Recovery;
use crate::config::{Config, SourceConfig};
use crate::error::Result;
use crate::host::docker::Docker;
use crate::host::docker::deployment::Deployment;
use crate::host::docker::recreate::{Specification, specifications};
use crate::recovery::fresh::container;
use crate::recovery::fresh::lost::Lost;
use crate::recovery::select;
use crate::repository::reader::Reader;
use crate::sources::command::Target;
use crate::sources::host::SPECIFICATIONS;

impl Recovery<'_> {
    /// Makes networks and containers, and starts those that serve data of a plan.
    pub(super) async fn containers(&self) -> Result<Vec<String>> {
        let Some(then) = &self.facts()?.docker else { return Ok(Vec::new()) };
        self.servers().await?;
        let docker = Docker::connect().await?;
        let mut notes = Vec::new();
        let there = Deployment::read(&docker).await?;
        for network in then.networks.iter().filter(|n| n.scope == "local") {
            if let Err(e) = docker.make_network(network, &there).await {
                notes.push(e.one_line());
            }
        }
        let config = self.context.config()?;
        for wanted in self.wanted().await? {
            let serves = serves_data(&config, &wanted);
            let wanted = match self.as_it_may_be(&config, wanted) {
                Ok(wanted) => wanted,
                Err(why) => {
                    notes.push(why);
                    continue;
                }
            };
            match docker.make_container(&wanted).await {
                Ok(_) if serves => {
                    docker.start(&wanted.name).await?;
                }
                Ok(_) => {}
                // Its data cannot be restored without it; of another one the rest of the application may do without.
                Err(e) if serves => return Err(e),
                Err(e) => notes.push(e.one_line()),
            }
        }
        Ok(notes)
    }

    /// Starts the containers that ran, in an exercise those that are named; with what failed.
    pub(super) async fn start_containers(&self) -> Result<Vec<String>> {
        let Some(then) = self.lost.facts.as_ref().and_then(|f| f.docker.as_ref()) else { return Ok(Vec::new()) };
        if then.projects.is_empty() && then.containers.is_empty() {
            return Ok(Vec::new());
        }
        let docker = Docker::connect().await?;
        let mut notes = Vec::new();
        for wanted in self.wanted().await? {
            let named = self.about.start.iter().any(|s| s.strip_prefix("container:") == Some(&wanted.name));
            let starts = if self.about.exercise { named } else { wanted.ran(then) };
            if !starts {
                continue;
            }
            match docker.start(&wanted.name).await {
                Ok(true) => {}
                Ok(false) => notes.push(format!("container {} is not here", wanted.name)),
                Err(e) => notes.push(e.one_line()),
            }
        }
        Ok(notes)
    }

    /// A container as it may be made: one of PostgreSQL in an exercise keeps to itself. Where it cannot be made to, why it is
    /// not made; what it serves is told as not restored.
    fn as_it_may_be(&self, config: &Config, wanted: Specification) -> std::result::Result<Specification, String> {
        let serves = || config.sources.values().filter_map(server_of).any(|reference| wanted.is(reference));
        match self.about.exercise && (container::is_postgres(&wanted) || serves()) {
            true => container::kept_alone(&wanted).ok_or_else(|| format!("not made: {}", goes_on(&wanted))),
            false => Ok(wanted),
        }
    }

    /// See [`specifications_of`].
    pub(super) async fn wanted(&self) -> Result<Vec<Specification>> {
        specifications_of(&self.lost, &self.reader("containers")?).await
    }
}

/// Specifications of the lost host's containers, in the order in which they start.
pub(super) async fn specifications_of(lost: &Lost, reader: &Reader) -> Result<Vec<Specification>> {
    let has = lost.facts.as_ref().is_some_and(|f| f.docker.is_some());
    let Some((_, record)) = lost.machine().filter(|_| has) else { return Ok(Vec::new()) };
    let artifact = select::artifact(record, Some(SPECIFICATIONS))?;
    specifications(&reader.small(artifact).await?)
}

/// The container of the PostgreSQL server that a source is loaded into.
fn server_of(source: &SourceConfig) -> Option<&str> {
    match source {
        SourceConfig::Postgres(p) => p.address.container(),
        SourceConfig::Command(c) => match &c.back.into {
            Target::Database(bound) => bound.server.address.container(),
            _ => None,
        },
        _ => None,
    }
}

/// Why a source's server, which is in a container, cannot be part of an exercise.
pub(super) fn not_alone(source: &SourceConfig, containers: &[Specification]) -> Option<String> {
    let reference = server_of(source)?;
    let wrong = containers.iter().filter(|c| c.is(reference)).find(|c| container::kept_alone(c).is_none())?;
    Some(goes_on(wrong))
}

fn goes_on(wrong: &Specification) -> String {
    format!(
        "container {} starts another program than PostgreSQL itself, so nothing keeps it from archiving to where the living host does",
        wrong.name
    )
}

/// Whether a source of the configuration is in a container.
fn serves_data(config: &Config, wanted: &Specification) -> bool {
    let mut containers = config.sources.values().filter_map(|source| match source {
        SourceConfig::Redis(r) => r.container.as_deref(),
        other => server_of(other),
    });
    containers.any(|reference| wanted.is(reference))
}
