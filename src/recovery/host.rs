//! What of a `host` source may be put in place on this machine.
//!
//! On the machine that was backed up, everything may. On another one what belonged to the first is left out
//! ([`crate::sources::host::bound`]): of a directory that holds such a path only the rest is put in place, name by name.
//! Owners are then taken by name, since numbers differ with the order in which packages were installed.

use super::select;
use super::tree::member_name;
use crate::error::{Error, Kind, Result};
use crate::host::inventory::accounts::{self, Accounts};
use crate::repository::catalog::Catalog;
use crate::repository::manifest::SourceRecord;
use crate::repository::selection::Selection;
use crate::sources::files::TREE;
use crate::sources::files::untar::Ids;
use crate::sources::host::bound;
use futures::StreamExt;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::pin::pin;

/// What is put in place, and what is left out.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// Paths, none within another.
    pub paths: Vec<PathBuf>,
    /// What the operator should know.
    pub warnings: Vec<String>,
}

/// Chooses among the paths that were asked for. `same`: this is the machine that was backed up.
///
/// # Errors
/// [`Kind::Refused`] when nothing is left, or when nothing was asked for: a whole machine is not exchanged under itself.
pub async fn choose(catalog: &Catalog, record: &SourceRecord, asked: &[PathBuf], same: bool) -> Result<Chosen> {
    if asked.is_empty() {
        return Err(Error::new(
            Kind::Refused,
            format!("source {} is a machine, and is not put in place as a whole", record.name),
        )
        .hint("Name files and directories with --path, or write everything to --to DIRECTORY and look."));
    }
    let mut chosen = Chosen::default();
    let mut left_out = BTreeMap::new();
    for path in asked {
        if same || !(bound::may_hold(path) || bound::why(path).is_some()) {
            chosen.paths.push(path.clone());
            continue;
        }
        let below = children(catalog, record, path).await?;
        spread(path, &below, &mut chosen.paths, &mut left_out);
    }
    chosen.paths.sort();
    chosen.paths.dedup();
    let left: Vec<String> =
        left_out.iter().map(|(p, why): (&PathBuf, &bound::Why)| format!("{} ({})", p.display(), why.words())).collect();
    if chosen.paths.is_empty() {
        return Err(Error::new(Kind::Refused, "what was asked for belongs to the machine that was backed up")
            .because(left.join("\n"))
            .hint("Write it to --to DIRECTORY, and take over by hand what fits."));
    }
    if !left.is_empty() {
        chosen.warnings.push(format!("left out, since this is another machine: {}", left.join(", ")));
    }
    chosen.warnings.extend(afterwards(&chosen.paths));
    Ok(chosen)
}

/// Names in each directory below a path of the backup.
type Children = BTreeMap<PathBuf, BTreeSet<PathBuf>>;

async fn children(catalog: &Catalog, record: &SourceRecord, path: &Path) -> Result<Children> {
    let artifact = select::artifact(record, Some(TREE))?;
    let selection = Selection::of(member_name(path));
    let mut segments = pin!(catalog.read(selection.segments(&artifact.segments)));
    let mut found = Children::new();
    while let Some((_, segment)) = segments.next().await {
        for file in segment?.entries.iter().filter_map(|e| e.file.as_ref()).filter(|f| selection.contains(&f.path.0)) {
            let at = Path::new("/").join(OsStr::from_bytes(&file.path.0));
            if let Some(parent) = at.parent() {
                found.entry(parent.to_owned()).or_default().insert(at.clone());
            }
        }
    }
    Ok(found)
}

/// A path as it is, or what of it belongs to no machine.
fn spread(path: &Path, below: &Children, paths: &mut Vec<PathBuf>, left_out: &mut BTreeMap<PathBuf, bound::Why>) {
    match bound::rule_of(path) {
        Some((_, why)) => {
            left_out.insert(path.to_owned(), why);
        }
        None if bound::may_hold(path) && below.contains_key(path) => {
            below[path].iter().for_each(|child| spread(child, below, paths, left_out));
        }
        None => paths.push(path.to_owned()),
    }
}

/// What does not take effect by lying there.
fn afterwards(paths: &[PathBuf]) -> Vec<String> {
    let touches = |place: &str| paths.iter().any(|p| p.starts_with(place) || Path::new(place).starts_with(p));
    [
        ("/etc/systemd/system", "units take effect with `systemctl daemon-reload`, and those that run with a restart"),
        ("/etc/nginx", "nginx goes on as it is until `nginx -t` and `systemctl reload nginx`"),
        ("/etc/docker/daemon.json", "the Docker daemon goes on as it is until `systemctl restart docker`"),
        ("/etc/ssh/sshd_config", "sshd goes on as it is until `sshd -t` and `systemctl reload ssh`"),
        ("/etc/sysctl.d", "settings of the kernel take effect with `sysctl --system`"),
        ("/usr/local/share/ca-certificates", "certificates count from `update-ca-certificates` on"),
    ]
    .into_iter()
    .filter(|(place, _)| touches(place))
    .map(|(_, what)| what.to_owned())
    .collect()
}

/// Which numbers of the backup mean somebody who has another number on this machine, and names that nobody has here.
///
/// # Errors
/// When the accounts of this machine cannot be read.
pub fn ids(record: &SourceRecord) -> Result<(Ids, Vec<String>)> {
    let names = |key: &str| -> BTreeMap<u32, String> {
        record.facts.get(key).and_then(|v| serde_json::from_value(v.clone()).ok()).unwrap_or_default()
    };
    let accounts = accounts::read().map_err(|e| e.kind(Kind::Restore))?;
    Ok(mapped(&names("owners"), &names("groups"), &accounts))
}

fn mapped(owners: &BTreeMap<u32, String>, groups: &BTreeMap<u32, String>, here: &Accounts) -> (Ids, Vec<String>) {
    let (mut ids, mut unknown) = (Ids::default(), Vec::new());
    for (then, name) in owners {
        match here.users.get(name) {
            Some(user) if user.id != *then => drop(ids.users.insert(*then, user.id)),
            Some(_) => {}
            None => unknown.push(format!("user {name} ({then})")),
        }
    }
    for (then, name) in groups {
        match here.groups.get(name) {
            Some(group) if group.id != *then => drop(ids.groups.insert(*then, group.id)),
            Some(_) => {}
            None => unknown.push(format!("group {name} ({then})")),
        }
    }
    (ids, unknown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::inventory::accounts::{Group, User};

    #[test]
    fn of_a_directory_that_holds_something_bound_the_rest_is_put_in_place() {
        let mut below = Children::new();
        for path in [
            "/etc/fstab",
            "/etc/nginx",
            "/etc/nginx/nginx.conf",
            "/etc/ssh",
            "/etc/ssh/sshd_config",
            "/etc/ssh/ssh_host_rsa_key",
            "/etc/netplan",
            "/etc/netplan/a.yaml",
        ] {
            below.entry(Path::new(path).parent().unwrap().to_owned()).or_default().insert(path.into());
        }
        let (mut paths, mut left_out) = (Vec::new(), BTreeMap::new());
        spread(Path::new("/etc"), &below, &mut paths, &mut left_out);
        assert_eq!(paths, [Path::new("/etc/nginx"), Path::new("/etc/ssh/sshd_config")]);
        let left: Vec<_> = left_out.into_keys().collect();
        assert_eq!(left, ["/etc/fstab", "/etc/netplan", "/etc/ssh/ssh_host_rsa_key"].map(PathBuf::from));
        assert_eq!(afterwards(&paths).len(), 2);
    }

    #[test]
    fn numbers_go_by_name_and_names_that_nobody_has_are_told() {
        let mut here = Accounts::default();
        here.users.insert("postgres".into(), User { id: 120, ..User::default() });
        here.users.insert("root".into(), User::default());
        here.groups.insert("ssl-cert".into(), Group { id: 115, ..Group::default() });
        let owners = BTreeMap::from([(0, "root".to_owned()), (112, "postgres".to_owned()), (1001, "ann".to_owned())]);
        let groups = BTreeMap::from([(110, "ssl-cert".to_owned())]);
        let (ids, unknown) = mapped(&owners, &groups, &here);
        assert_eq!((ids.users, ids.groups), (BTreeMap::from([(112, 120)]), BTreeMap::from([(110, 115)])));
        assert_eq!(unknown, ["user ann (1001)"]);
    }
}
