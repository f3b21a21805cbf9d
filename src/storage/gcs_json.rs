//! The JSON API of Cloud Storage for what the official crate does by gRPC only: list, metadata, delete.
//!
//! gRPC ignores `HTTPS_PROXY`, so a host behind an egress proxy could upload and never prune.

use super::common::{chain, within};
use super::gcs_error::{Refusal, credentials_error};
use super::{ErrorKind, Result, StorageError};
use google_cloud_auth::credentials::{CacheableResource, Credentials};
use http::{Extensions, HeaderMap, Method};
use jiff::Timestamp;
use reqwest::Client;
use serde::Deserialize;
use std::time::Duration;

/// The largest answer that is read: a page of 1,000 names of 1,024 bytes is smaller.
const MAX_ANSWER: usize = 8 * 1024 * 1024;

/// An object as the API describes it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Object {
    pub(super) name: String,
    pub(super) size: String,
    pub(super) time_created: Timestamp,
}

/// A page of a listing.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Listing {
    pub(super) next_page_token: Option<String>,
    pub(super) items: Vec<Object>,
    pub(super) prefixes: Vec<String>,
}

/// A successful answer.
pub(super) struct Answer {
    /// The `Date` header.
    pub(super) date: Option<String>,
    body: Vec<u8>,
}

impl Answer {
    /// Reads the body as JSON.
    pub(super) fn json<T: for<'a> Deserialize<'a>>(&self, op: &'static str, url: &str) -> Result<T> {
        let damaged = |error| StorageError::new(ErrorKind::Corrupt, op, url, error);
        serde_json::from_slice(&self.body).map_err(damaged)
    }
}

/// A request that did not succeed: refused by the service with an answer, or failed on the way.
pub(super) enum Failed {
    /// The service answered with an error.
    Refused(Refusal),
    /// There was no usable answer.
    Broken(StorageError),
}

/// The client.
pub(super) struct Json {
    client: Client,
    credentials: Credentials,
    /// `{endpoint}/storage/v1/b/{bucket}`.
    base: String,
    timeout: Duration,
}

impl Json {
    /// Makes a client for one bucket; the proxies of the environment are honoured.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] when the TLS roots of the machine cannot be used.
    pub(super) fn new(
        endpoint: &str,
        bucket: &str,
        credentials: Credentials,
        timeout: Duration,
        url: &str,
    ) -> Result<Self> {
        let client = Client::builder().connect_timeout(timeout).timeout(timeout).build();
        let client = client.map_err(|error| StorageError::new(ErrorKind::Invalid, "open", url, chain(&error)))?;
        let base = format!("{}/storage/v1/b/{bucket}", endpoint.trim_end_matches('/'));
        Ok(Json { client, credentials, base, timeout })
    }

    /// Sends a request without a body. `path` is appended to the bucket's URL.
    pub(super) async fn send(
        &self,
        op: &'static str,
        url: &str,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
    ) -> std::result::Result<Answer, Failed> {
        let call = async {
            let headers = self.headers(op, url).await?;
            let request = self.client.request(method, format!("{}{path}", self.base)).headers(headers).query(query);
            let broken = |error: reqwest::Error| {
                let kind = if error.is_timeout() {
                    ErrorKind::Timeout
                } else if error.is_builder() {
                    ErrorKind::Invalid
                } else {
                    ErrorKind::Unavailable
                };
                StorageError::new(kind, op, url, chain(&error.without_url()))
            };
            let mut response = request.send().await.map_err(broken)?;
            let status = response.status();
            let date = response.headers().get("date").and_then(|date| date.to_str().ok()).map(str::to_owned);
            let mut body = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(broken)? {
                if body.len() + chunk.len() > MAX_ANSWER {
                    return Err(StorageError::new(ErrorKind::Corrupt, op, url, "the answer does not end"));
                }
                body.extend_from_slice(&chunk);
            }
            Ok((status, Answer { date, body }))
        };
        match within(self.timeout, op, url, call).await {
            Ok((status, answer)) if status.is_success() => Ok(answer),
            Ok((status, answer)) => Err(Failed::Refused(Refusal::new(status.as_u16(), &answer.body))),
            Err(error) => Err(Failed::Broken(error)),
        }
    }

    async fn headers(&self, op: &'static str, url: &str) -> Result<HeaderMap> {
        match self.credentials.headers(Extensions::new()).await {
            Ok(CacheableResource::New { data, .. }) => Ok(data),
            Ok(CacheableResource::NotModified) => Ok(HeaderMap::new()),
            Err(error) => Err(credentials_error(op, url, &error)),
        }
    }
}

/// The path of an object below its bucket: everything but unreserved characters is escaped, slashes too.
pub(super) fn object_path(name: &str) -> String {
    let mut path = String::from("/o/");
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped() {
        assert_eq!(object_path("a/b+c@d~e-f._"), "/o/a%2Fb%2Bc%40d~e-f._");
    }

    #[test]
    fn a_page_without_objects_has_no_items() {
        let answer = Answer { date: None, body: br#"{"kind":"storage#objects"}"#.to_vec() };
        let listing: Listing = answer.json("list", "gs://b").unwrap();
        assert!(listing.items.is_empty() && listing.prefixes.is_empty() && listing.next_page_token.is_none());
    }
}
