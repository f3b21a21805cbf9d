//! Runs that end without a word.

use crate::endpoint::{Endpoint, wait};
use crate::metrics::{of_run, textfile, world};
use crate::world::World;
use std::process::{Child, Stdio};

/// A world with a second source that takes a minute, and a backup of it under way.
fn under_way(mut world: World) -> (World, Child) {
    world.file("a.txt", b"x");
    world.backup();
    world.extra.push_str(
        "[sources.slow]\nkind = \"command\"\ndump = [\"sleep\", \"60\"]\n[plans.slow]\nsources = [\"slow\"]\n",
    );
    world.configure("", &format!("paths = [\"{}\"]", world.at("tree")));
    let child = world.command(&["backup", "slow"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let record = world.path().join("state/runs/test-host/backup/slow.json");
    wait("the record of the run", || record.exists().then_some(()));
    (world, child)
}

const KILLED: &str = "backstay_runs_total{host=\"test-host\",plan=\"slow\",result=\"killed\",verb=\"backup\"}";

#[test]
fn a_run_that_was_killed_is_noticed_by_the_next_command_and_told_once() {
    let hook = Endpoint::answering(&[200]);
    let mut world = world();
    world.extra.push_str(&format!("[webhooks]\nfailure_url = \"{}\"\n", hook.url("/{plan}/fail")));
    let (world, mut child) = under_way(world);
    // It has begun, and that can be seen.
    let active = "backstay_run_active{host=\"test-host\",plan=\"slow\",verb=\"backup\"}";
    assert_eq!(textfile(&world)[active], 1.0);
    // While it lives it is not lost.
    world.run(&["check"]).code(0);
    assert_eq!(textfile(&world)[KILLED], 0.0);
    child.kill().unwrap();
    child.wait().unwrap();
    world.run(&["check"]).code(0).says(&["the backup of plan slow on test-host", "was killed"]);
    let now = textfile(&world);
    assert_eq!((now[KILLED], now[active]), (1.0, 0.0));
    let slow =
        |metric: &str| now[&format!("backstay_run_{metric}{{host=\"test-host\",plan=\"slow\",verb=\"backup\"}}")];
    assert_eq!((slow("last_exit_code"), slow("last_success_timestamp_seconds")), (-1.0, 0.0));
    assert!(now[&of_run("last_success_timestamp_seconds", "backup")] > 1.7e9);
    let again = world.run(&["check"]).code(0);
    assert!(!again.err.contains("was killed"), "{}", again.err);
    assert_eq!(textfile(&world)[KILLED], 1.0);
    let told: Vec<String> = hook.requests().into_iter().map(|r| r.path).collect();
    assert_eq!(told, ["/slow/fail"]);
}

#[test]
fn a_run_that_was_asked_to_stop_is_a_failure_and_not_lost() {
    let (world, mut child) = under_way(world());
    let kill = std::process::Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(kill.success());
    assert_eq!(child.wait().unwrap().code(), Some(14));
    let now = textfile(&world);
    assert_eq!(now["backstay_run_last_exit_code{host=\"test-host\",plan=\"slow\",verb=\"backup\"}"], 14.0);
    assert_eq!(now[KILLED], 0.0);
}

#[test]
fn a_log_for_machines_has_levels_and_fields() {
    let world = world();
    std::fs::remove_dir_all(world.path().join("tree")).unwrap();
    let ran = world.run(&["--log", "json", "backup"]).code(11);
    let lines: Vec<serde_json::Value> =
        ran.err.lines().filter(|l| l.starts_with('{')).map(|l| serde_json::from_str(l).unwrap()).collect();
    let failed = lines.iter().find(|l| l["state"] == "failed").unwrap_or_else(|| panic!("{}", ran.err));
    assert_eq!((&failed["level"], &failed["source"]), (&"error".into(), &"tree".into()));
    assert!(failed["time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
}

#[test]
fn another_repository_or_host_does_not_count_for_this_host() {
    let world = world();
    world.file("a.txt", b"x");
    world.backup();
    let before = textfile(&world);
    let other = format!("file://{}", world.at("elsewhere"));
    std::fs::create_dir(world.path().join("elsewhere")).unwrap();
    world.run(&["--repository", &other, "check"]);
    assert_eq!(textfile(&world), before);
}
