//! Images: what they are, and their way out of the daemon and back in.

use super::{Docker, failed, is_status};
use crate::error::{Error, Kind, Result};
use bollard::query_parameters::{ImportImageOptionsBuilder, RemoveImageOptions, TagImageOptionsBuilder};
use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use std::io;
use std::time::Duration;
use tokio::io::AsyncRead;

/// How long a daemon may take to load one image.
const LOAD: Duration = Duration::from_secs(24 * 3600);

/// An image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// `sha256:…`: what it is.
    pub id: String,
    /// Names that mean it here.
    pub tags: Vec<String>,
    /// Names with digests by which registries know it. Loading does not bring them back.
    pub digests: Vec<String>,
    /// Bytes of its layers.
    pub size: u64,
}

/// An image's name or id, fit for a request's path.
fn checked(reference: &str) -> Result<&str> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.-/:@".contains(&b);
    let first = reference.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if first && reference.bytes().all(allowed) && !reference.contains("..") && !reference.contains("//") {
        Ok(reference)
    } else {
        Err(Error::new(Kind::Source, format!("{reference:?} cannot be the name of an image")))
    }
}

impl Docker {
    /// An image by name or id, `None` when there is none.
    pub async fn image(&self, reference: &str) -> Result<Option<Image>> {
        match self.api.inspect_image(checked(reference)?).await {
            Ok(found) => {
                let mut image = Image {
                    id: found.id.unwrap_or_default(),
                    tags: found.repo_tags.unwrap_or_default(),
                    digests: found.repo_digests.unwrap_or_default(),
                    size: found.size.and_then(|s| u64::try_from(s).ok()).unwrap_or(0),
                };
                image.tags.sort();
                image.digests.sort();
                Ok(Some(image))
            }
            Err(e) if is_status(&e, 404) => Ok(None),
            Err(e) => Err(failed(format!("image {reference} cannot be looked at"))(e)),
        }
    }

    /// `docker save` of one image by its id.
    pub fn save(&self, id: &str) -> Result<impl AsyncRead + Send + Unpin + 'static> {
        let (api, id) = (self.api.clone(), checked(id)?.to_owned());
        let stream = async_stream(api, id);
        Ok(tokio_util::io::StreamReader::new(stream))
    }

    /// `docker load`.
    ///
    /// # Errors
    /// When the daemon refuses it, or the stream fails: then nothing is loaded.
    pub async fn load(&self, tar: impl Stream<Item = Result<Bytes>> + Send + 'static) -> Result<()> {
        let patient = self.api.clone().with_timeout(LOAD);
        let options = ImportImageOptionsBuilder::new().quiet(true).build();
        let tar = tar.map_err(|e| io::Error::other(e.one_line()));
        let mut told = std::pin::pin!(patient.import_image_stream(options, tar, None));
        while let Some(line) = told.next().await {
            line.map_err(|e| failed("the image cannot be loaded")(e).kind(Kind::Restore))?;
        }
        Ok(())
    }

    /// Lets a name mean an image.
    pub async fn tag(&self, id: &str, name: &str) -> Result<()> {
        // The last colon is the tag's, unless it is that of a port.
        let (repo, tag) = name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).unwrap_or((name, "latest"));
        let options = TagImageOptionsBuilder::new().repo(checked(repo)?).tag(tag).build();
        self.api
            .tag_image(checked(id)?, Some(options))
            .await
            .map_err(failed(format!("image {id} cannot be named {name}")))
    }

    /// Takes a name away, or removes an image that has no other. Only ever for what this very restore brought.
    pub async fn remove_image(&self, reference: &str) -> Result<()> {
        match self.api.remove_image(checked(reference)?, None::<RemoveImageOptions>, None).await {
            Err(e) if is_status(&e, 404) => Ok(()),
            other => other.map(|_| ()).map_err(failed(format!("image {reference} cannot be removed"))),
        }
    }
}

/// The stream with its own handle of the daemon, so that it borrows nothing.
fn async_stream(api: bollard::Docker, id: String) -> impl Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static {
    Box::pin(futures::stream::once(async move { api.export_image(&id).map_err(io::Error::other).boxed() }).flatten())
}
