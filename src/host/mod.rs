//! The machine: processes and what identifies the host. It knows nothing of the repository.

pub mod exec;
pub mod machine;
pub mod processes;
