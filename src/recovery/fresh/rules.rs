//! Which of the fetched files are put in place when.

use std::path::Path;

/// Directories in which a file that is there counts although nobody names it: what the lost machine did not have in them is
/// put aside, as the site that a web server is installed with.
pub const WHOLE: &[&str] = &[
    "/etc/apache2",
    "/etc/caddy",
    "/etc/haproxy",
    "/etc/mysql",
    "/etc/nginx",
    "/etc/php",
    "/etc/redis",
    "/etc/supervisor",
    "/etc/uwsgi",
];

/// Which files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// All but those that start something.
    Lying,
    /// Those that start something, but for Backstay's own jobs.
    Starting,
    /// What starts Backstay's own jobs.
    Jobs,
}

/// Whether a file starts something by lying in its place.
fn starts(path: &Path) -> bool {
    let parent = path.parent().and_then(Path::to_str).unwrap_or_default();
    let of_units = parent.ends_with(".wants") || parent.ends_with(".requires") || parent.ends_with(".upholds");
    let units = ["/etc/systemd/", "/usr/local/lib/systemd/"].iter().any(|p| parent.starts_with(p))
        || parent.contains("/.config/systemd/");
    let cron = ["/etc/cron.d", "/etc/cron.hourly", "/etc/cron.daily", "/etc/cron.weekly", "/etc/cron.monthly"];
    (of_units && units)
        || cron.contains(&parent)
        || ["/etc/crontab", "/etc/anacrontab", "/etc/rc.local"].iter().any(|p| path == Path::new(p))
        || ["/var/spool/cron", "/var/lib/systemd/linger"].iter().any(|p| path.starts_with(p))
}

/// When a file is put in place.
pub fn which(path: &Path) -> Which {
    let own = path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with("backstay-"));
    match starts(path) {
        false => Which::Lying,
        true if own => Which::Jobs,
        true => Which::Starting,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_by_lying_there_waits() {
        for path in ["/var/spool/cron/crontabs/root", "/etc/crontab", "/etc/rc.local", "/etc/cron.d/shop"] {
            assert_eq!(which(Path::new(path)), Which::Starting, "{path}");
        }
        assert_eq!(which(Path::new("/etc/cron.d/backstay-backup")), Which::Jobs);
        for path in ["/etc/rc.local.d/x", "/etc/cron.allow", "/etc/systemd/system/shop.service"] {
            assert_eq!(which(Path::new(path)), Which::Lying, "{path}");
        }
    }
}
