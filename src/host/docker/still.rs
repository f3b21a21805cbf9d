//! Letting containers and services stand still, and go on.
//!
//! All of it can be repeated: what already is as wanted is left alone.

use super::{Docker, checked, failed, is_status};
use crate::error::{Error, Kind, Result};
use bollard::errors::Error as ApiError;
use bollard::models::{ContainerUpdateBody, RestartPolicy, RestartPolicyNameEnum};
use bollard::query_parameters::StopContainerOptions;
use std::time::{Duration, Instant};

/// How long the tasks of a service may take to end or to come up.
const TASKS: Duration = Duration::from_secs(120);
/// How long the daemon may take to learn that a container has ended.
const ENDING: Duration = Duration::from_secs(10);
/// How long one may take to end that was killed since its time was over.
const KILLED: Duration = Duration::from_secs(2);
/// Seconds that one is waited for that is never killed (`--stop-timeout -1`).
const WITHOUT_END: u64 = 60;
/// How often a container is told to stand still.
const PAUSES: u32 = 3;
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
        let mut tries = 0;
        loop {
            let e = match self.api.pause_container(checked(container)?).await {
                Ok(()) => return Ok(true),
                Err(e) if is_status(&e, 404) => return Ok(false),
                Err(e) => e,
            };
            tries += 1;
            match self.container(container).await? {
                Some(c) if c.state == "paused" => return Ok(true),
                // On a machine under load the kernel's freezer may give up before all processes stand.
                Some(c) if c.is_up() && tries < PAUSES => tokio::time::sleep(LOOK).await,
                Some(c) if c.is_up() => return Err(failed(format!("container {container} cannot be paused"))(e)),
                _ => return Ok(false),
            }
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

    /// Seconds that a container has to stop before it is killed. One that never is has a minute.
    pub async fn stop_seconds(&self, container: &str) -> Result<u64> {
        match self.api.inspect_container(checked(container)?, None).await {
            Ok(found) => {
                let given = found.config.and_then(|c| c.stop_timeout).unwrap_or(10);
                Ok(u64::try_from(given).unwrap_or(WITHOUT_END))
            }
            Err(e) if is_status(&e, 404) => Ok(0),
            Err(e) => Err(failed(format!("container {container} cannot be looked at"))(e)),
        }
    }

    /// Waits for the end of a stop that nobody waits for any more: the daemon goes on with it, and until then the
    /// container looks as if it ran on. One that runs still when its seconds are over was not told to stop.
    pub async fn settle(&self, container: &str, seconds: u64) -> Result<()> {
        let limit = Instant::now() + Duration::from_secs(seconds) + KILLED;
        while Instant::now() < limit && self.container(container).await?.is_some_and(|c| c.is_up()) {
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
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

    /// Sets the replicas of a service, with everything else as it is, and waits until that is so here: no task on
    /// this node for 0, at least one task somewhere for more. `false` when the service is gone.
    pub async fn scale(&self, service: &str, replicas: i64) -> Result<bool> {
        if !self.set_replicas(service, replicas).await? {
            return Ok(false);
        }
        let started = Instant::now();
        loop {
            let up = self.tasks_here(service).await?.len();
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

    /// Sets the restart policy of a container, written as on the command line: `no`, `on-failure:3`. `false` when it is
    /// gone.
    pub async fn set_restart(&self, container: &str, policy: &str) -> Result<bool> {
        let what = format!("the restart policy of container {container} cannot be set to {policy}");
        let (name, tries) = policy.split_once(':').unwrap_or((policy, "0"));
        let name = match name {
            "always" => RestartPolicyNameEnum::ALWAYS,
            "unless-stopped" => RestartPolicyNameEnum::UNLESS_STOPPED,
            "on-failure" => RestartPolicyNameEnum::ON_FAILURE,
            _ => RestartPolicyNameEnum::NO,
        };
        let policy = RestartPolicy { name: Some(name), maximum_retry_count: tries.parse().ok() };
        let started = Instant::now();
        loop {
            let body = ContainerUpdateBody { restart_policy: Some(policy.clone()), ..ContainerUpdateBody::default() };
            match self.api.update_container(checked(container)?, body).await {
                Ok(()) => return Ok(true),
                Err(e) if is_status(&e, 404) => return Ok(false),
                // It has just ended, and the daemon does not know yet.
                Err(e) if e.to_string().contains("stopped container") && started.elapsed() < ENDING => {
                    tokio::time::sleep(LOOK).await;
                }
                Err(e) => return Err(failed(what)(e)),
            }
        }
    }
}
