//! A cluster of this host: where its files are, whose they are, and who stops and starts it.
//!
//! A server is asked over its protocol mostly. Where it is to be stopped, copied or made anew, its files count. [`debian`]
//! knows the clusters of Debian's packages, [`pgctl`] runs those that nobody else looks after.

pub mod debian;
pub mod pgctl;

use super::PostgresSource;
use crate::error::{Error, Kind, Result};
use crate::host::docker::Docker;
use crate::host::docker::lifecycle::Meant;
use crate::host::exec::{Place, Program};
use crate::host::processes;
use crate::host::service::{Contained, Service, Unit};
use pgctl::PgCtl;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Where distributions put the programs of each major version.
const BY_VERSION: &str = "/usr/lib/postgresql";
/// How long a process may linger after its service has stopped.
const LINGER: Duration = Duration::from_secs(60);
/// How long a started server may take until it answers: it recovers first what a crash left.
const TO_ANSWER: Duration = Duration::from_secs(600);
/// How often one looks.
const PAUSE: Duration = Duration::from_millis(200);
/// How long the programs may take to say what the settings are.
const TO_TELL: Duration = Duration::from_secs(30);

/// A cluster of this host.
#[derive(Clone)]
pub struct Cluster {
    /// The data directory as this host sees it. It need not be there any more.
    pub data: PathBuf,
    /// Major version, when anything tells.
    pub major: Option<u32>,
    /// The user of the operating system to whom the files belong.
    pub owner: Owner,
    /// Who stops and starts it.
    pub service: Arc<dyn Service>,
    /// The directory of its settings.
    settings: PathBuf,
    /// True when that is the data directory, and not one in `/etc`.
    pub settings_inside: bool,
}

/// A user of the operating system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Number.
    pub uid: u32,
    /// Number of the group.
    pub gid: u32,
    /// Name; nothing when that is ourselves.
    pub name: Option<String>,
}

impl Owner {
    /// Who owns a path.
    ///
    /// # Errors
    /// [`Kind::Refused`] when it cannot be looked at.
    pub async fn of(path: &Path) -> Result<Self> {
        let meta = std::fs::metadata(path)
            .map_err(|e| Error::io("a directory of the server cannot be looked at", path, e).kind(Kind::Refused))?;
        let (uid, gid) = (meta.uid(), meta.gid());
        if uid == rustix::process::geteuid().as_raw() {
            return Ok(Owner { uid, gid, name: None });
        }
        // In a container's volume it may be a number that nobody has here; then nothing can run as that user.
        let line = Program::new("getent", ["passwd".to_owned(), uid.to_string()]).output().await.unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        let name =
            line.split(':').next().filter(|name| !name.is_empty()).map_or_else(|| uid.to_string(), str::to_owned);
        Ok(Owner { uid, gid, name: Some(name) })
    }

    /// Whether an agent with this number may do with the files whatever their owner may.
    fn lets(&self, agent: u32) -> bool {
        agent == 0 || agent == self.uid
    }

    /// Where programs run as this user.
    pub fn place(&self) -> Place {
        self.name.clone().map_or(Place::Host, Place::User)
    }
}

/// Where the programs of a major version are.
///
/// # Errors
/// [`Kind::Refused`] with the package to install.
pub fn programs(major: u32) -> Result<PathBuf> {
    let bin = Path::new(BY_VERSION).join(major.to_string()).join("bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let has_them = |dir: &PathBuf| dir.join("initdb").exists() && dir.join("postgres").exists();
    std::iter::once(bin.clone()).chain(std::env::split_paths(&path)).find(has_them).ok_or_else(|| {
        Error::new(Kind::Refused, format!("the server programs of PostgreSQL {major} are not installed"))
            .at(bin.display())
            .hint(format!("Install the package postgresql-{major}."))
    })
}

impl PostgresSource {
    /// The cluster, when it is of this host. Of one that is gone nothing may tell the major version; then it is this.
    ///
    /// # Errors
    /// [`Kind::Refused`] when it is not, or when nothing tells where its files are.
    pub async fn cluster(&self, otherwise: Option<u32>) -> Result<Cluster> {
        let (data, major) = self.found().await?;
        self.cluster_at(&data, major.or(otherwise)).await
    }

    /// Its data directory as this host sees it: two sources with one directory are of one server, whatever their urls say.
    ///
    /// # Errors
    /// As [`PostgresSource::cluster`].
    pub async fn directory(&self) -> Result<PathBuf> {
        Ok(self.found().await?.0)
    }

    /// Refuses work on the server's files by an agent that is neither root nor their owner: it would fail when the
    /// server is stopped already.
    ///
    /// # Errors
    /// [`Kind::Refused`] with the directory and its owner, and as [`PostgresSource::cluster`].
    pub async fn may_handle_files(&self) -> Result<()> {
        let data = self.directory().await?;
        let (owner, agent) = (owner_of(&data).await?, rustix::process::geteuid().as_raw());
        if owner.lets(agent) {
            return Ok(());
        }
        let name = owner.name.unwrap_or_else(|| owner.uid.to_string());
        Err(Error::new(Kind::Refused, "the agent is neither root nor the owner of the server's files")
            .at(data.display())
            .because(format!("they belong to {name}, and the agent runs as the user with the number {agent}"))
            .hint(format!("Run it as root, or as {name}.")))
    }

    async fn found(&self) -> Result<(PathBuf, Option<u32>)> {
        let (data, major) = match self.address.container() {
            Some(reference) => (self.in_container(reference).await?, None),
            None => self.on_this_host().await?,
        };
        Ok((real(&data), major))
    }

    /// The cluster whose data directory is known, running or not.
    ///
    /// # Errors
    /// [`Kind::Refused`] when it is not known who stops and starts it.
    pub async fn cluster_at(&self, data: &Path, major: Option<u32>) -> Result<Cluster> {
        let (owner, major) = (owner_of(data).await?, version(data).or(major));
        let debian = match self.address.container() {
            Some(_) => None,
            None => debian::find(debian::clusters().await?, |d| real(&d.data) == data)?,
        };
        let settings_inside = debian.is_none();
        let settings = debian.as_ref().map_or_else(|| data.to_owned(), debian::Debian::settings);
        let service: Arc<dyn Service> = match (self.address.container(), &self.unit, debian) {
            (Some(reference), ..) => {
                Arc::new(Contained { docker: Docker::connect().await?, reference: reference.to_owned() })
            }
            (None, Some(unit), _) => Arc::new(Unit(unit.clone())),
            (None, None, Some(debian)) => Arc::new(debian),
            (None, None, None) => {
                let none =
                    || Error::new(Kind::Refused, "the directory holds no cluster of PostgreSQL").at(data.display());
                let log = data.with_file_name(format!("{}.log", name_of(data)));
                let bin = programs(major.ok_or_else(none)?)?;
                Arc::new(PgCtl { bin, dir: data.to_owned(), place: owner.place(), log })
            }
        };
        Ok(Cluster { data: data.to_owned(), major, owner, service, settings, settings_inside })
    }

    /// Whether the server runs, as far as it is known who looks after it.
    pub async fn runs(&self) -> bool {
        let running = async {
            match (self.address.container(), &self.unit) {
                (Some(reference), _) => {
                    Contained { docker: Docker::connect().await?, reference: reference.to_owned() }.is_running().await
                }
                (None, Some(unit)) => Unit(unit.clone()).is_running().await,
                (None, None) => self.cluster(None).await?.service.is_running().await,
            }
        };
        running.await.unwrap_or(false)
    }

    async fn in_container(&self, reference: &str) -> Result<PathBuf> {
        if let Some(data) = &self.data_dir {
            return Ok(data.clone());
        }
        let docker = Docker::connect().await?;
        let container = match docker.meant(reference).await? {
            Meant::Container(container) => *container,
            Meant::Service(service) => docker.find(&service).await?,
        };
        let inside = self.told_directory().await?;
        container.on_host(&inside).ok_or_else(|| {
            Error::new(Kind::Refused, format!("the data directory {inside} of {} is on no volume", container.label()))
                .hint("What is in the container itself is lost when it is made anew. Mount a volume there.")
        })
    }

    /// The data directory, and the major version when Debian's packages know it.
    async fn on_this_host(&self) -> Result<(PathBuf, Option<u32>)> {
        if !self.address.is_local() {
            return Err(Error::new(Kind::Refused, "the server is not on this host, and its files are needed for this")
                .at(self.address.host())
                .hint("Run the agent on the server's own host, and name its socket or localhost in `url`."));
        }
        let debian = debian::find(debian::clusters().await?, |d| match &self.data_dir {
            Some(data) => real(&d.data) == real(data),
            None => d.port == self.address.port(),
        })?;
        let major = debian.as_ref().map(|d| d.major);
        let data = match (&self.data_dir, debian) {
            (Some(data), _) => data.clone(),
            (None, Some(debian)) => debian.data,
            (None, None) => PathBuf::from(self.told_directory().await.map_err(|e| {
                Error::new(Kind::Refused, "nothing tells where the files of the server are")
                    .at(self.address.host())
                    .because(e.one_line())
                    .hint(
                        "Set `data_dir` of the source, and `unit` when systemd runs the server. A cluster of Debian's \
                         packages is found by its port.",
                    )
            })?),
        };
        Ok((data, major))
    }

    /// What a running server says.
    ///
    /// # Errors
    /// When it cannot be asked, or does not tell it to this role.
    pub async fn told_directory(&self) -> Result<String> {
        let admin = self.address.reach().await?.admin().await?;
        let told = admin.rows("setting", "FROM pg_settings WHERE name = 'data_directory'").await;
        let told = told.map_err(|e| e.says("the server does not tell its data directory"))?;
        told.first().map(|r| r.text(0)).filter(|d| !d.is_empty()).ok_or_else(|| {
            Error::new(Kind::Refused, "the server does not tell its data directory to this role")
                .hint("Set `data_dir` of the source, or name a superuser in its url.")
        })
    }

    /// Starts the server and waits until it answers, when a stop that somebody has given up half-way has ended: such a stop
    /// goes on by itself, and until its end the server looks as if it ran. Nobody can tell a server that will stop from one
    /// that runs on, so it is stopped for good first; one that cannot be stopped need only answer.
    ///
    /// # Errors
    /// [`Kind::Restore`] when it does not start, or does not answer.
    pub async fn started_anew(&self, cluster: &Cluster) -> Result<()> {
        let stopped = cluster.stopped().await;
        let started = async {
            cluster.service.start().await?;
            self.answering(&*cluster.service).await
        };
        started.await.map_err(|e| match stopped {
            Ok(()) => e,
            Err(before) => {
                e.do_instead(format!("Its log says why. Before that it could not be stopped: {}", before.one_line()))
            }
        })
    }

    /// Waits until the server answers questions.
    ///
    /// # Errors
    /// What it said last when the time is over, or when its service has ended.
    pub async fn answering(&self, service: &dyn Service) -> Result<()> {
        let started = Instant::now();
        loop {
            let tried = match self.address.reach().await {
                Ok(server) => server.admin().await.map(drop),
                Err(e) => Err(e),
            };
            let Err(e) = tried else { return Ok(()) };
            // It answers, and time will not change what.
            let said = e.one_line();
            let refuses = ["authentication failed", "pg_hba.conf", "does not exist"].iter().any(|w| said.contains(w));
            let ended = started.elapsed() > LINGER && !service.is_running().await?;
            if refuses || ended || started.elapsed() > TO_ANSWER {
                return Err(Error::new(Kind::Restore, "the server was started and does not let us in")
                    .at(service.label())
                    .because(said)
                    .hint("Its log says why."));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// The data directory's owner; of one that is gone, that of the nearest directory above it.
async fn owner_of(data: &Path) -> Result<Owner> {
    let there = data.ancestors().find(|p| p.is_dir()).unwrap_or(Path::new("/"));
    if there == data {
        return Owner::of(there).await;
    }
    match crate::host::user::find("postgres").await {
        Ok(user) => {
            let ours = user.uid == rustix::process::geteuid().as_raw();
            Ok(Owner { uid: user.uid, gid: user.gid, name: (!ours).then_some(user.name) })
        }
        Err(_) => Owner::of(there).await,
    }
}

/// The major version that a data directory says it is of.
pub fn version(data: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(data.join("PG_VERSION")).ok()?;
    text.trim().split('.').next()?.parse().ok()
}

/// A path without links on the way, also when what it names is not there.
pub fn real(path: &Path) -> PathBuf {
    match (path.canonicalize(), path.parent(), path.file_name()) {
        (Ok(real), ..) => real,
        (Err(_), Some(parent), Some(name)) => real(parent).join(name),
        _ => path.to_owned(),
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

impl Cluster {
    /// Processes of a server that works in its directory, in a container too. Only root sees those of others.
    pub fn processes(&self) -> Vec<u32> {
        processes::named_in(&self.data, "postgres")
    }

    /// What its settings say of one, as far as they can be read while no server runs; nothing when that is empty.
    pub async fn setting(&self, name: &str) -> Option<String> {
        let settings = self.settings.display().to_string();
        let postgres = programs(self.major?).ok()?.join("postgres");
        let asked = Program::new(postgres, ["-D", settings.as_str(), "-C", name]).at(self.owner.place());
        let told = tokio::time::timeout(TO_TELL, asked.output()).await.ok()?.ok()?;
        Some(String::from_utf8_lossy(&told).trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// Stops the server and waits until its last process is gone.
    ///
    /// # Errors
    /// [`Kind::Restore`] when something goes on in the directory.
    pub async fn stopped(&self) -> Result<()> {
        self.service.stop().await?;
        let started = Instant::now();
        loop {
            let left = self.processes();
            let Some(first) = left.first() else { return Ok(()) };
            if started.elapsed() > LINGER {
                return Err(Error::new(Kind::Restore, "the server was stopped and still runs")
                    .at(self.data.display())
                    .because(format!("process {first}"))
                    .hint("Something else starts it; find out what, and correct `unit` or `container`."));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_and_the_owner_handle_the_files_of_a_server() {
        let owner = Owner { uid: 113, gid: 120, name: Some("postgres".to_owned()) };
        assert_eq!([0, 113, 1000, 120].map(|agent| owner.lets(agent)), [true, true, false, false]);
    }
}
