//! Clusters of Debian's packages: `pg_lsclusters` lists them, `pg_ctlcluster` stops and starts them, through systemd where
//! there is one.

use crate::error::{Error, Kind, Result};
use crate::host::exec::Program;
use crate::host::inventory::clusters::{Cluster, listed};
use crate::host::service::Service;
use async_trait::async_trait;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a stop or a start may take: a start recovers what a crash left.
const LIMIT: Duration = Duration::from_secs(900);
/// How often the list is asked for, and the pause between.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(500);
/// Exit status of `pg_ctlcluster … status` for one that does not run.
const DOWN: i64 = 3;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Debian {
    /// Major version.
    pub major: u32,
    /// Name, `main` mostly.
    pub name: String,
    /// Port.
    pub port: u16,
    /// The data directory; it need not be there.
    pub data: PathBuf,
}

/// Those that are configured on this host. None where the tool is not installed.
///
/// # Errors
/// When the tool fails.
pub async fn clusters() -> Result<Vec<Cluster>> {
    let installed = |dir: PathBuf| dir.join("pg_lsclusters").exists();
    if !std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(installed)) {
        return Ok(Vec::new());
    }
    let mut tries = 0;
    loop {
        tries += 1;
        match Program::new("pg_lsclusters", [] as [&str; 0]).output().await {
            Ok(out) => return listed(&out),
            // It tells none when one is half there: somebody makes it or drops it right now.
            Err(_) if tries < TRIES => tokio::time::sleep(PAUSE).await,
            Err(e) => return Err(e),
        }
    }
}

/// The one of them that is meant.
///
/// # Errors
/// [`Kind::Refused`] when that very one belongs to nobody, so that it can neither be stopped nor started.
pub fn find(clusters: Vec<Cluster>, is_meant: impl Fn(&Debian) -> bool) -> Result<Option<Debian>> {
    for cluster in clusters {
        let owned = cluster.owned();
        if let Some(debian) = Debian::of(cluster).filter(&is_meant) {
            return owned.map(|()| Some(debian));
        }
    }
    Ok(None)
}

impl Debian {
    /// One of the list. Before version 10 a major had two numbers.
    fn of(listed: Cluster) -> Option<Debian> {
        let major = listed.version.parse().ok()?;
        Some(Debian { major, name: listed.name, port: listed.port, data: listed.data_directory.into() })
    }

    /// Where its settings are.
    pub fn settings(&self) -> PathBuf {
        Path::new("/etc/postgresql").join(self.major.to_string()).join(&self.name)
    }

    fn program(&self, action: &[&str]) -> Program {
        let major = self.major.to_string();
        Program::new("pg_ctlcluster", [major.as_str(), self.name.as_str()].iter().chain(action).copied())
    }

    async fn run(&self, action: &[&str]) -> Result<()> {
        let done = async { self.program(action).alone().await?.finish(Kind::Restore).await };
        match tokio::time::timeout(LIMIT, done).await {
            Ok(done) => done
                .map(drop)
                .map_err(|e| e.kind(Kind::Restore).at(self.label()).hint("Its log, in /var/log/postgresql, says why.")),
            Err(_) => Err(Error::new(Kind::Restore, format!("pg_ctlcluster {} does not end", action[0]))
                .at(self.label())
                .because(format!("it was waited for {} seconds", LIMIT.as_secs()))),
        }
    }
}

#[async_trait]
impl Service for Debian {
    fn label(&self) -> String {
        format!("cluster {} {}", self.major, self.name)
    }

    async fn is_running(&self) -> Result<bool> {
        let ended = self.program(&["status"]).alone().await?.ended(Kind::Restore).await?;
        match ended.code {
            Some(0) => Ok(true),
            Some(DOWN) => Ok(false),
            // A data directory that is damaged, or gone, is nobody's.
            _ if !self.data.join("postmaster.pid").exists() => Ok(false),
            _ => Err(Error::new(Kind::Restore, "it cannot be told whether the cluster runs")
                .at(self.label())
                .because(format!("{}: {}", ended.how, ended.stderr.join("\n")))),
        }
    }

    async fn stop(&self) -> Result<()> {
        if !self.is_running().await? {
            return Ok(());
        }
        self.run(&["stop", "-m", "fast"]).await
    }

    async fn start(&self) -> Result<()> {
        if self.is_running().await? {
            return Ok(());
        }
        self.run(&["start"]).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_that_belongs_to_nobody_is_refused_by_name_and_hides_no_other() {
        let cluster = |name: &str, port, owner: &str| Cluster {
            version: "15".to_owned(),
            name: name.to_owned(),
            port,
            owner: owner.to_owned(),
            data_directory: format!("/srv/{name}"),
            ..Cluster::default()
        };
        let all = || vec![cluster("old", 5433, ""), cluster("main", 5432, "postgres")];
        let found = find(all(), |d| d.port == 5432).unwrap().unwrap();
        assert_eq!((found.name.as_str(), found.data.as_path()), ("main", Path::new("/srv/main")));
        assert_eq!(find(all(), |d| d.port == 5434).unwrap(), None);
        let by_port: fn(&Debian) -> bool = |d| d.port == 5433;
        let by_data: fn(&Debian) -> bool = |d| d.data == Path::new("/srv/old");
        for is_meant in [by_port, by_data] {
            let refused = find(all(), is_meant).unwrap_err();
            assert!(refused.kind == Kind::Refused && refused.one_line().contains("cluster 15/old"), "{refused}");
        }
    }
}
