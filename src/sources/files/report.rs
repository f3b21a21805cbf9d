//! What a run over a tree counted, and what of it is told.

use crate::model::size;
use crate::repository::segment::Bytes;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;

/// Paths named in a warning; the count says the rest.
const NAMED: usize = 10;

/// Counts of one run.
#[derive(Default)]
pub struct Report {
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub dirs: u64,
    /// Symbolic links, and further names of a file.
    pub links: u64,
    /// Devices and pipes.
    pub other: u64,
    /// Sizes of the files.
    pub bytes: u64,
    /// Entries that were not read again.
    pub unchanged: u64,
    /// Files that changed while they were read.
    pub changed: Listed,
    /// Files that were gone when they were to be read.
    pub vanished: Listed,
    /// Sockets, which are left out.
    pub sockets: u64,
    /// Owners that occur.
    pub owners: BTreeSet<u32>,
    /// Groups that occur.
    pub groups: BTreeSet<u32>,
}

/// Paths of which the first few are named.
#[derive(Default)]
pub struct Listed {
    count: u64,
    first: Vec<String>,
}

impl Listed {
    /// One more.
    pub fn add(&mut self, path: &[u8]) {
        self.count += 1;
        if self.first.len() < NAMED {
            self.first.push(Bytes(path.to_vec()).display());
        }
    }

    fn warning(&self, what: &str) -> Option<String> {
        (self.count > 0).then(|| {
            let more = self.count - self.first.len() as u64;
            let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("{} {what}: {}{rest}", size::plural(self.count, "file"), self.first.join(", "))
        })
    }
}

impl Report {
    /// What the operator should know.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> =
            [self.changed.warning("changed while being read"), self.vanished.warning("vanished before being read")]
                .into_iter()
                .flatten()
                .collect();
        if self.sockets > 0 {
            warnings.push(format!(
                "{} left out: whoever listens on a socket makes it anew",
                size::plural(self.sockets, "socket")
            ));
        }
        warnings
    }

    /// What the manifest says.
    pub fn facts(&self, paths: &[PathBuf]) -> serde_json::Value {
        serde_json::json!({
            "paths": paths.iter().map(|p| p.to_string_lossy()).collect::<Vec<_>>(),
            "files": self.files,
            "directories": self.dirs,
            "links": self.links,
            "other": self.other,
            "bytes": self.bytes,
            "unchanged": self.unchanged,
            "changed_while_read": self.changed.count,
            "vanished": self.vanished.count,
            "owners": names(self.owners.iter(), "/etc/passwd"),
            "groups": names(self.groups.iter(), "/etc/group"),
        })
    }
}

/// Names of numeric ids, as far as the system's own files know them.
fn names<'a>(ids: impl Iterator<Item = &'a u32>, file: &str) -> BTreeMap<u32, String> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let known: HashMap<u32, &str> = text
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            Some((fields.nth(1)?.parse().ok()?, name))
        })
        .collect();
    ids.filter_map(|id| Some((*id, (*known.get(id)?).to_owned()))).collect()
}
