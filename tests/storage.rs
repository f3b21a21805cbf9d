//! The storage folder against real servers, and against servers that fail.

#[path = "storage/decorators.rs"]
mod decorators;
#[path = "storage/directory.rs"]
mod directory;
#[path = "storage/faults.rs"]
mod faults;
#[path = "support/port.rs"]
mod port;
#[path = "storage/requests.rs"]
mod requests;
#[path = "storage/servers.rs"]
mod servers;
// Shared with other test programs, each of which uses a part.
#[allow(dead_code)]
mod support;
