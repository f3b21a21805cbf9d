//! Which container is meant, and what there is to know about it.

use super::{Docker, checked, failed, is_status};
use crate::error::{Error, Kind, Result};
use bollard::models::{ContainerInspectResponse, MountPoint};
use bollard::query_parameters::{InspectContainerOptions, ListContainersOptionsBuilder};
use std::collections::{BTreeMap, HashMap};

/// Lines that a container which has ended said last, as they are told.
const LAST_WORDS: usize = 3;

/// Label of the compose project of a container or volume.
pub const COMPOSE_PROJECT: &str = "com.docker.compose.project";
/// Label of the compose service of a container.
pub const COMPOSE_SERVICE: &str = "com.docker.compose.service";
/// Label of the swarm service of a container.
pub const SWARM_SERVICE: &str = "com.docker.swarm.service.name";

/// A mount of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mount {
    /// `volume`, `bind`, `tmpfs`.
    pub kind: String,
    /// The volume's name, when it is one.
    pub volume: Option<String>,
    /// Path on the daemon's machine.
    pub source: String,
    /// Path in the container.
    pub destination: String,
    /// Whether the container may write there.
    pub writable: bool,
}

/// A container, as far as we need to know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// Its id, which does not survive a re-creation.
    pub id: String,
    /// Its name, without the slash.
    pub name: String,
    /// `created`, `running`, `paused`, `restarting`, `removing`, `exited` or `dead`.
    pub state: String,
    /// The image as it was asked for.
    pub image: String,
    /// The image's id.
    pub image_id: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its mounts.
    pub mounts: Vec<Mount>,
    /// Names of its networks.
    pub networks: Vec<String>,
    /// Restart policy, as on the command line: `no`, `always`, `unless-stopped`, `on-failure` or `on-failure:3`.
    pub restart: String,
    /// What its health check says: `starting`, `healthy`, `unhealthy`; `None` when it has none, or does not run.
    pub health: Option<String>,
    /// The last words of its health check.
    pub said: String,
    /// The status with which it ended.
    pub exit_code: i64,
    /// How often Docker has started it again by itself.
    pub restarts: i64,
    /// Whether it is removed when it ends.
    pub auto_remove: bool,
    /// When it was made, in nanoseconds.
    pub created: i128,
    /// When it was started.
    pub started: String,
}

impl Container {
    /// Whether it runs (a paused one does, and answers nothing).
    pub fn is_up(&self) -> bool {
        matches!(self.state.as_str(), "running" | "paused" | "restarting")
    }

    /// Whether it is one that ends well and is not started again then.
    pub fn is_job(&self) -> bool {
        self.restart.is_empty() || self.restart == "no" || self.restart.starts_with("on-failure")
    }

    /// The swarm service that it is a task of.
    pub fn swarm_service(&self) -> Option<&str> {
        self.labels.get(SWARM_SERVICE).map(String::as_str)
    }

    /// Compose project and service.
    pub fn compose(&self) -> Option<(&str, &str)> {
        Some((self.labels.get(COMPOSE_PROJECT)?, self.labels.get(COMPOSE_SERVICE)?))
    }

    /// For messages: `container edms_db_1`, `service hosting_app`.
    pub fn label(&self) -> String {
        match self.swarm_service() {
            Some(service) => format!("service {service}"),
            None => format!("container {}", self.name),
        }
    }
}

fn mount(m: MountPoint) -> Mount {
    let kind = m.typ.unwrap_or_default();
    Mount {
        volume: if kind == "volume" { m.name } else { None },
        kind,
        source: m.source.unwrap_or_default(),
        destination: m.destination.unwrap_or_default(),
        writable: m.rw.unwrap_or(true),
    }
}

fn container(c: ContainerInspectResponse) -> Container {
    let config = c.config.unwrap_or_default();
    let host = c.host_config.unwrap_or_default();
    let restart = host.restart_policy.and_then(|p| {
        let name = p.name.map(|n| n.to_string()).filter(|n| !n.is_empty())?;
        let tries = p.maximum_retry_count.filter(|n| *n > 0);
        Some(tries.map_or(name.clone(), |n| format!("{name}:{n}")))
    });
    let state = c.state.unwrap_or_default();
    let check = state.health.unwrap_or_default();
    let health = check.status.map(|s| s.to_string());
    let said = check.log.unwrap_or_default().pop().and_then(|last| last.output).unwrap_or_default();
    let mut networks: Vec<String> =
        c.network_settings.and_then(|n| n.networks).unwrap_or_default().into_keys().collect();
    networks.sort();
    // The daemon tells them in any order, and another one each time.
    let mut mounts: Vec<Mount> = c.mounts.unwrap_or_default().into_iter().map(mount).collect();
    mounts.sort_by(|a, b| a.destination.cmp(&b.destination));
    let created = c.created.and_then(|t| t.to_string().parse::<jiff::Timestamp>().ok());
    let created = created.map_or(0, jiff::Timestamp::as_nanosecond);
    Container {
        id: c.id.unwrap_or_default(),
        name: c.name.unwrap_or_default().trim_start_matches('/').to_owned(),
        state: state.status.map(|s| s.to_string()).unwrap_or_default(),
        health: health.filter(|h| !matches!(h.as_str(), "" | "none")),
        said: said.trim().to_owned(),
        started: state.started_at.unwrap_or_default(),
        exit_code: state.exit_code.unwrap_or_default(),
        restarts: c.restart_count.unwrap_or_default(),
        image: config.image.unwrap_or_default(),
        image_id: c.image.unwrap_or_default(),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        mounts,
        networks,
        restart: restart.unwrap_or_else(|| "no".to_owned()),
        auto_remove: host.auto_remove.unwrap_or(false),
        created,
    }
}

impl Docker {
    /// A container by name or id, `None` when there is none.
    ///
    /// # Errors
    /// When the daemon does not answer as it should.
    pub async fn container(&self, name: &str) -> Result<Option<Container>> {
        let options = None::<InspectContainerOptions>;
        match self.api.inspect_container(checked(name)?, options).await {
            Ok(found) => Ok(Some(container(found))),
            Err(e) if is_status(&e, 404) => Ok(None),
            Err(e) => Err(failed(format!("container {name} cannot be looked at"))(e)),
        }
    }

    /// All containers, stopped ones too, by name.
    pub async fn all_containers(&self) -> Result<Vec<Container>> {
        self.listed(&HashMap::new()).await
    }

    /// Those that bear all of these labels, `KEY=VALUE`, stopped ones too, by name.
    pub(super) async fn labelled(&self, labels: &[String]) -> Result<Vec<Container>> {
        self.listed(&HashMap::from([("label", labels.iter().map(String::as_str).collect())])).await
    }

    /// Containers, stopped ones too, that a filter of the API lets through: `label`, `volume`, `name`.
    pub async fn containers(&self, filter: &str, value: &str) -> Result<Vec<Container>> {
        self.listed(&HashMap::from([(filter, vec![value])])).await
    }

    async fn listed(&self, filters: &HashMap<&str, Vec<&str>>) -> Result<Vec<Container>> {
        let options = ListContainersOptionsBuilder::new().all(true).filters(filters).build();
        let listed = self.api.list_containers(Some(options)).await.map_err(failed("containers cannot be listed"))?;
        let mut found = Vec::new();
        for id in listed.into_iter().filter_map(|c| c.id) {
            // One that is gone since it was listed is none of them any more.
            found.extend(self.container(&id).await?);
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// Everything that may be meant by a container's name, by `PROJECT/SERVICE` of compose, or by the name of a swarm
    /// service; stopped ones too.
    async fn candidates(&self, reference: &str) -> Result<Vec<Container>> {
        match reference.split_once('/') {
            Some((project, service)) => {
                let (project, service) = (checked(project)?, checked(service)?);
                let mut of_project = self.containers("label", &format!("{COMPOSE_PROJECT}={project}")).await?;
                of_project.retain(|c| c.labels.get(COMPOSE_SERVICE).is_some_and(|s| s == service));
                Ok(of_project)
            }
            None => match self.container(reference).await? {
                // The API also takes the beginning of an id; a configuration means names.
                Some(found) if found.name == reference || found.id == reference => Ok(vec![found]),
                _ => self.containers("label", &format!("{SWARM_SERVICE}={reference}")).await,
            },
        }
    }

    /// The containers that are meant by such a name and run here: none, one, or the tasks of a service.
    ///
    /// # Errors
    /// When the daemon does not answer as it should.
    pub async fn running(&self, reference: &str) -> Result<Vec<Container>> {
        Ok(self.candidates(reference).await?.into_iter().filter(Container::is_up).collect())
    }

    /// The running container that is meant by a container's name, by `PROJECT/SERVICE` of compose, or by the name
    /// of a swarm service.
    ///
    /// # Errors
    /// [`Kind::Source`] when there is none, when it does not run, when there are several, or when the task of the
    /// service runs on another node, which is then named.
    pub async fn find(&self, reference: &str) -> Result<Container> {
        let candidates = self.candidates(reference).await?;
        let (mut up, down): (Vec<Container>, Vec<Container>) = candidates.into_iter().partition(Container::is_up);
        if up.len() > 1 {
            let names: Vec<&str> = up.iter().map(|c| c.name.as_str()).collect();
            return Err(Error::new(Kind::Source, format!("{reference} is several running containers"))
                .because(names.join(", "))
                .hint("Name one of them."));
        }
        match up.pop() {
            Some(found) if found.state == "paused" => {
                Err(Error::new(Kind::Source, format!("container {} is paused", found.name))
                    .hint(format!("`docker unpause {}`, then try again.", found.name)))
            }
            Some(found) => Ok(found),
            None => Err(self.why_none(reference, &down).await),
        }
    }

    async fn why_none(&self, reference: &str, down: &[Container]) -> Error {
        let elsewhere = self.elsewhere(reference).await.unwrap_or_default();
        if let Some(node) = elsewhere.first() {
            return Error::new(Kind::Source, format!("service {reference} runs on another node"))
                .at(node.clone())
                .hint(format!(
                    "Run the agent on node {node}, or pin the service to this one with a placement constraint."
                ));
        }
        match down.first() {
            Some(c) => {
                let error = Error::new(Kind::Source, format!("container {} does not run: it is {}", c.name, c.state))
                    .hint(format!("`docker start {}`, then try again.", c.name));
                if c.state != "exited" {
                    return error;
                }
                let said = self.last_lines(&c.name).await;
                let mut last: Vec<&str> = said.lines().rev().take(LAST_WORDS).collect();
                last.reverse();
                error.because(format!("it ended with status {}, and said last: {}", c.exit_code, last.join(" | ")))
            }
            None => Error::new(Kind::Source, format!("there is no container or service {reference}")).hint(
                "Give the name of a container (`docker ps -a`), `PROJECT/SERVICE` of compose, or a swarm service.",
            ),
        }
    }
}
