//! Files that belong to one machine, or to one release of its system: put into another machine's place they break it.
//!
//! They are backed up, since somebody may want to read them. A restore into place leaves them out on any machine but
//! their own, and `--to DIRECTORY` gives them like all others.

use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Why a file is of no use on another machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// It says which machine this is.
    Identity,
    /// It says what the machine's network is.
    Network,
    /// It names the machine's disks, or how it boots from them.
    Disks,
    /// It lists all accounts, whose numbers differ with the order in which packages were installed.
    Accounts,
    /// It belongs to the release of the system.
    Release,
    /// A program makes it anew.
    Generated,
}

impl Why {
    /// For messages.
    pub fn words(self) -> &'static str {
        match self {
            Why::Identity => "says which machine it is",
            Why::Network => "is the network of the other machine",
            Why::Disks => "names the disks of the other machine, or how it boots",
            Why::Accounts => "lists the accounts of the other machine, whose numbers are others here",
            Why::Release => "belongs to the release of the other system",
            Why::Generated => "is made anew by a program",
        }
    }
}

/// A path that is bound to its machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// File or directory; what lies in it goes with it.
    pub path: PathBuf,
    /// Why.
    pub why: Why,
}

/// Paths, and beginnings of names where there is an asterisk at the end.
const RULES: &[(&str, Why)] = &[
    ("/etc/machine-id", Why::Identity),
    ("/etc/hostname", Why::Identity),
    ("/etc/hostid", Why::Identity),
    ("/etc/machine-info", Why::Identity),
    ("/etc/ssh/ssh_host_*", Why::Identity),
    ("/etc/iscsi/initiatorname.iscsi", Why::Identity),
    ("/etc/nvme/hostid", Why::Identity),
    ("/etc/nvme/hostnqn", Why::Identity),
    ("/etc/docker/key.json", Why::Identity),
    ("/var/lib/dbus/machine-id", Why::Identity),
    ("/etc/hosts", Why::Network),
    ("/etc/resolv.conf", Why::Network),
    ("/etc/resolvconf", Why::Network),
    ("/etc/network", Why::Network),
    ("/etc/netplan", Why::Network),
    ("/etc/networks", Why::Network),
    ("/etc/systemd/network", Why::Network),
    ("/etc/systemd/resolved.conf", Why::Network),
    ("/etc/systemd/resolved.conf.d", Why::Network),
    ("/etc/NetworkManager", Why::Network),
    ("/etc/sysconfig/network", Why::Network),
    ("/etc/sysconfig/network-scripts", Why::Network),
    ("/etc/dhcp", Why::Network),
    ("/etc/dhcpcd.conf", Why::Network),
    ("/etc/wpa_supplicant", Why::Network),
    ("/etc/udev/rules.d/70-persistent-net.rules", Why::Network),
    ("/etc/cloud", Why::Network),
    ("/etc/fstab", Why::Disks),
    ("/etc/crypttab", Why::Disks),
    ("/etc/mdadm", Why::Disks),
    ("/etc/mdadm.conf", Why::Disks),
    ("/etc/lvm", Why::Disks),
    ("/etc/multipath*", Why::Disks),
    ("/etc/zfs", Why::Disks),
    ("/etc/default/grub*", Why::Disks),
    ("/etc/grub.d", Why::Disks),
    ("/etc/kernel", Why::Disks),
    ("/etc/initramfs-tools", Why::Disks),
    ("/etc/dracut.conf*", Why::Disks),
    ("/etc/adjtime", Why::Disks),
    ("/etc/passwd", Why::Accounts),
    ("/etc/passwd-", Why::Accounts),
    ("/etc/shadow", Why::Accounts),
    ("/etc/shadow-", Why::Accounts),
    ("/etc/group", Why::Accounts),
    ("/etc/group-", Why::Accounts),
    ("/etc/gshadow", Why::Accounts),
    ("/etc/gshadow-", Why::Accounts),
    ("/etc/subuid*", Why::Accounts),
    ("/etc/subgid*", Why::Accounts),
    ("/etc/apt/sources.list", Why::Release),
    ("/etc/apt/sources.list.d", Why::Release),
    ("/etc/apt/trusted.gpg.d", Why::Release),
    ("/etc/yum.repos.d", Why::Release),
    ("/etc/alternatives", Why::Release),
    ("/etc/os-release", Why::Release),
    ("/etc/debian_version", Why::Release),
    ("/etc/lsb-release", Why::Release),
    ("/etc/redhat-release", Why::Release),
    ("/etc/issue*", Why::Release),
    ("/etc/rc0.d", Why::Release),
    ("/etc/rc1.d", Why::Release),
    ("/etc/rc2.d", Why::Release),
    ("/etc/rc3.d", Why::Release),
    ("/etc/rc4.d", Why::Release),
    ("/etc/rc5.d", Why::Release),
    ("/etc/rc6.d", Why::Release),
    ("/etc/rcS.d", Why::Release),
    ("/etc/pam.d", Why::Release),
    ("/etc/nsswitch.conf", Why::Release),
    ("/etc/mtab", Why::Generated),
    ("/etc/ld.so.cache", Why::Generated),
    ("/etc/ssl/certs", Why::Generated),
    // Its certificate lies there, and one does not fit the key of another.
    ("/etc/ssl/private/ssl-cert-snakeoil.key", Why::Generated),
    ("/etc/.pwd.lock", Why::Generated),
    ("/etc/.updated", Why::Generated),
];

/// Whether a path is bound, or lies in a directory that is; with the path that the rule means and why.
pub fn rule_of(path: &Path) -> Option<(&Path, Why)> {
    path.ancestors().find_map(|above| RULES.iter().find(|(rule, _)| means(rule, above)).map(|(_, why)| (above, *why)))
}

/// Why a path is bound.
pub fn why(path: &Path) -> Option<Why> {
    rule_of(path).map(|(_, why)| why)
}

/// Whether something that is bound may lie below a directory.
pub fn may_hold(directory: &Path) -> bool {
    RULES.iter().any(|(rule, _)| Path::new(rule).parent().is_some_and(|parent| parent.starts_with(directory)))
}

fn means(rule: &str, path: &Path) -> bool {
    match rule.strip_suffix('*') {
        None => path == Path::new(rule),
        Some(beginning) => {
            let rest = path.to_str().and_then(|p| p.strip_prefix(beginning));
            rest.is_some_and(|rest| !rest.contains('/'))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_a_machine_is_known_and_what_does_not_is_not() {
        for (path, expected) in [
            ("/etc/fstab", Some(Why::Disks)),
            ("/etc/ssh/ssh_host_ed25519_key.pub", Some(Why::Identity)),
            ("/etc/ssh/sshd_config", None),
            ("/etc/netplan/50-cloud-init.yaml", Some(Why::Network)),
            ("/etc/systemd/network/10-eth.network", Some(Why::Network)),
            ("/etc/systemd/system/shop.service", None),
            ("/etc/default/grub.d/x.cfg", Some(Why::Disks)),
            ("/etc/default/shop", None),
            ("/etc/passwd", Some(Why::Accounts)),
            ("/etc/passwdqc.conf", None),
            ("/etc/nginx/nginx.conf", None),
            ("/etc/ssl/private/ssl-cert-snakeoil.key", Some(Why::Generated)),
            ("/etc/ssl/private/shop.key", None),
            ("/srv/etc/fstab", None),
            ("/etc", None),
        ] {
            assert_eq!(why(Path::new(path)), expected, "{path}");
        }
        assert_eq!(rule_of(Path::new("/etc/netplan/a")).unwrap().0, Path::new("/etc/netplan"));
        for (directory, expected) in [
            ("/etc", true),
            ("/etc/ssh", true),
            ("/etc/systemd", true),
            ("/etc/nginx", false),
            ("/etc/systemd/system", false),
        ] {
            assert_eq!(may_hold(Path::new(directory)), expected, "{directory}");
        }
    }
}
