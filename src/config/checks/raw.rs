//! The keys of checks and hooks as they are written. These names are the contract with every configuration file out
//! there.

use crate::config::secret::Secret;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// `[[plans.NAME.restore.checks]]`. Just one of `http`, `sql`, `command`, `tcp`, `container`, `unit` and `log` says what is
/// looked at (`container` besides `command` says where); the other keys belong to one or several of these.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawCheck {
    /// Its name in plan, journal and report; else made of what is looked at.
    pub name: Option<String>,
    /// By when it must be good, `60s`.
    pub within: Option<String>,
    /// The pause between two tries.
    pub every: Option<String>,
    /// How long one try may take.
    pub timeout: Option<String>,

    /// A URL.
    pub http: Option<String>,
    /// A query.
    pub sql: Option<String>,
    /// A program and its arguments.
    pub command: Option<Vec<String>>,
    /// `HOST:PORT`
    pub tcp: Option<String>,
    /// A container, `PROJECT/SERVICE` of compose, or a swarm service.
    pub container: Option<String>,
    /// A unit of systemd.
    pub unit: Option<String>,
    /// `unit:NAME`, `container:NAME`, `service:NAME` or `file:PATH`.
    pub log: Option<String>,

    /// HTTP method.
    pub method: Option<String>,
    /// Headers.
    pub headers: Option<BTreeMap<String, String>>,
    /// Body of the request.
    pub body: Option<String>,
    /// The `Host` header, when it is not that of the URL.
    pub host: Option<String>,
    /// The address to connect to, whatever the name of the URL resolves to.
    pub resolve: Option<String>,
    /// Status codes that are good.
    pub status: Option<OneOrMany<u16>>,
    /// Texts of the answer or output.
    pub contains: Option<OneOrMany<String>>,
    /// Texts that must not be there.
    pub not_contains: Option<OneOrMany<String>>,
    /// Values in a JSON answer, by their path.
    pub json: Option<BTreeMap<String, Value>>,
    /// Follow redirections.
    pub redirects: Option<bool>,
    /// Certificates that may sign the server's, PEM.
    pub ca: Option<PathBuf>,
    /// Take any certificate.
    pub insecure: Option<bool>,
    /// A bearer token.
    pub bearer: Option<Secret>,
    /// The same in a file.
    pub bearer_file: Option<PathBuf>,
    /// User of basic authentication.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<Secret>,
    /// The same in a file.
    pub password_file: Option<PathBuf>,
    /// Logs in first.
    pub login: Option<Box<RawLogin>>,

    /// The `postgres` source that knows the server.
    pub source: Option<String>,
    /// The database.
    pub database: Option<String>,
    /// Also on what was staged, before the swap.
    pub before_swap: Option<bool>,

    /// What a query, a program or a server must answer.
    pub expect: Option<Value>,
    /// The least number that is good.
    pub min: Option<f64>,
    /// The greatest number that is good.
    pub max: Option<f64>,

    /// As which user of the operating system a program runs.
    pub os_user: Option<String>,
    /// In which directory.
    pub dir: Option<PathBuf>,
    /// With which environment.
    pub env: Option<BTreeMap<String, String>>,
    /// And which that is secret; for a request, headers that are.
    pub secrets: Option<BTreeMap<String, Secret>>,
    /// The same in files.
    pub secrets_file: Option<BTreeMap<String, PathBuf>>,
    /// The exit status that is good.
    pub exit: Option<i64>,

    /// What is sent to a TCP server first.
    pub send: Option<String>,

    /// How long it must stay good, `5s`.
    pub settle: Option<String>,
    /// The state of a unit.
    pub state: Option<String>,
    /// And its state in detail.
    pub sub: Option<String>,
    /// A regular expression that bad lines of a log fit.
    pub pattern: Option<String>,
    /// One that harmless lines among them fit.
    pub ignore: Option<String>,
    /// How many bad lines are good still.
    pub maximum: Option<u64>,
}

/// `login = { … }`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawLogin {
    /// Where the form or the token is.
    pub url: String,
    /// Fields of a form.
    pub form: Option<BTreeMap<String, String>>,
    /// The same as JSON.
    pub json: Option<BTreeMap<String, Value>>,
    /// Password.
    pub password: Option<Secret>,
    /// The same in a file.
    pub password_file: Option<PathBuf>,
    /// The field that it goes into.
    pub password_field: Option<String>,
    /// A hidden field or cookie with the token against forged requests.
    pub csrf: Option<String>,
    /// The field that it goes back in.
    pub csrf_field: Option<String>,
    /// And the header.
    pub csrf_header: Option<String>,
    /// Status codes of a login that succeeded.
    pub status: Option<OneOrMany<u16>>,
    /// The cookie that a login sets when it succeeds.
    pub cookie: Option<String>,
    /// Path of the token in the JSON answer.
    pub token: Option<String>,
    /// The header that it goes into.
    pub header: Option<String>,
    /// The word before it.
    pub scheme: Option<String>,
}

/// An entry of `after_stage` or `after_swap`. Just one of `sql`, `sql_file` and `command`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawHook {
    /// Its name in plan, journal and report; else a number.
    pub name: Option<String>,
    /// Statements.
    pub sql: Option<String>,
    /// The same in a file.
    pub sql_file: Option<PathBuf>,
    /// A program and its arguments.
    pub command: Option<Vec<String>>,
    /// What takes it back; with `command` in `after_swap`.
    pub undo: Option<Vec<String>>,
    /// The `postgres` source that knows the server.
    pub source: Option<String>,
    /// The database.
    pub database: Option<String>,
    /// The role that works there; else the owner of the database.
    pub role: Option<String>,
    /// Where the program runs.
    pub container: Option<String>,
    /// As which user of the operating system.
    pub os_user: Option<String>,
    /// In which directory.
    pub dir: Option<PathBuf>,
    /// Environment.
    pub env: Option<BTreeMap<String, String>>,
    /// Environment that is secret.
    pub secrets: Option<BTreeMap<String, Secret>>,
    /// The same in files.
    pub secrets_file: Option<BTreeMap<String, PathBuf>>,
    /// How long it may take.
    pub timeout: Option<String>,
}

/// One value, or a list.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany<T> {
    /// One.
    One(T),
    /// Several.
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    /// As a list.
    pub fn into_vec(self) -> Vec<T> {
        match self {
            OneOrMany::One(one) => vec![one],
            OneOrMany::Many(many) => many,
        }
    }
}
