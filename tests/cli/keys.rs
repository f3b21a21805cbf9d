//! Keys: who can open what, before and after a change, and what a sealed host can do.

use crate::world::{World, run};
use std::fs;

fn unconfigured(w: &World, identity: &[&str], args: &[&str]) -> crate::world::Ran {
    let url = format!("file://{}", w.at("repo"));
    w.run(&[&["--config", "/nowhere", "--repository", &url], identity, args].concat())
}

fn sealed() -> World {
    let w = World::bare();
    let text = fs::read_to_string(w.at("backstay.toml")).unwrap();
    w.write_config(&text.replace(&format!("identity_file = \"{}\"", w.at("host.key")), ""));
    w.run(&["init", "--recovery-out", &w.at("recovery.key")]).code(0).says(&["sealed"]);
    w
}

#[test]
fn a_sealed_host_backs_up_lists_and_checks_and_opens_nothing() {
    let w = sealed();
    let recovery = w.path().join("recovery.key");
    let safe = tempfile::tempdir().unwrap();
    fs::rename(&recovery, safe.path().join("recovery.key")).unwrap();
    w.file("secret.txt", "the secret content");
    w.backup();
    w.file("other.txt", "more");
    w.backup();
    for args in [&["list"][..], &["show"], &["ls"], &["find", "*.txt"], &["check"], &["forget"], &["prune"]] {
        w.run(args).code(0);
    }
    for args in [
        &["cat", "--source", "tree"][..],
        &["restore", "--to", "x"],
        &["check", "--read-data"],
        &["key", "add", "n", "--out", "y"],
    ] {
        // The key that would do is named as `key list` and its owner call it.
        w.run(args).code(5).says(&["sealed", "--identity", "opens with: recovery (age1"]);
    }
    // No identity that lies anywhere on the host opens a pack.
    let mut identities = 0;
    let mut todo = vec![w.path().join("state")];
    while let Some(path) = todo.pop() {
        for entry in fs::read_dir(path).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                todo.push(entry.path());
                continue;
            }
            let text = String::from_utf8_lossy(&fs::read(entry.path()).unwrap()).into_owned();
            for word in text
                .split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
                .filter(|t| t.starts_with("AGE-SECRET-KEY-1"))
            {
                identities += 1;
                let key = w.path().join("found.key");
                fs::write(&key, word).unwrap();
                for pack in w.objects("packs") {
                    let opened =
                        std::process::Command::new("age").args(["-d", "-i"]).arg(&key).arg(&pack).output().unwrap();
                    assert!(!opened.status.success(), "{} opens {}", entry.path().display(), pack.display());
                }
            }
        }
    }
    assert!(identities >= 1, "the catalog identity must be among what was tried");
    // The person with the recovery identity restores, on a machine without any configuration.
    let key = safe.path().join("recovery.key").display().to_string();
    unconfigured(&w, &["--identity", &key], &["restore", "--to", &w.at("out")]).code(0);
    assert_eq!(
        fs::read_to_string(w.path().join("out").join(w.at("tree/secret.txt").trim_start_matches('/'))).unwrap(),
        "the secret content"
    );
}

#[test]
fn a_key_is_added_proven_removed_and_then_opens_only_the_past() {
    let w = World::new();
    w.file("f", "before");
    w.backup();
    w.run(&["key", "add", "alice", "--out", &w.at("alice.key")]).code(0);
    w.run(&["key", "add", "alice", "--out", &w.at("alice2.key")]).code(10);
    unconfigured(&w, &["--identity", &w.at("alice.key")], &["key", "check"]).code(0).says(&["proven: key alice"]);
    w.run(&["key", "list"]).code(0).says(&["alice", "ago", "recovery", "never"]);
    let kept = tempfile::tempdir().unwrap();
    w.run(&["key", "export", &kept.path().display().to_string()]).code(0);
    w.run(&["key", "remove", "alice"]).code(0).says(&["key epoch 2", "kept a copy"]);
    unconfigured(&w, &["--identity", &w.at("alice.key")], &["list"]).code(5);
    w.file("g", "after");
    w.backup();
    // The host and the recovery identity read both epochs.
    for key in ["recovery.key", "host.key"] {
        let out = w.at(&format!("out-{key}"));
        unconfigured(&w, &["--identity", &w.at(key)], &["restore", "--to", &out]).code(0);
        unconfigured(&w, &["--identity", &w.at(key)], &["check", "--read-data"]).code(0).says(&["2 of 2"]);
    }
    w.run(&["check", "--read-data"]).code(0);
    // With the copies that she kept, alice opens what was stored before, and nothing since.
    for file in fs::read_dir(kept.path()).unwrap().flatten() {
        let name = file.file_name().into_string().unwrap();
        if let Some(key) = name.strip_prefix("test-host-0001-") {
            let _ = fs::copy(file.path(), w.path().join("repo/test-host/keys/0001").join(key));
        }
    }
    unconfigured(&w, &["--identity", &w.at("alice.key")], &["check", "--read-data"]).code(7).says(&["1 of 2"]);
}

#[test]
fn a_passphrase_opens_the_vault_and_is_asked_for_when_keys_rotate() {
    let w = World::bare();
    fs::write(w.at("pass"), "correct horse\n").unwrap();
    fs::write(w.at("wrong"), "incorrect horse\n").unwrap();
    w.run(&["init", "--recovery-passphrase-file", &w.at("pass")]).code(0);
    w.file("f", "x");
    w.backup();
    unconfigured(&w, &["--passphrase-file", &w.at("wrong")], &["list"]).code(5);
    unconfigured(&w, &["--passphrase-file", &w.at("pass")], &["restore", "--to", &w.at("out")]).code(0);
    unconfigured(&w, &["--passphrase-file", &w.at("pass")], &["key", "check"]).code(0).says(&["recovery"]);
    w.run(&["key", "rotate"]).code(10).says(&["passphrase"]);
    unconfigured(&w, &["--passphrase-file", &w.at("wrong")], &["key", "rotate"]).code(5);
    w.run(&["--passphrase-file", &w.at("pass"), "key", "rotate"]).code(0).says(&["epoch 2"]);
    w.file("g", "y");
    w.backup();
    unconfigured(&w, &["--passphrase-file", &w.at("pass")], &["check", "--read-data"]).code(0).says(&["2 of 2"]);
}

#[test]
fn the_last_key_cannot_be_removed() {
    let w = sealed();
    let key = w.at("recovery.key");
    w.run(&["--identity", &key, "key", "remove", "recovery"]).code(10).says(&["no key would be left"]);
    w.run(&["--identity", &key, "key", "check"]).code(0);
}

#[test]
fn a_rotation_elsewhere_reaches_the_host_when_it_is_told() {
    let w = sealed();
    w.file("f", "x");
    w.backup();
    unconfigured(&w, &["--identity", &w.at("recovery.key")], &["key", "rotate"]).code(0).says(&["until it is told"]);
    assert_eq!(w.backup()["epoch"], 1);
    w.run(&["--identity", &w.at("recovery.key"), "key", "check"]).code(0);
    assert_eq!(w.backup()["epoch"], 2);
    w.run(&["list"]).code(0);
    w.run(&["--identity", &w.at("recovery.key"), "check", "--read-data"]).code(0).says(&["3 of 3"]);
}

#[test]
fn identity_files_are_private_and_never_overwritten() {
    use std::os::unix::fs::PermissionsExt;
    let w = World::new();
    for file in ["recovery.key", "host.key", "state/trust/test-host.json"] {
        assert_eq!(fs::metadata(w.at(file)).unwrap().permissions().mode() & 0o777, 0o600, "{file}");
    }
    let w = World::bare();
    fs::write(w.at("recovery.key"), "mine").unwrap();
    w.run(&["init", "--recovery-out", &w.at("recovery.key")]).code(10);
    assert_eq!(fs::read_to_string(w.at("recovery.key")).unwrap(), "mine");
    assert!(!w.path().join("host.key").exists());
}

#[test]
fn the_sealed_key_files_are_also_kept_on_the_host() {
    let w = World::new();
    let kept = || {
        let mut names: Vec<String> =
            fs::read_dir(w.at("state/keys")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(kept(), ["test-host-0001-host.age", "test-host-0001-recovery.age"]);
    w.run(&["key", "add", "alice", "--out", &w.at("alice.key")]).code(0);
    assert_eq!(kept().len(), 3);
    w.run(&["key", "remove", "alice"]).code(0);
    assert_eq!(kept().len(), 4);
    assert!(!kept().iter().any(|n| n.contains("alice")));
}

#[test]
fn a_label_that_nobody_vouches_for_stops_a_rotation() {
    let w = World::new();
    w.run(&["key", "add", "alice", "--out", &w.at("alice.key")]).code(0);
    // The label of another key epoch's alice: authentic as a record in no way, and a forged one is refused the same.
    let keys = w.path().join("repo/test-host/keys/0001");
    fs::copy(keys.join("alice.age"), keys.join("mallory.age")).unwrap();
    w.run(&["key", "rotate"])
        .code(10)
        .says(&["nobody with an identity of the vault vouches for key mallory", "key remove"]);
    fs::remove_file(keys.join("mallory.age")).unwrap();
    w.run(&["key", "rotate"]).code(0).says(&["epoch 2"]);
}

#[test]
fn an_epoch_that_no_earlier_one_vouches_for_is_refused() {
    let (w, other) = (World::new(), World::new());
    other.run(&["key", "rotate"]).code(0);
    // A second epoch out of another vault, whose key file opens with this vault's own recovery identity, cannot be
    // made here; its folder under this vault's name is at least never taken for the newest epoch.
    let to = w.path().join("repo/test-host/keys/0002");
    fs::create_dir(&to).unwrap();
    for file in fs::read_dir(other.path().join("repo/test-host/keys/0002")).unwrap().flatten() {
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
    unconfigured(&w, &["--identity", &w.at("recovery.key")], &["key", "check"]).code(0);
    w.file("f", "x");
    assert_eq!(w.backup()["epoch"], 1);
}

#[test]
fn a_lost_key_file_of_the_newest_epoch_stops_backups_and_is_told_by_every_command() {
    let w = World::new();
    w.file("f", "x");
    w.run(&["key", "rotate"]).code(0);
    w.backup();
    let folder = w.path().join("repo/test-host/keys/0002");
    let kept = std::fs::read(folder.join("host.age")).unwrap();
    std::fs::remove_file(folder.join("host.age")).unwrap();
    let identity = ["--identity", &w.at("host.key")];
    for command in [vec!["list"], vec!["key", "list"], vec!["show"]] {
        w.run(&[&identity[..], &command].concat()).code(0).says(&["opens no key file of key epoch 2"]);
    }
    w.run(&["backup"]).code(5).says(&["key epoch 2, to which it seals", "keys/0002/", "key export"]);
    w.run(&["check"]).code(7).says(&["keys/0002/host.age", "is missing", "copies that the host keeps"]);
    // The copy on the host brings it back.
    std::fs::copy(w.at("state/keys/test-host-0002-host.age"), folder.join("host.age")).unwrap();
    assert_eq!(std::fs::read(folder.join("host.age")).unwrap(), kept);
    w.backup();
    w.run(&["check"]).code(0);
}

#[test]
fn a_sealed_host_names_every_key_that_opens_what_is_stored_now_and_no_other() {
    let w = sealed();
    w.file("f", "x");
    w.backup();
    let identity = ["--identity", &w.at("recovery.key")];
    for name in ["alice", "mallory"] {
        let out = w.at(&format!("{name}.key"));
        w.run(&[&identity[..], &["key", "add", name, "--out", &out]].concat()).code(0);
    }
    w.run(&[&identity[..], &["key", "remove", "mallory"]].concat()).code(0);
    let refused = w.run(&["cat", "--source", "tree"]).code(5).says(&["alice (age1", "recovery (age1"]);
    assert!(!refused.err.contains("mallory"), "{}", refused.err);
    let why = w.run(&["--json", "restore", "--to", "x"]).code(5);
    let why: serde_json::Value = serde_json::from_str(&why.err).unwrap();
    assert!(why["error"]["do"].as_str().unwrap().contains("alice (age1"), "{why}");
}

#[test]
fn a_key_is_checked_without_a_look_at_data() {
    let w = World::new();
    w.file("f", "x");
    w.backup();
    // Paths of stored data that a command opens.
    let opened = |args: &[&str]| {
        let log = w.at("calls");
        let program = w.command(args);
        let mut traced = std::process::Command::new("strace");
        traced.args(["-f", "-qq", "-s", "4096", "-e", "trace=openat", "-o", &log]);
        traced.arg(program.get_program()).args(program.get_args()).current_dir(w.path());
        traced.env("BACKSTAY_CONFIG", w.at("backstay.toml")).env("NO_COLOR", "1");
        run(&mut traced).code(0);
        let calls = fs::read_to_string(log).unwrap();
        // A folder is listed; what is in an object is not seen by that.
        let of =
            |line: &str, folder: &str| line.contains(&format!("/repo/test-host/{folder}/")) && !line.contains("/\"");
        let below = |folder: &str| calls.lines().filter(|line| of(line, folder)).count();
        assert!(below("keys") > 0, "nothing was traced");
        below("packs") + below("meta") + below("backups")
    };
    assert!(opened(&["check", "--read-data"]) > 0, "this does not see what is read");
    assert_eq!(opened(&["--identity", &w.at("recovery.key"), "key", "check"]), 0);
}

/// A key pair that a person made for himself; the recipient. The file stays with him.
fn own_key(w: &World, file: &str) -> String {
    let made = std::process::Command::new("age-keygen").args(["-o", &w.at(file)]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let text = fs::read_to_string(w.at(file)).unwrap();
    text.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap().to_owned()
}

#[test]
fn a_key_is_added_for_a_recipient_whose_identity_never_was_here() {
    let w = World::new();
    w.file("f", "x");
    w.backup();
    let alice = own_key(&w, "alice.key");
    unconfigured(&w, &["--identity", &w.at("alice.key")], &["list"]).code(5);
    w.run(&["key", "add", "alice", "--recipient", &alice]).code(0).says(&["added"]);
    w.run(&["key", "list"]).code(0).says(&["alice", &alice]);
    unconfigured(&w, &["--identity", &w.at("alice.key")], &["restore", "--to", &w.at("out")]).code(0);
    unconfigured(&w, &["--identity", &w.at("alice.key")], &["key", "check"]).code(0).says(&["proven: key alice"]);
    // A slip of the pen is told, and makes no key.
    let slip = &alice[..alice.len() - 1];
    w.run(&["key", "add", "bob", "--recipient", slip]).code(2).says(&["not an age recipient", slip]);
    w.run(&["key", "add", "bob"]).code(2).says(&["--recipient, --out or --new-passphrase-file"]);
    let both = ["key", "add", "bob", "--recipient", &alice, "--out", "bob.key"];
    w.run(&both).code(2);
    assert!(!w.objects("keys").iter().any(|key| key.display().to_string().contains("bob")));
}

#[test]
fn a_passphrase_is_added_to_a_vault_of_identities() {
    let w = World::new();
    w.file("f", "x");
    w.backup();
    fs::write(w.at("pass"), "correct horse\n").unwrap();
    fs::write(w.at("empty"), "\n").unwrap();
    w.run(&["key", "add", "safe", "--new-passphrase-file", &w.at("empty")]).code(5).says(&["is empty"]);
    w.run(&["key", "add", "safe", "--new-passphrase-file", &w.at("pass")]).code(0).says(&["added", "safe"]);
    w.run(&["key", "list"]).code(0).says(&["safe", "passphrase"]);
    unconfigured(&w, &["--passphrase-file", &w.at("pass")], &["restore", "--to", &w.at("out")]).code(0);
    unconfigured(&w, &["--passphrase-file", &w.at("pass")], &["key", "check"]).code(0).says(&["proven: key safe"]);
    fs::write(w.at("pass"), "incorrect horse\n").unwrap();
    unconfigured(&w, &["--passphrase-file", &w.at("pass")], &["list"]).code(5);
}

#[test]
fn a_vault_is_made_for_a_recovery_recipient_whose_identity_never_was_here() {
    let w = World::bare();
    let recipient = own_key(&w, "safe.key");
    let slip = &recipient[..recipient.len() - 1];
    w.run(&["init", "--recovery-recipient", slip]).code(2).says(&["not an age recipient"]);
    assert!(!w.path().join("host.key").exists());
    w.run(&["init", "--recovery-recipient", &recipient, "--recovery-out", "x.key"]).code(2);
    w.run(&["init", "--recovery-recipient", &recipient]).code(0).says(&["made", "host identity"]);
    w.file("f", "x");
    w.backup();
    w.run(&["key", "list"]).code(0).says(&["recovery", &recipient]);
    unconfigured(&w, &["--identity", &w.at("safe.key")], &["restore", "--to", &w.at("out")]).code(0);
    // The host reads with its own.
    w.run(&["check", "--read-data"]).code(0);
}
