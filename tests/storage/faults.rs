//! Servers that refuse, fail, hang or are not there.

use crate::port::free_port;
use crate::support::garage::Garage;
use crate::support::gcs_fake::{Fault, GcsFake};
use crate::support::moto::Moto;
use crate::support::s3_server::{self, S3Server};
use crate::support::silent::{Canned, Silent};
use crate::support::{S3Access, quick};
use backstay::storage::open::{StorageOptions, open, open_raw};
use backstay::storage::retry::RetryPolicy;
use backstay::storage::{DeleteOutcome, ErrorKind, ObjectStore, PutMode, PutOutcome, StorageError};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn error_of<T: Debug>(answer: Result<T, StorageError>) -> StorageError {
    answer.expect_err("expected an error")
}

/// The error of every call of the port, with its name.
async fn all_errors(store: &Arc<dyn ObjectStore>) -> Vec<(&'static str, StorageError, Duration)> {
    let mut errors = Vec::new();
    let mut add = |name, started: Instant, error| errors.push((name, error, started.elapsed()));
    let at = Instant::now();
    add("put", at, error_of(store.put("h/k", "x".into(), PutMode::IfAbsent).await));
    let at = Instant::now();
    add("blind put", at, error_of(store.put("h/k", "x".into(), PutMode::Blind).await));
    let at = Instant::now();
    add("get", at, error_of(store.get("h/k", 100).await));
    let at = Instant::now();
    add("stat", at, error_of(store.stat("h/k").await));
    let at = Instant::now();
    add("list", at, error_of(store.list("h/", None).await));
    let at = Instant::now();
    add("folders", at, error_of(store.folders("").await));
    let at = Instant::now();
    add("delete", at, error_of(store.delete("h/k").await));
    let at = Instant::now();
    add("now", at, error_of(store.now().await));
    errors
}

fn s3_at(endpoint: &str) -> StorageOptions {
    let access = S3Access {
        endpoint: endpoint.into(),
        region: "us-east-1".into(),
        key: "k".into(),
        secret: "s".into(),
        bucket: "bucket-1".into(),
    };
    access.options("p")
}

fn gcs_at(endpoint: &str) -> StorageOptions {
    StorageOptions {
        endpoint: Some(endpoint.into()),
        anonymous: true,
        retry: quick(),
        ..StorageOptions::new("gs://bucket-1/p")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_server_ends_every_call_in_time() {
    let silent = Silent::start().await;
    let limit = Duration::from_secs(1);
    let check = async |options: StorageOptions| {
        let store = open_raw(&StorageOptions { timeout: limit, ..options }).await.unwrap();
        for (name, error, took) in all_errors(&store).await {
            assert_eq!(error.kind, ErrorKind::Timeout, "{name}: {error}");
            assert!(took < 2 * limit, "{name} took {took:?}");
        }
    };
    tokio::join!(check(s3_at(&silent.endpoint)), check(gcs_at(&silent.endpoint)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_connection_is_unavailable() {
    let endpoint = format!("http://127.0.0.1:{}", free_port());
    for options in [s3_at(&endpoint), gcs_at(&endpoint)] {
        let store = open_raw(&options).await.unwrap();
        for (name, error, _) in all_errors(&store).await {
            assert_eq!(error.kind, ErrorKind::Unavailable, "{name}: {error}");
        }
    }
}

async fn wrong_credentials_fail_at_once(access: &S3Access, bogus: StorageOptions) {
    let started = Instant::now();
    let store = open(&bogus, None).await.unwrap();
    for (name, error, _) in all_errors(&store).await {
        let expected = matches!(error.kind, ErrorKind::Credentials | ErrorKind::Denied);
        assert!(expected, "{name} at {}: {error}", access.endpoint);
        assert!(!error.detail.contains("attempts"), "{name} was retried: {error}");
        assert!(!error.to_string().contains("wrong-secret"), "{name}: {error}");
    }
    let error = error_of(store.get("h/k", 1).await);
    assert_eq!(error.kind, ErrorKind::Credentials, "{}: {error}", access.endpoint);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_s3_credentials_are_said_and_not_retried() {
    let server = S3Server::start().await;
    let garage = Garage::start().await;
    for access in [&server.access, &garage.access] {
        let slow = RetryPolicy { first_pause: Duration::from_secs(5), ..RetryPolicy::default() };
        let options = StorageOptions { retry: slow, ..access.options("p") };
        let secret = Some("wrong-secret".repeat(6).chars().take(64).collect());
        let wrong_secret = StorageOptions { s3_secret_access_key: secret, ..options.clone() };
        wrong_credentials_fail_at_once(access, wrong_secret).await;
        let unknown_key = format!("GK{}", "99".repeat(12));
        let unknown = StorageOptions { s3_access_key_id: Some(unknown_key), ..options };
        wrong_credentials_fail_at_once(access, unknown).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_bucket_is_told_from_a_missing_object() {
    // Not s3s-fs: its put creates the bucket.
    let moto = Moto::start().await;
    let garage = Garage::start().await;
    let fake = GcsFake::start().await;
    let s3 = |access: &S3Access| StorageOptions { url: "s3://no-such-bucket/p".into(), ..access.options("") };
    let gcs = StorageOptions { url: "gs://no-such-bucket/p".into(), ..fake.options("") };
    for options in [s3(&moto.access), s3(&garage.access), gcs] {
        let endpoint = options.endpoint.clone().unwrap();
        let store = open_raw(&options).await.unwrap();
        for (name, error, _) in all_errors(&store).await {
            // garage shows a bucket that a key may not use as forbidden.
            let denied = endpoint == garage.access.endpoint && error.kind == ErrorKind::Denied;
            assert!(error.kind == ErrorKind::NoBucket || denied, "{name} at {endpoint}: {error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cloud_storage_errors_are_retried_once_each() {
    let fake = GcsFake::start().await;
    let store = open(&fake.options("p"), None).await.unwrap();
    store.put("h/first", "x".into(), PutMode::IfAbsent).await.unwrap();
    let before = fake.requests("upload");

    fake.inject("upload", &[Fault::Unavailable, Fault::Unavailable]);
    assert_eq!(store.put("h/k", "x".into(), PutMode::IfAbsent).await.unwrap(), PutOutcome::Created);
    assert_eq!(fake.requests("upload") - before, 3, "the crate must not retry on top of us");

    fake.inject("upload", &[Fault::CommitThenUnavailable]);
    assert_eq!(store.put("h/lost", "x".into(), PutMode::IfAbsent).await.unwrap(), PutOutcome::Created);
    assert_eq!(store.put("h/lost", "x".into(), PutMode::IfAbsent).await.unwrap(), PutOutcome::Exists);

    for kind in ["get", "list", "delete"] {
        fake.inject(kind, &[Fault::Unavailable, Fault::Unavailable]);
    }
    assert_eq!(store.get("h/k", 10).await.unwrap(), "x");
    assert_eq!(store.list("h/", None).await.unwrap().objects.len(), 4, "three objects and the probe");
    assert_eq!(store.delete("h/k").await.unwrap(), DeleteOutcome::Gone);
}

#[tokio::test(flavor = "multi_thread")]
async fn cloud_storage_faults_have_their_kinds() {
    let fake = GcsFake::start().await;
    let options = StorageOptions { timeout: Duration::from_secs(1), ..fake.options("p") };
    let store = open_raw(&options).await.unwrap();
    store.put("h/k", "some bytes".into(), PutMode::IfAbsent).await.unwrap();

    for kind in ["upload", "get", "list", "delete"] {
        fake.inject(kind, &[Fault::Hang]);
    }
    assert_eq!(error_of(store.put("h/x", "x".into(), PutMode::IfAbsent).await).kind, ErrorKind::Timeout);
    assert_eq!(error_of(store.get("h/k", 10).await).kind, ErrorKind::Timeout);
    assert_eq!(error_of(store.list("", None).await).kind, ErrorKind::Timeout);
    assert_eq!(error_of(store.delete("h/k").await).kind, ErrorKind::Timeout);

    fake.inject("delete", &[Fault::Retention]);
    assert_eq!(store.delete("h/k").await.unwrap(), DeleteOutcome::Retained);
    fake.inject("delete", &[Fault::Forbidden]);
    assert_eq!(error_of(store.delete("h/k").await).kind, ErrorKind::Denied);
    fake.inject("get", &[Fault::Forbidden, Fault::Unavailable]);
    assert_eq!(error_of(store.get("h/k", 10).await).kind, ErrorKind::Denied);
    assert_eq!(error_of(store.get("h/k", 10).await).kind, ErrorKind::Unavailable);
    fake.inject("get", &[Fault::WrongSum]);
    let error = error_of(store.get("h/k", 10).await);
    assert_eq!(error.kind, ErrorKind::Corrupt, "{error}");
    assert_eq!(store.get("h/k", 10).await.unwrap(), "some bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_errors_are_retried() {
    use http::Method;
    use s3_server::Fault;
    let server = S3Server::start().await;
    let store = open(&server.access.options("p"), None).await.unwrap();
    store.put("h/first", "x".into(), PutMode::IfAbsent).await.unwrap();

    let internal = Fault { status: 500, code: "InternalError", message: "", commit: false };
    let conflict = Fault { status: 409, code: "ConditionalRequestConflict", message: "", commit: false };
    for fault in [Fault::SLOW_DOWN, internal, conflict] {
        server.inject(Method::PUT, &[fault, fault]);
        let key = format!("h/after-{}", fault.code);
        assert_eq!(store.put(&key, "x".into(), PutMode::IfAbsent).await.unwrap(), PutOutcome::Created);
    }

    server.inject(Method::PUT, &[Fault { commit: true, ..Fault::SLOW_DOWN }]);
    assert_eq!(store.put("h/lost", "x".into(), PutMode::IfAbsent).await.unwrap(), PutOutcome::Created);
    assert_eq!(store.put("h/lost", "x".into(), PutMode::IfAbsent).await.unwrap(), PutOutcome::Exists);

    server.inject(Method::GET, &[Fault::SLOW_DOWN, Fault::SLOW_DOWN]);
    assert_eq!(store.get("h/lost", 10).await.unwrap(), "x");
    server.inject(Method::GET, &[Fault::SLOW_DOWN; 5]);
    let error = error_of(store.list("h/", None).await);
    assert!(error.kind == ErrorKind::Throttled && error.detail.contains("5 attempts"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_faults_have_their_kinds() {
    use http::Method;
    use s3_server::Fault;
    let server = S3Server::start().await;
    let store = open_raw(&server.access.options("p")).await.unwrap();
    store.put("h/k", "x".into(), PutMode::IfAbsent).await.unwrap();
    let fault = |status, code, message| Fault { status, code, message, commit: false };
    for (fault, kind) in [
        (fault(403, "InvalidObjectState", "The operation is not valid for the storage class"), ErrorKind::Archived),
        (fault(403, "AccessDenied", "Access Denied"), ErrorKind::Denied),
        (fault(400, "ExpiredToken", "The provided token has expired"), ErrorKind::Credentials),
        (fault(404, "NoSuchBucket", "The specified bucket does not exist"), ErrorKind::NoBucket),
        (fault(404, "NoSuchKey", "The specified key does not exist."), ErrorKind::NotFound),
        (fault(503, "SlowDown", ""), ErrorKind::Throttled),
        (fault(502, "", ""), ErrorKind::Unavailable),
        (fault(301, "PermanentRedirect", "another region"), ErrorKind::Invalid),
    ] {
        server.inject(Method::GET, &[fault]);
        let error = error_of(store.get("h/k", 10).await);
        assert_eq!(error.kind, kind, "{error}");
    }
    let locked = fault(403, "AccessDenied", "Access Denied because object protected by object lock.");
    server.inject(Method::DELETE, &[locked, fault(403, "AccessDenied", "Access Denied")]);
    assert_eq!(store.delete("h/k").await.unwrap(), DeleteOutcome::Retained);
    assert_eq!(error_of(store.delete("h/k").await).kind, ErrorKind::Denied);
    server.inject(Method::PUT, &[fault(507, "InsufficientStorage", "")]);
    assert_eq!(error_of(store.put("h/x", "x".into(), PutMode::Blind).await).kind, ErrorKind::Full);
}

/// An answer that ends before its announced length is damaged, and one over the limit is not read.
#[tokio::test(flavor = "multi_thread")]
async fn answers_of_another_length_than_announced() {
    let head = "HTTP/1.1 200 OK\r\nx-goog-generation: 1\r\nx-goog-stored-content-length: 100\r\n\
                content-length: 100\r\nconnection: close\r\n\r\nshort";
    let server = Canned::start(head).await;
    for options in [s3_at(&server.endpoint), gcs_at(&server.endpoint)] {
        let store = open_raw(&StorageOptions { timeout: Duration::from_secs(5), ..options }).await.unwrap();
        let error = error_of(store.get("h/k", 100).await);
        assert!(error.retryable() && error.kind != ErrorKind::Timeout, "{error}");
        let error = error_of(store.get("h/k", 99).await);
        assert_eq!(error.kind, ErrorKind::TooLarge, "{error}");
    }
}

/// A body that stops in the middle ends the call, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_body_ends_in_time() {
    let head = "HTTP/1.1 200 OK\r\nx-goog-generation: 1\r\nx-goog-stored-content-length: 9000000\r\n\
                content-length: 9000000\r\n\r\nshort";
    let server = Canned::stalling(head).await;
    for options in [s3_at(&server.endpoint), gcs_at(&server.endpoint)] {
        let limit = Duration::from_secs(1);
        let store = open_raw(&StorageOptions { timeout: limit, ..options }).await.unwrap();
        let started = Instant::now();
        let error = error_of(store.get("h/k", 10_000_000).await);
        assert!(error.retryable(), "{error}");
        assert!(started.elapsed() < 4 * limit, "{:?}: {error}", started.elapsed());
    }
}

const BEHIND_A_PROXY: &str = "BACKSTAY_TEST_BEHIND_A_PROXY";

/// The client of the next test, in a process with a proxy in its environment: does nothing unless started by it.
#[tokio::test(flavor = "multi_thread")]
async fn client_behind_a_proxy() {
    if std::env::var_os(BEHIND_A_PROXY).is_none() {
        return;
    }
    for options in [s3_at("http://storage.invalid"), gcs_at("http://storage.invalid")] {
        let store = open_raw(&options).await.unwrap();
        for (name, error, _) in all_errors(&store).await {
            assert_eq!(error.kind, ErrorKind::Denied, "{name} did not go through the proxy: {error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn proxies_are_honoured_by_every_call() {
    let proxy = Canned::start("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
    let client = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["faults::client_behind_a_proxy", "--exact"])
        .env(BEHIND_A_PROXY, "1")
        .envs([("HTTP_PROXY", &proxy.endpoint), ("http_proxy", &proxy.endpoint)])
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&client.stdout);
    assert!(client.status.success() && said.contains("1 passed"), "{said}");
}

/// The fake's resumable protocol, with which clients that stream large objects are served.
#[tokio::test(flavor = "multi_thread")]
async fn the_fake_takes_resumable_uploads() {
    let fake = GcsFake::start().await;
    let client = google_cloud_storage::client::Storage::builder()
        .with_endpoint(&fake.endpoint)
        .with_credentials(google_cloud_auth::credentials::anonymous::Builder::new().build())
        .with_resumable_upload_threshold(0_usize)
        .with_resumable_upload_buffer_size(256 * 1024_usize)
        .build()
        .await
        .unwrap();
    let bucket = "projects/_/buckets/bucket-1";
    let body = vec![5_u8; 700_000];
    let write = client.write_object(bucket, "p/large", bytes::Bytes::from(body.clone()));
    write.set_if_generation_match(0_i64).send_buffered().await.unwrap();
    let store = open_raw(&fake.options("p")).await.unwrap();
    assert!(store.get("large", 1 << 20).await.unwrap() == body);
    let again = client.write_object(bucket, "p/large", bytes::Bytes::from(body));
    let refused = again.set_if_generation_match(0_i64).send_buffered().await.unwrap_err();
    assert_eq!(refused.http_status_code(), Some(412));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_under_lock_is_retained() {
    use aws_sdk_s3::types::{ObjectLockRetention, ObjectLockRetentionMode};
    let moto = Moto::start().await;
    let client = moto.access.client();
    client.create_bucket().bucket("locked-1").object_lock_enabled_for_bucket(true).send().await.unwrap();
    let options = StorageOptions { url: "s3://locked-1/p".into(), ..moto.access.options("") };
    let store = open_raw(&options).await.unwrap();
    store.put("h/k", "x".into(), PutMode::IfAbsent).await.unwrap();
    let until = std::time::SystemTime::now() + Duration::from_secs(3600);
    let retention = ObjectLockRetention::builder()
        .mode(ObjectLockRetentionMode::Compliance)
        .retain_until_date(until.into())
        .build();
    client.put_object_retention().bucket("locked-1").key("p/h/k").retention(retention).send().await.unwrap();
    let outcome = store.delete("h/k").await.unwrap();
    // A delete without a version only hides the object behind a marker, lock or not: the version stays.
    let versions = client.list_object_versions().bucket("locked-1").send().await.unwrap();
    assert_eq!(versions.versions().len(), 1);
    assert_eq!(outcome, DeleteOutcome::Gone);
}

#[tokio::test]
async fn options_that_make_no_sense_are_refused() {
    let refused = async |options: StorageOptions| error_of(open(&options, None).await);
    for class in ["GLACIER", "deep_archive"] {
        let options = StorageOptions { storage_class: Some(class.into()), ..s3_at("http://127.0.0.1:1") };
        let error = refused(options).await;
        assert_eq!(error.kind, ErrorKind::Invalid);
        assert!(error.detail.contains("GLACIER_IR"), "{error}");
    }
    let allowed = StorageOptions { storage_class: Some("GLACIER_IR".into()), ..s3_at("http://127.0.0.1:1") };
    assert!(open(&allowed, None).await.is_ok());
    let half = StorageOptions { s3_secret_access_key: None, ..s3_at("http://127.0.0.1:1") };
    assert_eq!(refused(half).await.kind, ErrorKind::Invalid);
    assert_eq!(refused(s3_at("127.0.0.1:1")).await.kind, ErrorKind::Invalid);
    let anonymous = StorageOptions { anonymous: true, ..StorageOptions::new("gs://bucket-1") };
    assert_eq!(refused(anonymous).await.kind, ErrorKind::Invalid);
    let missing = Some("/nonexistent/key.json".into());
    let key = StorageOptions { service_account_file: missing, ..StorageOptions::new("gs://bucket-1") };
    assert_eq!(refused(key).await.kind, ErrorKind::Credentials);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.json");
    std::fs::write(&file, "private-words").unwrap();
    let key = StorageOptions { service_account_file: Some(file), ..StorageOptions::new("gs://bucket-1") };
    let error = refused(key).await;
    assert!(error.kind == ErrorKind::Credentials && !error.to_string().contains("private-words"), "{error}");
}

/// Without credentials anywhere the standard chain ends with the instance metadata, which is not there.
#[tokio::test(flavor = "multi_thread")]
async fn no_credentials_are_credentials_errors() {
    let server = S3Server::start().await;
    let options = StorageOptions { s3_access_key_id: None, s3_secret_access_key: None, ..server.access.options("p") };
    let store = open_raw(&options).await.unwrap();
    let error = error_of(store.get("h/k", 1).await);
    assert_eq!(error.kind, ErrorKind::Credentials, "{error}");
    assert!(error.detail.contains("credentials"), "{error}");
}
