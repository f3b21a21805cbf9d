//! The content of a volume through the daemon, where its directory is not one of this machine: out of it, and into one
//! that is empty. The daemon can neither rename nor remove in it.

use super::find::Container;
use super::volumes::Volume;
use super::{Docker, checked, failed};
use crate::error::{Error, Kind, Result};
use bollard::models::{ContainerCreateBody, HostConfig, Mount, MountType};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, DownloadFromContainerOptionsBuilder, ListImagesOptionsBuilder,
    RemoveContainerOptionsBuilder, UploadToContainerOptionsBuilder,
};
use bollard::{body_full, body_try_stream};
use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use std::collections::HashMap;
use std::io;
use std::time::Duration;
use tokio::io::AsyncRead;

/// Marks containers of ours with the process that made them.
const HELPER: &str = "backstay.helper";
/// Where a helper has the volume.
const PLACE: &str = "/backstay-volume";
/// How long a daemon may take to take in a volume.
const UPLOAD: Duration = Duration::from_secs(24 * 3600);

/// A container that was made to reach a volume and is never started; or none, when one was there.
pub struct Helper {
    docker: Docker,
    id: Option<String>,
}

impl Helper {
    /// Removes it, with the volumes that its image declares and that were made for it alone.
    pub async fn remove(mut self) -> Result<()> {
        match self.id.take() {
            Some(id) => self.docker.remove_helper(&id).await,
            None => Ok(()),
        }
    }
}

/// What the root of a volume is to be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Root {
    /// Permission bits.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Modification time in seconds.
    pub mtime: u64,
}

impl Root {
    /// A tar of the place where a helper has the volume, and nothing else.
    fn tar(&self) -> Result<Vec<u8>> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(self.mode);
        header.set_uid(self.uid.into());
        header.set_gid(self.gid.into());
        header.set_mtime(self.mtime);
        header.set_size(0);
        let mut tar = tar::Builder::new(Vec::new());
        let made =
            tar.append_data(&mut header, PLACE.trim_start_matches('/'), io::empty()).and_then(|()| tar.into_inner());
        made.map_err(|e| Error::new(Kind::Internal, "the root of a volume cannot be described").because(e))
    }
}

impl Docker {
    /// The content of a volume as a tar, with paths that begin with `./`.
    ///
    /// # Errors
    /// When no container has the volume and there is no image to make one of.
    pub async fn volume_archive(
        &self,
        volume: &Volume,
        users: &[Container],
    ) -> Result<(impl AsyncRead + Send + Unpin + 'static, Helper)> {
        self.remove_left_helpers().await?;
        let (container, path, helper) = match users.iter().find_map(|u| Some((u, alone(u, volume)?))) {
            Some((user, path)) => (user.id.clone(), path, Helper { docker: self.clone(), id: None }),
            None => {
                let id = self.make_helper(volume, users, false).await?;
                (id.clone(), PLACE.to_owned(), Helper { docker: self.clone(), id: Some(id) })
            }
        };
        let options = DownloadFromContainerOptionsBuilder::new().path(&format!("{path}/.")).build();
        let stream = self.api.download_from_container(checked(&container)?, Some(options));
        let stream = Box::pin(stream.map_err(io::Error::other));
        Ok((tokio_util::io::StreamReader::new(stream), helper))
    }

    /// Puts a tar into a volume, and gives its root what that was; what is there under other names stays.
    ///
    /// # Errors
    /// When there is no image to make a container of, when the daemon refuses, or when the tar ends early: then a part of
    /// it is there.
    pub async fn fill_volume(
        &self,
        volume: &Volume,
        tar: impl Stream<Item = Result<Bytes>> + Send + 'static,
        root: &Root,
    ) -> Result<()> {
        self.remove_left_helpers().await?;
        let id = self.make_helper(volume, &[], true).await?;
        let patient = self.api.clone().with_timeout(UPLOAD);
        let options = UploadToContainerOptionsBuilder::new().path(PLACE).build();
        let body = body_try_stream(tar.map_err(|e| io::Error::other(e.one_line())));
        let mut filled = patient.upload_to_container(&id, Some(options), body).await;
        if filled.is_ok() {
            // The daemon leaves the directory that it unpacks in as it is: it is given once more, from above, and last,
            // since every name that is made in it changes its time.
            let options = UploadToContainerOptionsBuilder::new().path("/").build();
            filled = self.api.upload_to_container(&id, Some(options), body_full(root.tar()?.into())).await;
        }
        // Whatever came of it, the helper goes.
        let removed = self.remove_helper(&id).await;
        filled.map_err(failed(format!("volume {} cannot be filled through the daemon", volume.name)))?;
        removed
    }

    async fn make_helper(&self, volume: &Volume, users: &[Container], writing: bool) -> Result<String> {
        let image = match users.first() {
            Some(user) => user.image_id.clone(),
            None => {
                let options = ListImagesOptionsBuilder::new().build();
                let images = self.api.list_images(Some(options)).await.map_err(failed("images cannot be listed"))?;
                images.into_iter().next().map(|i| i.id).ok_or_else(|| {
                    Error::new(
                        Kind::Source,
                        format!(
                            "volume {} can be reached only through a container, and there is no image to make one of",
                            volume.name
                        ),
                    )
                    .hint("Any image will do, since it is never started: `docker load` one. Backstay pulls none.")
                })?
            }
        };
        let body = ContainerCreateBody {
            image: Some(image),
            cmd: Some(vec!["true".to_owned()]),
            labels: Some(HashMap::from([(HELPER.to_owned(), std::process::id().to_string())])),
            host_config: Some(HostConfig {
                mounts: Some(vec![Mount {
                    typ: Some(MountType::VOLUME),
                    source: Some(volume.name.clone()),
                    target: Some(PLACE.to_owned()),
                    read_only: Some(!writing),
                    ..Mount::default()
                }]),
                network_mode: Some("none".to_owned()),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let name = format!("backstay-helper-{:08x}", rand::random::<u32>());
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        let made = self.api.create_container(Some(options), body).await;
        made.map(|c| c.id).map_err(failed(format!("no container can be made to reach volume {}", volume.name)))
    }

    async fn remove_helper(&self, id: &str) -> Result<()> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match self.api.remove_container(checked(id)?, Some(options)).await {
            Err(e) if super::is_status(&e, 404) => Ok(()),
            other => other.map_err(failed(format!("the helper container {id} cannot be removed"))),
        }
    }

    /// Helpers of processes that are gone.
    async fn remove_left_helpers(&self) -> Result<()> {
        for helper in self.containers("label", HELPER).await? {
            let alive = helper.labels.get(HELPER).is_some_and(|pid| std::path::Path::new("/proc").join(pid).exists());
            if !alive {
                self.remove_helper(&helper.id).await?;
            }
        }
        Ok(())
    }
}

/// Where a container has the volume, with nothing else mounted in it: that would be packed too.
fn alone(container: &Container, volume: &Volume) -> Option<String> {
    let here = container.mounts.iter().find(|m| m.volume.as_deref() == Some(&volume.name))?;
    let inside = format!("{}/", here.destination.trim_end_matches('/'));
    container.mounts.iter().all(|m| !m.destination.starts_with(&inside)).then(|| here.destination.clone())
}
