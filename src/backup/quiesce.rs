//! Letting the application stand still for a moment, and putting it back as it was, whatever happens.
//!
//! Before anything is stopped or paused, that it will be is written to a journal in the state directory and synced.
//! What the journal names is put back when the moment is over; when the run is interrupted, before it ends; and when
//! it was killed, by the next run or by `backstay resume`, which the unit at boot calls. Then the journal goes.
//!
//! Only a run that holds the backup lock writes or replays: a journal that it finds is left over from a dead one.

use crate::error::{Error, Kind, Result};
use crate::host::docker::Docker;
use crate::host::docker::stilled::FOLDER;
use crate::sources::window::{Hold, How, Who};
use crate::telemetry::monitor::{Event, Monitor};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One thing that was done, or was about to be. Names, since ids do not survive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "did", rename_all = "lowercase")]
enum Did {
    /// A container was paused.
    Paused { container: String },
    /// A container was stopped, which takes it up to `grace` seconds.
    Stopped { container: String, grace: u64 },
    /// A service was scaled to 0.
    Scaled { service: String, replicas: i64 },
}

/// Everything that stands still. Dropped before its time, it puts back what it can at once.
pub struct Quiet {
    docker: Docker,
    path: PathBuf,
    file: File,
    did: Vec<Did>,
    /// Everything was put back, or that it could not be was told.
    over: bool,
}

fn io(what: &'static str, path: &Path) -> impl Fn(std::io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |e| Error::io(what, &path, e).hint("Nothing is stopped that could not be put back; free some space first.")
}

impl Quiet {
    /// Begins a journal; nothing stands still yet.
    pub fn begin(docker: Docker, state_dir: &Path) -> Result<Self> {
        let folder = state_dir.join(FOLDER);
        let path = folder.join(format!("{:016x}.journal", rand::random::<u64>()));
        let failed = io("the journal of what is stopped cannot be written", &path);
        std::fs::create_dir_all(&folder).map_err(&failed)?;
        let file = File::options().create_new(true).append(true).open(&path).map_err(&failed)?;
        File::open(&folder).and_then(|f| f.sync_all()).map_err(&failed)?;
        Ok(Quiet { docker, path, file, did: Vec::new(), over: false })
    }

    /// Makes everybody named stand still. The younger first: what was made later most likely uses the earlier.
    ///
    /// # Errors
    /// When somebody cannot be stopped or paused. What is still by then is put back when this is dropped.
    pub async fn hold(&mut self, holds: &[Hold], monitor: &dyn Monitor) -> Result<()> {
        let mut containers = Vec::new();
        for hold in holds {
            match &hold.who {
                Who::Service(service) => self.hold_service(service).await?,
                // One that is gone since it was found uses nothing any more.
                Who::Container(name) => {
                    containers.extend(self.docker.container(name).await?.map(|c| (c, hold.how)));
                }
            }
        }
        containers.sort_by_key(|(c, _)| std::cmp::Reverse(c.created));
        for (container, how) in containers {
            let name = container.name.clone();
            // The one before may have taken its time to stop.
            let Some(container) = self.docker.container(&name).await? else { continue };
            match (how, container.state.as_str()) {
                (How::Stop, "paused") => {
                    return Err(Error::new(
                        Kind::Source,
                        format!("container {name} is paused and can be stopped only by killing it"),
                    )
                    .hint(format!("`docker unpause {name}`, or use `while_reading = \"pause\"`.")));
                }
                (How::Stop, "running" | "restarting") if container.auto_remove => {
                    return Err(Error::new(Kind::Source, format!("container {name} is removed when it stops (--rm)"))
                        .hint("Use `while_reading = \"pause\"`, or run it without --rm."));
                }
                (How::Stop, "running" | "restarting") => {
                    let grace = self.docker.stop_seconds(&name).await?;
                    self.note(Did::Stopped { container: name.clone(), grace })?;
                    if self.docker.stop(&name).await? == Some(137) {
                        monitor.event(Event::Warning(format!(
                            "container {name} did not end within {grace} seconds and was killed: what it held in memory is not in the backup"
                        )));
                    }
                }
                (How::Pause, "running" | "restarting") => {
                    self.note(Did::Paused { container: name.clone() })?;
                    self.docker.pause(&name).await?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn hold_service(&mut self, service: &str) -> Result<()> {
        match self.docker.replicas(service).await? {
            Some(0) => Ok(()),
            Some(replicas) => {
                self.note(Did::Scaled { service: service.to_owned(), replicas })?;
                self.docker.scale(service, 0).await.map(|_| ())
            }
            None => {
                Err(Error::new(Kind::Source, format!("service {service} is global or a job and cannot be scaled to 0"))
                    .hint("Use `while_reading = \"pause\"`, which pauses its tasks on this node."))
            }
        }
    }

    /// Writes down what comes next, before it does.
    fn note(&mut self, did: Did) -> Result<()> {
        let failed = io("the journal of what is stopped cannot be written", &self.path);
        let mut line = serde_json::to_vec(&did).map_err(|e| failed(e.into()))?;
        line.push(b'\n');
        self.file.write_all(&line).and_then(|()| self.file.sync_data()).map_err(&failed)?;
        self.did.push(did);
        Ok(())
    }

    /// Puts everybody back. `after_failure`: somebody who was to stop may still be about to.
    ///
    /// # Errors
    /// With whoever could not be put back; the journal then stays for the next try.
    pub async fn release(mut self, after_failure: bool) -> Result<()> {
        let result = put_back(&self.docker, &self.did, &self.path, after_failure).await;
        self.over = true;
        result
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let did = std::mem::take(&mut self.did);
        // The run is over before its time, by a signal or an error. A thread with a runtime of its own: ours may be
        // going down. What does not succeed here stays in the journal.
        let path = self.path.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            runtime.block_on(async { put_back(&Docker::connect().await.ok()?, &did, &path, true).await.ok() })
        });
        let _ = thread.join();
    }
}

/// Undoes in reverse. `unsettled`: the last effect may still be on its way, since whoever asked for it is gone.
async fn put_back(docker: &Docker, did: &[Did], journal: &Path, unsettled: bool) -> Result<()> {
    let mut failed: Vec<Error> = Vec::new();
    for did in did.iter().rev() {
        let result = match did {
            Did::Paused { container } => docker.unpause(container).await,
            Did::Stopped { container, grace } => start(docker, container, *grace, unsettled).await,
            Did::Scaled { service, replicas } => match docker.replicas(service).await {
                // Whoever has set it to something else meanwhile knows better.
                Ok(Some(0)) => docker.scale(service, *replicas).await.map(|_| ()),
                other => other.map(|_| ()),
            },
        };
        failed.extend(result.err());
    }
    if failed.is_empty() {
        return std::fs::remove_file(journal).map_err(|e| Error::io("the journal cannot be removed", journal, e));
    }
    let why: Vec<String> = failed.iter().map(Error::one_line).collect();
    Err(Error::new(Kind::Partial, "not everything that was stopped for the backup runs again")
        .at(journal.display())
        .because(why.join("\n"))
        .hint("Start it by hand, or correct the reason and run `backstay resume`; the next backup tries again too."))
}

/// Starts a container that was stopped, once its stop is over.
async fn start(docker: &Docker, container: &str, grace: u64, unsettled: bool) -> Result<()> {
    if unsettled {
        docker.settle(container, grace).await?;
    }
    // One that is gone was removed by somebody; one that runs was started.
    docker.start(container).await.map(|_| ())
}

/// Puts back what dead runs left behind. Whoever calls it holds the backup lock. Gives how many journals there were.
///
/// # Errors
/// When something could not be put back, or the daemon is not there; the journals stay.
pub async fn replay(state_dir: &Path, monitor: Arc<dyn Monitor>) -> Result<usize> {
    let left = journals(state_dir)?;
    if left.is_empty() {
        return Ok(0);
    }
    let docker = Docker::connect().await?;
    let mut first = None;
    for path in &left {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io("a journal cannot be read", path, e))?;
        // A line that is cut was never synced, so what it would have said was never done.
        let did: Vec<Did> = text.lines().map_while(|line| serde_json::from_str(line).ok()).collect();
        for did in &did {
            monitor.event(Event::Warning(format!("an interrupted backup left this to put back: {}", words(did))));
        }
        if let Err(e) = put_back(&docker, &did, path, true).await {
            first.get_or_insert(e);
        }
    }
    first.map_or(Ok(left.len()), Err)
}

/// Whether dead runs left something behind.
pub fn journals(state_dir: &Path) -> Result<Vec<PathBuf>> {
    let folder = state_dir.join(FOLDER);
    match std::fs::read_dir(&folder) {
        Ok(entries) => {
            Ok(entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "journal")).collect())
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(Error::io("the journals of what was stopped cannot be read", &folder, e)),
    }
}

fn words(did: &Did) -> String {
    match did {
        Did::Paused { container } => format!("container {container} was paused"),
        Did::Stopped { container, .. } => format!("container {container} was stopped"),
        Did::Scaled { service, replicas } => format!("service {service} was scaled from {replicas} to 0"),
    }
}
