//! Processors, memory, disks, and what is mounted where.

use crate::host::holders::unescape;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// File systems that hold data. Others come with the system or with a container.
const KINDS: &[&str] = &[
    "ext2",
    "ext3",
    "ext4",
    "xfs",
    "btrfs",
    "zfs",
    "f2fs",
    "jfs",
    "reiserfs",
    "vfat",
    "exfat",
    "ntfs",
    "ntfs3",
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "ceph",
    "glusterfs",
    "fuse.glusterfs",
    "fuse.sshfs",
    "fuse.s3fs",
    "9p",
    "virtiofs",
];

/// What the machine has to hold and to work with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Disks {
    /// Processors that may be used.
    pub processors: u64,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes of swap space.
    pub swap: u64,
    /// Disks.
    pub disks: Vec<Disk>,
    /// Mounted file systems that hold data.
    pub mounts: Vec<Mount>,
}

/// A disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Disk {
    /// `sda`.
    pub name: String,
    /// Bytes.
    pub size: u64,
}

/// A mounted file system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// Device or share.
    pub source: String,
    /// Where it is.
    pub target: String,
    /// `ext4`.
    pub kind: String,
    /// Bytes.
    pub size: u64,
    /// Bytes in use.
    pub used: u64,
}

pub(super) fn read() -> Disks {
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let amount = |key: &str| {
        let kib =
            memory.lines().find_map(|l| l.strip_prefix(key)?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    };
    Disks {
        processors: std::thread::available_parallelism().map_or(0, |n| n.get() as u64),
        memory: amount("MemTotal:"),
        swap: amount("SwapTotal:"),
        disks: disks(Path::new("/sys/block")),
        mounts: mounts(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()),
    }
}

fn disks(block: &Path) -> Vec<Disk> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(block).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let virtually = ["loop", "ram", "zram", "dm-", "md", "sr", "fd", "nbd"].iter().any(|v| name.starts_with(v));
        let sectors =
            std::fs::read_to_string(entry.path().join("size")).ok().and_then(|s| s.trim().parse::<u64>().ok());
        // Sectors are of 512 bytes here, whatever the disk's own are.
        match sectors {
            Some(sectors) if sectors > 0 && !virtually => found.push(Disk { name, size: sectors * 512 }),
            _ => {}
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn mounts(mountinfo: &str) -> Vec<Mount> {
    let mut found: Vec<Mount> = Vec::new();
    for line in mountinfo.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let fields: Vec<&str> = before.split(' ').collect();
        let behind: Vec<&str> = after.split(' ').collect();
        let (Some(root), Some(target), [kind, source, ..]) = (fields.get(3), fields.get(4), &behind[..]) else {
            continue;
        };
        // A part of a file system that is mounted once more is no further one.
        if !KINDS.contains(kind) || (*root != "/" && *kind != "btrfs") {
            continue;
        }
        let target = unescape(target);
        let Ok(s) = rustix::fs::statvfs(target.as_str()) else { continue };
        let used = (s.f_blocks - s.f_bfree) * s.f_frsize;
        found.push(Mount {
            source: unescape(source),
            target,
            kind: (*kind).to_owned(),
            size: s.f_blocks * s.f_frsize,
            used,
        });
    }
    found.sort_by(|a, b| a.target.cmp(&b.target));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_that_hold_data_are_told_once() {
        let info = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:5 / /proc rw - proc proc rw\n3 1 8:1 /srv /tmp rw - ext4 /dev/sda1 rw\n4 1 0:9 / /tmp rw - tmpfs tmpfs rw\n";
        let found = mounts(info);
        let told: Vec<(&str, &str)> = found.iter().map(|m| (m.source.as_str(), m.target.as_str())).collect();
        assert_eq!(told, [("/dev/sda1", "/")]);
        assert!(found[0].size >= found[0].used);
    }

    #[test]
    fn disks_are_told_and_what_only_looks_like_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        for (name, sectors) in [("sda", "2048\n"), ("loop0", "2048\n"), ("nvme0n1", "4096\n"), ("sdb", "0\n")] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name).join("size"), sectors).unwrap();
        }
        let found: Vec<(String, u64)> = disks(dir.path()).into_iter().map(|d| (d.name, d.size)).collect();
        assert_eq!(found, [("nvme0n1".to_owned(), 2 << 20), ("sda".to_owned(), 1 << 20)]);
    }
}
