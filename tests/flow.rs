//! The whole restore on a machine of its own: a real systemd with an application, PostgreSQL and nginx, and a restore that
//! is stopped, killed and cut off at every write of its journal.

#[path = "flow/app.rs"]
mod app;
#[path = "flow/checks.rs"]
mod checks;
#[path = "flow/cut.rs"]
mod cut;
#[path = "flow/host.rs"]
mod host;
#[path = "support/machine.rs"]
#[allow(dead_code)]
mod machine;
#[path = "flow/whole.rs"]
mod whole;
