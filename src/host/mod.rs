//! The machine: processes, the Docker daemon, systemd, and what identifies the host. It knows nothing of the repository.

pub mod docker;
pub mod exec;
pub mod holders;
pub mod machine;
pub mod netns;
pub mod notify;
pub mod processes;
pub mod service;
pub mod systemd_timer;
mod tail;
pub mod user;
