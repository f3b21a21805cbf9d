//! The keys as they are written. These names are the contract with every configuration file out there. Sources, foreign
//! backups and what watches have files of their own: `raw_….rs`.

use super::raw_foreign::RawForeign;
use super::raw_observe::{RawMetrics, RawSentry, RawServe, RawWebhooks};
use super::raw_source::RawSource;
use super::secret::Secret;
use crate::host::nginx::config::Settings;
use crate::model::list::list;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

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
