//! From the answers of Cloud Storage to the port's error kinds.

use super::common::chain;
use super::{ErrorKind, StorageError};
use google_cloud_auth::errors::CredentialsError;
use serde::Deserialize;
use std::error::Error;

/// The error document of the JSON API.
#[derive(Debug, Default, Deserialize)]
struct Document {
    error: Inner,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Inner {
    message: String,
    errors: Vec<Reason>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Reason {
    reason: String,
}

/// What the service said: its words and its machine-readable reasons.
pub(super) struct Refusal {
    status: u16,
    message: String,
    reasons: Vec<String>,
}

impl Refusal {
    /// Reads the body of an error answer, which may be a JSON document or plain text.
    pub(super) fn new(status: u16, body: &[u8]) -> Self {
        match serde_json::from_slice::<Document>(body) {
            Ok(Document { error }) => Refusal {
                status,
                message: error.message,
                reasons: error.errors.into_iter().map(|entry| entry.reason).collect(),
            },
            Err(_) => {
                let text = String::from_utf8_lossy(body);
                Refusal { status, message: text.trim().chars().take(300).collect(), reasons: Vec::new() }
            }
        }
    }

    fn has(&self, reasons: &[&str]) -> bool {
        self.reasons.iter().any(|reason| reasons.contains(&reason.as_str()))
    }

    /// Whether a retention policy, an object lock or a hold forbade a deletion.
    pub(super) fn is_retained(&self) -> bool {
        let words = self.message.to_ascii_lowercase();
        let phrases = ["retention policy", "retention period", "under active", "object hold", "event-based hold"];
        let said = phrases.iter().any(|phrase| words.contains(phrase)) || words.contains("temporary hold");
        let reasons = ["retentionPolicyNotMet", "objectUnderActiveHold", "objectHold", "objectRetentionNotMet"];
        matches!(self.status, 403 | 412) && (self.has(&reasons) || said)
    }

    /// Whether a 404 names the object (`Some(false)`) or the bucket (`Some(true)`); `None` when it does not tell.
    pub(super) fn misses_bucket(&self) -> Option<bool> {
        if self.message.contains("bucket does not exist") {
            Some(true)
        } else if self.message.contains("No such object") {
            Some(false)
        } else {
            None
        }
    }

    fn kind(&self) -> ErrorKind {
        match self.status {
            401 => ErrorKind::Credentials,
            403 if self.has(&["rateLimitExceeded", "userRateLimitExceeded"]) => ErrorKind::Throttled,
            403 if self.has(&["quotaExceeded"]) => ErrorKind::Full,
            403 => ErrorKind::Denied,
            404 if self.misses_bucket() == Some(true) => ErrorKind::NoBucket,
            404 => ErrorKind::NotFound,
            408 => ErrorKind::Timeout,
            409 | 429 => ErrorKind::Throttled,
            500..=599 => ErrorKind::Unavailable,
            200..=299 => ErrorKind::Corrupt,
            _ => ErrorKind::Invalid,
        }
    }

    /// The port's error.
    pub(super) fn error(&self, op: &'static str, url: &str) -> StorageError {
        let reasons = self.reasons.join(", ");
        let detail = if reasons.is_empty() {
            format!("{}: {}", self.status, self.message)
        } else {
            format!("{} {reasons}: {}", self.status, self.message)
        };
        StorageError::new(self.kind(), op, url, detail)
    }
}

/// What the crate says when there are neither credentials nor a metadata server. It counts that as transient, and says it as
/// well of a metadata server that is there and answers with a failure.
const NOWHERE: &str = "not running in a Google Cloud Environment";

/// Classifies a failure to obtain credentials.
pub(super) fn credentials_error(op: &'static str, url: &str, error: &CredentialsError) -> StorageError {
    let detail = chain(error);
    let passes = error.is_transient() && (!detail.contains(NOWHERE) || was_answered(error));
    let kind = if passes { ErrorKind::Unavailable } else { ErrorKind::Credentials };
    StorageError::new(kind, op, url, detail)
}

/// Whether a server said so.
fn was_answered(error: &CredentialsError) -> bool {
    let mut cause = error.source();
    while let Some(inner) = cause {
        let by_crate = inner.downcast_ref::<google_cloud_gax::error::Error>().and_then(|e| e.http_status_code());
        let by_request = inner.downcast_ref::<reqwest::Error>().and_then(reqwest::Error::status);
        if by_crate.is_some() || by_request.is_some() {
            return true;
        }
        cause = inner.source();
    }
    false
}

/// Classifies an error of the official crate that carries no HTTP answer.
pub(super) fn client_error(op: &'static str, url: &str, error: &google_cloud_storage::Error) -> StorageError {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(failed) = inner.downcast_ref::<CredentialsError>() {
            return credentials_error(op, url, failed);
        }
        cause = inner.source();
    }
    let kind = if error.is_authentication() {
        ErrorKind::Credentials
    } else if error.is_timeout() {
        ErrorKind::Timeout
    } else if error.is_deserialization() || error.is_serialization() {
        ErrorKind::Corrupt
    } else if error.is_binding() {
        ErrorKind::Invalid
    } else {
        ErrorKind::Unavailable
    };
    StorageError::new(kind, op, url, chain(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, reason: &str, message: &str) -> Refusal {
        let body = serde_json::json!({
            "error": { "code": status, "message": message, "errors": [{ "reason": reason, "message": message }] }
        });
        Refusal::new(status, body.to_string().as_bytes())
    }

    #[test]
    fn answers_have_their_kinds() {
        let kind = |status, reason, message| refusal(status, reason, message).error("get", "gs://b/k").kind;
        assert_eq!(kind(404, "notFound", "The specified bucket does not exist."), ErrorKind::NoBucket);
        assert_eq!(kind(404, "notFound", "No such object: b/k"), ErrorKind::NotFound);
        assert_eq!(kind(403, "forbidden", "x does not have storage.objects.get access"), ErrorKind::Denied);
        assert_eq!(kind(403, "userRateLimitExceeded", ""), ErrorKind::Throttled);
        assert_eq!(kind(401, "authError", "Invalid Credentials"), ErrorKind::Credentials);
        assert_eq!(kind(503, "backendError", ""), ErrorKind::Unavailable);
        assert_eq!(Refusal::new(502, b"<html>bad gateway").error("get", "u").kind, ErrorKind::Unavailable);
    }

    #[test]
    fn a_failure_that_passes_is_told_from_credentials_that_are_nowhere() {
        let kind = |transient, text: &str| {
            let error = CredentialsError::from_msg(transient, text);
            credentials_error("get", "gs://b/k", &error).kind
        };
        assert_eq!(kind(true, "failed to fetch token"), ErrorKind::Unavailable);
        assert_eq!(kind(false, "invalid key"), ErrorKind::Credentials);
        let nowhere = "Could not fetch an auth token: you are not running in a Google Cloud Environment";
        assert_eq!(kind(true, nowhere), ErrorKind::Credentials);
        // A metadata server that is there and busy.
        let busy = google_cloud_gax::error::Error::http(503, Default::default(), Default::default());
        let error = CredentialsError::new(true, nowhere, busy);
        assert_eq!(credentials_error("get", "gs://b/k", &error).kind, ErrorKind::Unavailable);
    }

    #[test]
    fn retention_is_told_from_a_missing_permission() {
        let text = "Object 'b/k' is subject to bucket's retention policy or object retention and cannot be deleted";
        assert!(refusal(403, "retentionPolicyNotMet", text).is_retained());
        assert!(refusal(403, "", "Object 'b/k' is under active Event-Based hold").is_retained());
        assert!(!refusal(403, "forbidden", "x does not have storage.objects.delete access").is_retained());
    }
}
