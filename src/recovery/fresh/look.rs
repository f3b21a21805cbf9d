//! Whether a machine is fresh: what is on it that a recovery would put something else in the place of.
//!
//! Everything is seen in files, so that a server which does not run hides nothing.

use crate::host::inventory::clusters::Cluster;
use crate::model::size;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// An RDB without a key is smaller.
const EMPTY_RDB: u64 = 256;
/// The first OID, and number of a file, that a database or table of somebody's can have: PostgreSQL's own are below.
const FIRST_OID: u32 = 16384;
/// Directories in which packages put something of their own.
const FILLED_BY_PACKAGES: &[&str] = &["/var/www/html", "/var/spool"];

/// What the lost host had, as far as it matters.
#[derive(Clone, Debug, Default)]
pub struct Will {
    /// Paths of `files` sources that are exchanged as a whole.
    pub paths: Vec<PathBuf>,
    /// Whether there are databases of PostgreSQL on the host.
    pub postgres: bool,
    /// Whether there is a Redis on the host.
    pub redis: bool,
    /// Whether there are volumes, images or containers.
    pub docker: bool,
}

/// What makes the machine whose root this is not fresh; empty when it is. With a configuration or a trust file it is a host
/// of Backstay already. `clusters` are those that are here, wherever their data lies.
pub fn not_fresh(root: &Path, will: &Will, clusters: &[Cluster]) -> Vec<String> {
    let at = |path: &str| root.join(path.trim_start_matches('/'));
    let mut found = Vec::new();
    if at("/etc/backstay/backstay.toml").exists() {
        found.push("/etc/backstay/backstay.toml: it is configured as a host of Backstay".to_owned());
    }
    for trust in
        names(&at("/var/lib/backstay/trust")).into_iter().filter_map(|n| n.strip_suffix(".json").map(str::to_owned))
    {
        found.push(format!("/var/lib/backstay/trust: it knows the vault of host {trust}"));
    }
    if will.postgres {
        let known = clusters.iter().map(|c| PathBuf::from(&c.data_directory));
        let all: BTreeSet<PathBuf> = usual(&at("/var/lib/postgresql")).into_iter().chain(known).collect();
        for data in all {
            found.extend(in_use(&at(&data.to_string_lossy())).map(|why| format!("{}: {why}", data.display())));
        }
    }
    if will.redis {
        let set = std::fs::read_to_string(at("/etc/redis/redis.conf")).ok().and_then(|text| directory(&text));
        let folders: BTreeSet<PathBuf> = std::iter::once(PathBuf::from("/var/lib/redis")).chain(set).collect();
        for folder in folders {
            let here = at(&folder.to_string_lossy());
            let rdb = std::fs::metadata(here.join("dump.rdb")).map_or(0, |m| m.len());
            if rdb > EMPTY_RDB || !names(&here.join("appendonlydir")).is_empty() {
                found.push(format!("{}: the Redis server has keys", folder.display()));
            }
        }
    }
    if will.docker {
        for (folder, what) in [("volumes", "volume"), ("containers", "container")] {
            let own = ["metadata.db", "backingFsBlockDev"];
            let some: Vec<String> =
                names(&at("/var/lib/docker").join(folder)).into_iter().filter(|n| !own.contains(&n.as_str())).collect();
            if !some.is_empty() {
                found.push(format!("/var/lib/docker/{folder}: Docker has {}", size::plural(some.len() as u64, what)));
            }
        }
    }
    for path in &will.paths {
        if FILLED_BY_PACKAGES.iter().any(|p| path.starts_with(p)) {
            continue;
        }
        let here = at(&path.to_string_lossy());
        let filled = if here.is_dir() { !names(&here).is_empty() } else { here.symlink_metadata().is_ok() };
        if filled {
            found.push(format!("{}: there is something already", path.display()));
        }
    }
    found
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    // What the file system keeps for itself is nobody's.
    names.retain(|n| n != "lost+found");
    names.sort();
    names
}

/// Where packages put the data of clusters, those that are there.
fn usual(clusters: &Path) -> Vec<PathBuf> {
    let of = |version: &String| {
        let names = names(&clusters.join(version));
        names.into_iter().map(|name| Path::new("/var/lib/postgresql").join(version).join(name)).collect::<Vec<_>>()
    };
    names(clusters).iter().flat_map(of).collect()
}

/// What somebody made in the cluster whose data lies there, in words; `None` when it is as its package left it, or when
/// nothing is there. What cannot be looked at is not known to be empty.
pub fn in_use(data: &Path) -> Option<String> {
    match made(data) {
        Ok((0, 0)) => None,
        Ok((0, files)) => Some(format!(
            "the cluster has {} of somebody's in a database that it was made with",
            size::plural(files, "table or index file")
        )),
        Ok((databases, _)) => Some(format!("the cluster has {} of somebody's", size::plural(databases, "database"))),
        Err(e) => Some(format!("the cluster cannot be looked at: {e}")),
    }
}

/// Databases that somebody made, with tablespaces, in which others may lie; and files of tables in those that every cluster
/// has, as `postgres`. A catalog that was written anew has such a number too, and nobody does that to an empty cluster.
fn made(data: &Path) -> std::io::Result<(u64, u64)> {
    let (mut databases, mut files) = (0, 0);
    for folder in ["base", "pg_tblspc"] {
        let folder = data.join(folder);
        for (oid, name) in numbered(&folder)? {
            if oid >= FIRST_OID {
                databases += 1;
            } else {
                let tables = numbered(&folder.join(name))?;
                files += tables.iter().filter(|(number, _)| *number >= FIRST_OID).count() as u64;
            }
        }
    }
    Ok((databases, files))
}

/// What is in a folder and has a number for a name, less forks (`16384_fsm`) and further segments (`16384.1`).
fn numbered(folder: &Path) -> std::io::Result<Vec<(u32, OsString)>> {
    let entries = match std::fs::read_dir(folder) {
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|n| n.parse::<u32>().ok());
        found.extend(number.map(|number| (number, name)));
    }
    Ok(found)
}

/// The directory that a `redis.conf` names; the last one counts.
fn directory(text: &str) -> Option<PathBuf> {
    let value = text.lines().rev().find_map(|line| line.trim().strip_prefix("dir ")).map(str::trim)?;
    let path = PathBuf::from(value.trim_matches(['"', '\'']));
    path.is_absolute().then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_with_installed_servers_is_fresh_and_one_with_data_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let make = |path: &str, bytes: usize| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, vec![b'x'; bytes]).unwrap();
        };
        let will =
            Will { paths: vec!["/srv/app".into(), "/var/www/html".into()], postgres: true, redis: true, docker: true };
        for (path, bytes) in [
            ("etc/backstay/backstay.toml.sample", 1),
            ("var/lib/postgresql/15/main/base/5/1", 1),
            ("var/lib/redis/dump.rdb", 100),
            ("var/lib/docker/volumes/metadata.db", 1),
            ("var/www/html/index.nginx-debian.html", 1),
        ] {
            make(path, bytes);
        }
        std::fs::create_dir_all(root.join("srv/app/lost+found")).unwrap();
        assert_eq!(not_fresh(root, &will, &[]), Vec::<String>::new());
        for (n, (path, bytes, word)) in [
            ("etc/backstay/backstay.toml", 1, "configured"),
            ("var/lib/backstay/trust/erp-1.json", 1, "host erp-1"),
            ("var/lib/postgresql/15/main/base/16401/1", 1, "15/main"),
            ("var/lib/redis/dump.rdb", 1000, "Redis"),
            ("var/lib/docker/volumes/documents/x", 1, "1 volume"),
            ("srv/app/file", 1, "/srv/app"),
        ]
        .into_iter()
        .enumerate()
        {
            make(path, bytes);
            let found = not_fresh(root, &will, &[]);
            assert_eq!(found.len(), n + 1, "{found:?}");
            assert!(found.iter().any(|f| f.contains(word)), "{word} is not in {found:?}");
        }
        // What the host did not have is in nobody's way.
        assert_eq!(not_fresh(root, &Will::default(), &[]).len(), 2);
    }

    #[test]
    fn data_is_seen_wherever_the_servers_are_set_to_keep_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let will = Will { postgres: true, redis: true, ..Will::default() };
        let here = [Cluster { data_directory: "/srv/pg/15".into(), ..Cluster::default() }];
        std::fs::create_dir_all(root.join("srv/pg/15/base/5")).unwrap();
        std::fs::create_dir_all(root.join("etc/redis")).unwrap();
        std::fs::write(root.join("etc/redis/redis.conf"), "# dir /nowhere\ndir /srv/redis\n").unwrap();
        std::fs::create_dir_all(root.join("srv/redis/appendonlydir")).unwrap();
        assert_eq!(not_fresh(root, &will, &here), Vec::<String>::new());
        std::fs::create_dir_all(root.join("srv/pg/15/base/16400")).unwrap();
        std::fs::write(root.join("srv/redis/appendonlydir/x.aof"), "x").unwrap();
        let found = not_fresh(root, &will, &here);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("/srv/pg/15: the cluster has 1 database "), "{found:?}");
        assert!(found[1].starts_with("/srv/redis: "), "{found:?}");
        // Tables in the database that every cluster has are somebody's as well.
        let default = root.join("default");
        std::fs::create_dir_all(default.join("base/5")).unwrap();
        for own in ["13410", "13410_fsm", "PG_VERSION", "pg_internal.init"] {
            std::fs::write(default.join("base/5").join(own), "x").unwrap();
        }
        assert_eq!(in_use(&default), None);
        std::fs::write(default.join("base/5/16384"), "x").unwrap();
        assert!(in_use(&default).unwrap().contains("1 table"));
        // A tablespace is somebody's too, and what cannot be looked at is not known to be empty.
        let data = root.join("data");
        assert_eq!(in_use(&data), None);
        std::fs::create_dir_all(data.join("pg_tblspc/16500")).unwrap();
        assert!(in_use(&data).is_some());
        let long = data.join("x".repeat(300));
        assert!(in_use(&long).unwrap().contains("cannot be looked at"));
    }
}
