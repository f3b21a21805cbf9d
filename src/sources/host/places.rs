//! Where on a machine what it was set up with lies.
//!
//! A folder of a compose project may hold data besides: what a container may write into is left out and told, for that is
//! a matter of a `files` or `volume` source, which can let the writer stand still.

use super::HostSource;
use crate::error::{Error, Kind, Result};
use crate::host::docker::deployment::{Deployment, Project};
use crate::host::docker::find::Container;
use crate::host::inventory::accounts::Accounts;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Read wherever they exist. Programs and units that no package brought are below `/usr/local`.
const USUAL: &[&str] = &[
    "/etc",
    "/var/spool/cron",
    "/var/lib/systemd/linger",
    "/usr/local/bin",
    "/usr/local/sbin",
    "/usr/local/etc",
    "/usr/local/lib/systemd",
    "/usr/local/share/ca-certificates",
    // Keys that vouch for packages of others.
    "/usr/share/keyrings",
    "/root/.docker/config.json",
];
/// In the home of every user: who may log in, and his own units.
const OF_USERS: &[&str] = &[".ssh/authorized_keys", ".ssh/authorized_keys2", ".config/systemd/user"];
/// Folders that hold more than a project, though somebody may have started one in them.
const SHARED: &[&str] =
    &["/", "/root", "/home", "/opt", "/srv", "/var", "/usr", "/etc", "/tmp", "/mnt", "/data", "/var/lib", "/var/www"];

/// What to read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Files and directories that exist.
    pub paths: Vec<PathBuf>,
    /// Patterns of what is left out of them.
    pub exclude: Vec<String>,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

/// Finds the places of this machine.
///
/// # Errors
/// When something that is configured does not exist: what the preset looks for by itself may be missing.
pub fn find(
    source: &HostSource,
    deployment: Option<&Deployment>,
    containers: &[Container],
    accounts: &Accounts,
) -> Result<Places> {
    let mut found: BTreeSet<PathBuf> = USUAL.iter().map(PathBuf::from).filter(|p| p.exists()).collect();
    let homes: BTreeSet<&Path> =
        accounts.users.values().map(|u| Path::new(&u.home)).filter(|h| h.is_absolute()).collect();
    found.extend(homes.iter().flat_map(|home| OF_USERS.iter().map(|f| home.join(f))).filter(|p| p.exists()));
    let mut places = Places::default();
    let mut folders: BTreeSet<PathBuf> = BTreeSet::new();
    // Those of a daemon elsewhere are not looked for here.
    let projects = deployment.filter(|_| !containers.is_empty()).map(|d| &d.projects[..]).unwrap_or_default();
    for project in projects {
        let files = project.files.iter().chain(&project.env_files).filter(|f| f.exists());
        found.extend(files.flat_map(|file| real(file)));
        match folder(project, &homes) {
            Folder::Own(folder) => folders.extend(real(&folder)),
            Folder::Shared(folder) => {
                found.extend(
                    [".env", "compose.override.yaml", "docker-compose.override.yml"]
                        .map(|f| folder.join(f))
                        .into_iter()
                        .filter(|f| f.exists()),
                );
                places.warnings.push(format!(
                    "compose project {} was started in {}, which holds more than the project: only its files are read; name others in `extra`",
                    project.name,
                    folder.display()
                ));
            }
            Folder::Gone => places.warnings.push(format!(
                "the folder of compose project {} is not here{}: name it in `compose`",
                project.name,
                project.folder.as_ref().map(|f| format!(" ({})", f.display())).unwrap_or_default()
            )),
        }
    }
    for path in source.compose.iter().chain(&source.extra) {
        if !path.exists() {
            return Err(Error::new(Kind::Source, "the path does not exist or cannot be reached")
                .at(path.display())
                .hint("Correct `compose` and `extra` of the source."));
        }
        found.extend(real(path));
    }
    folders.extend(source.compose.iter().flat_map(|p| real(p)));
    let stacks: BTreeSet<&str> =
        deployment.into_iter().flat_map(|d| &d.services).filter_map(|s| s.stack.as_deref()).collect();
    if !stacks.is_empty() && source.compose.is_empty() {
        let stacks: Vec<&str> = stacks.into_iter().collect();
        places.warnings.push(format!(
            "Docker does not tell from which files these stacks were deployed: {}; name their folders in `compose`",
            stacks.join(", ")
        ));
    }
    let mut written: BTreeSet<PathBuf> = BTreeSet::new();
    for mount in containers.iter().flat_map(|c| &c.mounts).filter(|m| m.kind == "bind" && m.writable) {
        let at = PathBuf::from(&mount.source);
        let inside = folders.iter().any(|f| at.starts_with(f) && at != *f);
        let wanted = source.extra.iter().any(|e| e.starts_with(&at) || at.starts_with(e));
        if inside && !wanted && at.is_dir() {
            written.insert(at);
        }
    }
    for at in &written {
        places.exclude.push(globset::escape(&at.to_string_lossy()));
        places.warnings.push(format!(
            "{} is left out, since containers write into it: back it up with a source of kind \"files\", or name it in `extra`",
            at.display()
        ));
    }
    found.extend(folders);
    places.paths = found.into_iter().collect();
    Ok(places)
}

enum Folder {
    Own(PathBuf),
    Shared(PathBuf),
    Gone,
}

fn folder(project: &Project, homes: &BTreeSet<&Path>) -> Folder {
    let Some(folder) = project.folder.clone().filter(|f| f.is_dir()) else { return Folder::Gone };
    let canonical = folder.canonicalize().unwrap_or_else(|_| folder.clone());
    if SHARED.iter().any(|s| canonical == Path::new(s)) || homes.contains(canonical.as_path()) {
        Folder::Shared(folder)
    } else {
        Folder::Own(folder)
    }
}

/// A path, and where it leads when it is a link: a walk does not follow links.
fn real(path: &Path) -> Vec<PathBuf> {
    let mut all = vec![path.to_owned()];
    all.extend(path.canonicalize().ok().filter(|p| p != path));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::docker::find::Mount;

    fn project(name: &str, folder: &Path, files: &[PathBuf]) -> Project {
        Project { name: name.into(), folder: Some(folder.to_owned()), files: files.to_vec(), ..Project::default() }
    }

    #[test]
    fn folders_of_projects_are_read_without_what_containers_write_into() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let shop = root.join("shop");
        for folder in ["data[1]", "kept", "conf"] {
            std::fs::create_dir_all(shop.join(folder)).unwrap();
        }
        std::fs::write(root.join("outside.yml"), "x").unwrap();
        std::os::unix::fs::symlink(&shop, root.join("current")).unwrap();
        let bind = |at: &str, writable: bool| Mount {
            kind: "bind".into(),
            source: shop.join(at).display().to_string(),
            writable,
            ..Mount::default()
        };
        let mounts = vec![bind("data[1]", true), bind("kept", true), bind("conf", false), bind("", true)];
        let containers = [Container { mounts, ..Container::default() }];
        let home = root.join("home");
        std::fs::create_dir(&home).unwrap();
        let mut accounts = Accounts::default();
        let user = crate::host::inventory::accounts::User { home: home.display().to_string(), ..Default::default() };
        accounts.users.insert("ann".into(), user);
        let deployment = Deployment {
            projects: vec![
                project("shop", &root.join("current"), &[root.join("outside.yml")]),
                project("athome", &home, &[]),
                project("gone", &root.join("nowhere"), &[]),
            ],
            ..Deployment::default()
        };
        let source = HostSource { extra: vec![shop.join("kept")], ..HostSource::default() };
        let places = find(&source, Some(&deployment), &containers, &accounts).unwrap();
        for expected in [root.join("current"), shop.clone(), root.join("outside.yml"), shop.join("kept")] {
            assert!(places.paths.contains(&expected), "{expected:?}: {places:?}");
        }
        assert!(!places.paths.contains(&home));
        assert_eq!(places.exclude, [format!("{}/data[[]1[]]", shop.display())]);
        let said = places.warnings.join("\n");
        for word in ["data[1] is left out", "athome was started in", "gone is not here"] {
            assert!(said.contains(word), "{said}");
        }
        let missing = HostSource { compose: vec![root.join("missing")], ..HostSource::default() };
        assert_eq!(find(&missing, None, &[], &accounts).unwrap_err().kind, Kind::Source);
    }
}
