//! Disks that are too small, and containers that are thrown away.

use crate::doctor::{checks, expect};
use crate::world::{World, noise};
use std::process::Command;

fn sh(script: &str) {
    let out = Command::new("sh").args(["-euc", script]).output().unwrap();
    assert!(out.status.success(), "{script}\n{}", String::from_utf8_lossy(&out.stderr));
}

/// A mount that is taken off when dropped.
struct Mount(String);

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l", &self.0]).status();
    }
}

#[test]
fn a_disk_without_room_for_a_second_copy_is_told_before_the_bad_day() {
    let world = World::new();
    let tree = world.at("tree");
    sh(&format!("mount -t tmpfs -o size=2m none {tree}"));
    let _mount = Mount(tree);
    world.file("small", noise(200_000, 1));
    world.backup();
    let all = checks(&world, &["--area", "space"], 0);
    expect(&all, "space", "p", "good", &["needed", "free"]);
    world.file("large", noise(1_200_000, 2));
    world.backup();
    let all = checks(&world, &["--area", "space"], 17);
    expect(&all, "space", "p", "bad", &["no room for a second copy", "MiB needed", "backstay cleanup"]);
}

#[test]
fn in_a_container_what_is_not_on_a_mount_is_told() {
    let world = World::new();
    let root = tempfile::tempdir().unwrap();
    // What a container looks like from inside: the marker of its runtime, and a root of its own that is thrown away.
    let look = |mounted: bool, code: i32| {
        let (dir, root, program) = (world.path().display(), root.path().display(), env!("CARGO_BIN_EXE_backstay"));
        let keep = match mounted {
            true => format!("mount --bind {dir} {root}/root{dir}"),
            false => format!("cp -a {dir}/. {root}/root{dir}/"),
        };
        let script = format!(
            "mount -t tmpfs none {root}; mkdir {root}/up {root}/work {root}/root; \
             mount -t overlay none -o lowerdir=/,upperdir={root}/up,workdir={root}/work {root}/root; \
             mount --rbind /proc {root}/root/proc; mkdir -p {root}/root{dir}; {keep}; \
             cp {program} {root}/root/program; touch {root}/root/.dockerenv; \
             exec chroot {root}/root /program --json doctor --area configuration"
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-euc", &script]);
        command.env("BACKSTAY_CONFIG", world.at("backstay.toml"));
        crate::world::run(&mut command).code(code).json()["checks"].as_array().unwrap().clone()
    };
    expect(&look(true, 0), "configuration", "container", "good", &["on a mount"]);
    let lost = ["lost when this container is made anew", "the state directory", "the repository", "Mount"];
    expect(&look(false, 17), "configuration", "container", "bad", &lost);
}
