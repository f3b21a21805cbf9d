//! The configuration, and the files and places that it names.

use super::Patient;
use super::check::{Check, of_files};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::host::holders;
use crate::model::size;
use crate::sources::url::who_and_where;
use config::{File, FileFormat, Value, ValueKind};
use rustix::fs::{Access, access};
use std::collections::{BTreeSet, HashMap};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Free space in the state directory below which a restore may not find room for its journal and caches. Bytes.
const LITTLE: u64 = 256 << 20;
/// Keys whose values are secrets. Each also comes as `…_file`, but for [`PUSHGATEWAY`].
const SECRETS: &[&str] = &[
    "password",
    "passphrase",
    "bearer",
    "secret_access_key",
    "session_token",
    "dsn",
    "start_url",
    "success_url",
    "failure_url",
    "json_url",
    PUSHGATEWAY,
];
const PUSHGATEWAY: &str = "pushgateway";
/// The key of a table in which every value is a secret, under a name of its own.
const TABLE: &str = "secrets";
/// Sections in which the keys are names, and may be called anything.
const NAMED: &[&str] = &["sources", "plans", "foreign"];
/// The key of a source's address, which may have a password in it.
const ADDRESS: &str = "url";
/// What tells a process that it runs in a container that is thrown away with all that is written into it.
const CONTAINER: &[&str] = &["/.dockerenv", "/run/.containerenv"];

pub(super) async fn checks(p: &Patient<'_>) -> Vec<Check> {
    let mut checks = vec![plans(p.config)];
    checks.extend(unused(p.config));
    for file in files(p.config) {
        checks.push(of_files(file.display().to_string(), move |name| readers(name, &file)).await);
    }
    if let Some(identity) = p.config.identity_file.clone() {
        checks.push(of_files(identity.display().to_string(), move |name| closed(name, &identity)).await);
    }
    let dir = p.config.state_dir.clone();
    checks.push(of_files("state directory", move |name| state(name, &dir)).await);
    if CONTAINER.iter().any(|marker| Path::new(marker).exists()) {
        let kept = kept(p.config);
        checks.push(of_files("container", move |name| Ok(in_container(name, &kept, holders::mount_point_of))).await);
    }
    checks
}

fn plans(config: &Config) -> Check {
    let (plans, sources) = (config.plans.len() as u64, config.sources.len() as u64);
    if plans == 0 {
        return Check::bad("plans", "no plan is configured", "Add [plans.NAME] with `sources`; docs/configuration.md.");
    }
    Check::good("plans", format!("{} of {}", size::plural(plans, "plan"), size::plural(sources, "source")))
}

fn unused(config: &Config) -> Option<Check> {
    let planned = |name| config.plans.values().any(|plan| plan.sources.contains(name));
    let unused: Vec<&str> = config.sources.keys().filter(|name| !planned(name)).map(|name| name.as_str()).collect();
    (!unused.is_empty()).then(|| {
        let detail = format!("nothing backs up {}", unused.join(", "));
        Check::warning("sources in no plan", detail, "Name them in the `sources` of a plan, or remove them.")
    })
}

/// The file, and those of `conf.d` beside it.
fn files(config: &Config) -> Vec<PathBuf> {
    let beside = config.file.parent().unwrap_or(Path::new(".")).join("conf.d");
    let more = std::fs::read_dir(beside).into_iter().flatten().flatten().map(|e| e.path());
    let mut files: Vec<PathBuf> = more.filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    files.insert(0, config.file.clone());
    files.sort();
    files
}

fn meta(path: &Path) -> Result<std::fs::Metadata> {
    std::fs::metadata(path).map_err(|e| Error::io("it cannot be looked at", path, e).kind(Kind::Config))
}

/// What it says is carried out as root, so nobody else may write it; and what it says may be secret.
fn readers(name: &str, file: &Path) -> Result<Check> {
    let meta = meta(file)?;
    let mode = meta.permissions().mode();
    let mend = format!("chmod go-rwx {}", file.display());
    if mode & 0o022 != 0 {
        let detail = "others than its owner may write it, and so decide what is run as root";
        return Ok(Check::bad(name, detail, mend));
    }
    let secrets = secrets_in(&std::fs::read_to_string(file).unwrap_or_default());
    if !secrets.is_empty() && mode & 0o044 != 0 {
        let told: Vec<String> = secrets.iter().map(Held::told).collect();
        let detail = format!("it holds secrets ({}), and others may read it", told.join(", "));
        let instead = secrets.iter().filter_map(Held::instead).map(|instead| format!("; or {instead}"));
        return Ok(Check::bad(name, detail, std::iter::once(mend).chain(instead).collect::<String>()));
    }
    Ok(Check::good(name, "read without a mistake"))
}

/// A secret in a file.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Held {
    /// The value of a key.
    Value(&'static str),
    /// The password within a URL, which is the value of a key or stands in a list.
    InUrl(String),
}

impl Held {
    fn told(&self) -> String {
        match self {
            Held::Value(key) => format!("`{key}`"),
            Held::InUrl(key) => format!("the password in `{key}`"),
        }
    }

    /// How the file can do without it, where that is a matter of another key.
    fn instead(&self) -> Option<String> {
        match self {
            Held::Value(PUSHGATEWAY) => None,
            Held::Value(key) => Some(format!("`{key}_file` instead of `{key}`")),
            Held::InUrl(key) => {
                (key == ADDRESS).then(|| format!("`password_file` beside `{key}` instead of {}", self.told()))
            }
        }
    }
}

/// The secrets in the text of a file, in whatever section, list or inline table they stand.
fn secrets_in(text: &str) -> BTreeSet<Held> {
    let mut found = BTreeSet::new();
    let read = config::Config::builder().add_source(File::from_str(text, FileFormat::Toml)).build();
    // What is no TOML was told when the configuration was read.
    let Ok(sections) = read.and_then(config::Config::try_deserialize::<HashMap<String, Value>>) else { return found };
    for (section, value) in &sections {
        match &value.kind {
            ValueKind::Table(named) if NAMED.contains(&section.as_str()) => {
                named.iter().for_each(|(name, value)| in_value(name, value, &mut found));
            }
            _ => of_key(section, value, &mut found),
        }
    }
    found
}

fn in_value(key: &str, value: &Value, found: &mut BTreeSet<Held>) {
    match &value.kind {
        ValueKind::Table(table) => table.iter().for_each(|(key, value)| of_key(key, value, found)),
        ValueKind::Array(values) => values.iter().for_each(|value| in_value(key, value, found)),
        ValueKind::String(text) if has_password(text) => {
            found.insert(Held::InUrl(key.to_owned()));
        }
        _ => {}
    }
}

fn of_key(key: &str, value: &Value, found: &mut BTreeSet<Held>) {
    match &value.kind {
        ValueKind::Table(table) if key == TABLE && !table.is_empty() => {
            found.insert(Held::Value(TABLE));
        }
        ValueKind::Table(_) | ValueKind::Array(_) => in_value(key, value, found),
        _ => match SECRETS.iter().copied().find(|secret| *secret == key) {
            Some(secret) => {
                found.insert(Held::Value(secret));
            }
            None => in_value(key, value, found),
        },
    }
}

/// Whether a text is a URL with a password.
fn has_password(text: &str) -> bool {
    let is_scheme = |scheme: &str| scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c));
    who_and_where(text).is_some_and(|(scheme, at)| is_scheme(scheme) && at.password.is_some_and(|p| !p.is_empty()))
}

fn closed(name: &str, file: &Path) -> Result<Check> {
    let mode = meta(file).map_err(|e| e.hint("Put the host's identity there, or take `identity_file` out."))?;
    if mode.permissions().mode() & 0o077 != 0 {
        let detail = "others may read this host's identity, and with it every backup";
        return Ok(Check::bad(name, detail, format!("chmod 600 {}; then rotate: backstay key rotate", file.display())));
    }
    Ok(Check::good(name, "readable by its owner only"))
}

fn state(name: &str, dir: &Path) -> Result<Check> {
    let Ok(meta) = std::fs::metadata(dir) else {
        return Ok(Check::bad(name, format!("{} is not there", dir.display()), "backstay init makes it."));
    };
    if access(dir, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        let detail = format!("{} cannot be written by this user", dir.display());
        return Ok(Check::bad(name, detail, "Run as the user of the timers, which is root; or mend its owner."));
    }
    if meta.mode() & 0o077 != 0 {
        let detail = format!("others may look into {}, where the vault's secret is", dir.display());
        return Ok(Check::bad(name, detail, format!("chmod 700 {}", dir.display())));
    }
    let free = rustix::fs::statvfs(dir).map_err(|e| Error::io("its free space is not told", dir, e.into()))?;
    let free = free.f_bavail * free.f_frsize;
    if free < LITTLE {
        let detail = format!("{} has {} left", dir.display(), size::human(free));
        return Ok(Check::bad(name, detail, "Make room there: journals and caches are written to it."));
    }
    Ok(Check::good(name, format!("{}, {} free", dir.display(), size::human(free))))
}

/// What must be there when the container is made anew.
fn kept(config: &Config) -> Vec<(&'static str, PathBuf)> {
    let file = std::path::absolute(&config.file).unwrap_or_else(|_| config.file.clone());
    let mut kept = vec![("the configuration", file), ("the state directory", config.state_dir.clone())];
    kept.extend(config.storage.url.strip_prefix("file://").map(|path| ("the repository", PathBuf::from(path))));
    kept.extend(config.identity_file.clone().map(|file| ("the identity", file)));
    kept
}

fn in_container(name: &str, kept: &[(&str, PathBuf)], mount_of: impl Fn(&Path) -> PathBuf) -> Check {
    let lost: Vec<String> = kept
        .iter()
        .filter(|(_, path)| mount_of(path) == Path::new("/"))
        .map(|(what, path)| format!("{what} ({})", path.display()))
        .collect();
    if lost.is_empty() {
        return Check::good(name, "everything that must stay is on a mount");
    }
    let detail = format!("lost when this container is made anew: {}", lost.join(", "));
    Check::bad(name, detail, "Mount a volume or a directory of the host at each of them.")
}

#[cfg(test)]
mod tests {
    use super::super::check::Outcome;
    use super::*;

    #[test]
    fn what_is_not_on_a_mount_is_lost_with_the_container() {
        let kept = [("the state directory", PathBuf::from("/state")), ("the repository", PathBuf::from("/repo/x"))];
        let mounted = |path: &Path| if path.starts_with("/repo") { "/repo".into() } else { PathBuf::from("/") };
        let check = in_container("container", &kept, mounted);
        assert_eq!(check.outcome, Outcome::Bad);
        assert!(check.detail.ends_with("the state directory (/state)"), "{check:?}");
        assert_eq!(in_container("container", &kept[1..], mounted).outcome, Outcome::Good);
    }

    #[test]
    fn who_may_read_and_write_is_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("backstay.toml");
        for (text, mode, outcome) in [
            ("host = \"x\"\n", 0o644, Outcome::Good),
            ("host = \"x\"\n", 0o664, Outcome::Bad),
            ("  password = \"x\"\n", 0o644, Outcome::Bad),
            ("password_file = \"x\"\n", 0o644, Outcome::Good),
            ("password = \"x\"\n", 0o600, Outcome::Good),
            // Within inline tables, lists and sections of their own too; names are no keys.
            ("[sources.a]\nsecrets = { TOKEN = \"x\" }\n", 0o644, Outcome::Bad),
            ("[sources.a.secrets]\nTOKEN = \"x\"\n", 0o644, Outcome::Bad),
            ("[sources.a]\nsecrets_file = { TOKEN = \"x\" }\n", 0o644, Outcome::Good),
            ("[sources.secrets]\nkind = \"files\"\n", 0o644, Outcome::Good),
            ("[foreign.a]\nencryption = { kind = \"gpg\", passphrase = \"x\" }\n", 0o644, Outcome::Bad),
            ("[foreign.a]\nfiles = [{ encryption = { password = \"x\" } }]\n", 0o644, Outcome::Bad),
            ("[[plans.a.restore.checks]]\nbearer = \"x\"\n", 0o644, Outcome::Bad),
            ("[[plans.a.restore.checks]]\nlogin = { url = \"/\", password = \"x\" }\n", 0o644, Outcome::Bad),
            ("[[plans.a.restore.checks]]\nlogin = { url = \"/\", password_file = \"x\" }\n", 0o644, Outcome::Good),
            // Within a URL, of whatever key.
            ("[sources.a]\nurl = \"postgresql://backstay:x@db/erp?sslmode=require\"\n", 0o644, Outcome::Bad),
            ("[sources.a]\nurl = \"postgresql://backstay:x@db/erp\"\n", 0o600, Outcome::Good),
            ("[sources.a]\nurl = \"postgresql://backstay@db:5432/a:b@c\"\n", 0o644, Outcome::Good),
            ("[sources.a]\nurl = \"postgresql:///erp?host=/run\"\n", 0o644, Outcome::Good),
            ("[sources.a]\nurl = \"redis://:p@ss@cache:6379\"\n", 0o644, Outcome::Bad),
            ("[sources.a]\nurl = \"rediss://backstay:@cache\"\n", 0o644, Outcome::Good),
            ("[sources.a]\nurl = \"unix://u:x@/run/redis.sock\"\n", 0o644, Outcome::Bad),
            ("[sources.a]\ndump = [\"pg_dump\", \"postgresql://u:x@db/erp\"]\n", 0o644, Outcome::Bad),
            ("[[plans.a.restore.checks]]\nhttp = \"https://u:x@shop.example.com/\"\n", 0o644, Outcome::Bad),
            ("[[plans.a.restore.checks]]\nhttp = \"https://shop.example.com:443/?at=a:b@c\"\n", 0o644, Outcome::Good),
        ] {
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(readers("f", &file).unwrap().outcome, outcome, "{text} {mode:o}");
        }
    }

    #[test]
    fn a_password_within_a_url_is_told_without_it_and_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("backstay.toml");
        let text = "[sources.a]\nurl = \"redis://:hunter2@cache\"\ndump = [\"x\", \"http://u:hunter2@y\"]\n\
            [repository]\nsession_token = \"x\"\n";
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        let check = readers("f", &file).unwrap();
        assert!(
            check.detail.contains("(`session_token`, the password in `dump`, the password in `url`)"),
            "{}",
            check.detail
        );
        let remedy = check.remedy.unwrap();
        assert!(remedy.contains("`session_token_file` instead of `session_token`"), "{remedy}");
        assert!(remedy.ends_with("; or `password_file` beside `url` instead of the password in `url`"), "{remedy}");
        assert!(!check.detail.contains("hunter2") && !remedy.contains("hunter2"));
    }
}
