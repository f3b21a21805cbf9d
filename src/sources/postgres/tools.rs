//! Finding PostgreSQL's own tools in the right version.

use crate::error::{Error, Kind, Result};
use crate::host::exec::Program;
use std::path::{Path, PathBuf};

/// Where distributions put the tools of each major version.
const BY_VERSION: &str = "/usr/lib/postgresql";

/// A tool that suits a server: of the same major version, or else of the next newer one that is installed. An
/// older `pg_dump` refuses a newer server; a newer `pg_restore` reads an older archive.
///
/// # Errors
/// [`Kind::Source`] that names the version to install, before anything was started.
pub async fn find(tool: &str, server_major: u32) -> Result<PathBuf> {
    let mut candidates: Vec<PathBuf> = Vec::new();
    if let Ok(versions) = std::fs::read_dir(BY_VERSION) {
        candidates.extend(versions.flatten().map(|v| v.path().join("bin").join(tool)).filter(|p| p.exists()));
    }
    if let Some(path) = std::env::var_os("PATH") {
        candidates.extend(std::env::split_paths(&path).map(|d| d.join(tool)).filter(|p| p.exists()));
    }
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for path in candidates {
        if let Some(major) = major_of(&path).await {
            found.push((major, path));
        }
    }
    found.sort();
    if let Some((_, path)) = found.iter().find(|(major, _)| *major >= server_major) {
        return Ok(path.clone());
    }
    let have = found.iter().map(|(m, _)| m.to_string()).collect::<Vec<_>>().join(", ");
    let what = if found.is_empty() {
        format!("{tool} is not installed")
    } else {
        format!("{tool} is too old for the server: {have} is installed, the server is {server_major}")
    };
    Err(Error::new(Kind::Source, what)
        .at(format!("{BY_VERSION}/{server_major}/bin/{tool}"))
        .hint(format!("Install the package postgresql-client-{server_major}.")))
}

async fn major_of(path: &Path) -> Option<u32> {
    let out = Program::new(path, ["--version"]).output().await.ok()?;
    parse_version(&String::from_utf8_lossy(&out))
}

/// `pg_dump (PostgreSQL) 15.18 (Debian …)`, or `17beta1`.
fn parse_version(text: &str) -> Option<u32> {
    let number = text.split(' ').find(|w| w.starts_with(|c: char| c.is_ascii_digit()))?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_the_tools_own_words() {
        assert_eq!(parse_version("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_version("pg_dump (PostgreSQL) 19beta1"), Some(19));
        assert_eq!(parse_version("something else"), None);
    }

    #[tokio::test]
    async fn a_tool_that_is_missing_or_too_old_is_told_by_name() {
        let e = find("pg_no_such_tool", 15).await.unwrap_err();
        assert!(e.what.contains("not installed"), "{e}");
        let e = find("pg_dump", 999).await.unwrap_err();
        assert!(e.to_string().contains("postgresql-client-999"), "{e}");
    }
}
