//! Options and settings of the vault's commands, by what they change.

use crate::world::{World, noise};
use jiff::{SignedDuration, Timestamp};
use std::fs;
use std::process::Command;

/// Packs and segments as if they had been stored days ago: prune leaves young ones alone.
fn age(w: &World) {
    for object in w.objects("packs").into_iter().chain(w.objects("meta")) {
        assert!(Command::new("touch").args(["-d", "3 days ago"]).arg(object).status().unwrap().success());
    }
}

#[test]
fn init_asks_for_one_recovery_key_and_says_how_to_keep_it() {
    let w = World::bare();
    let ways = ["--recovery-out", "--recovery-recipient", "--recovery-passphrase-file"];
    w.run(&["init"]).code(2).says(&ways);
    w.run(&["init", "--recovery-out", &w.at("r.key"), "--recovery-passphrase-file", &w.at("p")])
        .code(2)
        .says(&["cannot be used with"]);
    w.run(&["init", "--recovery-recipient", "age1nonsense"])
        .code(2)
        .says(&["not an age recipient", "begins with age1"]);
    std::fs::write(w.at("empty"), "").unwrap();
    for file in ["empty", "missing"] {
        w.run(&["init", "--recovery-passphrase-file", &w.at(file)]).code(5).says(&["passphrase file", "do:"]);
    }
    std::fs::write(w.at("p"), "correct horse").unwrap();
    w.run(&["init", "--recovery-passphrase-file", &w.at("p")]).code(0).says(&[
        "a passphrase",
        "off this host",
        "key check",
    ]);
}

#[test]
fn prune_condemns_no_more_than_the_share_that_is_allowed_and_waits_as_long_as_init_said() {
    let w = World::bare();
    w.run(&["init", "--recovery-out", &w.at("recovery.key"), "--grace", "30m"]).code(2).says(&["too short"]);
    w.run(&["init", "--recovery-out", &w.at("recovery.key"), "--grace", "2d"]).code(0);
    // The first pack of each begins with what stays, so it takes large ones.
    for n in 0..3 {
        w.file("f", noise(24 << 20, n));
        w.backup();
    }
    age(&w);
    w.run(&["forget"]).code(0).says(&["removed 1 backup"]);
    // Almost a third of the bytes is garbage.
    w.run(&["prune", "--max-share", "20"]).code(10).says(&["share of 20 %", "--max-share 100"]);
    w.run(&["prune", "--max-share", "101"]).code(2).says(&["from 0 to 100"]);
    assert!(w.objects("condemned").is_empty());
    let condemned = w.run(&["--json", "prune", "--max-share", "45"]).code(0).json();
    let objects = condemned["condemned_objects"].as_u64().unwrap();
    assert!(objects > 0, "{condemned}");
    assert_eq!(w.objects("condemned").len(), 1);
    let waiting = w.run(&["--json", "prune"]).code(0).json();
    assert_eq!((waiting["waiting_objects"].as_u64(), waiting["deleted_objects"].as_u64()), (Some(objects), Some(0)));
    let next: Timestamp = waiting["next"].as_str().unwrap().parse().unwrap();
    let wait = next.duration_since(Timestamp::now());
    assert!(wait > SignedDuration::from_hours(47) && wait <= SignedDuration::from_hours(48), "{wait:?}");
}

#[test]
fn the_hosts_of_a_repository_are_listed_without_a_key_and_one_is_meant_by_name() {
    let w = World::new();
    w.file("f", "of the first");
    w.backup();
    let text = fs::read_to_string(w.at("backstay.toml")).unwrap();
    let second = [("host = \"test-host\"", "host = \"web-2\""), ("/state\"", "/state2\""), ("/host.key\"", "/2.key\"")];
    w.write_config(&second.iter().fold(text, |text, (from, to)| text.replace(from, to)));
    w.run(&["init", "--recovery-out", &w.at("recovery2.key")]).code(0);
    w.file("f", "of the second");
    w.backup();
    w.run(&["list", "--hosts"]).code(0).says(&["test-host\n", "web-2\n"]);
    let url = format!("file://{}", w.at("repo"));
    let elsewhere = ["--config", "/nowhere", "--repository", &url];
    let hosts = w.run(&[&elsewhere[..], &["--json", "list", "--hosts"]].concat()).code(0).json();
    assert_eq!(hosts, serde_json::json!(["test-host", "web-2"]));
    let key = w.at("recovery.key");
    let restore = ["--identity", &key, "restore", "--plan", "p", "--to", &w.at("out")];
    w.run(&[&elsewhere[..], &restore].concat()).code(2).says(&["several hosts", "--host: test-host, web-2"]);
    w.run(&[&elsewhere[..], &["--host", "web-2"], &restore].concat()).code(5);
    w.run(&[&elsewhere[..], &["--host", "test-host"], &restore].concat()).code(0);
    let restored = w.path().join("out").join(w.at("tree/f").trim_start_matches('/'));
    assert_eq!(fs::read_to_string(restored).unwrap(), "of the first");
}

/// A host with this `[backup]` section, and its vault.
fn with_backup(section: &str) -> World {
    let w = World { extra: format!("[backup]\n{section}\n"), ..World::bare() };
    w.configure("", &format!("paths = [\"{}\"]", w.at("tree")));
    w.run(&["init", "--recovery-out", &w.at("recovery.key")]).code(0);
    w
}

#[test]
fn a_higher_compression_level_ships_less_and_one_that_is_none_is_refused() {
    let words: Vec<&str> = include_str!("../../docs/format.md").split_whitespace().collect();
    let mut dice = 0x9e37_79b9_u64;
    let mut word = || {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        words[(dice >> 33) as usize % words.len()]
    };
    let text = (0..100_000).map(|_| word()).collect::<Vec<_>>().join(" ");
    let shipped = |level: i32| {
        let w = with_backup(&format!("compression_level = {level}"));
        w.file("log", &text);
        let shipped = w.shipped();
        w.run(&["check", "--read-data"]).code(0);
        shipped
    };
    let (fast, small) = (shipped(1), shipped(19));
    assert!(small < fast, "{small} and {fast}");
    for level in [0, 20] {
        let w = World { extra: format!("[backup]\ncompression_level = {level}\n"), ..World::bare() };
        w.configure("", &format!("paths = [\"{}\"]", w.at("tree")));
        let said = format!("`backup.compression_level` is {level}");
        w.run(&["init", "--recovery-out", &w.at("recovery.key")]).code(3).says(&[&said, "1 (fast) to 19 (small)"]);
    }
}

#[test]
fn one_thread_and_one_upload_are_enough_for_a_backup_of_many_packs() {
    let w = with_backup("threads = 1\nuploads = 1");
    for n in 0..40 {
        w.file(&format!("small/{n}"), noise(70_000, n));
    }
    w.file("large", noise(20 << 20, 99));
    w.backup();
    assert!(w.objects("packs").len() > 3);
    w.run(&["restore", "--to", &w.at("out")]).code(0);
    let restored = w.path().join("out").join(w.at("tree").trim_start_matches('/'));
    assert_eq!(fs::read(restored.join("large")).unwrap(), noise(20 << 20, 99));
    assert_eq!(fs::read(restored.join("small/7")).unwrap(), noise(70_000, 7));
}
