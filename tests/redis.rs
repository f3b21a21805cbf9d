//! The redis source and its way back, against real servers.

#[path = "redis/aof.rs"]
mod aof;
#[path = "redis/backup.rs"]
mod backup;
#[path = "redis/container.rs"]
mod container;
#[path = "redis/data.rs"]
mod data;
#[path = "redis/errors.rs"]
mod errors;
#[path = "redis/fake.rs"]
mod fake;
#[path = "redis/large.rs"]
mod large;
#[path = "support/port.rs"]
mod port;
#[path = "redis/restore.rs"]
mod restore;
#[path = "redis/rollback.rs"]
mod rollback;
#[path = "redis/server.rs"]
mod server;
#[path = "cli/world.rs"]
#[allow(dead_code)]
mod world;
