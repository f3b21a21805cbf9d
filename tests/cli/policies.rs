//! The policies in `config/policies`, each enforced by a server that reads the file, while the program works.

use crate::gcs;
use crate::recover::support::gcs_fake::GcsFake;
use crate::recover::support::policy::{Policy, role};
use crate::recover::support::s3_server::S3Server;
use crate::world::{World, noise};
use backstay::storage::open::{StorageOptions, open_raw};
use backstay::storage::{DeleteOutcome, ErrorKind, ObjectStore, PutMode, PutOutcome};
use std::fs;
use std::sync::Arc;

const PREFIX: &str = "production";
const HOST: &str = "test-host";

fn enforce(server: &S3Server, file: &str) {
    server.enforce(Some(Policy::of_file(file, &server.access.bucket, PREFIX, HOST)));
}

fn s3_world(server: &S3Server) -> World {
    let w = World::bare();
    let a = &server.access;
    let text = fs::read_to_string(w.at("backstay.toml")).unwrap();
    let url = format!(
        "url = \"s3://{}/{PREFIX}\"\nendpoint = \"{}\"\nregion = \"{}\"\npath_style = true\naccess_key_id = \"{}\"\n\
         secret_access_key = \"{}\"",
        a.bucket, a.endpoint, a.region, a.key, a.secret
    );
    w.write_config(&text.replace(&format!("url = \"file://{}\"", w.at("repo")), &url));
    w
}

/// What reads, and writes nothing.
fn reads(w: &World) {
    for args in [
        &["list"][..],
        &["show"],
        &["ls", "latest"],
        &["check", "--read-data"],
        &["restore", "--to", &w.at("out")],
        &["forget", "--dry-run"],
        &["prune", "--dry-run"],
        &["key", "list"],
    ] {
        w.run(args).code(0);
    }
}

/// What a host does every day, and what reads.
fn works(w: &World, backups: u64) {
    for n in 0..backups {
        w.file("f", noise(100_000, n));
        w.run(&["backup"]).code(0);
    }
    reads(w);
    for args in [["hold", "latest"], ["key", "check"]] {
        w.run(&args).code(0);
    }
}

/// Whoever has the host's credentials, and more in mind than the program has.
async fn destroys_nothing(options: &StorageOptions) {
    let store: Arc<dyn ObjectStore> = open_raw(options).await.unwrap();
    let key = format!("{HOST}/vault.json");
    let before = store.get(&key, 1 << 20).await.unwrap();
    let refused = store.put(&key, "overwritten".into(), PutMode::Blind).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Denied, "{refused}");
    let exists = store.put(&key, "overwritten".into(), PutMode::IfAbsent).await.unwrap();
    assert_eq!(exists, PutOutcome::Exists);
    let refused = store.delete(&key).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Denied, "{refused}");
    assert_eq!(store.get(&key, 1 << 20).await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_append_only_policy_for_s3_is_enough_for_a_host_and_lets_it_destroy_nothing() {
    let server = S3Server::start().await;
    enforce(&server, "s3-append-only.json");
    let w = s3_world(&server);
    w.run(&["init", "--recovery-out", &w.at("recovery.key")]).code(0);
    works(&w, 3);
    w.run(&["forget"]).code(0).says(&["1 backup retained", "credentials that may not delete"]);
    w.run(&["hold", "latest", "--release"]).code(6).says(&["permission denied"]);
    let options = server.access.options(PREFIX);
    destroys_nothing(&options).await;
    // Without the condition not even a new object is taken, and the other hosts' objects are nobody's business.
    let store = open_raw(&options).await.unwrap();
    for error in [
        store.put(&format!("{HOST}/new"), "x".into(), PutMode::Blind).await.unwrap_err(),
        store.put("another-host/new", "x".into(), PutMode::IfAbsent).await.unwrap_err(),
        store.get("another-host/vault.json", 1 << 20).await.unwrap_err(),
        store.list("another-host/", None).await.unwrap_err(),
    ] {
        assert_eq!(error.kind, ErrorKind::Denied, "{error}");
    }
    w.run(&["check", "--read-data"]).code(0).says(&["3 of 3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_read_policy_for_s3_is_enough_to_restore_and_writes_nothing() {
    let server = S3Server::start().await;
    let w = s3_world(&server);
    w.run(&["init", "--recovery-out", &w.at("recovery.key")]).code(0);
    w.file("f", noise(100_000, 1));
    w.run(&["backup"]).code(0);
    enforce(&server, "s3-read-restore.json");
    let before = server.keys();
    reads(&w);
    w.file("f", noise(100_000, 2));
    for args in [&["backup"][..], &["hold", "latest"], &["key", "rotate"]] {
        w.run(args).code(6).says(&["permission denied"]);
    }
    assert_eq!(server.keys(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_maintenance_policy_for_s3_forgets_prunes_and_changes_keys() {
    let server = S3Server::start().await;
    enforce(&server, "s3-maintenance.json");
    let w = s3_world(&server);
    w.run(&["init", "--recovery-out", &w.at("recovery.key")]).code(0);
    works(&w, 3);
    w.run(&["hold", "latest", "--release"]).code(0);
    w.run(&["forget"]).code(0).says(&["removed 1 backup"]);
    w.run(&["prune"]).code(0);
    w.run(&["key", "rotate"]).code(0);
    let store = open_raw(&server.access.options(PREFIX)).await.unwrap();
    assert_eq!(store.get("another-host/vault.json", 1 << 20).await.unwrap_err().kind, ErrorKind::Denied);
    w.run(&["check", "--read-data"]).code(0).says(&["2 of 2"]);
}

fn gcs_world(fake: &GcsFake) -> World {
    gcs::world(fake, "anonymous = true")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_append_only_role_for_cloud_storage_is_what_a_host_needs_and_no_more() {
    let fake = GcsFake::start().await;
    let role = role("gcs-append-only.yaml");
    fake.bind(role.clone());
    let w = gcs_world(&fake);
    w.run(&["init", "--recovery-out", &w.at("recovery.key")]).code(0);
    works(&w, 3);
    let mut needed: Vec<String> = fake.used().into_iter().map(str::to_owned).collect();
    // Asked for only where an answer does not tell a missing object from a missing bucket; goes without.
    needed.retain(|permission| permission != "storage.buckets.get");
    let mut granted = role;
    granted.sort();
    assert_eq!(needed, granted);
    w.run(&["forget"]).code(0).says(&["1 backup retained", "credentials that may not delete"]);
    w.run(&["hold", "latest", "--release"]).code(6).says(&["permission denied"]);
    destroys_nothing(&fake.options(PREFIX)).await;
    w.run(&["check", "--read-data"]).code(0).says(&["3 of 3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_maintenance_role_for_cloud_storage_forgets_prunes_and_changes_keys() {
    let fake = GcsFake::start().await;
    fake.bind(role("gcs-maintenance.yaml"));
    let w = gcs_world(&fake);
    w.run(&["init", "--recovery-out", &w.at("recovery.key")]).code(0);
    works(&w, 3);
    w.run(&["hold", "latest", "--release"]).code(0);
    w.run(&["forget"]).code(0).says(&["removed 1 backup"]);
    w.run(&["prune"]).code(0);
    w.run(&["key", "rotate"]).code(0);
    let store = open_raw(&fake.options(PREFIX)).await.unwrap();
    assert_eq!(store.delete(&format!("{HOST}/probe")).await.unwrap(), DeleteOutcome::Gone);
    w.run(&["check", "--read-data"]).code(0).says(&["2 of 2"]);
}
