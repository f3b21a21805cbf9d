//! Drills that are killed, stopped, or in somebody's way.

use crate::setup::Host;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// A drill that takes its time, when its server runs and it has begun to load.
fn begun(host: &Host) -> Child {
    let mut command = host.world.command(&["drill", "p", "--limit-download", "200kB"]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let started = Instant::now();
    let loading = || {
        let journal = std::fs::read_to_string(host.world.at("state/drill.journal")).unwrap_or_default();
        // The servers' steps, the look, and the first that stages.
        journal.contains("\"doing\":[3,") && !host.scratch_servers().is_empty()
    };
    while !loading() {
        assert!(started.elapsed() < Duration::from_secs(60), "it does not begin");
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

fn host() -> Host {
    let host = Host::new();
    host.world.file("large", crate::world::noise(1 << 20, 5));
    host.backup("p");
    host.backup("f");
    host
}

#[test]
fn what_a_killed_drill_left_is_removed_by_cleanup_and_by_the_next_drill() {
    let host = host();
    let before = host.live();
    for again in [&["cleanup"][..], &["drill", "p"]] {
        let mut child = begun(&host);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(host.left().len(), 1);
        assert!(!host.scratch_servers().is_empty(), "its server was to run on");
        host.world.run(again).code(0).says(&["removed what the drill", "left when it was killed"]);
        host.is_clean();
    }
    assert_eq!(host.live(), before);
    // That it was killed is known too.
    let killed = "backstay_runs_total{host=\"test-host\",plan=\"p\",result=\"killed\",verb=\"drill\"}";
    assert_eq!(host.metrics()[killed], 2.0);
}

/// Class for the disk, and how nice.
fn priority(pid: u32) -> (String, String) {
    let told = |argv: &[&str]| {
        let out = std::process::Command::new(argv[0]).args(&argv[1..]).arg(pid.to_string()).output().unwrap();
        assert!(out.status.success(), "{argv:?}: {out:?}");
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    };
    (told(&["ionice", "-p"]), told(&["ps", "-o", "ni=", "-p"]))
}

#[test]
fn a_drill_lets_everybody_else_go_first_unless_it_is_told_not_to() {
    let mut host = host();
    let ours = priority(std::process::id());
    for (keys, expected) in [("", ("idle".to_owned(), "15".to_owned())), ("low_priority = false", ours)] {
        host.drill = keys.to_owned();
        host.configure();
        let mut child = begun(&host);
        let all: Vec<_> = host.scratch_servers().into_iter().chain([child.id()]).map(priority).collect();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(all.len() > 1 && all.iter().all(|p| *p == expected), "{keys}: {all:?}");
        host.world.run(&["cleanup"]).code(0);
        host.is_clean();
    }
}

#[test]
fn a_killed_drill_beside_the_live_databases_leaves_none_behind() {
    let mut host = host();
    host.drill = "scratch = \"live\"".to_owned();
    host.configure();
    let before = host.live();
    let mut command = host.world.command(&["drill", "p", "--limit-download", "200kB"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let staged = || host.cluster.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE 'erp_staged_%'");
    let started = Instant::now();
    while staged() != "1" {
        assert!(started.elapsed() < Duration::from_secs(60), "it does not begin");
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    host.world.run(&["cleanup"]).code(0).says(&["removed what the drill"]);
    assert_eq!(host.live(), before);
    host.is_clean();
}

#[test]
fn a_drill_that_is_stopped_throws_everything_away_first() {
    let host = host();
    let child = begun(&host);
    let pid = child.id().to_string();
    std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap();
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(14), "{}", String::from_utf8_lossy(&out.stderr));
    host.is_clean();
    assert!(host.world.objects("drills").is_empty());
}

#[test]
fn drills_backups_and_restores_never_run_beside_each_other() {
    let host = host();
    let mut child = begun(&host);
    for command in [&["backup", "f"][..], &["restore", "--yes", "--plan", "f"], &["drill", "f"]] {
        host.world.run(command).code(9).says(&["drill is running"]);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    host.world.run(&["cleanup"]).code(0);
    // A restore that waits for somebody is in the way too.
    std::fs::write(host.world.at("state/restore.journal"), "x").unwrap();
    host.world.run(&["drill", "f"]).code(9).says(&["still open"]);
    std::fs::remove_file(host.world.at("state/restore.journal")).unwrap();
    host.is_clean();
}
