//! Which PostgreSQL clusters a machine is to get: those that ran, of their majors where these can be had.

use crate::error::{Error, Kind, Result};
use crate::host::inventory::clusters::Cluster;

/// A cluster that is to be here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// As it was.
    pub then: Cluster,
    /// The major that it gets here.
    pub version: String,
    /// It is here, made by the installation of its package.
    pub exists: bool,
}

impl Wanted {
    /// Whether its settings fit: those of another major need not.
    pub fn takes_settings(&self) -> bool {
        self.version == self.then.version
    }
}

/// What is to be made of the clusters of the lost machine, given those that are here and the majors whose server is
/// installed. With remarks.
///
/// # Errors
/// [`Kind::Refused`] when no server is installed that could take a cluster.
pub fn plan(then: &[Cluster], here: &[Cluster], majors: &[u32]) -> Result<(Vec<Wanted>, Vec<String>)> {
    let (mut wanted, mut notes) = (Vec::new(), Vec::new());
    for cluster in then {
        let name = format!("{}/{}", cluster.version, cluster.name);
        if cluster.status.contains("recovery") {
            notes.push(format!(
                "cluster {name} was a standby of another server and is not made: set it up from its primary"
            ));
            continue;
        }
        if !cluster.status.starts_with("online") {
            notes.push(format!("cluster {name} did not run and is not made"));
            continue;
        }
        let major: u32 = cluster.version.parse().unwrap_or_default();
        let newer = majors.iter().filter(|m| **m > major).max();
        let version = match (majors.contains(&major), newer) {
            (true, _) => cluster.version.clone(),
            (false, Some(newer)) => {
                notes.push(format!(
                    "cluster {name} becomes {newer}/{}, since PostgreSQL {major} is not here: its settings are those of a new cluster",
                    cluster.name
                ));
                newer.to_string()
            }
            (false, None) => {
                return Err(Error::new(
                    Kind::Refused,
                    format!("cluster {name} cannot be made: PostgreSQL {major} or newer is not installed here"),
                )
                .hint(format!("Run the same command with --install, or install postgresql-{major} first; nothing was restored yet.")));
            }
        };
        let exists = here.iter().any(|c| c.version == version && c.name == cluster.name);
        wanted.push(Wanted { then: cluster.clone(), version, exists });
    }
    // Those that are here get their port first, so that it is free for the others.
    wanted.sort_by_key(|w| !w.exists);
    Ok((wanted, notes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(version: &str, name: &str, port: u16, status: &str) -> Cluster {
        Cluster { version: version.into(), name: name.into(), port, status: status.into(), ..Cluster::default() }
    }

    #[test]
    fn a_cluster_keeps_its_major_where_it_can_be_had() {
        let then = [cluster("15", "erp", 5432, "online"), cluster("15", "main", 5433, "online")];
        let here = [cluster("15", "main", 5432, "down")];
        let (wanted, notes) = plan(&then, &here, &[15, 17]).unwrap();
        let told: Vec<(&str, &str, bool)> =
            wanted.iter().map(|w| (w.version.as_str(), w.then.name.as_str(), w.exists)).collect();
        assert_eq!(told, [("15", "main", true), ("15", "erp", false)]);
        assert!(wanted.iter().all(Wanted::takes_settings) && notes.is_empty());
    }

    #[test]
    fn on_a_newer_release_it_gets_the_newer_major_and_never_an_older_one() {
        let then = [cluster("15", "main", 5432, "online")];
        let (wanted, notes) = plan(&then, &[cluster("17", "main", 5432, "down")], &[17]).unwrap();
        assert!(wanted[0].version == "17" && wanted[0].exists && !wanted[0].takes_settings());
        assert!(notes[0].contains("17/main"));
        assert_eq!(plan(&then, &[], &[13]).unwrap_err().kind, Kind::Refused);
        assert_eq!(plan(&then, &[], &[]).unwrap_err().kind, Kind::Refused);
    }

    #[test]
    fn standbys_and_clusters_that_did_not_run_are_told() {
        let then = [cluster("15", "standby", 5432, "online,recovery"), cluster("15", "old", 5433, "down")];
        let (wanted, notes) = plan(&then, &[], &[]).unwrap();
        assert!(wanted.is_empty());
        assert_eq!(notes.len(), 2);
    }
}
