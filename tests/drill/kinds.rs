//! What is staged of each kind of source, and that none of it is what is live.

use crate::stage::Stage;
use crate::world::{World, noise};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A world with these sources, all of them in plan `p`.
fn world(sources: &[(&str, &str)]) -> World {
    let w = World::bare();
    let names: Vec<String> = sources.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    let bodies: String = sources.iter().map(|(name, body)| format!("[sources.{name}]\n{body}\n")).collect();
    std::fs::create_dir(w.at("drills")).unwrap();
    w.write_config(&format!(
        "host = \"test-host\"\nstate_dir = \"{d}/state\"\n[repository]\nurl = \"file://{d}/repo\"\n[keys]\nidentity_file = \"{d}/host.key\"\n\
         {bodies}[plans.p]\nsources = [{}]\n[plans.p.drill]\ndir = \"{d}/drills\"\n",
        names.join(", "),
        d = w.path().display(),
    ));
    w.run(&["init", "--recovery-out", &w.at("recovery.key")]).code(0);
    w
}

/// What was found of the first line that speaks of this.
#[track_caller]
fn found(drilled: &serde_json::Value, what: &str) -> String {
    let lines = drilled["verified"].as_array().unwrap();
    let line = lines.iter().find(|l| l["what"].as_str().unwrap().contains(what));
    line.unwrap_or_else(|| panic!("{what}: {lines:?}"))["found"].as_str().unwrap().to_owned()
}

#[track_caller]
fn nothing_is_left(w: &World) {
    assert_eq!(std::fs::read_dir(w.at("drills")).unwrap().count(), 0);
    assert!(!w.path().join("state/drill.journal").exists());
}

#[test]
fn programs_take_their_outputs_back_beside_and_none_acts_on_what_is_live() {
    let w = World::bare();
    let (file, marker) = (w.at("live.db"), w.at("marker"));
    let staged = format!(
        "kind = \"command\"\ndump = [\"cat\", \"{file}\"]\nload = [\"sh\", \"-c\", \"cat > \\\"$1\\\"\", \"sh\", \"{{staging}}\"]\nverify = [\"grep\", \"-q\", \"then\", \"{{staging}}\"]\nstage_path = \"{file}\""
    );
    let in_place =
        format!("kind = \"command\"\ndump = [\"echo\", \"x\"]\nin_place = true\nload = [\"touch\", \"{marker}\"]");
    let nothing = "kind = \"command\"\ndump = [\"echo\", \"y\"]\ncheck = [\"grep\", \"-q\", \"y\"]";
    let text = [("file", staged.as_str()), ("live", &in_place), ("only", nothing)];
    let host = world(&text);
    std::fs::write(&file, "then\n").unwrap();
    host.backup();
    std::fs::write(&file, "now\n").unwrap();
    let drilled = host.run(&["--json", "drill"]).code(0).json();
    assert_eq!(drilled["outcome"], "proven");
    assert!(drilled["limits"][0].as_str().unwrap().contains("source live"), "{drilled}");
    assert_eq!(found(&drilled, "file: `verify`"), "exit status 0");
    assert_eq!(found(&drilled, "only: `check`"), "exit status 0");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "now\n");
    assert!(!std::path::Path::new(&marker).exists());
    nothing_is_left(&host);
}

#[test]
fn volumes_and_images_are_proven_without_a_daemon_taking_notice() {
    let stage = Stage::new();
    let volume = stage.name("v");
    stage.docker(&["volume", "create", &volume]);
    let place = std::path::PathBuf::from(stage.docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", &volume]));
    std::fs::write(place.join("one"), noise(300_000, 1)).unwrap();
    std::os::unix::fs::symlink("one", place.join("link")).unwrap();
    let image = stage.image();
    let w = world(&[
        ("v", &format!("kind = \"volume\"\nvolume = \"{volume}\"")),
        ("i", &format!("kind = \"image\"\nimages = [\"{image}\"]")),
    ]);
    w.backup();
    let before = crate::world::picture(&place);
    // As on a machine where there is no Docker at all.
    let mut command = w.command(&["--json", "drill"]);
    let drilled = crate::world::run(command.env("DOCKER_HOST", "unix:///not/there.sock")).code(0).json();
    assert_eq!(drilled["outcome"], "proven");
    assert_eq!((found(&drilled, "files of volume"), found(&drilled, "links of volume")), ("1".into(), "1".into()));
    let id = stage.docker(&["image", "inspect", "-f", "{{.Id}}", &image]);
    assert_eq!(found(&drilled, "image"), id);
    assert!(found(&drilled, "layer 1 of image").starts_with("sha256:"));
    assert_eq!(crate::world::picture(&place), before);
    nothing_is_left(&w);
}

/// A Redis of the test's own.
struct Redis {
    child: Child,
    socket: String,
}

impl Redis {
    fn start(w: &World) -> Self {
        let socket = w.at("redis.sock");
        let args = [
            "--port",
            "0",
            "--unixsocket",
            &socket,
            "--dir",
            &w.at("redis"),
            "--repl-diskless-sync-delay",
            "0",
            "--save",
            "",
        ];
        std::fs::create_dir(w.at("redis")).unwrap();
        let child = Command::new("redis-server").args(args).stdout(Stdio::null()).spawn().unwrap();
        let started = Instant::now();
        while !std::path::Path::new(&socket).exists() {
            assert!(started.elapsed() < Duration::from_secs(20), "redis-server does not come up");
            std::thread::sleep(Duration::from_millis(20));
        }
        Redis { child, socket }
    }

    fn cli(&self, args: &[&str]) -> String {
        let out = Command::new("redis-cli").args(["-s", &self.socket]).args(args).output().unwrap();
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_snapshot_of_redis_is_loaded_by_a_server_of_its_own() {
    let aside = World::bare();
    let redis = Redis::start(&aside);
    redis.cli(&["SET", "a", "1"]);
    redis.cli(&["SET", "b", "2"]);
    let w = world(&[("cache", &format!("kind = \"redis\"\nurl = \"unix://{}\"", redis.socket))]);
    w.backup();
    redis.cli(&["SET", "c", "3"]);
    let drilled = w.run(&["--json", "drill"]).code(0).json();
    assert_eq!(drilled["outcome"], "proven");
    assert_eq!(
        (found(&drilled, "keys of db 0 without expiry"), found(&drilled, "loaded by redis")),
        ("2".into(), "2".into())
    );
    assert_eq!(redis.cli(&["DBSIZE"]), "3");
    // Not even that is needed.
    drop(redis);
    w.run(&["drill"]).code(0);
    nothing_is_left(&w);
}
