//! Stores that go, fall silent or refuse, as the user of the program meets it.

use crate::recover::support::gcs_fake::{BUCKET, GcsFake};
use crate::recover::support::policy::Policy;
use crate::recover::support::s3_server::S3Server;
use crate::recover::support::trouble::{Counted, Trouble};
use crate::world::{World, noise};
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

enum Server {
    S3(S3Server),
    Gcs(GcsFake),
}

impl Server {
    /// The lines of `[repository]`; `more` goes behind.
    fn lines(&self, more: &str) -> String {
        match self {
            Server::S3(server) => s3_lines(server, &server.access.secret, more),
            Server::Gcs(fake) => gcs_lines(fake, more),
        }
    }

    fn begin_after(&self, number: usize, counted: Counted, trouble: Trouble) {
        match self {
            Server::S3(server) => server.begin_after(number, counted, trouble),
            Server::Gcs(fake) => fake.begin_after(number, counted, trouble),
        }
    }

    fn end_trouble(&self) {
        match self {
            Server::S3(server) => server.end_trouble(),
            Server::Gcs(fake) => fake.end_trouble(),
        }
    }

    /// How many objects with this in their names it keeps.
    fn count(&self, part: &str) -> usize {
        let names: Vec<String> = match self {
            Server::S3(server) => server.keys().iter().map(|path| path.display().to_string()).collect(),
            Server::Gcs(fake) => fake.names(),
        };
        names.iter().filter(|name| name.contains(part)).count()
    }
}

fn s3_lines(server: &S3Server, secret: &str, more: &str) -> String {
    let a = &server.access;
    format!(
        "url = \"s3://{}/p\"\nendpoint = \"{}\"\nregion = \"{}\"\npath_style = true\naccess_key_id = \"{}\"\n\
         secret_access_key = \"{secret}\"\n{more}",
        a.bucket, a.endpoint, a.region, a.key
    )
}

fn gcs_lines(fake: &GcsFake, more: &str) -> String {
    format!("url = \"gs://{BUCKET}/p\"\nendpoint = \"{}\"\nanonymous = true\n{more}", fake.endpoint)
}

/// Describes the repository of a host by these lines from now on.
fn point(w: &World, lines: &str) {
    w.configure("", &format!("paths = [\"{}\"]", w.at("tree")));
    let text = fs::read_to_string(w.at("backstay.toml")).unwrap();
    w.write_config(&text.replace(&format!("url = \"file://{}\"", w.at("repo")), lines));
}

/// A host with one backup in this repository.
fn world(lines: &str) -> World {
    let w = World::bare();
    point(&w, lines);
    w.run(&["init", "--recovery-out", &w.at("recovery.key")]).code(0);
    w.file("small", "one");
    w.backup();
    w
}

fn list(w: &World) -> usize {
    w.run(&["--json", "list"]).code(0).json().as_array().unwrap().len()
}

/// The second backup uploads a part and loses its bucket; the third finds it again.
fn loses_its_bucket(server: &Server) {
    let w = world(&server.lines(""));
    let (manifests, packs) = (server.count("/backups/"), server.count("/packs/"));
    w.file("large", noise(24 << 20, 1));
    server.begin_after(2, Counted::Uploads, Trouble::NoBucket);
    let started = Instant::now();
    let lost = ["bucket or directory does not exist", "do:", "repository.url"];
    w.run(&["backup"]).code(6).says(&lost);
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    for args in [&["list"][..], &["check"], &["restore", "--to", &w.at("no")], &["prune"]] {
        w.run(args).code(6).says(&lost);
    }
    assert!(!w.path().join("no").join(w.at("tree").trim_start_matches('/')).exists());
    assert_eq!(server.count("/backups/"), manifests, "nothing is claimed to be backed up");
    server.end_trouble();
    assert!(server.count("/packs/") > packs, "it was lost before anything was uploaded");
    assert_eq!(list(&w), 1);
    w.run(&["check", "--read-data"]).code(0).says(&["1 of 1"]);
    w.backup();
    w.run(&["check", "--read-data"]).code(0).says(&["2 of 2"]);
    w.run(&["restore", "--to", &w.at("out")]).code(0);
    let restored = w.path().join("out").join(w.at("tree").trim_start_matches('/'));
    assert!(fs::read(restored.join("large")).unwrap() == noise(24 << 20, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_on_s3_that_goes_half_way_is_told_and_the_next_backup_goes_on() {
    loses_its_bucket(&Server::S3(S3Server::start().await));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_on_cloud_storage_that_goes_half_way_is_told_and_the_next_backup_goes_on() {
    loses_its_bucket(&Server::Gcs(GcsFake::start().await));
}

#[test]
fn a_directory_that_goes_half_way_is_told_and_not_made_again() {
    let w = World::new();
    w.file("small", "one");
    w.backup();
    let (manifests, packs) = (w.objects("backups").len(), w.objects("packs").len());
    w.file("large", noise(40 << 20, 1));
    w.configure("limit_upload = \"8MiB\"", &format!("paths = [\"{}\"]", w.at("tree")));
    let mut command = w.command(&["backup"]);
    let running = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while w.objects("packs").len() == packs {
        std::thread::sleep(Duration::from_millis(5));
    }
    fs::rename(w.at("repo"), w.at("away")).unwrap();
    let out = running.wait_with_output().unwrap();
    let said = [out.stdout, out.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert_eq!(out.status.code(), Some(6), "{said}");
    assert!(said.contains("bucket or directory does not exist") && said.contains("do:"), "{said}");
    assert!(!w.path().join("repo").exists(), "a backup never makes the directory of a missing disk");
    w.configure("", &format!("paths = [\"{}\"]", w.at("tree")));
    w.run(&["list"]).code(6).says(&["does not exist"]);
    fs::rename(w.at("away"), w.at("repo")).unwrap();
    assert_eq!(w.objects("backups").len(), manifests, "nothing is claimed to be backed up");
    w.backup();
    w.run(&["check", "--read-data"]).code(0).says(&["2 of 2"]);
}

/// A restore in place reads a part of its packs, and the bucket is gone.
fn a_restore_loses_its_bucket(server: &Server) {
    let w = world(&server.lines(""));
    w.file("large", noise(40 << 20, 1));
    w.backup();
    let packs = server.count("/packs/");
    assert!(packs > 6, "{packs} packs are too few to lose the bucket among them");
    w.file("small", "now");
    w.file("large", "now, too");
    server.begin_after(6, Counted::Reads, Trouble::NoBucket);
    w.run(&["restore", "--yes"]).code(6).says(&["bucket or directory does not exist", "do:"]);
    assert_eq!(fs::read(w.at("tree/small")).unwrap(), b"now", "what is there stays");
    assert_eq!(fs::read(w.at("tree/large")).unwrap(), b"now, too");
    server.end_trouble();
    w.run(&["restore", "--yes"]).code(0);
    assert_eq!(fs::read(w.at("tree/small")).unwrap(), b"one");
    assert!(fs::read(w.at("tree/large")).unwrap() == noise(40 << 20, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_on_s3_that_goes_during_a_restore_leaves_what_is_there() {
    a_restore_loses_its_bucket(&Server::S3(S3Server::start().await));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_on_cloud_storage_that_goes_during_a_restore_leaves_what_is_there() {
    a_restore_loses_its_bucket(&Server::Gcs(GcsFake::start().await));
}

/// The second backup uploads one object and never hears of the server again.
fn falls_silent(server: &Server) {
    let w = world(&server.lines(""));
    let manifests = server.count("/backups/");
    w.file("small", "two");
    point(&w, &server.lines("timeout = \"1s\""));
    server.begin_after(1, Counted::Uploads, Trouble::Silence);
    let started = Instant::now();
    let told = ["the store does not answer as it should", "5 attempts", "do:"];
    w.run(&["backup"]).code(6).says(&told);
    // Five attempts of little more than a second, and the pauses between them.
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    assert_eq!(server.count("/backups/"), manifests, "nothing is claimed to be backed up");
    server.end_trouble();
    point(&w, &server.lines(""));
    assert_eq!(list(&w), 1);
    w.backup();
    w.run(&["check", "--read-data"]).code(0).says(&["2 of 2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_on_s3_that_falls_silent_half_way_ends_a_backup_in_time() {
    falls_silent(&Server::S3(S3Server::start().await));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_on_cloud_storage_that_falls_silent_half_way_ends_a_backup_in_time() {
    falls_silent(&Server::Gcs(GcsFake::start().await));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_server_ends_a_restore_in_time() {
    let server = Server::S3(S3Server::start().await);
    let w = world(&server.lines(""));
    w.file("small", "now");
    point(&w, &server.lines("timeout = \"1s\""));
    server.begin_after(0, Counted::Uploads, Trouble::Silence);
    let started = Instant::now();
    w.run(&["restore", "--yes"]).code(6).says(&["no answer within the time limit", "5 attempts"]);
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    assert_eq!(fs::read(w.at("tree/small")).unwrap(), b"now", "what is there stays");
}

/// Whatever is asked of the vault ends with 6 within seconds and says this.
fn every_command_says(w: &World, words: &[&str]) {
    for args in [&["backup"][..], &["list"], &["check"], &["restore", "--to", &w.at("out")], &["forget"]] {
        says_at_once(w, args, words);
    }
}

fn says_at_once(w: &World, args: &[&str], words: &[&str]) {
    let started = Instant::now();
    let ran = w.run(args).code(6).says(words).says(&["why:", "do:"]);
    assert!(started.elapsed() < Duration::from_secs(10), "{args:?} took {:?}", started.elapsed());
    assert!(!ran.err.contains("attempts"), "{args:?} was tried again: {}", ran.err);
}

/// And so does making a vault.
fn init_says(lines: &str, words: &[&str]) {
    let w = World::bare();
    point(&w, lines);
    says_at_once(&w, &["init", "--recovery-out", &w.at("new.key")], words);
    assert!(!w.path().join("new.key").exists(), "a key without a vault");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_are_told_within_seconds() {
    let words = ["the store does not accept the credentials", "Set the credentials for this store"];
    let server = S3Server::start().await;
    let w = world(&s3_lines(&server, &server.access.secret, ""));
    let wrong = s3_lines(&server, "wrong-secret", "");
    point(&w, &wrong);
    every_command_says(&w, &words);
    init_says(&wrong, &words);
    let told = w.run(&["list"]).code(6);
    assert!(!told.err.contains("wrong-secret"), "{}", told.err);

    let fake = GcsFake::start().await;
    let lines = gcs_lines(&fake, "");
    let w = world(&lines);
    fake.accept(|_| false);
    every_command_says(&w, &words);
    init_says(&lines, &words);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_bucket_is_told_within_seconds() {
    let words = ["the repository's bucket or directory does not exist", "Create it, or correct `repository.url`"];
    for server in [Server::S3(S3Server::start().await), Server::Gcs(GcsFake::start().await)] {
        let w = world(&server.lines(""));
        server.begin_after(0, Counted::Uploads, Trouble::NoBucket);
        every_command_says(&w, &words);
        init_says(&server.lines(""), &words);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_is_told_within_seconds() {
    let words = ["the store refuses the request", "docs/storage.md"];
    let server = S3Server::start().await;
    let w = world(&s3_lines(&server, &server.access.secret, ""));
    server.enforce(Some(Policy::of_file("s3-read-restore.json", &server.access.bucket, "p", "another-host")));
    every_command_says(&w, &words);

    let fake = GcsFake::start().await;
    let w = world(&gcs_lines(&fake, ""));
    fake.bind(Vec::new());
    every_command_says(&w, &words);
}
