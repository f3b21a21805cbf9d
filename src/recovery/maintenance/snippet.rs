//! The file that server blocks include: empty but for a comment when maintenance is off, and when it is on what answers
//! every request with 503 before nginx looks for a location.
//!
//! Everything is in the rewrite phase of the server, which comes first: locations, their error pages and what they proxy
//! to are not reached. The answer comes from locations of ours by `return` with a text, which no `error_page` changes.
//! It is replaced by a rename and synced, so that nginx never sees half of it, also after a power cut.

use super::page::{page, words};
use crate::error::{Error, Kind, Result};
use crate::host::nginx::config::Settings;
use crate::host::nginx::probe::HEADER;
use crate::io::durable;
use serde::{Deserialize, Serialize};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Its name.
const FILE: &str = "maintenance.conf";
/// What begins it.
const MARK: &str = "# backstay maintenance: ";
/// Where our locations are; nobody can ask for them from outside.
const PLACE: &str = "/.backstay-maintenance";

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// There is none, which is off too.
    Absent,
    /// Off.
    Off,
    /// On, by what this id names.
    On(String),
}

/// Where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snippet {
    /// Its directory on this host.
    pub dir: PathBuf,
    /// The same as nginx sees it.
    pub seen: PathBuf,
}

impl Snippet {
    /// The file on this host.
    pub fn file(&self) -> PathBuf {
        self.dir.join(FILE)
    }

    /// The file as nginx sees it.
    pub fn seen_file(&self) -> PathBuf {
        self.seen.join(FILE)
    }

    /// What a server block needs. With a pattern, since nginx then does not mind when there is no such file: a
    /// configuration that is restored to a fresh host works.
    pub fn directive(&self) -> String {
        let path = self.seen.join("*.conf").display().to_string();
        if path.contains(' ') { format!("include \"{path}\";") } else { format!("include {path};") }
    }

    /// What it says.
    ///
    /// # Errors
    /// [`Kind::Refused`] when it is not ours.
    pub fn state(&self) -> Result<State> {
        state_of(&self.file())
    }

    /// Has it say something else.
    ///
    /// # Errors
    /// [`Kind::Restore`] when it cannot be written; it is then as it was.
    pub fn write(&self, state: &State, settings: &Settings) -> Result<()> {
        put(&self.file(), state, settings)
    }
}

/// What a snippet says.
///
/// # Errors
/// [`Kind::Refused`] when it is not ours.
pub fn state_of(file: &Path) -> Result<State> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(State::Absent),
        Err(e) => return Err(Error::io("the maintenance snippet cannot be read", file, e).kind(Kind::Refused)),
    };
    let first = text.lines().next().unwrap_or_default();
    match first.strip_prefix(MARK) {
        Some("off") => Ok(State::Off),
        Some(on) if on.strip_prefix("on ").is_some_and(is_id) => Ok(State::On(on["on ".len()..].to_owned())),
        _ if text.trim().is_empty() => Ok(State::Off),
        _ => Err(Error::new(Kind::Refused, "the maintenance snippet was not written by Backstay")
            .at(file.display())
            .hint("Move it away if nobody needs it; this file is Backstay's own.")),
    }
}

/// Writes a snippet; for [`State::Absent`] removes it.
///
/// # Errors
/// [`Kind::Restore`] when it cannot be written; it is then as it was.
pub fn put(file: &Path, state: &State, settings: &Settings) -> Result<()> {
    let failed = |e: std::io::Error| {
        Error::io("the maintenance snippet cannot be written", file, e)
            .kind(Kind::Restore)
            .hint("Nothing was changed. Look at the file system and the permissions of the directory.")
    };
    let dir = file.parent().unwrap_or(Path::new("/"));
    let text = match state {
        State::Absent => {
            return match std::fs::remove_file(file) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(failed(e)),
                // Without its directory there was nothing, and there is nothing to sync.
                _ if !dir.exists() => Ok(()),
                _ => durable::sync_folder(dir).map_err(failed),
            };
        }
        State::Off => off(),
        State::On(id) => on(id, settings)?,
    };
    make_dir(dir).and_then(|()| durable::replace(file, text.as_bytes(), 0o644)).map_err(failed)
}

/// The directory is open to nginx, what is above it (the state directory) to us alone.
fn make_dir(dir: &Path) -> std::io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(parent) = dir.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    std::fs::DirBuilder::new().mode(0o755).create(dir)
}

/// Whether it can be in a header and in a comment.
pub fn is_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= 100 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b))
}

fn off() -> String {
    format!(
        "{MARK}off\n# Written by Backstay, which fills it while maintenance is on (`backstay maintenance on`). Leave it here.\n"
    )
}

fn on(id: &str, settings: &Settings) -> Result<String> {
    if !is_id(id) {
        return Err(Error::new(Kind::Internal, format!("{id:?} cannot name a maintenance")));
    }
    let retry = settings.retry_after;
    let page = words(&page(settings.page.as_deref(), retry)?);
    let mut out = format!(
        "{MARK}on {id}\n# Written by Backstay. `backstay maintenance off` takes it away; do not edit it.\n\
         set $backstay_maintenance {PLACE}/text;\n\
         if ($http_accept ~* \"text/html\") {{ set $backstay_maintenance {PLACE}/page; }}\n\
         if ($http_accept ~* \"^application/([a-z0-9.-]+[+])?json\") {{ set $backstay_maintenance {PLACE}/json; }}\n"
    );
    if !settings.allow.is_empty() {
        // By what the client wrote, which stays when nginx redirects within itself; hence nothing that would lead
        // elsewhere once it is decoded.
        let prefixes: Vec<String> = settings.allow.iter().map(|p| p.replace('.', "[.]").replace('+', "[+]")).collect();
        out.push_str(&format!(
            "if ($request_uri ~ \"^({})(?![^?]*([.][.]|%|//))\") {{ set $backstay_maintenance \"\"; }}\n",
            prefixes.join("|")
        ));
    }
    out.push_str("if ($backstay_maintenance) { rewrite ^ $backstay_maintenance last; }\n");
    let mut parts = String::new();
    let mut sets = String::new();
    for (n, word) in page.iter().enumerate() {
        sets.push_str(&format!("    set $backstay_page_{n} {word};\n"));
        parts.push_str(&format!("$backstay_page_{n}"));
    }
    let json = serde_json::json!({ "error": "maintenance", "message": "Under maintenance. Please try again later.", "retry_after": retry });
    let bodies = [
        ("page", "text/html; charset=utf-8", sets, format!("\"{parts}\"")),
        (
            "text",
            "text/plain; charset=utf-8",
            String::new(),
            "\"Under maintenance. Please try again later.\\n\"".into(),
        ),
        ("json", "application/json", String::new(), words(&format!("{json}\n")).concat()),
    ];
    for (name, kind, sets, body) in bodies {
        out.push_str(&format!(
            "location = {PLACE}/{name} {{\n    internal;\n    client_max_body_size 0;\n    default_type \"{kind}\";\n    \
             add_header Retry-After {retry} always;\n    add_header Cache-Control no-store always;\n    \
             add_header {HEADER} {id} always;\n{sets}    return 503 {body};\n}}\n"
        ));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read_and_nothing_else_stays_in_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let snippet = Snippet { dir: dir.path().join("state/nginx"), seen: "/etc/my nginx".into() };
        let settings = Settings::default();
        assert_eq!(snippet.state().unwrap(), State::Absent);
        for state in [State::Off, State::On("20260103T220000Z-ab".into()), State::Off, State::Absent, State::Absent] {
            snippet.write(&state, &settings).unwrap();
            assert_eq!(snippet.state().unwrap(), state);
            let names = std::fs::read_dir(&snippet.dir).unwrap().count();
            assert_eq!(names, usize::from(state != State::Absent));
        }
        assert_eq!(snippet.directive(), "include \"/etc/my nginx/*.conf\";");
        std::fs::write(snippet.file(), "return 418;\n").unwrap();
        assert_eq!(snippet.state().unwrap_err().kind, Kind::Refused);
        std::fs::write(snippet.file(), "\n").unwrap();
        assert_eq!(snippet.state().unwrap(), State::Off);
    }

    #[test]
    fn an_id_cannot_become_a_directive() {
        for bad in ["", "a b", "x;y", "a\nb", "$x", "ü"] {
            assert!(on(bad, &Settings::default()).is_err(), "{bad:?}");
        }
    }
}
