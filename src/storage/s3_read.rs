//! Reading a bucket of somebody else's: any name, any size, in ranges.

use super::common::{limit_for, within};
use super::readonly::{ReadOnly, changed};
use super::s3::S3Store;
use super::s3_error::failure;
use super::{ObjectInfo, Page, Result};
use async_trait::async_trait;
use bytes::Bytes;

#[async_trait]
impl ReadOnly for S3Store {
    fn url(&self) -> &str {
        &self.url
    }

    async fn page(&self, prefix: &str, token: Option<&str>) -> Result<Page> {
        self.objects(prefix, token).await
    }

    async fn range(&self, object: &ObjectInfo, offset: u64, length: u64) -> Result<Bytes> {
        let url = self.at(&object.key);
        let request = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(self.root.full(&object.key))
            .range(format!("bytes={offset}-{}", offset + length - 1));
        let call = async { request.send().await.map_err(|error| failure("get", &url, &error).error) };
        let answer = within(self.timeout, "get", &url, call).await?;
        let whole = answer.content_range().and_then(|range| range.rsplit_once('/')).map(|(_, whole)| whole.to_owned());
        match whole {
            Some(whole) if whole != object.size.to_string() => return Err(changed(&url, object.size, whole)),
            _ => {}
        }
        within(limit_for(self.timeout, length), "get", &url, self.read_body(&url, answer.body, length)).await
    }
}
