//! In S3, as the runbook of an ERP has them: listed by pages, read in ranges, and nothing is ever written.

use crate::scripts::files;
use crate::support::gcs_fake::GcsFake;
use crate::support::s3_server::S3Server;
use std::process::Command;

const KEY: &str = "production/himalytix_production_20251018_020000.sql.gz.enc";

fn sealed(dir: &str) -> Vec<u8> {
    // More than one piece, so that ranges are read.
    let script = "{ echo '-- PostgreSQL database dump'; head -c 9000000 /dev/urandom | base64 -w 100 | sed 's/.*/SELECT '\"'\"'&'\"'\"';/'; echo '-- PostgreSQL database dump complete'; } | gzip -1 | openssl enc -aes-256-cbc -pbkdf2 -k secret";
    let out = Command::new("bash").args(["-euo", "pipefail", "-c", script]).current_dir(dir).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(out.stdout.len() > 5 << 20);
    out.stdout
}

const FILES: &str = "files = [ { pattern = \"production/{app}_production_{timestamp}.sql.gz.enc\", is = \"pg-plain\" } ]\nencryption = { kind = \"openssl-enc\", pbkdf2 = true, password = \"secret\" }";

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_of_s3_is_listed_and_read_in_ranges() {
    let server = S3Server::start().await;
    let w = files("files = [ { pattern = \"{timestamp}\", is = \"other\" } ]");
    let body = sealed(&w.at("backups"));
    let client = server.access.client();
    for key in [format!("backups/{KEY}"), "backups/production/README".into(), "other/production/x".into()] {
        let put = client.put_object().bucket(&server.access.bucket).key(key).body(body.clone().into());
        put.send().await.unwrap();
    }
    let d = w.path().display();
    w.write_config(&format!(
        "host = \"h\"\nstate_dir = \"{d}/state\"\n[repository]\nurl = \"file://{d}/repo\"\n[foreign.s3]\nurl = \"s3://{}/backups\"\nendpoint = \"{}\"\npath_style = true\nregion = \"us-east-1\"\naccess_key_id = \"{}\"\nsecret_access_key = \"{}\"\n{FILES}",
        server.access.bucket, server.access.endpoint, server.access.key, server.access.secret
    ));
    let (list, check) =
        tokio::task::spawn_blocking(move || (w.run(&["list", "--foreign"]), w.run(&["check", "--foreign"])))
            .await
            .unwrap();
    list.code(0).says(&["himalytix:20251018_020000", "complete"]);
    check.code(0).says(&["good"]);
    let objects = client.list_objects_v2().bucket(&server.access.bucket).send().await.unwrap();
    assert_eq!(objects.contents().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_of_google_is_read_in_ranges() {
    let server = GcsFake::start().await;
    let w = files("files = [ { pattern = \"{timestamp}\", is = \"other\" } ]");
    let body = sealed(&w.at("backups"));
    let options = server.options("backups");
    let d = w.path().display();
    w.write_config(&format!(
        "host = \"h\"\nstate_dir = \"{d}/state\"\n[repository]\nurl = \"file://{d}/repo\"\n[foreign.gcs]\nurl = \"{}\"\nendpoint = \"{}\"\nanonymous = true\n{FILES}",
        options.url, options.endpoint.as_deref().unwrap(),
    ));
    let writer = backstay::storage::open::open(&options, None).await.unwrap();
    writer.put(KEY, body.into(), backstay::storage::PutMode::Blind).await.unwrap();
    let (list, check) =
        tokio::task::spawn_blocking(move || (w.run(&["list", "--foreign"]), w.run(&["check", "--foreign"])))
            .await
            .unwrap();
    list.code(0).says(&["himalytix:20251018_020000", "complete"]);
    check.code(0).says(&["good"]);
}
