//! Where the tasks of a swarm service run, and which of its files are config objects of the swarm.

use super::find::{Container, SWARM_SERVICE};
use super::{Docker, checked, failed};
use crate::error::{Error, Kind, Result};
use std::collections::BTreeSet;

/// The tasks of a service.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    /// Containers on this node, running or not.
    pub here: Vec<Container>,
    /// Other nodes on which tasks run or are to run.
    pub elsewhere: Vec<String>,
}

impl Docker {
    /// Where the tasks of a service run.
    ///
    /// # Errors
    /// [`Kind::Source`] when there is no such service, or this node does not know about others.
    pub async fn placed(&self, service: &str) -> Result<Tasks> {
        let here = self.containers("label", &format!("{SWARM_SERVICE}={}", checked(service)?)).await?;
        self.configs(service).await?;
        Ok(Tasks { here, elsewhere: self.elsewhere(service).await? })
    }

    /// Other nodes on which tasks of a service run or are to run, by their names.
    pub(super) async fn elsewhere(&self, service: &str) -> Result<Vec<String>> {
        let tasks = self.tasks(service).await?;
        let own = self.api.info().await.map_err(failed("the daemon does not say which node it is"))?;
        let own = own.swarm.and_then(|s| s.node_id).unwrap_or_default();
        let wanted = tasks.into_iter().filter(|t| t.desired == "running").map(|t| t.node);
        let nodes: BTreeSet<String> = wanted.filter(|node| !node.is_empty() && *node != own).collect();
        let mut elsewhere = Vec::new();
        for node in nodes {
            let description = self.api.inspect_node(&node).await.ok().and_then(|n| n.description);
            elsewhere.push(description.and_then(|d| d.hostname).unwrap_or(node));
        }
        Ok(elsewhere)
    }

    /// Files of a service that are config objects: the path in its containers, and the object's name.
    ///
    /// # Errors
    /// [`Kind::Source`] when there is no such service, or this node is no manager.
    pub async fn configs(&self, service: &str) -> Result<Vec<(String, String)>> {
        let Some((spec, _)) = self.service_spec(service).await? else {
            return Err(Error::new(Kind::Source, format!("there is no service {service}"))
                .hint("`docker service ls` shows what there is."));
        };
        let spec = spec.task_template.and_then(|t| t.container_spec).unwrap_or_default();
        let files = spec.configs.unwrap_or_default().into_iter().filter_map(|c| {
            let target = c.file?.name?;
            // One without a slash is at the root.
            let target = if target.starts_with('/') { target } else { format!("/{target}") };
            Some((target, c.config_name.unwrap_or_default()))
        });
        Ok(files.collect())
    }
}
