//! Operating system, kernel, time zone and locale.

use serde::{Deserialize, Serialize};
use std::path::Path;

/// What runs on a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct System {
    /// The host's own name for itself.
    pub hostname: String,
    /// `debian`, as in os-release(5).
    pub id: String,
    /// `12`, as in os-release(5); a rolling release has none.
    pub version_id: String,
    /// `bookworm`, as in os-release(5).
    pub codename: String,
    /// For people: `Debian GNU/Linux 12 (bookworm)`.
    pub pretty_name: String,
    /// Release of the kernel.
    pub kernel: String,
    /// Architecture, as the kernel calls it: `x86_64`.
    pub architecture: String,
    /// `Europe/Berlin`.
    pub time_zone: Option<String>,
    /// `en_US.UTF-8`.
    pub locale: Option<String>,
}

pub(super) fn read() -> System {
    let text = |path: &str| std::fs::read_to_string(path).ok();
    let os = text("/etc/os-release").or_else(|| text("/usr/lib/os-release")).unwrap_or_default();
    let of = |key: &str| assigned(&os, key).unwrap_or_default();
    let uname = rustix::system::uname();
    let locale =
        ["/etc/default/locale", "/etc/locale.conf"].into_iter().find_map(|file| assigned(&text(file)?, "LANG"));
    System {
        hostname: uname.nodename().to_string_lossy().into_owned(),
        id: of("ID"),
        version_id: of("VERSION_ID"),
        codename: of("VERSION_CODENAME"),
        pretty_name: of("PRETTY_NAME"),
        kernel: uname.release().to_string_lossy().into_owned(),
        architecture: uname.machine().to_string_lossy().into_owned(),
        time_zone: time_zone(Path::new("/etc/localtime")).or_else(|| Some(text("/etc/timezone")?.trim().to_owned())),
        locale,
    }
}

/// The value of `KEY=value` or `KEY="value"`; the last one counts, as it does for a shell.
fn assigned(text: &str, key: &str) -> Option<String> {
    let value = text.lines().rev().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))?;
    let value = value.trim();
    let bare = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
    Some(bare.unwrap_or(value).to_owned())
}

/// The zone that a link into the zone files means.
fn time_zone(link: &Path) -> Option<String> {
    let target = std::fs::read_link(link).ok()?;
    Some(target.to_str()?.split_once("zoneinfo/")?.1.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_are_read_as_a_shell_reads_them() {
        let text = "# ID=no\nID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME='A B'\nVERSION_ID=\"13\"\n";
        assert_eq!(assigned(text, "ID").as_deref(), Some("debian"));
        assert_eq!(assigned(text, "VERSION_ID").as_deref(), Some("13"));
        assert_eq!(assigned(text, "PRETTY_NAME").as_deref(), Some("A B"));
        assert_eq!(assigned(text, "VERSION"), None);
    }

    #[test]
    fn the_zone_is_what_the_link_means() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("localtime");
        std::os::unix::fs::symlink("../usr/share/zoneinfo/America/Argentina/Ushuaia", &link).unwrap();
        assert_eq!(time_zone(&link).as_deref(), Some("America/Argentina/Ushuaia"));
        assert_eq!(time_zone(dir.path()), None);
    }
}
