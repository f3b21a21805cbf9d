//! Servers for the storage tests, all on free loopback ports and gone when dropped.

pub mod aws_identity;
pub mod garage;
pub mod gcs_fake;
mod gcs_wire;
pub mod google_identity;
pub mod moto;
pub mod policy;
pub mod recorder;
pub mod s3_server;
pub mod silent;
pub mod trouble;

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use backstay::storage::open::StorageOptions;
use backstay::storage::retry::RetryPolicy;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server process, killed on drop.
pub struct Server {
    child: Child,
    name: String,
}

impl Server {
    /// Starts a program; a missing one fails the test with what to install.
    pub fn start(command: &mut Command, install: &str) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        match spawned {
            Ok(child) => Server { child, name },
            Err(error) => panic!("cannot start {name}: {error}. This test needs it: {install}"),
        }
    }

    /// Waits until `ready` says so.
    pub async fn wait_for(&mut self, ready: impl AsyncFn() -> bool) {
        let started = Instant::now();
        while !ready().await {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{} ended early: {status}", self.name);
            }
            assert!(started.elapsed() < Duration::from_secs(60), "{} is not ready after a minute", self.name);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How to reach a test server.
#[derive(Clone)]
pub struct S3Access {
    pub endpoint: String,
    pub region: String,
    pub key: String,
    pub secret: String,
    pub bucket: String,
}

impl S3Access {
    /// Options for this server, with the repository below `prefix` and quick retries.
    pub fn options(&self, prefix: &str) -> StorageOptions {
        StorageOptions {
            endpoint: Some(self.endpoint.clone()),
            region: Some(self.region.clone()),
            path_style: true,
            timeout: Duration::from_secs(20),
            s3_access_key_id: Some(self.key.clone()),
            s3_secret_access_key: Some(self.secret.clone()),
            retry: quick(),
            ..StorageOptions::new(format!("s3://{}/{prefix}", self.bucket))
        }
    }

    /// A plain SDK client, for what the port does not offer.
    pub fn client(&self) -> aws_sdk_s3::Client {
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(&self.endpoint)
            .region(Region::new(self.region.clone()))
            .credentials_provider(Credentials::new(&self.key, &self.secret, None, None, "test"))
            .force_path_style(true)
            .build();
        aws_sdk_s3::Client::from_conf(config)
    }
}

/// Retries without the long pauses.
pub fn quick() -> RetryPolicy {
    RetryPolicy { first_pause: Duration::from_millis(10), ..RetryPolicy::default() }
}
