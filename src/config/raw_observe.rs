//! `[metrics]`, `[sentry]`, `[webhooks]` and `[serve]` as they are written.

use super::secret::Secret;
use crate::model::list::list;
use serde::Deserialize;
use std::path::PathBuf;

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
