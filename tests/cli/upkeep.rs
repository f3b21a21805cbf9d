//! Check, repair, forget, hold and prune, on a directory that somebody damages.

use crate::world::{World, noise};
use std::fs;

#[test]
fn check_names_the_damage_and_the_next_backup_repairs_it() {
    let w = World::new();
    for i in 0..12 {
        w.file(&format!("f{i}"), noise(900_000, i));
    }
    w.file("stream", noise(9 << 20, 99));
    w.settle();
    w.backup();
    let packs = w.objects("packs");
    fs::remove_file(&packs[0]).unwrap();
    let mut bytes = fs::read(&packs[1]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&packs[1], &bytes).unwrap();
    // Structure alone sees what is missing, reading sees the flipped bit.
    w.run(&["check"]).code(7).says(&["the pack is missing", "0 of 1"]);
    let name = packs[1].file_name().unwrap().to_str().unwrap();
    w.run(&["check", "--read-data"]).code(7).says(&[name, "CRC"]);
    w.run(&["restore", "--to", &w.at("broken")]).code(7).says(&["pack"]);
    let m = w.backup();
    assert_eq!(m["stats"]["repaired"], 2, "{}", m["stats"]);
    w.run(&["check", "--read-data"]).code(0).says(&["2 of 2", "stored again since"]);
    let first = w.run(&["--json", "list"]).json()[0]["id"].as_str().unwrap().to_owned();
    w.run(&["restore", &first, "--to", &w.at("out")]).code(0);
}

#[test]
fn a_share_of_the_data_is_read_and_a_wrong_one_is_refused() {
    let w = World::new();
    w.file("f", noise(50 << 20, 1));
    w.backup();
    let report = w.run(&["--json", "check", "--read-data", "10%"]).code(0).json();
    let (read, all) = (report["packs_read"].as_u64().unwrap(), report["packs"].as_u64().unwrap());
    assert!(read < all / 2, "{read} of {all}");
    w.run(&["check", "--read-data", "0%"]).code(2);
    w.run(&["check", "--read-data", "lots"]).code(2);
}

#[test]
fn forget_applies_the_rules_and_respects_holds() {
    let w = World::new();
    let mut ids = Vec::new();
    for i in 0..5 {
        w.file("f", noise(1000, i));
        ids.push(w.backup()["id"].as_str().unwrap().to_owned());
    }
    w.run(&["hold", &ids[0], "--note", "before the migration"]).code(0);
    w.run(&["forget", "--dry-run"]).code(0).says(&["2 backups would be removed"]);
    w.run(&["forget"]).code(0).says(&["removed 2 backups"]);
    let left = w.run(&["--json", "list"]).json();
    let left: Vec<&str> = left.as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
    assert_eq!(left.len(), 3);
    assert!(left.contains(&ids[0].as_str()));
    w.run(&["forget", &ids[0]]).code(10).says(&["held"]);
    w.run(&["hold", &ids[0], "--release"]).code(0);
    w.run(&["forget"]).code(0).says(&["removed 1 backup"]);
    // Forgotten ones are no gap; one that somebody deleted is.
    w.run(&["check"]).code(0);
    w.file("f", noise(1000, 9));
    w.backup();
    let manifests = w.objects("backups");
    fs::remove_file(&manifests[1]).unwrap();
    w.run(&["check"]).code(7).says(&["nobody forgot it"]);
    w.run(&["list"]).says(&["nobody forgot it"]);
}

#[test]
fn prune_waits_for_the_grace_time_and_refuses_what_looks_like_a_mistake() {
    let w = World::new();
    w.file("a", noise(3 << 20, 1));
    w.backup();
    w.file("a", noise(3 << 20, 2));
    w.backup();
    w.file("a", noise(3 << 20, 3));
    w.backup();
    w.run(&["forget"]).code(0);
    let before = w.objects("packs").len();
    // Young objects are left alone altogether; nothing is deleted in any case before the grace time.
    w.run(&["prune"]).code(0);
    w.run(&["prune"]).code(0);
    assert_eq!(w.objects("packs").len(), before);
    w.run(&["check", "--read-data"]).code(0);
    // A manifest that cannot be read stops it. (One that this host has in its cache, sealed and authentic, is known.)
    fs::remove_dir_all(w.path().join("state/cache")).unwrap();
    let manifest = w.objects("backups").pop().unwrap();
    let good = fs::read(&manifest).unwrap();
    fs::write(&manifest, &good[..good.len() - 1]).unwrap();
    w.run(&["prune"]).code(7).says(&["Prune stops"]);
    fs::remove_dir_all(w.path().join("repo/test-host/backups")).unwrap();
    w.run(&["prune"]).code(10).says(&["everything would be garbage"]);
}

#[test]
fn completions_and_help_are_there() {
    let w = World::bare();
    for shell in ["bash", "zsh", "fish"] {
        w.run(&["completions", shell]).code(0).says(&["backstay"]);
    }
    w.run(&["--help"]).code(0).says(&["Usage: backstay", "restore", "prune"]);
    w.run(&["restor"]).code(2).says(&["restore"]);
}

#[test]
fn a_store_that_hides_the_newest_backup_is_told_of() {
    let w = World::new();
    w.file("f", "1");
    w.backup();
    w.file("f", "2");
    w.backup();
    let newest = w.objects("backups").pop().unwrap();
    fs::remove_file(&newest).unwrap();
    let id = newest.file_name().unwrap().to_str().unwrap().to_owned();
    w.run(&["backup"]).code(0).says(&["warning", &id, "nobody forgot it"]);
    // Forgetting on purpose is no reason for a warning.
    let newest = w.objects("backups").pop().unwrap();
    w.run(&["forget", newest.file_name().unwrap().to_str().unwrap()]).code(0);
    let ran = w.run(&["backup"]).code(0);
    assert!(!ran.err.contains("warning"), "{}", ran.err);
}

#[test]
fn naming_a_source_twice_is_not_the_whole_plan() {
    let w = World::new();
    w.file("f", "1");
    w.write_config(&format!(
        "host = \"test-host\"\nstate_dir = \"{0}/state\"\n[repository]\nurl = \"file://{0}/repo\"\n[keys]\nidentity_file = \"{0}/host.key\"\n\
         [sources.a]\nkind = \"files\"\npaths = [\"{0}/tree\"]\n[sources.b]\nkind = \"files\"\npaths = [\"{0}/tree\"]\n[plans.p]\nsources = [\"a\", \"b\"]\n",
        w.path().display()
    ));
    let m = w.run(&["--json", "backup", "--source", "a", "--source", "a"]).code(0).json();
    assert_eq!(m["whole_plan"], false);
    w.run(&["restore", "--to", &w.at("out")]).code(4).says(&["no backup is complete"]);
}
