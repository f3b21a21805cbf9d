//! Reading a bucket of somebody else's: any name, any size, in ranges.

use super::common::{limit_for, within};
use super::gcs::{GcsStore, body_error};
use super::readonly::{ReadOnly, changed};
use super::{ErrorKind, ObjectInfo, Page, Result, StorageError};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use google_cloud_storage::model_ext::ReadRange;

#[async_trait]
impl ReadOnly for GcsStore {
    fn url(&self) -> &str {
        &self.url
    }

    async fn page(&self, prefix: &str, token: Option<&str>) -> Result<Page> {
        self.objects(prefix, token).await
    }

    async fn range(&self, object: &ObjectInfo, offset: u64, length: u64) -> Result<Bytes> {
        let url = self.at(&object.key);
        let request = self
            .storage
            .read_object(&self.bucket, self.root.full(&object.key))
            .set_read_range(ReadRange::segment(offset, length))
            .send();
        let sent = async {
            match request.await {
                Ok(response) => Ok(response),
                Err(error) => Err(self.refused("get", &url, &error).await),
            }
        };
        let mut response = within(self.timeout, "get", &url, sent).await?;
        let whole = u64::try_from(response.object().size).unwrap_or_default();
        if whole != object.size {
            return Err(changed(&url, object.size, whole));
        }
        let body = async {
            let mut bytes = BytesMut::with_capacity(usize::try_from(length).unwrap_or_default());
            while let Some(chunk) = within(self.timeout, "get", &url, async { Ok(response.next().await) }).await? {
                bytes.extend_from_slice(&chunk.map_err(|error| body_error(&url, &error))?);
                if bytes.len() as u64 > length {
                    break;
                }
            }
            if bytes.len() as u64 != length {
                let detail = format!("{} of {length} bytes", bytes.len());
                return Err(StorageError::new(ErrorKind::Corrupt, "get", &url, detail));
            }
            Ok(bytes.freeze())
        };
        within(limit_for(self.timeout, length), "get", &url, body).await
    }
}
