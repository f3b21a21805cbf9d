//! The `volume` source: Docker volumes, each as a tar of its own.
//!
//! [`choose`] says which volumes are meant and who uses them. A volume of the local driver is read where it lies, by
//! what reads the `files` source ([`direct`]); any other through the daemon ([`archive`]), which loses something.
//! [`live`] knows data that is torn when it is read while its server runs.

pub mod archive;
pub mod choose;
pub mod direct;
pub mod live;

use super::window::{Hold, How, Who, Window};
use super::{Delivered, Source};
use crate::error::{Error, Kind, Result};
use crate::host::docker::Docker;
use crate::host::docker::find::Container;
use crate::host::docker::volumes::{Volume, mount_of};
use crate::model::Name;
use crate::repository::writer::BackupWriter;
use crate::telemetry::monitor::Monitor;
use async_trait::async_trait;
use choose::{Chosen, Which};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// The artifact of a volume.
pub fn artifact_name(volume: &str) -> String {
    format!("volume:{volume}")
}

/// What the users of a volume do while it is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhileReading {
    /// They go on; files that change meanwhile are told.
    #[default]
    Run,
    /// They are frozen.
    Pause,
    /// They are stopped.
    Stop,
}

/// Configured volumes and how to read them.
#[derive(Clone, Debug)]
pub struct VolumeSource {
    /// Which volumes.
    pub which: Which,
    /// What their users do meanwhile.
    pub while_reading: WhileReading,
    /// Patterns of what to leave out; a leading slash is the root of the volume.
    pub exclude: Vec<String>,
    /// Paths that are never read: our own state and repository.
    pub never: Vec<PathBuf>,
    /// Read every file again after about so many days; `None` never does.
    pub reread_days: Option<u32>,
}

/// How a volume was read. What a restore needs to make it anew is here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeFacts {
    /// Driver.
    pub driver: String,
    /// Options with which it was made.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Compose project that made it.
    #[serde(default)]
    pub compose_project: Option<String>,
    /// `direct` or `archive`.
    pub way: String,
    /// What that way does not carry.
    #[serde(default)]
    pub loses: Vec<String>,
    /// Who used it.
    #[serde(default)]
    pub used_by: Vec<User>,
    /// What was read, as the `files` source says it.
    #[serde(flatten)]
    pub tree: serde_json::Map<String, serde_json::Value>,
}

/// A container that used a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Name.
    pub container: String,
    /// `PROJECT/SERVICE` of compose, or the swarm service.
    pub service: Option<String>,
    /// Image as it was asked for.
    pub image: String,
    /// Id of the image.
    pub image_id: String,
    /// State at the time.
    pub state: String,
    /// Where the volume is in it.
    pub destination: String,
    /// Whether it may write.
    pub writable: bool,
}

impl User {
    fn of(container: &Container, volume: &Volume) -> Self {
        let mount = mount_of(container, volume).cloned().unwrap_or_default();
        let compose = container.compose().map(|(project, service)| format!("{project}/{service}"));
        User {
            container: container.name.clone(),
            service: container.swarm_service().map(str::to_owned).or(compose),
            image: container.image.clone(),
            image_id: container.image_id.clone(),
            state: container.state.clone(),
            destination: mount.destination,
            writable: mount.writable,
        }
    }
}

#[async_trait]
impl Source for VolumeSource {
    fn kind(&self) -> &'static str {
        "volume"
    }

    async fn holds(&self) -> Result<Vec<Hold>> {
        let how = match self.while_reading {
            WhileReading::Run => return Ok(Vec::new()),
            WhileReading::Pause => How::Pause,
            WhileReading::Stop => How::Stop,
        };
        let docker = Docker::connect().await?;
        let mut holds = Vec::new();
        for chosen in self.which.choose(&docker).await? {
            for user in chosen.users.iter().filter(|u| u.is_up()) {
                let who = match user.swarm_service() {
                    // A task that is stopped by hand comes back as another one.
                    Some(service) if how == How::Stop => Who::Service(service.to_owned()),
                    _ => Who::Container(user.name.clone()),
                };
                holds.push(Hold { who, how });
            }
        }
        Ok(holds)
    }

    async fn read(
        &self,
        name: &Name,
        writer: &BackupWriter,
        monitor: Arc<dyn Monitor>,
        window: &Window,
    ) -> Result<Delivered> {
        window.ready().await?;
        let docker = Docker::connect().await?;
        let here = docker.is_here().await?;
        let mut all = Delivered { artifacts: Vec::new(), facts: serde_json::Value::Null, warnings: Vec::new() };
        let mut facts = BTreeMap::new();
        let chosen = self.which.choose(&docker).await?;
        let several = chosen.len() > 1;
        for chosen in chosen {
            let volume = chosen.volume.clone();
            let (delivered, way) = self
                .one(&docker, here, &chosen, name, writer, monitor.clone())
                .await
                .map_err(|e| e.at(format!("volume {}", volume.name)))?;
            still_there(&docker, &volume).await?;
            self.nobody_began(&docker, &chosen).await?;
            all.artifacts.extend(delivered.artifacts);
            let prefix = if several { format!("volume {}: ", volume.name) } else { String::new() };
            all.warnings.extend(delivered.warnings.into_iter().map(|w| format!("{prefix}{w}")));
            facts.insert(volume.name.clone(), chosen.facts(way, delivered.facts));
        }
        // Who used them is looked at once more before they go on.
        window.done();
        all.facts = serde_json::json!({ "while_reading": self.while_reading, "volumes": facts });
        Ok(all)
    }
}

/// A volume that is removed under the reader comes out as files that vanished. The daemon answers only when a removal
/// is over.
async fn still_there(docker: &Docker, volume: &Volume) -> Result<()> {
    if docker.volume(&volume.name).await?.is_some() {
        return Ok(());
    }
    Err(Error::new(Kind::Source, "the volume was removed while it was read")
        .at(format!("volume {}", volume.name))
        .hint("Run the backup again when nobody removes volumes."))
}

impl VolumeSource {
    async fn one(
        &self,
        docker: &Docker,
        here: bool,
        chosen: &Chosen,
        name: &Name,
        writer: &BackupWriter,
        monitor: Arc<dyn Monitor>,
    ) -> Result<(Delivered, &'static str)> {
        let live = chosen.users.iter().any(|u| {
            matches!(u.state.as_str(), "running" | "restarting")
                && mount_of(u, &chosen.volume).is_none_or(|m| m.writable)
        });
        if here && direct::is_reachable(&chosen.volume) {
            let (source, volume, name, writer) = (self.clone(), chosen.volume.clone(), name.clone(), writer.clone());
            let work =
                tokio::task::spawn_blocking(move || direct::read(&source, &volume, live, &name, &writer, &*monitor));
            let read = work.await.map_err(Error::panicked("reading"))??;
            return Ok((read, "direct"));
        }
        Ok((archive::read(self, docker, chosen, live, writer, monitor).await?, "archive"))
    }

    /// A container that came up meanwhile may have written while we read.
    async fn nobody_began(&self, docker: &Docker, chosen: &Chosen) -> Result<()> {
        if self.while_reading == WhileReading::Run {
            return Ok(());
        }
        let began: Vec<String> = docker
            .users(&chosen.volume)
            .await?
            .into_iter()
            .filter(|u| matches!(u.state.as_str(), "running" | "restarting"))
            .filter(|u| mount_of(u, &chosen.volume).is_none_or(|m| m.writable))
            .map(|u| u.label())
            .collect();
        if began.is_empty() {
            return Ok(());
        }
        Err(Error::new(Kind::Source, format!("{} began to use the volume while it was read", began.join(", ")))
            .at(format!("volume {}", chosen.volume.name))
            .hint(
                "Whatever starts it (a timer, an operator, a restart policy) must wait for the backup; run it again.",
            ))
    }
}
