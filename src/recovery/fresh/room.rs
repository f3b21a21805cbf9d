//! Whether everything fits, before anything is written.

use super::ways::{Way, way};
use crate::model::size;
use crate::repository::manifest::SourceRecord;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What stays free on each file system: logs, sockets, what a server needs to start.
const RESERVE: u64 = 128 << 20;

/// Room for something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// For what: `source documents`.
    pub what: String,
    /// Where it will lie.
    pub place: PathBuf,
    /// Bytes.
    pub bytes: u64,
}

/// Where servers keep data.
#[derive(Clone, Debug)]
pub struct Places {
    /// Of PostgreSQL.
    pub postgres: PathBuf,
    /// Of Redis.
    pub redis: PathBuf,
    /// Of Docker.
    pub docker: PathBuf,
    /// Of Backstay.
    pub state: PathBuf,
}

/// What a source will take.
pub fn needs(record: &SourceRecord, places: &Places) -> Vec<Need> {
    let need =
        |place: &Path, bytes: u64| Need { what: format!("source {}", record.name), place: place.to_owned(), bytes };
    match record.kind.as_str() {
        "files" => {
            let paths: Vec<PathBuf> =
                record.facts.get("paths").and_then(|p| serde_json::from_value(p.clone()).ok()).unwrap_or_default();
            // How much of it lies where is not told: the first path that is exchanged stands for all.
            let first = paths.iter().find(|path| way(path) == Way::Exchange);
            // What is merged is written to one side, and linked into its places from there.
            let merged = || paths.iter().any(|path| way(path) == Way::Merge).then_some(&places.state);
            first.or_else(merged).map(|path| need(path, record.bytes())).into_iter().collect()
        }
        // Written to one side, and linked into its places from there.
        "host" => vec![need(&places.state, record.bytes())],
        "postgres" => {
            let databases = record.facts.get("databases").and_then(|d| d.as_array()).cloned().unwrap_or_default();
            let live: u64 = databases.iter().filter_map(|d| d.get("size")?.as_u64()).sum();
            vec![need(&places.postgres, live.max(record.bytes()))]
        }
        "redis" => vec![need(&places.redis, record.bytes())],
        "volume" | "image" => vec![need(&places.docker, record.bytes())],
        _ => Vec::new(),
    }
}

/// File systems that are too small, each in words. `free` gives the number of the file system of a path that exists, and
/// the bytes that are free on it.
pub fn too_small(needs: &[Need], free: impl Fn(&Path) -> Option<(u64, u64)>) -> Vec<String> {
    let mut by_file_system: BTreeMap<u64, (&Path, u64, Vec<&Need>)> = BTreeMap::new();
    for need in needs {
        let Some((place, (number, free))) = need.place.ancestors().find_map(|p| Some((p, free(p)?))) else { continue };
        by_file_system.entry(number).or_insert((place, free, Vec::new())).2.push(need);
    }
    let short = by_file_system.into_values().filter_map(|(place, free, needs)| {
        let sum: u64 = needs.iter().map(|n| n.bytes).sum::<u64>().saturating_add(RESERVE.min(free / 4));
        let parts: Vec<String> = needs.iter().map(|n| format!("{} {}", n.what, size::human(n.bytes))).collect();
        (sum > free).then(|| {
            format!(
                "{}: {} are needed and {} are free ({})",
                place.display(),
                size::human(sum),
                size::human(free),
                parts.join(", ")
            )
        })
    });
    short.collect()
}

/// Number and free bytes of the file system of a path; `None` when the path is not there.
pub fn free(path: &Path) -> Option<(u64, u64)> {
    let number = rustix::fs::stat(path).ok()?.st_dev;
    let s = rustix::fs::statvfs(path).ok()?;
    Some((number, s.f_bavail * s.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(what: &str, place: &str, bytes: u64) -> Need {
        Need { what: what.into(), place: place.into(), bytes }
    }

    /// A root with 10 GB free, and /srv with 1 GB.
    fn disks(path: &Path) -> Option<(u64, u64)> {
        match path.to_str()? {
            "/" | "/var/lib" => Some((1, 10 << 30)),
            "/srv" => Some((2, 1 << 30)),
            _ => None,
        }
    }

    #[test]
    fn what_lies_on_one_file_system_is_added_up() {
        let fits = [need("a", "/srv/app", 800 << 20), need("b", "/var/lib/postgresql/15", 9 << 30)];
        assert!(too_small(&fits, disks).is_empty());
        let short = too_small(&[need("a", "/srv/app", 600 << 20), need("b", "/srv/other", 600 << 20)], disks);
        assert_eq!(short.len(), 1);
        for word in ["/srv:", "a 600", "b 600", "1.00 GiB are free"] {
            assert!(short[0].contains(word), "{word} is not in {short:?}");
        }
        // A file system is not filled to its last byte.
        assert_eq!(too_small(&[need("a", "/srv/app", 1 << 30)], disks).len(), 1);
    }
}
