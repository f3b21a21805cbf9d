//! Checks and hooks of a restore, from keys to checked types. What they do is in `recovery/checks` and
//! `recovery/hooks`.

mod hook;
mod http;
mod raw;
mod read;
#[cfg(test)]
mod tests;

pub use hook::{Hook, Task, Text, When, hook_of, hooks_of};
pub use http::{Auth, Csrf, Http, Login, Token, address_of};
pub use raw::{OneOrMany, RawCheck, RawHook, RawLogin};
pub use read::{check_of, checks_of};

use crate::sources::command::run::Runner;
use crate::sources::postgres::PostgresSource;
use regex::Regex;
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

/// One thing that must be so before a restore is good.
#[derive(Clone, Debug)]
pub struct Check {
    /// Its name in plan, journal and report. Holds no secret.
    pub name: String,
    /// What is looked at.
    pub what: What,
    /// By when it must be good.
    pub within: Duration,
    /// The pause between two tries.
    pub every: Duration,
    /// How long one try may take.
    pub timeout: Duration,
    /// Whether it also looks at what was staged, before the swap.
    pub before_swap: bool,
}

/// What a check looks at.
#[derive(Clone, Debug)]
pub enum What {
    /// The answer to a request.
    Http(Box<Http>),
    /// The answer to a query.
    Sql(Box<Query>),
    /// What a program says.
    Command(Box<Command>),
    /// A port.
    Tcp(Port),
    /// Whether containers run and are healthy.
    Container(Stays),
    /// Whether a unit is active.
    Unit(UnitState),
    /// Lines of a log.
    Log(Log),
}

/// A database of a server that a source knows.
#[derive(Clone, Debug)]
pub struct InDatabase {
    /// The source.
    pub source: String,
    /// The server.
    pub server: PostgresSource,
    /// The database's own name.
    pub database: String,
}

/// A query and what it must answer.
#[derive(Clone, Debug)]
pub struct Query {
    /// Where.
    pub place: InDatabase,
    /// `SELECT`, `VALUES`, `WITH` or `TABLE`: what may stand in parentheses behind `FROM`.
    pub query: String,
    /// The answer.
    pub wanted: Wanted,
}

/// What an answer must be. Nothing at all is asked for when all of it is empty.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// A scalar, a list of them (rows of one column), or a list of rows.
    pub equal: Option<Value>,
    /// The least number.
    pub min: Option<f64>,
    /// The greatest number.
    pub max: Option<f64>,
}

/// Texts that must be there, and that must not.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    /// All of these.
    pub contains: Vec<String>,
    /// None of these.
    pub not_contains: Vec<String>,
}

/// A program and what it must say.
#[derive(Clone, Debug)]
pub struct Command {
    /// The program with its arguments.
    pub argv: Vec<String>,
    /// Where it runs.
    pub runner: Runner,
    /// Its exit status.
    pub exit: i64,
    /// In its output.
    pub texts: Texts,
    /// Its output, without white space at both ends.
    pub wanted: Wanted,
}

/// A port and what answers there.
#[derive(Clone, Debug)]
pub struct Port {
    /// `HOST:PORT`
    pub address: String,
    /// What is sent first.
    pub send: Option<String>,
    /// How the answer begins.
    pub begins: Option<String>,
}

/// Something that must run, and go on running.
#[derive(Clone, Debug)]
pub struct Stays {
    /// A container, `PROJECT/SERVICE` or `PROJECT/*` of compose, or a swarm service.
    pub reference: String,
    /// For how long it must not start again.
    pub settle: Duration,
}

/// The state that a unit must have, and keep.
#[derive(Clone, Debug)]
pub struct UnitState {
    /// Its name, with its suffix.
    pub unit: String,
    /// `ActiveState`.
    pub state: String,
    /// `SubState`.
    pub sub: Option<String>,
    /// For how long it must not start again.
    pub settle: Duration,
}

/// Lines of a log since the start.
#[derive(Clone, Debug)]
pub struct Log {
    /// Where they are.
    pub of: LogOf,
    /// What bad lines fit.
    pub pattern: Regex,
    /// What harmless ones among them fit.
    pub ignore: Option<Regex>,
    /// How many bad lines are good still.
    pub maximum: u64,
    /// How long to watch.
    pub settle: Duration,
}

/// Whose log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogOf {
    /// A unit's, in the journal of the system.
    Unit(String),
    /// A container's, or those of `PROJECT/SERVICE`.
    Container(String),
    /// A swarm service's, from all nodes.
    Service(String),
    /// A file.
    File(PathBuf),
}

impl Check {
    /// The kind, as the key that names what is looked at.
    pub fn kind(&self) -> &'static str {
        match &self.what {
            What::Http(_) => "http",
            What::Sql(_) => "sql",
            What::Command(_) => "command",
            What::Tcp(_) => "tcp",
            What::Container(_) => "container",
            What::Unit(_) => "unit",
            What::Log(_) => "log",
        }
    }

    /// The database that it asks, with the name of the source.
    pub fn database(&self) -> Option<(&str, &str)> {
        match &self.what {
            What::Sql(query) => Some((&query.place.source, &query.place.database)),
            _ => None,
        }
    }
}

impl Wanted {
    /// True when nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.equal.is_none() && self.min.is_none() && self.max.is_none()
    }
}
