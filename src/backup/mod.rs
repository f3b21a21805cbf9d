//! The backup story, in one loop: the only place where sources and repository meet on the way out.

use crate::error::{Error, Kind, Result};
use crate::model::Name;
use crate::repository::catalog::Catalog;
use crate::repository::manifest::Manifest;
use crate::repository::writer::{BackupWriter, Outcome, WriterOptions};
use crate::sources::Source;
use crate::telemetry::monitor::{Event, Monitor};
use jiff::Timestamp;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// Name of the pseudo source that holds the plan's configuration.
pub const CONFIG_SOURCE: &str = "backstay-config";

/// Name of its artifact.
const CONFIG_ARTIFACT: &str = "config";

/// What to back up.
pub struct Job {
    /// The plan.
    pub plan: Name,
    /// Its sources by name.
    pub sources: Vec<(Name, Arc<dyn Source>)>,
    /// False when `--source` picked some of the plan's sources.
    pub whole_plan: bool,
    /// The configuration, which every backup holds, so that a fresh host needs nothing else.
    pub config_text: String,
    /// This machine's id, hashed.
    pub machine: String,
    /// The upload journal of this plan.
    pub journal: PathBuf,
    /// How to write.
    pub options: WriterOptions,
}

/// Runs a plan: begins, reads all sources side by side, and commits what is complete. A failing source does not
/// stop the others; the manifest says which failed, and the caller's exit code tells too.
///
/// # Errors
/// When nothing could be committed. A manifest with failed sources is `Ok`.
pub async fn run(catalog: Catalog, job: Job, monitor: Arc<dyn Monitor>) -> Result<Manifest> {
    let writer = BackupWriter::begin(
        catalog,
        job.plan.clone(),
        job.machine,
        job.options,
        &job.journal,
        monitor.clone(),
        Timestamp::now(),
    )
    .await?;
    let runs = job.sources.into_iter().map(|(name, source)| read_source(name, source, writer.clone(), monitor.clone()));
    let mut outcomes: Vec<Outcome> = futures::future::join_all(runs).await;
    if outcomes.iter().any(|o| o.result.is_ok()) {
        outcomes.push(config_outcome(&writer, job.config_text).await?);
    }
    writer.commit(outcomes, job.whole_plan, Timestamp::now()).await
}

async fn read_source(name: Name, source: Arc<dyn Source>, writer: BackupWriter, monitor: Arc<dyn Monitor>) -> Outcome {
    monitor.event(Event::SourceStarted(name.clone()));
    let started = Instant::now();
    let kind = source.kind().to_owned();
    let delivered = source.read(&name, &writer, monitor.clone()).await;
    let seconds = started.elapsed().as_secs_f64();
    monitor.event(Event::SourceEnded(name.clone(), delivered.as_ref().map(|_| ()).map_err(Error::one_line)));
    match delivered {
        Ok(d) => {
            d.warnings.iter().for_each(|w| monitor.event(Event::Warning(format!("{name}: {w}"))));
            Outcome { name, kind, result: Ok(d.artifacts), facts: d.facts, warnings: d.warnings, seconds }
        }
        Err(e) => Outcome { name, kind, result: Err(e), facts: serde_json::Value::Null, warnings: Vec::new(), seconds },
    }
}

/// The configuration as an artifact, sealed like every other: it may hold secrets.
async fn config_outcome(writer: &BackupWriter, text: String) -> Result<Outcome> {
    let name: Name = CONFIG_SOURCE.parse()?;
    let (writer, source) = (writer.clone(), name.clone());
    let written = tokio::task::spawn_blocking(move || {
        let mut artifact = writer.artifact(CONFIG_ARTIFACT, "toml");
        let hash = blake3::hash(text.as_bytes()).to_hex().to_string();
        // Nearly always it is what it was; then this needs no look at what is known.
        match writer.base(&source, CONFIG_ARTIFACT).filter(|base| base.blake3.as_ref() == Some(&hash)).cloned() {
            Some(base) if artifact.same(&base).is_ok_and(|same| same) => {}
            _ => {
                artifact = writer.artifact(CONFIG_ARTIFACT, "toml");
                artifact.value(text.as_bytes())?;
            }
        }
        artifact.finish()
    });
    let artifact = written.await.map_err(|_| Error::new(Kind::Internal, "the configuration could not be stored"))?;
    Ok(Outcome {
        name,
        kind: "config".into(),
        result: artifact.map(|a| vec![a]),
        facts: serde_json::Value::Null,
        warnings: Vec::new(),
        seconds: 0.0,
    })
}
