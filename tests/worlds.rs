//! Whole worlds, built with stock tools as the runbooks of real applications describe them: the application in containers,
//! its backups made by its own scripts. Then the configuration of `config/examples`, and the program.

#[path = "worlds/aimms.rs"]
mod aimms;
#[path = "worlds/boxes.rs"]
mod boxes;
#[path = "worlds/edms.rs"]
mod edms;
#[path = "worlds/edms_pretest.rs"]
mod edms_pretest;
#[path = "worlds/edms_restore.rs"]
mod edms_restore;
#[path = "support/examples.rs"]
mod examples;
#[path = "support/machine.rs"]
#[allow(dead_code)]
mod machine;
#[path = "support/port.rs"]
mod port;
#[path = "support/releases.rs"]
mod releases;
#[path = "docker/stage.rs"]
#[allow(dead_code)]
mod stage;
#[path = "cli/world.rs"]
#[allow(dead_code)]
mod world;

use std::process::Command;
use world::World;

/// Changes one thing in the configuration of a host.
#[track_caller]
fn reconfigure(w: &World, from: &str, to: &str) {
    let text = std::fs::read_to_string(w.at("backstay.toml")).unwrap();
    assert!(text.contains(from), "the configuration has no {from}");
    w.write_config(&text.replace(from, to));
}

/// Runs a script as its author would, in a directory of the host; its output.
#[track_caller]
fn script(w: &World, dir: &str, script: &str) -> String {
    let out = Command::new("bash").args(["-euo", "pipefail", "-c", script]).current_dir(w.at(dir)).output().unwrap();
    assert!(out.status.success(), "{script}\n{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

/// What the last restore took, for people who compare it with what it took by hand: all of it, and the outage. Seconds.
fn took(w: &World, what: &str) -> (f64, f64) {
    let restores = w.run(&["--json", "restores"]).code(0).json();
    let all = restores.as_array().unwrap();
    let last = all.iter().max_by_key(|r| r["id"].as_str().unwrap().to_owned()).unwrap();
    let seconds = |part: &str| last["report"][part]["seconds"].as_f64().unwrap_or_else(|| panic!("{last:#}"));
    let (whole, outage) = (seconds("whole"), seconds("outage"));
    figure(&format!("{what}: {whole:.1} s, of which the application was away for {outage:.1} s"));
    (whole, outage)
}

/// A figure for the pages of the runbooks; tests that pass show theirs with `--no-capture`.
#[allow(clippy::print_stderr, reason = "it is for whoever runs the test")]
fn figure(text: &str) {
    eprintln!("{text}");
}

/// Bytes that a backup has shipped.
fn shipped(manifest: &serde_json::Value) -> u64 {
    manifest["stats"]["shipped"].as_u64().unwrap()
}
