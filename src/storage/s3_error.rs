//! From the errors of the AWS SDK to the port's error kinds.

use super::common::chain;
use super::{ErrorKind, StorageError};
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use std::error::Error;

/// Where in the conversation a request failed; all that is needed to classify it.
pub(super) struct Failure {
    /// The error code in the body of the answer, when there is one (a HEAD answer has no body).
    pub(super) code: Option<String>,
    /// The HTTP status, when there was an answer.
    pub(super) status: Option<u16>,
    /// The error.
    pub(super) error: StorageError,
}

/// Classifies a failed request.
pub(super) fn failure<E>(op: &'static str, url: &str, error: &SdkError<E, HttpResponse>) -> Failure
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let status = error.raw_response().map(|response| response.status().as_u16());
    let code = error.code().map(str::to_owned);
    let message = error.message().unwrap_or_default();
    let kind = match error {
        SdkError::TimeoutError(_) => ErrorKind::Timeout,
        SdkError::ServiceError(_) | SdkError::ResponseError(_) => {
            kind_of(code.as_deref(), status.unwrap_or_default(), message)
        }
        other => match credentials_failure(other) {
            Some(kind) => kind,
            None => match error {
                SdkError::ConstructionFailure(_) => ErrorKind::Invalid,
                SdkError::DispatchFailure(failure) if failure.is_timeout() => ErrorKind::Timeout,
                SdkError::DispatchFailure(failure) if failure.is_user() => ErrorKind::Invalid,
                _ => ErrorKind::Unavailable,
            },
        },
    };
    let detail = match (code.as_deref(), status) {
        (Some(code), Some(status)) => format!("{status} {code}: {message}"),
        (None, Some(status)) => format!("{status}: {}", chain(error)),
        _ => chain(error),
    };
    Failure { code, status, error: StorageError::new(kind, op, url, detail) }
}

/// What the failure to obtain credentials means; `None` when something else failed.
fn credentials_failure(error: &(dyn Error + 'static)) -> Option<ErrorKind> {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if let Some(error) = inner.downcast_ref::<CredentialsError>() {
            return Some(match error {
                CredentialsError::ProviderTimedOut(_) => ErrorKind::Timeout,
                _ => ErrorKind::Credentials,
            });
        }
        cause = inner.source();
    }
    None
}

/// The kind that an error code and a status stand for. The code decides; servers disagree about the status.
fn kind_of(code: Option<&str>, status: u16, message: &str) -> ErrorKind {
    match code.unwrap_or_default() {
        "NoSuchKey" | "NotFound" => ErrorKind::NotFound,
        "NoSuchBucket" => ErrorKind::NoBucket,
        "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "ExpiredToken"
        | "InvalidToken"
        | "TokenRefreshRequired"
        | "InvalidSecurity"
        | "NotSignedUp"
        | "RequestTimeTooSkewed"
        | "MissingAuthenticationToken" => ErrorKind::Credentials,
        // garage uses the code of a missing permission for a wrong key and a wrong secret, too.
        "AccessDenied" if message.contains("No such key:") || message.contains("Invalid signature") => {
            ErrorKind::Credentials
        }
        "AccessDenied" | "AllAccessDisabled" | "AccountProblem" => ErrorKind::Denied,
        "InvalidObjectState" => ErrorKind::Archived,
        "RequestTimeout" => ErrorKind::Timeout,
        "SlowDown"
        | "ServiceUnavailable"
        | "Throttling"
        | "ThrottlingException"
        | "RequestLimitExceeded"
        | "TooManyRequests" => ErrorKind::Throttled,
        "QuotaExceeded" | "InsufficientStorage" | "XMinioStorageFull" | "XAmzQuotaExceeded" => ErrorKind::Full,
        "BadDigest" | "XAmzContentSHA256Mismatch" | "IncompleteBody" | "InvalidDigest" => ErrorKind::Corrupt,
        _ => match status {
            401 => ErrorKind::Credentials,
            403 => ErrorKind::Denied,
            404 => ErrorKind::NotFound,
            408 => ErrorKind::Timeout,
            409 | 429 | 503 => ErrorKind::Throttled,
            507 => ErrorKind::Full,
            500..=599 => ErrorKind::Unavailable,
            200..=299 => ErrorKind::Corrupt,
            _ => ErrorKind::Invalid,
        },
    }
}

/// Whether a refused deletion was refused by a retention lock or a legal hold. AWS says so in the message of an
/// `AccessDenied`; other servers have codes of their own.
pub(super) fn is_retained(failure: &Failure) -> bool {
    let code = failure.code.as_deref().unwrap_or_default();
    let words = failure.error.detail.to_ascii_lowercase();
    let locked = ["object lock", "worm", "retention", "legal hold", "object protected", "is locked"];
    match code {
        "ObjectLocked" | "ObjectUnderRetention" | "FileImmutable" => true,
        "AccessDenied" | "InvalidRequest" | "MethodNotAllowed" => locked.iter().any(|phrase| words.contains(phrase)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_statuses_have_their_kinds() {
        let cases = [
            (Some("NoSuchKey"), 404, ErrorKind::NotFound),
            (Some("NoSuchBucket"), 404, ErrorKind::NoBucket),
            (Some("SignatureDoesNotMatch"), 403, ErrorKind::Credentials),
            (Some("ExpiredToken"), 400, ErrorKind::Credentials),
            (Some("AccessDenied"), 403, ErrorKind::Denied),
            (Some("ConditionalRequestConflict"), 409, ErrorKind::Throttled),
            (Some("SlowDown"), 503, ErrorKind::Throttled),
            (Some("InternalError"), 500, ErrorKind::Unavailable),
            (Some("InvalidObjectState"), 403, ErrorKind::Archived),
            (Some("AuthorizationHeaderMalformed"), 400, ErrorKind::Invalid),
            (Some("PermanentRedirect"), 301, ErrorKind::Invalid),
            (None, 403, ErrorKind::Denied),
            (None, 404, ErrorKind::NotFound),
            (None, 429, ErrorKind::Throttled),
            (None, 502, ErrorKind::Unavailable),
            (None, 507, ErrorKind::Full),
            (None, 200, ErrorKind::Corrupt),
        ];
        for (code, status, kind) in cases {
            assert_eq!(kind_of(code, status, ""), kind, "{code:?} {status}");
        }
    }

    #[test]
    fn a_lock_is_told_from_a_missing_permission() {
        let failure = |code: &str, detail: &str| Failure {
            code: Some(code.into()),
            status: Some(403),
            error: StorageError::new(ErrorKind::Denied, "delete", "s3://b/k", detail),
        };
        let locked = "Access Denied because object protected by object lock.";
        assert!(is_retained(&failure("AccessDenied", locked)));
        assert!(is_retained(&failure("InvalidRequest", "Object is WORM protected and cannot be overwritten")));
        assert!(!is_retained(&failure("AccessDenied", "Access Denied")));
    }
}
