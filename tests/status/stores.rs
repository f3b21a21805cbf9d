//! What `doctor` asks a store, and what a store that is not as it should be answers.

use crate::alone::alone;
use crate::doctor::{checks, expect};
use crate::support::moto::Moto;
use crate::support::s3_server::{Fault, S3Server};
use crate::support::silent::Silent;
use crate::world::World;
use aws_sdk_s3::types::{
    BucketLifecycleConfiguration, BucketVersioningStatus, ExpirationStatus, LifecycleRule, LifecycleRuleFilter,
    NoncurrentVersionExpiration, VersioningConfiguration,
};
use std::fs;
use std::time::{Duration, Instant};

/// A host whose repository is a bucket; a sealed one has no identity.
fn world(endpoint: &str, access: &crate::support::S3Access, secret: &str, sealed: bool) -> World {
    let world = World::bare();
    let text = fs::read_to_string(world.at("backstay.toml")).unwrap();
    let url = format!(
        "url = \"s3://{}/production\"\nendpoint = \"{endpoint}\"\nregion = \"{}\"\npath_style = true\naccess_key_id = \"{}\"\nsecret_access_key = \"{secret}\"",
        access.bucket, access.region, access.key
    );
    let mut text = text.replace(&format!("url = \"file://{}\"", world.at("repo")), &url);
    if sealed {
        text = text.replace(&format!("[keys]\nidentity_file = \"{}\"", world.at("host.key")), "");
    }
    world.write_config(&text);
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn what_credentials_may_do_is_tried_without_harm() {
    let server = S3Server::start().await;
    for sealed in [false, true] {
        let world = world(&server.access.endpoint, &server.access, &server.access.secret, sealed);
        let host = format!("host-{sealed}");
        let run = |args: &[&str], code| world.run(&[&["--host", &host], args].concat()).code(code);
        run(&["init", "--recovery-out", &world.at("recovery.key")], 0);
        let look = |code| {
            let ran = alone(&world, &["--json", "--host", &host, "doctor", "--area", "repository"]).code(code);
            ran.json()["checks"].as_array().unwrap().clone()
        };
        let listed = || server.keys();
        let before = listed();
        let all = look(if sealed { 17 } else { 0 });
        assert_eq!(listed(), before, "doctor left something in the store, or took something");
        expect(&all, "repository", "answers", "good", &["s3://"]);
        expect(&all, "repository", "vault", "good", &[&host]);
        expect(&all, "repository", "create only", "good", &["refuses to overwrite"]);
        expect(
            &all,
            "repository",
            "delete",
            if sealed { "bad" } else { "warning" },
            &["delete all backups", "append-only"],
        );
    }
    server.make_append_only();
    let world = world(&server.access.endpoint, &server.access, &server.access.secret, true);
    let all = checks(&world, &["--area", "repository"], 17);
    expect(&all, "repository", "vault", "bad", &["backstay init"]);
    expect(&all, "repository", "delete", "good", &["cannot delete its backups"]);
    expect(&all, "repository", "create only", "good", &["refuses to overwrite"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_may_not_write_and_wrong_ones_are_told() {
    let server = S3Server::start().await;
    let world = world(&server.access.endpoint, &server.access, &server.access.secret, false);
    server.inject(http::Method::PUT, &[Fault::DENIED]);
    let all = checks(&world, &["--area", "repository"], 17);
    expect(&all, "repository", "create only", "bad", &["may not write", "config/policies"]);
    let wrong = crate::stores::world(&server.access.endpoint, &server.access, "not the secret", false);
    let all = checks(&wrong, &["--area", "repository"], 17);
    assert_eq!(all.len(), 1, "what cannot be asked is not asked: {all:#?}");
    expect(&all, "repository", "answers", "bad", &["credentials"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_keeps_for_ever_what_is_deleted_is_told_with_the_rule_that_mends_it() {
    let moto = Moto::start().await;
    let (client, bucket) = (moto.access.client(), &moto.access.bucket);
    let world = world(&moto.access.endpoint, &moto.access, &moto.access.secret, false);
    world.run(&["init", "--recovery-out", &world.at("recovery.key")]).code(0);
    let look = || checks(&world, &["--area", "repository"], 0);
    expect(&look(), "repository", "versions", "good", &["keeps none"]);
    let on = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
    client.put_bucket_versioning().bucket(bucket).versioning_configuration(on).send().await.unwrap();
    expect(&look(), "repository", "versions", "warning", &["for ever", "NoncurrentVersionExpiration"]);
    let rule = LifecycleRule::builder()
        .id("noncurrent")
        .status(ExpirationStatus::Enabled)
        .filter(LifecycleRuleFilter::builder().prefix("").build())
        .noncurrent_version_expiration(NoncurrentVersionExpiration::builder().noncurrent_days(30).build())
        .build()
        .unwrap();
    let rules = BucketLifecycleConfiguration::builder().rules(rule).build().unwrap();
    client.put_bucket_lifecycle_configuration().bucket(bucket).lifecycle_configuration(rules).send().await.unwrap();
    expect(&look(), "repository", "versions", "good", &["until a lifecycle rule"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_does_not_answer_does_not_hold_up_the_rest() {
    let server = S3Server::start().await;
    let silent = Silent::start().await;
    let world = world(&silent.endpoint, &server.access, &server.access.secret, false);
    let started = Instant::now();
    let all = checks(&world, &[], 17);
    assert!(started.elapsed() < Duration::from_secs(75), "{:?}", started.elapsed());
    expect(&all, "repository", "answers", "unknown", &["no answer within 30 s"]);
    expect(&all, "sources", "tree (files)", "good", &[]);
}
