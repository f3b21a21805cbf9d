//! Recovery without us: `config/recover.sh` with age, zstd, jq and b3sum gets every artifact back.

use crate::world::{World, noise, picture, run};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/recover.sh")
}

fn by_hand(vault: &Path, w: &World, args: &[&str]) -> Command {
    let mut c = Command::new(script());
    c.arg(vault).arg(w.at("recovery.key")).args(args).current_dir(w.path());
    c
}

/// Three generations: new, changed in places, renamed and shortened.
fn generations(w: &World) -> Vec<(String, String)> {
    let mut pictures = Vec::new();
    let mut keep = |w: &World| {
        w.settle();
        let id = w.backup()["id"].as_str().unwrap().to_owned();
        pictures.push((id, picture(&w.path().join("tree"))));
    };
    for i in 0..60 {
        w.file(&format!("d{}/f{i}", i % 7), noise(20_000 + i * 777, i as u64));
    }
    w.file("big", noise(11 << 20, 1000));
    w.file("odd \"name\"\n", "x");
    keep(w);
    w.file("d3/f3", "changed");
    w.file("big", [&noise(11 << 20, 1000)[..5 << 20], b"inserted", &noise(11 << 20, 1000)[5 << 20..]].concat());
    keep(w);
    fs::rename(w.path().join("tree/d1"), w.path().join("tree/renamed")).unwrap();
    fs::hard_link(w.path().join("tree/big"), w.path().join("tree/zz")).unwrap();
    fs::remove_dir_all(w.path().join("tree/d5")).unwrap();
    keep(w);
    pictures
}

fn prove(vault: &Path, w: &World, generations: &[(String, String)]) {
    for (n, (id, expected)) in generations.iter().enumerate() {
        let out = w.path().join(format!("by-hand-{n}"));
        fs::create_dir(&out).unwrap();
        let tar = by_hand(vault, w, &["p", id, "tree", "tree"]).output().unwrap();
        assert!(tar.status.success(), "{}", String::from_utf8_lossy(&tar.stderr));
        fs::write(out.join("a.tar"), &tar.stdout).unwrap();
        assert!(
            Command::new("tar")
                .args(["--numeric-owner", "-xpf", "a.tar"])
                .current_dir(&out)
                .status()
                .unwrap()
                .success()
        );
        assert_eq!(&picture(&out.join(w.at("tree").trim_start_matches('/'))), expected, "generation {n}");
    }
}

#[test]
fn every_generation_comes_back_by_hand_from_a_directory() {
    let w = World::new();
    let generations = generations(&w);
    let vault = w.path().join("repo/test-host");
    run(&mut by_hand(&vault, &w, &[])).code(0).says(&[&generations[0].0, &generations[2].0]);
    run(&mut by_hand(&vault, &w, &["p", &generations[2].0])).code(0).says(&["tree\ttree\ttar"]);
    prove(&vault, &w, &generations);
    // After a rotation the same identity opens both epochs.
    w.run(&["key", "rotate"]).code(0);
    w.file("later", "epoch 2");
    let id = w.backup()["id"].as_str().unwrap().to_owned();
    run(&mut by_hand(&vault, &w, &["p", &id, "tree", "tree"])).code(0);
}

#[test]
fn damage_and_forgery_are_seen_by_hand_too() {
    let w = World::new();
    w.file("f", noise(3_000_000, 1));
    let id = w.backup()["id"].as_str().unwrap().to_owned();
    let vault = w.path().join("repo/test-host");
    let manifest = w.objects("backups").remove(0);
    // A manifest under another name is not authentic.
    let other = manifest.with_file_name("20300101T000000Z-aaaaaa");
    fs::copy(&manifest, &other).unwrap();
    run(&mut by_hand(&vault, &w, &["p", "20300101T000000Z-aaaaaa"])).code(1).says(&["not authentic"]);
    let pack = w.objects("packs").into_iter().max_by_key(|p| fs::metadata(p).unwrap().len()).unwrap();
    let good = fs::read(&pack).unwrap();
    fs::write(&pack, &good[..good.len() - 1]).unwrap();
    run(&mut by_hand(&vault, &w, &["p", &id, "tree", "tree"]))
        .code(1)
        .says(&["missing or damaged in every generation"]);
    // A later generation stands in.
    let next = PathBuf::from(pack.display().to_string().trim_end_matches('0').to_owned() + "1");
    fs::write(next, &good).unwrap();
    let tar = by_hand(&vault, &w, &["p", &id, "tree", "tree"]).output().unwrap();
    assert!(tar.status.success());
}

#[test]
fn without_b3sum_it_still_works_and_says_what_is_missing() {
    let w = World::new();
    w.file("f", "x");
    let id = w.backup()["id"].as_str().unwrap().to_owned();
    let bin = w.path().join("bin");
    fs::create_dir(&bin).unwrap();
    for tool in [
        "bash", "age", "zstd", "jq", "mktemp", "chmod", "cat", "sed", "tail", "head", "awk", "dd", "stat", "basename",
        "cut", "rm", "env", "sort", "find", "mv", "ls", "grep",
    ] {
        let path = Command::new("sh").args(["-c", &format!("command -v {tool}")]).output().unwrap();
        std::os::unix::fs::symlink(String::from_utf8(path.stdout).unwrap().trim(), bin.join(tool)).unwrap();
    }
    let mut c = by_hand(&w.path().join("repo/test-host"), &w, &["p", &id, "tree", "tree"]);
    c.env("PATH", &bin);
    let ran = c.output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(String::from_utf8_lossy(&ran.stderr).contains("forgery is not"));
}

#[path = "../support/mod.rs"]
#[allow(dead_code)]
pub mod support;

#[tokio::test(flavor = "multi_thread")]
async fn every_generation_comes_back_by_hand_from_an_s3_server() {
    let server = support::moto::Moto::start().await;
    let access = server.access.clone();
    let w = World::bare();
    let text = fs::read_to_string(w.at("backstay.toml")).unwrap();
    let url = format!(
        "url = \"s3://{}/a/prefix\"\nendpoint = \"{}\"\nregion = \"{}\"\npath_style = true\naccess_key_id = \"{}\"\nsecret_access_key = \"{}\"",
        access.bucket, access.endpoint, access.region, access.key, access.secret
    );
    w.write_config(&text.replace(&format!("url = \"file://{}\"", w.at("repo")), &url));
    w.run(&["init", "--recovery-out", &w.at("recovery.key")]).code(0);
    let generations = generations(&w);
    // The copy tool.
    let copied = Command::new("rclone")
        .args(["copy", "--config", "/dev/null"])
        .arg(format!(":s3,provider=Other,env_auth=false:{}/a/prefix/test-host", access.bucket))
        .arg(w.at("vault"))
        .env("RCLONE_S3_ENDPOINT", &access.endpoint)
        .env("RCLONE_S3_ACCESS_KEY_ID", &access.key)
        .env("RCLONE_S3_SECRET_ACCESS_KEY", &access.secret)
        .env_remove("AWS_CA_BUNDLE")
        .env("RCLONE_S3_REGION", &access.region)
        .output()
        .expect("rclone is not installed: apt-get install rclone");
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    prove(&w.path().join("vault"), &w, &generations);
    // And a machine without a configuration: what is not in the URL comes from the environment.
    let (url, identity) = (format!("s3://{}/a/prefix", access.bucket), w.at("recovery.key"));
    let mut fresh = w.command(&["--repository", &url, "--identity", &identity, "--json", "list"]);
    fresh.env("BACKSTAY_CONFIG", w.at("no-such-file"));
    for (key, value) in [
        ("ENDPOINT", access.endpoint.as_str()),
        ("REGION", &access.region),
        ("PATH_STYLE", "true"),
        ("ACCESS_KEY_ID", &access.key),
        ("SECRET_ACCESS_KEY", &access.secret),
    ] {
        fresh.env(format!("BACKSTAY__REPOSITORY__{key}"), value);
    }
    let listed = run(&mut fresh).code(0);
    assert!(generations.iter().all(|(id, _)| listed.out.contains(id)), "{}", listed.out);
    w.run(&["check", "--read-data"]).code(0).says(&["3 of 3"]);
}

/// Types a passphrase at each prompt; `age` reads it from the terminal only.
const TYPIST: &str = r#"
import os, pty, sys
pid, fd = pty.fork()
if pid == 0:
    os.execvp("bash", ["bash", "-c", sys.argv[1]])
seen = b""
while True:
    try:
        data = os.read(fd, 4096)
    except OSError:
        break
    if not data:
        break
    seen += data
    if seen.rstrip().endswith(b":"):
        os.write(fd, sys.argv[2].encode() + b"\n")
        seen = b""
sys.stderr.write(seen.decode(errors="replace"))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"#;

#[test]
fn a_passphrase_opens_the_vault_by_hand() {
    let w = World::bare();
    fs::write(w.at("pass"), "correct horse\n").unwrap();
    w.run(&["init", "--recovery-passphrase-file", &w.at("pass")]).code(0);
    w.file("f", "by hand");
    let id = w.backup()["id"].as_str().unwrap().to_owned();
    let command = format!("{} {} - p {id} tree tree > {}", script().display(), w.at("repo/test-host"), w.at("a.tar"));
    let typed = |passphrase: &str| run(Command::new("python3").args(["-c", TYPIST, &command, passphrase]));
    assert_ne!(typed("incorrect horse").code, 0);
    typed("correct horse").code(0);
    let listed = Command::new("tar").args(["-tf", &w.at("a.tar")]).output().unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).contains("tree/f"));
}
