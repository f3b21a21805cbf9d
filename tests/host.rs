//! Machines: what a `host` source reads and records, and what of it goes back, on the machine itself and on another one.
//! Each is a real one, with systemd, in name spaces of its own.

#[path = "host/backup.rs"]
mod backup;
#[path = "support/machine.rs"]
#[allow(dead_code)]
mod machine;
#[path = "host/restore.rs"]
mod restore;
#[path = "host/server.rs"]
mod server;
