//! Google Cloud Storage.
//!
//! Objects are written and read by the official crate, which computes and compares CRC32C sums in both
//! directions; everything else goes over [`Json`](super::gcs_json). The crate's own retries are off: `Retry` is
//! the one place that retries.

use super::common::{Root, chain, check_folder, check_prefix, http_date, limit_for, within};
use super::gcs_error::{Refusal, client_error};
use super::gcs_json::{Failed, Json, Listing, Object, object_path};
use super::{
    DeleteOutcome, ErrorKind, MAX_OBJECT, ObjectInfo, ObjectStore, Page, PutMode, PutOutcome, Result, StorageError,
    check_key,
};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use google_cloud_auth::credentials::{self, Credentials};
use google_cloud_gax::retry_policy::NeverRetry;
use google_cloud_storage::client::Storage;
use google_cloud_storage::read_resume_policy::NeverResume;
use http::Method;
use jiff::Timestamp;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const SERVICE: &str = "https://storage.googleapis.com";

/// Objects up to this size go up in one request, which a retry can repeat as a whole.
const SINGLE_REQUEST: usize = 2 * MAX_OBJECT as usize;

/// Where the bucket is and who we are.
#[derive(Clone, Debug)]
pub struct GcsOptions {
    /// The bucket's name.
    pub bucket: String,
    /// The path of the repository inside the bucket; may be empty.
    pub prefix: String,
    /// The URL of another server than Google's.
    pub endpoint: Option<String>,
    /// Send no credentials: for emulators.
    pub anonymous: bool,
    /// The key file of a service account. Without it the application default credentials are used: the file that
    /// `GOOGLE_APPLICATION_CREDENTIALS` names, the one that gcloud wrote, or the machine's metadata server.
    pub service_account_file: Option<PathBuf>,
    /// The base of the time limit of every call; transfers get the time for 16 KiB/s on top.
    pub timeout: Duration,
}

/// The store.
pub struct GcsStore {
    pub(super) storage: Storage,
    json: Json,
    pub(super) url: String,
    pub(super) bucket: String,
    pub(super) root: Root,
    pub(super) timeout: Duration,
}

impl fmt::Debug for GcsStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GcsStore").field("url", &self.url).finish_non_exhaustive()
    }
}

impl GcsStore {
    /// Makes a client. Sends nothing to the bucket; may ask the metadata server which cloud this is.
    ///
    /// # Errors
    /// [`ErrorKind::Credentials`] when the key file cannot be used, [`ErrorKind::Invalid`] for a bad endpoint,
    /// [`ErrorKind::Timeout`] when the metadata server does not answer.
    pub async fn new(options: GcsOptions) -> Result<Self> {
        let below = options.prefix.trim_matches('/');
        let slash = if below.is_empty() { "" } else { "/" };
        let url = format!("gs://{}{slash}{below}", options.bucket);
        let credentials = credentials(&options, &url)?;
        let endpoint = options.endpoint.as_deref().unwrap_or(SERVICE);
        let json = Json::new(endpoint, &options.bucket, credentials.clone(), options.timeout, &url)?;
        let mut builder = Storage::builder()
            .with_credentials(credentials)
            .with_retry_policy(NeverRetry)
            .with_read_resume_policy(NeverResume)
            .with_resumable_upload_threshold(SINGLE_REQUEST);
        if let Some(endpoint) = &options.endpoint {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
        }
        let build = async {
            let built = builder.build().await;
            built.map_err(|error| StorageError::new(ErrorKind::Invalid, "open", &url, chain(&error)))
        };
        // The crate itself waits for the metadata server as long as that keeps the connection open.
        let built = within(options.timeout, "open", &url, build).await;
        let storage = built.map_err(|error| match error.kind {
            ErrorKind::Timeout => {
                StorageError { detail: format!("{}; the metadata server was asked", error.detail), ..error }
            }
            _ => error,
        })?;
        let bucket = format!("projects/_/buckets/{}", options.bucket);
        Ok(GcsStore { storage, json, url, bucket, root: Root::new(&options.prefix), timeout: options.timeout })
    }

    pub(super) fn at(&self, key: &str) -> String {
        format!("{}/{key}", self.url)
    }

    /// One page of objects below a prefix of any shape.
    pub(super) async fn objects(&self, prefix: &str, token: Option<&str>) -> Result<Page> {
        let url = self.at(prefix);
        let full = self.root.full(prefix);
        let mut query = vec![
            ("prefix", full.as_str()),
            ("maxResults", "1000"),
            ("fields", "nextPageToken,items(name,size,timeCreated)"),
        ];
        query.extend(token.map(|token| ("pageToken", token)));
        let page = self.list_page("list", &query, &url).await?;
        let mut objects = Vec::with_capacity(page.items.len());
        for object in &page.items {
            if let Some(key) = self.root.key(&object.name) {
                objects.push(self.info(&url, object, key)?);
            }
        }
        Ok(Page { objects, next: page.next_page_token })
    }

    /// Turns an answer of the crate into an error, and asks for the bucket when a 404 does not tell.
    pub(super) async fn refused(
        &self,
        op: &'static str,
        url: &str,
        error: &google_cloud_storage::Error,
    ) -> StorageError {
        match error.http_status_code() {
            Some(status) => {
                let body = error.http_payload().cloned().unwrap_or_default();
                let refusal = if body.is_empty() {
                    Refusal::new(status, chain(error).as_bytes())
                } else {
                    Refusal::new(status, &body)
                };
                self.explain(op, url, &refusal).await
            }
            None => client_error(op, url, error),
        }
    }

    /// The error of a refusal. A 404 that names neither object nor bucket is decided by asking for the bucket.
    async fn explain(&self, op: &'static str, url: &str, refusal: &Refusal) -> StorageError {
        let error = refusal.error(op, url);
        if !error.is_not_found() || refusal.misses_bucket().is_some() {
            return error;
        }
        match self.json.send(op, url, Method::GET, "", &[("fields", "name")]).await {
            Err(Failed::Refused(bucket)) if bucket.error(op, url).is_not_found() => no_bucket(error),
            Err(Failed::Refused(bucket)) if bucket.misses_bucket() == Some(true) => no_bucket(error),
            _ => error,
        }
    }

    async fn list_page(&self, op: &'static str, query: &[(&str, &str)], url: &str) -> Result<Listing> {
        match self.json.send(op, url, Method::GET, "/o", query).await {
            Ok(answer) => answer.json(op, url),
            // A listing names no object: only the bucket can be missing.
            Err(Failed::Refused(refusal)) => match refusal.error(op, url) {
                error if error.is_not_found() => Err(no_bucket(error)),
                error => Err(error),
            },
            Err(Failed::Broken(error)) => Err(error),
        }
    }

    async fn read(&self, url: &str, name: String, limit: u64) -> Result<Bytes> {
        let request = self.storage.read_object(&self.bucket, name).send();
        let sent = async {
            match request.await {
                Ok(response) => Ok(response),
                Err(error) => Err(self.refused("get", url, &error).await),
            }
        };
        let mut response = within(self.timeout, "get", url, sent).await?;
        let size = u64::try_from(response.object().size).unwrap_or_default();
        let too_large = |size: u64| {
            let detail = format!("{size} bytes, at most {limit} expected");
            StorageError::new(ErrorKind::TooLarge, "get", url, detail)
        };
        if size > limit {
            return Err(too_large(size));
        }
        let body = async {
            let mut bytes = BytesMut::with_capacity(usize::try_from(size).unwrap_or_default());
            while let Some(chunk) = within(self.timeout, "get", url, async { Ok(response.next().await) }).await? {
                // The crate compares the sum and the length after the last chunk.
                let chunk = match chunk {
                    Ok(chunk) => chunk,
                    Err(error) => return Err(body_error(url, &error)),
                };
                if bytes.len() as u64 + chunk.len() as u64 > limit {
                    return Err(too_large(bytes.len() as u64 + chunk.len() as u64));
                }
                bytes.extend_from_slice(&chunk);
            }
            if bytes.len() as u64 != size {
                let detail = format!("{} of {size} bytes", bytes.len());
                return Err(StorageError::new(ErrorKind::Corrupt, "get", url, detail));
            }
            Ok(bytes.freeze())
        };
        within(limit_for(self.timeout, size), "get", url, body).await
    }

    fn info(&self, url: &str, object: &Object, key: &str) -> Result<ObjectInfo> {
        let damaged = |error| StorageError::new(ErrorKind::Corrupt, "stat", url, format!("size: {error}"));
        let size = object.size.parse().map_err(damaged)?;
        Ok(ObjectInfo { key: key.to_owned(), size, modified: object.time_created })
    }
}

#[async_trait]
impl ObjectStore for GcsStore {
    fn url(&self) -> &str {
        &self.url
    }

    async fn put(&self, key: &str, body: Bytes, mode: PutMode) -> Result<PutOutcome> {
        check_key("put", &self.url, key)?;
        let url = self.at(key);
        let limit = limit_for(self.timeout, body.len() as u64);
        let mut request = self.storage.write_object(&self.bucket, self.root.full(key), body).with_idempotency(true);
        if mode == PutMode::IfAbsent {
            request = request.set_if_generation_match(0_i64);
        }
        let call = async {
            match request.send_unbuffered().await {
                Ok(_) => Ok(PutOutcome::Created),
                Err(error) if error.http_status_code() == Some(412) && mode == PutMode::IfAbsent => {
                    Ok(PutOutcome::Exists)
                }
                Err(error) => match self.refused("put", &url, &error).await {
                    error if error.is_not_found() => Err(no_bucket(error)),
                    error => Err(error),
                },
            }
        };
        within(limit, "put", &url, call).await
    }

    async fn get(&self, key: &str, limit: u64) -> Result<Bytes> {
        check_key("get", &self.url, key)?;
        self.read(&self.at(key), self.root.full(key), limit).await
    }

    async fn stat(&self, key: &str) -> Result<ObjectInfo> {
        check_key("stat", &self.url, key)?;
        let url = self.at(key);
        let path = object_path(&self.root.full(key));
        match self.json.send("stat", &url, Method::GET, &path, &[("fields", "name,size,timeCreated")]).await {
            Ok(answer) => self.info(&url, &answer.json("stat", &url)?, key),
            Err(Failed::Refused(refusal)) => Err(self.explain("stat", &url, &refusal).await),
            Err(Failed::Broken(error)) => Err(error),
        }
    }

    async fn list(&self, prefix: &str, token: Option<&str>) -> Result<Page> {
        check_prefix(&self.url, prefix)?;
        self.objects(prefix, token).await
    }

    async fn folders(&self, prefix: &str) -> Result<Vec<String>> {
        check_folder(&self.url, prefix)?;
        let url = self.at(prefix);
        let full = self.root.full(prefix);
        let mut names = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let mut query = vec![("prefix", full.as_str()), ("delimiter", "/"), ("fields", "nextPageToken,prefixes")];
            query.extend(token.as_deref().map(|token| ("pageToken", token)));
            let page = self.list_page("list", &query, &url).await?;
            let below = page.prefixes.iter();
            names.extend(below.filter_map(|name| Some(name.strip_prefix(&full)?.strip_suffix('/')?.to_owned())));
            match page.next_page_token {
                Some(next) => token = Some(next),
                None => {
                    names.sort_unstable();
                    return Ok(names);
                }
            }
        }
    }

    async fn delete(&self, key: &str) -> Result<DeleteOutcome> {
        check_key("delete", &self.url, key)?;
        let url = self.at(key);
        let path = object_path(&self.root.full(key));
        match self.json.send("delete", &url, Method::DELETE, &path, &[]).await {
            Ok(_) => Ok(DeleteOutcome::Gone),
            Err(Failed::Refused(refusal)) if refusal.is_retained() => Ok(DeleteOutcome::Retained),
            Err(Failed::Refused(refusal)) => match self.explain("delete", &url, &refusal).await {
                error if error.is_not_found() => Ok(DeleteOutcome::Gone),
                error => Err(error),
            },
            Err(Failed::Broken(error)) => Err(error),
        }
    }

    async fn now(&self) -> Result<Timestamp> {
        let full = self.root.full("");
        let query = [("prefix", full.as_str()), ("maxResults", "1"), ("fields", "items(name)")];
        match self.json.send("now", &self.url, Method::GET, "/o", &query).await {
            Ok(answer) => http_date(&self.url, answer.date.as_deref()),
            Err(Failed::Refused(refusal)) => match refusal.error("now", &self.url) {
                error if error.is_not_found() => Err(no_bucket(error)),
                error => Err(error),
            },
            Err(Failed::Broken(error)) => Err(error),
        }
    }
}

fn no_bucket(error: StorageError) -> StorageError {
    StorageError { kind: ErrorKind::NoBucket, ..error }
}

/// An error in the middle of a body: a wrong sum or length, or a broken connection.
pub(super) fn body_error(url: &str, error: &google_cloud_storage::Error) -> StorageError {
    let checked = chain(error).to_ascii_lowercase();
    if checked.contains("checksum") || checked.contains("mismatch") || checked.contains("too many bytes") {
        return StorageError::new(ErrorKind::Corrupt, "get", url, chain(error));
    }
    client_error("get", url, error)
}

fn credentials(options: &GcsOptions, url: &str) -> Result<Credentials> {
    let refused = |detail: String| StorageError::new(ErrorKind::Credentials, "open", url, detail);
    if options.anonymous {
        return Ok(credentials::anonymous::Builder::new().build());
    }
    match &options.service_account_file {
        Some(path) => {
            let key = read_key(path).map_err(|detail| refused(format!("{}: {detail}", path.display())))?;
            if let Some(kind) = key["type"].as_str().filter(|kind| *kind != "service_account") {
                let detail = "is not the key of a service account; name it in GOOGLE_APPLICATION_CREDENTIALS instead";
                return Err(refused(format!("{}: a file of type {kind:?} {detail}", path.display())));
            }
            let built = credentials::service_account::Builder::new(key).build();
            built.map_err(|error| refused(format!("{}: {}", path.display(), chain(&error))))
        }
        None => credentials::Builder::default().build().map_err(|error| refused(chain(&error))),
    }
}

fn read_key(path: &Path) -> std::result::Result<serde_json::Value, String> {
    let text = std::fs::read(path).map_err(|error| error.to_string())?;
    // The parser's own message would quote the private key.
    serde_json::from_slice(&text).map_err(|error| format!("not JSON at line {}", error.line()))
}
