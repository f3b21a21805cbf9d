//! `[[plans.NAME.restore.checks]]`, from keys to the checked type.

use super::http::{http_of, texts_of};
use super::raw::RawCheck;
use super::{Check, Command, InDatabase, Log, LogOf, Port, Query, Stays, UnitState, Wanted, What};
use crate::config::SourceConfig;
use crate::config::command::secrets_of;
use crate::config::explain::named;
use crate::error::{Error, Kind, Result};
use crate::model::{Name, time};
use crate::sources::command::run::Runner;
use crate::sources::postgres::Databases;
use regex::Regex;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// By when a check must be good.
const WITHIN: Duration = Duration::from_secs(60);
/// The pause between two tries.
const EVERY: Duration = Duration::from_secs(2);
/// For how long units and containers must stay up.
const STAYS: Duration = Duration::from_secs(2);
/// For how long a log is watched.
const WATCHED: Duration = Duration::from_secs(5);
/// What bad lines look like: what three of four runbooks look for by `grep -i`.
const PATTERN: &str = "(?i)error|critical|fatal|panic|traceback";

pub(super) fn wrong(what: impl Into<String>) -> Error {
    Error::new(Kind::Config, what)
}

/// A word, for what becomes part of a line.
pub(super) fn one_word(key: &str, text: String) -> Result<String> {
    match text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        true => Err(wrong(format!("`{key}` is {text:?}")).hint("Write one word.")),
        false => Ok(text),
    }
}

/// A time of the configuration.
pub(super) fn limit(key: &str, text: Option<&String>, default: Duration) -> Result<Duration> {
    let Some(text) = text else { return Ok(default) };
    let parsed = time::parse_duration(text)?;
    Duration::try_from(parsed).map_err(|_| wrong(format!("`{key}` is {text:?}")))
}

/// The same, and more than nothing.
pub(super) fn some_time(key: &str, text: Option<&String>, default: Duration) -> Result<Duration> {
    match limit(key, text, default)? {
        Duration::ZERO => Err(wrong(format!("`{key}` is no time at all"))),
        limit => Ok(limit),
    }
}

/// All checks of a plan; two never have one name. `key` is the path of the list.
///
/// # Errors
/// [`Kind::Config`] with the number of the check, from 1.
pub fn checks_of(
    raw: Vec<RawCheck>,
    key: &str,
    dir: &Path,
    sources: &BTreeMap<Name, SourceConfig>,
) -> Result<Vec<Check>> {
    let mut taken: BTreeSet<String> = raw.iter().filter_map(|r| r.name.clone()).collect();
    if taken.len() < raw.iter().filter(|r| r.name.is_some()).count() {
        return Err(named(wrong("two checks have the same name"), key));
    }
    let mut checks = Vec::new();
    for (n, raw) in raw.into_iter().enumerate() {
        let (key, given) = (format!("{key}[{}]", n + 1), raw.name.is_some());
        let mut check = check_of(raw, &key, dir, sources)?;
        let derived = check.name.clone();
        let mut number = 1;
        while !given && !taken.insert(check.name.clone()) {
            number += 1;
            check.name = format!("{derived} {number}");
        }
        checks.push(check);
    }
    Ok(checks)
}

/// One check. `sources` are those that it may ask, `dir` that of relative secret files.
///
/// # Errors
/// [`Kind::Config`] for what does not fit together.
pub fn check_of(raw: RawCheck, key: &str, dir: &Path, sources: &BTreeMap<Name, SourceConfig>) -> Result<Check> {
    one_check(raw, key, dir, sources).map_err(|e| named(e, key))
}

fn one_check(mut raw: RawCheck, key: &str, dir: &Path, sources: &BTreeMap<Name, SourceConfig>) -> Result<Check> {
    let kind = kind_of(&raw)?;
    fits(&raw, kind)?;
    let settle = |default| limit("settle", raw.settle.as_ref(), default);
    let settles = match kind {
        "container" | "unit" => settle(STAYS)?,
        "log" => settle(WATCHED)?,
        _ => Duration::ZERO,
    };
    let within = some_time("within", raw.within.as_ref(), WITHIN.max(settles * 2))?;
    if settles >= within {
        return Err(wrong("`settle` is not shorter than `within`").hint("Give it more time with `within`."));
    }
    let every = some_time("every", raw.every.as_ref(), EVERY)?;
    let longest = Duration::from_secs(if matches!(kind, "sql" | "command") { 30 } else { 10 });
    let timeout = some_time("timeout", raw.timeout.as_ref(), longest)?;
    let before_swap = raw.before_swap.unwrap_or(false);
    let given = raw.name.take();
    let (what, of) = match kind {
        "http" => {
            let url = raw.http.take().unwrap_or_default();
            let http = http_of(&url, &mut raw, key, dir)?;
            // A query may hold a secret.
            let port = http.url.port().map(|p| format!(":{p}")).unwrap_or_default();
            let of = format!("{}{port}{}", http.url.host_str().unwrap_or_default(), http.url.path());
            (What::Http(Box::new(http)), of)
        }
        "sql" => {
            let place = in_database(raw.source.take(), raw.database.take(), sources)?;
            let of = place.database.clone();
            let query = query_of(&raw.sql.take().unwrap_or_default())?;
            (What::Sql(Box::new(Query { place, query, wanted: wanted_of(&mut raw)? })), of)
        }
        "command" => {
            let argv = argv_of("command", raw.command.take().unwrap_or_default())?;
            let of = Path::new(&argv[0]).file_name().map_or(argv[0].clone(), |n| n.to_string_lossy().into_owned());
            let (env, secrets) = (raw.env.take().unwrap_or_default(), raw.secrets.take().unwrap_or_default());
            let files = raw.secrets_file.take().unwrap_or_default();
            let runner = Runner {
                container: raw.container.take(),
                os_user: raw.os_user.take(),
                dir: raw.dir.take(),
                secrets: secrets_of(&env, &secrets, &files, key, dir)?,
                env: env.into_iter().collect(),
            };
            let wanted = wanted_of(&mut raw)?;
            if wanted.equal.as_ref().is_some_and(|value| value.is_array()) {
                return Err(wrong("`expect` is a list, and a program prints text").hint("Write the text, or a number."));
            }
            let exit = raw.exit.unwrap_or(0);
            (What::Command(Box::new(Command { argv, runner, exit, texts: texts_of(&mut raw), wanted })), of)
        }
        "tcp" => {
            let address = raw.tcp.take().unwrap_or_default();
            let port =
                address.rsplit_once(':').and_then(|(host, port)| port.parse::<u16>().ok().filter(|_| !host.is_empty()));
            if port.is_none_or(|port| port == 0) {
                return Err(wrong(format!("`tcp` is {address:?}")).hint("Write HOST:PORT, [ADDRESS]:PORT for IPv6."));
            }
            let begins = match raw.expect.take() {
                None => None,
                Some(Value::String(text)) if !text.is_empty() => Some(text),
                Some(_) => return Err(wrong("`expect` is no text").hint("Write how the answer begins: \"+PONG\".")),
            };
            let of = address.clone();
            (What::Tcp(Port { address, send: raw.send.take(), begins }), of)
        }
        "container" => {
            let reference = one_word("container", raw.container.take().unwrap_or_default())?;
            let of = reference.clone();
            (What::Container(Stays { reference, settle: settles }), of)
        }
        "unit" => {
            let unit = unit_of(&raw.unit.take().unwrap_or_default())?;
            let of = unit.strip_suffix(".service").unwrap_or(&unit).to_owned();
            let state = one_word("state", raw.state.take().unwrap_or_else(|| "active".to_owned()))?;
            (What::Unit(UnitState { unit, state, sub: raw.sub.take(), settle: settles }), of)
        }
        _ => {
            let text = raw.log.take().unwrap_or_default();
            let of = log_of(&text)?;
            let ignore = raw.ignore.take().map(|text| regex("ignore", &text)).transpose()?;
            let pattern = regex("pattern", raw.pattern.as_deref().unwrap_or(PATTERN))?;
            let maximum = raw.maximum.unwrap_or(0);
            (What::Log(Log { of, pattern, ignore, maximum, settle: settles }), text)
        }
    };
    let name = given.unwrap_or_else(|| format!("{kind} {of}"));
    if name.trim().is_empty() || name.chars().any(char::is_control) {
        return Err(wrong(format!("`name` is {name:?}")).hint("Write some words."));
    }
    Ok(Check { name, what, within, every, timeout, before_swap })
}

/// The key that says what is looked at.
fn kind_of(raw: &RawCheck) -> Result<&'static str> {
    let mut kinds: Vec<&'static str> = [
        ("http", raw.http.is_some()),
        ("sql", raw.sql.is_some()),
        ("command", raw.command.is_some()),
        ("tcp", raw.tcp.is_some()),
        ("container", raw.container.is_some()),
        ("unit", raw.unit.is_some()),
        ("log", raw.log.is_some()),
    ]
    .into_iter()
    .filter_map(|(kind, set)| set.then_some(kind))
    .collect();
    if kinds.contains(&"command") {
        // There it is where the program runs.
        kinds.retain(|kind| *kind != "container");
    }
    match kinds[..] {
        [kind] => Ok(kind),
        [] => Err(wrong("it is not said what the check looks at")
            .hint("Set one of `http`, `sql`, `command`, `tcp`, `container`, `unit` and `log`.")),
        _ => Err(wrong(format!("the check looks at {} things", kinds.len()))
            .because(kinds.join(", "))
            .hint("Make a check of each.")),
    }
}

/// A key that this kind does not know would do nothing, and its check less than it seems.
fn fits(raw: &RawCheck, kind: &str) -> Result<()> {
    let keys: [(&str, bool, &[&str]); 33] = [
        ("method", raw.method.is_some(), &["http"]),
        ("headers", raw.headers.is_some(), &["http"]),
        ("body", raw.body.is_some(), &["http"]),
        ("host", raw.host.is_some(), &["http"]),
        ("resolve", raw.resolve.is_some(), &["http"]),
        ("status", raw.status.is_some(), &["http"]),
        ("contains", raw.contains.is_some(), &["http", "command"]),
        ("not_contains", raw.not_contains.is_some(), &["http", "command"]),
        ("json", raw.json.is_some(), &["http"]),
        ("redirects", raw.redirects.is_some(), &["http"]),
        ("ca", raw.ca.is_some(), &["http"]),
        ("insecure", raw.insecure.is_some(), &["http"]),
        ("bearer", raw.bearer.is_some() || raw.bearer_file.is_some(), &["http"]),
        ("user", raw.user.is_some(), &["http"]),
        ("password", raw.password.is_some() || raw.password_file.is_some(), &["http"]),
        ("login", raw.login.is_some(), &["http"]),
        ("source", raw.source.is_some(), &["sql"]),
        ("database", raw.database.is_some(), &["sql"]),
        ("before_swap", raw.before_swap.is_some(), &["sql"]),
        ("expect", raw.expect.is_some(), &["sql", "command", "tcp"]),
        ("min", raw.min.is_some(), &["sql", "command"]),
        ("max", raw.max.is_some(), &["sql", "command"]),
        ("os_user", raw.os_user.is_some(), &["command"]),
        ("dir", raw.dir.is_some(), &["command"]),
        ("env", raw.env.is_some(), &["command"]),
        ("secrets", raw.secrets.is_some() || raw.secrets_file.is_some(), &["http", "command"]),
        ("exit", raw.exit.is_some(), &["command"]),
        ("send", raw.send.is_some(), &["tcp"]),
        ("settle", raw.settle.is_some(), &["container", "unit", "log"]),
        ("state", raw.state.is_some(), &["unit"]),
        ("sub", raw.sub.is_some(), &["unit"]),
        ("pattern", raw.pattern.is_some() || raw.ignore.is_some(), &["log"]),
        ("maximum", raw.maximum.is_some(), &["log"]),
    ];
    match keys.iter().find(|(_, set, kinds)| *set && !kinds.contains(&kind)) {
        None => Ok(()),
        Some((key, _, kinds)) => Err(wrong(format!("`{key}` means nothing to a check of `{kind}`"))
            .hint(format!("It belongs to `{}`.", kinds.join("`, `")))),
    }
}

/// A program with its arguments.
pub(super) fn argv_of(key: &str, argv: Vec<String>) -> Result<Vec<String>> {
    match argv.first() {
        Some(program) if !program.is_empty() => Ok(argv),
        _ => Err(wrong(format!("`{key}` names no program"))
            .hint("Write the program and each of its arguments: [\"program\", \"argument\"].")),
    }
}

/// The database that is meant; of one source and one database the names may be left out.
pub(super) fn in_database(
    source: Option<String>,
    database: Option<String>,
    sources: &BTreeMap<Name, SourceConfig>,
) -> Result<InDatabase> {
    let servers = || {
        sources.iter().filter_map(|(name, source)| match source {
            SourceConfig::Postgres(server) => Some((name, server)),
            _ => None,
        })
    };
    let (name, server) = match source {
        Some(source) => {
            let wanted: Name = source.parse()?;
            servers().find(|(name, _)| **name == wanted).ok_or_else(|| {
                wrong(format!("`source` names {wanted}, which is no configured postgres source"))
                    .hint(format!("Add [sources.{wanted}] with kind = \"postgres\"; a plan need not name it."))
            })?
        }
        None => match servers().collect::<Vec<_>>()[..] {
            [one] => one,
            [] => return Err(wrong("there is no postgres source").hint("Add one, and name it with `source`.")),
            _ => return Err(wrong("it is not said which server is meant").hint("Name its source with `source`.")),
        },
    };
    let database = match (database, &server.databases) {
        (Some(database), _) if !database.is_empty() => database,
        (None, Databases::Named(names)) if names.len() == 1 && !names[0].contains(['*', '?']) => names[0].clone(),
        _ => {
            return Err(wrong(format!("it is not said which database of source {name} is meant"))
                .hint("Name it with `database`."));
        }
    };
    Ok(InDatabase { source: name.to_string(), server: (**server).clone(), database })
}

fn query_of(text: &str) -> Result<String> {
    let query = text.trim().trim_end_matches(';').trim_end();
    if query.is_empty() {
        return Err(wrong("`sql` is empty"));
    }
    Ok(query.to_owned())
}

fn wanted_of(raw: &mut RawCheck) -> Result<Wanted> {
    let wanted = Wanted { equal: raw.expect.take(), min: raw.min, max: raw.max };
    if wanted.equal.is_some() && (wanted.min.is_some() || wanted.max.is_some()) {
        return Err(wrong("`expect` is set, and `min` or `max` too").hint("Keep one of them."));
    }
    if let (Some(min), Some(max)) = (wanted.min, wanted.max)
        && min > max
    {
        return Err(wrong(format!("`min` is {min} and `max` is {max}")));
    }
    let scalar = |value: &Value| !value.is_array() && !value.is_object();
    let row = |value: &Value| scalar(value) || value.as_array().is_some_and(|row| row.iter().all(scalar));
    let good = |value: &Value| scalar(value) || value.as_array().is_some_and(|rows| rows.iter().all(row));
    if wanted.equal.as_ref().is_some_and(|value| !good(value)) {
        return Err(wrong("`expect` is neither a value nor a list of rows")
            .hint("Write 7, [\"a\", \"b\"] or [[\"a\", 1], [\"b\", 2]]."));
    }
    Ok(wanted)
}

fn unit_of(text: &str) -> Result<String> {
    let good = !text.is_empty()
        && !text.starts_with('-')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b":-_.\\@".contains(&b));
    if !good {
        return Err(wrong(format!("{text:?} is not the name of a unit")));
    }
    let suffixes =
        ["service", "socket", "timer", "path", "mount", "target", "automount", "swap", "slice", "scope", "device"];
    let whole = text.rsplit_once('.').is_some_and(|(_, suffix)| suffixes.contains(&suffix));
    Ok(if whole { text.to_owned() } else { format!("{text}.service") })
}

fn log_of(text: &str) -> Result<LogOf> {
    let bad =
        || wrong(format!("`log` is {text:?}")).hint("Write unit:NAME, container:NAME, service:NAME or file:/PATH.");
    let (kind, name) = text.split_once(':').filter(|(_, name)| !name.is_empty()).ok_or_else(bad)?;
    Ok(match kind {
        "unit" => LogOf::Unit(unit_of(name)?),
        "container" => LogOf::Container(name.to_owned()),
        "service" => LogOf::Service(name.to_owned()),
        "file" if name.starts_with('/') => LogOf::File(PathBuf::from(name)),
        _ => return Err(bad()),
    })
}

fn regex(key: &str, text: &str) -> Result<Regex> {
    Regex::new(text).map_err(|e| {
        wrong(format!("`{key}` is no regular expression"))
            .because(e)
            .hint("The syntax is that of most tools; there is no look-around and no back reference. (?i) ignores case.")
    })
}
