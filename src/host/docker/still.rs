//! Letting containers and services stand still, and go on.
//!
//! All of it can be repeated: what already is as wanted is left alone.

use super::find::Container;
use super::{Docker, checked, failed, is_status};
use crate::error::{Error, Kind, Result};
use bollard::errors::Error as ApiError;
use bollard::models::ServiceSpec;
use bollard::query_parameters::{
    InspectServiceOptions, ListContainersOptionsBuilder, StopContainerOptions, UpdateServiceOptionsBuilder,
};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long the tasks of a service may take to end or to come up.
const TASKS: Duration = Duration::from_secs(120);
/// A pause between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// 304 says that it is so already.
fn or_already(result: std::result::Result<(), ApiError>) -> std::result::Result<(), ApiError> {
    match result {
        Err(e) if is_status(&e, 304) => Ok(()),
        other => other,
    }
}

impl Docker {
    /// Pauses a container. `false` when it is gone, or not running.
    pub async fn pause(&self, container: &str) -> Result<bool> {
        match self.api.pause_container(checked(container)?).await {
            Ok(()) => Ok(true),
            Err(e) if is_status(&e, 404) => Ok(false),
            Err(e) => match self.container(container).await? {
                Some(c) if c.state == "paused" => Ok(true),
                Some(c) if c.is_up() => Err(failed(format!("container {container} cannot be paused"))(e)),
                _ => Ok(false),
            },
        }
    }

    /// Lets a paused container go on; one that is gone or not paused is left alone.
    pub async fn unpause(&self, container: &str) -> Result<()> {
        match self.container(container).await? {
            Some(c) if c.state == "paused" => self
                .api
                .unpause_container(checked(container)?)
                .await
                .map_err(failed(format!("container {container} cannot be unpaused"))),
            _ => Ok(()),
        }
    }

    /// Stops a container with the time that it was given for that. The status with which it ended, `None` when it
    /// was gone.
    pub async fn stop(&self, container: &str) -> Result<Option<i64>> {
        let what = || format!("container {container} cannot be stopped");
        let seconds = self.stop_seconds(container).await?;
        let patient = Docker { api: self.api.clone().with_timeout(Duration::from_secs(seconds + 60)) };
        match or_already(patient.api.stop_container(checked(container)?, None::<StopContainerOptions>).await) {
            Err(e) if is_status(&e, 404) => return Ok(None),
            other => other.map_err(failed(what()))?,
        }
        let inspected = self.api.inspect_container(checked(container)?, None).await;
        match inspected {
            Err(e) if is_status(&e, 404) => Ok(None),
            Err(e) => Err(failed(what())(e)),
            Ok(found) => {
                let state = found.state.unwrap_or_default();
                if state.running == Some(true) {
                    return Err(Error::new(Kind::Source, what()).because("it runs still, or again"));
                }
                Ok(Some(state.exit_code.unwrap_or(0)))
            }
        }
    }

    /// Seconds that a container has to stop before it is killed.
    pub async fn stop_seconds(&self, container: &str) -> Result<u64> {
        match self.api.inspect_container(checked(container)?, None).await {
            Ok(found) => {
                Ok(found.config.and_then(|c| c.stop_timeout).and_then(|t| u64::try_from(t).ok()).unwrap_or(10))
            }
            Err(e) if is_status(&e, 404) => Ok(0),
            Err(e) => Err(failed(format!("container {container} cannot be looked at"))(e)),
        }
    }

    /// Starts a container; `false` when it is gone.
    pub async fn start(&self, container: &str) -> Result<bool> {
        let options = None::<bollard::query_parameters::StartContainerOptions>;
        match or_already(self.api.start_container(checked(container)?, options).await) {
            Ok(()) => Ok(true),
            Err(e) if is_status(&e, 404) => Ok(false),
            Err(e) => Err(failed(format!("container {container} cannot be started"))(e)),
        }
    }

    async fn service_spec(&self, service: &str) -> Result<Option<(ServiceSpec, i32)>> {
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
                .hint("Only a manager of the swarm can scale services. Run the agent there, or use `while_reading = \"pause\"`.")),
            Err(e) => Err(failed(what())(e)),
        }
    }

    /// Replicas that a service is to have; `None` when it has no such number (global, jobs) or is gone.
    pub async fn replicas(&self, service: &str) -> Result<Option<i64>> {
        let spec = self.service_spec(service).await?.map(|(spec, _)| spec);
        Ok(spec.and_then(|s| s.mode).and_then(|m| m.replicated).map(|r| r.replicas.unwrap_or(1)))
    }

    /// Sets the replicas of a service, with everything else as it is, and waits until that is so here: no task on
    /// this node for 0, at least one task somewhere for more. `false` when the service is gone.
    pub async fn scale(&self, service: &str, replicas: i64) -> Result<bool> {
        let Some((mut spec, version)) = self.service_spec(service).await? else { return Ok(false) };
        let Some(mode) = spec.mode.as_mut().and_then(|m| m.replicated.as_mut()) else {
            return Err(Error::new(Kind::Source, format!("service {service} has no number of replicas")));
        };
        if mode.replicas != Some(replicas) {
            mode.replicas = Some(replicas);
            let options = UpdateServiceOptionsBuilder::new().version(version).build();
            self.api
                .update_service(service, spec, options, None)
                .await
                .map_err(failed(format!("service {service} cannot be scaled to {replicas}")))?;
        }
        let started = Instant::now();
        loop {
            let up = self.tasks_here(service).await?.iter().filter(|c| c.is_up()).count();
            // With a placement elsewhere none may come up here; that is the swarm's business.
            if (up == 0) == (replicas == 0) || (replicas > 0 && started.elapsed() > TASKS / 4) {
                return Ok(true);
            }
            if started.elapsed() > TASKS {
                return Err(Error::new(Kind::Source, format!("the tasks of service {service} do not end"))
                    .hint("Look at `docker service ps`."));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Containers of a service on this node.
    async fn tasks_here(&self, service: &str) -> Result<Vec<Container>> {
        let label = format!("{}={service}", super::find::SWARM_SERVICE);
        let filters = HashMap::from([("label", vec![label.as_str()])]);
        let options = ListContainersOptionsBuilder::new().filters(&filters).build();
        let listed = self.api.list_containers(Some(options)).await.map_err(failed("containers cannot be listed"))?;
        let mut found = Vec::new();
        for id in listed.into_iter().filter_map(|c| c.id) {
            found.extend(self.container(&id).await?);
        }
        Ok(found)
    }
}
