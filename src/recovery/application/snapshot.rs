//! How everything was before it was stopped. It is in the journal, so it names what survives a reboot.

use crate::config::target;
use crate::error::Result;
use crate::host::systemd;
use crate::recovery::resource::{Note, parse};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Everything that is stopped, in the order in which that happens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Each once.
    pub items: Vec<Item>,
    /// What was named and serves the plan's own data, or shows the page, and therefore is left running, as `unit:NAME`,
    /// `container:NAME`.
    #[serde(default)]
    pub spared: BTreeSet<String>,
    /// When the first of them were started with the restored data; for the start of the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Timestamp>,
}

/// One thing that is stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// What it is, and how it was.
    pub who: Who,
    /// Its place in the order of stopping; those with the same are stopped side by side.
    pub stop: usize,
    /// Its place in the order of starting.
    pub start: usize,
    /// Whether it starts only after the checks.
    pub late: bool,
    /// Why it is here though nobody named it: `it starts erp.service`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What can be stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Who {
    /// A unit of systemd.
    Unit(UnitBefore),
    /// A container.
    Container(ContainerBefore),
    /// A service of a swarm.
    Service(ServiceBefore),
}

/// Whether a unit ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Was {
    /// It ran, or was starting.
    Running,
    /// It was in the middle of a job, which begins anew.
    Job,
    /// It failed again and again and was between two tries.
    Looping,
    /// It had failed.
    Failed,
    /// It did not run.
    Idle,
}

/// A unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitBefore {
    /// Its name.
    pub name: String,
    /// Whether it ran.
    pub was: Was,
    /// In systemd's words.
    pub state: String,
    /// Whether it is kept from starting: not a masked one, which cannot, nor a target, which only stands for others.
    pub held: bool,
    /// Units that it starts.
    #[serde(default)]
    pub triggers: Vec<String>,
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerBefore {
    /// Its name.
    pub name: String,
    /// `running`, `paused`, `restarting`, `exited`, `created`.
    pub state: String,
    /// Its restart policy.
    pub restart: String,
    /// Its compose project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Services of the project that must be healthy before it starts.
    #[serde(default)]
    pub after_healthy: Vec<String>,
    /// Its id, as long as it lives.
    #[serde(skip)]
    pub id: String,
}

/// A service of a swarm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceBefore {
    /// Its name.
    pub name: String,
    /// How many replicas it had; `None` when it runs once on each node.
    pub replicas: Option<i64>,
    /// How many tasks of it ran.
    pub running: usize,
    /// Its containers on this node, as long as they live.
    #[serde(skip)]
    pub ids: Vec<String>,
}

impl ContainerBefore {
    /// Whether it runs, in whatever way.
    pub fn was_up(&self) -> bool {
        matches!(self.state.as_str(), "running" | "paused" | "restarting")
    }
}

impl Who {
    /// As it is written among the users of a resource: `unit:NAME`, `container:NAME`, `service:NAME`.
    pub fn key(&self) -> String {
        match self {
            Who::Unit(u) => format!("unit:{}", u.name),
            Who::Container(c) => format!("container:{}", c.name),
            Who::Service(s) => format!("service:{}", s.name),
        }
    }

    /// For messages: `unit erp.service`.
    pub fn label(&self) -> String {
        self.key().replacen(':', " ", 1)
    }

    /// How it was, in words.
    fn words(&self) -> String {
        match self {
            Who::Unit(UnitBefore { state, was: Was::Job, .. }) => {
                format!("{state}, in the middle of a job that will begin anew")
            }
            Who::Unit(u) => u.state.clone(),
            Who::Container(c) if c.restart == "no" => c.state.clone(),
            Who::Container(c) => format!("{}, restart policy {}", c.state, c.restart),
            Who::Service(ServiceBefore { replicas: Some(1), .. }) => "1 replica".to_owned(),
            Who::Service(ServiceBefore { replicas: Some(n), .. }) => format!("{n} replicas"),
            Who::Service(_) => "one task on each node".to_owned(),
        }
    }

    /// Whether it ran, or tried to.
    pub fn was_up(&self) -> bool {
        match self {
            Who::Unit(u) => matches!(u.was, Was::Running | Was::Job | Was::Looping),
            Who::Container(c) => c.was_up(),
            Who::Service(s) => s.replicas != Some(0),
        }
    }

    /// The containers by which it is known while it runs.
    fn ids(&self) -> &[String] {
        match self {
            Who::Unit(_) => &[],
            Who::Container(c) => std::slice::from_ref(&c.id),
            Who::Service(s) => &s.ids,
        }
    }
}

impl Snapshot {
    /// From the journal.
    ///
    /// # Errors
    /// [`crate::error::Kind::Internal`] when it is none.
    pub fn from_note(note: &Note) -> Result<Self> {
        parse(note)
    }

    /// For the journal.
    pub fn to_note(&self) -> Note {
        serde_json::json!(self)
    }

    /// One line for each thing that is stopped, for the plan, in the order of stopping: `unit erp.timer: active
    /// (waiting); it starts erp.service`.
    pub fn lines(&self) -> Vec<String> {
        self.items
            .iter()
            .map(|item| {
                let mut line = format!("{}: {}", item.who.label(), item.who.words());
                if let Some(why) = &item.why {
                    line.push_str(&format!("; {why}"));
                }
                if !item.who.was_up() {
                    line.push_str("; it is kept from starting");
                } else if item.late {
                    line.push_str("; it starts again only after the checks");
                }
                line
            })
            .collect()
    }

    /// Whether this user of a resource will not run any more when everything is stopped: `container:NAME`,
    /// `service:NAME`, `unit:NAME`, `process:PID NAME`. A process counts with its unit or its container, as long as it
    /// lives.
    pub fn covers(&self, user: &str) -> bool {
        let Some(process) = user.strip_prefix("process:") else {
            let user = normal(user);
            return self.items.iter().any(|item| item.who.key() == user);
        };
        let pid = process.split(' ').next().unwrap_or_default();
        if pid.is_empty() || !pid.bytes().all(|b| b.is_ascii_digit()) {
            return false;
        }
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        self.covers_groups(&groups)
    }

    fn covers_groups(&self, groups: &str) -> bool {
        let unit = systemd::unit::of_groups(groups);
        self.items.iter().any(|item| match &item.who {
            Who::Unit(u) => unit == Some(u.name.as_str()),
            other => other.ids().iter().any(|id| id.len() >= 12 && groups.contains(id.as_str())),
        })
    }
}

/// A user of a resource in the one way of writing it.
pub(super) fn normal(user: &str) -> String {
    match user.strip_prefix("unit:") {
        Some(name) => format!("unit:{}", target::full(name)),
        None => user.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(who: Who) -> Item {
        Item { who, stop: 0, start: 0, late: false, why: None }
    }

    fn snapshot() -> Snapshot {
        let unit = |name: &str, was| UnitBefore {
            name: name.into(),
            was,
            state: "active (running)".into(),
            held: true,
            triggers: Vec::new(),
        };
        let container = ContainerBefore {
            name: "web".into(),
            state: "running".into(),
            restart: "always".into(),
            project: None,
            after_healthy: Vec::new(),
            id: "0123456789abcdef".into(),
        };
        let service =
            ServiceBefore { name: "app".into(), replicas: Some(3), running: 3, ids: vec!["fedcba9876543210".into()] };
        let late = Item {
            late: true,
            why: Some("it starts erp.service".into()),
            ..item(Who::Unit(unit("erp.timer", Was::Running)))
        };
        let items = vec![
            late,
            item(Who::Unit(unit("erp.service", Was::Idle))),
            item(Who::Container(container)),
            item(Who::Service(service)),
        ];
        Snapshot { items, ..Snapshot::default() }
    }

    #[test]
    fn users_are_covered_by_name_and_processes_by_their_groups() {
        let s = snapshot();
        for user in ["unit:erp", "unit:erp.service", "unit:erp.timer", "container:web", "service:app"] {
            assert!(s.covers(user), "{user}");
        }
        for user in ["unit:other", "container:app", "service:web", "process:x", "process:", "process:1 init"] {
            assert!(!s.covers(user), "{user}");
        }
        for (groups, covered) in [
            ("0::/system.slice/erp.service", true),
            ("0::/system.slice/erp.service/worker", true),
            ("0::/system.slice/erp2.service", false),
            ("0::/user.slice/user-0.slice/user@0.service/erp.service", false),
            ("0::/system.slice/docker-0123456789abcdef.scope", true),
            ("4:memory:/docker/fedcba9876543210\n0::/", true),
            ("0::/docker/0000000000000000", false),
            ("", false),
        ] {
            assert_eq!(s.covers_groups(groups), covered, "{groups}");
        }
    }

    #[test]
    fn it_comes_back_from_the_journal_without_what_does_not_survive_a_reboot() {
        let s = snapshot();
        let note = s.to_note();
        assert!(!note.to_string().contains("0123456789abcdef") && !note.to_string().contains("fedcba"));
        let back = Snapshot::from_note(&note).unwrap();
        assert_eq!(back.lines(), s.lines());
        assert_eq!(
            s.lines()[0],
            "unit erp.timer: active (running); it starts erp.service; it starts again only after the checks"
        );
        assert_eq!(s.lines()[1], "unit erp.service: active (running); it is kept from starting");
        assert_eq!(s.lines()[2], "container web: running, restart policy always");
        assert_eq!(s.lines()[3], "service app: 3 replicas");
        assert!(Snapshot::from_note(&serde_json::json!({ "x": 1 })).is_err());
    }
}
