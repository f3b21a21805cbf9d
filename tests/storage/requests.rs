//! What the S3 store writes into its requests when the configuration asks for it, and which way requests go.

use crate::support::S3Access;
use crate::support::recorder::{Recorder, header};
use backstay::storage::open::{StorageOptions, open_raw};
use backstay::storage::{ObjectStore, PutMode, PutOutcome};
use http::request::Parts;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const BODY: &str = "some bytes";

fn options(endpoint: &str) -> StorageOptions {
    let access = S3Access {
        endpoint: endpoint.into(),
        region: "eu-test-1".into(),
        key: "AKIATEST".into(),
        secret: "s".into(),
        bucket: "bucket-1".into(),
    };
    access.options("p")
}

/// The request of one upload.
async fn upload(recorder: &Recorder, options: &StorageOptions, mode: PutMode) -> Parts {
    let store: Arc<dyn ObjectStore> = open_raw(options).await.unwrap();
    assert_eq!(store.put("h/k", BODY.into(), mode).await.unwrap(), PutOutcome::Created);
    let mut seen = recorder.take();
    assert_eq!(seen.len(), 1, "{seen:?}");
    seen.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_carries_its_condition_and_its_sum_in_plain_headers() {
    let recorder = Recorder::start().await;
    let sent = upload(&recorder, &options(&recorder.endpoint), PutMode::IfAbsent).await;
    assert_eq!((sent.method.as_str(), sent.uri.path()), ("PUT", "/bucket-1/p/h/k"));
    assert_eq!(header(&sent, "if-none-match"), "*");
    let sum = openssl::base64::encode_block(&crc32c::crc32c(BODY.as_bytes()).to_be_bytes());
    assert_eq!(header(&sent, "x-amz-checksum-crc32c"), sum);
    // Servers other than Amazon's reject bodies in chunks with a sum behind them.
    assert_eq!(header(&sent, "content-length"), BODY.len().to_string());
    assert_eq!((header(&sent, "x-amz-trailer"), header(&sent, "content-encoding")), ("", ""));
    assert!(header(&sent, "authorization").contains("/eu-test-1/s3/aws4_request"), "{sent:?}");
    // What nobody asked for is left to the bucket.
    assert_eq!((header(&sent, "x-amz-storage-class"), header(&sent, "x-amz-security-token")), ("", ""));
    let sent = upload(&recorder, &options(&recorder.endpoint), PutMode::Blind).await;
    assert_eq!(header(&sent, "if-none-match"), "");
    assert_eq!(header(&sent, "x-amz-checksum-crc32c"), sum);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_storage_class_and_the_session_token_are_sent() {
    let recorder = Recorder::start().await;
    let configured = StorageOptions {
        storage_class: Some("STANDARD_IA".into()),
        s3_session_token: Some("a-session".into()),
        ..options(&recorder.endpoint)
    };
    let sent = upload(&recorder, &configured, PutMode::IfAbsent).await;
    assert_eq!(header(&sent, "x-amz-storage-class"), "STANDARD_IA");
    assert_eq!(header(&sent, "x-amz-security-token"), "a-session");
    let signed = header(&sent, "authorization");
    assert!(signed.contains("x-amz-security-token") && signed.contains("x-amz-storage-class"), "{signed}");
}

const BEHIND_A_RECORDER: &str = "BACKSTAY_TEST_BEHIND_A_RECORDER";

/// The client of the next test, in a process with a proxy in its environment: does nothing unless started by it.
#[tokio::test(flavor = "multi_thread")]
async fn client_behind_a_recorder() {
    if std::env::var_os(BEHIND_A_RECORDER).is_none() {
        return;
    }
    for path_style in [false, true] {
        let store = open_raw(&StorageOptions { path_style, ..options("http://storage.invalid") }).await.unwrap();
        assert_eq!(store.put("h/k", BODY.into(), PutMode::IfAbsent).await.unwrap(), PutOutcome::Created);
    }
}

/// The name of the bucket's host is looked up by nobody here: a proxy gets the requests.
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_named_in_the_host_or_with_path_style_in_the_path() {
    let recorder = Recorder::start().await;
    let client = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["requests::client_behind_a_recorder", "--exact"])
        .env(BEHIND_A_RECORDER, "1")
        .envs([("HTTP_PROXY", &recorder.endpoint), ("http_proxy", &recorder.endpoint)])
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&client.stdout);
    assert!(client.status.success() && said.contains("1 passed"), "{said}");
    let seen = recorder.take();
    let asked: Vec<(&str, &str)> = seen.iter().map(|sent| (header(sent, "host"), sent.uri.path())).collect();
    assert_eq!(asked, [("bucket-1.storage.invalid", "/p/h/k"), ("storage.invalid", "/bucket-1/p/h/k")]);
}

const BEHIND_A_TUNNEL: &str = "BACKSTAY_TEST_BEHIND_A_TUNNEL";

/// The client of the next test, as above. Nothing can succeed: the proxy refuses, and without it there is no such host.
#[tokio::test(flavor = "multi_thread")]
async fn client_behind_a_tunnel() {
    if std::env::var_os(BEHIND_A_TUNNEL).is_none() {
        return;
    }
    let short = Duration::from_secs(2);
    let s3 = StorageOptions { timeout: short, ..options("https://s3.storage.invalid") };
    let gcs = StorageOptions {
        endpoint: Some("https://gcs.storage.invalid".into()),
        anonymous: true,
        timeout: short,
        ..StorageOptions::new("gs://bucket-1/p")
    };
    for options in [s3, gcs] {
        let store = open_raw(&options).await.unwrap();
        // Two clients serve a bucket on Cloud Storage.
        store.get("h/k", 10).await.unwrap_err();
        store.list("h/", None).await.unwrap_err();
    }
}

/// The first lines that a proxy is sent, which refuses every tunnel.
fn tunnel() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let lines: Arc<Mutex<Vec<String>>> = Arc::default();
    let heard = Arc::clone(&lines);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let read = stream.read(&mut request).unwrap_or_default();
            let request = String::from_utf8_lossy(&request[..read]);
            heard.lock().unwrap().push(request.lines().next().unwrap_or_default().to_owned());
            let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
    (endpoint, lines)
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_goes_through_the_proxy_unless_the_host_is_exempt() {
    for (exempt, direct) in [("elsewhere.invalid", false), ("storage.invalid", true)] {
        let (endpoint, lines) = tunnel();
        let client = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["requests::client_behind_a_tunnel", "--exact"])
            .env(BEHIND_A_TUNNEL, "1")
            .envs([("HTTPS_PROXY", &endpoint), ("https_proxy", &endpoint)])
            .envs([("NO_PROXY", exempt), ("no_proxy", exempt)])
            .output()
            .await
            .unwrap();
        let said = String::from_utf8_lossy(&client.stdout);
        assert!(client.status.success() && said.contains("1 passed"), "{said}");
        let lines = lines.lock().unwrap().clone();
        let to = |host: &str| lines.iter().filter(|line| line.starts_with(&format!("CONNECT {host}:443 "))).count();
        let tunnels = (to("s3.storage.invalid"), to("gcs.storage.invalid"));
        if direct {
            assert!(lines.is_empty(), "{lines:?}");
        } else {
            assert!(tunnels.0 >= 2 && tunnels.1 >= 2, "{lines:?}");
        }
    }
}
