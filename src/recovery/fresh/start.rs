//! Which units run on the recovered machine, and when they start.

use crate::host::inventory::units::Units;
use std::collections::BTreeSet;

/// Beginnings of names of what a machine starts by itself, or what belongs to its hardware and network.
const OF_THE_MACHINE: &[&str] = &[
    "systemd-",
    "getty@",
    "serial-getty@",
    "console-",
    "user@",
    "user-runtime-dir@",
    "dbus",
    "cloud-",
    "networking.",
    "ifup@",
    "NetworkManager",
    "netplan",
    "lvm2",
    "dm-event",
    "mdmonitor",
    "blk-availability",
    "keyboard-setup",
    "kmod",
    "modprobe@",
    "qemu-guest-agent",
    "open-vm-tools",
    "walinuxagent",
];

/// Beginnings of names of what somebody may have come in by: it never goes off, whatever the lost machine came in by.
const WAY_IN: &[&str] = &["ssh.", "ssh@", "sshd", "dropbear", "tailscaled", "wg-quick@", "openvpn", "zerotier-one"];

/// Units to start, in two rounds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Starts {
    /// Before the checks.
    pub first: Vec<String>,
    /// After them: workers, and timers that start jobs.
    pub late: Vec<String>,
    /// Enabled here by its package, and not there: goes off.
    pub off: Vec<String>,
}

/// What ran or was to run there. `named` are units of the plans' `stop` lists, of which `late` start after the checks.
pub fn of(then: &Units, named: &BTreeSet<String>, late: &BTreeSet<String>) -> BTreeSet<String> {
    let chosen = |unit: &str| {
        let state = |name: &str| then.files.get(name).map(String::as_str);
        let is = |name: &str| matches!(state(name), Some("enabled" | "enabled-runtime" | "linked"));
        // An instance is as its template says, or was started by somebody.
        let instance = unit.split_once('@').is_some_and(|(_, rest)| !rest.starts_with('.'));
        is(unit) || (instance && state(unit).is_none())
    };
    let running = then.active.iter().flatten().filter(|unit| chosen(unit)).cloned();
    let all = running
        .chain(named.iter().filter(|u| ran(then, u)).cloned())
        .chain(late.iter().filter(|u| ran(then, u)).cloned());
    all.filter(|unit| !belongs_to_the_machine(unit)).collect()
}

fn ran(then: &Units, unit: &str) -> bool {
    then.active.as_ref().is_none_or(|active| active.contains(unit))
}

fn belongs_to_the_machine(unit: &str) -> bool {
    unit.starts_with("backstay") || OF_THE_MACHINE.iter().any(|beginning| unit.starts_with(beginning))
}

fn is_a_way_in(unit: &str) -> bool {
    WAY_IN.iter().any(|beginning| unit.starts_with(beginning))
}

/// Two rounds of units, and what goes off. `before` are units that were enabled on this machine before anything was
/// installed: those are its own affair.
pub fn rounds(
    then: &Units,
    here: &Units,
    before: &BTreeSet<String>,
    named: &BTreeSet<String>,
    late: &BTreeSet<String>,
) -> Starts {
    let of_late = |unit: &String| late.contains(unit) || unit.ends_with(".timer");
    let (late, first) = of(then, named, late).into_iter().partition(of_late);
    let off = here.enabled().filter(|unit| {
        let was_off = matches!(then.files.get(*unit).map(String::as_str), Some("disabled" | "masked"));
        was_off && !before.contains(*unit) && !belongs_to_the_machine(unit) && !is_a_way_in(unit)
    });
    Starts { first, late, off: off.map(str::to_owned).collect() }
}

/// Servers of data: these are started for their data to be restored, at any time.
const OF_DATA: &[&str] = &["postgresql", "redis", "valkey", "docker.", "containerd."];

/// Units that packages have enabled since the recovery began, and that would start at a boot before the data is there.
/// `before` are those that were enabled then; when nothing is known of them, nothing is touched. Nor is SSH, or a
/// tunnel that is up; one that a package brought is not, and would be the lost machine's.
pub fn too_early(here: &Units, before: &BTreeSet<String>) -> Vec<String> {
    let is_open = |unit: &str| here.active.as_ref().is_none_or(|active| active.contains(unit));
    let early = here.enabled().filter(|unit| {
        !before.contains(*unit)
            && !belongs_to_the_machine(unit)
            && !OF_DATA.iter().any(|beginning| unit.starts_with(beginning))
            && !(is_a_way_in(unit) && (unit.starts_with("ssh") || is_open(unit)))
    });
    if before.is_empty() { Vec::new() } else { early.map(str::to_owned).collect() }
}

/// Those of the units that waited that start at boot again: all but those that did not there.
pub fn again(waiting: &[String], then: &Units) -> Vec<String> {
    let was_off = |unit: &&String| matches!(then.files.get(*unit).map(String::as_str), Some("disabled" | "masked"));
    waiting.iter().filter(|unit| !was_off(unit)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    fn units(files: &[(&str, &str)], active: &[&str]) -> Units {
        Units {
            files: files.iter().map(|(n, s)| ((*n).to_owned(), (*s).to_owned())).collect(),
            active: Some(set(active)),
            failed: BTreeSet::new(),
        }
    }

    #[test]
    fn what_ran_starts_again_workers_and_timers_after_the_checks() {
        let then = units(
            &[
                ("nginx.service", "enabled"),
                ("shop.service", "enabled"),
                ("worker.service", "enabled"),
                ("nightly.timer", "enabled"),
                ("stopped.service", "enabled"),
                ("redis-server.service", "disabled"),
                ("backstay-backup@shop.timer", "enabled"),
                ("systemd-timesyncd.service", "enabled"),
            ],
            &[
                "nginx.service",
                "shop.service",
                "worker.service",
                "nightly.timer",
                "queue@1.service",
                "by-hand.service",
                "static.service",
                "backstay-backup@shop.timer",
                "systemd-timesyncd.service",
            ],
        );
        let here = units(&[("redis-server.service", "enabled"), ("mine.service", "enabled")], &[]);
        let starts =
            rounds(&then, &here, &set(&["mine.service"]), &set(&["by-hand.service"]), &set(&["worker.service"]));
        assert_eq!(starts.first, ["by-hand.service", "nginx.service", "queue@1.service", "shop.service"]);
        assert_eq!(starts.late, ["nightly.timer", "worker.service"]);
        assert_eq!(starts.off, ["redis-server.service"]);
    }

    #[test]
    fn nobody_is_locked_out() {
        let enabled = ["ssh.socket", "tailscaled.service", "openvpn.service", "nginx.service"];
        let here = units(&enabled.map(|name| (name, "enabled")), &["ssh.socket", "tailscaled.service"]);
        let then = units(&enabled.map(|name| (name, "disabled")), &[]);
        let starts = rounds(&then, &here, &set(&[]), &set(&[]), &set(&[]));
        assert_eq!(starts.off, ["nginx.service"]);
        assert_eq!(too_early(&here, &set(&["mine.service"])), ["nginx.service", "openvpn.service"]);
    }

    #[test]
    fn what_packages_enabled_waits_for_the_data() {
        let enabled = ["nginx.service", "mine.service", "postgresql.service", "docker.socket", "systemd-x.timer"];
        let here = units(&enabled.map(|name| (name, "enabled")), &[]);
        assert_eq!(too_early(&here, &set(&["mine.service"])), ["nginx.service"]);
        assert!(too_early(&here, &set(&[])).is_empty());
        let then = units(&[("nginx.service", "enabled"), ("apache2.service", "disabled")], &[]);
        let waiting = ["apache2.service", "new.service", "nginx.service"].map(str::to_owned);
        assert_eq!(again(&waiting, &then), ["new.service", "nginx.service"]);
    }
}
