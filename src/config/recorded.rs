//! The configuration that a backup holds, read on another machine. Only what does no harm there is taken from it: queries. A
//! host that was broken into could have written anything else.

use super::SourceConfig;
use super::checks::{Check, RawCheck, checks_of};
use super::command::command_of;
use super::drill::RawDrill;
use super::explain::explain;
use super::raw_source::RawSource;
use super::source::source_of;
use crate::error::{Error, Kind, Result};
use crate::model::Name;
use crate::sources::postgres::address::Address;
use crate::sources::postgres::{Databases, PostgresSource};
use config::{File, FileFormat};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// What of it is looked at.
#[derive(Deserialize)]
struct Recorded {
    #[serde(default)]
    plans: BTreeMap<String, RecordedPlan>,
}

#[derive(Deserialize)]
struct RecordedSources {
    #[serde(default)]
    sources: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
struct RecordedPlan {
    #[serde(default)]
    restore: RecordedRestore,
    #[serde(default)]
    drill: RawDrill,
}

#[derive(Default, Deserialize)]
struct RecordedRestore {
    #[serde(default)]
    checks: Vec<RawCheck>,
}

/// The queries among a plan's checks that ask these sources, each with its databases. Whose server they ask is said later.
///
/// # Errors
/// [`Kind::Config`] when the text is none that this version reads.
pub fn queries(text: &str, plan: &Name, sources: &BTreeMap<Name, Vec<String>>) -> Result<Vec<Check>> {
    let here = Path::new("the configuration in the backup");
    let read = config::Config::builder().add_source(File::from_str(text, FileFormat::Toml)).build();
    let recorded: Recorded = read.and_then(config::Config::try_deserialize).map_err(|e| explain(e, here))?;
    // Names of plans come in lower case out of a file.
    let of_plan = recorded.plans.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(plan.as_str()));
    let Some((_, RecordedPlan { restore, drill })) = of_plan else { return Ok(Vec::new()) };
    let mut servers = BTreeMap::new();
    for (name, databases) in sources {
        let server = PostgresSource {
            address: Address::parse("postgresql:///")?,
            databases: Databases::Named(databases.clone()),
            exclude: Vec::new(),
            count_rows_up_to: 0,
            big_tables: 0,
            jobs: 1,
            unit: None,
            data_dir: None,
        };
        servers.insert(name.clone(), SourceConfig::Postgres(Box::new(server)));
    }
    let known = |name: &String| name.parse::<Name>().is_ok_and(|name| sources.contains_key(&name));
    let asks = |check: &RawCheck| check.sql.is_some() && check.source.as_ref().is_none_or(known);
    let wanted = restore.checks.into_iter().filter(asks).collect();
    let checks = checks_of(wanted, "checks", Path::new("/"), &servers).map_err(|e| {
        Error::new(Kind::Config, "the queries in the backup's configuration cannot be read").because(e.to_string())
    })?;
    Ok(checks.into_iter().filter(|check| !drill.skip_checks.contains(&check.name)).collect())
}

/// The sources as far as they can be understood without the secrets that they name, whose files are not here yet: enough to
/// tell what will become of them, and for nothing else.
///
/// # Errors
/// [`Kind::Config`] when the text is none that this version reads.
pub fn sources(text: &str) -> Result<BTreeMap<Name, SourceConfig>> {
    let here = Path::new("the configuration in the backup");
    let read = config::Config::builder().add_source(File::from_str(text, FileFormat::Toml)).build();
    let recorded: RecordedSources = read.and_then(config::Config::try_deserialize).map_err(|e| explain(e, here))?;
    let (mut found, mut commands) = (BTreeMap::new(), Vec::new());
    for (name, mut value) in recorded.sources {
        let Ok(name) = name.parse::<Name>() else { continue };
        if let Some(keys) = value.as_object_mut() {
            keys.retain(|key, _| !["password", "password_file", "secrets", "secrets_file"].contains(&key.as_str()));
        }
        match serde_json::from_value::<RawSource>(value) {
            Ok(RawSource::Command(raw)) => commands.push((name, raw)),
            Ok(raw) => {
                found.extend(source_of(raw, "sources", Path::new("/"), &[]).ok().map(|source| (name, source)));
            }
            Err(_) => {}
        }
    }
    // Those may be bound to one of the others.
    for (name, raw) in commands {
        let command = command_of(*raw, "sources", Path::new("/"), &found);
        found.extend(command.ok().map(|c| (name, SourceConfig::Command(Box::new(c)))));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_taken_and_nothing_else_is() {
        let text = r#"
[repository]
url = "s3://somewhere/else"
[sources.db]
kind = "postgres"
url = "postgresql://postgres@db/erp"
password_file = "/not/here"
[plans.erp]
sources = ["db"]
[plans.erp.drill]
skip_checks = ["workers"]
[[plans.erp.restore.checks]]
command = ["rm", "-rf", "/"]
[[plans.erp.restore.checks]]
name = "orders"
source = "db"
sql = "SELECT count(*) FROM orders"
min = 1
[[plans.erp.restore.checks]]
name = "workers"
source = "db"
sql = "SELECT count(*) FROM pg_stat_activity"
[[plans.erp.restore.checks]]
source = "other"
sql = "SELECT 1"
"#;
        let sources = BTreeMap::from([("db".parse().unwrap(), vec!["erp".to_owned()])]);
        let names = |plan: &str| -> Vec<String> {
            queries(text, &plan.parse().unwrap(), &sources).unwrap().into_iter().map(|c| c.name).collect()
        };
        assert_eq!(names("erp"), ["orders"]);
        assert!(names("another").is_empty());
        assert!(queries("[plans", &"erp".parse().unwrap(), &sources).is_err());
    }

    #[test]
    fn sources_are_understood_without_their_secrets() {
        let text = r#"
[sources.db]
kind = "postgres"
url = "postgresql://postgres@db.example.org/erp"
password_file = "/not/here"
[sources.odd]
kind = "of another version"
[sources.dump]
kind = "command"
dump = ["cat", "/etc/hostname"]
"#;
        let found = sources(text).unwrap();
        let kinds: Vec<(&str, &str)> = found.iter().map(|(name, s)| (name.as_str(), s.kind())).collect();
        assert_eq!(kinds, [("db", "postgres"), ("dump", "command")]);
    }
}
