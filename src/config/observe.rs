//! Who is told what goes on: `[metrics]`, `[sentry]`, `[webhooks]`, `[serve]`, and when a plan is due.

use super::raw_observe::{RawMetrics, RawSentry, RawServe, RawWebhooks};
use super::secret::{Secret, either};
use super::{Due, Metrics, Serve};
use crate::error::{Error, Kind, Result};
use crate::model::{Name, time};
use crate::telemetry::hooks::Urls;
use crate::telemetry::sentry::{Options, Schedule};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where `serve` listens when nobody says otherwise: this machine only.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9814);
/// How often `serve` looks at the repository.
const REFRESH: Duration = Duration::from_secs(15 * 60);
/// A nightly backup and two hours.
const MAX_AGE: Duration = Duration::from_secs(26 * 60 * 60);
/// How much later than due a backup may begin.
const MARGIN: Duration = Duration::from_secs(30 * 60);
/// How long a backup may take.
const MAX_RUNTIME: Duration = Duration::from_secs(6 * 60 * 60);

fn duration(text: Option<&String>, key: &str, default: Duration) -> Result<Duration> {
    let Some(text) = text else { return Ok(default) };
    let parsed = time::parse_duration(text).ok().and_then(|d| Duration::try_from(d).ok());
    parsed.filter(|d| !d.is_zero()).ok_or_else(|| {
        Error::new(Kind::Config, format!("`{key}` is {text:?}, which is no duration"))
            .hint("Write a number with s, m, h or d, like 26h.")
    })
}

/// When a plan is due, and how old its newest backup may be.
pub(super) fn due_of(
    schedule: &Option<String>,
    margin: &Option<String>,
    max_runtime: &Option<String>,
    max_age: &Option<String>,
) -> Result<(Due, Duration)> {
    let margin = duration(margin.as_ref(), "schedule_margin", MARGIN)?;
    let max_runtime = duration(max_runtime.as_ref(), "max_runtime", MAX_RUNTIME)?;
    schedule.iter().try_for_each(|text| Schedule::check_crontab(text))?;
    let due = Due { crontab: schedule.clone(), margin, max_runtime };
    Ok((due, duration(max_age.as_ref(), "max_age", MAX_AGE)?))
}

pub(super) fn metrics_of(raw: RawMetrics) -> Result<Metrics> {
    if let Some(path) = raw.textfile.as_ref().filter(|p| !p.is_absolute() || p.extension().is_none_or(|e| e != "prom"))
    {
        return Err(Error::new(Kind::Config, "`metrics.textfile` is not the absolute path of a .prom file")
            .at(path.display())
            .hint("node_exporter reads *.prom in one directory: /var/lib/prometheus/node-exporter/backstay.prom."));
    }
    let pushgateway = raw.pushgateway.map(|url| http(url, "metrics.pushgateway")).transpose()?;
    Ok(Metrics { textfile: raw.textfile, pushgateway })
}

pub(super) fn sentry_of(raw: RawSentry, host: &Name, dir: &Path) -> Result<Option<Options>> {
    let dsn = either(raw.dsn, raw.dsn_file.as_deref(), "sentry.dsn", dir)?;
    Ok(dsn.map(|dsn| Options {
        dsn: dsn.expose().to_owned(),
        environment: raw.environment.unwrap_or_else(|| "production".to_owned()),
        traces: raw.traces.unwrap_or(true),
        host: host.to_string(),
    }))
}

pub(super) fn urls_of(raw: RawWebhooks, key: &str, dir: &Path) -> Result<Urls> {
    let url = |direct: Option<Secret>, file: Option<PathBuf>, name: &str| -> Result<Option<String>> {
        let option = format!("{key}.{name}");
        let url = either(direct, file.as_deref(), &option, dir)?.map(|url| http(url, &option)).transpose()?;
        Ok(url.map(|url| url.expose().to_owned()))
    };
    Ok(Urls {
        start: url(raw.start_url, raw.start_url_file, "start_url")?,
        success: url(raw.success_url, raw.success_url_file, "success_url")?,
        failure: url(raw.failure_url, raw.failure_url_file, "failure_url")?,
        json: url(raw.json_url, raw.json_url_file, "json_url")?,
    })
}

/// The value itself is not told: it is a secret.
fn http(url: Secret, option: &str) -> Result<Secret> {
    match url.expose().split_once("://") {
        Some(("http" | "https", rest)) if !rest.is_empty() => Ok(url),
        _ => Err(Error::new(Kind::Config, format!("`{option}` is no URL")).hint("Write http://… or https://….")),
    }
}

pub(super) fn serve_of(raw: RawServe) -> Result<Serve> {
    let listen = match raw.listen {
        None => LISTEN,
        Some(text) => text.parse().map_err(|_| {
            Error::new(Kind::Config, format!("`serve.listen` is {text:?}"))
                .hint("Write an address and a port, like 127.0.0.1:9814.")
        })?,
    };
    let hosts = raw.hosts.iter().map(|host| host.parse()).collect::<Result<Vec<Name>>>()?;
    Ok(Serve { listen, refresh: duration(raw.refresh.as_ref(), "serve.refresh", REFRESH)?, hosts })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_is_checked_and_defaults_are_those_of_a_nightly_backup() {
        let text = |t: &str| Some(t.to_owned());
        let (due, max_age) = due_of(&text("0 3 * * *"), &None, &text("2h"), &None).unwrap();
        assert_eq!(due.crontab.as_deref(), Some("0 3 * * *"));
        assert_eq!((due.margin.as_secs(), due.max_runtime.as_secs(), max_age.as_secs()), (1800, 7200, 93_600));
        assert!(due_of(&text("nightly"), &None, &None, &None).is_err());
        assert!(due_of(&None, &None, &None, &text("0s")).is_err());
    }

    #[test]
    fn a_wrong_url_is_told_without_its_value() {
        let raw =
            RawWebhooks { start_url: Some(Secret::new("hc-ping.com/secret-uuid".into())), ..RawWebhooks::default() };
        let e = urls_of(raw, "webhooks", Path::new("/")).unwrap_err();
        assert!(e.what.contains("webhooks.start_url") && !e.to_string().contains("secret-uuid"), "{e}");
    }

    #[test]
    fn a_textfile_is_one_that_node_exporter_reads() {
        for (path, good) in [("/x/backstay.prom", true), ("/x/backstay.txt", false), ("backstay.prom", false)] {
            let raw = RawMetrics { textfile: Some(path.into()), pushgateway: None };
            assert_eq!(metrics_of(raw).is_ok(), good, "{path}");
        }
    }
}
