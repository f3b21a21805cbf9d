//! Reading `redis.conf`, for a server that is down and cannot be asked.
//!
//! A subset: a directive per line, the last one wins; words in double or single quotes; comments; `include` with
//! wildcards, in place. What is given on the command line of the server is not here. Directives that nobody asks
//! about are passed over.

use super::live::Settings;
use crate::error::{Error, Kind, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Includes may include.
const DEEPEST: usize = 16;

/// What a file says, with Redis's own defaults for the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conf {
    /// Where and how data is kept.
    pub settings: Settings,
    /// Whether it makes the server a replica.
    pub replica: bool,
    /// Whether it makes the server a node of a cluster.
    pub cluster: bool,
}

/// Reads a file and what it includes.
///
/// # Errors
/// [`Kind::Config`] when one of them cannot be read.
pub fn read(file: &Path) -> Result<Conf> {
    let mut words = BTreeMap::new();
    collect(file, &mut words, 0)?;
    let get = |name: &str, default: &str| words.get(name).map_or(default.to_owned(), |v: &Vec<String>| v.join(" "));
    let on = |name: &str| get(name, "no") == "yes";
    Ok(Conf {
        settings: Settings {
            dir: get("dir", "./"),
            dbfilename: get("dbfilename", "dump.rdb"),
            appendonly: on("appendonly"),
            appendfilename: get("appendfilename", "appendonly.aof"),
            // Whether the server has parts at all is for its version to say.
            appenddirname: get("appenddirname", "appendonlydir"),
            save: get("save", ""),
            maxmemory: 0,
            maxmemory_policy: get("maxmemory-policy", "noeviction"),
            databases: get("databases", "16").parse().unwrap_or(16),
        },
        replica: ["replicaof", "slaveof"].iter().any(|key| !get(key, "no one").eq_ignore_ascii_case("no one")),
        cluster: on("cluster-enabled"),
    })
}

fn collect(file: &Path, found: &mut BTreeMap<String, Vec<String>>, depth: usize) -> Result<()> {
    let text = std::fs::read(file)
        .map_err(|e| Error::io("the configuration of the server cannot be read", file, e).kind(Kind::Config))?;
    for line in String::from_utf8_lossy(&text).lines() {
        let mut words = split(line);
        if words.len() < 2 {
            continue;
        }
        let name = words.remove(0).to_ascii_lowercase();
        if name != "include" {
            found.insert(name, words);
        } else if depth < DEEPEST {
            for included in expand(&words[0]) {
                collect(&included, found, depth + 1)?;
            }
        }
    }
    Ok(())
}

/// The files of an `include`, by name. A pattern has wildcards in its last component only.
fn expand(pattern: &str) -> Vec<PathBuf> {
    let path = Path::new(pattern);
    let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str())) else {
        return Vec::new();
    };
    if !name.contains(['*', '?', '[']) {
        return vec![path.to_owned()];
    }
    let Ok(glob) = globset::Glob::new(name) else { return Vec::new() };
    let glob = glob.compile_matcher();
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> =
        entries.filter(|e| glob.is_match(Path::new(&e.file_name()))).map(|e| e.path()).collect();
    files.sort();
    files
}

/// Words of a line, as Redis splits them.
pub(super) fn split(line: &str) -> Vec<String> {
    let line = line.trim();
    let mut words = Vec::new();
    if line.starts_with('#') {
        return words;
    }
    let mut chars = line.chars().peekable();
    while let Some(first) = chars.next() {
        if first.is_whitespace() {
            continue;
        }
        let mut word = String::new();
        if first == '"' || first == '\'' {
            while let Some(c) = chars.next() {
                match c {
                    c if c == first => break,
                    '\\' => word.extend(chars.next()),
                    c => word.push(c),
                }
            }
        } else {
            word.push(first);
            while let Some(c) = chars.next_if(|c| !c.is_whitespace()) {
                word.push(c);
            }
        }
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_directive_wins_and_includes_are_read_in_place() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("more")).unwrap();
        std::fs::write(at("more/b.conf"), "dbfilename b.rdb\nappendonly yes\n").unwrap();
        std::fs::write(at("more/a.conf"), "dbfilename a.rdb\n").unwrap();
        let main = format!(
            "# dir /no\ndbfilename first.rdb\n  DIR \"/srv/my \\\"cache\\\"\"\ninclude {}\nappendfilename 'x y.aof'\nsave 60 1\n",
            at("more/*.conf").display()
        );
        std::fs::write(at("redis.conf"), main).unwrap();
        let conf = read(&at("redis.conf")).unwrap();
        let s = &conf.settings;
        assert_eq!((s.dir.as_str(), s.dbfilename.as_str()), ("/srv/my \"cache\"", "b.rdb"));
        assert_eq!(
            (s.appendonly, s.appendfilename.as_str(), s.appenddirname.as_str()),
            (true, "x y.aof", "appendonlydir")
        );
        assert!(!conf.replica && !conf.cluster);
        std::fs::write(at("more/c.conf"), "replicaof 10.0.0.1 6379\ncluster-enabled yes\n").unwrap();
        let conf = read(&at("redis.conf")).unwrap();
        assert!(conf.replica && conf.cluster);
    }
}
