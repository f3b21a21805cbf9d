//! Finding PostgreSQL's own tools in the right version, where they will run.

use crate::error::{Error, Kind, Result};
use crate::host::exec::{Place, Program};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};

/// Where distributions put the tools of each major version.
const BY_VERSION: &str = "/usr/lib/postgresql";
/// What is behind Debian's names in the search path: a script that looks which of those tools suits the clusters of this
/// machine.
const WRAPPER: &str = "pg_wrapper";

/// A tool on this host, and who has run it when it is another user.
type Here = (PathBuf, Option<String>);

/// The major versions of tools on this host. Each session by `psql` asks for it.
static VERSIONS: LazyLock<Mutex<HashMap<Here, u32>>> = LazyLock::new(Mutex::default);

/// A tool that suits a server: of the same major version, or else of the next newer one that is installed. An
/// older `pg_dump` refuses a newer server; a newer `pg_restore` reads an older archive.
///
/// # Errors
/// [`Kind::Source`] that names the version to install, before anything was started.
pub async fn find(tool: &str, server_major: u32, place: &Place) -> Result<PathBuf> {
    find_for("the server", tool, server_major, place).await
}

/// The same for something else that is of a version: an archive.
///
/// # Errors
/// As [`find`].
pub async fn find_for(whom: &str, tool: &str, needed: u32, place: &Place) -> Result<PathBuf> {
    let found = installed(tool, needed, place).await?;
    if let Some((_, path)) = found.iter().find(|(major, _)| *major >= needed) {
        return Ok(path.clone());
    }
    let have = found.iter().map(|(m, path)| format!("{m} ({})", path.display())).collect::<Vec<_>>().join(", ");
    let what = if found.is_empty() {
        format!("{tool} is not installed")
    } else {
        format!("{tool} is too old for {whom}: {have} is installed, {whom} is of {needed}")
    };
    let error = Error::new(Kind::Source, what);
    Err(match place {
        Place::Container(inside) => {
            error.at(format!("container {}", inside.container)).hint(format!("The container needs {tool} {needed}."))
        }
        _ => error
            .at(format!("the PATH, and {BY_VERSION}/{needed}/bin/{tool}"))
            .hint(format!("Install the package postgresql-client-{needed}.")),
    })
}

/// A tool of any version: the newest.
///
/// # Errors
/// [`Kind::Source`] when there is none.
pub async fn any(tool: &str, place: &Place) -> Result<PathBuf> {
    let found = installed(tool, 0, place).await?;
    let newest = found.iter().map(|(major, _)| *major).max();
    match found.into_iter().find(|(major, _)| Some(*major) == newest) {
        Some((_, path)) => Ok(path),
        None => find(tool, 0, place).await,
    }
}

/// What is there, by major version, the oldest first.
///
/// # Errors
/// When not even one could be asked for its version, and the place is why: a user that does not exist, say.
async fn installed(tool: &str, major: u32, place: &Place) -> Result<Vec<(u32, PathBuf)>> {
    let mut candidates: Vec<PathBuf> = Vec::new();
    if let Place::Container(_) = place {
        // Its own search path comes first; the other is where Debian's packages have what is not in it.
        candidates.push(PathBuf::from(tool));
        candidates.push(Path::new(BY_VERSION).join(major.to_string()).join("bin").join(tool));
    } else {
        if let Ok(versions) = std::fs::read_dir(BY_VERSION) {
            candidates.extend(versions.flatten().map(|v| v.path().join("bin").join(tool)).filter(|p| p.exists()));
        }
        if let Some(path) = std::env::var_os("PATH") {
            let alone = candidates.is_empty();
            let on_path = std::env::split_paths(&path).map(|d| d.join(tool)).filter(|p| p.exists());
            candidates.extend(on_path.filter(|p| alone || !is_wrapper(p)));
        }
    }
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    let mut failed = None;
    for path in candidates {
        match version(&path, place).await {
            Ok(version) => found.extend(version.map(|major| (major, path))),
            Err(e) => failed = Some(e),
        }
    }
    if let (true, Some(e), Place::User(_)) = (found.is_empty(), failed, place) {
        return Err(e);
    }
    found.sort_by_key(|(major, path)| (*major, !path.starts_with(BY_VERSION)));
    Ok(found)
}

fn is_wrapper(path: &Path) -> bool {
    path.canonicalize().is_ok_and(|real| real.ends_with(WRAPPER))
}

/// The major version of a tool. On this host each is asked once: what an upgrade puts at the same path is of the same major.
async fn version(path: &Path, place: &Place) -> Result<Option<u32>> {
    let key = match place {
        Place::Host => Some((path.to_owned(), None)),
        Place::User(user) => Some((path.to_owned(), Some(user.clone()))),
        Place::Container(_) => None,
    };
    let known = || VERSIONS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(major) = key.as_ref().and_then(|key| known().get(key).copied()) {
        return Ok(Some(major));
    }
    let out = Program::new(path, ["--version"]).at(place.clone()).output().await?;
    let major = parse_version(&String::from_utf8_lossy(&out));
    if let (Some(key), Some(major)) = (key, major) {
        known().insert(key, major);
    }
    Ok(major)
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
    async fn a_script_that_chooses_among_the_tools_is_not_taken_beside_them() {
        // As on Debian, where it takes nine times as long to start as the tool itself, at each session.
        let found = installed("psql", 0, &Place::Host).await.unwrap();
        assert!(!found.is_empty(), "install postgresql-client (tests/setup.sh test)");
        assert!(found.iter().all(|(_, path)| !is_wrapper(path)), "{found:?}");
        assert!(!is_wrapper(&any("psql", &Place::Host).await.unwrap()));
    }

    #[tokio::test]
    async fn a_tool_that_is_missing_or_too_old_is_told_by_name() {
        let e = find("pg_no_such_tool", 15, &Place::Host).await.unwrap_err();
        assert!(e.what.contains("not installed"), "{e}");
        let e = find("pg_dump", 999, &Place::Host).await.unwrap_err();
        assert!(e.to_string().contains("postgresql-client-999"), "{e}");
    }
}
