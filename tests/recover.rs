//! A lost host on another machine: real ones, with systemd, in name spaces of their own, and a store that they reach.

#[path = "recover/clusters.rs"]
mod clusters;
#[path = "recover/exercise.rs"]
mod exercise;
#[path = "support/fault.rs"]
#[allow(dead_code)]
mod fault;
#[path = "systemd/host.rs"]
#[allow(dead_code)]
mod host;
#[path = "recover/interrupted.rs"]
mod interrupted;
#[path = "support/machine.rs"]
#[allow(dead_code)]
mod machine;
#[path = "support/port.rs"]
mod port;
#[path = "recover/refused.rs"]
mod refused;
#[path = "recover/shop.rs"]
mod shop;
#[path = "support/mod.rs"]
#[allow(dead_code)]
mod support;
#[path = "recover/whole.rs"]
mod whole;
#[path = "recover/wire.rs"]
mod wire;
