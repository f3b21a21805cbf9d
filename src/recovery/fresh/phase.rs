//! The phases of a recovery, and their order.

use crate::model::Name;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A phase. Each may be done again from its beginning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Users and groups, with their numbers, before packages would take these.
    Accounts,
    /// The files of the lost machine are fetched, to one side.
    Fetch,
    /// What was installed.
    Packages,
    /// The files, less what starts anything.
    Config,
    /// What this machine knows of the vault.
    Trust,
    /// PostgreSQL clusters of the recorded majors, with their settings and roles.
    Clusters,
    /// The servers into which data is loaded.
    Servers,
    /// Images, volumes and files of a plan.
    Trees(Name),
    /// Networks and containers.
    Containers,
    /// Databases, Redis and what programs take back, of a plan.
    Data(Name),
    /// What starts units and jobs at boot.
    Enable,
    /// The application.
    Start,
    /// What the plans check.
    Checks,
    /// Workers and timers.
    Rest,
    /// The host's name in the repository.
    Claim,
    /// The jobs of Backstay.
    Timers,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Phase::Fetch => "fetch the files",
            Phase::Accounts => "accounts",
            Phase::Packages => "packages",
            Phase::Config => "configuration and units",
            Phase::Trust => "keys",
            Phase::Clusters => "PostgreSQL clusters",
            Phase::Servers => "start the servers",
            Phase::Trees(plan) => return write!(f, "images, volumes and files of {plan}"),
            Phase::Containers => "containers",
            Phase::Data(plan) => return write!(f, "databases of {plan}"),
            Phase::Enable => "enable",
            Phase::Start => "start the application",
            Phase::Checks => "checks",
            Phase::Rest => "start the rest",
            Phase::Claim => "take over the name",
            Phase::Timers => "timers",
        };
        f.write_str(text)
    }
}

/// Kinds of sources that are restored before containers are made, and those after.
pub const TREES: &[&str] = &["image", "volume", "files"];
/// See [`TREES`].
pub const DATA: &[&str] = &["postgres", "redis", "command"];

/// What decides which phases there are.
#[derive(Clone, Debug, Default)]
pub struct Has {
    /// The backups say what the machine was.
    pub machine: bool,
    /// They hold files of the system's directories.
    pub files: bool,
    /// Packages are to be installed.
    pub install: bool,
    /// It had PostgreSQL clusters.
    pub clusters: bool,
    /// It had containers.
    pub containers: bool,
    /// Plans, with the kinds of their sources.
    pub plans: Vec<(Name, Vec<String>)>,
    /// Nothing is taken over, and nothing runs but what is named.
    pub exercise: bool,
}

/// The phases, in order.
pub fn phases(has: &Has) -> Vec<Phase> {
    let of = |kinds: &[&str], phase: fn(Name) -> Phase| {
        let with = has.plans.iter().filter(|(_, all)| all.iter().any(|k| kinds.contains(&k.as_str())));
        with.map(|(plan, _)| phase(plan.clone())).collect::<Vec<_>>()
    };
    let some = |yes: bool, phase: Phase| yes.then_some(phase);
    let mut phases: Vec<Phase> = [
        some(has.machine, Phase::Accounts),
        some(has.files, Phase::Fetch),
        some(has.install, Phase::Packages),
        Some(Phase::Config),
        some(!has.exercise, Phase::Trust),
        some(has.clusters, Phase::Clusters),
        Some(Phase::Servers),
    ]
    .into_iter()
    .flatten()
    .collect();
    phases.extend(of(TREES, Phase::Trees));
    phases.extend(some(has.containers, Phase::Containers));
    phases.extend(of(DATA, Phase::Data));
    phases.extend(some(has.files && !has.exercise, Phase::Enable));
    phases.extend([Phase::Start, Phase::Checks, Phase::Rest]);
    if !has.exercise {
        phases.extend([Phase::Claim, Phase::Timers]);
    }
    phases
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(exercise: bool) -> Has {
        let plan = |name: &str, kinds: &[&str]| {
            (name.parse::<Name>().unwrap(), kinds.iter().map(|k| (*k).to_owned()).collect())
        };
        Has {
            machine: true,
            files: true,
            install: true,
            clusters: true,
            containers: true,
            plans: vec![plan("shop", &["host", "volume", "postgres"]), plan("site", &["files"])],
            exercise,
        }
    }

    #[test]
    fn data_comes_when_its_servers_are_there_and_timers_come_last() {
        let names: Vec<String> = phases(&has(false)).iter().map(ToString::to_string).collect();
        assert_eq!(
            names,
            [
                "accounts",
                "fetch the files",
                "packages",
                "configuration and units",
                "keys",
                "PostgreSQL clusters",
                "start the servers",
                "images, volumes and files of shop",
                "images, volumes and files of site",
                "containers",
                "databases of shop",
                "enable",
                "start the application",
                "checks",
                "start the rest",
                "take over the name",
                "timers"
            ]
        );
    }

    #[test]
    fn an_exercise_takes_nothing_over_and_enables_nothing() {
        let phases = phases(&has(true));
        for never in [Phase::Trust, Phase::Enable, Phase::Claim, Phase::Timers] {
            assert!(!phases.contains(&never), "{never}");
        }
        assert!(phases.contains(&Phase::Data("shop".parse().unwrap())));
    }
}
