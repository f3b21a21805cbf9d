//! S3 and servers that speak its protocol.
//!
//! The SDK's own retries are off: `Retry` is the one place that retries. The SDK's checksums are off where S3 does
//! not require them, because servers other than AWS reject the trailers in which it sends them. Uploads carry their
//! CRC32C in a plain header instead; downloads are covered by Backstay's own hashes.

use super::common::{Root, chain, check_folder, check_prefix, http_date, limit_for, within};
use super::s3_error::{failure, is_retained};
use super::{
    DeleteOutcome, ErrorKind, ObjectInfo, ObjectStore, Page, PutMode, PutOutcome, Result, StorageError, Versions,
    check_key, s3_versions,
};
use async_trait::async_trait;
use aws_config::BehaviorVersion;
use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    Builder, ConfigBag, Credentials, Intercept, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    RuntimeComponents, StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::StorageClass;
use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Where the bucket is and how to talk to it.
#[derive(Clone)]
pub struct S3Options {
    /// The bucket's name.
    pub bucket: String,
    /// The path of the repository inside the bucket; may be empty.
    pub prefix: String,
    /// The URL of a server other than AWS.
    pub endpoint: Option<String>,
    /// The region; without it the SDK's usual places are asked, and a server of one's own gets `us-east-1`.
    pub region: Option<String>,
    /// Address the bucket in the path (`endpoint/bucket`), which servers without wildcard DNS need.
    pub path_style: bool,
    /// The storage class of new objects; classes that cannot be read at once are refused.
    pub storage_class: Option<String>,
    /// The base of the time limit of every call; transfers get the time for 16 KiB/s on top.
    pub timeout: Duration,
    /// Access key id, secret and session token. Without them the standard chain is asked: environment, shared
    /// files, web identity, container and instance metadata.
    pub credentials: Option<(String, String, Option<String>)>,
}

impl fmt::Debug for S3Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Options")
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("path_style", &self.path_style)
            .field("storage_class", &self.storage_class)
            .field("timeout", &self.timeout)
            .field("credentials", &self.credentials.as_ref().map(|(id, ..)| id))
            .finish()
    }
}

/// The store.
pub struct S3Store {
    pub(super) client: Client,
    pub(super) url: String,
    pub(super) bucket: String,
    pub(super) root: Root,
    storage_class: Option<StorageClass>,
    pub(super) timeout: Duration,
}

impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Store").field("url", &self.url).finish_non_exhaustive()
    }
}

impl S3Store {
    /// Makes a client. Sends nothing to the bucket; may ask the instance metadata for the region.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for an archive storage class or when no region is known,
    /// [`ErrorKind::Timeout`] when the metadata service does not answer.
    pub async fn new(options: S3Options) -> Result<Self> {
        let below = options.prefix.trim_matches('/');
        let slash = if below.is_empty() { "" } else { "/" };
        let url = format!("s3://{}{slash}{below}", options.bucket);
        let invalid = |detail: String| StorageError::new(ErrorKind::Invalid, "open", &url, detail);
        let storage_class = match options.storage_class.as_deref() {
            Some(class) if ["GLACIER", "DEEP_ARCHIVE"].contains(&class.to_ascii_uppercase().as_str()) => {
                let detail = format!("objects in storage class {class} cannot be read at once; use GLACIER_IR");
                return Err(invalid(detail));
            }
            other => other.map(StorageClass::from),
        };
        let mut loader = aws_config::defaults(BehaviorVersion::latest());
        if let Some(region) = options.region.clone() {
            loader = loader.region(Region::new(region));
        } else if options.endpoint.is_some() {
            // Not the SDK's whole chain: that would ask the instance metadata, which is far from this server.
            let environment = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new());
            let files = environment.or_else(ProfileFileRegionProvider::new());
            loader = loader.region(files.or_else(Region::new("us-east-1")));
        }
        if let Some((id, secret, token)) = options.credentials.clone() {
            loader = loader.credentials_provider(Credentials::new(id, secret, token, None, "backstay"));
        }
        if let Some(endpoint) = &options.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        let shared = within(options.timeout, "open", &url, async { Ok(loader.load().await) }).await?;
        let stalled = StalledStreamProtectionConfig::enabled().grace_period(options.timeout).build();
        let builder = Builder::from(&shared)
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts(options.timeout, options.timeout))
            .stalled_stream_protection(stalled)
            .force_path_style(options.path_style)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        if shared.region().is_none() {
            return Err(invalid("no region is configured".into()));
        }
        Ok(S3Store {
            client: Client::from_conf(builder.build()),
            bucket: options.bucket,
            root: Root::new(&options.prefix),
            storage_class,
            timeout: options.timeout,
            url,
        })
    }

    pub(super) fn at(&self, key: &str) -> String {
        format!("{}/{key}", self.url)
    }

    /// Whether a 404 without a body means the object (`false`) or its bucket (`true`).
    async fn bucket_is_missing(&self) -> bool {
        let call = async {
            let answer = self.client.head_bucket().bucket(&self.bucket).send().await;
            answer.map_err(|error| failure("stat", &self.url, &error).error)
        };
        matches!(within(self.timeout, "stat", &self.url, call).await, Err(error) if error.is_not_found())
    }

    /// One page of objects below a prefix of any shape.
    pub(super) async fn objects(&self, prefix: &str, token: Option<&str>) -> Result<Page> {
        let answer = self.list_page(prefix, token, None).await?;
        let url = self.at(prefix);
        let mut objects = Vec::with_capacity(answer.contents().len());
        for object in answer.contents() {
            if let Some(key) = object.key().and_then(|name| self.root.key(name)) {
                objects.push(object_info(&url, key, object.size(), object.last_modified())?);
            }
        }
        Ok(Page { objects, next: next_token(&url, &answer)? })
    }

    async fn list_page(
        &self,
        prefix: &str,
        token: Option<&str>,
        delimiter: Option<&str>,
    ) -> Result<ListObjectsV2Output> {
        let url = self.at(prefix);
        let request = self
            .client
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(self.root.full(prefix))
            .set_delimiter(delimiter.map(str::to_owned))
            .set_continuation_token(token.map(str::to_owned));
        let call = async { request.send().await.map_err(|error| bucket_error(failure("list", &url, &error).error)) };
        within(self.timeout, "list", &url, call).await
    }

    pub(super) async fn read_body(&self, url: &str, mut body: ByteStream, size: u64) -> Result<Bytes> {
        let damaged = |detail: String| StorageError::new(ErrorKind::Corrupt, "get", url, detail);
        let mut bytes = BytesMut::with_capacity(usize::try_from(size).unwrap_or_default());
        loop {
            let chunk = within(self.timeout, "get", url, async { Ok(body.next().await) }).await?;
            match chunk {
                Some(Ok(chunk)) if bytes.len() as u64 + chunk.len() as u64 > size => {
                    return Err(damaged(format!("more than the announced {size} bytes")));
                }
                Some(Ok(chunk)) => bytes.extend_from_slice(&chunk),
                Some(Err(error)) => {
                    let text = chain(&error);
                    let short = text.contains("Content-Length") || text.contains("end of file");
                    let kind = if short { ErrorKind::Corrupt } else { ErrorKind::Unavailable };
                    let detail = format!("after {} of {size} bytes: {text}", bytes.len());
                    return Err(StorageError::new(kind, "get", url, detail));
                }
                None if bytes.len() as u64 == size => return Ok(bytes.freeze()),
                None => return Err(damaged(format!("{} of {size} bytes", bytes.len()))),
            }
        }
    }
}

#[async_trait]
impl ObjectStore for S3Store {
    fn url(&self) -> &str {
        &self.url
    }

    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<PutOutcome> {
        check_key("put", &self.url, key)?;
        let url = self.at(key);
        let limit = limit_for(self.timeout, body.len() as u64);
        let condition = (mode == PutMode::IfAbsent).then(|| "*".to_owned());
        let slower = aws_sdk_s3::Config::builder().timeout_config(timeouts(self.timeout, limit));
        let request = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(self.root.full(key))
            .set_storage_class(self.storage_class.clone())
            .set_if_none_match(condition)
            // Buckets with a default retention demand a checksum; a plain header suits third-party servers too, where
            // a trailer would not.
            .checksum_crc32_c(openssl::base64::encode_block(&crc32c::crc32c(&body).to_be_bytes()))
            .body(ByteStream::from(body))
            .customize()
            .config_override(slower);
        let call = async {
            match request.send().await {
                Ok(_) => Ok(PutOutcome::Created),
                Err(error) => match failure("put", &url, &error) {
                    refused if refused.status == Some(412) && mode == PutMode::IfAbsent => Ok(PutOutcome::Exists),
                    other => Err(bucket_error(other.error)),
                },
            }
        };
        within(limit, "put", &url, call).await
    }

    async fn get(&self, key: &str, limit: u64) -> Result<Bytes> {
        check_key("get", &self.url, key)?;
        let url = self.at(key);
        let request = self.client.get_object().bucket(&self.bucket).key(self.root.full(key));
        let call = async { request.send().await.map_err(|error| failure("get", &url, &error).error) };
        let answer = within(self.timeout, "get", &url, call).await?;
        let size = answer.content_length().and_then(|length| u64::try_from(length).ok());
        let size = size.ok_or_else(|| {
            StorageError::new(ErrorKind::Corrupt, "get", &url, "the answer does not say how long it is")
        })?;
        if size > limit {
            let detail = format!("{size} bytes, at most {limit} expected");
            return Err(StorageError::new(ErrorKind::TooLarge, "get", url, detail));
        }
        within(limit_for(self.timeout, size), "get", &url, self.read_body(&url, answer.body, size)).await
    }

    async fn stat(&self, key: &str) -> Result<ObjectInfo> {
        check_key("stat", &self.url, key)?;
        let url = self.at(key);
        let request = self.client.head_object().bucket(&self.bucket).key(self.root.full(key));
        let call = async { request.send().await.map_err(|error| failure("stat", &url, &error).error) };
        match within(self.timeout, "stat", &url, call).await {
            Ok(head) => object_info(&url, key, head.content_length(), head.last_modified()),
            Err(error) if error.is_not_found() && self.bucket_is_missing().await => Err(bucket_error(error)),
            Err(error) => Err(error),
        }
    }

    async fn list(&self, prefix: &str, token: Option<&str>) -> Result<Page> {
        check_prefix(&self.url, prefix)?;
        self.objects(prefix, token).await
    }

    async fn folders(&self, prefix: &str) -> Result<Vec<String>> {
        check_folder(&self.url, prefix)?;
        let full = self.root.full(prefix);
        let url = self.at(prefix);
        let mut names = Vec::new();
        let mut token = None;
        loop {
            let answer = self.list_page(prefix, token.as_deref(), Some("/")).await?;
            let below = answer.common_prefixes().iter().filter_map(|common| common.prefix());
            names.extend(below.filter_map(|name| Some(name.strip_prefix(&full)?.strip_suffix('/')?.to_owned())));
            token = next_token(&url, &answer)?;
            if token.is_none() {
                names.sort_unstable();
                return Ok(names);
            }
        }
    }

    async fn delete(&self, key: &str) -> Result<DeleteOutcome> {
        check_key("delete", &self.url, key)?;
        let url = self.at(key);
        let request = self.client.delete_object().bucket(&self.bucket).key(self.root.full(key));
        let call = async {
            match request.send().await.map_err(|error| failure("delete", &url, &error)) {
                Ok(_) => Ok(DeleteOutcome::Gone),
                Err(refused) if is_retained(&refused) => Ok(DeleteOutcome::Retained),
                Err(missing) if missing.code.as_deref() == Some("NoSuchKey") => Ok(DeleteOutcome::Gone),
                Err(other) => Err(bucket_error(other.error)),
            }
        };
        within(self.timeout, "delete", &url, call).await
    }

    async fn now(&self) -> Result<Timestamp> {
        let seen = Date::default();
        let request = self.client.list_objects_v2().bucket(&self.bucket).prefix(self.root.full("")).max_keys(1);
        let request = request.customize().interceptor(seen.clone());
        let call = async {
            request.send().await.map_err(|error| bucket_error(failure("now", &self.url, &error).error))?;
            Ok(())
        };
        within(self.timeout, "now", &self.url, call).await?;
        http_date(&self.url, seen.0.lock().unwrap_or_else(PoisonError::into_inner).as_deref())
    }

    async fn versions(&self) -> Result<Option<Versions>> {
        let call = async { Ok(s3_versions::of_bucket(&self.client, &self.bucket).await) };
        within(self.timeout, "versions", &self.url, call).await
    }
}

/// Keeps the `Date` header of an answer.
#[derive(Clone, Debug, Default)]
struct Date(Arc<Mutex<Option<String>>>);

impl Intercept for Date {
    fn name(&self) -> &'static str {
        "Date"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        let date = context.response().headers().get("date").map(str::to_owned);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = date;
        Ok(())
    }
}

fn timeouts(connect: Duration, attempt: Duration) -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(connect).operation_attempt_timeout(attempt).build()
}

/// A call that names no object, or creates one, can only miss the bucket.
fn bucket_error(error: StorageError) -> StorageError {
    if error.is_not_found() { StorageError { kind: ErrorKind::NoBucket, ..error } } else { error }
}

fn object_info(
    url: &str,
    key: &str,
    size: Option<i64>,
    modified: Option<&aws_sdk_s3::primitives::DateTime>,
) -> Result<ObjectInfo> {
    let size = size.and_then(|size| u64::try_from(size).ok());
    let modified = modified.and_then(|time| Timestamp::new(time.secs(), i32::try_from(time.subsec_nanos()).ok()?).ok());
    match (size, modified) {
        (Some(size), Some(modified)) => Ok(ObjectInfo { key: key.to_owned(), size, modified }),
        _ => Err(StorageError::new(ErrorKind::Corrupt, "stat", url, format!("{key} has no size or no time"))),
    }
}

/// The token of the next page. A listing that is truncated without saying how to go on must not look complete.
fn next_token(url: &str, answer: &ListObjectsV2Output) -> Result<Option<String>> {
    match (answer.is_truncated().unwrap_or(false), answer.next_continuation_token()) {
        (false, _) => Ok(None),
        (true, Some(token)) => Ok(Some(token.to_owned())),
        (true, None) => Err(StorageError::new(ErrorKind::Corrupt, "list", url, "truncated without a token")),
    }
}
