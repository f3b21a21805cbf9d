//! Servers of other releases.

use std::path::PathBuf;

/// Where the programs of a major version are: on this machine, or below a directory that `tests/server-roots.sh` unpacks.
pub fn usr(major: u32) -> PathBuf {
    if PathBuf::from(format!("/usr/lib/postgresql/{major}/bin/postgres")).exists() {
        return "/usr".into();
    }
    let home = std::env::var("HOME").unwrap();
    let root = PathBuf::from(format!("{home}/.cache/backstay-tools/pg/{major}/usr"));
    assert!(root.exists(), "PostgreSQL {major} is not here: tests/server-roots.sh");
    root
}
