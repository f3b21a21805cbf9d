//! The home directory, where libpq looks for what nobody names.

use std::path::PathBuf;

/// `HOME`, else what the system's list of users says of ours: a unit of systemd that runs as root has no `HOME`.
pub fn directory() -> Option<PathBuf> {
    let set = std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    set.or_else(|| of(rustix::process::geteuid().as_raw(), &std::fs::read_to_string("/etc/passwd").ok()?))
}

fn of(uid: u32, passwd: &str) -> Option<PathBuf> {
    let uid = uid.to_string();
    let mut users = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let fields = users.find(|fields| fields.get(2) == Some(&uid.as_str()))?;
    fields.get(5).filter(|home| !home.is_empty()).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_users_tells_the_home_of_one_whose_environment_does_not() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\nagent:x:107:113::/var/lib/agent:/bin/false\nno:x:7:7:::\n";
        assert_eq!(of(107, passwd), Some("/var/lib/agent".into()));
        assert_eq!(of(0, passwd), Some("/root".into()));
        assert_eq!(of(7, passwd), None);
        assert_eq!(of(10, passwd), None);
    }
}
