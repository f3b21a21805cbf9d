//! What the operator sees. One trait, [`monitor::Monitor`]; whoever wants to know listens.

pub mod monitor;
