//! Installed packages. Of package managers only dpkg and apt are known.

use super::told;
use crate::error::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What is installed, and where it came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Packages {
    /// `dpkg`.
    pub manager: String,
    /// The machine's architecture, as the manager calls it: `amd64`.
    pub architecture: String,
    /// Further architectures.
    pub foreign: Vec<String>,
    /// Versions by name; `NAME:ARCHITECTURE` for one of another architecture.
    pub installed: BTreeMap<String, String>,
    /// Names of those that somebody asked for; the others came with them.
    pub by_hand: BTreeSet<String>,
    /// Names of those that are not to be upgraded.
    pub held: BTreeSet<String>,
    /// Where packages come from: lines of `sources.list`, and the fields of `.sources` files.
    pub sources: Vec<String>,
    /// Files of the keys that vouch for them.
    pub keys: Vec<String>,
}

/// `None` on a machine without a package manager at all.
pub(super) async fn read() -> Result<Option<Packages>> {
    if !Path::new("/var/lib/dpkg/status").exists() {
        let other = [("rpm", "/var/lib/rpm"), ("rpm", "/usr/lib/sysimage/rpm"), ("apk", "/lib/apk/db")];
        return match other.iter().find(|(_, place)| Path::new(place).exists()) {
            Some((manager, _)) => Err(Error::new(Kind::Source, format!("packages of {manager} are not listed"))),
            None => Ok(None),
        };
    }
    let format = "-f=${db:Status-Abbrev}\\t${Package}\\t${Version}\\t${Architecture}\\n";
    let listed = told("dpkg-query", &["-W", format]).await?;
    let architecture = told("dpkg", &["--print-architecture"]).await?.trim().to_owned();
    let foreign = told("dpkg", &["--print-foreign-architectures"]).await?;
    let mut packages = parse(&listed, &architecture);
    packages.foreign = foreign.split_whitespace().map(str::to_owned).collect();
    packages.by_hand = told("apt-mark", &["showmanual"]).await?.lines().map(str::to_owned).collect();
    (packages.sources, packages.keys) = sources(Path::new("/etc/apt"));
    Ok(Some(packages))
}

fn parse(listed: &str, architecture: &str) -> Packages {
    let mut packages =
        Packages { manager: "dpkg".to_owned(), architecture: architecture.to_owned(), ..Packages::default() };
    for line in listed.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [state, name, version, of] = fields[..] else { continue };
        // Wanted, status, error: `ii ` is installed, `hi ` is held, `rc ` has left its configuration behind.
        if state.as_bytes().get(1) != Some(&b'i') {
            continue;
        }
        let name = if of == "all" || of == architecture { name.to_owned() } else { format!("{name}:{of}") };
        if state.starts_with('h') {
            packages.held.insert(name.clone());
        }
        packages.installed.insert(name, version.to_owned());
    }
    packages
}

/// Sources and keys below the folder of apt, by file.
fn sources(apt: &Path) -> (Vec<String>, Vec<String>) {
    let mut files = vec![apt.join("sources.list")];
    files.extend(within(&apt.join("sources.list.d")));
    let mut lines = Vec::new();
    for file in &files {
        let kind = file.extension().and_then(|e| e.to_str()).unwrap_or_default();
        if !["list", "sources"].contains(&kind) {
            continue;
        }
        let text = std::fs::read_to_string(file).unwrap_or_default();
        // A key may be written into a `.sources` file: lines that go on are indented.
        let said = text.lines().filter(|l| !l.trim().is_empty() && !l.starts_with(['#', ' ', '\t']));
        lines.extend(said.map(str::to_owned));
    }
    let mut keys = Vec::new();
    for folder in ["trusted.gpg.d", "keyrings"] {
        keys.extend(within(&apt.join(folder)).into_iter().map(|p| p.display().to_string()));
    }
    (lines, keys)
}

fn within(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_installed_counts_and_what_was_removed_does_not() {
        let listed = "ii \tbash\t5.2-2\tamd64\nrc \told\t1\tamd64\nhi \tdocker.io\t20.10\tamd64\nii \tlibc6\t2.36\ti386\nii \ttzdata\t2024a\tall\nun \tnever\t\t\n";
        let p = parse(listed, "amd64");
        let names: Vec<&str> = p.installed.keys().map(String::as_str).collect();
        assert_eq!(names, ["bash", "docker.io", "libc6:i386", "tzdata"]);
        assert_eq!((p.installed["docker.io"].as_str(), p.held.len()), ("20.10", 1));
    }

    #[test]
    fn both_forms_of_sources_are_read_without_keys_that_are_written_into_them() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for folder in ["sources.list.d", "keyrings"] {
            std::fs::create_dir(at(folder)).unwrap();
        }
        std::fs::write(at("sources.list"), "# none\ndeb http://a bookworm main\n").unwrap();
        let deb822 = "Types: deb\nURIs: https://b\nSigned-By:\n -----BEGIN PGP\n .\n";
        std::fs::write(at("sources.list.d/b.sources"), deb822).unwrap();
        std::fs::write(at("sources.list.d/b.list.save"), "deb http://gone x main\n").unwrap();
        std::fs::write(at("keyrings/b.gpg"), "x").unwrap();
        let (lines, keys) = sources(dir.path());
        assert_eq!(lines, ["deb http://a bookworm main", "Types: deb", "URIs: https://b", "Signed-By:"]);
        assert!(keys.len() == 1 && keys[0].ends_with("keyrings/b.gpg"), "{keys:?}");
    }
}
