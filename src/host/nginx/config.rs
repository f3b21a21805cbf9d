//! `[maintenance]`: where nginx is, and what it shows while a restore runs. These names are the contract.

use crate::error::{Error, Kind, Result};
use crate::model::list::list;
use crate::model::time;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where nginx runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", try_from = "Written")]
pub enum Where {
    /// On this host.
    #[default]
    Host,
    /// In a container: its name, or `PROJECT/SERVICE` of compose.
    Container(String),
    /// In the tasks of a swarm service on this node.
    Service(String),
}

/// `"host"`, or a table with one key.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Word(String),
    Table(BTreeMap<String, String>),
}

impl TryFrom<Written> for Where {
    type Error = String;

    fn try_from(written: Written) -> std::result::Result<Self, String> {
        let (key, name) = match written {
            Written::Word(word) => (word, None),
            Written::Table(table) => {
                let mut keys = table.into_iter();
                match (keys.next(), keys.next()) {
                    (Some((key, name)), None) => (key, Some(name)),
                    _ => {
                        return Err(
                            "`where` is one place: \"host\", or a table with `container` or with `service`".into()
                        );
                    }
                }
            }
        };
        match (key.as_str(), name) {
            ("host", None) => Ok(Where::Host),
            ("container", Some(name)) => Ok(Where::Container(name)),
            ("service", Some(name)) => Ok(Where::Service(name)),
            ("container" | "service", None) => Err(format!("`where` needs a name: {{ {key} = \"NAME\" }}")),
            _ => Err(format!("unknown variant `{key}`, expected one of `host`, `container`, `service`")),
        }
    }
}

/// The section, as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where nginx runs.
    #[serde(default)]
    pub r#where: Where,
    /// The program with arguments that every call needs.
    #[serde(default = "nginx", deserialize_with = "list")]
    pub command: Vec<String>,
    /// A page of the operator's, HTML.
    pub page: Option<PathBuf>,
    /// Seconds after which clients should ask again.
    #[serde(default = "two_minutes")]
    pub retry_after: u32,
    /// Beginnings of paths that go through to the application.
    #[serde(default = "certificates", deserialize_with = "list")]
    pub allow: Vec<String>,
    /// Server names that it is about; empty means all.
    #[serde(default, deserialize_with = "list")]
    pub names: Vec<String>,
    /// Where all names are asked for, instead of where nginx listens: `http://127.0.0.1:8080`.
    pub probe: Option<String>,
    /// How long workers with the old configuration may take to finish their requests.
    #[serde(default = "ten_seconds", serialize_with = "text", deserialize_with = "duration")]
    pub drain: Duration,
    /// The directory of the snippet, as nginx sees it.
    pub snippet_dir: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            r#where: Where::Host,
            command: nginx(),
            page: None,
            retry_after: two_minutes(),
            allow: certificates(),
            names: Vec::new(),
            probe: None,
            drain: ten_seconds(),
            snippet_dir: None,
        }
    }
}

fn nginx() -> Vec<String> {
    vec!["nginx".to_owned()]
}

fn two_minutes() -> u32 {
    120
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

/// Certificates are renewed by requests that must not depend on a restore.
fn certificates() -> Vec<String> {
    vec!["/.well-known/acme-challenge/".to_owned()]
}

fn duration<'de, D: Deserializer<'de>>(d: D) -> std::result::Result<Duration, D::Error> {
    let text = String::deserialize(d)?;
    let parsed = time::parse_duration(&text).map_err(|e| serde::de::Error::custom(e.what))?;
    Ok(Duration::from_secs(parsed.as_secs().unsigned_abs()))
}

fn text<S: Serializer>(duration: &Duration, s: S) -> std::result::Result<S::Ok, S::Error> {
    s.serialize_str(&format!("{}s", duration.as_secs()))
}

impl Settings {
    /// As they stand in a file of the directory `dir`: checked, and with the page beside that file when its path is relative.
    ///
    /// # Errors
    /// As [`Settings::check`].
    pub fn of_file_in(mut self, dir: &Path) -> Result<Self> {
        self.check()?;
        self.page = self.page.map(|page| dir.join(page));
        Ok(self)
    }

    /// Refuses what would not do what it says, or would become something else in nginx's configuration.
    ///
    /// # Errors
    /// [`Kind::Config`] with the key.
    pub fn check(&self) -> Result<()> {
        let bad = |key: &str, why: String, hint: &str| {
            Err(Error::new(Kind::Config, format!("`maintenance.{key}` cannot be used")).because(why).hint(hint))
        };
        if self.command.is_empty() {
            return bad(
                "command",
                "it is empty".into(),
                "Write [\"nginx\"], with arguments behind it if it needs some.",
            );
        }
        for prefix in &self.allow {
            let plain = |c: char| c.is_ascii_alphanumeric() || "/._~-+@:".contains(c);
            if !prefix.starts_with('/') || prefix.len() < 2 || !prefix.chars().all(plain) || prefix.contains("..") {
                let hint = "Write the beginning of a path, like \"/healthz\": letters, digits and / . _ ~ - + @ :.";
                return bad("allow", format!("{prefix:?} is not the beginning of a path"), hint);
            }
        }
        for name in &self.names {
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            if name.is_empty() || !name.chars().all(plain) {
                let hint = "Write names that a browser could ask for, like \"shop.example.com\"; none means all.";
                return bad("names", format!("{name:?} is not a host name"), hint);
            }
        }
        if let Some(dir) = &self.snippet_dir {
            let text = dir.to_string_lossy();
            let plain = |c: char| c.is_alphanumeric() || "/._- ".contains(c);
            if !dir.is_absolute() || text.len() < 2 || !text.chars().all(plain) || text.contains("/..") {
                let hint = "Write an absolute path of letters, digits and / . _ -.";
                return bad("snippet_dir", format!("{text:?} is not a path for it"), hint);
            }
        }
        if let Some(url) = &self.probe
            && super::targets::base(url).is_none()
        {
            let hint = "Write http://HOST:PORT or https://HOST:PORT.";
            return bad("probe", format!("{url:?} is not the address of a server"), hint);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_comes_back_and_defaults_hold() {
        let all = Settings {
            r#where: Where::Service("shop_nginx".into()),
            drain: Duration::from_secs(90),
            ..Settings::default()
        };
        let json = serde_json::to_value(&all).unwrap();
        assert_eq!((&json["where"]["service"], &json["drain"]), (&"shop_nginx".into(), &"90s".into()));
        assert_eq!(serde_json::from_value::<Settings>(json).unwrap(), all);
        assert_eq!(serde_json::from_str::<Settings>(r#"{"where":"host"}"#).unwrap(), Settings::default());
        for bad in [r#"{"wher":"host"}"#, r#"{"where":"container"}"#, r#"{"where":{"container":"a","service":"b"}}"#] {
            assert!(serde_json::from_str::<Settings>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_could_become_something_else_is_refused() {
        let with = |change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            settings.check()
        };
        assert!(with(|_| ()).is_ok());
        assert!(with(|s| s.allow = vec!["/a/b.c-d".into()]).is_ok());
        for change in [
            (|s| s.allow = vec!["/".into()]) as fn(&mut Settings),
            |s| s.allow = vec!["/a\"; return 200; #".into()],
            |s| s.allow = vec!["/a/../b".into()],
            |s| s.names = vec!["a b".into()],
            |s| s.names = vec!["*.example.com".into()],
            |s| s.snippet_dir = Some("relative".into()),
            |s| s.snippet_dir = Some("/a;b".into()),
            |s| s.probe = Some("ftp://x".into()),
            |s| s.command.clear(),
        ] {
            assert_eq!(with(change).unwrap_err().kind, Kind::Config);
        }
    }
}
