//! A vault on Cloud Storage, with each kind of credentials that Google gives out.

use crate::recover::support::gcs_fake::{BUCKET, GcsFake};
use crate::recover::support::google_identity::{EXCHANGED, Identity, OF_THE_MACHINE, ServiceAccount};
use crate::recover::support::silent::Silent;
use crate::world::{Ran, World, noise, run};
use std::fs;
use std::time::{Duration, Instant};

/// What asks the store first of all.
const INIT: [&str; 3] = ["init", "--recovery-out", "new.key"];

/// A host with its repository on this server, and with more lines in `[repository]`.
pub fn world(fake: &GcsFake, more: &str) -> World {
    let w = World::bare();
    let text = fs::read_to_string(w.at("backstay.toml")).unwrap();
    let url = format!("url = \"gs://{BUCKET}/production\"\nendpoint = \"{}\"\n{more}", fake.endpoint);
    w.write_config(&text.replace(&format!("url = \"file://{}\"", w.at("repo")), &url));
    w
}

/// A command with nothing of Google's in its environment but this.
fn with(w: &World, environment: &[(&str, &str)], args: &[&str]) -> Ran {
    let mut command = w.command(args);
    for unwanted in ["GOOGLE_APPLICATION_CREDENTIALS", "GCE_METADATA_HOST", "GOOGLE_CLOUD_QUOTA_PROJECT"] {
        command.env_remove(unwanted);
    }
    // Where gcloud leaves credentials.
    command.env("HOME", w.path()).envs(environment.iter().copied());
    run(&mut command)
}

fn everything_works(w: &World, environment: &[(&str, &str)]) {
    let do_it = |args: &[&str]| with(w, environment, args).code(0);
    w.file("small", "one");
    w.file("large", noise(5 << 20, 1));
    do_it(&["init", "--recovery-out", &w.at("recovery.key")]);
    do_it(&["backup"]);
    w.file("small", "two");
    do_it(&["backup"]);
    assert_eq!(do_it(&["--json", "list"]).json().as_array().unwrap().len(), 2);
    do_it(&["check", "--read-data"]).says(&["2 of 2"]);
    do_it(&["restore", "--to", &w.at("out")]);
    let restored = w.path().join("out").join(w.at("tree").trim_start_matches('/'));
    assert_eq!(fs::read(restored.join("small")).unwrap(), b"two");
    assert!(fs::read(restored.join("large")).unwrap() == noise(5 << 20, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_on_cloud_storage_works_with_the_key_of_a_service_account() {
    let (fake, account) = (GcsFake::start().await, ServiceAccount::make());
    let w = world(&fake, "service_account_file = \"key.json\"");
    account.write_key(&w.path().join("key.json"));
    let theirs = account.clone();
    fake.accept(move |header| theirs.signed(header));
    everything_works(&w, &[]);
    // The rest of what is done with a vault.
    w.file("small", "three");
    with(&w, &[], &["backup"]).code(0);
    with(&w, &[], &["hold", "latest"]).code(0);
    with(&w, &[], &["hold", "latest", "--release"]).code(0);
    with(&w, &[], &["forget"]).code(0).says(&["removed 1 backup"]);
    with(&w, &[], &["prune"]).code(0);
    with(&w, &[], &["key", "list"]).code(0);
    with(&w, &[], &["check"]).code(0);
    // The key of another account opens nothing, and is told at once.
    ServiceAccount::make().write_key(&w.path().join("key.json"));
    let started = Instant::now();
    with(&w, &[], &["backup"]).code(6).says(&["does not accept the credentials", "do:"]);
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_gets_its_token_from_the_metadata_server() {
    let (fake, identity) = (GcsFake::start().await, Identity::start().await);
    fake.accept(|header| header == OF_THE_MACHINE);
    everything_works(&world(&fake, ""), &[("GCE_METADATA_HOST", identity.address.as_str())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn workload_identity_exchanges_the_token_of_another_provider() {
    let (fake, identity) = (GcsFake::start().await, Identity::start().await);
    fake.accept(|header| header == EXCHANGED);
    let w = world(&fake, "");
    let (file, token) = (w.path().join("external.json"), w.path().join("token"));
    fs::write(&token, "token-of-another-provider").unwrap();
    identity.write_external_account(&file, &token);
    everything_works(&w, &[("GOOGLE_APPLICATION_CREDENTIALS", w.at("external.json").as_str())]);
    let exchanges = identity.exchanges();
    assert!(exchanges.iter().all(|body| body.contains("subject_token=token-of-another-provider")), "{exchanges:?}");
    assert!(!exchanges.is_empty());
    // As the key of a service account such a file cannot serve; where it can is said.
    let w = world(&fake, &format!("service_account_file = \"{}\"", file.display()));
    with(&w, &[], &INIT).code(6).says(&["external_account", "GOOGLE_APPLICATION_CREDENTIALS"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_without_credentials_is_told_so_within_seconds() {
    let fake = GcsFake::start().await;
    let w = world(&fake, "");
    // Whoever looks for the metadata server beyond this machine finds nobody.
    let nobody = format!("http://127.0.0.1:{}", crate::port::free_port());
    let nobody = nobody.as_str();
    let here = "127.0.0.1";
    let alone = [("HTTP_PROXY", nobody), ("http_proxy", nobody), ("NO_PROXY", here), ("no_proxy", here)];
    let started = Instant::now();
    with(&w, &alone, &INIT).code(6).says(&["does not accept the credentials", "do:"]);
    // Tried five times, as what may pass is, it would take about twelve.
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
    // A file that is not there is named.
    let missing = [("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")];
    with(&w, &missing, &INIT).code(6).says(&["/nowhere/key.json"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_metadata_server_ends_in_time() {
    let (fake, silent) = (GcsFake::start().await, Silent::start().await);
    let w = world(&fake, "timeout = \"1s\"");
    let address = silent.endpoint.strip_prefix("http://").unwrap();
    let started = Instant::now();
    let ran = with(&w, &[("GCE_METADATA_HOST", address)], &INIT);
    ran.code(6).says(&["no answer within the time limit", "metadata server"]);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}
