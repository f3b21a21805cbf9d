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
fn a_store_that_hides_the_newest_backup_is_told_of_by_whoever_looks_and_for_good() {
    let w = World::new();
    w.file("f", "1");
    w.backup();
    w.file("f", "2");
    w.backup();
    let newest = w.objects("backups").pop().unwrap();
    fs::remove_file(&newest).unwrap();
    let id = newest.file_name().unwrap().to_str().unwrap().to_owned();
    // No later backup names it yet; this host remembers.
    w.run(&["check"]).code(7).says(&[&id, "nobody forgot it"]);
    w.run(&["status"]).says(&["missing from the repository, and nobody forgot: 1 backup"]);
    // A copy may lag behind.
    let url = format!("file://{}", w.at("repo"));
    w.run(&["--repository", &url, "check"]).code(0);
    w.run(&["backup"]).code(0).says(&["warning", &id, "nobody forgot it"]);
    // Now the next one does, for everybody.
    w.run(&["--quiet", "backup"]).code(0);
    w.run(&["check"]).code(7).says(&[&id, "nobody forgot it"]);
    w.run(&["list"]).says(&[&id, "nobody forgot it"]);
    w.run(&["status"]).says(&["missing from the repository, and nobody forgot: 1 backup"]);
    // Until somebody says that it is well so.
    w.run(&["forget", &id[..12]]).code(4);
    let listed = w.objects("backups");
    w.run(&["forget", &id]).code(0).says(&["1 backup that had gone already recorded as forgotten"]);
    assert_eq!(w.objects("backups"), listed);
    w.run(&["check"]).code(0);
    // Also when no backup came after it.
    let newest = w.objects("backups").pop().unwrap();
    fs::remove_file(&newest).unwrap();
    let id = newest.file_name().unwrap().to_str().unwrap().to_owned();
    w.run(&["check"]).code(7).says(&[&id]);
    w.run(&["forget", &id]).code(0).says(&["recorded as forgotten"]);
    w.run(&["check"]).code(0);
    w.run(&["backup"]).code(0);
    // Forgetting on purpose is no reason for a warning.
    let newest = w.objects("backups").pop().unwrap();
    w.run(&["forget", newest.file_name().unwrap().to_str().unwrap()]).code(0);
    let ran = w.run(&["backup"]).code(0);
    assert!(!ran.err.contains("warning"), "{}", ran.err);
}

#[test]
fn damage_that_was_found_is_told_until_it_is_healed_and_costs_no_good_backup() {
    let w = World::new();
    let data = |i: u64| noise(900_000, i);
    w.file("f", data(1));
    let first = w.backup()["id"].as_str().unwrap().to_owned();
    let before = w.objects("packs");
    let written = fs::metadata(w.file("f", data(2))).unwrap().modified().unwrap();
    let second = w.backup()["id"].as_str().unwrap().to_owned();
    let pack = w.objects("packs").into_iter().find(|p| !before.contains(p)).unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    bytes[1000] ^= 1;
    fs::write(&pack, &bytes).unwrap();
    w.run(&["check"]).code(0);
    w.run(&["check", "--read-data"]).code(7).says(&["1 of 2"]);
    // Names and sizes are right, and yet nobody says that all is well.
    let name = pack.file_name().unwrap().to_str().unwrap();
    w.run(&["check"]).code(7).says(&["1 of 2", name, "marked as damaged"]);
    w.run(&["check", "--read-data", "0.001%"]).code(7).says(&["1 of 2"]);
    w.run(&["list"]).code(0).says(&["complete, damaged"]);
    w.run(&["show"]).code(0).says(&["complete, damaged", "tree cannot be restored in full"]);
    let damaged = |m: &serde_json::Value| m["damaged_sources"].clone();
    assert_eq!(damaged(&w.run(&["--json", "show"]).json()), serde_json::json!(["tree"]));
    let listed = w.run(&["--json", "list"]).json();
    let listed: Vec<_> = listed.as_array().unwrap().iter().map(damaged).collect();
    assert_eq!(listed, [serde_json::Value::Null, serde_json::json!(["tree"])]);
    w.run(&["list", "--plan", "nope"]).code(4).says(&["plan nope", "has no backup"]);
    let status = w.run(&["status"]);
    assert!(status.out.contains("1 backup cannot be restored in full"), "{}", status.out);
    // The rules keep two; the damaged ones are not among those.
    for i in 3..5 {
        w.file("f", data(i));
        w.backup();
    }
    w.run(&["forget"]).code(0).says(&["removed 1 backup", "tree: damaged, does not count"]);
    let left = w.run(&["--json", "list"]).json();
    let left: Vec<&str> = left.as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
    assert!(left.len() == 3 && left.contains(&second.as_str()) && !left.contains(&first.as_str()), "{left:?}");
    // Stored again from what is live, it counts like any other.
    let again = fs::File::options().write(true).open(w.file("f", data(2))).unwrap();
    again.set_modified(written).unwrap();
    assert_eq!(w.backup()["stats"]["repaired"], 1);
    w.run(&["check"]).code(0).says(&["4 of 4", "stored again since"]);
    assert!(!w.run(&["status"]).out.contains("cannot be restored in full"));
    assert!(!w.run(&["show", &second]).code(0).out.contains("damaged"));
    w.run(&["forget"]).code(0).says(&["removed 2 backups"]);
}

#[test]
fn forget_takes_no_source_that_is_configured_or_was_never_there() {
    let w = World::new();
    for i in 0..4 {
        w.file("f", noise(1000, i));
        w.backup();
    }
    let all = w.objects("backups");
    w.run(&["forget", "--source", "tree"]).code(10).says(&["source tree is still configured in plan p"]);
    w.run(&["forget", "--source", "nope"]).code(4).says(&["no backup has a source nope", "There are: ", "tree"]);
    assert_eq!(w.objects("backups"), all);
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
