//! Units and their journal, on a machine of their own with systemd.

use crate::machine::Machine;
use crate::{bad, check, good, now};
use backstay::recovery::checks::Outcome;
use backstay::recovery::checks::context::{Context, Marks};
use jiff::Timestamp;
use std::process::Command;
use std::time::Duration;

/// Set for the tests that run inside of a machine.
const INSIDE: &str = "BACKSTAY_TEST_INSIDE";

/// Runs a test of this file inside of a new machine, which has these units.
#[track_caller]
fn inside(test: &str) {
    let machine = Machine::boot("checks");
    let out = machine.test(&format!("unit::{test}"), (INSIDE, "1")).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success() && text.contains("1 passed"), "{text}");
}

fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

#[track_caller]
fn systemctl(args: &[&str]) {
    let out = Command::new("systemctl").args(args).output().unwrap();
    assert!(out.status.success(), "systemctl {args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// A unit that runs a script.
fn unit(name: &str, script: &str, more: &str) {
    let text = format!("[Service]\nExecStart=/bin/sh -c '{script}'\n{more}\n");
    std::fs::write(format!("/etc/systemd/system/{name}.service"), text).unwrap();
    systemctl(&["daemon-reload"]);
}

async fn run(keys: &str, within: Duration) -> Outcome {
    let mut check = check(keys);
    check.within = within;
    check.run(&now()).await
}

const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(600);

#[tokio::test]
async fn a_unit_is_well_when_it_is_active_and_stays_so() {
    if !is_inside() {
        return inside("a_unit_is_well_when_it_is_active_and_stays_so");
    }
    unit("web", "exec sleep 1000", "");
    systemctl(&["start", "web"]);
    let web = "unit = \"web\"\nsettle = \"200ms\"";
    let outcome = run(&format!("{web}\nsub = \"running\""), LONG).await;
    good(&outcome);
    assert_eq!((outcome.name.as_str(), outcome.found.as_str()), ("unit web", "active (running)"));
    systemctl(&["stop", "web"]);
    bad(&run(web, SHORT).await, &["expected web.service active", "found inactive (dead)"]);
    good(&run(&format!("{web}\nstate = \"inactive\""), LONG).await);
    // It comes up a little later.
    let late = async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        systemctl(&["start", "web"]);
    };
    let (outcome, ()) = tokio::join!(run(web, LONG), late);
    good(&outcome);
    assert!(outcome.tries > 1, "{outcome:?}");

    unit("broken", "exit 3", "");
    let _ = Command::new("systemctl").args(["start", "broken"]).output();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let outcome = run("unit = \"broken.service\"", LONG).await;
    bad(&outcome, &["found failed (failed): exit-code"]);
    // systemd starts it no more.
    assert_eq!(outcome.tries, 1);

    let outcome = run("unit = \"no-such\"", LONG).await;
    bad(&outcome, &["systemd knows no unit no-such.service: it is not-found"]);
    assert_eq!(outcome.tries, 1);
    let e = check("unit = \"no-such\"").preflight().await.unwrap_err().to_string();
    assert!(e.contains("the check unit no-such cannot work"), "{e}");
    check(web).preflight().await.unwrap();

    unit("loops", "sleep 0.4; exit 1", "Restart=always\nRestartSec=50ms\n[Unit]\nStartLimitIntervalSec=0");
    systemctl(&["start", "loops"]);
    let outcome = run("unit = \"loops\"\nsettle = \"700ms\"", Duration::from_secs(3)).await;
    assert!(!outcome.good, "{outcome:?}");
    let why = &outcome.found;
    assert!(why.contains("started again within 0.7 s") || why.contains("auto-restart"), "{why}");
    // One that somebody else starts again, too.
    systemctl(&["restart", "web"]);
    let other = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        systemctl(&["restart", "web"]);
    };
    let (outcome, ()) = tokio::join!(run("unit = \"web\"\nsettle = \"700ms\"", Duration::from_millis(900)), other);
    bad(&outcome, &["started again within"]);
}

#[tokio::test]
async fn the_journal_of_a_unit_is_read_from_the_moment_on() {
    if !is_inside() {
        return inside("the_journal_of_a_unit_is_read_from_the_moment_on");
    }
    unit("app", "echo ERROR of yesterday; exec sleep 1000", "");
    systemctl(&["start", "app"]);
    tokio::time::sleep(Duration::from_millis(500)).await;
    systemctl(&["stop", "app"]);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let since = Context::live(Timestamp::now(), Marks::default());
    unit("app", "echo up; exec sleep 1000", "");
    systemctl(&["start", "app"]);
    let log = check("log = \"unit:app\"\nsettle = \"500ms\"");
    let outcome = log.run(&since).await;
    good(&outcome);
    assert!(outcome.found.starts_with("none of"), "{outcome:?}");
    unit("app", "echo up; echo CRITICAL: out of paper >&2; exit 1", "");
    let _ = Command::new("systemctl").args(["restart", "app"]).output();
    tokio::time::sleep(Duration::from_millis(500)).await;
    bad(&log.run(&since).await, &["CRITICAL: out of paper", "log unit:app"]);
    // What systemd says about it counts too.
    let said = check("log = \"unit:app\"\nsettle = \"100ms\"\npattern = \"Failed with result\"");
    bad(&said.run(&since).await, &["1 of", "exit-code"]);
    let e = check("log = \"unit:no-such\"\nsettle = \"1s\"").preflight().await.unwrap_err().to_string();
    assert!(e.contains("no-such"), "{e}");
}
