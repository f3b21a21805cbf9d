//! A host whose credentials can neither delete nor overwrite: what it can do, what it cannot, and how that is told.

use crate::recover::support::s3_server::S3Server;
use crate::world::{World, noise};
use std::fs;

fn world(server: &S3Server) -> World {
    let w = World::bare();
    let a = &server.access;
    let text = fs::read_to_string(w.at("backstay.toml")).unwrap();
    let url = format!(
        "url = \"s3://{}/production\"\nendpoint = \"{}\"\nregion = \"{}\"\npath_style = true\naccess_key_id = \"{}\"\nsecret_access_key = \"{}\"",
        a.bucket, a.endpoint, a.region, a.key, a.secret
    );
    w.write_config(&text.replace(&format!("url = \"file://{}\"", w.at("repo")), &url));
    w
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_only_host_backs_up_and_cannot_destroy_the_past() {
    let server = S3Server::start().await;
    server.make_append_only();
    let w = world(&server);
    // Even the vault is made without deleting or overwriting anything.
    w.run(&["init", "--recovery-out", &w.at("recovery.key")]).code(0);
    for n in 0..4 {
        w.file("f", noise(100_000, n));
        w.run(&["backup"]).code(0);
    }
    w.run(&["check", "--read-data"]).code(0).says(&["4 of 4"]);
    w.run(&["restore", "--to", &w.at("out")]).code(0);
    w.run(&["hold", "latest"]).code(0);
    // What would delete is told, and deletes nothing.
    w.run(&["forget"]).code(0).says(&["2 backups retained", "credentials that may not delete"]);
    w.run(&["prune"]).code(0).says(&["deleted 0 objects"]);
    w.run(&["hold", "latest", "--release"]).code(6).says(&["permission denied", "do:"]);
    w.run(&["list"]).code(0);
    let left = w.run(&["--json", "list"]).code(0).json();
    assert_eq!(left.as_array().unwrap().len(), 4);
    w.run(&["check", "--read-data"]).code(0).says(&["4 of 4"]);
    // And it goes on backing up.
    w.file("f", noise(100_000, 9));
    w.run(&["backup"]).code(0);
}
