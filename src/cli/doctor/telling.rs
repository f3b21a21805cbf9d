//! Whether anybody is told when a backup does not come.

use super::Patient;
use super::check::{Check, of_files, within};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::model::time;
use crate::sources::url::who_and_where;
use jiff::Timestamp;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::TcpStream;

/// How long `serve` may take to take a connection.
const TAKES: Duration = Duration::from_secs(2);

pub(super) async fn checks(p: &Patient<'_>) -> Vec<Check> {
    let config = p.config;
    let serves = serves(config).await;
    let mut checks = vec![somebody(config, serves)];
    if let Some(file) = config.metrics.textfile.clone() {
        checks.push(of_files("textfile", move |name| textfile(name, &file)).await);
    }
    if let Some(url) = config.metrics.pushgateway.as_ref().and_then(|url| address(url.expose())) {
        checks.push(within("pushgateway", takes("pushgateway", url)).await.mildly());
    }
    if let Some(sentry) = config.sentry.as_ref() {
        checks.push(match address(&sentry.dsn) {
            Some(there) => within("sentry", takes("sentry", there)).await.mildly(),
            None => Check::bad("sentry", "`sentry.dsn` is no DSN", "Copy it from the project's settings."),
        });
    }
    checks
}

async fn serves(config: &Config) -> bool {
    let tried = tokio::time::timeout(TAKES, TcpStream::connect(config.serve.listen)).await;
    tried.is_ok_and(|connected| connected.is_ok())
}

fn somebody(config: &Config, serves: bool) -> Check {
    let name = "who is told";
    let ways = [
        (config.metrics.textfile.is_some(), "a textfile"),
        (config.metrics.pushgateway.is_some(), "a Pushgateway"),
        (serves, "backstay serve"),
        (config.sentry.is_some(), "Sentry"),
        (!config.hooks.is_empty(), "webhooks"),
    ];
    let used: Vec<&str> = ways.into_iter().filter(|(used, _)| *used).map(|(_, way)| way).collect();
    if used.is_empty() {
        let mend = "Set up one of [metrics], [sentry], [webhooks] or `backstay serve`; docs/monitoring.md.";
        return Check::warning(name, "nobody: a backup that does not come is noticed by nobody", mend);
    }
    Check::good(name, used.join(", "))
}

/// Written when a command begins and ends, and read by another user.
fn textfile(name: &str, file: &Path) -> Result<Check> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    if !folder.is_dir() {
        let mend = "Install node_exporter, or correct `metrics.textfile`.";
        return Ok(Check::bad(name, format!("{} is not there", folder.display()), mend));
    }
    let Ok(meta) = std::fs::metadata(file) else {
        return Ok(Check::warning(name, format!("{} was never written", file.display()), "Run a backup."));
    };
    let closed: Option<PathBuf> = folder
        .ancestors()
        .map(Path::to_owned)
        .find(|dir| std::fs::metadata(dir).is_ok_and(|m| m.permissions().mode() & 0o001 == 0));
    if let Some(dir) = closed {
        let detail = format!("{} is closed to other users, and node_exporter is one", dir.display());
        return Ok(Check::warning(name, detail, format!("chmod o+x {}", dir.display())));
    }
    let written = meta.modified().ok().and_then(|at| Timestamp::try_from(at).ok());
    let ago = written.map_or_else(String::new, |at| format!(", written {}", time::ago(at, Timestamp::now())));
    Ok(Check::good(name, format!("{}{ago}", file.display())))
}

/// Host and port of a URL. What else is in it may be a secret.
fn address(url: &str) -> Option<(String, u16)> {
    let (scheme, at) = who_and_where(url)?;
    let default = if scheme == "https" { 443 } else { 80 };
    let port = at.port.map_or(Some(default), |port| port.parse().ok())?;
    (!at.host.is_empty()).then(|| (at.host.to_owned(), port))
}

async fn takes(name: &'static str, (host, port): (String, u16)) -> Result<Check> {
    let there = format!("{host}:{port}");
    TcpStream::connect((host.as_str(), port)).await.map_err(|e| {
        Error::new(Kind::Internal, "it cannot be reached")
            .at(&there)
            .because(e)
            .hint("Check its address, and what is between. Backups do not depend on it; who is told of them does.")
    })?;
    Ok(Check::good(name, format!("{there} takes connections")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_are_taken_from_a_url_and_nothing_else() {
        for (url, host, port) in [
            ("https://key@sentry.example.org/42", "sentry.example.org", 443),
            ("http://key:secret@127.0.0.1:9000/1", "127.0.0.1", 9000),
            ("http://[::1]:9091/x", "::1", 9091),
            ("http://[::1]/x", "::1", 80),
        ] {
            assert_eq!(address(url), Some((host.to_owned(), port)), "{url}");
        }
        assert_eq!(address("sentry.example.org"), None);
        assert_eq!(address("https:///x"), None);
    }
}
