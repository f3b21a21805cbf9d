//! The machine: processes, the Docker daemon, and what identifies the host. It knows nothing of the repository.

pub mod docker;
pub mod exec;
pub mod holders;
pub mod inventory;
pub mod machine;
pub mod netns;
pub mod processes;
pub mod service;
mod tail;
pub mod user;
