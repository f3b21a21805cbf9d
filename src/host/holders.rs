//! Processes of this machine that use a directory: by a mount of it in a name space of their own, or by an open
//! file or working directory in it.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A process that uses a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// Its control groups; those of a container hold the container's id.
    pub cgroup: String,
}

/// Everybody but ourselves. What cannot be looked at (without root) is passed over.
pub fn of(directory: &Path) -> Vec<Holder> {
    let Ok(target) = directory.canonicalize() else { return Vec::new() };
    let on_disk = place_on_disk(&target);
    let own_mounts = std::fs::read_link("/proc/self/ns/mnt").ok();
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        if pid == std::process::id() {
            continue;
        }
        let proc = entry.path();
        let elsewhere = std::fs::read_link(proc.join("ns/mnt")).ok() != own_mounts;
        let uses = if elsewhere {
            on_disk.as_ref().is_some_and(|(device, root)| mounts_it(&proc, device, root))
        } else {
            opens_it(&proc, &target)
        };
        if uses {
            let read = |file: &str| std::fs::read_to_string(proc.join(file)).ok();
            // One that has ended since uses nothing any more.
            let (Some(name), Some(cgroup)) = (read("comm"), read("cgroup")) else { continue };
            found.insert(Holder { pid, name: name.trim().to_owned(), cgroup });
        }
    }
    found.into_iter().collect()
}

fn lines(mountinfo: &str) -> impl Iterator<Item = (&str, PathBuf, PathBuf)> {
    mountinfo.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(2);
        let (device, root, place) = (fields.next()?, fields.next()?, fields.next()?);
        Some((device, PathBuf::from(unescape(root)), PathBuf::from(unescape(place))))
    })
}

/// Spaces and their like are octal in the kernel's tables.
pub(super) fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// Whether something is mounted at just this directory.
pub fn is_mount_point(directory: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    lines(&mounts).any(|(_, _, place)| place == directory)
}

/// The mount that a path lies on, whether the path is there or not; `/` when nothing else is mounted above it.
pub fn mount_point_of(path: &Path) -> PathBuf {
    let there = path.ancestors().find_map(|p| p.canonicalize().ok());
    let path = there.unwrap_or_else(|| path.to_owned());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let above = lines(&mounts).map(|(_, _, place)| place).filter(|place| path.starts_with(place));
    above.max_by_key(|place| place.components().count()).unwrap_or_else(|| PathBuf::from("/"))
}

/// Where something is mounted below this directory, not at it.
pub fn mounts_below(directory: &Path) -> Vec<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    lines(&mounts).map(|(_, _, place)| place).filter(|p| p != directory && p.starts_with(directory)).collect()
}

/// Device and path within its file system, as a mount of the directory shows them everywhere.
fn place_on_disk(target: &Path) -> Option<(String, PathBuf)> {
    let dev = std::fs::metadata(target).ok()?.dev();
    let device = format!("{}:{}", rustix::fs::major(dev), rustix::fs::minor(dev));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    // The innermost mount counts, and of several at one place the last.
    let (_, root, place) = lines(&mounts)
        .filter(|(d, _, place)| *d == device && target.starts_with(place))
        .max_by_key(|(_, _, place)| place.as_os_str().len())?;
    Some((device, root.join(target.strip_prefix(place).ok()?)))
}

/// A mount that a name space has at the same place as ours came to it from there by itself; nobody asked for it.
fn mounts_it(proc: &Path, device: &str, on_disk: &Path) -> bool {
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    let (theirs, ours) = (read(&proc.join("mountinfo")), read(Path::new("/proc/self/mountinfo")));
    let of_it = |mount: &(&str, PathBuf, PathBuf)| mount.0 == device && mount.1.starts_with(on_disk);
    let places: Vec<PathBuf> = lines(&ours).filter(of_it).map(|m| m.2).collect();
    lines(&theirs).filter(of_it).any(|m| !places.contains(&m.2))
}

fn opens_it(proc: &Path, target: &Path) -> bool {
    let below = |link: PathBuf| std::fs::read_link(link).is_ok_and(|to| to.starts_with(target));
    let fds = std::fs::read_dir(proc.join("fd")).into_iter().flatten().flatten().map(|e| e.path());
    fds.chain([proc.join("cwd"), proc.join("root")]).any(below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_in_a_directory_is_found_and_mounts_are_known() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("a b");
        std::fs::create_dir(&inside).unwrap();
        let mut child = std::process::Command::new("sleep").arg("30").current_dir(&inside).spawn().unwrap();
        let found = of(&inside);
        let other = of(&dir.path().join("no such"));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.iter().any(|h| h.pid == child.id() && h.name == "sleep"), "{found:?}");
        assert!(other.is_empty());
        assert!(is_mount_point(Path::new("/proc")) && !is_mount_point(&inside));
        assert_eq!(mount_point_of(Path::new("/proc/self/no such/file")), Path::new("/proc"));
    }
}
