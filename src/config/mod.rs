//! The configuration: `/etc/backstay/backstay.toml`, `conf.d/*.toml` beside it, then the environment
//! (`BACKSTAY__REPOSITORY__URL=…`), parsed once into checked types.
//!
//! [`raw`] has the keys exactly as they are written; here they become what the other folders take. Unknown keys
//! are refused, with the nearest known one.

mod command;
pub mod load;
pub mod raw;
pub mod repository;
pub mod secret;

use crate::model::Name;
use crate::repository::retention::Keep;
use crate::repository::writer::WriterOptions;
use crate::sources::command::CommandSource;
use crate::sources::files::FilesSource;
use crate::sources::host::HostSource;
use crate::sources::image::ImageSource;
use crate::sources::postgres::PostgresSource;
use crate::sources::redis::RedisSource;
use crate::sources::volume::VolumeSource;
use crate::storage::open::StorageOptions;
use jiff::SignedDuration;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Everything that is configured.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file that it was read from.
    pub file: PathBuf,
    /// The text of the file and of `conf.d`, for the copy in each backup.
    pub text: String,
    /// The host's name in the repository.
    pub host: Name,
    /// Journal, caches, locks.
    pub state_dir: PathBuf,
    /// Where backups go.
    pub storage: StorageOptions,
    /// The host's own identity; `None` on a sealed host.
    pub identity_file: Option<PathBuf>,
    /// Sources by name.
    pub sources: BTreeMap<Name, SourceConfig>,
    /// The group of each source that has one.
    pub groups: BTreeMap<Name, String>,
    /// Plans by name.
    pub plans: BTreeMap<Name, Plan>,
    /// How to write.
    pub writer: WriterOptions,
}

/// A configured source.
#[derive(Clone, Debug)]
pub enum SourceConfig {
    /// The output of a program.
    Command(Box<CommandSource>),
    /// Directories and files.
    Files(FilesSource),
    /// PostgreSQL databases.
    Postgres(Box<PostgresSource>),
    /// What a fresh machine needs.
    Host(HostSource),
    /// Docker images.
    Image(ImageSource),
    /// A Redis or Valkey server.
    Redis(RedisSource),
    /// Docker volumes.
    Volume(VolumeSource),
}

impl SourceConfig {
    /// The kind as it is written.
    pub fn kind(&self) -> &'static str {
        match self {
            SourceConfig::Command(_) => "command",
            SourceConfig::Files(_) => "files",
            SourceConfig::Postgres(_) => "postgres",
            SourceConfig::Host(_) => "host",
            SourceConfig::Image(_) => "image",
            SourceConfig::Redis(_) => "redis",
            SourceConfig::Volume(_) => "volume",
        }
    }
}

/// A configured plan.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Name.
    pub name: Name,
    /// Its sources, in the configured order.
    pub sources: Vec<Name>,
    /// What `forget` keeps.
    pub keep: Keep,
    /// Whether the plan says how to stop and start an application.
    pub has_restore_section: bool,
    /// How long what was there before a restore is kept.
    pub keep_previous: SignedDuration,
}
