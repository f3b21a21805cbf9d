//! The `postgres` source: logical dumps in custom format, with globals, and facts from the same snapshot.
//!
//! [`address`] names a server, [`connect`] reaches it, the same for us and for its own tools, [`session`] asks it,
//! [`facts`] says what was true. The way out of one database is [`dump`], with [`big`] tables beside it over [`copy`] and all of it
//! one [`archive`], fixed at one [`point`]; the way back in is
//! [`load`] into a new database, and [`swap`], when nothing is [`leaving`] with the old one and its [`sessions`] have
//! ended; what came without owners is [`hand_over`]ed. Some tables are [`pick`]ed, loaded too, and then [`adopt`]ed by
//! the live database beside its own or [`replace`] the rows there, with the [`foreign`] keys looked after. Where it is the
//! server's own files that count, they are a [`cluster`].

pub mod address;
pub mod adopt;
pub mod archive;
pub mod attributes;
mod beside;
pub mod big;
pub mod cluster;
pub mod connect;
pub mod copy;
pub mod create;
mod dial;
pub mod dropping;
pub mod dump;
pub mod facts;
pub mod foreign;
pub mod globals;
pub mod hand_over;
mod headfile;
mod home;
pub mod lacking;
pub mod leaving;
pub mod load;
mod passfile;
pub mod pick;
pub mod point;
pub mod pooler;
pub mod preflight;
pub mod replace;
mod reserved;
mod ripe;
mod room;
pub mod session;
pub mod sessions;
pub mod sql;
pub mod sslmode;
pub mod suits;
pub mod swap;
mod tls;
pub mod tools;
pub mod waiting;

use super::window::Window;
use super::{Delivered, Source};
use crate::error::{Error, Kind, Result};
use crate::model::{Name, size};
use crate::repository::writer::{BackupWriter, PendingArtifact};
use crate::telemetry::monitor::{Event, Monitor};
use address::Address;
use async_trait::async_trait;
use connect::{Server, conninfo_value};
use futures::{FutureExt, StreamExt, TryStreamExt};
use globset::Glob;
use point::Point;
use session::Session;
use std::path::PathBuf;
use std::sync::Arc;

/// Name of the artifact with roles and tablespaces.
pub const GLOBALS: &str = "globals";

/// The artifact of a database.
pub fn artifact_name(database: &str) -> String {
    format!("db:{database}")
}

/// Which databases of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Databases {
    /// Those named; `*` and `?` stand for any characters.
    Named(Vec<String>),
    /// Every one that allows connections and is no template.
    All,
}

/// Which databases of a server are meant, as far as names tell.
#[derive(Clone, Debug)]
pub struct Picked {
    databases: Databases,
    exclude: Vec<String>,
}

impl Picked {
    /// Whether a database of this name is meant.
    pub fn has(&self, name: &str) -> bool {
        let meant = match &self.databases {
            Databases::All => !["template0", "template1"].contains(&name),
            Databases::Named(patterns) => patterns.iter().any(|pattern| pattern == name || matches(pattern, name)),
        };
        meant && !self.exclude.iter().any(|pattern| matches(pattern, name))
    }

    /// The names that are meant, when they are said without a pattern.
    pub fn names(&self) -> Option<Vec<&str>> {
        match &self.databases {
            Databases::Named(names) if !names.iter().any(|name| name.contains(['*', '?'])) => {
                Some(names.iter().map(String::as_str).filter(|name| self.has(name)).collect())
            }
            _ => None,
        }
    }
}

/// A server and what to dump of it.
#[derive(Clone, Debug)]
pub struct PostgresSource {
    /// How to reach it.
    pub address: Address,
    /// The unit of systemd that runs it, where it is not one of Debian's clusters.
    pub unit: Option<String>,
    /// Its data directory on this host, where nothing else tells.
    pub data_dir: Option<PathBuf>,
    /// What to dump.
    pub databases: Databases,
    /// What to leave out of that; patterns like those of names.
    pub exclude: Vec<String>,
    /// Tables above this size are estimated instead of counted, where the dump itself does not tell. Bytes.
    pub count_rows_up_to: u64,
    /// Tables above this size are dumped and loaded side by side. Bytes.
    pub big_tables: u64,
    /// How many of those at once.
    pub jobs: usize,
}

#[async_trait]
impl Source for PostgresSource {
    fn kind(&self) -> &'static str {
        "postgres"
    }

    fn needs(&self) -> Vec<String> {
        self.address.container().map(str::to_owned).into_iter().collect()
    }

    async fn read(
        &self,
        _: &Name,
        writer: &BackupWriter,
        monitor: Arc<dyn Monitor>,
        window: &Window,
    ) -> Result<Delivered> {
        let server = self.address.reach().await?;
        pooler::refuse(&server).await?;
        let admin = server.session(&server.database).await?;
        let major = facts::server_version(&admin).await? / 10_000;
        let tools = dump::Tools::find(&server, major).await?;
        let pg_dumpall = tools::find("pg_dumpall", major, &server.place).await?;
        // Nothing was read until here.
        let moment = window.ready().await?;
        let databases = self.chosen(&server, &admin).await?;
        let failed = |e: session::SqlError| e.says("the server does not answer questions about itself");
        let superuser =
            admin.row("rolsuper", "FROM pg_roles WHERE rolname = current_user").await.map_err(failed)?.truth(0);
        drop(admin);

        let mut warnings = Vec::new();
        let mut args = vec![
            "--globals-only".to_owned(),
            "--no-password".to_owned(),
            format!("--dbname=dbname={}", conninfo_value(&server.database)),
        ];
        if !superuser {
            args.push("--no-role-passwords".to_owned());
            warnings.push("roles are stored without their passwords: reading those needs a superuser".to_owned());
        }
        let dumping = dump::Dumping { source: self, server: &server, tools: &tools, writer };
        let point = Point::new(window, moment, databases.len());
        let one = async |database: &String| {
            let dumped = dump::database(&dumping, database, &point).await;
            let (artifact, facts) = dumped.map_err(|e| e.at(format!("database {database} on {}", server.place())))?;
            let rows = size::plural(facts.tables.iter().map(|t| t.rows).sum(), "row");
            monitor.event(Event::Stage(format!("database {database}: {rows}")));
            Ok((artifact, facts))
        };
        let runs: Vec<_> = databases.iter().map(|database| one(database).boxed()).collect();
        let dumps = futures::stream::iter(runs).buffered(point.at_once()).try_collect::<Vec<_>>();
        // Roles are nobody's data, and must be at least those that the dumps speak of.
        let globals = async {
            point.passed().await;
            dump::stream(writer, GLOBALS, "sql", server.program(&pg_dumpall, args)).await
        };
        let (dumped, globals) = tokio::try_join!(dumps, globals)?;
        let (of_databases, all_facts): (Vec<PendingArtifact>, Vec<facts::DatabaseFacts>) = dumped.into_iter().unzip();
        let artifacts = std::iter::once(globals).chain(of_databases).collect();
        Ok(Delivered { artifacts, facts: serde_json::json!({ "databases": all_facts }), warnings })
    }
}

impl PostgresSource {
    /// Its databases, as far as names tell.
    pub fn picked(&self) -> Picked {
        Picked { databases: self.databases.clone(), exclude: self.exclude.clone() }
    }

    /// The databases to dump, by what is there. Names without a pattern are taken as they are, so that one that is
    /// gone fails by its name.
    ///
    /// # Errors
    /// [`Kind::Source`] when none is left, none fits a pattern, or the server does not tell.
    pub async fn chosen(&self, server: &Server, admin: &Session) -> Result<Vec<String>> {
        let rows = admin
            .rows("datname", "FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY datname")
            .await
            .map_err(|e| e.says("the server does not tell its databases"))?;
        // What a restore made or kept beside the live one is nobody's data.
        let there: Vec<String> = rows.iter().map(|r| r.text(0)).filter(|n| !load::is_ours(n)).collect();
        let mut chosen: Vec<String> = match &self.databases {
            Databases::All => there,
            Databases::Named(names) => {
                let mut chosen = Vec::new();
                for name in names {
                    if !name.contains(['*', '?']) {
                        chosen.push(name.clone());
                        continue;
                    }
                    let fits: Vec<_> = there.iter().filter(|n| matches(name, n)).cloned().collect();
                    if fits.is_empty() {
                        return Err(Error::new(Kind::Source, format!("no database fits {name:?}"))
                            .at(server.place())
                            .hint(format!("There are: {}.", there.join(", "))));
                    }
                    chosen.extend(fits);
                }
                chosen
            }
        };
        chosen.retain(|n| !self.exclude.iter().any(|pattern| matches(pattern, n)));
        let mut seen = std::collections::HashSet::new();
        chosen.retain(|n| seen.insert(n.clone()));
        if chosen.is_empty() {
            return Err(Error::new(Kind::Source, "no database is left to dump")
                .at(server.place())
                .hint("Check `databases` and `exclude_databases` of the source."));
        }
        Ok(chosen)
    }
}

/// Whether a name fits a pattern of `*` and `?`. A pattern that is none fits nothing; the configuration refuses it.
fn matches(pattern: &str, name: &str) -> bool {
    let literal = pattern.replace('[', "[[]").replace('{', "[{]").replace('\\', "[\\\\]");
    Glob::new(&literal).is_ok_and(|glob| glob.compile_matcher().is_match(name))
}
