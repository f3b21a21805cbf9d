//! Volumes: which there are, where they lie, and who uses them.

use super::find::{COMPOSE_PROJECT, Container};
use super::{Docker, checked, failed, is_status};
use crate::error::{Error, Kind, Result};
use bollard::models::VolumeCreateRequest;
use bollard::query_parameters::{ListContainersOptionsBuilder, ListVolumesOptionsBuilder};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Its driver; `local` is Docker's own.
    pub driver: String,
    /// Where the daemon has it.
    pub mountpoint: PathBuf,
    /// Options of the driver, with which it was made.
    pub options: BTreeMap<String, String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

impl Volume {
    /// The compose project that made it.
    pub fn compose_project(&self) -> Option<&str> {
        self.labels.get(COMPOSE_PROJECT).map(String::as_str)
    }

    /// True when its content is a plain directory that is there all the time. A local volume with options is a mount
    /// (NFS, tmpfs, another directory) that comes and goes with the containers that use it: its directory is empty
    /// between.
    pub fn is_plain(&self) -> bool {
        self.driver == "local" && self.options.is_empty()
    }
}

fn volume(v: bollard::models::Volume) -> Volume {
    Volume {
        name: v.name,
        driver: v.driver,
        mountpoint: v.mountpoint.into(),
        options: v.options.into_iter().collect(),
        labels: v.labels.into_iter().collect(),
    }
}

impl Docker {
    /// All volumes, by name.
    pub async fn volumes(&self) -> Result<Vec<Volume>> {
        let options = ListVolumesOptionsBuilder::new().build();
        let listed = self.api.list_volumes(Some(options)).await.map_err(failed("volumes cannot be listed"))?;
        let mut found: Vec<Volume> = listed.volumes.unwrap_or_default().into_iter().map(volume).collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// A volume, `None` when there is none of that name.
    pub async fn volume(&self, name: &str) -> Result<Option<Volume>> {
        match self.api.inspect_volume(checked(name)?).await {
            Ok(found) => Ok(Some(volume(found))),
            Err(e) if is_status(&e, 404) => Ok(None),
            Err(e) => Err(failed(format!("volume {name} cannot be looked at"))(e)),
        }
    }

    /// Makes a volume that does not exist.
    ///
    /// # Errors
    /// When the daemon refuses; when its driver is not installed, the hint says so.
    pub async fn create_volume(
        &self,
        name: &str,
        driver: &str,
        options: &BTreeMap<String, String>,
        labels: &BTreeMap<String, String>,
    ) -> Result<Volume> {
        let map = |m: &BTreeMap<String, String>| -> Option<HashMap<String, String>> {
            Some(m.iter().map(|(k, v)| (k.clone(), v.clone())).collect())
        };
        let request = VolumeCreateRequest {
            name: Some(checked(name)?.to_owned()),
            driver: Some(driver.to_owned()),
            driver_opts: map(options),
            labels: map(labels),
            cluster_volume_spec: None,
        };
        let what = format!("volume {name} cannot be made with the driver {driver}");
        self.api.create_volume(request).await.map(volume).map_err(|e| {
            let error = failed(what)(e);
            if driver == "local" { error } else { error.hint(format!("Install the volume plugin {driver} first.")) }
        })
    }

    /// Removes a volume. Only ever for one that this very restore made.
    pub async fn remove_volume(&self, name: &str) -> Result<()> {
        let options = None::<bollard::query_parameters::RemoveVolumeOptions>;
        match self.api.remove_volume(checked(name)?, options).await {
            Err(e) if is_status(&e, 404) => Ok(()),
            other => other.map_err(failed(format!("volume {name} cannot be removed"))),
        }
    }

    /// Containers that have this volume among their mounts, or its directory or one in it by its path; stopped ones
    /// too. One that has a directory above it (a monitor that sees the whole host) is no user of the volume.
    pub async fn users(&self, volume: &Volume) -> Result<Vec<Container>> {
        let options = ListContainersOptionsBuilder::new().all(true).build();
        let listed = self.api.list_containers(Some(options)).await.map_err(failed("containers cannot be listed"))?;
        let mut found = Vec::new();
        for summary in listed {
            let mounts = summary.mounts.unwrap_or_default();
            let uses = |name: &Option<String>, source: &Option<String>| {
                name.as_deref() == Some(&volume.name)
                    || source.as_deref().is_some_and(|s| Path::new(s).starts_with(&volume.mountpoint))
            };
            if mounts.iter().any(|m| uses(&m.name, &m.source))
                && let Some(id) = summary.id
            {
                // One that is gone since it was listed does not use it any more.
                found.extend(self.container(&id).await?);
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// Whether paths that the daemon tells are paths of this machine.
    pub async fn is_here(&self) -> Result<bool> {
        let info = self.api.info().await.map_err(failed("the daemon does not say where it runs"))?;
        let here = rustix::system::uname();
        let root = info.docker_root_dir.unwrap_or_default();
        Ok(info.name.as_deref() == here.nodename().to_str().ok() && Path::new(&root).is_dir())
    }

    /// Where the daemon keeps what is its own.
    pub async fn root_dir(&self) -> Result<PathBuf> {
        let info = self.api.info().await.map_err(failed("the daemon does not say where it keeps volumes"))?;
        Ok(info.docker_root_dir.unwrap_or_default().into())
    }
}

/// How a container uses a volume: where it is mounted, and whether it may write.
pub fn mount_of<'a>(container: &'a Container, volume: &Volume) -> Option<&'a super::find::Mount> {
    container
        .mounts
        .iter()
        .find(|m| m.volume.as_deref() == Some(&volume.name) || Path::new(&m.source).starts_with(&volume.mountpoint))
}

/// The volume that is meant, or an error that names those there are.
pub fn named<'a>(volumes: &'a [Volume], name: &str) -> Result<&'a Volume> {
    volumes.iter().find(|v| v.name == name).ok_or_else(|| {
        let mut names: Vec<&str> = volumes.iter().map(|v| v.name.as_str()).take(20).collect();
        if volumes.len() > names.len() {
            names.push("…");
        }
        Error::new(Kind::Source, format!("there is no volume {name}")).hint(if names.is_empty() {
            "Docker has no volumes at all.".to_owned()
        } else {
            format!("There are: {}.", names.join(", "))
        })
    })
}
