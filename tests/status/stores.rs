//! What `doctor` asks a store, and what a store that is not as it should be answers.

use crate::alone::alone;
use crate::doctor::{checks, expect};
use crate::support::s3_server::{Fault, S3Server};
use crate::support::silent::Silent;
use crate::world::World;
use backstay::storage::Versions;
use backstay::storage::open::{StorageOptions, open_raw};
use std::fs;
use std::io::{Read, Write};
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

/// A bucket that answers only what becomes of deleted objects, in Amazon's words.
fn bucket(versioning: &'static str, lifecycle: (u16, &'static str)) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 16 * 1024];
            let read = stream.read(&mut request).unwrap_or(0);
            let asked = String::from_utf8_lossy(&request[..read]).lines().next().unwrap_or_default().to_owned();
            let (status, body) = if asked.contains("?versioning") { (200, versioning) } else { lifecycle };
            let length = body.len();
            let _ =
                write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
        }
    });
    endpoint
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_tells_what_becomes_of_what_is_deleted() {
    const NEVER: &str = "<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"/>";
    const ON: &str = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    const NO_RULES: (u16, &str) = (404, "<Error><Code>NoSuchLifecycleConfiguration</Code></Error>");
    const OTHER_RULE: (u16, &str) = (
        200,
        "<LifecycleConfiguration><Rule><ID>a</ID><Status>Enabled</Status><Expiration><Days>9</Days></Expiration></Rule></LifecycleConfiguration>",
    );
    const RULE: (u16, &str) = (
        200,
        "<LifecycleConfiguration><Rule><ID>a</ID><Status>Enabled</Status><NoncurrentVersionExpiration><NoncurrentDays>30</NoncurrentDays></NoncurrentVersionExpiration></Rule></LifecycleConfiguration>",
    );
    for (versioning, lifecycle, expected) in [
        (NEVER, NO_RULES, Some(Versions::None)),
        (ON, NO_RULES, Some(Versions::Kept)),
        (ON, OTHER_RULE, Some(Versions::Kept)),
        (ON, RULE, Some(Versions::Expiring)),
        ("not Amazon's words", NO_RULES, None),
    ] {
        let options = StorageOptions {
            endpoint: Some(bucket(versioning, lifecycle)),
            region: Some("us-east-1".into()),
            path_style: true,
            s3_access_key_id: Some("key".into()),
            s3_secret_access_key: Some("secret".into()),
            ..StorageOptions::new("s3://bucket-1/x")
        };
        let found = open_raw(&options).await.unwrap().versions().await.unwrap();
        assert_eq!(found, expected, "{versioning} {lifecycle:?}");
    }
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
