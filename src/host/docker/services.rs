//! Swarm services: which there are, how many tasks each has, and having none for a while.

use super::find::{Container, SWARM_SERVICE};
use super::{Docker, checked, failed, is_status};
use crate::error::{Error, Kind, Result};
use bollard::models::{ServiceSpec, TaskState};
use bollard::query_parameters::{
    InspectServiceOptions, ListServicesOptions, ListTasksOptionsBuilder, UpdateServiceOptionsBuilder,
};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// Label of the stack of a service.
pub const STACK: &str = "com.docker.stack.namespace";
/// A placement that no node fulfils: no node has this id.
const NOWHERE: &str = "node.id==backstay-hold";
/// How often an update is tried again when somebody else has updated the service meanwhile.
const TRIES: usize = 5;

/// How many tasks a service is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// So many.
    Replicated(i64),
    /// One on each node that its placement allows.
    Global,
    /// Tasks that run once and end.
    Job,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its tasks.
    pub mode: Mode,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether [`Docker::banish`] keeps it from every node.
    pub banished: bool,
    /// How long a task may take to end before it is killed.
    pub grace: Duration,
}

impl Service {
    /// The stack that it was deployed with.
    pub fn stack(&self) -> Option<&str> {
        self.labels.get(STACK).map(String::as_str)
    }
}

/// A task of a service, on any node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// `running`, `starting`, `failed`, `shutdown`.
    pub state: String,
    /// What it is to be.
    pub desired: String,
    /// Whether it has ended for good.
    pub ended: bool,
    /// When it came into this state, by its node's clock.
    pub since: Option<jiff::Timestamp>,
    /// Why it failed.
    pub error: String,
    /// The node's id.
    pub node: String,
    /// Its container, once it has one.
    pub container: Option<String>,
}

fn mode(spec: &ServiceSpec) -> Mode {
    match &spec.mode {
        Some(m) if m.replicated_job.is_some() || m.global_job.is_some() => Mode::Job,
        Some(m) if m.global.is_some() => Mode::Global,
        // The API leaves out what is the default.
        Some(m) => Mode::Replicated(m.replicated.as_ref().and_then(|r| r.replicas).unwrap_or(1)),
        None => Mode::Replicated(1),
    }
}

fn constraints(spec: &ServiceSpec) -> &[String] {
    let placement = spec.task_template.as_ref().and_then(|t| t.placement.as_ref());
    placement.and_then(|p| p.constraints.as_deref()).unwrap_or_default()
}

fn service(spec: ServiceSpec) -> Service {
    let grace = spec.task_template.as_ref().and_then(|t| t.container_spec.as_ref()).and_then(|c| c.stop_grace_period);
    Service {
        mode: mode(&spec),
        banished: constraints(&spec).iter().any(|c| c == NOWHERE),
        grace: grace.and_then(|n| u64::try_from(n).ok()).map_or(Duration::from_secs(10), Duration::from_nanos),
        name: spec.name.unwrap_or_default(),
        labels: spec.labels.unwrap_or_default().into_iter().collect(),
    }
}

impl Docker {
    /// A service by its name, `None` when there is none.
    pub async fn service(&self, name: &str) -> Result<Option<Service>> {
        // The API also takes ids.
        Ok(self.service_spec(name).await?.map(|(spec, _)| service(spec)).filter(|s| s.name == name))
    }

    /// All services of the swarm; none when there is no swarm, or when this node is not a manager of it.
    pub async fn services(&self) -> Result<Vec<Service>> {
        match self.api.list_services(None::<ListServicesOptions>).await {
            Ok(listed) => {
                let mut found: Vec<Service> = listed.into_iter().filter_map(|s| s.spec).map(service).collect();
                found.sort_by(|a, b| a.name.cmp(&b.name));
                Ok(found)
            }
            Err(e) if is_status(&e, 503) => Ok(Vec::new()),
            Err(e) => Err(failed("services cannot be listed")(e)),
        }
    }

    /// The specification of a service and its version.
    pub(super) async fn service_spec(&self, service: &str) -> Result<Option<(ServiceSpec, i32)>> {
        let what = || format!("service {service} cannot be looked at");
        match self.api.inspect_service(checked(service)?, None::<InspectServiceOptions>).await {
            Ok(found) => {
                let version = found.version.and_then(|v| v.index).and_then(|v| i32::try_from(v).ok());
                match (found.spec, version) {
                    (Some(spec), Some(version)) => Ok(Some((spec, version))),
                    _ => Err(Error::new(Kind::Source, what()).because("its specification is missing")),
                }
            }
            Err(e) if is_status(&e, 404) => Ok(None),
            Err(e) if is_status(&e, 503) => Err(failed(what())(e)
                .hint("Only a manager of the swarm knows its services and scales them. Run the agent there; for a backup, `while_reading = \"pause\"` needs none.")),
            Err(e) => Err(failed(what())(e)),
        }
    }

    /// Replicas that a service is to have; `None` when it has no such number (global, jobs) or is gone.
    pub async fn replicas(&self, service: &str) -> Result<Option<i64>> {
        let spec = self.service_spec(service).await?.map(|(spec, _)| spec);
        Ok(spec.and_then(|s| s.mode).and_then(|m| m.replicated).map(|r| r.replicas.unwrap_or(1)))
    }

    /// Changes the specification of a service, with everything else as it is. `false` when the service is gone. The
    /// change tells whether there was anything to change.
    async fn edit(&self, service: &str, what: &str, change: impl Fn(&mut ServiceSpec) -> Result<bool>) -> Result<bool> {
        let mut tries = 0;
        loop {
            let Some((mut spec, version)) = self.service_spec(service).await? else { return Ok(false) };
            if !change(&mut spec)? {
                return Ok(true);
            }
            let options = UpdateServiceOptionsBuilder::new().version(version).build();
            match self.api.update_service(service, spec, options, None).await {
                Ok(_) => return Ok(true),
                // The version that was looked at is not the newest any more: somebody else was quicker.
                Err(e) if e.to_string().contains("out of sequence") && tries < TRIES => tries += 1,
                Err(e) => return Err(failed(format!("service {service} cannot be {what}"))(e)),
            }
        }
    }

    /// Sets the replicas of a service and does not wait. `false` when the service is gone.
    ///
    /// # Errors
    /// When it has no number of replicas, or the daemon refuses.
    pub async fn set_replicas(&self, service: &str, replicas: i64) -> Result<bool> {
        self.edit(service, &format!("scaled to {replicas}"), |spec| {
            let Some(mode) = spec.mode.as_mut().and_then(|m| m.replicated.as_mut()) else {
                return Err(Error::new(Kind::Source, format!("service {service} has no number of replicas")));
            };
            Ok(mode.replicas.replace(replicas) != Some(replicas))
        })
        .await
    }

    /// Keeps a service from every node, or lets it be placed again: what scaling is to a service that runs once on each
    /// node. Does not wait. `false` when the service is gone.
    ///
    /// # Errors
    /// When the daemon refuses.
    pub async fn banish(&self, service: &str, away: bool) -> Result<bool> {
        let what = if away { "kept from all nodes" } else { "let back to its nodes" };
        self.edit(service, what, |spec| {
            let placement = spec.task_template.get_or_insert_default().placement.get_or_insert_default();
            let constraints = placement.constraints.get_or_insert_default();
            let before = constraints.len();
            constraints.retain(|c| c != NOWHERE);
            if away {
                constraints.push(NOWHERE.to_owned());
            }
            Ok(constraints.len() != before)
        })
        .await
    }

    /// The command with which somebody lets a banished service back.
    pub fn recall_by_hand(service: &str) -> String {
        format!("docker service update --constraint-rm '{NOWHERE}' {service}")
    }

    /// The command with which somebody banishes a service.
    pub fn banish_by_hand(service: &str) -> String {
        format!("docker service update --constraint-add '{NOWHERE}' {service}")
    }

    /// The tasks of a service on all nodes, those that have ended too; the newest last.
    pub async fn tasks(&self, service: &str) -> Result<Vec<Task>> {
        let filters = HashMap::from([("service", vec![checked(service)?])]);
        let options = ListTasksOptionsBuilder::new().filters(&filters).build();
        let mut listed = match self.api.list_tasks(Some(options)).await {
            // A service that is gone has none.
            Err(e) if is_status(&e, 404) => return Ok(Vec::new()),
            other => other.map_err(failed(format!("the tasks of service {service} cannot be listed")))?,
        };
        listed.sort_by_key(|t| t.version.as_ref().and_then(|v| v.index));
        Ok(listed
            .into_iter()
            .map(|t| {
                let status = t.status.unwrap_or_default();
                let ended = status.state.is_some_and(|s| s >= TaskState::COMPLETE);
                Task {
                    state: status.state.map(|s| s.to_string()).unwrap_or_default(),
                    desired: t.desired_state.map(|s| s.to_string()).unwrap_or_default(),
                    ended,
                    since: status.timestamp.and_then(|t| t.to_string().parse().ok()),
                    error: status.err.unwrap_or_default(),
                    node: t.node_id.unwrap_or_default(),
                    container: status.container_status.and_then(|c| c.container_id).filter(|c| !c.is_empty()),
                }
            })
            .collect())
    }

    /// Containers of a service that run on this node.
    pub async fn tasks_here(&self, service: &str) -> Result<Vec<Container>> {
        let mut found = self.containers("label", &format!("{SWARM_SERVICE}={}", checked(service)?)).await?;
        found.retain(Container::is_up);
        Ok(found)
    }
}
