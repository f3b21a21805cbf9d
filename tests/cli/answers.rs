//! What scripts read: with `--json` a command's standard output is one document and nothing else.

use crate::world::World;
use serde_json::{Value, json};
use std::fs;

/// Runs a command with `--json`; its document. [`crate::world::Ran::json`] takes nothing beside it.
#[track_caller]
fn answer(w: &World, args: &[&str]) -> Value {
    w.run(&[&["--json"], args].concat()).code(0).json()
}

#[test]
fn init_and_every_key_command_answer_in_json() {
    let w = World::bare();
    let made = answer(&w, &["init", "--recovery-out", &w.at("recovery.key")]);
    assert_eq!((&made["host"], &made["sealed"]), (&json!("test-host"), &json!(false)));
    assert_eq!(made["identity_file"], w.at("host.key"));
    assert_eq!(made["recovery_file"], w.at("recovery.key"));
    assert!(made["repository"].as_str().unwrap().ends_with(&w.at("repo")), "{made}");
    let added = answer(&w, &["key", "add", "alice", "--out", &w.at("alice.key")]);
    assert_eq!(added, json!({ "added": "alice", "epochs": [1], "identity_file": w.at("alice.key") }));
    let proven = answer(&w, &["--identity", &w.at("alice.key"), "key", "check"]);
    assert_eq!(proven, json!({ "proven": ["alice"], "recorded": true, "fingerprint": made["fingerprint"] }));
    let listed = answer(&w, &["key", "list"]);
    assert_eq!(listed["fingerprint"], made["fingerprint"]);
    let keys: Vec<_> =
        listed["keys"].as_array().unwrap().iter().map(|k| (&k["name"], &k["role"], &k["epochs"])).collect();
    let (host, recovery, first) = (json!("host"), json!("recovery"), json!([1]));
    assert_eq!(keys, [(&json!("alice"), &recovery, &first), (&host, &host, &first), (&recovery, &recovery, &first)]);
    assert!(listed["keys"][0]["proven"].is_string() && listed["keys"][2]["proven"].is_null(), "{listed}");
    let exported = answer(&w, &["key", "export", &w.at("kept")]);
    assert_eq!(exported["directory"], w.at("kept"));
    assert_eq!(exported["files"].as_array().unwrap().len(), 3);
    assert_eq!(answer(&w, &["key", "remove", "alice"]), json!({ "removed": "alice", "epoch": 2 }));
    let rotated = answer(&w, &["key", "rotate"]);
    assert_eq!(rotated["epoch"], 3);
    let opens = |n: usize, name: &str| rotated["keys"][n].as_str().unwrap().starts_with(&format!("{name} (age1"));
    assert!(opens(0, "host") && opens(1, "recovery") && rotated["keys"].as_array().unwrap().len() == 2, "{rotated}");
}

#[test]
fn hold_forget_and_prune_answer_in_json() {
    let w = World::new();
    let mut ids = Vec::new();
    for content in ["1", "2", "3", "4"] {
        w.file("f", content);
        ids.push(w.backup()["id"].as_str().unwrap().to_owned());
    }
    let hold = |more: &[&str]| answer(&w, &[&["hold", ids[0].as_str()], more].concat());
    let held = |result: &str| json!({ "plan": "p", "backup": ids[0], "result": result });
    assert_eq!(hold(&["--acknowledge"]), held("acknowledged"));
    assert_eq!(hold(&["--note", "before the migration"]), held("held"));
    let forgotten = |dry_run: bool, which: &[&String]| {
        let removed: Vec<_> = which.iter().map(|id| json!(["p", id])).collect();
        json!({ "dry_run": dry_run, "removed": removed, "retained": [] })
    };
    assert_eq!(answer(&w, &["forget", "--dry-run"]), forgotten(true, &[&ids[1]]));
    assert_eq!(answer(&w, &["forget"]), forgotten(false, &[&ids[1]]));
    assert_eq!(hold(&["--release"]), held("released"));
    assert_eq!(answer(&w, &["forget", &ids[0]]), forgotten(false, &[&ids[0]]));
    let pruned = answer(&w, &["prune", "--dry-run"]);
    assert!(pruned["live_objects"].as_u64().unwrap() > 0, "{pruned}");
    // Everything is young.
    for none in ["condemned_objects", "condemned_bytes", "waiting_objects", "deleted_objects", "retained_objects"] {
        assert_eq!(pruned[none], 0, "{none}");
    }
    assert_eq!(answer(&w, &["prune"]), pruned);
}

#[test]
fn a_rollback_and_a_cleanup_answer_in_json() {
    let w = World::new();
    w.file("one", "first");
    w.backup();
    w.file("one", "second");
    w.run(&["restore", "--yes"]).code(0);
    let id = w.last_restore();
    assert_eq!(answer(&w, &["rollback", "--yes"]), json!({ "rolled_back": id, "plan": "p", "left": [] }));
    assert_eq!(fs::read_to_string(w.at("tree/one")).unwrap(), "second");
    let would = answer(&w, &["cleanup", "--dry-run", &id]);
    assert_eq!((&would["dry_run"], &would["dropped"][0][0]), (&json!(true), &json!(id)), "{would}");
    let cleaned = answer(&w, &["cleanup", &id]);
    assert_eq!((&cleaned["dry_run"], &cleaned["dropped"]), (&json!(false), &would["dropped"]));
    assert_eq!(answer(&w, &["cleanup", &id]), json!({ "dry_run": false, "dropped": [], "left": [] }));
}
