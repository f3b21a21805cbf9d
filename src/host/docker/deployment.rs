//! What is deployed on a daemon: compose projects, swarm services, single containers, and what they need.
//!
//! It is recorded at a backup, and on a fresh daemon compared with what is there ([`super::absent`]). Names and shapes
//! only: values of variables may be secrets, and are in [`Docker::specifications`] alone, which is stored sealed.

use super::find::{COMPOSE_PROJECT, COMPOSE_SERVICE, Container};
use super::stilled::Stilled;
use super::{Docker, failed, is_status};
use crate::error::Result;
use bollard::models::{self, MountType};
use bollard::query_parameters::{ListConfigsOptions, ListNetworksOptions, ListSecretsOptions, ListServicesOptions};
use serde::{Deserialize, Serialize};
use serde_json::json;
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

/// Everything on a daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Deployment {
    /// Version of the daemon.
    pub version: String,
    /// Its storage driver.
    pub storage_driver: String,
    /// Where it keeps what is its own.
    pub root_dir: String,
    /// Its part in a swarm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swarm: Option<Swarm>,
    /// Compose projects.
    pub projects: Vec<Project>,
    /// Swarm services; known to a manager only.
    pub services: Vec<Service>,
    /// Containers of neither.
    pub containers: Vec<Single>,
    /// Networks, less those that every daemon has.
    pub networks: Vec<Network>,
    /// Volumes, less those without a name of their own.
    pub volumes: Vec<VolumeShape>,
    /// Secrets of the swarm. Their content cannot be read back.
    pub secrets: Vec<Kept>,
    /// Configs of the swarm.
    pub configs: Vec<Kept>,
}

/// A node's part in a swarm.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Swarm {
    /// `manager` or `worker`.
    pub role: String,
    /// Its address in the swarm.
    pub address: String,
    /// Nodes, as a manager knows them.
    pub nodes: i64,
    /// Managers among them.
    pub managers: i64,
}

/// A compose project.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Project {
    /// Name.
    pub name: String,
    /// The folder that it was started in.
    pub folder: Option<PathBuf>,
    /// Its files.
    pub files: Vec<PathBuf>,
    /// Files with variables that were named at its start; `.env` in the folder is not.
    pub env_files: Vec<PathBuf>,
    /// Its services, as far as they have containers.
    pub services: Vec<ProjectService>,
}

/// A service of a compose project.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProjectService {
    /// Name in the project.
    pub name: String,
    /// Containers that it has.
    pub replicas: u64,
    /// Of these so many run.
    pub running: u64,
    /// Image as it was asked for.
    pub image: String,
    /// Id of the image.
    pub image_id: String,
    /// Names of networks.
    pub networks: BTreeSet<String>,
    /// Names of volumes.
    pub volumes: BTreeSet<String>,
}

/// A container that belongs to no project and no service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Single {
    /// Name.
    pub name: String,
    /// State.
    pub state: String,
    /// Image as it was asked for.
    pub image: String,
    /// Id of the image.
    pub image_id: String,
    /// Restart policy.
    pub restart: String,
    /// Names of networks.
    pub networks: BTreeSet<String>,
    /// Names of volumes.
    pub volumes: BTreeSet<String>,
}

/// A service of a swarm.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Service {
    /// Name, with that of its stack in front.
    pub name: String,
    /// Stack that it was deployed with.
    pub stack: Option<String>,
    /// `replicated`, `global` or `job`.
    pub mode: String,
    /// How many, when that is said.
    pub replicas: Option<i64>,
    /// Image as it was asked for, mostly with a digest.
    pub image: String,
    /// Names of networks.
    pub networks: BTreeSet<String>,
    /// Names of secrets.
    pub secrets: BTreeSet<String>,
    /// Names of configs.
    pub configs: BTreeSet<String>,
    /// Names of volumes.
    pub volumes: BTreeSet<String>,
    /// Published ports, `8080:80/tcp`.
    pub ports: Vec<String>,
    /// Where its tasks may run.
    pub constraints: Vec<String>,
    /// Names of its variables.
    pub variables: BTreeSet<String>,
}

/// A network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// Name.
    pub name: String,
    /// Driver.
    pub driver: String,
    /// `local` or `swarm`.
    pub scope: String,
    /// Without a way out.
    pub internal: bool,
    /// Single containers may join, although it is one of the swarm.
    pub attachable: bool,
    /// With IPv6.
    pub ipv6: bool,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
    /// Address ranges.
    pub subnets: Vec<Subnet>,
    /// The compose project or stack that made it; none of an external one.
    pub made_by: Option<String>,
}

/// An address range.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Subnet {
    /// `10.0.9.0/24`.
    pub subnet: String,
    /// Gateway.
    pub gateway: Option<String>,
    /// What of it is given out.
    pub range: Option<String>,
}

/// A volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VolumeShape {
    /// Name.
    pub name: String,
    /// Driver.
    pub driver: String,
    /// Names of the driver's options. Their values may hold a password.
    pub options: BTreeSet<String>,
    /// The compose project or stack that made it; none of an external one.
    pub made_by: Option<String>,
}

/// A secret or config.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// Name.
    pub name: String,
    /// The stack that made it; none of an external one.
    pub made_by: Option<String>,
}

/// The content of a config of the swarm.
pub struct ConfigContent {
    /// Name.
    pub name: String,
    /// Content.
    pub content: Vec<u8>,
}

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

impl Docker {
    /// Services, those that stand still for a backup as they were asked for.
    async fn service_specs(&self, state_dirs: &[PathBuf]) -> Result<Vec<models::ServiceSpec>> {
        let mut stilled = Stilled::read(state_dirs);
        let listed = self.api.list_services(None::<ListServicesOptions>).await;
        stilled.read_again(state_dirs);
        let listed = listed.map_err(failed("services cannot be listed"))?.into_iter();
        let mut specs: Vec<_> = listed.filter_map(|s| s.spec).map(|spec| stilled.put_back(spec)).collect();
        specs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(specs)
    }

    async fn config_specs(&self) -> Result<Vec<models::ConfigSpec>> {
        match self.api.list_configs(None::<ListConfigsOptions>).await {
            Ok(configs) => Ok(configs.into_iter().filter_map(|c| c.spec).collect()),
            // Not a manager, or no swarm at all.
            Err(e) if is_status(&e, 503) => Ok(Vec::new()),
            Err(e) => Err(failed("configs cannot be listed")(e)),
        }
    }

    /// The contents of all configs of the swarm.
    pub async fn config_contents(&self) -> Result<Vec<ConfigContent>> {
        let mut contents = Vec::new();
        for spec in self.config_specs().await? {
            let name = spec.name.unwrap_or_default();
            let content = openssl::base64::decode_block(&spec.data.unwrap_or_default()).map_err(|e| {
                crate::error::Error::new(crate::error::Kind::Source, format!("config {name} cannot be read")).because(e)
            })?;
            contents.push(ConfigContent { name, content });
        }
        contents.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(contents)
    }

    /// How containers and services were asked for, whole, with the values of their variables: for somebody who has
    /// lost the files that they were deployed from. What changes from day to day is not in it.
    pub async fn specifications(&self, manager: bool, state_dirs: &[PathBuf]) -> Result<serde_json::Value> {
        let mut containers = Vec::new();
        for c in self.all_containers().await?.into_iter().filter(|c| c.swarm_service().is_none()) {
            let inspected = self.api.inspect_container(&c.id, None).await;
            let inspected = match inspected {
                Err(e) if is_status(&e, 404) => continue,
                other => other.map_err(failed(format!("container {} cannot be looked at", c.name)))?,
            };
            let endpoints = inspected.network_settings.and_then(|n| n.networks).unwrap_or_default();
            let endpoints: BTreeMap<String, serde_json::Value> = endpoints
                .into_iter()
                .map(|(name, e)| (name, json!({ "Aliases": e.aliases, "IPAMConfig": e.ipam_config })))
                .collect();
            containers.push(json!({
                "name": c.name, "image": c.image_id, "config": inspected.config, "host_config": inspected.host_config,
                "networks": c.networks, "endpoints": endpoints, "service": c.labels.get(COMPOSE_SERVICE),
            }));
        }
        let services = if manager { self.service_specs(state_dirs).await? } else { Vec::new() };
        let volumes: Vec<_> = self
            .volumes()
            .await?
            .into_iter()
            .map(|v| json!({ "name": v.name, "driver": v.driver, "options": v.options, "labels": v.labels }))
            .collect();
        Ok(json!({ "containers": containers, "services": services, "volumes": volumes }))
    }
}
