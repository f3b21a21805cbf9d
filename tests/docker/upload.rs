//! Volumes whose directory is not one of this machine: made and filled through the daemon when they are missing, refused when
//! they are there.

use super::stage::Stage;
use super::volume::{volume, world};
use std::path::Path;
use std::process::Command;

fn fill(place: &Path) {
    std::fs::create_dir_all(place.join("a/b")).unwrap();
    std::fs::write(place.join("a/one"), super::world::noise(300_000, 1)).unwrap();
    std::fs::write(place.join("a/b/big"), super::world::noise(3_000_000, 2)).unwrap();
    std::fs::hard_link(place.join("a/one"), place.join("twin")).unwrap();
    std::os::unix::fs::symlink("a/one", place.join("link")).unwrap();
    let script = "chown 999:998 . a/one; chmod 2750 .; chmod 600 a/one; touch -d '2020-01-02 03:04:05' . a a/b a/one";
    assert!(Command::new("bash").args(["-ec", script]).current_dir(place).status().unwrap().success());
}

/// Without what the daemon does not carry.
fn picture(place: &Path) -> String {
    let script = "find . -printf '%P|%y|%m|%U|%G|%Ts|%l\\n' | sort; find . -type f -exec sha256sum {} + | sort";
    let out = Command::new("bash").args(["-c", script]).current_dir(place).output().unwrap();
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[test]
fn a_missing_volume_of_a_driver_that_mounts_it_is_made_and_filled_and_one_that_is_there_is_refused() {
    let stage = Stage::new();
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fill(first.path());
    let before = picture(first.path());
    // What lies behind the volume, as a share of another machine would.
    let share = tempfile::tempdir().unwrap();
    let at = share.path().join("share");
    std::os::unix::fs::symlink(first.path(), &at).unwrap();
    let device = format!("device={}", at.display());
    let (name, _) = volume(&stage, "v", &["-o", "type=none", "-o", "o=bind", "-o", &device]);
    let world = world(&format!("volume = \"{name}\""));
    world.backup();
    world.run(&["restore", "--yes"]).code(10).says(&["could be overwritten and not put back", "docker volume rm"]);
    stage.docker(&["volume", "rm", &name]);
    // Missing, and what its driver finds is somebody's: it is not touched.
    world.run(&["restore", "--yes"]).code(12).says(&["is not empty", "undo: stage volume"]);
    assert_eq!(picture(first.path()), before);
    assert_eq!(stage.docker(&["volume", "ls", "-q", "--filter", &format!("name={name}")]), "");
    // Empty, as on a new share.
    std::fs::remove_file(&at).unwrap();
    std::os::unix::fs::symlink(second.path(), &at).unwrap();
    world.run(&["restore", "--yes"]).code(0).says(&["filled through the daemon", "files of volume"]);
    assert_eq!(picture(second.path()), before);
    let options = stage.docker(&["volume", "inspect", "-f", "{{json .Options}}", &name]);
    assert!(options.contains("\"o\":\"bind\""), "{options}");
    assert_eq!(stage.docker(&["ps", "-aq", "--filter", &format!("volume={name}")]), "");
}

#[test]
fn a_damaged_pack_while_it_is_filled_takes_the_volume_away_again() {
    let stage = Stage::new();
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fill(first.path());
    let at = first.path().join("../").canonicalize().unwrap().join(stage.name("share"));
    std::os::unix::fs::symlink(first.path(), &at).unwrap();
    let device = format!("device={}", at.display());
    let (name, _) = volume(&stage, "v", &["-o", "type=none", "-o", "o=bind", "-o", &device]);
    let world = world(&format!("volume = \"{name}\""));
    world.backup();
    stage.docker(&["volume", "rm", &name]);
    std::fs::remove_file(&at).unwrap();
    std::os::unix::fs::symlink(second.path(), &at).unwrap();
    for pack in world.objects("packs") {
        let mut bytes = std::fs::read(&pack).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&pack, bytes).unwrap();
    }
    let ran = world.run(&["restore", "--yes"]);
    std::fs::remove_file(&at).unwrap();
    assert!(ran.code != 0, "{ran:?}");
    ran.says(&["undo: stage volume"]);
    assert_eq!(stage.docker(&["volume", "ls", "-q", "--filter", &format!("name={name}")]), "");
    // Of this test: others have theirs at the same time.
    assert_eq!(stage.docker(&["ps", "-aq", "--filter", &format!("volume={name}")]), "");
}

#[test]
fn a_daemon_on_another_machine_gets_a_volume_and_gives_none_up() {
    let daemon = super::stage::Daemon::elsewhere();
    let stage = Stage::on(Some(daemon.host()));
    let (name, place) = volume(&stage, "v", &[]);
    fill(&place);
    let before = picture(&place);
    let world = world(&format!("volume = \"{name}\""));
    let run = |args: &[&str]| super::world::run(world.command(args).env("DOCKER_HOST", daemon.host()));
    let manifest = run(&["--json", "backup"]).code(0).json();
    assert_eq!(manifest["sources"][0]["facts"]["volumes"][&name]["way"], "archive");
    run(&["restore", "--yes"]).code(10).says(&["has no directory on this machine", "--to"]);
    let copy = stage.name("copy");
    run(&["restore", "--yes", "--to", &copy]).code(0).says(&["filled through the daemon"]);
    let copied = stage.docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", &copy]);
    assert_eq!(picture(Path::new(&copied)), before);
    stage.docker(&["volume", "rm", &name]);
    run(&["restore", "--yes"]).code(0);
    assert_eq!(picture(&place), before);
}
