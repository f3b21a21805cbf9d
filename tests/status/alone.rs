//! The program as on a plain host, on whatever machine the tests run: without systemd (what it says of timers is in the
//! tests of machines that have one), and with its files on a mount, should the tests run in a container.

use crate::world::{Ran, World, run};
use std::process::Command;

pub fn command(world: &World, args: &[&str]) -> Command {
    let script = "mount -t tmpfs none /run && mount --rbind \"$0\" \"$0\" && cd \"$0\" && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]).arg(world.path()).arg(env!("CARGO_BIN_EXE_backstay")).args(args);
    command.env("BACKSTAY_CONFIG", world.at("backstay.toml")).env("NO_COLOR", "1");
    command
}

pub fn alone(world: &World, args: &[&str]) -> Ran {
    run(&mut command(world, args))
}
