//! Whether a machine is fresh: what is on it that a recovery would put something else in the place of.
//!
//! Everything is seen in files, so that a server which does not run hides nothing.

use crate::model::size;
use std::path::{Path, PathBuf};

/// An RDB without a key is smaller.
const EMPTY_RDB: u64 = 256;
/// The first OID that a database of somebody's can have: PostgreSQL's own are below.
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
/// of Backstay already.
pub fn not_fresh(root: &Path, will: &Will) -> Vec<String> {
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
        for (version, name, databases) in databases(&at("/var/lib/postgresql")) {
            let databases = size::plural(databases as u64, "database");
            found.push(format!("/var/lib/postgresql/{version}/{name}: the cluster has {databases} of somebody's"));
        }
    }
    if will.redis {
        let rdb = std::fs::metadata(at("/var/lib/redis/dump.rdb")).map_or(0, |m| m.len());
        if rdb > EMPTY_RDB || !names(&at("/var/lib/redis/appendonlydir")).is_empty() {
            found.push("/var/lib/redis: the Redis server has keys".to_owned());
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

/// Clusters with databases that somebody made, by major and name.
fn databases(clusters: &Path) -> Vec<(String, String, usize)> {
    let mut found = Vec::new();
    for version in names(clusters) {
        for name in names(&clusters.join(&version)) {
            let base = names(&clusters.join(&version).join(&name).join("base"));
            let some = base.iter().filter(|n| n.parse::<u32>().is_ok_and(|oid| oid >= FIRST_OID)).count();
            if some > 0 {
                found.push((version.clone(), name, some));
            }
        }
    }
    found
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
        assert_eq!(not_fresh(root, &will), Vec::<String>::new());
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
            let found = not_fresh(root, &will);
            assert_eq!(found.len(), n + 1, "{found:?}");
            assert!(found.iter().any(|f| f.contains(word)), "{word} is not in {found:?}");
        }
        // What the host did not have is in nobody's way.
        assert_eq!(not_fresh(root, &Will::default()).len(), 2);
    }
}
