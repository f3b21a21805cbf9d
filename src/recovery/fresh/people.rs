//! Users and groups that a machine is to get, before anything is installed on it.
//!
//! A package that finds its user there takes him as he is. So what owners are called by their numbers (files of an
//! application, bind mounts) keeps its meaning, although packages are installed in another order here. A number that
//! somebody else has here cannot be had; that is told.

use crate::host::inventory::accounts::Accounts;
use std::collections::BTreeSet;

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Make {
    /// A group.
    Group {
        /// Name.
        name: String,
        /// Number; `None` takes a free one.
        id: Option<u32>,
        /// One of a package or of the system.
        system: bool,
    },
    /// A user, whose group is there.
    User {
        /// Name.
        name: String,
        /// Number; `None` takes a free one.
        id: Option<u32>,
        /// Name of the main group.
        group: String,
        /// Home directory.
        home: String,
        /// Login shell.
        shell: String,
        /// One of a package or of the system.
        system: bool,
    },
    /// A user becomes a member of a group.
    Member {
        /// User.
        user: String,
        /// Group.
        group: String,
    },
}

/// What is to be made, in order, and what the operator should know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct People {
    /// Steps.
    pub make: Vec<Make>,
    /// Remarks.
    pub notes: Vec<String>,
}

/// Compares the accounts of the lost machine with those of this one.
pub fn plan(then: &Accounts, here: &Accounts) -> People {
    let (mut make, mut notes) = (Vec::new(), Vec::new());
    let mut taken: BTreeSet<u32> = here.groups.values().map(|g| g.id).collect();
    for (name, group) in then.groups.iter().filter(|(name, _)| !here.groups.contains_key(*name)) {
        let id = number("group", name, group.id, &mut taken, &mut notes);
        make.push(Make::Group { name: name.clone(), id, system: group.system });
    }
    let mut taken: BTreeSet<u32> = here.users.values().map(|u| u.id).collect();
    for (name, user) in &then.users {
        if let Some(now) = here.users.get(name) {
            if now.id != user.id {
                notes.push(format!(
                    "user {name} had the number {}, and has {} here: files of the machine go by name, all others keep their numbers",
                    user.id, now.id
                ));
            }
            continue;
        }
        let group = then.groups.iter().find(|(_, g)| g.id == user.group).map(|(name, _)| name.clone());
        make.push(Make::User {
            name: name.clone(),
            id: number("user", name, user.id, &mut taken, &mut notes),
            group: group.unwrap_or_else(|| "nogroup".to_owned()),
            home: user.home.clone(),
            shell: user.shell.clone(),
            system: user.system,
        });
    }
    for (name, group) in &then.groups {
        let now = here.groups.get(name).map(|g| &g.members[..]).unwrap_or_default();
        for user in group.members.iter().filter(|m| !now.contains(m) && then.users.contains_key(*m)) {
            make.push(Make::Member { user: user.clone(), group: name.clone() });
        }
    }
    People { make, notes }
}

/// The number, when nobody has it.
fn number(what: &str, name: &str, id: u32, taken: &mut BTreeSet<u32>, notes: &mut Vec<String>) -> Option<u32> {
    let free = taken.insert(id);
    if !free {
        notes.push(format!(
            "{what} {name} had the number {id}, which somebody else has here, and gets another one: files of the machine go by name, all others keep their numbers"
        ));
    }
    free.then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::inventory::accounts::{Group, User};

    fn accounts(users: &[(&str, u32, u32)], groups: &[(&str, u32, &[&str])]) -> Accounts {
        let user = |(name, id, group): &(&str, u32, u32)| {
            let user = User { id: *id, group: *group, home: format!("/home/{name}"), ..User::default() };
            ((*name).to_owned(), User { system: *id < 1000, ..user })
        };
        let group = |(name, id, members): &(&str, u32, &[&str])| {
            let members = members.iter().map(|m| (*m).to_owned()).collect();
            ((*name).to_owned(), Group { id: *id, members, system: *id < 1000 })
        };
        Accounts { users: users.iter().map(user).collect(), groups: groups.iter().map(group).collect() }
    }

    #[test]
    fn who_is_missing_is_made_with_his_number_and_in_his_groups() {
        let then = accounts(
            &[("root", 0, 0), ("postgres", 112, 118), ("ann", 1000, 1000)],
            &[("root", 0, &[]), ("postgres", 118, &[]), ("ann", 1000, &[]), ("docker", 998, &["ann"])],
        );
        let here = accounts(&[("root", 0, 0)], &[("root", 0, &[]), ("docker", 997, &[])]);
        let people = plan(&then, &here);
        assert!(people.notes.is_empty(), "{people:?}");
        let group = |name: &str, id, system| Make::Group { name: name.into(), id: Some(id), system };
        let user = |name: &str, id, system| Make::User {
            name: name.into(),
            id: Some(id),
            group: name.into(),
            home: format!("/home/{name}"),
            shell: String::new(),
            system,
        };
        assert_eq!(
            people.make,
            [
                group("ann", 1000, false),
                group("postgres", 118, true),
                user("ann", 1000, false),
                user("postgres", 112, true),
                Make::Member { user: "ann".into(), group: "docker".into() },
            ]
        );
        // Once made, nothing is left to do.
        assert_eq!(plan(&then, &then), People::default());
    }

    #[test]
    fn a_number_that_somebody_has_is_not_taken_away_and_is_told() {
        let then = accounts(&[("shop", 999, 999), ("redis", 105, 105)], &[("shop", 999, &[])]);
        let here = accounts(&[("other", 999, 999), ("redis", 104, 104)], &[]);
        let people = plan(&then, &here);
        assert!(matches!(&people.make[1], Make::User { id: None, group, .. } if group == "shop"), "{people:?}");
        assert_eq!(people.notes.len(), 2);
        assert!(people.notes[0].contains("redis had the number 105") && people.notes[1].contains("shop"));
    }
}
