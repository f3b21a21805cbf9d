//! A server like S3 and one like Google's within a machine, whose network is its own. What a script leaves in the outbox
//! is uploaded to both.

use crate::machine::Machine;
use crate::support::gcs_fake::GcsFake;
use crate::support::s3_server::S3Server;
use backstay::storage::PutMode;
use std::path::Path;
use std::time::Duration;

/// The variable that makes servers of the test below.
const SERVES: &str = "PLATFORM_STORES";
/// Where scripts leave what is to be uploaded, and where the servers tell their addresses.
pub const OUTBOX: &str = "/srv/outbox";
const TOLD: &str = "/srv/stores";
/// Where it goes.
const PREFIX: &str = "backups/production";

#[tokio::test(flavor = "multi_thread")]
async fn what_serves_within_a_machine() {
    // Among the other tests it does nothing.
    if std::env::var(SERVES).is_err() {
        return;
    }
    let (s3, gcs) = (S3Server::start().await, GcsFake::start().await);
    let (client, google) = (s3.access.client(), gcs.options(PREFIX));
    let writer = backstay::storage::open::open(&google, None).await.unwrap();
    std::fs::write(Path::new(TOLD).join("gcs"), google.endpoint.unwrap()).unwrap();
    std::fs::write(Path::new(TOLD).join("s3"), &s3.access.endpoint).unwrap();
    loop {
        for entry in std::fs::read_dir(OUTBOX).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            if name.ends_with(".part") {
                continue;
            }
            let body = std::fs::read(entry.path()).unwrap();
            let key = format!("{PREFIX}/{name}");
            let put = client.put_object().bucket(&s3.access.bucket).key(&key).body(body.clone().into());
            put.send().await.unwrap();
            writer.put(&name, body.into(), PutMode::Blind).await.unwrap();
            std::fs::remove_file(entry.path()).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Starts both, and gives their addresses: of S3, of Google.
pub fn start(machine: &Machine) -> (String, String) {
    machine.sh(&format!("mkdir -p {OUTBOX} {TOLD}"));
    machine.write(
        "/etc/systemd/system/stores.service",
        &format!(
            "[Service]\nEnvironment={SERVES}=1\nExecStart=/usr/local/bin/these-tests --exact stores::what_serves_within_a_machine --nocapture\n"
        ),
    );
    machine.sh("systemctl daemon-reload; systemctl start stores");
    machine.until(&format!("test -s {TOLD}/s3"));
    (machine.sh(&format!("cat {TOLD}/s3")), machine.sh(&format!("cat {TOLD}/gcs")))
}

/// Waits until everything is uploaded.
pub fn uploaded(machine: &Machine) {
    machine.until(&format!("test -z \"$(ls {OUTBOX})\""));
}
