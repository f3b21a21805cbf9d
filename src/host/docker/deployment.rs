//! What is deployed on a daemon, as data: compose projects, swarm services, single containers, and what they need.
//!
//! It is recorded at a backup ([`super::survey`] looks), and on a fresh daemon compared with what is there
//! ([`super::absent`]). Names and shapes only: values of variables may be secrets, and are in
//! [`super::Docker::specifications`] alone, which is stored sealed.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

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
