//! The postgres source against a real cluster, over the socket, TCP and TLS.

#[path = "postgres/afterwards.rs"]
mod afterwards;
#[path = "postgres/away.rs"]
mod away;
#[path = "postgres/boxed.rs"]
mod boxed;
#[path = "postgres/cluster.rs"]
mod cluster;
#[path = "postgres/cold.rs"]
mod cold;
#[path = "postgres/cold_back.rs"]
mod cold_back;
#[path = "postgres/containers.rs"]
mod containers;
#[path = "postgres/early.rs"]
mod early;
#[path = "postgres/errors.rs"]
mod errors;
#[path = "postgres/extensions.rs"]
mod extensions;
#[path = "postgres/fresh.rs"]
mod fresh;
#[path = "postgres/inplace.rs"]
mod inplace;
#[path = "postgres/loading.rs"]
mod loading;
#[path = "postgres/managed.rs"]
mod managed;
#[path = "postgres/odd.rs"]
mod odd;
#[path = "postgres/parts.rs"]
mod parts;
#[path = "postgres/pooled.rs"]
mod pooled;
#[path = "support/port.rs"]
mod port;
#[path = "postgres/reach.rs"]
mod reach;
#[path = "support/releases.rs"]
mod releases;
#[path = "postgres/round_trip.rs"]
mod round_trip;
#[path = "postgres/schemas.rs"]
mod schemas;
#[path = "postgres/standby.rs"]
mod standby;
#[path = "postgres/swap.rs"]
mod swap;
#[path = "postgres/tables.rs"]
mod tables;
#[path = "postgres/window.rs"]
mod window;
#[path = "cli/world.rs"]
#[allow(dead_code)]
mod world;
