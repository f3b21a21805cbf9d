//! The program where no systemd runs the host, on whatever machine the tests run: what it says of timers is in the tests of
//! machines that have one.

use crate::world::{Ran, World, run};
use std::process::Command;

pub fn command(world: &World, args: &[&str]) -> Command {
    let script = "mount -t tmpfs none /run && exec \"$0\" \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, env!("CARGO_BIN_EXE_backstay")]).args(args);
    command.env("BACKSTAY_CONFIG", world.at("backstay.toml")).env("NO_COLOR", "1").current_dir(world.path());
    command
}

pub fn alone(world: &World, args: &[&str]) -> Ran {
    run(&mut command(world, args))
}
