//! A Docker volume, as a restore replaces it: staged beside its directory, or in it where that is a mount, and swapped
//! there. The daemon sees the same volume before and after.
//!
//! A volume that is missing is made with the driver, options and labels of the backup, and one label more that says
//! so: only a volume that bears it, with this backup's id, is ever removed again. Where its directory is not one of this
//! machine (another driver, a daemon elsewhere) it is filled through the daemon ([`upload`]). One that is there and cannot be
//! reached is refused: the daemon can put files into it, and neither move nor remove any, so there would be no way back.

pub mod chosen;
mod upload;

use super::by_hand;
use super::count;
use super::exchange;
use super::inner;
use super::resource::{Class, Compared, Findings, Note, Previous, Resource, Space, StagedAs, parse};
use super::swapping::Swapping as Placing;
use super::tree;
use crate::error::{Error, Kind, Result};
use crate::host::docker::Docker;
use crate::host::docker::find::Container;
use crate::host::docker::volumes::Volume;
use crate::host::holders;
use crate::io::removal;
use crate::model::{BackupId, size};
use crate::repository::manifest::SourceRecord;
use crate::repository::reader::Reader;
use crate::sources::files::exclude::Excludes;
use crate::sources::volume::VolumeFacts;
use crate::sources::volume::direct::{below, is_reachable};
use async_trait::async_trait;
use chosen::{artifact_of, facts_of};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Marks volumes that a restore made.
const MADE: &str = "backstay.made-by-restore-of";

/// One volume.
pub struct DockerVolume {
    /// The volume that is restored.
    pub name: String,
    /// The volume in the backup.
    pub of: String,
    /// The restore: what it stages and keeps is named by it.
    pub id: BackupId,
    /// The source in the backup, and the reader; only staging needs them.
    pub from: Option<(Reader, SourceRecord)>,
    /// What must not be taken away from under this very run: its state, configuration, program, repository.
    pub own: Vec<PathBuf>,
    /// What the source leaves out, as it is configured now; paths begin at the root of the volume.
    pub exclude: Vec<String>,
}

/// What staging makes.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Staging {
    volume: String,
    /// The volume was not there and is made.
    missing: bool,
    /// Its directory; known when it is there.
    root: Option<PathBuf>,
    /// Its directory stays, and what is in it changes.
    inner: bool,
    /// It is made, and filled through the daemon.
    #[serde(default)]
    upload: bool,
    #[serde(default)]
    files: u64,
    #[serde(default)]
    dirs: u64,
    #[serde(default)]
    links: u64,
    #[serde(default)]
    other: u64,
    #[serde(default)]
    bytes: u64,
    #[serde(default)]
    left_out: Vec<(String, u64)>,
}

/// What a swap needs.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Swapping {
    volume: String,
    missing: bool,
    /// Nothing when it is made and filled: its users see it as it is filled, and nothing was there before.
    #[serde(flatten)]
    place: Option<Placing>,
}

impl DockerVolume {
    fn record(&self) -> Result<(&Reader, &SourceRecord)> {
        let from = self.from.as_ref().map(|(reader, record)| (reader, record));
        from.ok_or_else(|| Error::new(Kind::Internal, "a restore without a backup cannot stage"))
    }

    async fn docker(&self) -> Result<Docker> {
        Docker::connect().await.map_err(|e| e.kind(Kind::Restore))
    }

    /// Driver and options of the volume when it is made.
    fn shape(&self, facts: &VolumeFacts) -> (String, BTreeMap<String, String>) {
        match self.name == self.of {
            true => (facts.driver.clone(), facts.options.clone()),
            // A copy does not lie where the options of the original point to.
            false => ("local".to_owned(), BTreeMap::new()),
        }
    }

    /// Whether a volume that is made for this restore has to be filled through the daemon.
    async fn is_elsewhere(&self, docker: &Docker, facts: &VolumeFacts) -> Result<bool> {
        let (driver, options) = self.shape(facts);
        Ok(driver != "local" || !options.is_empty() || !docker.is_here().await?)
    }

    fn staged_at(&self, root: &Path, inner: bool) -> PathBuf {
        if inner {
            return inner::staged(root, self.id.as_str());
        }
        let parent = root.parent().unwrap_or(root);
        parent.join(format!(".backstay-{}.staged", self.id))
    }

    /// Who would keep or miss something: running containers, and processes of this machine that are of none.
    async fn users(&self, docker: &Docker, volume: &Volume) -> Result<Vec<String>> {
        let containers = docker.users(volume).await?;
        let mut users: Vec<String> = containers.iter().filter(|c| c.is_up()).map(user).collect();
        for holder in holders::of(&volume.mountpoint) {
            if !containers.iter().any(|c| holder.cgroup.contains(&c.id)) {
                users.push(format!("process:{} {}", holder.pid, holder.name));
            }
        }
        users.dedup();
        Ok(users)
    }

    /// Makes a missing volume, and marks it as ours.
    async fn make(&self, docker: &Docker, record: &SourceRecord) -> Result<Volume> {
        let facts = facts_of(record, &self.of)?;
        let mut labels = facts.labels.clone();
        if self.name != self.of {
            // A copy belongs to no compose project, which would otherwise have the volume twice.
            labels.retain(|key, _| !key.starts_with("com.docker.compose."));
        }
        labels.insert(MADE.to_owned(), self.id.to_string());
        let (driver, options) = self.shape(&facts);
        docker.create_volume(&self.name, &driver, &options, &labels).await.map_err(|e| e.kind(Kind::Restore))
    }

    fn excludes_at(&self, root: &Path) -> Result<Excludes> {
        let patterns: Vec<String> = self.exclude.iter().map(|p| below(p, root)).collect();
        Excludes::new(&patterns, &[])
    }

    fn is_ours(&self, volume: &Volume) -> bool {
        volume.labels.get(MADE).is_some_and(|id| id == self.id.as_str())
    }
}

fn user(container: &Container) -> String {
    match container.swarm_service() {
        Some(service) => format!("service:{service}"),
        None => format!("container:{}", container.name),
    }
}

/// Why a volume cannot be written where it is.
fn unreachable(name: &str, driver: &str) -> Error {
    Error::new(Kind::Refused, format!("volume {name} of driver {driver} has no directory on this machine to restore into"))
        .because("through the daemon its content could be overwritten and not put back")
        .hint("Restore with --to OTHER_NAME into a new volume, or with --to /PATH. When nothing in it is wanted, remove it with `docker volume rm`: a restore makes a missing volume anew and fills it through the daemon.")
}

#[async_trait]
impl Resource for DockerVolume {
    fn label(&self) -> String {
        format!("volume {}", self.name)
    }

    fn class(&self) -> Class {
        Class::Tree
    }

    async fn answers(&self) -> Result<()> {
        self.docker().await.map(drop)
    }

    async fn preflight(&self) -> Result<Findings> {
        let docker = self.docker().await?;
        let mut findings = Findings::default();
        let needed = match &self.from {
            Some((_, record)) => {
                let facts = facts_of(record, &self.of)?;
                if !facts.loses.is_empty() {
                    findings.warnings.push(format!("the backup does not hold: {}", facts.loses.join("; ")));
                }
                artifact_of(record, &self.of)?.bytes
            }
            None => 0,
        };
        let volume = docker.volume(&self.name).await?;
        let place = match &volume {
            Some(_) if self.name != self.of => {
                return Err(Error::new(Kind::Refused, format!("volume {} exists", self.name))
                    .hint("Give --to a name that is free, or restore without --to to replace the volume itself."));
            }
            Some(volume) => {
                if !docker.is_here().await? || !is_reachable(volume) {
                    return Err(unreachable(&self.name, &volume.driver));
                }
                if let Some(own) = self.own.iter().find(|o| o.starts_with(&volume.mountpoint)) {
                    return Err(Error::new(
                        Kind::Refused,
                        format!("volume {} holds {}, which this restore itself needs", self.name, own.display()),
                    )
                    .hint("Restore it with --to OTHER_NAME or --to /PATH."));
                }
                findings.users = self.users(&docker, volume).await?;
                if holders::is_mount_point(&volume.mountpoint) {
                    findings.warnings.push(
                        "it is a mount: its content is exchanged name by name, and what was there stays in it as .backstay-before-…".to_owned(),
                    );
                } else {
                    findings.warnings.push(format!(
                        "what was there is kept beside the volume's directory: `docker volume rm {}` would remove it too",
                        self.name
                    ));
                }
                volume.mountpoint.clone()
            }
            None => {
                if let Some((_, record)) = &self.from {
                    let facts = facts_of(record, &self.of)?;
                    if self.is_elsewhere(&docker, &facts).await? {
                        let (driver, options) = self.shape(&facts);
                        findings.warnings.push(upload::warning(&driver, &options));
                        let place = PathBuf::from(format!("volume {}", self.name));
                        findings.space.push(Space { place, needed, free: None });
                        return Ok(findings);
                    }
                }
                findings.warnings.push("it is missing and will be made".to_owned());
                docker.root_dir().await?
            }
        };
        let free = rustix::fs::statvfs(&place).ok().map(|s| s.f_bavail * s.f_frsize);
        if free.is_some_and(|free| free < needed) {
            return Err(Error::new(
                Kind::Refused,
                format!(
                    "there is no room for a second copy: {} are needed, {} are free",
                    size::human(needed),
                    size::human(free.unwrap_or_default())
                ),
            )
            .at(place.display()));
        }
        findings.space.push(Space { place, needed, free });
        Ok(findings)
    }

    async fn used(&self, _: Option<&Note>) -> Result<Findings> {
        let docker = self.docker().await?;
        let mut findings = Findings::default();
        if let Some(volume) = docker.volume(&self.name).await?
            && docker.is_here().await?
            && is_reachable(&volume)
        {
            findings.users = self.users(&docker, &volume).await?;
        }
        Ok(findings)
    }

    async fn plan_staging(&self) -> Result<Note> {
        let docker = self.docker().await?;
        let volume = docker.volume(&self.name).await?;
        let upload = match (&volume, &self.from) {
            (None, Some((_, record))) => self.is_elsewhere(&docker, &facts_of(record, &self.of)?).await?,
            _ => false,
        };
        let root = volume.as_ref().map(|v| v.mountpoint.clone());
        let inner = root
            .as_ref()
            .is_some_and(|root| holders::is_mount_point(root) || !root.parent().is_some_and(exchange::is_possible));
        Ok(json!(Staging {
            volume: self.name.clone(),
            missing: volume.is_none(),
            root,
            inner,
            upload,
            files: 0,
            dirs: 0,
            links: 0,
            other: 0,
            bytes: 0,
            left_out: Vec::new(),
        }))
    }

    async fn stage(&self, staging: &Note) -> Result<Note> {
        let mut staging: Staging = parse(staging)?;
        let (reader, record) = self.record()?;
        let docker = self.docker().await?;
        let volume = match docker.volume(&self.name).await? {
            Some(volume) => volume,
            None => self.make(&docker, record).await?,
        };
        if staging.missing && !self.is_ours(&volume) {
            return Err(Error::new(Kind::Restore, format!("somebody made volume {} meanwhile", self.name))
                .hint("Restore again; it is then replaced like any other."));
        }
        if staging.upload {
            upload::fill(&docker, &volume, reader, artifact_of(record, &self.of)?, &mut staging).await?;
            return Ok(json!(staging));
        }
        let root = volume.mountpoint.clone();
        let directory = self.staged_at(&root, staging.inner);
        // Left by an interrupted run of this very restore; the name is ours.
        removal::tree_if_there(&directory)?;
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&directory)
            .map_err(|e| Error::io("the staging directory cannot be made", &directory, e).kind(Kind::Restore))?;
        let restored = tree::write_root(reader, artifact_of(record, &self.of)?, &directory).await?;
        let parent = directory.parent().unwrap_or(&directory);
        std::fs::File::open(parent)
            .and_then(|d| d.sync_all())
            .map_err(|e| Error::io("what was staged cannot be synced", parent, e).kind(Kind::Restore))?;
        (staging.files, staging.dirs, staging.links) = (restored.files, restored.dirs, restored.links);
        (staging.other, staging.bytes) = (restored.other, restored.bytes);
        staging.left_out = restored.left_out.into_iter().map(|(what, n)| (what.to_string(), n)).collect();
        staging.root = Some(root);
        Ok(json!(staging))
    }

    async fn verify(&self, staged: &Note) -> Result<Vec<Compared>> {
        let staging: Staging = parse(staged)?;
        let found = if staging.upload {
            upload::count(&self.docker().await?, &self.name).await?
        } else {
            let root = staging.root.clone().unwrap_or_default();
            let directory = self.staged_at(&root, staging.inner);
            let counting = tokio::task::spawn_blocking(move || count::count(&directory));
            counting.await.map_err(Error::panicked("counting"))??
        };
        let line = |what: &str, expected: u64, found: u64| Compared {
            what: format!("{what} of volume {}", self.name),
            expected: size::count(expected),
            found: size::count(found),
            good: expected == found,
        };
        Ok(vec![
            line("files", staging.files, found.files),
            line("directories", staging.dirs, found.dirs),
            line("links", staging.links, found.links),
            line("devices and pipes", staging.other, found.other),
            line("bytes", staging.bytes, found.bytes),
        ])
    }

    async fn unstage(&self, staging: &Note) -> Result<()> {
        let staging: Staging = parse(staging)?;
        if let Some(root) = &staging.root {
            removal::tree_if_there(&self.staged_at(root, staging.inner))?;
        }
        if !staging.missing {
            return Ok(());
        }
        let docker = self.docker().await?;
        match docker.volume(&self.name).await? {
            // Of another driver, what is behind it may go with it, and need not be ours.
            Some(volume) if self.is_ours(&volume) && volume.driver == "local" => docker.remove_volume(&self.name).await,
            _ => Ok(()),
        }
    }

    async fn plan_swap(&self, staged: &Note) -> Result<Note> {
        let staging: Staging = parse(staged)?;
        let root = staging.root.clone().unwrap_or_default();
        let place = match staging.upload {
            true => None,
            false => {
                let excludes = self.excludes_at(&root)?;
                let staged = self.staged_at(&root, staging.inner);
                Some(Placing::plan(&root, &staged, staging.inner, self.id.as_str(), Some(&excludes))?)
            }
        };
        Ok(json!(Swapping { volume: self.name.clone(), missing: staging.missing, place }))
    }

    async fn swap(&self, swap: &Note) -> Result<()> {
        let swapping: Swapping = parse(swap)?;
        let Some(place) = &swapping.place else { return Ok(()) };
        if !place.is_begun()? {
            // Whoever runs now would go on with what was there, and write into what is kept.
            let docker = self.docker().await?;
            let volume = docker.volume(&self.name).await?;
            let volume = volume.ok_or_else(|| Error::new(Kind::Restore, format!("volume {} is gone", self.name)))?;
            let users = self.users(&docker, &volume).await?;
            if !users.is_empty() {
                return Err(in_use(&self.label(), &users).kind(Kind::Restore));
            }
        }
        place.swap()
    }

    async fn unswap(&self, swap: &Note) -> Result<()> {
        parse::<Swapping>(swap)?.place.map_or(Ok(()), |place| place.unswap())
    }

    async fn previous(&self, swap: &Note) -> Result<Vec<Previous>> {
        let swapping: Swapping = parse(swap)?;
        let Some(path) = swapping.place.as_ref().map(Placing::previous).transpose()?.flatten() else {
            return Ok(Vec::new());
        };
        // A volume that was made for this restore was empty before.
        let nothing = swapping.missing;
        Ok(if nothing { Vec::new() } else { vec![Previous { name: path.display().to_string(), bytes: None }] })
    }

    fn staged_as(&self, staged: &Note) -> Result<StagedAs> {
        let staging: Staging = parse(staged)?;
        let paths = staging.root.iter().map(|root| (root.clone(), self.staged_at(root, staging.inner))).collect();
        Ok(StagedAs { paths, ..StagedAs::default() })
    }

    fn unstage_by_hand(&self, staging: &Note) -> Vec<String> {
        let Ok(staging) = parse::<Staging>(staging) else { return Vec::new() };
        let removal = staging.root.iter().map(|root| by_hand::remove(&self.staged_at(root, staging.inner)));
        let made = staging.missing.then(|| format!("docker volume rm {}   # if this restore made it", self.name));
        removal.chain(made).collect()
    }

    fn unswap_by_hand(&self, swap: &Note) -> Vec<String> {
        parse::<Swapping>(swap).ok().and_then(|s| s.place).map(|place| place.by_hand()).unwrap_or_default()
    }

    async fn drop_previous(&self, swap: &Note) -> Result<()> {
        parse::<Swapping>(swap)?.place.map_or(Ok(()), |place| place.drop_previous())
    }
}

/// The refusal to swap something from under those who use it.
pub fn in_use(what: &str, users: &[String]) -> Error {
    let mut stop: Vec<String> = users
        .iter()
        .map(|u| match u.split_once(':') {
            Some(("container", name)) => format!("docker stop {name}"),
            Some(("service", name)) => format!("docker service scale {name}=0"),
            _ => format!("end {u}"),
        })
        .collect();
    stop.dedup();
    Error::new(Kind::Refused, format!("{what} is in use by {}", users.join(", ")))
        .because("whoever uses it would keep what was there before, and write into it")
        .hint(format!("Stop them first ({}), or restore beside it with --to.", stop.join("; ")))
}
