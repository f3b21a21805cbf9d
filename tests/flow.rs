//! The whole restore on a machine of its own: a real systemd with an application, PostgreSQL and nginx, and a restore that
//! is stopped, killed and cut off at every write of its journal; and the same with an application in containers.

#[path = "flow/app.rs"]
mod app;
#[path = "postgres/boxed.rs"]
#[allow(dead_code)]
mod boxed;
#[path = "flow/checks.rs"]
mod checks;
#[path = "flow/containers.rs"]
mod containers;
#[path = "flow/cut.rs"]
mod cut;
#[path = "flow/driven.rs"]
mod driven;
#[path = "support/fault.rs"]
mod fault;
#[path = "flow/host.rs"]
mod host;
#[path = "flow/load.rs"]
mod load;
#[path = "support/machine.rs"]
#[allow(dead_code)]
mod machine;
#[path = "docker/nginx.rs"]
mod nginx;
#[path = "support/port.rs"]
mod port;
#[path = "flow/power.rs"]
mod power;
#[path = "support/releases.rs"]
mod releases;
#[path = "docker/stage.rs"]
#[allow(dead_code)]
mod stage;
#[path = "flow/whole.rs"]
mod whole;
#[path = "cli/world.rs"]
#[allow(dead_code)]
mod world;
