//! What `status` shows, and how it ends.

use crate::alone::{alone, command};
use crate::world::World;
use serde_json::Value;
use std::process::Command;

/// A host with one backup.
fn world() -> World {
    let world = World::new();
    world.file("a.txt", crate::world::noise(50_000, 1));
    world.backup();
    world
}

fn status(world: &World, code: i32) -> Value {
    alone(world, &["--json", "status"]).code(code).json()
}

fn severities(status: &Value) -> Vec<&str> {
    status["problems"].as_array().unwrap().iter().map(|p| p["severity"].as_str().unwrap()).collect()
}

#[test]
fn a_host_that_is_well_says_so_and_shows_everything() {
    let world = world();
    // Nobody has proven the key that is kept elsewhere: to be told, and no failure.
    let ran = alone(&world, &["status"]).code(0).says(&[
        "test-host: 1 notice",
        "notice  recovery key recovery was never proven to open the vault",
        "key check",
        "last backup",
        " ago",
        "every 1 d 2 h",
        "next run",
        "no restore is open",
        "no restore keeps anything",
        "last proven",
        "repository file://",
    ]);
    assert!(!ran.out.contains('\x1b') && !ran.err.contains("open"), "{ran:?}");
    alone(&world, &["status", "--strict"]).code(17);
    world.run(&["--identity", &world.at("recovery.key"), "key", "check"]).code(0);
    alone(&world, &["status", "--strict"]).code(0).says(&["test-host: no problem"]);
    let now = status(&world, 0);
    assert_eq!((&now["state"], &now["host"]), (&"good".into(), &"test-host".into()));
    let plan = &now["plans"][0];
    assert_eq!((&plan["plan"], &plan["backups"], &plan["max_age_seconds"]), (&"p".into(), &1.into(), &93_600.into()));
    assert!(plan["newest_complete"]["bytes"].as_u64().unwrap() >= 50_000, "{plan}");
    assert!(plan["newest_complete"]["age_seconds"].as_i64().unwrap() < 120, "{plan}");
    assert_eq!(plan["last_run"]["last"]["ending"], "success");
    assert!(now["keys"].as_array().unwrap().iter().any(|k| k["role"] == "recovery" && k["proven"].is_string()));
}

#[test]
fn columns_line_up_and_times_are_utc_and_local() {
    let mut world = world();
    world.extra = "[plans.quite-a-long-name]\nsources = [\"tree\"]\n".into();
    world.configure("", &format!("paths = [\"{}\"]", world.at("tree")));
    let ran = crate::world::run(command(&world, &["status"]).env("TZ", "Asia/Tokyo")).code(17);
    let lines: Vec<&str> = ran.out.lines().collect();
    let head = lines.iter().position(|l| l.starts_with("plan ") && l.contains("last backup")).unwrap();
    let at = lines[head].find("last backup").unwrap();
    let rows = &lines[head + 1..head + 3];
    assert!(rows.iter().all(|row| row.as_bytes()[at - 1] == b' ' && row.as_bytes()[at] != b' '), "{}", ran.out);
    assert!(rows[0].starts_with("p ") && rows[0].contains(" UTC (") && rows[0].contains(" JST)"), "{}", ran.out);
    assert!(rows[1].starts_with("quite-a-long-name") && rows[1].contains("never"), "{}", ran.out);
    assert!(rows[0].contains("KiB"), "{}", ran.out);
}

#[test]
fn what_is_wrong_comes_first_and_decides_the_exit_code() {
    let world = world();
    std::fs::rename(world.path().join("tree"), world.path().join("gone")).unwrap();
    world.run(&["backup"]).code(11);
    let ran = alone(&world, &["status"]).code(17).says(&["test-host: 1 problem", "source tree of plan p failed"]);
    let bad = ran.out.find("bad     source tree").unwrap();
    assert!(bad < ran.out.find("notice  ").unwrap() && bad < ran.out.find("last backup").unwrap(), "{}", ran.out);
    let now = status(&world, 17);
    assert_eq!((&now["state"], severities(&now)), (&"bad".into(), vec!["bad", "notice"]));
    assert!(now["problems"].as_array().unwrap().iter().all(|p| !p["do"].as_str().unwrap().is_empty()));
}

#[test]
fn a_repository_that_is_gone_is_told_and_what_was_seen_is_still_shown() {
    let world = world();
    alone(&world, &["status"]).code(0);
    std::fs::rename(world.path().join("repo"), world.path().join("elsewhere")).unwrap();
    let now = status(&world, 17);
    assert!(now["problems"][0]["what"].as_str().unwrap().contains("repo"), "{now:#}");
    assert_eq!(now["plans"][0]["backups"], 1);
    // Who does not ask is not refused.
    alone(&world, &["status", "--offline"]).code(0).says(&["seen", "ago"]);
    // What happened there is seen without a backup of this host.
    std::fs::rename(world.path().join("elsewhere"), world.path().join("repo")).unwrap();
    std::fs::remove_dir_all(world.path().join("repo/test-host/backups")).unwrap();
    alone(&world, &["status", "--offline"]).code(0);
    alone(&world, &["status"]).code(17).says(&["plan p has no complete backup"]);
}

#[test]
fn a_host_without_a_vault_is_told_how_to_get_one() {
    alone(&World::bare(), &["status"]).code(17).says(&["this host does not know the vault's secret", "backstay init"]);
}

#[test]
fn an_open_restore_and_what_restores_kept_are_shown_with_sizes_and_times() {
    let world = world();
    world.run(&["restore", "--yes"]).code(0);
    let now = status(&world, 0);
    let [kept] = &now["kept"].as_array().unwrap()[..] else { panic!("{now:#}") };
    let copy = &kept["copies"][0];
    assert!(copy["name"].as_str().unwrap().contains("tree_before_"), "{kept}");
    assert!(copy["bytes"].as_u64().unwrap() >= 50_000, "{kept}");
    let until: jiff::Timestamp = kept["until"].as_str().unwrap().parse().unwrap();
    let days = until.duration_since(jiff::Timestamp::now()).as_secs_f64() / 86_400.0;
    assert!((6.9..7.1).contains(&days), "{kept}");
    assert!(now["plans"][0]["restore_proven"].is_string(), "{now:#}");
    alone(&world, &["status"]).code(0).says(&["tree_before_", "KiB", "until"]);

    world.run(&["cleanup", &world.last_restore()]).code(0);
    assert!(status(&world, 0)["kept"].as_array().unwrap().is_empty());

    std::fs::write(world.path().join("state/restore.journal"), b"cut off").unwrap();
    let now = status(&world, 17);
    assert!(now["open_restore"].is_string(), "{now:#}");
    alone(&world, &["status"]).code(17).says(&["a restore is open", "backstay restore --resume"]);
}

/// On a terminal of its own.
fn on_a_terminal(world: &World, command_line: &str, no_color: bool) -> String {
    let mut command = Command::new("script");
    let inside = format!("mount -t tmpfs none /run && exec {} {command_line}", env!("CARGO_BIN_EXE_backstay"));
    command.args(["-qec", &format!("unshare --mount sh -c '{inside}'"), "/dev/null"]);
    command.env("BACKSTAY_CONFIG", world.at("backstay.toml")).env("TERM", "xterm-256color").env_remove("NO_COLOR");
    if no_color {
        command.env("NO_COLOR", "1");
    }
    let out = command.output().unwrap_or_else(|e| panic!("script: {e}: apt-get install bsdutils"));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[test]
fn colours_are_for_terminals_and_for_those_who_want_them() {
    let world = world();
    let coloured = on_a_terminal(&world, "status", false);
    assert!(coloured.contains("\x1b[33m1 notice\x1b[0m"), "{coloured:?}");
    let plain = on_a_terminal(&world, "status", true);
    assert!(plain.contains("1 notice") && !plain.contains("\x1b["), "{plain:?}");
}

#[test]
fn work_on_a_terminal_shows_what_goes_on_how_fast_and_for_how_long() {
    let world = World::new();
    // Several packs: what arrived is told by the pack.
    for n in 0..10 {
        world.file(&format!("f{n}"), crate::world::noise(8 << 20, n));
    }
    world.backup();
    world.configure("limit_download = \"24MiB\"", &format!("paths = [\"{}\"]", world.at("tree")));
    let seen = on_a_terminal(&world, "restore --yes", true);
    for word in ["restore p", "MiB/", "iB/s", "eta "] {
        assert!(seen.contains(word), "{word:?} is not in {seen:?}");
    }
    // The bar goes, the result stays.
    let last = seen.rsplit('\r').next().unwrap();
    assert!(last.contains("restored") || seen.trim_end().contains("restored"), "{seen:?}");
}
