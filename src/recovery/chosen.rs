//! Which databases of a backup are restored, and under which names.

use crate::error::{Error, Kind, Result};
use crate::repository::manifest::SourceRecord;
use crate::sources::postgres::address::Address;
use crate::sources::postgres::facts::DatabaseFacts;
use crate::sources::postgres::load::Loader;
use crate::sources::postgres::{artifact_name, sql};
use serde::{Deserialize, Serialize};

/// The facts of the databases in a source's record.
pub fn facts_of(record: &SourceRecord) -> Result<Vec<DatabaseFacts>> {
    let databases = record.facts.get("databases").cloned().unwrap_or_default();
    serde_json::from_value(databases).map_err(|e| {
        Error::new(Kind::Damaged, format!("the facts of source {} cannot be read", record.name)).because(e)
    })
}

/// Who loads these databases of a source. One that is no dump in SQL wants `pg_restore`.
pub fn loader<'a>(record: &SourceRecord, databases: impl IntoIterator<Item = &'a str>) -> Loader {
    let in_sql = |database: &str| {
        let name = artifact_name(database);
        record.artifacts.iter().any(|artifact| artifact.name == name && artifact.media == sql::MEDIA)
    };
    match databases.into_iter().all(in_sql) {
        true => Loader::Psql,
        false => Loader::PgRestore,
    }
}

/// One database to restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Its name in the backup.
    pub database: String,
    /// The name that it will have.
    pub live: String,
    /// True when nothing may have that name: it is a copy beside the live one.
    pub copy: bool,
}

/// Whether `--to` names a server, and not just a database.
pub fn is_server(to: &str) -> bool {
    to.starts_with("postgresql://") || to.starts_with("postgres://")
}

/// The database that a server's URL names.
///
/// # Errors
/// [`Kind::Config`] for one that cannot be read, [`Kind::Usage`] for one with a password.
pub fn database_of(url: &str) -> Result<String> {
    let address = Address::parse(url)?;
    match address.password() {
        None => Ok(address.database().to_owned()),
        Some(_) => Err(Error::new(Kind::Usage, "a password among the arguments is seen by everybody on this host")
            .hint("Put it in a password file, and name that in the URL: ?passfile=/path.")),
    }
}

/// Chooses databases of a source: all, or one, each under its own name or one under another.
///
/// # Errors
/// [`Kind::NotFound`] for one that is not in the backup, [`Kind::Usage`] for several under one name, or a path.
pub fn targets(record: &SourceRecord, only: Option<&str>, to: Option<&str>) -> Result<Vec<Target>> {
    let all = facts_of(record)?;
    let names: Vec<String> = all.iter().map(|f| f.database.clone()).collect();
    let chosen: Vec<DatabaseFacts> = all.into_iter().filter(|f| only.is_none_or(|o| o == f.database)).collect();
    if chosen.is_empty() {
        return Err(Error::new(
            Kind::NotFound,
            format!("source {} holds no database {}", record.name, only.unwrap_or_default()),
        )
        .hint(format!("It holds: {}.", names.join(", "))));
    }
    if let Some(path) = to.filter(|to| to.contains('/')) {
        return Err(Error::new(Kind::Usage, "--to names the database to restore into, and this is a path")
            .at(path)
            .hint("Give a name. `backstay cat` writes a dump to a file."));
    }
    if to.is_some() && chosen.len() > 1 {
        return Err(Error::new(Kind::Usage, "--to names one database, and the backup holds several")
            .hint("Pick one with --database."));
    }
    let target = |f: DatabaseFacts| Target {
        live: to.unwrap_or(&f.database).to_owned(),
        database: f.database,
        copy: to.is_some(),
    };
    Ok(chosen.into_iter().map(target).collect())
}
