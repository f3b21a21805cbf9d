//! The vault of a machine that an earlier version wrote, stored in `tests/samples/format-N/host-2`, and read back by
//! this one. It has what the one of `tests/repository/samples.rs` has not: two key epochs, keys of all three kinds,
//! files as a host has them, a pack that was stored again, and records of every kind.
//!
//! Beside it: `host-2.identity` (of the recovery key), `host-2.passphrase`, and `host-2.json` with the path of the tree
//! and the picture that it has to have by backup. As with the other one, it is written once and never again:
//!
//! ```sh
//! BACKSTAY_WRITE_SAMPLE=1 cargo test --test cli samples::write
//! ```

use crate::world::{World, noise, picture, run};
use backstay::repository::vault::FORMAT;
use serde_json::{Map, Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn folder(format: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/samples/format-{format}"))
}

fn sh(dir: &Path, script: &str) {
    let status = Command::new("bash").args(["-euc", script]).current_dir(dir).status().unwrap();
    assert!(status.success(), "{script}");
}

#[test]
fn the_vault_of_a_machine_that_an_earlier_version_wrote_reads_back() {
    for format in 1..=FORMAT {
        let sample = folder(format);
        let at = |name: &str| sample.join(name).display().to_string();
        let expected =
            fs::read_to_string(at("host-2.json")).unwrap_or_else(|e| panic!("{e}: see the head of this file"));
        let expected: Value = serde_json::from_str(&expected).unwrap();
        // A machine that knows nothing of it, and a copy, since commands write.
        let w = World::bare();
        fs::create_dir(w.at("repo")).unwrap();
        sh(w.path(), &format!("cp -r '{}' repo/", at("host-2")));
        let url = format!("file://{}", w.at("repo"));
        let with = |unlock: &[&str], args: &[&str]| {
            w.run(&[&["--config", "/nowhere", "--repository", &url, "--host", "host-2"], unlock, args].concat())
        };
        let (key, passphrase) = (at("host-2.identity"), at("host-2.passphrase"));
        let (identity, passphrase) = (["--identity", key.as_str()], ["--passphrase-file", passphrase.as_str()]);
        let backups = expected["backups"].as_object().unwrap();
        let listed = with(&identity, &["--json", "list"]).code(0).json();
        let mut ids: Vec<&str> = listed.as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
        ids.sort_unstable();
        assert_eq!(ids, backups.keys().collect::<Vec<_>>());
        with(&identity, &["list"]).code(0).says(&["held", "proven"]);
        for (id, wanted) in backups {
            let out = w.at(id);
            with(&identity, &["restore", id, "--plan", "p", "--to", &out]).code(0);
            let tree = Path::new(&out).join(expected["tree"].as_str().unwrap().trim_start_matches('/'));
            assert_eq!(picture(&tree), wanted.as_str().unwrap(), "format {format}, backup {id}");
        }
        let whole = format!("{0} of {0}", backups.len());
        with(&identity, &["check", "--read-data"]).code(0).says(&[&whole, "stored again since"]);
        with(&passphrase, &["check", "--read-data"]).code(0).says(&[&whole]);
        with(&identity, &["key", "list"]).code(0).says(&["host", "recovery", "safe", "1, 2", "passphrase", "ago"]);
        // What was condemned then is due or not, by the day on which this runs.
        with(&identity, &["prune"]).code(0);
        with(&identity, &["check", "--read-data"]).code(0).says(&[&whole]);
    }
}

/// A small tree with what takes more than the plainest tar.
fn tree(w: &World) {
    w.file("conf/a.conf", "first = 1\n");
    w.file("large.bin", noise(300_000, 1));
    w.file(&format!("{}/{}", "n".repeat(120), "m".repeat(180)), "long path\n");
    w.file("with\nnewline and ä", "odd\n");
    sh(
        &w.path().join("tree"),
        "ln large.bin conf/again; ln -s conf/a.conf link; mkfifo fifo; : > empty; chown 12345:54321 empty; printf bytes > $'not-utf8-\\xff'; \
         truncate -s 20M sparse; printf data | dd of=sparse bs=1 seek=9999999 conv=notrunc status=none; chmod 4755 link; \
         setfattr -n user.note -v text conf/a.conf; setfacl -m u:1:rw conf/a.conf; touch -d '1999-02-03 04:05:06.789' large.bin",
    );
}

/// Backs up what is there; its id.
fn backed_up(w: &World, pictures: &mut Map<String, Value>) -> String {
    w.settle();
    let id = w.backup()["id"].as_str().unwrap().to_owned();
    pictures.insert(id.clone(), json!(picture(&w.path().join("tree"))));
    id
}

/// One more, by a machine that takes the name over.
fn taken_over(w: &World, pictures: &mut Map<String, Value>) {
    fs::write(w.at("machine-id"), "0123456789abcdef0123456789abcdef\n").unwrap();
    let program = env!("CARGO_BIN_EXE_backstay");
    let script =
        format!("mount --bind {} /etc/machine-id && exec {program} --json backup --take-over", w.at("machine-id"));
    let mut other = Command::new("unshare");
    other.args(["--mount", "sh", "-c", &script]).env("BACKSTAY_CONFIG", w.at("backstay.toml")).env("NO_COLOR", "1");
    let manifest = run(&mut other).code(0).json();
    pictures.insert(manifest["id"].as_str().unwrap().to_owned(), json!(picture(&w.path().join("tree"))));
}

#[test]
fn write() {
    if std::env::var_os("BACKSTAY_WRITE_SAMPLE").is_none() {
        return;
    }
    let sample = folder(FORMAT);
    assert!(!sample.join("host-2").exists(), "{} has one, and it is never written again", sample.display());
    let w = World { host: "host-2".into(), ..World::bare() };
    w.configure("", &format!("paths = [\"{}\"]", w.at("tree")));
    w.run(&["init", "--recovery-out", &w.at("recovery.key")]).code(0);
    fs::write(w.at("pass"), "the passphrase of a sample\n").unwrap();
    w.run(&["key", "add", "safe", "--new-passphrase-file", &w.at("pass")]).code(0);
    let mut pictures = Map::new();
    tree(&w);
    let first = backed_up(&w, &mut pictures);
    // A pack that is damaged, marked, and stored again as its next generation.
    let size = |pack: &PathBuf| fs::metadata(pack).unwrap().len();
    let pack = w.objects("packs").into_iter().max_by_key(size).unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&pack, bytes).unwrap();
    w.run(&["check", "--read-data"]).code(7);
    backed_up(&w, &mut pictures);
    w.run(&["check", "--read-data"]).code(0).says(&["stored again since"]);
    // A second key epoch, and a backup that is forgotten, its objects condemned.
    w.run(&["--passphrase-file", &w.at("pass"), "key", "rotate"]).code(0).says(&["epoch 2"]);
    w.file("gone", noise(50_000, 2));
    w.settle();
    let doomed = w.backup()["id"].as_str().unwrap().to_owned();
    fs::remove_file(w.at("tree/gone")).unwrap();
    w.file("conf/b.conf", "second = 2\n");
    let third = backed_up(&w, &mut pictures);
    w.run(&["forget", &doomed]).code(0);
    for object in w.objects("packs").into_iter().chain(w.objects("meta")) {
        assert!(Command::new("touch").args(["-d", "3 days ago"]).arg(object).status().unwrap().success());
    }
    w.run(&["prune", "--max-share", "100"]).code(0);
    // Records of every kind.
    w.run(&["hold", &first, "--note", "before the migration"]).code(0);
    w.run(&["hold", &third, "--acknowledge", "--note", "small and right"]).code(0);
    w.run(&["--identity", &w.at("recovery.key"), "key", "check"]).code(0);
    fs::create_dir(w.at("drills")).unwrap();
    w.run(&["drill", "--dir", &w.at("drills")]).code(0);
    taken_over(&w, &mut pictures);
    w.run(&["check", "--read-data"]).code(0);
    let folders = ["acknowledged", "backups", "claims", "condemned", "damaged", "drills", "forgotten", "holds"];
    for kind in folders.into_iter().chain(["keys", "meta", "packs", "proven"]) {
        assert!(!w.objects(kind).is_empty(), "there is nothing in {kind}");
    }
    sh(w.path(), &format!("cp -r repo/host-2 '{}'", sample.display()));
    fs::copy(w.at("recovery.key"), sample.join("host-2.identity")).unwrap();
    fs::copy(w.at("pass"), sample.join("host-2.passphrase")).unwrap();
    let expected = json!({ "tree": w.at("tree"), "backups": pictures });
    fs::write(sample.join("host-2.json"), serde_json::to_vec_pretty(&expected).unwrap()).unwrap();
}
