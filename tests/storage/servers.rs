//! The conformance suite over every store.

use crate::support::garage::Garage;
use crate::support::gcs_fake::GcsFake;
use crate::support::moto::Moto;
use crate::support::s3_server::S3Server;
use backstay::storage::conformance::{self, Suite};
use backstay::storage::create_only::{Conditional, CreateOnly};
use backstay::storage::fs::FsStore;
use backstay::storage::memory::MemoryStore;
use backstay::storage::open::{StorageOptions, open, open_raw};
use backstay::storage::retry::Retry;
use backstay::storage::{ObjectStore, PutMode, PutOutcome};
use std::sync::Arc;
use std::time::Duration;

#[tokio::test]
async fn memory_keeps_the_promises() {
    conformance::run(Arc::new(MemoryStore::new())).await;
}

#[tokio::test]
#[should_panic(expected = "create-only: a second put")]
async fn the_suite_notices_ignored_conditions() {
    let store = MemoryStore::new();
    store.ignore_conditions(true);
    Suite { objects: 1, ..Suite::default() }.run(Arc::new(store)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_keeps_the_promises() {
    let folder = tempfile::tempdir().unwrap();
    let store = FsStore::new(&folder.path().join("new/root"), Duration::from_secs(30)).unwrap();
    store.create_root().await.unwrap();
    conformance::run(Arc::new(store)).await;
    let opened = StorageOptions::new(format!("file://{}", folder.path().join("new/root").display()));
    conformance::run(open(&opened, None).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3s_keeps_the_promises() {
    let server = S3Server::start().await;
    conformance::run(open_raw(&server.access.options("raw/prefix")).await.unwrap()).await;
    let few = Suite { objects: 50, ..Suite::default() };
    few.run(open(&server.access.options(""), None).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn moto_keeps_the_promises() {
    let moto = Moto::start().await;
    // Its threads share what it holds without a lock, and when two requests meet it may answer one with 500.
    let raw = open_raw(&moto.access.options("raw/prefix")).await.unwrap();
    conformance::run(Arc::new(Retry::new(raw, crate::support::quick()))).await;
    let few = Suite { objects: 50, ..Suite::default() };
    few.run(open(&moto.access.options(""), None).await.unwrap()).await;
}

/// garage ignores conditions: alone it fails the create-only part, which is why `CreateOnly` exists.
#[tokio::test(flavor = "multi_thread")]
async fn garage_keeps_the_promises_behind_create_only() {
    let garage = Garage::start().await;
    let raw = open_raw(&garage.access.options("raw/prefix")).await.unwrap();
    Suite { atomic_create: false, create_only: false, objects: 1100 }.run(Arc::clone(&raw)).await;

    for body in ["one", "two"] {
        let outcome = raw.put("h/ignored", body.into(), PutMode::IfAbsent).await.unwrap();
        assert_eq!(outcome, PutOutcome::Created, "garage has learned conditions: use it for lock tests");
    }

    let memo = tempfile::tempdir().unwrap();
    let memo = memo.path().join("stores.json");
    let options = garage.access.options("host-store");
    let few = Suite { objects: 50, ..Suite::default() };
    few.run(open(&options, Some(&memo)).await.unwrap()).await;
    let remembered = std::fs::read_to_string(&memo).unwrap();
    assert!(remembered.contains("\"ignored\"") && remembered.contains(&garage.access.endpoint), "{remembered}");

    let retried = Arc::new(Retry::new(raw, crate::support::quick()));
    let create_only = CreateOnly::new(retried, "garage", None);
    assert_eq!(create_only.conditional(), None);
    create_only.put("erp-1/packs/x", "x".into(), PutMode::IfAbsent).await.unwrap();
    assert_eq!(create_only.conditional(), Some(Conditional::Ignored));
    assert!(create_only.stat("erp-1/probe").await.is_ok(), "the probe lives in the host's folder");
}

#[tokio::test(flavor = "multi_thread")]
async fn cloud_storage_keeps_the_promises() {
    let fake = GcsFake::start().await;
    conformance::run(open_raw(&fake.options("raw/prefix")).await.unwrap()).await;
    let few = Suite { objects: 50, ..Suite::default() };
    few.run(open(&fake.options(""), None).await.unwrap()).await;
}
