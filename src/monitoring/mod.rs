//! What is known about a host's backups, put together: run records, the repository as it was last seen, journals of
//! restores, and what is configured.
//!
//! * [`view`]: the repository, looked at and remembered.
//! * [`overview`]: everything in one value. [`problems`] says what of it is wrong, [`samples`] makes metrics of it.
//! * [`deliver`]: metrics to a textfile and to a Pushgateway.
//! * [`serve`]: metrics, health and a page over HTTP.

pub mod deliver;
pub mod overview;
pub mod problems;
pub mod samples;
pub mod serve;
pub mod view;
