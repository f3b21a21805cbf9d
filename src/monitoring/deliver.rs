//! Metrics to where they are collected: a file for the textfile collector of node_exporter, and a Pushgateway.

use super::overview::Overview;
use super::samples::samples;
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::io::durable;
use crate::telemetry::http;
use crate::telemetry::metrics::MEDIA;
use std::path::Path;
use std::time::Duration;

/// The limit of a push.
const LIMIT: Duration = Duration::from_secs(5);

/// Writes and pushes what is configured; what did not work, each by itself.
pub async fn deliver(config: &Config) -> Vec<Error> {
    let pushed = async {
        let Some(url) = &config.metrics.pushgateway else { return Ok(()) };
        let text = samples(&Overview::gather(config)).text()?;
        let group = format!("{}/metrics/job/backstay/instance/{}", url.expose().trim_end_matches('/'), config.host);
        push(&group, text).await
    };
    [textfile(config).err(), pushed.await.err()].into_iter().flatten().collect()
}

/// Writes the textfile, if one is configured.
///
/// # Errors
/// When it cannot be written; the old one stays.
pub fn textfile(config: &Config) -> Result<()> {
    let Some(file) = &config.metrics.textfile else { return Ok(()) };
    if !file.parent().is_some_and(Path::is_dir) {
        return Err(Error::new(Kind::Config, "the directory of `metrics.textfile` does not exist")
            .at(file.display())
            .hint("Install node_exporter, or set it to where its textfile collector looks."));
    }
    // Another user reads it.
    durable::replace(file, samples(&Overview::gather(config)).text()?.as_bytes(), 0o644)
        .map_err(|e| Error::io("the metrics cannot be written", file, e))
}

/// PUT replaces the group: what is no longer there is no longer shown.
async fn push(url: &str, text: String) -> Result<()> {
    let failed = |why: String| {
        Error::new(Kind::Internal, "the metrics could not be pushed")
            .because(why)
            .hint("Check `metrics.pushgateway`; nothing else depends on it.")
    };
    let request = http::client(LIMIT)?.put(url).header("Content-Type", MEDIA).body(text);
    let answer = request.send().await.map_err(|e| failed(http::why(e)))?;
    match answer.status() {
        status if status.is_success() => Ok(()),
        status => Err(failed(format!("it answered {status}"))),
    }
}
