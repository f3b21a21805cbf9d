//! A look at a daemon: what is deployed there, gathered from what it tells of each thing.

use super::deployment::{
    Deployment, Kept, Network, Project, ProjectService, Service, Single, Subnet, Swarm, VolumeShape,
};
use super::find::{COMPOSE_PROJECT, Container};
use super::stilled::Stilled;
use super::{Docker, failed};
use crate::error::Result;
use bollard::models::{self, MountType};
use bollard::query_parameters::{ListNetworksOptions, ListSecretsOptions};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

/// Label of the stack of a swarm's service, network, volume, secret or config.
const STACK: &str = "com.docker.stack.namespace";
/// Label of the folder that a compose project was started in.
const FOLDER: &str = "com.docker.compose.project.working_dir";
/// Label of its files, separated by commas.
const FILES: &str = "com.docker.compose.project.config_files";
/// Label of the files with its variables.
const ENV_FILES: &str = "com.docker.compose.project.environment_file";

type Labels = Option<HashMap<String, String>>;

fn label<'a>(labels: &'a Labels, key: &str) -> Option<&'a String> {
    labels.as_ref()?.get(key)
}

fn made_by(labels: &Labels) -> Option<String> {
    label(labels, COMPOSE_PROJECT).or_else(|| label(labels, STACK)).cloned()
}

/// Names of networks that come with every daemon or swarm.
fn comes_along(name: &str) -> bool {
    ["bridge", "host", "none", "ingress", "docker_gwbridge"].contains(&name)
}

/// Docker gives 64 hex digits to a volume that nobody named; so it means nothing elsewhere.
fn is_nameless(volume: &str) -> bool {
    volume.len() == 64 && volume.bytes().all(|b| b.is_ascii_hexdigit())
}

impl Deployment {
    /// Looks at a daemon.
    ///
    /// # Errors
    /// When it does not answer as it should.
    pub async fn read(docker: &Docker) -> Result<Self> {
        Self::read_besides(docker, &[]).await
    }

    /// The same during a backup: containers that stand still for its moment, as journals below these state directories
    /// say, count as running, and services as they were.
    ///
    /// # Errors
    /// As [`Deployment::read`].
    pub async fn read_besides(docker: &Docker, state_dirs: &[PathBuf]) -> Result<Self> {
        let mut stilled = Stilled::read(state_dirs);
        let info = docker.api.info().await.map_err(failed("the daemon does not tell about itself"))?;
        let mut found = Deployment {
            version: info.server_version.clone().unwrap_or_default(),
            storage_driver: info.driver.clone().unwrap_or_default(),
            root_dir: info.docker_root_dir.clone().unwrap_or_default(),
            swarm: swarm(info.swarm.unwrap_or_default()),
            ..Deployment::default()
        };
        let networks =
            docker.api.list_networks(None::<ListNetworksOptions>).await.map_err(failed("networks cannot be listed"))?;
        let names: HashMap<String, String> =
            networks.iter().filter_map(|n| Some((n.id.clone()?, n.name.clone()?))).collect();
        found.networks = networks.into_iter().map(network).filter(|n| !comes_along(&n.name)).collect();
        found.networks.sort_by(|a, b| a.name.cmp(&b.name));
        for volume in docker.volumes().await?.into_iter().filter(|v| !is_nameless(&v.name)) {
            let labels = Some(volume.labels.into_iter().collect());
            let options = volume.options.into_keys().collect();
            found.volumes.push(VolumeShape {
                name: volume.name,
                driver: volume.driver,
                options,
                made_by: made_by(&labels),
            });
        }
        let containers = docker.all_containers().await?;
        // Once more: one may have been stopped in between, or put back.
        stilled.read_again(state_dirs);
        found.sort_containers(containers, &stilled.containers);
        if found.swarm.as_ref().is_some_and(|s| s.role == "manager") {
            let specs = docker.service_specs(state_dirs).await?;
            found.services = specs.into_iter().map(|spec| service(spec, &names)).collect();
            found.services.sort_by(|a, b| a.name.cmp(&b.name));
            let secrets = docker.api.list_secrets(None::<ListSecretsOptions>).await;
            let secrets = secrets.map_err(failed("secrets cannot be listed"))?;
            found.secrets = kept(secrets.into_iter().filter_map(|s| s.spec).map(|s| (s.name, s.labels)));
            found.configs = kept(docker.config_specs().await?.into_iter().map(|c| (c.name, c.labels)));
        }
        Ok(found)
    }

    /// Puts containers to their projects; those of services are known by these.
    fn sort_containers(&mut self, containers: Vec<Container>, stilled: &BTreeSet<String>) {
        let mut projects: BTreeMap<String, Project> = BTreeMap::new();
        for c in containers.into_iter().filter(|c| c.swarm_service().is_none()) {
            let volumes = c.mounts.iter().filter_map(|m| m.volume.clone()).filter(|v| !is_nameless(v)).collect();
            let networks: BTreeSet<String> = c.networks.iter().cloned().collect();
            let Some((project, service)) = c.compose() else {
                self.containers.push(Single {
                    networks,
                    volumes,
                    state: if stilled.contains(&c.name) { "running".to_owned() } else { c.state },
                    name: c.name,
                    image: c.image,
                    image_id: c.image_id,
                    restart: c.restart,
                });
                continue;
            };
            let of = projects.entry(project.to_owned()).or_default();
            of.name = project.to_owned();
            let paths = |key: &str| c.labels.get(key).into_iter().flat_map(|l| l.split(',')).map(PathBuf::from);
            of.folder = of.folder.take().or_else(|| paths(FOLDER).next().filter(|p| p.is_absolute()));
            for (all, key) in [(&mut of.files, FILES), (&mut of.env_files, ENV_FILES)] {
                all.extend(paths(key).filter(|p| p.is_absolute()));
                all.sort();
                all.dedup();
            }
            let at = of.services.iter().position(|s| s.name == service).unwrap_or_else(|| {
                of.services.push(ProjectService { name: service.to_owned(), ..ProjectService::default() });
                of.services.len() - 1
            });
            let s = &mut of.services[at];
            s.replicas += 1;
            s.running += u64::from(c.is_up() || stilled.contains(&c.name));
            s.networks.extend(networks);
            s.volumes.extend::<BTreeSet<String>>(volumes);
            (s.image, s.image_id) = (c.image, c.image_id);
        }
        self.projects = projects.into_values().collect();
        for project in &mut self.projects {
            project.services.sort_by(|a, b| a.name.cmp(&b.name));
        }
    }
}

fn swarm(info: models::SwarmInfo) -> Option<Swarm> {
    if info.local_node_state != Some(models::LocalNodeState::ACTIVE) {
        return None;
    }
    let role = if info.control_available == Some(true) { "manager" } else { "worker" };
    Some(Swarm {
        role: role.to_owned(),
        address: info.node_addr.unwrap_or_default(),
        nodes: info.nodes.unwrap_or(0),
        managers: info.managers.unwrap_or(0),
    })
}

fn network(n: models::Network) -> Network {
    let ranges = n.ipam.and_then(|i| i.config).unwrap_or_default();
    let mut subnets: Vec<Subnet> = ranges
        .into_iter()
        .filter_map(|r| Some(Subnet { subnet: r.subnet?, gateway: r.gateway, range: r.ip_range }))
        .collect();
    subnets.sort();
    Network {
        name: n.name.unwrap_or_default(),
        driver: n.driver.unwrap_or_default(),
        scope: n.scope.unwrap_or_default(),
        internal: n.internal.unwrap_or(false),
        attachable: n.attachable.unwrap_or(false),
        ipv6: n.enable_ipv6.unwrap_or(false),
        options: n.options.unwrap_or_default().into_iter().collect(),
        subnets,
        made_by: made_by(&n.labels),
    }
}

fn kept(all: impl Iterator<Item = (Option<String>, Labels)>) -> Vec<Kept> {
    let mut kept: Vec<Kept> =
        all.map(|(name, labels)| Kept { name: name.unwrap_or_default(), made_by: made_by(&labels) }).collect();
    kept.sort_by(|a, b| a.name.cmp(&b.name));
    kept
}

fn service(spec: models::ServiceSpec, networks: &HashMap<String, String>) -> Service {
    let task = spec.task_template.unwrap_or_default();
    let container = task.container_spec.unwrap_or_default();
    let mode = spec.mode.unwrap_or_default();
    let attached = task.networks.or(spec.networks).unwrap_or_default();
    let targets = attached.into_iter().filter_map(|n| n.target);
    let ports = spec.endpoint_spec.and_then(|e| e.ports).unwrap_or_default();
    let number = |n: Option<i64>| n.map(|n| n.to_string()).unwrap_or_default();
    let protocol = |p: &models::EndpointPortConfig| p.protocol.map_or("tcp".to_owned(), |p| p.to_string());
    let mounts = container.mounts.unwrap_or_default();
    let volumes = mounts.into_iter().filter(|m| m.typ == Some(MountType::VOLUME)).filter_map(|m| m.source);
    let variables = container.env.unwrap_or_default();
    Service {
        name: spec.name.unwrap_or_default(),
        stack: label(&spec.labels, STACK).cloned(),
        mode: match (&mode.replicated, &mode.global) {
            (Some(_), _) => "replicated",
            (None, Some(_)) => "global",
            (None, None) => "job",
        }
        .to_owned(),
        replicas: mode.replicated.map(|r| r.replicas.unwrap_or(1)),
        image: container.image.unwrap_or_default(),
        networks: targets.map(|id| networks.get(&id).cloned().unwrap_or(id)).collect(),
        secrets: container.secrets.unwrap_or_default().into_iter().filter_map(|s| s.secret_name).collect(),
        configs: container.configs.unwrap_or_default().into_iter().filter_map(|c| c.config_name).collect(),
        volumes: volumes.collect(),
        ports: ports
            .iter()
            .map(|p| format!("{}:{}/{}", number(p.published_port), number(p.target_port), protocol(p)))
            .collect(),
        constraints: task.placement.and_then(|p| p.constraints).unwrap_or_default(),
        variables: variables.iter().filter_map(|v| v.split('=').next()).map(str::to_owned).collect(),
    }
}
