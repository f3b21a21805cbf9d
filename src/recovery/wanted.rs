//! Which tables of a backup are restored, and where to.

use super::chosen;
use super::database::Stored;
use crate::error::{Error, Kind, Result};
use crate::repository::manifest::SourceRecord;
use crate::repository::reader::Reader;
use crate::sources::postgres::archive::head::Head;
use crate::sources::postgres::archive::stored;
use crate::sources::postgres::facts::DatabaseFacts;
use crate::sources::postgres::load::Options;
use crate::sources::postgres::pick::{self, Only, TableName};
use crate::sources::postgres::{artifact_name, sql};
use serde::{Deserialize, Serialize};

/// Which tables, and where to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedTables {
    /// The database, in the backup and live.
    pub database: String,
    /// The tables that were named.
    pub tables: Vec<TableName>,
    /// The schema, when all of its tables were asked for.
    pub schema: Option<String>,
    /// Where to.
    pub to: To,
}

/// Where tables are restored to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum To {
    /// A new schema of the live database.
    Schema(String),
    /// The live tables: their rows are replaced.
    Place {
        /// Even when foreign keys of other tables point at them.
        replica_mode: bool,
        /// Whether the old rows are kept.
        keep: bool,
    },
}

impl WantedTables {
    /// How they are staged. Rows that replace others need neither indexes nor owners.
    pub fn options(&self, options: Options) -> Options {
        let place = matches!(self.to, To::Place { .. });
        Options {
            no_owner: options.no_owner || place,
            no_privileges: options.no_privileges || place,
            only: Some(Only { tables: self.tables.clone(), indexes: !place }),
            ..options
        }
    }
}

/// What was asked for on the command line.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// Tables, `NAME` or `SCHEMA.NAME`.
    pub tables: &'a [String],
    /// All tables of a schema.
    pub schema: Option<&'a str>,
    /// The database, where there are several.
    pub database: Option<&'a str>,
}

/// The facts of one database of a source.
///
/// # Errors
/// [`Kind::NotFound`] when it is not in the backup.
pub fn facts_of(record: &SourceRecord, database: &str) -> Result<DatabaseFacts> {
    let found = chosen::facts_of(record)?.into_iter().find(|f| f.database == database);
    found.ok_or_else(|| Error::new(Kind::NotFound, format!("source {} holds no database {database}", record.name)))
}

/// Finds what was asked for in a backup.
///
/// # Errors
/// [`Kind::NotFound`] and [`Kind::Usage`] for names that are not there or that are there twice.
pub async fn find(reader: &Reader, record: &SourceRecord, named: Named<'_>, to: To) -> Result<WantedTables> {
    let targets = chosen::targets(record, named.database, None)?;
    let [target] = &targets[..] else {
        return Err(Error::new(Kind::Usage, "tables are of one database, and the source has several")
            .hint("Pick one with --database."));
    };
    let head = head(reader, record, &target.database).await?;
    if let To::Schema(schema) = &to
        && pick::has_schema(&head, schema)
    {
        return Err(Error::new(Kind::Usage, format!("the backup has a schema {schema} itself"))
            .hint("Give --to a name that is free in both; ALTER SCHEMA … RENAME afterwards."));
    }
    let tables = pick::find(&head, named.tables, named.schema)?;
    if let (To::Schema(_), Some((one, other))) = (&to, pick::of_one_name(&tables)) {
        return Err(Error::new(Kind::Usage, "two of the tables have the same name, and one schema cannot have both")
            .because(format!("{} and {}", one.full(), other.full()))
            .hint("Restore them one after the other, into two schemas."));
    }
    Ok(WantedTables {
        database: target.database.clone(),
        tables,
        schema: named.schema.filter(|_| named.tables.is_empty()).map(str::to_owned),
        to,
    })
}

async fn head(reader: &Reader, record: &SourceRecord, database: &str) -> Result<Head> {
    let artifact = super::select::artifact(record, Some(&artifact_name(database)))?;
    if [sql::MEDIA, sql::archive::MEDIA].contains(&artifact.media.as_str()) {
        return Err(sql::load::parts());
    }
    Ok(stored::head(&Stored { reader, artifact }).await?.ok_or_else(stored::newer)?.0)
}
