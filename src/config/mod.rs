//! The configuration: `/etc/backstay/backstay.toml`, `conf.d/*.toml` beside it, then the environment
//! (`BACKSTAY__REPOSITORY__URL=…`), parsed once into checked types.
//!
//! [`raw`] and its neighbours have the keys exactly as they are written; here they become what the other folders take.
//! Unknown keys are refused, with the nearest known one.

pub mod checks;
mod command;
pub mod drill;
mod environment;
mod explain;
pub mod flush;
mod foreign;
pub mod load;
mod observe;
pub mod raw;
pub mod raw_foreign;
pub mod raw_observe;
pub mod raw_source;
mod raw_value;
pub mod recorded;
pub mod repository;
pub mod restore;
pub mod secret;
mod source;
pub mod target;

use crate::foreign::layout::Layout;
use crate::host::nginx::config::Settings;
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
use crate::telemetry::{hooks, sentry};
pub use drill::DrillPlan;
pub use restore::RestorePlan;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

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
    /// The page that clients see while a restore runs; `None` without one.
    pub maintenance: Option<Settings>,
    /// Backups that other scripts make, by name.
    pub foreign: BTreeMap<Name, Layout>,
    /// How to write.
    pub writer: WriterOptions,
    /// Where metrics go.
    pub metrics: Metrics,
    /// Who is told of errors.
    pub sentry: Option<sentry::Options>,
    /// What is called when something begins or ends.
    pub hooks: hooks::Options,
    /// `backstay serve`.
    pub serve: Serve,
}

/// Where metrics go, besides `serve`.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// A file for the textfile collector of node_exporter.
    pub textfile: Option<PathBuf>,
    /// URL of a Pushgateway.
    pub pushgateway: Option<secret::Secret>,
}

/// How `serve` serves.
#[derive(Clone, Debug)]
pub struct Serve {
    /// Address and port.
    pub listen: SocketAddr,
    /// How often the repository is looked at.
    pub refresh: Duration,
    /// Other hosts of the repository that it speaks for.
    pub hosts: Vec<Name>,
}

impl Config {
    /// The trust file of this host.
    pub fn trust_file(&self) -> PathBuf {
        self.trust_file_of(&self.host)
    }

    /// The trust file for the vault of another host.
    pub fn trust_file_of(&self, host: &Name) -> PathBuf {
        self.state_dir.join("trust").join(format!("{host}.json"))
    }
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
    /// How the application is treated around a restore.
    pub restore: RestorePlan,
    /// How its backups are restored for proof.
    pub drill: DrillPlan,
    /// When it is backed up.
    pub due: Due,
    /// The goal: how old its newest complete backup may be.
    pub max_age: Duration,
}

/// When a plan is backed up, as far as the file says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Five fields, as cron writes them; for a scheduler that is not asked.
    pub crontab: Option<String>,
    /// It may begin so much later.
    pub margin: Duration,
    /// It may take so long.
    pub max_runtime: Duration,
}
