//! The command source and its way back: programs that fail, hang and lie, and the examples of `config/examples` against
//! the real SQLite, MariaDB and Django.

#[path = "postgres/cluster.rs"]
#[allow(dead_code)]
mod cluster;
#[path = "command/container.rs"]
mod container;
#[path = "command/django.rs"]
mod django;
#[path = "command/dump.rs"]
mod dump;
#[path = "support/examples.rs"]
mod examples;
#[path = "command/in_place.rs"]
mod in_place;
#[path = "command/mariadb.rs"]
mod mariadb;
#[path = "support/port.rs"]
mod port;
#[path = "command/restore.rs"]
mod restore;
#[path = "command/secrets.rs"]
mod secrets;
#[path = "command/sqlite.rs"]
mod sqlite;
#[path = "docker/stage.rs"]
#[allow(dead_code)]
mod stage;
#[path = "cli/world.rs"]
#[allow(dead_code)]
mod world;

use std::time::{Duration, Instant};
use world::World;

/// A host whose plan has one source `out` with these keys.
fn with_command(keys: &str) -> World {
    let w = World::new();
    configure(&w, keys);
    w
}

fn configure(w: &World, keys: &str) {
    let d = w.path().display();
    w.write_config(&format!(
        "host = \"test-host\"\nstate_dir = \"{d}/state\"\n[repository]\nurl = \"file://{d}/repo\"\n[keys]\nidentity_file = \"{d}/host.key\"\n\
         [sources.out]\nkind = \"command\"\n{}\n[plans.p]\nsources = [\"out\"]\n",
        keys.replace("DIR", &d.to_string())
    ));
}

/// A host with an example of `config/examples`, its paths replaced.
fn with_example(name: &str, replaced: &[(&str, String)]) -> World {
    with_example_in(World::bare(), name, replaced)
}

fn with_example_in(w: World, name: &str, replaced: &[(&str, String)]) -> World {
    examples::configure(&w, name, replaced);
    w.run(&["init", "--recovery-out", &w.at("recovery.key")]).code(0);
    w
}

#[track_caller]
fn wait_for(what: &str, ready: impl Fn() -> bool) {
    let started = Instant::now();
    while !ready() {
        assert!(started.elapsed() < Duration::from_secs(60), "{what}: not after a minute");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Who sleeps for just this number of seconds.
fn sleepers(seconds: &str) -> Vec<String> {
    let wanted = format!("sleep\0{seconds}\0");
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let found = all.filter(|e| std::fs::read(e.path().join("cmdline")).is_ok_and(|line| line == wanted.as_bytes()));
    found.map(|e| e.file_name().into_string().unwrap()).collect()
}

fn runs(seconds: &str) -> bool {
    !sleepers(seconds).is_empty()
}

/// Ends who sleeps for so long: after a kill of the agent nobody else does.
fn wake(seconds: &str) {
    for pid in sleepers(seconds) {
        assert!(std::process::Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
    }
    wait_for("it is gone", || !runs(seconds));
}

/// A number of seconds that nobody else sleeps for.
fn long() -> String {
    format!("1{:09}", rand::random::<u32>() % 1_000_000_000)
}
