//! Users and groups of the machine's own files.

use crate::error::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The first number of a user of flesh and blood, where login.defs(5) does not say it.
const FIRST: u32 = 1000;

/// Users and groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Accounts {
    /// Users by name.
    pub users: BTreeMap<String, User>,
    /// Groups by name.
    pub groups: BTreeMap<String, Group>,
}

/// A user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct User {
    /// Number.
    pub id: u32,
    /// Number of the main group.
    pub group: u32,
    /// Home directory.
    pub home: String,
    /// Login shell.
    pub shell: String,
    /// Made by a package or the system: its number depends on the order in which things were installed.
    pub system: bool,
}

/// A group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Group {
    /// Number.
    pub id: u32,
    /// Users that it has besides those whose main group it is.
    pub members: Vec<String>,
    /// As of a user.
    pub system: bool,
}

/// Those of this machine. Users of a directory (LDAP) are not among them.
///
/// # Errors
/// When `/etc/passwd` or `/etc/group` cannot be read.
pub fn read() -> Result<Accounts> {
    let text = |path: &str| {
        std::fs::read_to_string(path)
            .map_err(|e| Error::io("accounts cannot be read", Path::new(path), e).kind(Kind::Source))
    };
    let defaults = std::fs::read_to_string("/etc/login.defs").unwrap_or_default();
    Ok(parse(&text("/etc/passwd")?, &text("/etc/group")?, &defaults))
}

fn parse(passwd: &str, group: &str, defaults: &str) -> Accounts {
    let limit = |key: &str| {
        let value = defaults.lines().find_map(|l| l.trim().strip_prefix(key)?.trim().parse().ok());
        value.unwrap_or(FIRST)
    };
    let (first_user, first_group) = (limit("UID_MIN"), limit("GID_MIN"));
    // 65534 is nobody, whom the system made too.
    let system = |id: u32, first: u32| id < first || id == 65534;
    let mut accounts = Accounts::default();
    for line in passwd.lines() {
        let f: Vec<&str> = line.split(':').collect();
        let (Some(id), Some(group)) = (number(&f, 2), number(&f, 3)) else { continue };
        let at = |n: usize| f.get(n).copied().unwrap_or_default().to_owned();
        let user = User { id, group, home: at(5), shell: at(6), system: system(id, first_user) };
        accounts.users.entry(at(0)).or_insert(user);
    }
    for line in group.lines() {
        let f: Vec<&str> = line.split(':').collect();
        let Some(id) = number(&f, 2) else { continue };
        let members = f.get(3).copied().unwrap_or_default();
        let members = members.split(',').filter(|m| !m.is_empty()).map(str::to_owned).collect();
        let group = Group { id, members, system: system(id, first_group) };
        accounts.groups.entry(f[0].to_owned()).or_insert(group);
    }
    accounts
}

fn number(fields: &[&str], n: usize) -> Option<u32> {
    fields.get(n)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_of_the_system_are_told_from_others() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nann:x:1000:1000::/home/ann:/bin/sh\n# no\nnobody:x:65534:65534::/:/no\npostgres:x:112:118::/var/lib/postgresql:/bin/bash\n";
        let group = "root:x:0:\ndocker:x:998:ann,bob\nann:x:1000:\n";
        let a = parse(passwd, group, "# UID_MIN 5\nUID_MIN\t\t 1000\n");
        let people: Vec<&str> = a.users.iter().filter(|(_, u)| !u.system).map(|(n, _)| n.as_str()).collect();
        assert_eq!(people, ["ann"]);
        assert_eq!((a.users["postgres"].id, a.users["postgres"].group), (112, 118));
        assert_eq!(a.groups["docker"].members, ["ann", "bob"]);
        assert!(a.groups["docker"].system && !a.groups["ann"].system);
        assert!(!parse(passwd, group, "UID_MIN 100").users["postgres"].system);
    }
}
