//! The keys as they are written. These names are the contract with every configuration file out there.

use super::raw_foreign::RawForeign;
use super::secret::Secret;
use crate::host::nginx::config::Settings;
use crate::model::list::list;
use crate::sources::volume::WhileReading;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    /// The host's name in the repository.
    pub host: Option<String>,
    /// Journal, caches, locks.
    pub state_dir: Option<PathBuf>,
    /// Where backups go.
    pub repository: RawRepository,
    /// Identities.
    #[serde(default)]
    pub keys: RawKeys,
    /// How to back up.
    #[serde(default)]
    pub backup: RawBackup,
    /// The page that clients see while a restore runs.
    pub maintenance: Option<Settings>,
    /// What there is to back up.
    #[serde(default)]
    pub sources: BTreeMap<String, RawSource>,
    /// What belongs together.
    #[serde(default)]
    pub plans: BTreeMap<String, RawPlan>,
    /// Backups that other scripts make.
    #[serde(default)]
    pub foreign: BTreeMap<String, RawForeign>,
    /// Where metrics go.
    #[serde(default)]
    pub metrics: RawMetrics,
    /// Who is told of errors.
    #[serde(default)]
    pub sentry: RawSentry,
    /// What is called when something begins or ends.
    #[serde(default)]
    pub webhooks: RawWebhooks,
    /// `backstay serve`.
    #[serde(default)]
    pub serve: RawServe,
}

/// `[metrics]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawMetrics {
    /// A file for the textfile collector of node_exporter.
    pub textfile: Option<PathBuf>,
    /// URL of a Pushgateway, perhaps with a password.
    pub pushgateway: Option<Secret>,
}

/// `[sentry]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawSentry {
    /// Where to.
    pub dsn: Option<Secret>,
    /// The same in a file.
    pub dsn_file: Option<PathBuf>,
    /// `production` or another name.
    pub environment: Option<String>,
    /// Send restores and drills as transactions.
    pub traces: Option<bool>,
}

/// `[webhooks]`, also of a plan.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawWebhooks {
    /// Called when a run begins.
    pub start_url: Option<Secret>,
    /// The same in a file.
    pub start_url_file: Option<PathBuf>,
    /// Called when it succeeded.
    pub success_url: Option<Secret>,
    /// The same in a file.
    pub success_url_file: Option<PathBuf>,
    /// Called when it failed.
    pub failure_url: Option<Secret>,
    /// The same in a file.
    pub failure_url_file: Option<PathBuf>,
    /// Called each time, with JSON.
    pub json_url: Option<Secret>,
    /// The same in a file.
    pub json_url_file: Option<PathBuf>,
}

/// `[serve]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawServe {
    /// Address and port.
    pub listen: Option<String>,
    /// How often the repository is looked at.
    pub refresh: Option<String>,
    /// Other hosts of the repository that it speaks for.
    #[serde(default, deserialize_with = "list")]
    pub hosts: Vec<String>,
}

/// `[repository]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRepository {
    /// `s3://bucket/prefix`, `gs://bucket/prefix` or `file:///path`.
    pub url: String,
    /// Endpoint of an S3 or GCS server that is not Amazon's or Google's.
    pub endpoint: Option<String>,
    /// S3 region.
    pub region: Option<String>,
    /// Bucket in the path instead of the host name.
    pub path_style: Option<bool>,
    /// S3 storage class.
    pub storage_class: Option<String>,
    /// Bytes per second, `10MiB`.
    pub limit_upload: Option<String>,
    /// Bytes per second.
    pub limit_download: Option<String>,
    /// Time limit of one call, `60s`.
    pub timeout: Option<String>,
    /// S3 key id; else the standard chain.
    pub access_key_id: Option<String>,
    /// S3 secret.
    pub secret_access_key: Option<Secret>,
    /// File of the S3 secret.
    pub secret_access_key_file: Option<PathBuf>,
    /// S3 session token of temporary credentials.
    pub session_token: Option<Secret>,
    /// File of the session token.
    pub session_token_file: Option<PathBuf>,
    /// GCS service account key.
    pub service_account_file: Option<PathBuf>,
    /// GCS without credentials.
    pub anonymous: Option<bool>,
}

/// `[keys]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawKeys {
    /// The host's own identity.
    pub identity_file: Option<PathBuf>,
}

/// `[backup]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawBackup {
    /// zstd level, 1 to 19.
    pub compression_level: Option<i32>,
    /// Open and compare each sealed pack before it is uploaded.
    pub verify_before_upload: Option<bool>,
    /// Packs that are sealed at the same time.
    pub threads: Option<usize>,
    /// Objects that are uploaded at the same time.
    pub uploads: Option<usize>,
}

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

/// `[plans.NAME]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawPlan {
    /// Names of sources.
    #[serde(deserialize_with = "list")]
    pub sources: Vec<String>,
    /// What `forget` keeps.
    #[serde(default)]
    pub keep: RawKeep,
    /// How to stop, check and start the application around a restore.
    pub restore: Option<super::restore::RawRestore>,
    /// How its backups are restored for proof.
    pub drill: Option<super::drill::RawDrill>,
    /// When it is backed up, as cron writes it.
    pub schedule: Option<String>,
    /// A backup may begin so much later.
    pub schedule_margin: Option<String>,
    /// A backup may take so long.
    pub max_runtime: Option<String>,
    /// The newest complete backup may be so old.
    pub max_age: Option<String>,
    /// What is called for this plan instead of the others.
    #[serde(default)]
    pub webhooks: RawWebhooks,
}

/// `keep = { … }`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawKeep {
    /// The newest so many.
    pub last: Option<u32>,
    /// Hours.
    pub hourly: Option<u32>,
    /// Days.
    pub daily: Option<u32>,
    /// Weeks.
    pub weekly: Option<u32>,
    /// Months.
    pub monthly: Option<u32>,
    /// Years.
    pub yearly: Option<u32>,
    /// Everything younger, `14d`.
    pub within: Option<String>,
}

/// A list that may be missing.
fn some_list<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Vec<String>>, D::Error> {
    list(d).map(Some)
}

/// A boolean or a number, or from the environment its text. Needed within `[sources.NAME]` and `encryption` only: a tagged
/// enum keeps values as they came, and elsewhere the config crate converts. (It could parse everything from the
/// environment, and would turn the password 0123 into a number.)
fn loose<'de, D: Deserializer<'de>, T>(d: D) -> Result<T, D::Error>
where
    T: Deserialize<'de> + FromStr<Err: Display>,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either<T> {
        Own(T),
        Text(String),
    }
    match Either::deserialize(d)? {
        Either::Own(value) => Ok(value),
        Either::Text(text) => text.trim().parse().map_err(|e| serde::de::Error::custom(format!("{text:?}: {e}"))),
    }
}

/// The same that may be missing.
pub(super) fn some_loose<'de, D: Deserializer<'de>, T>(d: D) -> Result<Option<T>, D::Error>
where
    T: Deserialize<'de> + FromStr<Err: Display>,
{
    loose(d).map(Some)
}
