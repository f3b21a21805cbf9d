//! What this machine is made of, as far as a fresh one has to become like it.
//!
//! The same is asked at a backup, where it becomes a fact, and on a machine that is to take over, where it is compared.
//! What cannot be found out is named with its reason and fails nothing: half of an inventory is better than none.

pub mod accounts;
pub mod clusters;
pub mod disks;
pub mod packages;
pub mod ports;
pub mod system;
pub mod units;

use super::exec::Program;
use crate::error::{Error, Kind, Result};
use accounts::Accounts;
use clusters::Cluster;
use disks::Disks;
use packages::Packages;
use ports::Port;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use system::System;
use units::Units;

/// How long a program that is asked may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What its clusters are called where they could not be found out.
const CLUSTERS: &str = "PostgreSQL clusters";

/// A machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Inventory {
    /// Operating system, kernel, time zone, locale.
    pub system: System,
    /// Processors, memory, disks and what is mounted.
    pub disks: Disks,
    /// Installed packages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packages: Option<Packages>,
    /// Units of systemd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub units: Option<Units>,
    /// Users and groups.
    pub accounts: Accounts,
    /// What listens.
    pub ports: Vec<Port>,
    /// PostgreSQL clusters, as Debian manages them.
    pub postgres_clusters: Vec<Cluster>,
    /// What could not be found out, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
}

impl Inventory {
    /// Looks at this machine.
    pub async fn take() -> Self {
        let (packages, units, postgres_clusters) = tokio::join!(packages::read(), units::read(), clusters::read());
        let mut unknown = Vec::new();
        Inventory {
            system: system::read(),
            disks: disks::read(),
            packages: known(packages, "packages", &mut unknown).flatten(),
            units: known(units, "units", &mut unknown).flatten(),
            accounts: known(accounts::read(), "accounts", &mut unknown).unwrap_or_default(),
            ports: ports::read(),
            postgres_clusters: known(postgres_clusters, CLUSTERS, &mut unknown).unwrap_or_default(),
            unknown,
        }
    }

    /// Why nobody knows which PostgreSQL clusters there are, or whose one of them is; `None` when it is known.
    pub fn why_no_clusters(&self) -> Option<String> {
        let unknown = self.unknown.iter().find(|what| what.starts_with(CLUSTERS)).cloned();
        unknown.or_else(|| self.postgres_clusters.iter().find_map(|c| Some(c.owned().err()?.one_line())))
    }

    /// The PostgreSQL clusters, for those who make or remove some: what is not known is not taken for none.
    ///
    /// # Errors
    /// [`Kind::Restore`] when it is not known which there are, or whose one of them is.
    pub fn known_clusters(&self) -> Result<&[Cluster]> {
        match self.why_no_clusters() {
            None => Ok(&self.postgres_clusters),
            Some(why) => {
                Err(Error::new(Kind::Restore, "it is not known which PostgreSQL clusters are on this machine")
                    .because(why)
                    .hint("See what `pg_lsclusters` prints, put it in order, and run the same command again."))
            }
        }
    }
}

fn known<T>(found: Result<T>, what: &str, unknown: &mut Vec<String>) -> Option<T> {
    found.map_err(|e| unknown.push(format!("{what}: {}", e.one_line()))).ok()
}

/// What a program prints, in UTF-8.
async fn told(program: &str, args: &[&str]) -> Result<String> {
    Ok(String::from_utf8_lossy(&output(program, args).await?).into_owned())
}

/// What a program prints.
async fn output(program: &str, args: &[&str]) -> Result<Vec<u8>> {
    let program = Program::new(program, args.iter().copied());
    tokio::time::timeout(PATIENCE, program.output()).await.map_err(|_| {
        Error::new(
            Kind::Source,
            format!("{} did not end within {} seconds", program.path.display(), PATIENCE.as_secs()),
        )
    })?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_that_are_not_known_are_not_taken_for_none() {
        let cluster = |owner: &str| Cluster { name: "main".to_owned(), owner: owner.to_owned(), ..Cluster::default() };
        let mut here = Inventory { postgres_clusters: vec![cluster("postgres")], ..Inventory::default() };
        assert_eq!(here.known_clusters().unwrap(), [cluster("postgres")]);
        // One that belongs to nobody.
        here.postgres_clusters.push(cluster(""));
        assert_eq!(here.known_clusters().unwrap_err().kind, Kind::Restore);
        assert!(here.why_no_clusters().unwrap().contains("/main belongs to a user who is not here"));
        // A list that cannot be read.
        let unread: Result<Vec<Cluster>> = clusters::listed(b"nonsense");
        here.postgres_clusters = known(unread, CLUSTERS, &mut here.unknown).unwrap_or_default();
        assert!(here.postgres_clusters.is_empty() && here.known_clusters().is_err());
    }
}
