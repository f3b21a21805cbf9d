//! The facts of a machine in short, for `backstay show`.

use crate::host::docker::deployment::Deployment;
use crate::host::inventory::Inventory;
use crate::model::size::{self, plural};
use crate::sources::host::HostFacts;

/// A few lines; `--json` has all of it.
pub fn lines(facts: &HostFacts) -> Vec<String> {
    let mut lines = machine(&facts.inventory);
    lines.extend(facts.docker.iter().flat_map(docker));
    if !facts.bound.is_empty() {
        let first: Vec<String> = facts.bound.iter().take(6).map(|b| b.path.display().to_string()).collect();
        let more = if facts.bound.len() > first.len() { ", …" } else { "" };
        let count = plural(facts.bound.len() as u64, "path");
        lines.push(format!(
            "{count} of this machine alone, never put in place of another's: {}{more}",
            first.join(", ")
        ));
    }
    lines
}

fn machine(i: &Inventory) -> Vec<String> {
    let system = &i.system;
    let mut lines = vec![format!(
        "{}: {}, Linux {} on {}, {}, {} memory, time zone {}",
        system.hostname,
        system.pretty_name,
        system.kernel,
        system.architecture,
        plural(i.disks.processors, "processor"),
        size::human(i.disks.memory),
        system.time_zone.as_deref().unwrap_or("unknown"),
    )];
    let mounts: Vec<String> = i
        .disks
        .mounts
        .iter()
        .map(|m| format!("{} {} of {}", m.target, size::human(m.used), size::human(m.size)))
        .collect();
    if !mounts.is_empty() {
        lines.push(format!("in use: {}", mounts.join(", ")));
    }
    let people = i.accounts.users.values().filter(|u| !u.system).count() as u64;
    let mut parts = Vec::new();
    if let Some(p) = &i.packages {
        parts.push(format!("{} ({} by hand)", plural(p.installed.len() as u64, "package"), p.by_hand.len()));
    }
    if let Some(u) = &i.units {
        let timers = u.enabled().filter(|n| n.ends_with(".timer")).count() as u64;
        parts.push(format!("{} enabled ({})", plural(u.enabled().count() as u64, "unit"), plural(timers, "timer")));
    }
    parts.push(format!("{} besides those of the system", plural(people, "user")));
    parts.push(plural(
        i.ports.iter().map(|p| (&p.protocol, p.port)).collect::<std::collections::BTreeSet<_>>().len() as u64,
        "open port",
    ));
    lines.push(parts.join(", "));
    for c in &i.postgres_clusters {
        lines.push(format!("PostgreSQL cluster {}/{} on port {} ({})", c.version, c.name, c.port, c.status));
    }
    lines
}

fn docker(d: &Deployment) -> Vec<String> {
    let swarm =
        d.swarm.as_ref().map(|s| format!(", {} of a swarm of {}", s.role, plural(s.nodes.max(0) as u64, "node")));
    let stacks: std::collections::BTreeSet<&str> = d.services.iter().filter_map(|s| s.stack.as_deref()).collect();
    let counts = [
        (d.projects.len(), "compose project"),
        (stacks.len(), "stack"),
        (d.services.len(), "service"),
        (d.containers.len(), "other container"),
        (d.networks.len(), "network"),
        (d.volumes.len(), "volume"),
        (d.secrets.len(), "secret"),
        (d.configs.len(), "config"),
    ];
    let counts: Vec<String> = counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| plural(*n as u64, what)).collect();
    let mut lines = vec![format!(
        "Docker {}{}: {}",
        d.version,
        swarm.unwrap_or_default(),
        if counts.is_empty() { "nothing".to_owned() } else { counts.join(", ") }
    )];
    for p in &d.projects {
        let services: Vec<String> = p.services.iter().map(|s| format!("{} × {}", s.name, s.replicas)).collect();
        lines.push(format!("compose project {}: {}", p.name, services.join(", ")));
    }
    if !d.secrets.is_empty() {
        let names: Vec<&str> = d.secrets.iter().map(|s| s.name.as_str()).collect();
        lines.push(format!("secrets that only you have: {}", names.join(", ")));
    }
    lines
}
