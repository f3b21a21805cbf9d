//! How containers and services are doing, and what they wrote.

use super::find::{COMPOSE_PROJECT, COMPOSE_SERVICE, Container};
use super::{Docker, checked, failed, is_status};
use crate::error::{Error, Kind, Result};
use bollard::container::LogOutput;
use bollard::errors::Error as ApiError;
use bollard::query_parameters::{ListServicesOptionsBuilder, LogsOptions, LogsOptionsBuilder};
use futures::{Stream, StreamExt};
use jiff::Timestamp;
use std::collections::HashMap;

/// What a reference stands for, at one moment.
#[derive(Clone, Debug)]
pub enum Watched {
    /// Containers; at least one.
    Containers(Vec<Container>),
    /// The tasks of a swarm service: those that run, on all nodes, and how many should.
    Service(u64, u64),
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
        if reference.contains('/') {
            return match self.of_compose(reference).await? {
                none_of_it if none_of_it.is_empty() => Err(none(reference)),
                containers => Ok(Watched::Containers(containers)),
            };
        }
        match self.named(reference).await? {
            // A task is replaced by another of another name; the service is what stays.
            Some(task) if task.swarm_service().is_some() => {
                self.watch_service(task.swarm_service().unwrap_or_default()).await
            }
            Some(one) => Ok(Watched::Containers(vec![one])),
            None => self.watch_service(reference).await,
        }
    }

    /// A container of this name. The API also takes the beginning of an id; a configuration means names.
    async fn named(&self, name: &str) -> Result<Option<Container>> {
        Ok(self.container(name).await?.filter(|c| c.name == name || c.id == name))
    }

    /// The containers of `PROJECT/SERVICE`, or of all services for `*`.
    async fn of_compose(&self, reference: &str) -> Result<Vec<Container>> {
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
            false => self.named(reference).await?.into_iter().collect(),
        };
        if containers.is_empty() {
            return Err(none(reference));
        }
        for container in containers {
            pass_on(self.api.logs(&container.id, Some(options(since))), reference, since, each).await?;
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
