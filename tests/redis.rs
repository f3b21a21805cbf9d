//! The redis source and its way back, against real servers.

#[path = "redis/backup.rs"]
mod backup;
#[path = "redis/data.rs"]
mod data;
#[path = "redis/errors.rs"]
mod errors;
#[path = "redis/server.rs"]
mod server;
#[path = "cli/world.rs"]
#[allow(dead_code)]
mod world;
