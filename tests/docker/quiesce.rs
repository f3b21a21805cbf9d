//! Containers that stand still for a backup run again afterwards, whatever happens to it.

use super::stage::{Daemon, Stage, until};
use super::volume::{configure, volume, world};
use super::world::World;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

fn state(stage: &Stage, container: &str) -> String {
    stage.docker(&["inspect", "-f", "{{.State.Status}}", container])
}

/// Enough to read that there is time to act meanwhile.
fn fill(place: &Path) {
    for n in 0..40_000 {
        std::fs::write(place.join(format!("f{n}")), n.to_string()).unwrap();
    }
}

/// A backup that has begun to read.
fn begun(world: &World, stage: &Stage, container: &str, awaited: &str) -> Child {
    let child = world.command(&["backup"]).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    until("the container stands still", || state(stage, container) == awaited);
    child
}

fn journals(world: &World) -> usize {
    std::fs::read_dir(world.at("state/quiesce")).map_or(0, Iterator::count)
}

#[test]
fn containers_are_stopped_or_paused_and_put_back_as_they_were() {
    let stage = Stage::new();
    let (name, place) = volume(&stage, "v", &[]);
    let mount = format!("{name}:/data");
    let up = stage.container("up", &["-v", &mount, "--restart", "always"]);
    let down = stage.container("down", &["-v", &mount]);
    let frozen = stage.container("frozen", &["-v", &mount]);
    let other = stage.container("other", &[]);
    stage.docker(&["stop", "-t", "1", &down]);
    stage.docker(&["pause", &frozen]);
    std::fs::write(place.join("x"), "x").unwrap();
    let started = |c: &str| stage.docker(&["inspect", "-f", "{{.State.StartedAt}}", c]);
    let before = (started(&up), started(&other));
    let world = world(&format!("volume = \"{name}\"\nwhile_reading = \"pause\""));
    let manifest = world.backup();
    let window = &manifest["sources"][0]["facts"]["window"];
    assert!(window["seconds"].as_f64().unwrap() > 0.0, "{manifest}");
    assert!(window["still"].to_string().contains(&up) && !window["still"].to_string().contains(&other), "{window}");
    let states = || [&up, &down, &frozen, &other].map(|c| state(&stage, c));
    assert_eq!(states(), ["running", "exited", "paused", "running"]);
    assert_eq!((started(&up), started(&other)), before);
    // A frozen container cannot be stopped cleanly.
    configure(&world, &format!("volume = \"{name}\"\nwhile_reading = \"stop\""));
    world.run(&["backup"]).code(11).says(&["is paused", "docker unpause"]);
    assert_eq!(states(), ["running", "exited", "paused", "running"]);
    stage.docker(&["rm", "-f", &frozen]);
    world.run(&["backup"]).code(0).says(&["the application stood still for"]);
    assert_eq!((state(&stage, &up), state(&stage, &down)), ("running".into(), "exited".into()));
    assert!(started(&up) != before.0 && started(&other) == before.1);
    assert_eq!(stage.docker(&["inspect", "-f", "{{.HostConfig.RestartPolicy.Name}}", &up]), "always");
    assert_eq!(journals(&world), 0);
}

#[test]
fn a_container_that_would_vanish_is_refused_before_anything_is_stopped() {
    let stage = Stage::new();
    let (name, _) = volume(&stage, "v", &[]);
    let mount = format!("{name}:/data");
    let keeps = stage.container("keeps", &["-v", &mount]);
    let vanishes = stage.container("vanishes", &["-v", &mount, "--rm"]);
    let world = world(&format!("volume = \"{name}\"\nwhile_reading = \"stop\""));
    world.run(&["backup"]).code(11).says(&["--rm", &vanishes]);
    assert_eq!((state(&stage, &keeps), state(&stage, &vanishes)), ("running".into(), "running".into()));
    assert_eq!(journals(&world), 0);
}

#[test]
fn after_sigkill_the_next_start_or_resume_puts_back() {
    let stage = Stage::new();
    let (name, place) = volume(&stage, "v", &[]);
    fill(&place);
    let c = stage.container("c", &["-v", &format!("{name}:/data")]);
    for (how, still) in [("stop", "exited"), ("pause", "paused")] {
        let world = world(&format!("volume = \"{name}\"\nwhile_reading = \"{how}\""));
        for by_resume in [true, false] {
            let mut child = begun(&world, &stage, &c, still);
            child.kill().unwrap();
            child.wait().unwrap();
            assert_eq!((state(&stage, &c).as_str(), journals(&world)), (still, 1));
            if by_resume {
                world.run(&["resume"]).code(0).says(&["put back"]);
                world.run(&["resume"]).code(0).says(&["nothing was left stopped"]);
            } else {
                // Even one that fails at once.
                world.run(&["backup", "p", "--source", "v"]).code(0).says(&["interrupted backup left", &c]);
            }
            assert_eq!((state(&stage, &c).as_str(), journals(&world)), ("running", 0));
        }
    }
}

#[test]
fn sigterm_ends_cleanly_with_everything_put_back() {
    let stage = Stage::new();
    let (name, place) = volume(&stage, "v", &[]);
    fill(&place);
    let c = stage.container("c", &["-v", &format!("{name}:/data")]);
    let world = world(&format!("volume = \"{name}\"\nwhile_reading = \"stop\""));
    let child = begun(&world, &stage, &c, "exited");
    let sent = std::process::Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(sent.success());
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(14), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!((state(&stage, &c).as_str(), journals(&world)), ("running", 0));
}

#[test]
fn sigterm_while_a_container_is_still_stopping_puts_it_back_too() {
    let stage = Stage::new();
    let (name, _) = volume(&stage, "v", &[]);
    let slow = stage.container_of(
        "slow",
        &["-v", &format!("{name}:/data")],
        &["sh", "-c", "trap 'sleep 3; exit 0' TERM; while :; do sleep 0.1; done"],
    );
    let world = world(&format!("volume = \"{name}\"\nwhile_reading = \"stop\""));
    let child = world.command(&["backup"]).stderr(Stdio::piped()).spawn().unwrap();
    until("the journal is there", || journals(&world) == 1);
    std::thread::sleep(Duration::from_millis(500));
    assert!(std::process::Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(14));
    // And it does not go down after that.
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!((state(&stage, &slow).as_str(), journals(&world)), ("running", 0));
}

#[test]
fn one_that_does_not_end_in_its_time_is_killed_told_and_started_again() {
    let stage = Stage::new();
    let (name, _) = volume(&stage, "v", &[]);
    let deaf = stage.container_of(
        "deaf",
        &["-v", &format!("{name}:/data"), "--stop-timeout", "1"],
        &["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"],
    );
    let world = world(&format!("volume = \"{name}\"\nwhile_reading = \"stop\""));
    world.run(&["backup"]).code(0).says(&[&deaf, "did not end within 1 seconds and was killed"]);
    assert_eq!((state(&stage, &deaf).as_str(), journals(&world)), ("running", 0));
}

#[test]
fn one_that_is_removed_before_its_turn_comes_is_in_nobodys_way() {
    let stage = Stage::new();
    let (name, _) = volume(&stage, "v", &[]);
    let mount = format!("{name}:/data");
    let gone = stage.container("gone", &["-v", &mount]);
    // The younger one is stopped first, and takes its time.
    let slow = stage.container_of(
        "slow",
        &["-v", &mount],
        &["sh", "-c", "trap 'touch /data/stopping; sleep 3; exit 0' TERM; while :; do sleep 0.1; done"],
    );
    let world = world(&format!("volume = \"{name}\"\nwhile_reading = \"stop\""));
    let child = world.command(&["backup"]).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    until("the first one stops", || stage.docker(&["exec", &slow, "ls", "/data"]).contains("stopping"));
    stage.docker(&["rm", "-f", &gone]);
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!((state(&stage, &slow).as_str(), journals(&world)), ("running", 0));
    assert!(!stage.docker(&["ps", "-a", "--format", "{{.Names}}"]).contains(&gone));
}

#[test]
fn a_container_that_comes_up_meanwhile_fails_the_source() {
    let stage = Stage::new();
    let (name, place) = volume(&stage, "v", &[]);
    fill(&place);
    let mount = format!("{name}:/data");
    let c = stage.container("c", &["-v", &mount]);
    let world = world(&format!("volume = \"{name}\"\nwhile_reading = \"stop\""));
    let child = begun(&world, &stage, &c, "exited");
    let late = stage.container("late", &["-v", &mount]);
    let out = child.wait_with_output().unwrap();
    let err = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(11), "{err}");
    assert!(err.contains("began to use the volume") && err.contains(&late), "{err}");
    assert_eq!(state(&stage, &c), "running");
}

#[test]
fn a_group_shares_one_moment_and_its_length_is_told() {
    let stage = Stage::new();
    let (one, place) = volume(&stage, "one", &[]);
    let (two, _) = volume(&stage, "two", &[]);
    std::fs::write(place.join("x"), "x").unwrap();
    let a = stage.container("a", &["-v", &format!("{one}:/data")]);
    let b = stage.container("b", &["-v", &format!("{two}:/data")]);
    let world = world(&format!("volume = \"{one}\""));
    let plan = |group: &str, missing: &str| {
        world.write_config(&format!(
            "host = \"test-host\"\nstate_dir = \"{d}/state\"\n[repository]\nurl = \"file://{d}/repo\"\n[keys]\nidentity_file = \"{d}/host.key\"\n\
             [sources.one]\nkind = \"volume\"\nvolume = \"{one}\"\nwhile_reading = \"stop\"\n{group}\n\
             [sources.two]\nkind = \"volume\"\nvolume = \"{two}{missing}\"\nwhile_reading = \"pause\"\n{group}\n\
             [sources.tree]\nkind = \"files\"\npaths = [\"{d}/tree\"]\n{group}\n\
             [plans.p]\nsources = [\"one\", \"two\", \"tree\"]\n",
            d = world.path().display(),
        ));
    };
    plan("group = \"night\"", "");
    let manifest = world.backup();
    let windows: Vec<&serde_json::Value> = (0..3).map(|n| &manifest["sources"][n]["facts"]["window"]).collect();
    assert!(windows.iter().all(|w| *w == windows[0]), "{manifest}");
    assert_eq!((windows[0]["group"].as_str(), windows[0]["with"].as_array().unwrap().len()), (Some("night"), 3));
    assert_eq!(windows[0]["still"], serde_json::json!([format!("container {a}"), format!("container {b}")]));
    world.run(&["backup"]).code(0).says(&["group night: the application stood still for"]);
    // Without a group each has its own, and who stops nobody has none.
    plan("", "");
    let manifest = world.backup();
    assert_eq!(manifest["sources"][0]["facts"]["window"]["with"], serde_json::json!(["one"]));
    assert!(manifest["sources"][2]["facts"].get("window").is_none(), "{manifest}");
    // One that cannot be prepared fails the whole group, before anything is stopped.
    plan("group = \"night\"", "-missing");
    let before = stage.docker(&["inspect", "-f", "{{.State.StartedAt}}", &a]);
    world.run(&["backup"]).code(11).says(&["there is no volume"]);
    assert_eq!(stage.docker(&["inspect", "-f", "{{.State.StartedAt}}", &a]), before);
}

#[test]
fn sources_that_stop_the_same_container_share_a_moment_unasked() {
    let stage = Stage::new();
    let (one, _) = volume(&stage, "one", &[]);
    let (two, _) = volume(&stage, "two", &[]);
    let c = stage.container("c", &["-v", &format!("{one}:/one"), "-v", &format!("{two}:/two")]);
    let world = world(&format!("volume = \"{one}\""));
    world.write_config(&format!(
        "host = \"test-host\"\nstate_dir = \"{d}/state\"\n[repository]\nurl = \"file://{d}/repo\"\n[keys]\nidentity_file = \"{d}/host.key\"\n\
         [sources.one]\nkind = \"volume\"\nvolume = \"{one}\"\nwhile_reading = \"stop\"\n\
         [sources.two]\nkind = \"volume\"\nvolume = \"{two}\"\nwhile_reading = \"pause\"\n\
         [plans.p]\nsources = [\"one\", \"two\"]\n",
        d = world.path().display(),
    ));
    let manifest = world.backup();
    assert_eq!(manifest["sources"][0]["facts"]["window"], manifest["sources"][1]["facts"]["window"]);
    assert_eq!(manifest["sources"][0]["facts"]["window"]["with"], serde_json::json!(["one", "two"]));
    assert_eq!(state(&stage, &c), "running");
}

#[test]
fn one_that_cannot_be_started_again_is_told_and_tried_until_it_can() {
    let stage = Stage::new();
    let (name, place) = volume(&stage, "v", &[]);
    fill(&place);
    let dir = tempfile::tempdir().unwrap();
    let needed = dir.path().join("needed");
    std::fs::create_dir(&needed).unwrap();
    let bind = format!("type=bind,source={},target=/b", needed.display());
    let c = stage.container("c", &["-v", &format!("{name}:/data"), "--mount", &bind]);
    let world = world(&format!("volume = \"{name}\"\nwhile_reading = \"stop\""));
    let child = begun(&world, &stage, &c, "exited");
    std::fs::remove_dir(&needed).unwrap();
    let out = child.wait_with_output().unwrap();
    let err = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(8), "{err}");
    assert!(
        err.contains("is committed, but not everything") && err.contains("backstay resume") && err.contains(&c),
        "{err}"
    );
    assert_eq!(journals(&world), 1);
    world.run(&["resume"]).code(8);
    std::fs::create_dir(&needed).unwrap();
    world.run(&["resume"]).code(0);
    assert_eq!((state(&stage, &c).as_str(), journals(&world)), ("running", 0));
}

#[test]
fn a_container_that_a_dump_needs_is_not_stopped() {
    let stage = Stage::new();
    let (name, _) = volume(&stage, "v", &[]);
    let c = stage.container("c", &["-v", &format!("{name}:/data")]);
    let started = || stage.docker(&["inspect", "-f", "{{.State.StartedAt}}", &c]);
    let before = started();
    let world = world(&format!("volume = \"{name}\""));
    world.write_config(&format!(
        "host = \"test-host\"\nstate_dir = \"{d}/state\"\n[repository]\nurl = \"file://{d}/repo\"\n[keys]\nidentity_file = \"{d}/host.key\"\n\
         [sources.v]\nkind = \"volume\"\nvolume = \"{name}\"\nwhile_reading = \"stop\"\n\
         [sources.db]\nkind = \"postgres\"\ncontainer = \"{c}\"\n\
         [plans.p]\nsources = [\"v\", \"db\"]\n",
        d = world.path().display(),
    ));
    world.run(&["backup"]).code(11).says(&[&c, "source db needs it"]);
    assert_eq!(started(), before);
    assert_eq!(journals(&world), 0);
}

#[test]
fn a_swarm_service_is_scaled_to_0_and_back() {
    let daemon = Daemon::start();
    let stage = Stage::on(Some(daemon.host()));
    stage.docker(&["swarm", "init", "--advertise-addr", "127.0.0.1", "--listen-addr", "127.0.0.1:23791"]);
    let (name, place) = volume(&stage, "v", &[]);
    fill(&place);
    let (service, image, mount) = (stage.name("web"), stage.image(), format!("type=volume,source={name},target=/data"));
    stage.docker(&[
        "service",
        "create",
        "-q",
        "--name",
        &service,
        "--no-resolve-image",
        "--network",
        "host",
        "--replicas",
        "2",
        "--label",
        "kept=yes",
        "--env",
        "KEPT=yes",
        "--mount",
        &mount,
        &image,
        "sh",
        "-c",
        "trap 'exit 0' TERM; while :; do sleep 0.2; done",
    ]);
    let running = || {
        stage
            .docker(&["ps", "-q", "--filter", &format!("label=com.docker.swarm.service.name={service}")])
            .lines()
            .count()
    };
    until("two tasks run", || running() == 2);
    let world = world(&format!("volume = \"{name}\"\nwhile_reading = \"stop\""));
    let spawn = || {
        world
            .command(&["--json", "backup"])
            .env("DOCKER_HOST", daemon.host())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let child = spawn();
    until("no task runs", || running() == 0);
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    until("two tasks run again", || running() == 2);
    let spec = stage.docker(&["service", "inspect", &service]);
    assert!(spec.contains("\"kept\": \"yes\"") && spec.contains("KEPT=yes"), "{spec}");
    // Killed in between.
    let mut child = spawn();
    until("no task runs", || running() == 0);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(world.command(&["resume"]).env("DOCKER_HOST", daemon.host()).status().unwrap().success());
    until("two tasks run again", || running() == 2);
    stage.docker(&["service", "rm", &service]);
    until("no task runs", || running() == 0);
}
