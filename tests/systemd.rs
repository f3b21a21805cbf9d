//! Package, units and timers, in machines with a systemd of their own.

#[path = "systemd/credentials.rs"]
mod credentials;
#[path = "systemd/host.rs"]
mod host;
#[path = "systemd/jobs.rs"]
mod jobs;
#[path = "support/machine.rs"]
#[allow(dead_code)]
mod machine;
#[path = "systemd/managed.rs"]
mod managed;
#[path = "systemd/package.rs"]
mod package;
#[path = "systemd/status.rs"]
mod status;
#[path = "systemd/stopping.rs"]
mod stopping;
#[path = "systemd/tarball.rs"]
mod tarball;
#[path = "systemd/timers.rs"]
mod timers;
#[path = "systemd/units.rs"]
mod units;
