//! The program as its users run it: one process per command, files and exit codes.

#[path = "cli/answers.rs"]
mod answers;
#[path = "cli/append_only.rs"]
mod append_only;
#[path = "cli/aws.rs"]
mod aws;
#[path = "cli/errors.rs"]
mod errors;
#[path = "cli/fallback.rs"]
mod fallback;
#[path = "cli/files.rs"]
mod files;
#[path = "cli/gcs.rs"]
mod gcs;
#[path = "cli/huge.rs"]
mod huge;
#[path = "cli/keys.rs"]
mod keys;
#[path = "cli/memory.rs"]
mod memory;
#[path = "cli/options.rs"]
mod options;
#[path = "cli/policies.rs"]
mod policies;
#[path = "support/port.rs"]
mod port;
#[path = "cli/recover.rs"]
mod recover;
#[path = "cli/rollback.rs"]
mod rollback;
#[path = "cli/samples.rs"]
mod samples;
#[path = "cli/trouble.rs"]
mod trouble;
#[path = "cli/upkeep.rs"]
mod upkeep;
#[path = "cli/world.rs"]
mod world;
