//! The repository from outside: what goes in comes out, whatever happens to the store, the host and the clock in
//! between.

#[path = "repository/changing.rs"]
mod changing;
#[path = "repository/clocks.rs"]
mod clocks;
#[path = "repository/damage.rs"]
mod damage;
#[path = "repository/data.rs"]
mod data;
#[path = "repository/dedup.rs"]
mod dedup;
#[path = "repository/doubt.rs"]
mod doubt;
#[path = "repository/gate.rs"]
mod gate;
#[path = "repository/harness.rs"]
mod harness;
#[path = "repository/huge.rs"]
mod huge;
#[path = "repository/keyfiles.rs"]
mod keyfiles;
#[path = "repository/marked.rs"]
mod marked;
#[path = "repository/model.rs"]
mod model;
#[path = "repository/narrowing.rs"]
mod narrowing;
#[path = "repository/pruning.rs"]
mod pruning;
#[path = "repository/reading.rs"]
mod reading;
#[path = "repository/refusing.rs"]
mod refusing;
#[path = "repository/repairing.rs"]
mod repairing;
#[path = "repository/requests.rs"]
mod requests;
#[path = "repository/samples.rs"]
mod samples;
#[path = "repository/sealed.rs"]
mod sealed;
#[path = "repository/shares.rs"]
mod shares;
#[path = "repository/traffic.rs"]
mod traffic;
