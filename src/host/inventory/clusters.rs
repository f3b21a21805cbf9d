//! PostgreSQL clusters as Debian's tools manage them: several versions and names on one machine.

use super::output;
use crate::error::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What lists them.
const LIST: &str = "/usr/bin/pg_lsclusters";
/// The heads of its columns. The last one is not of interest, but where it begins.
const HEADS: [&str; 7] = ["Ver", "Cluster", "Port", "Status", "Owner", "Data directory", "Log file"];

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
    /// Who runs it. Empty when nobody has the number of the data directory's owner.
    pub owner: String,
    /// Its data directory.
    pub data_directory: String,
}

impl Cluster {
    /// Whether somebody can stop and start it.
    ///
    /// # Errors
    /// [`Kind::Refused`] when its data directory belongs to nobody.
    pub fn owned(&self) -> Result<()> {
        if !self.owner.is_empty() {
            return Ok(());
        }
        Err(Error::new(
            Kind::Refused,
            format!("the data directory of cluster {}/{} belongs to a user who is not here", self.version, self.name),
        )
        .at(&self.data_directory)
        .because("`pg_lsclusters` prints no name of its owner, and `pg_ctlcluster` neither stops nor starts it so")
        .hint("Give the directory back to the user who runs the server, by `chown -R`, or make the missing user."))
    }
}

/// Empty where there is none.
pub(super) async fn read() -> Result<Vec<Cluster>> {
    let any = std::fs::read_dir("/etc/postgresql").is_ok_and(|mut entries| entries.next().is_some());
    if !any || !Path::new(LIST).exists() {
        return Ok(Vec::new());
    }
    listed(&output(LIST, &[]).await?)
}

/// The clusters in what `pg_lsclusters` prints, with its header: a data directory may have spaces, and so may the log behind
/// it (`log_destination = 'stderr, csvlog'`), so where one ends only the columns tell. They are as wide in bytes as their
/// longest value. One whose settings cannot be read has no port, and is left out. One whose owner has no name is there
/// without an owner.
///
/// # Errors
/// [`Kind::Source`] for a list without such columns: a data directory is never guessed.
pub fn listed(list: &[u8]) -> Result<Vec<Cluster>> {
    let mut lines = list.split(|b| *b == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let header = String::from_utf8_lossy(lines.next().unwrap_or_default());
    let columns = HEADS.iter().map(|head| header.find(head)).collect::<Option<Vec<_>>>();
    let columns = columns.ok_or_else(|| unreadable(&header))?;
    let mut clusters = Vec::new();
    for line in lines {
        let [version, name, port, status, owner, data_directory] =
            values(line, &columns).ok_or_else(|| unreadable(&String::from_utf8_lossy(line)))?;
        if let Ok(port) = port.parse() {
            clusters.push(Cluster { version, name, port, status, owner, data_directory });
        }
    }
    Ok(clusters)
}

/// The values of a line but for the last, given where each column begins. `None` when they do not begin there.
fn values(line: &[u8], columns: &[usize]) -> Option<[String; 6]> {
    let value = |n: usize| {
        let value = line.get(columns[n]..columns[n + 1])?.strip_suffix(b" ")?.trim_ascii_end();
        Some(String::from_utf8_lossy(value).into_owned())
    };
    let [version, name, port, status, owner] = [value(0)?, value(1)?, value(2)?, value(3)?, value(4)?];
    // Of an owner without a name the tool prints nothing at all, and what follows moves up: the directory stands in his
    // column, which is as wide as it, and the log in that of the directory. No name of a user has a slash.
    if owner.starts_with('/') {
        return Some([version, name, port, status, String::new(), owner]);
    }
    line.get(columns[6]).filter(|b| **b != b' ')?;
    Some([version, name, port, status, owner, value(5)?])
}

fn unreadable(line: &str) -> Error {
    Error::new(Kind::Source, "the list of PostgreSQL clusters cannot be read")
        .because(format!("pg_lsclusters prints: {line}"))
        .hint("`pg_lsclusters` should print a table with the columns \"Data directory\" and \"Log file\".")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "Ver Cluster Port Status          Owner    Data directory              Log file\n";

    #[test]
    fn clusters_are_read_from_their_list() {
        let found = listed(
            format!(
                "{HEADER}15  main    5432 online,recovery postgres /var/lib/postgresql/15/main /var/log/postgresql/postgresql-15-main.log\n\n"
            )
            .as_bytes(),
        )
        .unwrap();
        assert_eq!((found[0].version.as_str(), found[0].name.as_str(), found[0].port), ("15", "main", 5432));
        assert_eq!((found[0].status.as_str(), found[0].owner.as_str()), ("online,recovery", "postgres"));
        assert_eq!(found[0].data_directory, "/var/lib/postgresql/15/main");
        assert_eq!(listed(HEADER.as_bytes()).unwrap(), []);
    }

    #[test]
    fn a_data_directory_ends_where_its_column_does_whatever_the_log_is() {
        let list = "Ver Cluster Port      Status Owner     Data directory    Log file\n\
            9.6 a-b     5433      down   postgres  /srv/my  data/9.6 /var/log/a.log, /var/log/a.csv\n\
            15  main    5432      online postgres  /srv/pg           /var/log/15 main.log,/var/log/15 main.csv\n\
            15  none    <unknown> down   <unknown> <unknown>         /var/log/postgresql/postgresql-15-none.log\n\
            16  näme    5434      down   postgres  /srv/pgä          /var/log/c.log\n";
        // The tool counts bytes, and pads by these.
        let list =
            list.replace("16  näme    5434", "16  näme   5434").replace("/srv/pgä          ", "/srv/pgä         ");
        let found = listed(list.as_bytes()).unwrap();
        let data: Vec<&str> = found.iter().map(|c| c.data_directory.as_str()).collect();
        assert_eq!(data, ["/srv/my  data/9.6", "/srv/pg", "/srv/pgä"]);
    }

    #[test]
    fn a_cluster_whose_owner_has_no_name_hides_no_other_and_has_its_own_directory() {
        // As the tool prints them: one value less, in the same seven columns.
        let line =
            |v: [&str; 7]| format!("{:3} {:7} {:4} {:6} {:13} {:18} {:1}\n", v[0], v[1], v[2], v[3], v[4], v[5], v[6]);
        let log = "/var/log/postgresql/postgresql-15-main.log";
        // A log that ends within its column, one that does not, and one with a space where the next column begins.
        for moved in ["/var/log/old.log", log, "/var/log/olda.log, /var/log/olda.csv"] {
            let list = [
                line(["Ver", "Cluster", "Port", "Status", "Owner", "Data directory", "Log file"]),
                line(["15", "old", "5433", "down", "/srv/old data", moved, ""]),
                line(["15", "main", "5432", "online", "postgres", "/srv/postgresql/15", log]),
            ]
            .concat();
            let found = listed(list.as_bytes()).unwrap();
            let read: Vec<(&str, u16, &str, &str)> =
                found.iter().map(|c| (c.name.as_str(), c.port, c.owner.as_str(), c.data_directory.as_str())).collect();
            assert_eq!(
                read,
                [("old", 5433, "", "/srv/old data"), ("main", 5432, "postgres", "/srv/postgresql/15")],
                "{list}"
            );
            let refused = found[0].owned().unwrap_err();
            assert!(refused.kind == Kind::Refused && refused.one_line().contains("cluster 15/old"), "{refused}");
            found[1].owned().unwrap();
        }
    }

    #[test]
    fn what_is_no_such_list_is_not_guessed_at() {
        for list in [
            "",
            "15 main 5432 online postgres /srv/pg /var/log/a.log\n",
            "Ver Cluster Port Status Owner Data directory Log file\n15 main 5432 online postgres /srv/pg /var/log/a.log\n",
            "Ver Cluster Port Status Owner    Data directory Log file\n15  main    5432 online postgres /srv/pg\n",
        ] {
            assert_eq!(listed(list.as_bytes()).unwrap_err().kind, Kind::Source, "{list}");
        }
    }
}
