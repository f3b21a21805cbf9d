//! Networks and containers, made anew as they were asked for.

use super::running::Recovery;
use crate::config::{Config, SourceConfig};
use crate::error::Result;
use crate::host::docker::Docker;
use crate::host::docker::deployment::Deployment;
use crate::host::docker::recreate::{Specification, specifications};
use crate::recovery::select;
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

    /// Specifications, in the order in which they start.
    async fn wanted(&self) -> Result<Vec<Specification>> {
        let Some((_, record)) = self.lost.machine() else { return Ok(Vec::new()) };
        let artifact = select::artifact(record, Some(SPECIFICATIONS))?;
        specifications(&self.reader("containers")?.small(artifact).await?)
    }
}

/// Whether a source of the configuration is in a container.
fn serves_data(config: &Config, wanted: &Specification) -> bool {
    let container = |source: &SourceConfig| match source {
        SourceConfig::Postgres(p) => p.address.container().map(str::to_owned),
        SourceConfig::Redis(r) => r.container.clone(),
        _ => None,
    };
    config.sources.values().filter_map(container).any(|reference| wanted.is(&reference))
}
