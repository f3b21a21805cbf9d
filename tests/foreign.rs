//! Backups that other scripts made: worlds built with stock tools, as those scripts build them, and then the program.

#[path = "postgres/cluster.rs"]
#[allow(dead_code)]
mod cluster;
#[path = "foreign/dumps.rs"]
mod dumps;
#[path = "foreign/import.rs"]
mod import;
#[path = "foreign/layouts.rs"]
mod layouts;
#[path = "foreign/parts.rs"]
mod parts;
#[path = "support/port.rs"]
mod port;
#[path = "foreign/restore.rs"]
mod restore;
#[path = "foreign/scripts.rs"]
mod scripts;
#[path = "foreign/sealed.rs"]
mod sealed;
#[path = "foreign/stores.rs"]
mod stores;
#[allow(dead_code)]
mod support;
#[path = "foreign/trees.rs"]
mod trees;
#[path = "cli/world.rs"]
#[allow(dead_code)]
mod world;
