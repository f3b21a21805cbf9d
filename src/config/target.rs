//! What `stop` and `start_after_checks` name, as it is written there.

use crate::error::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Kinds of units that an application is made of.
const UNITS: &[&str] = &["service", "timer", "socket", "path", "target"];
/// Kinds of units that it is not.
const OTHER_UNITS: &[&str] = &["mount", "automount", "swap", "slice", "scope", "device"];

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Target {
    /// A unit of systemd with its suffix: `erp.service`, `worker@1.service`.
    Unit(String),
    /// The compose project of a directory or of a compose file.
    Compose(PathBuf),
    /// A compose project by its name.
    ComposeProject(String),
    /// A container by its name.
    Container(String),
    /// All containers with a label.
    Label {
        /// Its name.
        key: String,
        /// Its value.
        value: String,
    },
    /// A service of a swarm.
    Service(String),
    /// All services of a stack.
    Stack(String),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Unit(name) => f.write_str(name),
            Target::Compose(path) => write!(f, "compose:{}", path.display()),
            Target::ComposeProject(name) => write!(f, "compose-project:{name}"),
            Target::Container(name) => write!(f, "container:{name}"),
            Target::Label { key, value } => write!(f, "label:{key}={value}"),
            Target::Service(name) => write!(f, "service:{name}"),
            Target::Stack(name) => write!(f, "stack:{name}"),
        }
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.to_string()
    }
}

impl TryFrom<String> for Target {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        // The reader of the configuration adds where it is.
        text.parse().map_err(|e: Error| match e.hint {
            Some(hint) => format!("{}; {hint}", e.what),
            None => e.what,
        })
    }
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let Some((kind, name)) = text.split_once(':') else { return unit(text, text) };
        Ok(match kind {
            "unit" => return unit(text, name),
            "compose" if name.starts_with('/') => Target::Compose(name.into()),
            "compose" => {
                return Err(wrong(text, "does not name a whole path").hint(
                    "Write `compose:/opt/app`, the directory or the file that `docker compose` is run with, or `compose-project:NAME`.",
                ));
            }
            "compose-project" => Target::ComposeProject(docker_name(text, name)?),
            "container" => Target::Container(docker_name(text, name)?),
            "service" => Target::Service(docker_name(text, name)?),
            "stack" => Target::Stack(docker_name(text, name)?),
            "label" => match name.split_once('=') {
                Some((key, value)) if !key.is_empty() => Target::Label { key: key.to_owned(), value: value.to_owned() },
                _ => return Err(wrong(text, "is no label").hint("Write `label:KEY=VALUE`.")),
            },
            _ => {
                return Err(wrong(text, &format!("begins with {kind:?}, which is nothing that can be stopped")).hint(
                    "There are: a unit's name, `compose:/PATH`, `compose-project:NAME`, `container:NAME`, `label:KEY=VALUE`, `service:NAME`, `stack:NAME`.",
                ));
            }
        })
    }
}

fn wrong(text: &str, why: &str) -> Error {
    Error::new(Kind::Config, format!("{text:?} {why}"))
}

/// A unit's name with its suffix.
pub fn full(name: &str) -> String {
    let has_suffix = name.rsplit_once('.').is_some_and(|(_, s)| UNITS.contains(&s) || OTHER_UNITS.contains(&s));
    if has_suffix { name.to_owned() } else { format!("{name}.service") }
}

fn unit(text: &str, name: &str) -> Result<Target> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b);
    if name.is_empty() || !name.bytes().all(allowed) || name.starts_with(['.', '-', '@']) {
        return Err(wrong(text, "cannot be the name of a unit")
            .hint("Write it as `systemctl status` takes it: `erp-web`, `worker@1`, `report.timer`."));
    }
    let name = full(name);
    let (stem, suffix) = name.rsplit_once('.').unwrap_or((&name, ""));
    if !UNITS.contains(&suffix) {
        return Err(wrong(text, &format!("is a {suffix}, which is not stopped with an application"))
            .hint(format!("A unit may be a {}.", UNITS.join(", "))));
    }
    if stem.ends_with('@') {
        return Err(wrong(text, "is a template").hint(format!("Name its instances: `{stem}1`.")));
    }
    Ok(Target::Unit(name))
}

/// Docker's own rule for names.
fn docker_name(text: &str, name: &str) -> Result<String> {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if first && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)) {
        return Ok(name.to_owned());
    }
    Err(wrong(text, "does not end in a name of Docker").hint("Docker's names are letters, digits, `_`, `.` and `-`."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read_and_written_as_the_same_text() {
        for (text, written) in [
            ("erp-celery-beat", "erp-celery-beat.service"),
            ("unit:erp-celery-beat", "erp-celery-beat.service"),
            ("worker@1", "worker@1.service"),
            ("app.v2", "app.v2.service"),
            ("report.timer", "report.timer"),
            ("compose:/opt/edms", "compose:/opt/edms"),
            ("compose:/opt/edms/compose.yml", "compose:/opt/edms/compose.yml"),
            ("compose-project:edms", "compose-project:edms"),
            ("container:edms-web-1", "container:edms-web-1"),
            ("label:tier=web=1", "label:tier=web=1"),
            ("label:tier=", "label:tier="),
            ("service:hosting_app", "service:hosting_app"),
            ("stack:hosting", "stack:hosting"),
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!(target.to_string(), written);
            assert_eq!(written.parse::<Target>().unwrap(), target);
            let json = serde_json::to_string(&target).unwrap();
            assert_eq!(serde_json::from_str::<Target>(&json).unwrap(), target, "{json}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_what_can() {
        for (text, said) in [
            ("", "cannot be the name of a unit"),
            ("a b", "cannot be the name of a unit"),
            ("-f", "cannot be the name of a unit"),
            ("../x", "cannot be the name of a unit"),
            ("home.mount", "is a mount"),
            ("worker@", "`worker@1`"),
            ("worker@.timer", "is a template"),
            ("compose:edms", "compose-project:NAME"),
            ("container:", "name of Docker"),
            ("container:a/b", "name of Docker"),
            ("service:a b", "name of Docker"),
            ("label:tier", "label:KEY=VALUE"),
            ("docker:web", "`container:NAME`"),
        ] {
            let e = text.parse::<Target>().unwrap_err();
            assert!(e.kind == Kind::Config && e.to_string().contains(said), "{text}: {e}");
            let read = serde_json::from_value::<Target>(text.into()).unwrap_err().to_string();
            assert!(read.contains(said), "{text}: {read}");
        }
    }
}
