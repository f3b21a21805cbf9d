//! How containers and services are doing, and what they wrote.

use super::find::{COMPOSE_PROJECT, COMPOSE_SERVICE, SWARM_SERVICE};
use super::{Docker, checked, failed, is_status};
use crate::error::{Error, Kind, Result};
use bollard::container::LogOutput;
use bollard::errors::Error as ApiError;
use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::{
    InspectContainerOptions, ListContainersOptionsBuilder, ListServicesOptionsBuilder, LogsOptions, LogsOptionsBuilder,
};
use futures::{Stream, StreamExt};
use jiff::Timestamp;
use std::collections::HashMap;

/// A container at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its name.
    pub name: String,
    /// `running`, `restarting`, `exited`, …
    pub state: String,
    /// `starting`, `healthy` or `unhealthy`; `None` without a health check.
    pub health: Option<String>,
    /// What the last health check said.
    pub said: String,
    /// The exit status, when it has ended.
    pub exit: i64,
    /// When it was started.
    pub started: String,
    /// How often the daemon has started it again by itself.
    pub restarts: i64,
    /// Whether it is one that ends and is not started again.
    pub ends: bool,
}

/// What a reference stands for, at one moment.
#[derive(Clone, Debug)]
pub enum Watched {
    /// Containers; at least one.
    Containers(Vec<Seen>),
    /// The tasks of a swarm service: those that run, on all nodes, and how many should.
    Service(u64, u64),
}

fn seen(c: ContainerInspectResponse) -> Seen {
    let state = c.state.unwrap_or_default();
    let health = state.health.unwrap_or_default();
    let restart = c.host_config.and_then(|h| h.restart_policy).and_then(|p| p.name).map(|n| n.to_string());
    let said = health.log.unwrap_or_default().pop().and_then(|last| last.output).unwrap_or_default();
    Seen {
        name: c.name.unwrap_or_default().trim_start_matches('/').to_owned(),
        state: state.status.map(|s| s.to_string()).unwrap_or_default(),
        health: health.status.map(|s| s.to_string()).filter(|s| !s.is_empty() && s != "none"),
        said: said.trim().to_owned(),
        exit: state.exit_code.unwrap_or(0),
        started: state.started_at.unwrap_or_default(),
        restarts: c.restart_count.unwrap_or(0),
        ends: restart.is_none_or(|policy| policy.is_empty() || policy == "no" || policy == "on-failure"),
    }
}

fn none(reference: &str) -> Error {
    Error::new(Kind::NotFound, format!("there is no container or service {reference}"))
        .hint("Give the name of a container, `PROJECT/SERVICE` or `PROJECT/*` of compose, or a swarm service.")
}

impl Docker {
    /// Looks at a container by its name, at those of `PROJECT/SERVICE` or of the whole `PROJECT/*`, or at a swarm
    /// service.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is none.
    pub async fn watch(&self, reference: &str) -> Result<Watched> {
        if !reference.contains('/')
            && let Some(one) = self.inspected(reference).await?
        {
            let task = one.config.as_ref().and_then(|c| c.labels.as_ref()?.get(SWARM_SERVICE).cloned());
            return match task {
                // A task is replaced by another of another name; the service is what stays.
                Some(service) => self.watch_service(&service).await,
                None => Ok(Watched::Containers(vec![seen(one)])),
            };
        }
        if !reference.contains('/') {
            return self.watch_service(reference).await;
        }
        let containers = self.of_compose(reference).await?;
        match containers.is_empty() {
            true => Err(none(reference)),
            false => Ok(Watched::Containers(containers.into_iter().map(seen).collect())),
        }
    }

    async fn inspected(&self, name: &str) -> Result<Option<ContainerInspectResponse>> {
        match self.api.inspect_container(checked(name)?, None::<InspectContainerOptions>).await {
            // The API also takes the beginning of an id; a configuration means names.
            Ok(found) => {
                let own = found.name.as_deref().unwrap_or_default().trim_start_matches('/');
                Ok((own == name || found.id.as_deref() == Some(name)).then_some(found))
            }
            Err(e) if is_status(&e, 404) => Ok(None),
            Err(e) => Err(failed(format!("container {name} cannot be looked at"))(e)),
        }
    }

    /// The containers of `PROJECT/SERVICE`, or of all services for `*`.
    async fn of_compose(&self, reference: &str) -> Result<Vec<ContainerInspectResponse>> {
        let (project, service) = reference.split_once('/').ok_or_else(|| none(reference))?;
        let mut labels = vec![format!("{COMPOSE_PROJECT}={}", checked(project)?)];
        if service != "*" {
            labels.push(format!("{COMPOSE_SERVICE}={}", checked(service)?));
        }
        // `docker compose run` leaves containers that are nobody's service.
        labels.push("com.docker.compose.oneoff=False".to_owned());
        let listed = self.labelled(&labels).await?;
        if !listed.is_empty() {
            return Ok(listed);
        }
        // Who labels containers by hand seldom writes that one.
        labels.pop();
        self.labelled(&labels).await
    }

    async fn labelled(&self, labels: &[String]) -> Result<Vec<ContainerInspectResponse>> {
        let filters = HashMap::from([("label", labels.iter().map(String::as_str).collect())]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let listed = self.api.list_containers(Some(options)).await.map_err(failed("containers cannot be listed"))?;
        let mut found = Vec::new();
        for id in listed.into_iter().filter_map(|c| c.id) {
            found.extend(self.inspected(&id).await?);
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    async fn watch_service(&self, service: &str) -> Result<Watched> {
        let filters = HashMap::from([("name", vec![checked(service)?])]);
        let options = ListServicesOptionsBuilder::new().filters(&filters).status(true).build();
        let listed = match self.api.list_services(Some(options)).await {
            Ok(listed) => listed,
            // This node is in no swarm, or manages none: then there is no service of that name here.
            Err(e) if is_status(&e, 503) => return Err(none(service).because(e)),
            Err(e) => return Err(failed("services cannot be listed")(e)),
        };
        let own = |s: &bollard::models::Service| s.spec.as_ref().and_then(|s| s.name.as_deref()) == Some(service);
        let found = listed.into_iter().find(own).ok_or_else(|| none(service))?;
        let status = found.service_status.unwrap_or_default();
        Ok(Watched::Service(status.running_tasks.unwrap_or(0), status.desired_tasks.unwrap_or(0)))
    }

    /// Hands over the lines that a container, or those of `PROJECT/SERVICE`, wrote since a moment.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is none, [`Kind::Source`] when its log cannot be read.
    pub async fn container_log(
        &self,
        reference: &str,
        since: Timestamp,
        each: &mut (dyn FnMut(&str) + Send),
    ) -> Result<()> {
        let containers = match reference.contains('/') {
            true => self.of_compose(reference).await?,
            false => self.inspected(reference).await?.into_iter().collect(),
        };
        if containers.is_empty() {
            return Err(none(reference));
        }
        for id in containers.into_iter().filter_map(|c| c.id) {
            pass_on(self.api.logs(&id, Some(options(since))), reference, since, each).await?;
        }
        Ok(())
    }

    /// Hands over the lines that the tasks of a swarm service wrote since a moment, on all nodes.
    ///
    /// # Errors
    /// [`Kind::Source`] when its log cannot be read.
    pub async fn service_log(
        &self,
        service: &str,
        since: Timestamp,
        each: &mut (dyn FnMut(&str) + Send),
    ) -> Result<()> {
        pass_on(self.api.service_logs(checked(service)?, Some(options(since))), service, since, each).await
    }
}

/// Whole seconds are all that the API's crate takes, so each line comes with its time.
fn options(since: Timestamp) -> LogsOptions {
    let since = i32::try_from(since.as_second()).unwrap_or(0);
    LogsOptionsBuilder::new().stdout(true).stderr(true).timestamps(true).since(since).build()
}

async fn pass_on(
    frames: impl Stream<Item = std::result::Result<LogOutput, ApiError>>,
    of: &str,
    since: Timestamp,
    each: &mut (dyn FnMut(&str) + Send),
) -> Result<()> {
    let mut frames = std::pin::pin!(frames);
    while let Some(frame) = frames.next().await {
        let frame = frame.map_err(failed(format!("the log of {of} cannot be read")))?;
        for line in String::from_utf8_lossy(&frame.into_bytes()).lines() {
            match line.split_once(' ').map(|(at, text)| (at.parse::<Timestamp>(), text)) {
                Some((Ok(at), _)) if at < since => {}
                Some((Ok(_), text)) => each(text),
                // A blank line has nothing behind its time.
                _ => each(line),
            }
        }
    }
    Ok(())
}
