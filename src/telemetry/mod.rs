//! What the operator sees. One trait, [`monitor::Monitor`]; whoever wants to know listens: the terminal, the run records
//! from which metrics are made, Sentry, webhooks, tests.
//!
//! * [`monitor`]: the trait, its events, and one that passes them on to several.
//! * [`report`]: what a command came to, in figures.
//! * [`runs`]: one small file for each command and plan, which outlives the process.
//! * [`metrics`]: the table of all metrics, and their text.
//! * [`sentry`], [`hooks`]: who is told elsewhere. Nothing leaves but through [`scrub`].

pub mod hooks;
pub mod http;
pub mod metrics;
pub mod monitor;
pub mod report;
pub mod runs;
pub mod scrub;
pub mod sentry;
