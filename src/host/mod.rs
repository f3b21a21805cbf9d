//! The machine: processes, systemd, the Docker daemon, and what identifies the host. It knows nothing of the repository.

pub mod addresses;
pub mod apt;
pub mod cluster;
pub mod docker;
pub mod exec;
pub mod holders;
pub mod inventory;
pub mod machine;
pub mod netns;
pub mod nginx;
pub mod notify;
pub mod people;
pub mod priority;
pub mod processes;
pub mod service;
pub mod systemd;
pub mod systemd_calendar;
pub mod systemd_timer;
mod tail;
pub mod user;
