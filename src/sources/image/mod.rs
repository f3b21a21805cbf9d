//! The `image` source: images of the daemon, each by its id, so that a fresh machine needs no registry.
//!
//! Each is `docker save`d and taken apart: a layer that several images share, or that was there yesterday, is stored
//! once. A restore loads only what is missing.

use super::files::exclude::Excludes;
use super::files::repack::{Repack, repack};
use super::window::Window;
use super::{Delivered, Source};
use crate::error::{Error, Kind, Result};
use crate::host::docker::Docker;
use crate::host::docker::absent::without_digest;
use crate::host::docker::find::{COMPOSE_PROJECT, Container, SWARM_SERVICE};
use crate::host::docker::images::Image;
use crate::model::Name;
use crate::repository::writer::BackupWriter;
use crate::telemetry::monitor::Monitor;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio_util::io::SyncIoBridge;

/// The artifact of an image.
pub fn artifact_name(id: &str) -> String {
    format!("image:{id}")
}

/// Configured images. What several keys name is taken once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageSource {
    /// Images by name.
    pub images: Vec<String>,
    /// Images of containers.
    pub containers: Vec<String>,
    /// Images of the containers of a compose project.
    pub compose_project: Option<String>,
    /// Images of swarm services, as they run on this node.
    pub services: Vec<String>,
}

/// What is recorded of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFacts {
    /// Names that meant it.
    pub tags: Vec<String>,
    /// Names with digests. Lost by loading: only a registry gives them.
    pub repo_digests: Vec<String>,
    /// Bytes of its layers.
    pub size: u64,
    /// What asked for it: `container NAME`, `service NAME`, or its name.
    pub used_by: Vec<String>,
    /// By which names they asked for it, and who did by each. A service asks by digest, and the image that its node pulled
    /// has no other name.
    #[serde(default)]
    pub asked_as: BTreeMap<String, Vec<String>>,
}

impl ImageFacts {
    /// Every name that is to mean it: a digest that was asked for cannot be given back, and the name before it can.
    pub fn names(&self) -> BTreeSet<String> {
        let asked = self.asked_as.keys().map(|reference| without_digest(reference)).filter(|name| is_name(name));
        self.tags.iter().map(String::as_str).chain(asked).map(str::to_owned).collect()
    }
}

/// Whether it names an image with a tag. An id is none, and a name without a tag means the latest, which this may not be.
fn is_name(reference: &str) -> bool {
    reference.rsplit('/').next().is_some_and(|last| last.contains(':')) && !reference.starts_with("sha256:")
}

#[async_trait]
impl Source for ImageSource {
    fn kind(&self) -> &'static str {
        "image"
    }

    async fn read(
        &self,
        _: &Name,
        writer: &BackupWriter,
        monitor: Arc<dyn Monitor>,
        window: &Window,
    ) -> Result<Delivered> {
        window.ready().await?;
        let docker = Docker::connect().await?;
        let mut warnings = Vec::new();
        let images = self.choose(&docker, &mut warnings).await?;
        // An image never changes; which ones there are is known now.
        window.done();
        let mut artifacts = Vec::new();
        for id in images.keys() {
            let how = Repack {
                what: format!("the daemon's archive of image {id}"),
                excludes: Excludes::new(&[], &[])?,
                look: |_, _| Ok(()),
                monitor: monitor.clone(),
            };
            let stream = docker.save(id)?;
            let (artifact, writer) = (writer.artifact(&artifact_name(id), "tar"), writer.clone());
            let work = tokio::task::spawn_blocking(move || repack(SyncIoBridge::new(stream), artifact, &writer, &how));
            let read = work.await.map_err(Error::panicked("reading"))?;
            artifacts.push(read?.0);
        }
        Ok(Delivered { artifacts, facts: serde_json::json!({ "images": images }), warnings })
    }
}

impl ImageSource {
    async fn choose(&self, docker: &Docker, warnings: &mut Vec<String>) -> Result<BTreeMap<String, ImageFacts>> {
        let mut found = BTreeMap::new();
        for name in &self.images {
            let image = docker.image(name).await?.ok_or_else(|| {
                Error::new(Kind::Source, format!("there is no image {name}"))
                    .hint("`docker images` shows what there is; Backstay pulls none.")
            })?;
            add(&mut found, image, name.clone(), name);
        }
        let mut containers = Vec::new();
        for name in &self.containers {
            containers.push(docker.container(name).await?.ok_or_else(|| {
                Error::new(Kind::Source, format!("there is no container {name}"))
                    .hint("`docker ps -a` shows what there is.")
            })?);
        }
        let labels = self.services.iter().map(|s| (SWARM_SERVICE, s));
        for (label, value) in labels.chain(self.compose_project.iter().map(|p| (COMPOSE_PROJECT, p))) {
            let of_it = docker.containers("label", &format!("{label}={value}")).await?;
            if of_it.is_empty() {
                return Err(Error::new(Kind::Source, format!("{value} has no container on this machine"))
                    .hint("Name its images in `images`, or run the agent where its containers are."));
            }
            containers.extend(of_it);
        }
        for container in containers {
            let image = docker.image(&container.image_id).await?.ok_or_else(|| {
                Error::new(Kind::Source, format!("the image of {} was removed", container.label()))
                    .because(container.image_id.clone())
            })?;
            warnings.extend(moved(docker, &container).await);
            add(&mut found, image, container.label(), &container.image);
        }
        Ok(found)
    }
}

/// A container goes on with the image that it was made of, also when its name means another one by now.
async fn moved(docker: &Docker, container: &Container) -> Option<String> {
    let now = docker.image(&container.image).await.ok()??;
    (now.id != container.image_id).then(|| {
        format!(
            "{} runs an image that {} no longer means; the one that runs is backed up",
            container.label(),
            container.image
        )
    })
}

fn add(found: &mut BTreeMap<String, ImageFacts>, image: Image, used_by: String, asked_as: &str) {
    let facts = found.entry(image.id).or_insert_with(|| ImageFacts {
        tags: image.tags,
        repo_digests: image.digests,
        size: image.size,
        used_by: Vec::new(),
        asked_as: BTreeMap::new(),
    });
    let by_this_name = facts.asked_as.entry(asked_as.to_owned()).or_default();
    if !by_this_name.contains(&used_by) {
        by_this_name.push(used_by.clone());
    }
    if !facts.used_by.contains(&used_by) {
        facts.used_by.push(used_by);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_by_digest_gets_the_name_before_it() {
        let asked = |reference: &str| (reference.to_owned(), vec!["service web".to_owned()]);
        let facts = ImageFacts {
            tags: vec!["shop:latest".into()],
            asked_as: BTreeMap::from([
                asked("reg:5000/a/shop:1.4@sha256:ff"),
                asked("reg:5000/shop@sha256:ff"),
                asked("sha256:ff"),
                asked("shop"),
            ]),
            ..ImageFacts::default()
        };
        let names: Vec<String> = facts.names().into_iter().collect();
        assert_eq!(names, ["reg:5000/a/shop:1.4", "shop:latest"]);
    }
}
