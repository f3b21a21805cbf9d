//! `backstay status` and `backstay doctor`: how things are, what could go wrong, and how that is told.

#[path = "status/alone.rs"]
mod alone;
#[allow(dead_code)]
#[path = "postgres/cluster.rs"]
mod cluster;
#[path = "status/databases.rs"]
mod databases;
#[path = "status/doctor.rs"]
mod doctor;
#[path = "status/overview.rs"]
mod overview;
#[path = "status/places.rs"]
mod places;
#[path = "support/port.rs"]
mod port;
#[path = "status/stores.rs"]
mod stores;
#[allow(dead_code)]
#[path = "support/mod.rs"]
mod support;
#[allow(dead_code)]
#[path = "cli/world.rs"]
mod world;
