//! The `host` source: what a fresh machine needs besides the data, without listing it by hand.
//!
//! Files in one tree, as the `files` source reads one: configuration, crontabs, units, certificates, the folders of
//! compose projects ([`places`] says which). Facts of the machine ([`crate::host::inventory`]) and of the Docker daemon
//! ([`crate::host::docker::deployment`]), which a machine that takes over compares with its own. Some files belong to
//! the one machine that they lie on ([`bound`]); they are in the tree, and are never put into another machine's place.

pub mod bound;
pub mod places;

use super::files::FilesSource;
use super::files::read::{View, read_as};
use super::files::{TREE, walk::Stat};
use super::volume::live;
use super::window::Window;
use super::{Delivered, Source};
use crate::error::{Error, Kind, Result};
use crate::host::docker::Docker;
use crate::host::docker::deployment::Deployment;
use crate::host::inventory::Inventory;
use crate::model::Name;
use crate::repository::writer::{BackupWriter, PendingArtifact};
use crate::telemetry::monitor::Monitor;
use async_trait::async_trait;
use bound::{Bound, Why};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The artifact with the specifications of containers and services.
pub const SPECIFICATIONS: &str = "docker";

/// The artifact of a config of the swarm.
pub fn config_artifact(name: &str) -> String {
    format!("config:{name}")
}

/// The configured preset.
#[derive(Clone, Debug, Default)]
pub struct HostSource {
    /// Folders and files of compose projects and stacks, besides those that containers tell.
    pub compose: Vec<PathBuf>,
    /// Further files and directories.
    pub extra: Vec<PathBuf>,
    /// Patterns of what to leave out.
    pub exclude: Vec<String>,
    /// Whether the contents of swarm configs are stored.
    pub swarm_configs: bool,
    /// Paths that are never read: our own state and repository.
    pub never: Vec<PathBuf>,
    /// Read every file again after about so many days; `None` never does.
    pub reread_days: Option<u32>,
}

/// What a fresh machine is held against. In the facts of the source under the key `host`, beside those of its tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostFacts {
    /// The machine.
    pub inventory: Inventory,
    /// What was deployed on its Docker daemon.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docker: Option<Deployment>,
    /// Paths of the tree that belong to this machine alone, or to its release.
    pub bound: Vec<Bound>,
}

impl HostFacts {
    /// Those of a source's facts; `None` when it is of another kind.
    pub fn of(facts: &serde_json::Value) -> Option<Self> {
        serde_json::from_value(facts.get("host")?.clone()).ok()
    }
}

#[async_trait]
impl Source for HostSource {
    fn kind(&self) -> &'static str {
        "host"
    }

    async fn read(
        &self,
        name: &Name,
        writer: &BackupWriter,
        monitor: Arc<dyn Monitor>,
        window: &Window,
    ) -> Result<Delivered> {
        window.ready().await?;
        let mut warnings = Vec::new();
        let docker = daemon(&mut warnings).await;
        let deployment = match &docker {
            Some(docker) => Some(Deployment::read_besides(docker, &self.never).await?),
            None => None,
        };
        let containers = match &docker {
            // Paths of a daemon elsewhere mean nothing here.
            Some(docker) if docker.is_here().await? => docker.all_containers().await?,
            _ => Vec::new(),
        };
        let inventory = Inventory::take().await;
        warnings.extend(inventory.unknown.iter().map(|what| format!("not known: {what}")));
        let places = places::find(self, deployment.as_ref(), &containers, &inventory.accounts)?;
        warnings.extend(places.warnings);
        let tree = FilesSource {
            paths: places.paths,
            exclude: self.exclude.iter().cloned().chain(places.exclude).collect(),
            never: self.never.clone(),
            one_file_system: false,
            reread_days: self.reread_days,
        };
        let mut artifacts = Vec::new();
        if let Some(docker) = &docker {
            let manager = deployment.as_ref().and_then(|d| d.swarm.as_ref()).is_some_and(|s| s.role == "manager");
            let all = docker.specifications(manager, &self.never).await?;
            let text = serde_json::to_vec_pretty(&all)
                .map_err(|e| Error::new(Kind::Internal, "specifications cannot be written").because(e))?;
            artifacts.push(value(writer, SPECIFICATIONS.to_owned(), "json", text).await?);
            if self.swarm_configs {
                for config in docker.config_contents().await? {
                    let artifact = config_artifact(&config.name);
                    artifacts.push(value(writer, artifact, "config", config.content).await?);
                }
            }
        }
        let (name, writer) = (name.clone(), writer.clone());
        let work = tokio::task::spawn_blocking(move || read_tree(&tree, &name, &writer, &*monitor));
        let (mut delivered, bound) = work.await.map_err(Error::panicked("reading"))??;
        delivered.artifacts.extend(artifacts);
        warnings.append(&mut delivered.warnings);
        if let Some(facts) = delivered.facts.as_object_mut() {
            facts.insert("host".to_owned(), serde_json::json!(HostFacts { inventory, docker: deployment, bound }));
        }
        Ok(Delivered { warnings, ..delivered })
    }
}

/// The daemon, where there is one. A machine without Docker is a machine like any other; a daemon that is installed and
/// does not answer is told.
async fn daemon(warnings: &mut Vec<String>) -> Option<Docker> {
    match Docker::connect().await {
        Ok(docker) => Some(docker),
        Err(e) => {
            let configured = std::env::var_os("DOCKER_HOST").is_some_and(|host| !host.is_empty());
            if configured || ["/usr/bin/dockerd", "/run/docker.sock"].iter().any(|p| Path::new(p).exists()) {
                warnings.push(format!("what Docker runs is not known: {}", e.one_line()));
            }
            None
        }
    }
}

fn read_tree(
    tree: &FilesSource,
    name: &Name,
    writer: &BackupWriter,
    monitor: &dyn Monitor,
) -> Result<(Delivered, Vec<Bound>)> {
    let bound: RefCell<BTreeMap<PathBuf, Why>> = RefCell::default();
    let look = |path: &[u8], stat: &Stat| {
        let at = Path::new(OsStr::from_bytes(path));
        if let Some((rule, why)) = bound::rule_of(at)
            // What lies in a directory goes with it.
            && rule == at
        {
            bound.borrow_mut().insert(at.to_owned(), why);
        }
        live::refuse(path, stat)
    };
    let delivered = read_as(tree, name, writer, monitor, &View { artifact: TREE, root: None, look: &look })?;
    let bound = bound.into_inner().into_iter().map(|(path, why)| Bound { path, why }).collect();
    Ok((delivered, bound))
}

async fn value(writer: &BackupWriter, name: String, media: &'static str, bytes: Vec<u8>) -> Result<PendingArtifact> {
    let mut artifact = writer.artifact(&name, media);
    let work = tokio::task::spawn_blocking(move || {
        artifact.value(&bytes)?;
        artifact.finish()
    });
    work.await.map_err(Error::panicked("writing"))?
}
