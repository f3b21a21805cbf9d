//! How a path of a `files` source comes back on a machine that has a system of its own.

use std::path::{Path, PathBuf};

/// How.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// As every restore does it: what is there is exchanged as a whole.
    Exchange,
    /// File by file, among those of this machine, less what belonged to the lost one.
    Merge,
    /// Not at all: it is the system, which this machine has of its own.
    Leave,
}

/// Where the provider's, the packages' and the operator's files lie among each other.
const SHARED: &[&str] = &["/etc", "/usr/local", "/root", "/home", "/var/spool/cron"];
/// The system, with everything in it.
const SYSTEM: &[&str] = &[
    "/bin",
    "/boot",
    "/dev",
    "/lib",
    "/lib32",
    "/lib64",
    "/proc",
    "/run",
    "/sbin",
    "/sys",
    "/usr",
    "/var/lib/apt",
    "/var/lib/backstay",
    "/var/lib/dpkg",
    "/var/lib/systemd",
];
/// What holds more than one application, and the system besides.
const ABOVE: &[&str] = &["/", "/var", "/var/lib", "/var/cache", "/var/log"];

/// The way of a path.
pub fn way(path: &Path) -> Way {
    let within = |all: &[&str]| all.iter().any(|p| path.starts_with(p));
    // The crontabs are among what it holds.
    if within(SHARED) || path == Path::new("/var/spool") {
        Way::Merge
    } else if within(SYSTEM) || ABOVE.iter().any(|p| path == Path::new(p)) {
        Way::Leave
    } else {
        Way::Exchange
    }
}

/// The paths of one way.
pub fn of(paths: &[PathBuf], wanted: Way) -> Vec<PathBuf> {
    paths.iter().filter(|p| way(p) == wanted).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_is_not_exchanged_under_itself() {
        for (path, expected) in [
            ("/srv/shop", Way::Exchange),
            ("/opt", Way::Exchange),
            ("/var/www", Way::Exchange),
            ("/var/lib/shop", Way::Exchange),
            ("/etc", Way::Merge),
            ("/etc/nginx", Way::Merge),
            ("/home", Way::Merge),
            ("/usr/local/bin", Way::Merge),
            ("/var/spool/cron/crontabs", Way::Merge),
            ("/var/spool", Way::Merge),
            ("/var/spool/shop", Way::Exchange),
            ("/usr", Way::Leave),
            ("/usr/bin", Way::Leave),
            ("/", Way::Leave),
            ("/var", Way::Leave),
            ("/var/lib/dpkg/status", Way::Leave),
        ] {
            assert_eq!(way(Path::new(path)), expected, "{path}");
        }
        let paths = ["/etc", "/opt/shop", "/usr"].map(PathBuf::from);
        assert_eq!(of(&paths, Way::Exchange), [PathBuf::from("/opt/shop")]);
    }
}
