//! The backup story, in one loop: the only place where sources and repository meet on the way out.
//!
//! [`window`] has the moments in which the application stands still, [`quiesce`] makes it and puts it back.

pub mod quiesce;
pub mod window;

use crate::error::{Error, Kind, Result};
use crate::model::Name;
use crate::repository::catalog::Catalog;
use crate::repository::manifest::Manifest;
use crate::repository::writer::{BackupWriter, Outcome, WriterOptions};
use crate::sources::Source;
use crate::sources::window::Window;
use crate::telemetry::monitor::{Event, Monitor};
use jiff::Timestamp;
use std::collections::BTreeMap;
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
    /// The group of each source that has one: a group shares one moment in which the application stands still.
    pub groups: BTreeMap<Name, String>,
    /// False when `--source` picked some of the plan's sources.
    pub whole_plan: bool,
    /// The configuration, which every backup holds, so that a fresh host needs nothing else.
    pub config_text: String,
    /// This machine's id, hashed.
    pub machine: String,
    /// The upload journal of this plan.
    pub journal: PathBuf,
    /// Where the journal of what is stopped goes.
    pub state_dir: PathBuf,
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
    // Redis says by itself what its server has. Where a source is new there is no telling, so nothing is said.
    let usual = job.sources.iter().filter(|(_, s)| s.kind() != "redis").map(|(name, _)| writer.usual_bytes(name));
    if let Some(bytes) = usual.sum::<Option<u64>>().filter(|bytes| *bytes > 0) {
        monitor.event(Event::Expect(bytes));
    }
    let (moments, mut windows) = window::plan(&job.sources, &job.groups).await;
    let kept = moments.into_iter().map(|moment| moment.keep(&job.state_dir, monitor.clone()));
    let runs = job.sources.into_iter().map(|(name, source)| {
        let window = windows.remove(&name).unwrap_or_else(Window::always);
        read_source(name, source, writer.clone(), monitor.clone(), window)
    });
    let (mut outcomes, told) = tokio::join!(futures::future::join_all(runs), futures::future::join_all(kept));
    let mut not_back = None;
    for told in told {
        for outcome in outcomes.iter_mut().filter(|o| told.members.contains(&o.name)) {
            if let (Some(window), Some(facts)) = (&told.facts, outcome.facts.as_object_mut()) {
                facts.insert("window".to_owned(), window.clone());
            }
        }
        not_back = not_back.or(told.failed);
    }
    if outcomes.iter().any(|o| o.result.is_ok()) {
        outcomes.push(config_outcome(&writer, job.config_text).await?);
    }
    let manifest = writer.commit(outcomes, job.whole_plan, Timestamp::now()).await?;
    match not_back {
        None => Ok(manifest),
        // The backup is good; the application is not.
        Some(e) => Err(Error { what: format!("backup {} is committed, but {}", manifest.id, e.what), ..e }),
    }
}

async fn read_source(
    name: Name,
    source: Arc<dyn Source>,
    writer: BackupWriter,
    monitor: Arc<dyn Monitor>,
    window: Window,
) -> Outcome {
    monitor.event(Event::SourceStarted(name.clone()));
    let started = Instant::now();
    let kind = source.kind().to_owned();
    let delivered = source.read(&name, &writer, monitor.clone(), &window).await;
    drop(window);
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
