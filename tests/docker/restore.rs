//! Volumes on their way back.

use super::stage::{Stage, until};
use super::volume::{configure, volume, world};
use super::world::{World, noise, picture};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A volume with everything that a tree can have.
fn filled(stage: &Stage, what: &str, options: &[&str]) -> (String, PathBuf) {
    let (name, place) = volume(stage, what, options);
    fill(&place);
    (name, place)
}

fn fill(place: &Path) {
    std::fs::create_dir_all(place.join("a/b")).unwrap();
    std::fs::write(place.join("a/one"), noise(300_000, 1)).unwrap();
    std::fs::write(place.join("a/b/big"), noise(3_000_000, 2)).unwrap();
    std::fs::hard_link(place.join("a/one"), place.join("twin")).unwrap();
    std::os::unix::fs::symlink("a/one", place.join("link")).unwrap();
    let script = "truncate -s 1G sparse; mkfifo pipe; setfattr -n user.note -v yes a/one; setfacl -m u:1234:rx a; \
                  chown 999:998 . a/one; chmod 2750 .; touch -d '2020-01-02 03:04:05.678' . a a/b a/one";
    assert!(Command::new("bash").args(["-ec", script]).current_dir(place).status().unwrap().success());
}

/// Names beside a volume's directory.
fn beside(place: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(place.parent().unwrap())
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|n| n != "_data" && n != "opts.json")
        .collect();
    names.sort();
    names
}

fn restore(world: &World, more: &[&str]) -> super::world::Ran {
    world.run(&[&["restore", "--yes"], more].concat())
}

#[test]
fn a_volume_is_replaced_by_an_equal_one_and_the_previous_is_kept() {
    let stage = Stage::new();
    let (name, place) = filled(&stage, "v", &[]);
    let before = picture(&place);
    let world = world(&format!("volume = \"{name}\""));
    world.backup();
    std::fs::remove_file(place.join("a/b/big")).unwrap();
    std::fs::write(place.join("new"), "since").unwrap();
    let c = stage.container("c", &["-v", &format!("{name}:/data")]);
    // A container that runs keeps what it has mounted.
    restore(&world, &[]).code(10).says(&["in use by", &c, "docker stop"]);
    world.run(&["restore", "--dry-run"]).code(0).says(&["in use by", &c, "stage volume"]);
    assert!(place.join("new").exists() && beside(&place).is_empty(), "{:?}", beside(&place));
    stage.docker(&["stop", "-t", "1", &c]);
    restore(&world, &[]).code(0).says(&["files of volume", "kept as"]);
    assert_eq!(picture(&place), before);
    let kept = beside(&place);
    assert!(kept.len() == 1 && kept[0].starts_with("_data_before_"), "{kept:?}");
    assert!(place.parent().unwrap().join(&kept[0]).join("new").exists());
    // And the container sees it.
    stage.docker(&["start", &c]);
    assert_eq!(stage.docker(&["exec", &c, "sh", "-c", "wc -c < /data/a/b/big"]), "3000000");
}

#[test]
fn a_process_of_the_host_in_the_volume_is_in_the_way_too() {
    let stage = Stage::new();
    let (name, place) = filled(&stage, "v", &[]);
    let world = world(&format!("volume = \"{name}\""));
    world.backup();
    let mut child = Command::new("sleep").arg("60").current_dir(&place).spawn().unwrap();
    restore(&world, &[]).code(10).says(&["process:", "sleep"]);
    child.kill().unwrap();
    child.wait().unwrap();
    // A bind mount of its directory is a use as well.
    let c = stage.container("c", &["-v", &format!("{}:/data", place.join("a").display())]);
    restore(&world, &[]).code(10).says(&[&c]);
}

#[test]
fn a_missing_volume_is_made_as_it_was_and_others_are_left_alone() {
    let stage = Stage::new();
    let (name, place) = filled(&stage, "v", &["--label", "tier=gold", "--label", "com.docker.compose.project=shop"]);
    let (other, _) = filled(&stage, "other", &[]);
    let before = picture(&place);
    let world = world(&format!("volume = [\"{name}\", \"{other}\"]"));
    world.backup();
    stage.docker(&["volume", "rm", &name]);
    restore(&world, &["--volume", &name]).code(0).says(&["missing and will be made"]);
    assert_eq!(picture(&place), before);
    let labels = stage.docker(&["volume", "inspect", "-f", "{{json .Labels}}", &name]);
    assert!(
        labels.contains("\"tier\":\"gold\"")
            && labels.contains("compose.project")
            && labels.contains("backstay.made-by-restore-of"),
        "{labels}"
    );
    // To another name: a local volume of no project; never over one that exists.
    let copy = stage.name("copy");
    restore(&world, &["--volume", &name, "--to", &copy]).code(0);
    let (labels, copied) = (
        stage.docker(&["volume", "inspect", "-f", "{{json .Labels}}", &copy]),
        stage.docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", &copy]),
    );
    assert!(labels.contains("gold") && !labels.contains("compose"), "{labels}");
    assert_eq!(picture(Path::new(&copied)), before);
    restore(&world, &["--volume", &name, "--to", &copy]).code(10).says(&["exists"]);
    restore(&world, &["--to", "x"]).code(2).says(&["--volume"]);
    restore(&world, &["--volume", "bs-none"]).code(4).says(&[&other]);
    // To a directory.
    let dir = world.at("out");
    restore(&world, &["--volume", &name, "--to", &dir]).code(0);
    assert_eq!(std::fs::read(Path::new(&dir).join("a/one")).unwrap(), noise(300_000, 1));
}

#[test]
fn a_volume_that_is_a_mount_is_exchanged_inside() {
    let stage = Stage::new();
    let dir = tempfile::tempdir().unwrap();
    let device = format!("device={}", dir.path().display());
    let (name, place) = volume(&stage, "v", &["-o", "type=none", "-o", "o=bind", "-o", &device]);
    fill(dir.path());
    let world = world(&format!("volume = \"{name}\""));
    // Mounted, so that it is read where it lies, by a container that may not write.
    let c = stage.container("c", &["-v", &format!("{name}:/data:ro")]);
    world.backup();
    let before = picture(dir.path());
    std::fs::write(dir.path().join("new"), "since").unwrap();
    restore(&world, &[]).code(10).says(&["in use by", &c]);
    stage.docker(&["rm", "-f", &c]);
    // Not mounted it cannot be reached.
    restore(&world, &[]).code(10).says(&["has no directory on this machine", "--to"]);
    // Mounted by hand, as a driver does for a container.
    assert!(Command::new("mount").arg("--bind").arg(dir.path()).arg(&place).status().unwrap().success());
    let ran = restore(&world, &[]);
    assert!(Command::new("umount").arg(&place).status().unwrap().success());
    ran.code(0).says(&["exchanged name by name"]);
    let kept: Vec<PathBuf> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.to_string_lossy().contains(".backstay-before-"))
        .collect();
    assert!(kept.len() == 1 && kept[0].join("new").exists(), "{kept:?}");
    std::fs::remove_dir_all(&kept[0]).unwrap();
    let date = "touch -d '2020-01-02 03:04:05.678' .";
    Command::new("bash").args(["-c", date]).current_dir(dir.path()).status().unwrap();
    assert_eq!(picture(dir.path()), before);
}

#[test]
fn a_restore_that_fails_or_is_killed_leaves_the_volume_and_nothing_else() {
    let stage = Stage::new();
    let (name, place) = filled(&stage, "v", &[]);
    for n in 0..20_000 {
        std::fs::write(place.join(format!("f{n}")), n.to_string()).unwrap();
    }
    let world = world(&format!("volume = \"{name}\""));
    world.backup();
    std::fs::write(place.join("new"), "since").unwrap();
    // Killed while it stages, then taken back.
    let mut child = world.command(&["--quiet", "restore", "--yes"]).spawn().unwrap();
    until("staging has begun", || !beside(&place).is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    restore(&world, &[]).code(9).says(&["still open"]);
    world.run(&["restore", "--unwind"]).code(0).says(&["taken back"]);
    assert!(beside(&place).is_empty() && place.join("new").exists(), "{:?}", beside(&place));
    // A missing one that is taken back is not left half made, and one of somebody else is not removed.
    stage.docker(&["volume", "rm", &name]);
    let mut child = world.command(&["--quiet", "restore", "--yes"]).spawn().unwrap();
    until("staging has begun", || place.exists() && !beside(&place).is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    world.run(&["restore", "--unwind"]).code(0);
    assert!(!place.exists() && stage.docker(&["volume", "ls", "-q", "--filter", &format!("name={name}")]).is_empty());
    // A damaged pack.
    stage.docker(&["volume", "create", &name]);
    std::fs::write(place.join("precious"), "x").unwrap();
    for pack in world.objects("packs") {
        let mut bytes = std::fs::read(&pack).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&pack, bytes).unwrap();
    }
    let ran = restore(&world, &[]);
    assert!(ran.code != 0, "{ran:?}");
    ran.says(&["undo: stage volume", "the pack cannot be opened"]);
    assert!(place.join("precious").exists() && beside(&place).is_empty(), "{:?}", beside(&place));
}

#[test]
fn a_container_that_comes_up_while_it_is_staged_stops_the_swap() {
    let stage = Stage::new();
    let (name, place) = filled(&stage, "v", &[]);
    for n in 0..20_000 {
        std::fs::write(place.join(format!("f{n}")), n.to_string()).unwrap();
    }
    let world = world(&format!("volume = \"{name}\""));
    world.backup();
    std::fs::write(place.join("new"), "since").unwrap();
    let child = world.command(&["restore", "--yes"]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    until("staging has begun", || !beside(&place).is_empty());
    let c = stage.container("c", &["-v", &format!("{name}:/data")]);
    let out = child.wait_with_output().unwrap();
    let err = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && err.contains(&c) && err.contains("undo: stage volume"), "{err}");
    assert!(place.join("new").exists() && beside(&place).is_empty());
}

#[test]
fn a_volume_that_holds_our_own_state_is_refused() {
    let stage = Stage::new();
    let (name, place) = filled(&stage, "v", &[]);
    let world = world(&format!("volume = \"{name}\""));
    let text = std::fs::read_to_string(world.at("backstay.toml")).unwrap();
    let state = format!("state_dir = \"{}/state\"", place.display());
    world.write_config(&text.replace(&format!("state_dir = \"{}/state\"", world.path().display()), &state));
    assert!(Command::new("mv").arg(world.at("state")).arg(&place).status().unwrap().success());
    let manifest = world.backup();
    assert!(!world.run(&["ls", "latest", "--source", "v"]).out.contains("state/"), "{manifest}");
    restore(&world, &[]).code(10).says(&["which this restore itself needs"]);
    configure(&world, &format!("volume = \"{name}\""));
}
