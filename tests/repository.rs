//! The repository from outside: what goes in comes out, whatever happens to the store, the host and the clock in
//! between.

#[path = "repository/data.rs"]
mod data;
#[path = "repository/gate.rs"]
mod gate;
#[path = "repository/harness.rs"]
mod harness;
#[path = "repository/model.rs"]
mod model;
#[path = "repository/pruning.rs"]
mod pruning;
#[path = "repository/repairing.rs"]
mod repairing;
