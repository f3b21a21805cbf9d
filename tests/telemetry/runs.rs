//! Runs that end without a word.

use crate::endpoint::{Endpoint, wait};
use crate::metrics::{of_run, textfile, world};
use crate::world::World;
use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Child, Command, Stdio};

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
    wait("the metric of the run", || (textfile(&world).get(active) == Some(&1.0)).then_some(()));
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

/// Runs a command on a terminal of its own, and types.
fn typed(world: &World, args: &str, answer: &str) -> String {
    let mut command = Command::new("script");
    command.args(["-qec", &format!("{} {args}", env!("CARGO_BIN_EXE_backstay")), "/dev/null"]);
    command.env("BACKSTAY_CONFIG", world.at("backstay.toml")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("script: {e}: apt-get install bsdutils"));
    let mut terminal = child.stdin.take().unwrap();
    // The terminal hands over what was typed before somebody asks, too.
    terminal.write_all(answer.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    drop(terminal);
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[test]
fn a_restore_that_nobody_confirms_is_no_run() {
    let hook = Endpoint::answering(&[200]);
    let mut world = world();
    world.extra.push_str(&format!("[webhooks]\njson_url = \"{}\"\n", hook.url("/json")));
    world.configure("", &format!("paths = [\"{}\"]", world.at("tree")));
    world.file("a.txt", b"x");
    world.backup();
    world.run(&["restore", "--yes"]).code(0);
    let before = textfile(&world);
    let told = hook.requests().len();
    let said = typed(&world, "restore", "no\n");
    assert!(said.contains("not confirmed"), "{said}");
    let now = textfile(&world);
    let of_restores = |values: &BTreeMap<String, f64>| -> Vec<(String, f64)> {
        values.iter().filter(|(k, _)| k.contains("verb=\"restore\"")).map(|(k, v)| (k.clone(), *v)).collect()
    };
    assert!(of_restores(&before).len() > 5, "{before:?}");
    assert_eq!(of_restores(&now), of_restores(&before));
    let events: Vec<String> = hook.requests()[told..].iter().map(|r| r.body.clone()).collect();
    assert!(events.len() == 2 && events[1].contains("\"declined\""), "{events:?}");
    let problems = world.run(&["status", "--offline"]);
    assert!(!problems.out.contains("restore of plan p failed"), "{}", problems.out);
    // One that is confirmed is one.
    let said = typed(&world, "restore", "p\n");
    let ended = of_run("last_end_timestamp_seconds", "restore");
    assert!(textfile(&world)[&ended] > before[&ended], "{said}");
}

#[test]
fn taking_over_foreign_backups_and_switching_the_page_by_hand_are_runs() {
    let mut world = world();
    // Both fail at once here, which is an outcome too; what they do when they can is in tests of their own.
    world.extra.push_str(&format!(
        "[foreign.old]\nurl = \"file://{}\"\nfiles = [{{ pattern = \"tree_{{timestamp}}.tar\", is = \"tar\", source = \"tree\" }}]\n[maintenance]\nwhere = {{ container = \"no-such-nginx\" }}\n",
        world.at("none")
    ));
    world.configure("", &format!("paths = [\"{}\"]", world.at("tree")));
    assert_ne!(world.run(&["import", "old"]).code, 0);
    assert_ne!(world.run(&["maintenance", "on"]).code, 0);
    let now = textfile(&world);
    for (verb, plan) in [("import", "p"), ("maintenance", "")] {
        let of = format!("{{host=\"test-host\",plan=\"{plan}\",verb=\"{verb}\"}}");
        assert!(now[&format!("backstay_run_last_exit_code{of}")] > 0.0, "{verb}");
        assert_eq!(now[&format!("backstay_run_last_success_timestamp_seconds{of}")], 0.0, "{verb}");
    }
    // Looking is none.
    let before = now
        [&"backstay_run_last_attempt_timestamp_seconds{host=\"test-host\",plan=\"\",verb=\"maintenance\"}".to_owned()];
    world.run(&["maintenance", "status"]);
    assert_eq!(
        textfile(&world)["backstay_run_last_attempt_timestamp_seconds{host=\"test-host\",plan=\"\",verb=\"maintenance\"}"],
        before
    );
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
