//! Where the tasks of a swarm service run, and which of its files are config objects of the swarm.

use super::find::{Container, SWARM_SERVICE};
use super::{Docker, checked, failed, is_status};
use crate::error::{Error, Kind, Result};
use bollard::query_parameters::{InspectServiceOptions, ListTasksOptionsBuilder};
use std::collections::{BTreeSet, HashMap};

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
        let filters = HashMap::from([("service", vec![service]), ("desired-state", vec!["running"])]);
        let options = ListTasksOptionsBuilder::new().filters(&filters).build();
        let listed = self
            .api
            .list_tasks(Some(options))
            .await
            .map_err(failed(format!("the tasks of service {service} cannot be listed")))?;
        let own = self.api.info().await.map_err(failed("the daemon does not say which node it is"))?;
        let own = own.swarm.and_then(|s| s.node_id).unwrap_or_default();
        let nodes: BTreeSet<String> = listed.into_iter().filter_map(|t| t.node_id).filter(|n| *n != own).collect();
        let mut elsewhere = Vec::new();
        for node in nodes {
            let description = self.api.inspect_node(&node).await.ok().and_then(|n| n.description);
            elsewhere.push(description.and_then(|d| d.hostname).unwrap_or(node));
        }
        Ok(Tasks { here, elsewhere })
    }

    /// Files of a service that are config objects: the path in its containers, and the object's name.
    ///
    /// # Errors
    /// [`Kind::Source`] when there is no such service, or this node is no manager.
    pub async fn configs(&self, service: &str) -> Result<Vec<(String, String)>> {
        let found = match self.api.inspect_service(checked(service)?, None::<InspectServiceOptions>).await {
            Ok(found) => found,
            Err(e) if is_status(&e, 404) => {
                return Err(Error::new(Kind::Source, format!("there is no service {service}"))
                    .hint("`docker service ls` shows what there is."));
            }
            Err(e) => {
                let what = format!("service {service} cannot be looked at");
                return Err(if is_status(&e, 503) {
                    failed(what)(e).hint("Only a manager of the swarm knows its services. Run the agent there.")
                } else {
                    failed(what)(e)
                });
            }
        };
        let spec = found.spec.and_then(|s| s.task_template).and_then(|t| t.container_spec).unwrap_or_default();
        let files = spec.configs.unwrap_or_default().into_iter().filter_map(|c| {
            let target = c.file?.name?;
            // One without a slash is at the root.
            let target = if target.starts_with('/') { target } else { format!("/{target}") };
            Some((target, c.config_name.unwrap_or_default()))
        });
        Ok(files.collect())
    }
}
