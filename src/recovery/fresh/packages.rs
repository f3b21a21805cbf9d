//! Which packages a machine lacks.

use crate::host::inventory::clusters::Cluster;
use crate::host::inventory::packages::Packages;
use std::collections::BTreeSet;

/// Beginnings of names of what belongs to a machine's hardware, boot and provider.
const OF_THE_MACHINE: &[&str] = &[
    "linux-image",
    "linux-headers",
    "linux-modules",
    "grub",
    "shim-",
    "efibootmgr",
    "os-prober",
    "initramfs-tools",
    "dracut",
    "firmware-",
    "intel-microcode",
    "amd64-microcode",
    "raspi-firmware",
    "cloud-",
    "qemu-guest-agent",
    "open-vm-tools",
    "virtualbox-guest",
    "hyperv-daemons",
    "walinuxagent",
    "google-",
    "amazon-",
    "ec2-",
    "ifupdown",
    "netplan",
    "isc-dhcp-client",
    "dhcpcd",
    "resolvconf",
    "mdadm",
    "multipath-tools",
    "cryptsetup-initramfs",
];

/// What is to be installed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Asked for by hand there, and not here.
    pub missing: Vec<String>,
    /// The same, and bound to the machine or to an architecture: left out.
    pub left_out: Vec<String>,
    /// Kept from being upgraded there.
    pub held: Vec<String>,
}

/// Compares the packages of the lost machine with those of this one. What came along with others comes along again, except
/// servers of PostgreSQL: their major is chosen by who was there first.
pub fn wanted(then: &Packages, here: &Packages, clusters: &[Cluster]) -> Wanted {
    let servers = clusters.iter().map(|c| format!("postgresql-{}", c.version));
    let servers: BTreeSet<String> = servers.filter(|name| then.installed.contains_key(name)).collect();
    let asked: BTreeSet<&String> = then.by_hand.iter().chain(&servers).collect();
    let lacks = |name: &&&String| then.installed.contains_key(**name) && !here.installed.contains_key(**name);
    let bound = |name: &String| {
        name.contains(':') || name == "backstay" || OF_THE_MACHINE.iter().any(|beginning| name.starts_with(beginning))
    };
    let (left_out, missing) = asked.iter().filter(lacks).map(|n| (*n).clone()).partition(bound);
    let held = then.held.iter().filter(|n| !here.held.contains(*n) && !bound(n)).cloned().collect();
    Wanted { missing, left_out, held }
}

/// Servers without which data of these kinds cannot be restored, as they were installed there, and are not here.
pub fn servers(then: &Packages, here: &Packages, kinds: &[&str]) -> Vec<String> {
    let of_kind = |kind: &&str| match *kind {
        "postgres" => &["postgresql-"][..],
        "redis" => &["redis-server", "valkey-server"],
        "volume" | "image" => &["docker.io", "docker-ce"],
        _ => &[],
    };
    let is_server = |name: &str, wanted: &str| match wanted {
        // Clients, extensions and tools are called alike.
        "postgresql-" => name.strip_prefix(wanted).is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit())),
        _ => name == wanted,
    };
    let mut missing = BTreeSet::new();
    for wanted in kinds.iter().flat_map(of_kind) {
        let there: Vec<&String> = then.installed.keys().filter(|n| is_server(n, wanted)).collect();
        // Any major of the same server will do; which one is decided later.
        let any = here.installed.keys().any(|n| is_server(n, wanted));
        missing.extend(there.into_iter().filter(|_| !any).cloned());
    }
    missing.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packages(installed: &[&str], by_hand: &[&str]) -> Packages {
        let name = |n: &&str| (*n).to_owned();
        Packages {
            installed: installed.iter().map(|n| (name(n), "1".to_owned())).collect(),
            by_hand: by_hand.iter().map(name).collect(),
            ..Packages::default()
        }
    }

    #[test]
    fn what_was_asked_for_is_missing_and_what_came_along_or_belongs_to_the_machine_is_not() {
        let mut then = packages(
            &["nginx", "postgresql", "postgresql-15", "libpq5", "linux-image-amd64", "grub-pc", "bash", "libc6:i386"],
            &["nginx", "postgresql", "linux-image-amd64", "grub-pc", "bash", "libc6:i386", "removed"],
        );
        then.held.insert("nginx".to_owned());
        let here = packages(&["bash"], &["bash"]);
        let cluster = Cluster { version: "15".into(), ..Cluster::default() };
        let wanted = super::wanted(&then, &here, &[cluster]);
        assert_eq!(wanted.missing, ["nginx", "postgresql", "postgresql-15"]);
        assert_eq!(wanted.left_out, ["grub-pc", "libc6:i386", "linux-image-amd64"]);
        assert_eq!(wanted.held, ["nginx"]);
        assert!(super::wanted(&then, &then, &[]).missing.is_empty());
    }

    #[test]
    fn a_server_is_missing_unless_there_is_one_of_its_kind() {
        let then = packages(&["postgresql-15", "postgresql-client-15", "redis-server", "docker.io"], &[]);
        let kinds = ["postgres", "redis", "files"];
        assert_eq!(servers(&then, &packages(&["bash"], &[]), &kinds), ["postgresql-15", "redis-server"]);
        assert!(servers(&then, &packages(&["postgresql-17", "redis-server"], &[]), &kinds).is_empty());
    }
}
