//! Drills: restores for proof, of real databases and trees, on a server of their own, with everything thrown away.

#[path = "drill/broken.rs"]
mod broken;
#[path = "postgres/cluster.rs"]
#[allow(dead_code)]
mod cluster;
#[path = "drill/container.rs"]
mod container;
#[path = "drill/killed.rs"]
mod killed;
#[path = "drill/kinds.rs"]
mod kinds;
#[path = "support/port.rs"]
mod port;
#[path = "drill/proof.rs"]
mod proof;
#[path = "drill/records.rs"]
mod records;
#[path = "drill/remote.rs"]
mod remote;
#[path = "drill/scratch.rs"]
mod scratch;
#[path = "drill/setup.rs"]
mod setup;
#[path = "docker/stage.rs"]
#[allow(dead_code)]
mod stage;
#[path = "cli/world.rs"]
#[allow(dead_code)]
mod world;
