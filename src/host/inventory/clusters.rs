//! PostgreSQL clusters as Debian's tools manage them: several versions and names on one machine.

use super::told;
use crate::error::Result;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cluster {
    /// Major version: `15`.
    pub version: String,
    /// `main`.
    pub name: String,
    /// Port.
    pub port: u16,
    /// `online`, `down`, and words after a comma.
    pub status: String,
    /// Who runs it.
    pub owner: String,
    /// Its data directory.
    pub data_directory: String,
}

/// Empty where there is none.
pub(super) async fn read() -> Result<Vec<Cluster>> {
    let any = std::fs::read_dir("/etc/postgresql").is_ok_and(|mut entries| entries.next().is_some());
    if !any || !Path::new("/usr/bin/pg_lsclusters").exists() {
        return Ok(Vec::new());
    }
    Ok(parse(&told("pg_lsclusters", &["--no-header"]).await?))
}

/// Version, name, port, status, owner and data directory in a line of `pg_lsclusters --no-header`. The data directory may have
/// spaces; the log, which is the last column, is named by the tools and has none.
pub fn columns(line: &str) -> Option<[&str; 6]> {
    let mut rest = line.trim();
    let mut next = || {
        let (field, more) = rest.split_once(char::is_whitespace)?;
        rest = more.trim_start();
        Some(field)
    };
    let [version, name, port, status, owner] = [next()?, next()?, next()?, next()?, next()?];
    let (data, _log) = rest.rsplit_once(char::is_whitespace)?;
    Some([version, name, port, status, owner, data.trim_end()])
}

fn parse(listed: &str) -> Vec<Cluster> {
    let cluster = |line: &str| {
        let [version, name, port, status, owner, data_directory] = columns(line)?;
        Some(Cluster {
            version: version.to_owned(),
            name: name.to_owned(),
            port: port.parse().ok()?,
            status: status.to_owned(),
            owner: owner.to_owned(),
            data_directory: data_directory.to_owned(),
        })
    };
    listed.lines().filter_map(cluster).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_are_read_from_their_list() {
        let found = parse(
            "15  main    5432 online,recovery postgres /var/lib/postgresql/15/main /var/log/postgresql/postgresql-15-main.log\n\n",
        );
        assert_eq!((found[0].version.as_str(), found[0].name.as_str(), found[0].port), ("15", "main", 5432));
        assert_eq!(found[0].data_directory, "/var/lib/postgresql/15/main");
        let found = parse(
            "9.6 a-b     5433 down   postgres /srv/my  data/9.6       /var/log/postgresql/postgresql-9.6-a-b.log\n",
        );
        assert_eq!((found[0].owner.as_str(), found[0].data_directory.as_str()), ("postgres", "/srv/my  data/9.6"));
        assert_eq!(parse("15 main 5432\n"), []);
    }
}
