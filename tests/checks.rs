//! Checks and hooks of a restore against a real application, PostgreSQL, containers, nginx and systemd: what is well,
//! what is not and how that is told, what never ends, and that no message holds a secret.

#[path = "checks/app.rs"]
mod app;
#[path = "postgres/cluster.rs"]
#[allow(dead_code)]
mod cluster;
#[path = "checks/command.rs"]
mod command;
#[path = "checks/container.rs"]
mod container;
#[path = "checks/hooks.rs"]
mod hooks;
#[path = "checks/http.rs"]
mod http;
#[path = "checks/log.rs"]
mod log;
#[path = "checks/login.rs"]
mod login;
#[path = "support/machine.rs"]
#[allow(dead_code)]
mod machine;
#[path = "checks/nginx.rs"]
mod nginx;
#[path = "support/port.rs"]
mod port;
#[path = "checks/sql.rs"]
mod sql;
#[path = "docker/stage.rs"]
#[allow(dead_code)]
mod stage;
#[path = "checks/steps.rs"]
mod steps;
#[path = "checks/tcp.rs"]
mod tcp;
#[path = "checks/unit.rs"]
mod unit;

use backstay::config::SourceConfig;
use backstay::config::checks::{Check, RawCheck, checks_of};
use backstay::config::secret::Secret;
use backstay::model::Name;
use backstay::recovery::checks::Outcome;
use backstay::recovery::checks::context::{Context, Marks};
use backstay::sources::postgres::address::Address;
use backstay::sources::postgres::{Databases, PostgresSource};
use cluster::{Cluster, PASSWORD};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Sources of a configuration.
type Sources = BTreeMap<Name, SourceConfig>;

/// A list of tables as a configuration file has it.
fn list<T: DeserializeOwned>(toml: &str) -> Vec<T> {
    let file = config::File::from_str(toml, config::FileFormat::Toml);
    let read = config::Config::builder().add_source(file).build().unwrap();
    let mut all: BTreeMap<String, Vec<T>> = read.try_deserialize().unwrap_or_else(|e| panic!("{e}: {toml}"));
    all.remove("list").unwrap()
}

/// A check with these keys; relative secret files lie in `dir`.
fn check_in(dir: &Path, keys: &str, sources: &Sources) -> Check {
    let raw: Vec<RawCheck> = list(&format!("[[list]]\nevery = \"50ms\"\nwithin = \"20s\"\n{keys}\n"));
    checks_of(raw, "plans.p.restore.checks", dir, sources).unwrap_or_else(|e| panic!("{e}")).remove(0)
}

fn check(keys: &str) -> Check {
    check_in(Path::new("/"), keys, &Sources::new())
}

/// As after a start a moment ago.
fn now() -> Context {
    Context::live(Timestamp::now(), Marks::default())
}

async fn run(keys: &str) -> Outcome {
    check(keys).run(&now()).await
}

/// The same with one try only, however slow the machine is.
async fn brief(keys: &str) -> Outcome {
    let mut check = once(check(keys));
    check.timeout = Duration::from_secs(5);
    check.run(&now()).await
}

/// The check with a pause that is longer than its deadline.
fn once(mut check: Check) -> Check {
    check.every = check.within;
    check
}

/// Fails the test unless the check is good.
#[track_caller]
fn good(outcome: &Outcome) {
    assert!(outcome.good, "{outcome:#?}");
}

/// Fails the test unless the check is not good, and says all of this.
#[track_caller]
fn bad(outcome: &Outcome, says: &[&str]) {
    assert!(!outcome.good, "{outcome:#?}");
    let error = outcome.error().to_string();
    for word in says {
        assert!(error.contains(word), "{word:?} is not said in:\n{error}");
    }
}

/// The cluster as the source `db`, whose database is this one.
fn source(cluster: &Cluster, database: &str) -> Sources {
    let url = format!("postgresql://postgres@/{database}?host={}&port={}", cluster.dir.path().display(), cluster.port);
    let address = Address::parse(&url).unwrap().with_password(Some(Secret::new(PASSWORD.into())));
    BTreeMap::from([("db".parse().unwrap(), SourceConfig::Postgres(Box::new(postgres(address, database))))])
}

fn postgres(address: Address, database: &str) -> PostgresSource {
    PostgresSource {
        address,
        unit: None,
        data_dir: None,
        databases: Databases::Named(vec![database.to_owned()]),
        exclude: Vec::new(),
        count_rows_up_to: 1 << 30,
        big_tables: 1 << 30,
        jobs: 1,
    }
}
