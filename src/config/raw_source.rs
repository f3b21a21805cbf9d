//! `[sources.NAME]` as it is written.

use super::raw_value::{loose, some_list, some_loose};
use super::secret::Secret;
use crate::model::list::list;
use crate::sources::volume::WhileReading;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// `[sources.NAME]`
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum RawSource {
    /// `kind = "command"`
    Command(Box<RawCommand>),
    /// `kind = "files"`
    Files {
        /// Absolute paths.
        #[serde(deserialize_with = "list")]
        paths: Vec<String>,
        /// What to leave out.
        #[serde(default, deserialize_with = "list")]
        exclude: Vec<String>,
        /// Stay on the file systems of the paths.
        #[serde(default, deserialize_with = "loose")]
        one_file_system: bool,
        /// Read unchanged files again after so long, or `never`.
        reread: Option<String>,
        /// Shares one quiet moment with the sources of the same group.
        group: Option<String>,
    },
    /// `kind = "host"`
    Host {
        /// Folders and files of compose projects and stacks, besides those that containers tell.
        #[serde(default, deserialize_with = "list")]
        compose: Vec<String>,
        /// Further files and directories.
        #[serde(default, deserialize_with = "list")]
        extra: Vec<String>,
        /// What to leave out.
        #[serde(default, deserialize_with = "list")]
        exclude: Vec<String>,
        /// Store the contents of swarm configs.
        #[serde(default, deserialize_with = "loose")]
        swarm_configs: bool,
        /// Read unchanged files again after so long, or `never`.
        reread: Option<String>,
        /// Shares one quiet moment with the sources of the same group.
        group: Option<String>,
    },
    /// `kind = "image"`
    Image {
        /// Images by name.
        #[serde(default, deserialize_with = "list")]
        images: Vec<String>,
        /// Images of containers.
        #[serde(default, deserialize_with = "list")]
        containers: Vec<String>,
        /// Images of the containers of a compose project.
        compose_project: Option<String>,
        /// Images of swarm services.
        #[serde(default, deserialize_with = "list")]
        services: Vec<String>,
        /// Shares one quiet moment with the sources of the same group.
        group: Option<String>,
    },
    /// `kind = "volume"`
    Volume {
        /// Names of volumes.
        #[serde(default, deserialize_with = "some_list")]
        volume: Option<Vec<String>>,
        /// Volumes with this label, `KEY` or `KEY=VALUE`.
        label: Option<String>,
        /// Volumes of this compose project.
        compose_project: Option<String>,
        /// All volumes but these.
        #[serde(default, deserialize_with = "some_list")]
        all_but: Option<Vec<String>>,
        /// What the users of the volumes do meanwhile.
        #[serde(default)]
        while_reading: WhileReading,
        /// What to leave out.
        #[serde(default, deserialize_with = "list")]
        exclude: Vec<String>,
        /// Read unchanged files again after so long, or `never`.
        reread: Option<String>,
        /// Shares one quiet moment with the sources of the same group.
        group: Option<String>,
    },
    /// `kind = "postgres"`
    Postgres {
        /// `postgresql://USER@HOST:PORT/DATABASE`; with `container` the host is not needed.
        url: Option<String>,
        /// The container of the server: its name, `PROJECT/SERVICE` of compose, or a swarm service.
        container: Option<String>,
        /// The user of the operating system as whom clients run.
        os_user: Option<String>,
        /// Password.
        password: Option<Secret>,
        /// File of the password.
        password_file: Option<PathBuf>,
        /// systemd unit of the server.
        unit: Option<String>,
        /// The server's data directory on this host.
        data_dir: Option<PathBuf>,
        /// Names, or `"all"`; default: the database of the URL.
        databases: Option<RawDatabases>,
        /// Databases to leave out.
        #[serde(default, deserialize_with = "list")]
        exclude_databases: Vec<String>,
        /// Tables above this size are estimated instead of counted.
        count_rows_up_to: Option<String>,
        /// Tables above this size are dumped and loaded side by side.
        big_tables: Option<String>,
        /// How many at once.
        #[serde(default, deserialize_with = "some_loose")]
        jobs: Option<usize>,
        /// Shares one quiet moment with the sources of the same group.
        group: Option<String>,
    },
    /// `kind = "redis"`
    Redis {
        /// `redis://USER@HOST:PORT`, `rediss://…`, `unix:///SOCKET`
        url: String,
        /// Password.
        password: Option<Secret>,
        /// File of the password.
        password_file: Option<PathBuf>,
        /// Certificates of authorities, PEM.
        tls_ca: Option<PathBuf>,
        /// Our certificate, PEM.
        tls_cert: Option<PathBuf>,
        /// Key of our certificate, PEM.
        tls_key: Option<PathBuf>,
        /// systemd unit of the server.
        unit: Option<String>,
        /// Container of the server: name or `PROJECT/SERVICE`.
        container: Option<String>,
        /// The server's directory on this host.
        data_dir: Option<PathBuf>,
        /// The server's `redis.conf` on this host.
        config_file: Option<PathBuf>,
        /// Store the append-only file besides.
        #[serde(default, deserialize_with = "loose")]
        include_aof: bool,
        /// Shares one quiet moment with the sources of the same group.
        group: Option<String>,
    },
}

impl RawSource {
    /// The group, which every kind may have.
    pub fn group(&self) -> Option<&String> {
        match self {
            RawSource::Command(command) => command.group.as_ref(),
            RawSource::Files { group, .. }
            | RawSource::Host { group, .. }
            | RawSource::Image { group, .. }
            | RawSource::Postgres { group, .. }
            | RawSource::Redis { group, .. }
            | RawSource::Volume { group, .. } => group.as_ref(),
        }
    }
}

/// `[sources.NAME]` with `kind = "command"`. Programs are lists only: a text would have to be split, and nobody splits
/// as a shell does.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawCommand {
    /// Its output is the backup.
    pub dump: Vec<String>,
    /// How long it may take, `30m`.
    pub timeout: Option<String>,
    /// A word for what the output is.
    pub media: Option<String>,
    /// No output is a good output.
    #[serde(default, deserialize_with = "loose")]
    pub may_be_empty: bool,
    /// Reads the output and says by its exit status whether it is whole.
    pub check: Option<Vec<String>>,
    /// Where the programs run: a container.
    pub container: Option<String>,
    /// As which user of the operating system.
    pub os_user: Option<String>,
    /// In which directory.
    pub dir: Option<PathBuf>,
    /// Environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Environment that is secret.
    #[serde(default)]
    pub secrets: BTreeMap<String, Secret>,
    /// The same in files.
    #[serde(default)]
    pub secrets_file: BTreeMap<String, PathBuf>,
    /// Takes the output back on its input.
    pub load: Option<Vec<String>>,
    /// How long each program of a restore may take.
    pub load_timeout: Option<String>,
    /// Says by its exit status whether what was loaded is good.
    pub verify: Option<Vec<String>>,
    /// What is replaced: a file or directory.
    pub stage_path: Option<PathBuf>,
    /// What is replaced: a database.
    pub database: Option<RawBound>,
    /// Makes the tables of the database before the load.
    pub prepare: Option<Vec<String>>,
    /// What is replaced: what the program says, at once.
    #[serde(default, deserialize_with = "loose")]
    pub in_place: bool,
    /// Puts back what was there before such a load.
    pub undo: Option<Vec<String>>,
    /// Shares one quiet moment with the sources of the same group.
    pub group: Option<String>,
}

/// `database = { … }`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawBound {
    /// The `postgres` source that knows the server.
    pub source: String,
    /// The database.
    pub name: String,
}

/// A list of names, or `"all"`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum RawDatabases {
    /// `"all"` or one name.
    One(String),
    /// Several names.
    Many(Vec<String>),
}
