//! The postgres source against a real cluster, over the socket, TCP and TLS.

#[path = "postgres/cluster.rs"]
mod cluster;
#[path = "postgres/errors.rs"]
mod errors;
#[path = "postgres/odd.rs"]
mod odd;
#[path = "postgres/round_trip.rs"]
mod round_trip;
#[path = "cli/world.rs"]
#[allow(dead_code)]
mod world;
