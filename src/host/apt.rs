//! Packages of Debian and its relatives: what can be had, and installing it without being asked and without anything
//! starting.

use super::exec::Program;
use crate::error::{Error, Kind, Result};
use crate::io::durable;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Time limit of what only looks.
const LOOK: Duration = Duration::from_secs(60);
/// Of the fetching of lists.
const LISTS: Duration = Duration::from_secs(900);
/// Of an installation. Databases take their time to be set up, and mirrors to answer.
const INSTALL: Duration = Duration::from_secs(4 * 3600);
/// What programs of packages ask whether they may start a service.
const POLICY: &str = "/usr/sbin/policy-rc.d";
/// By which ours is known.
const OURS: &str =
    "# Of `backstay recover`: nothing starts before its data is there. Removed when packages are installed.";

/// What dpkg and apt need to ask nobody, and to leave files alone that are there.
fn unasked(program: &str, args: &[&str]) -> Program {
    let quiet = ["DEBIAN_FRONTEND", "DEBCONF_NONINTERACTIVE_SEEN", "UCF_FORCE_CONFFOLD", "NEEDRESTART_MODE"];
    let values = ["noninteractive", "true", "1", "l"];
    let env = quiet.iter().zip(values).map(|(k, v)| ((*k).to_owned(), v.to_owned())).collect();
    Program::new(program, args.iter().copied()).env(env)
}

async fn within<T>(limit: Duration, what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result.map_err(|e| e.kind(Kind::Restore)),
        Err(_) => Err(Error::new(Kind::Restore, format!("{what} did not end within {} minutes", limit.as_secs() / 60))),
    }
}

async fn text(program: &str, args: &[&str]) -> Result<String> {
    let program = unasked(program, args);
    let out = within(LOOK, &program.path.display().to_string(), program.output()).await?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

async fn carry_out(limit: Duration, program: &str, args: &[&str]) -> Result<()> {
    let program = unasked(program, args);
    let work = async { program.alone().await?.finish(Kind::Restore).await.map(drop) };
    within(limit, &program.path.display().to_string(), work).await
}

/// Fails where packages are not managed by apt.
///
/// # Errors
/// [`Kind::Refused`].
pub fn require() -> Result<()> {
    if Path::new("/usr/bin/apt-get").exists() {
        return Ok(());
    }
    Err(Error::new(Kind::Refused, "this machine has no apt, so packages cannot be installed")
        .at("/usr/bin/apt-get")
        .hint("Install what is listed with this machine's own package manager, and run again without --install."))
}

/// Fetches the lists of packages.
///
/// # Errors
/// [`Kind::Restore`] when a source cannot be reached.
pub async fn update() -> Result<()> {
    carry_out(LISTS, "apt-get", &["--quiet", "-o", "DPkg::Lock::Timeout=300", "update"]).await
}

/// Of these names those of which a version can be installed, with it.
///
/// # Errors
/// [`Kind::Restore`] when apt cannot be asked.
pub async fn candidates(names: &[String]) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for some in names.chunks(500) {
        let mut args = vec!["policy", "--"];
        args.extend(some.iter().map(String::as_str));
        found.extend(policies(&text("apt-cache", &args).await?));
    }
    Ok(found)
}

fn policies(listed: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut name = None;
    for line in listed.lines() {
        if !line.starts_with(' ') {
            name = line.strip_suffix(':').map(str::to_owned);
        } else if let Some(version) = line.trim().strip_prefix("Candidate:").map(str::trim)
            && version != "(none)"
            && let Some(name) = name.take()
        {
            found.insert(name, version.to_owned());
        }
    }
    found
}

/// Installs packages. What is half installed, since somebody pulled the plug, is finished first.
///
/// # Errors
/// [`Kind::Restore`] with the end of what apt said.
pub async fn install(names: &[String]) -> Result<()> {
    carry_out(INSTALL, "dpkg", &["--force-confold", "--force-confdef", "--configure", "-a"]).await?;
    let mut args = vec!["--yes", "--quiet", "-o", "Dpkg::Options::=--force-confold", "-o"];
    args.extend(["Dpkg::Options::=--force-confdef", "-o", "DPkg::Lock::Timeout=300", "install", "--"]);
    args.extend(names.iter().map(String::as_str));
    carry_out(INSTALL, "apt-get", &args).await.map_err(|e| {
        e.hint("`apt-get install` by hand shows all of it. When it is mended, run the same command again.")
    })
}

/// Keeps packages from being upgraded.
///
/// # Errors
/// [`Kind::Restore`].
pub async fn hold(names: &[String]) -> Result<()> {
    let mut args = vec!["hold", "--"];
    args.extend(names.iter().map(String::as_str));
    carry_out(LOOK, "apt-mark", &args).await
}

/// Files that packages brought as configuration.
///
/// # Errors
/// [`Kind::Restore`] when dpkg cannot be asked.
pub async fn configuration_files() -> Result<BTreeSet<PathBuf>> {
    let listed = text("dpkg-query", &["--show", "--showformat=${Conffiles}\\n"]).await?;
    Ok(listed.lines().filter_map(|l| l.trim().split_once(' ')).map(|(path, _)| path.into()).collect())
}

/// Until [`allow_starts`], installing a package starts nothing.
///
/// # Errors
/// [`Kind::Restore`] when the file cannot be written.
pub fn deny_starts() -> Result<()> {
    deny_at(Path::new(POLICY))
}

/// What is installed may start again. Nothing to do when it may.
///
/// # Errors
/// [`Kind::Restore`] when the file cannot be put back.
pub fn allow_starts() -> Result<()> {
    allow_at(Path::new(POLICY))
}

fn policy_failed(path: &Path) -> impl Fn(std::io::Error) -> Error + '_ {
    move |e| Error::io("what keeps services from starting cannot be changed", path, e).kind(Kind::Restore)
}

fn is_ours(path: &Path) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text.contains(OURS))
}

fn deny_at(path: &Path) -> Result<()> {
    if path.symlink_metadata().is_ok() && !is_ours(path) {
        std::fs::rename(path, path.with_extension("before-backstay")).map_err(policy_failed(path))?;
    }
    // Whole and executable at once: half a file would be taken for somebody's own, and kept.
    durable::replace(path, format!("#!/bin/sh\n{OURS}\nexit 101\n").as_bytes(), 0o755).map_err(policy_failed(path))
}

fn allow_at(path: &Path) -> Result<()> {
    if is_ours(path) {
        std::fs::remove_file(path).map_err(policy_failed(path))?;
    }
    let before = path.with_extension("before-backstay");
    match before.symlink_metadata() {
        Ok(_) => std::fs::rename(&before, path).map_err(policy_failed(path)),
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_can_be_had_is_read_from_the_policies() {
        let listed = "nginx:\n  Installed: (none)\n  Candidate: 1.22.1-9\n  Version table:\n     1.22.1-9 500\n\
            virtual:\n  Installed: (none)\n  Candidate: (none)\n  Version table:\n";
        assert_eq!(policies(listed), BTreeMap::from([("nginx".to_owned(), "1.22.1-9".to_owned())]));
    }

    #[test]
    fn the_policy_that_was_there_comes_back_however_often_it_was_interrupted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy-rc.d");
        allow_at(&path).unwrap();
        assert!(!path.exists());
        std::fs::write(&path, "#!/bin/sh\nexit 0\n").unwrap();
        deny_at(&path).unwrap();
        deny_at(&path).unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().contains("exit 101"));
        allow_at(&path).unwrap();
        allow_at(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "#!/bin/sh\nexit 0\n");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_denies_starts_is_never_there_in_part_or_without_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let (path, before) = (dir.path().join("policy-rc.d"), dir.path().join("a second name"));
        deny_at(&path).unwrap();
        std::fs::hard_link(&path, &before).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        deny_at(&path).unwrap();
        // Another file, which has had its mode before its name.
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&path), mode(&before)), (0o755, 0o644));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
