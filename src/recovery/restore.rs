//! One restore from its beginning to its end, or from where a crash left it.

use super::command::{self, Taking};
use super::database::{self, Databases, Target as DatabaseTarget};
use super::engine::{Ended, Engine, Step};
use super::images::Images;
use super::inplace::InPlace;
use super::journal::{Begin, Journal, Record, State};
use super::redis::{self, RedisResource, Wanted};
use super::resource::{Compared, Findings, Previous, Resource};
use super::rows::Rows;
use super::steps;
use super::tables::{self, Tables, WantedTables};
use super::trees::Trees;
use super::volume::DockerVolume;
use crate::config::{Config, SourceConfig};
use crate::error::{Error, Kind, Result};
use crate::model::{BackupId, Name};
use crate::repository::manifest::{Manifest, SourceRecord};
use crate::repository::reader::Reader;
use crate::sources::command::{Bound, Target};
use crate::sources::files::untar::Ids;
use crate::sources::postgres::PostgresSource;
use crate::sources::postgres::load::{Options, What};
use crate::telemetry::monitor::Monitor;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What was asked for; enough to make the resources anew after a crash.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// Who asked.
    pub by: String,
    /// Sources, with what of them.
    pub parts: Vec<Part>,
    /// Leave objects of databases to the connecting role.
    pub no_owner: bool,
    /// Leave out grants on objects of databases.
    pub no_privileges: bool,
    /// Free space where nobody can tell. Bytes.
    pub assume_space: Option<u64>,
    /// What of databases.
    #[serde(default)]
    pub what: What,
    /// Databases are dropped before they are loaded, and this stands for the live ones meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_place: Option<Safety>,
    /// The restore that is taken back by this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_of: Option<BackupId>,
}

/// What stands for a live database that is dropped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Safety {
    /// A backup of it, taken right before.
    Backup(BackupId),
    /// Nothing: there is no way back.
    Waived,
}

/// The backups that a restore reads.
#[derive(Clone, Copy, Default)]
pub struct Backups<'a> {
    /// What is restored; without it a restore can only be undone.
    pub manifest: Option<&'a Manifest>,
    /// The safety backup of what is restored in place.
    pub safety: Option<&'a Manifest>,
    /// Without it nothing can be staged.
    pub reader: Option<&'a Reader>,
}

/// What of one source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Paths of a `files` or `host` source.
    Files {
        /// Source.
        source: Name,
        /// Paths.
        paths: Vec<PathBuf>,
    },
    /// Volumes of a `volume` source: as it was named, and as it is to be.
    Volumes {
        /// Source.
        source: Name,
        /// Volume in the backup, and the one that is restored.
        targets: Vec<(String, String)>,
    },
    /// Images of an `image` source.
    Images {
        /// Source.
        source: Name,
    },
    /// The server of a `redis` source.
    Redis {
        /// Source.
        source: Name,
    },
    /// The output of a `command` source.
    Command {
        /// Source.
        source: Name,
    },
    /// Databases of a `postgres` source.
    Databases {
        /// Source.
        source: Name,
        /// Databases.
        targets: Vec<DatabaseTarget>,
    },
    /// The rows of a database of a `postgres` source, into one that has its tables.
    Rows {
        /// Source.
        source: Name,
        /// The database in the backup.
        database: String,
        /// The database that is filled.
        into: String,
    },
    /// Tables of a database of a `postgres` source.
    Tables {
        /// Source.
        source: Name,
        /// Which, and where to.
        wanted: WantedTables,
    },
}

/// The journal of the restore that is open on this host, if one is.
pub fn journal_file(state_dir: &Path) -> PathBuf {
    state_dir.join("restore.journal")
}

/// Where the journals of ended restores are kept.
pub fn history(state_dir: &Path) -> PathBuf {
    state_dir.join("restores")
}

/// The resources of a restore, whose id gives names to what they stage and keep.
///
/// # Errors
/// [`Kind::Config`] when a source is not configured here, [`Kind::NotFound`] when the backup does not have it.
pub async fn resources(
    asked: &Asked,
    config: Option<&Config>,
    own: &[PathBuf],
    id: &BackupId,
    from: Backups<'_>,
) -> Result<Vec<Arc<dyn Resource>>> {
    let Backups { manifest, safety, reader } = from;
    let record = |source: &Name| manifest.map(|m| super::select::source(m, source)).transpose();
    let of = |source: &Name| Ok::<_, Error>(reader.cloned().zip(record(source)?.cloned()));
    let mut out: Vec<Arc<dyn Resource>> = Vec::new();
    for part in &asked.parts {
        match part {
            Part::Files { source, paths } => {
                let ids = match record(source)? {
                    // What lies on a machine belongs to a name; in other trees the number counts.
                    Some(record) if record.kind == "host" => super::host::ids(record)?.0,
                    _ => Ids::default(),
                };
                out.push(Arc::new(Trees {
                    source: source.to_string(),
                    paths: paths.clone(),
                    id: id.clone(),
                    from: of(source)?,
                    own: own.to_vec(),
                    ids: Arc::new(ids),
                }));
            }
            Part::Volumes { source, targets } => {
                let from = of(source)?;
                out.extend(targets.iter().map(|(volume, target)| {
                    Arc::new(DockerVolume {
                        name: target.clone(),
                        of: volume.clone(),
                        id: id.clone(),
                        from: from.clone(),
                        own: own.to_vec(),
                    }) as Arc<dyn Resource>
                }));
            }
            Part::Images { source } => {
                out.push(Arc::new(Images { source: source.to_string(), from: of(source)? }));
            }
            Part::Redis { source } => {
                let Some(SourceConfig::Redis(configured)) = config.and_then(|c| c.sources.get(source)) else {
                    return Err(not_configured(source, "redis"));
                };
                let wanted = record(source)?.map(|r| Wanted::new(reader.cloned(), r)).transpose()?;
                let service = redis::service_of(configured).await?;
                let name = source.as_str();
                out.push(Arc::new(RedisResource::new(name, id.clone(), configured.clone(), service, wanted)));
            }
            Part::Command { source } => {
                let Some((config, SourceConfig::Command(configured))) =
                    config.and_then(|c| Some((c, c.sources.get(source)?)))
                else {
                    return Err(not_configured(source, "command"));
                };
                let taking = Taking {
                    source: source.clone(),
                    id: id.clone(),
                    configured: (**configured).clone(),
                    facts: record(source)?.map(command::facts_of).transpose()?.unwrap_or_default(),
                    from: of(source)?,
                };
                if let Target::Database(bound) = &taking.configured.back.into {
                    dumped_besides(asked, config, source, bound)?;
                }
                out.push(command::resource(taking, own, &config.state_dir)?);
            }
            Part::Databases { source, targets } => {
                let configured = postgres(config, source)?;
                let databases = |record: Option<&SourceRecord>| {
                    Ok::<_, Error>(Databases {
                        source: source.to_string(),
                        address: configured.address.clone(),
                        targets: targets.clone(),
                        facts: record.map(database::facts_of).transpose()?.unwrap_or_default(),
                        id: id.clone(),
                        from: reader.cloned().zip(record.cloned()),
                        options: options(asked, configured),
                        count_rows_up_to: configured.count_rows_up_to,
                        assume_space: asked.assume_space,
                        dropped_first: asked.in_place.is_some(),
                    })
                };
                let new = databases(record(source)?)?;
                if asked.in_place.is_none() {
                    out.push(Arc::new(new));
                    continue;
                }
                let safety = safety.map(|m| super::select::source(m, source)).transpose()?;
                let safety = safety.map(|record| databases(Some(record))).transpose()?;
                out.push(Arc::new(InPlace { new, safety }));
            }
            Part::Rows { source, database, into } => {
                let configured = postgres(config, source)?;
                out.push(Arc::new(Rows {
                    address: configured.address.clone(),
                    into: into.clone(),
                    facts: record(source)?.map(|r| tables::facts_of(r, database)).transpose()?,
                    from: of(source)?,
                    options: options(asked, configured),
                    count_rows_up_to: configured.count_rows_up_to,
                }));
            }
            Part::Tables { source, wanted } => {
                let configured = postgres(config, source)?;
                out.push(Arc::new(Tables {
                    address: configured.address.clone(),
                    facts: record(source)?.map(|r| tables::facts_of(r, &wanted.database)).transpose()?,
                    wanted: wanted.clone(),
                    id: id.clone(),
                    from: of(source)?,
                    options: wanted.options(options(asked, configured)),
                    count_rows_up_to: configured.count_rows_up_to,
                    assume_space: asked.assume_space,
                }));
            }
        }
    }
    Ok(out)
}

fn options(asked: &Asked, configured: &PostgresSource) -> Options {
    Options {
        jobs: configured.jobs,
        no_owner: asked.no_owner,
        no_privileges: asked.no_privileges,
        what: asked.what,
        replica: false,
        only: None,
    }
}

/// The server of a source, which is where it is restored to.
fn postgres<'a>(config: Option<&'a Config>, source: &Name) -> Result<&'a PostgresSource> {
    match config.and_then(|c| c.sources.get(source)) {
        Some(SourceConfig::Postgres(configured)) => Ok(configured),
        _ => Err(not_configured(source, "postgres")),
    }
}

/// Refuses to exchange one database twice: what the first one restored would be the previous one of the second.
fn dumped_besides(asked: &Asked, config: &Config, source: &Name, bound: &Bound) -> Result<()> {
    for part in &asked.parts {
        let Part::Databases { source: other, targets } = part else { continue };
        let Some(SourceConfig::Postgres(server)) = config.sources.get(other) else { continue };
        if server.address.is_same_server(&bound.server.address) && targets.iter().any(|t| t.live == bound.name) {
            return Err(Error::new(
                Kind::Usage,
                format!("database {} would be restored by source {source} and by source {other}", bound.name),
            )
            .hint("Pick one of them with --source."));
        }
    }
    Ok(())
}

fn not_configured(source: &Name, kind: &str) -> Error {
    Error::new(Kind::Config, format!("source {source} is not configured here, so where to restore to is unknown"))
        .hint(format!("Add [sources.{source}] with kind = \"{kind}\", as it was at the backup."))
}

/// Looks at every target before any is touched.
///
/// # Errors
/// The first [`Kind::Refused`].
pub async fn preflight(resources: &[Arc<dyn Resource>]) -> Result<Vec<(String, Findings)>> {
    let mut found = Vec::new();
    for resource in resources {
        found.push((resource.label(), resource.preflight().await?));
    }
    Ok(found)
}

/// A restore that is under way.
pub struct Restore {
    engine: Engine,
    resources: Vec<Arc<dyn Resource>>,
    state_dir: PathBuf,
}

/// An id for a restore that begins now; in the form of a backup's, since it too is a moment and a random tail.
pub fn new_id() -> BackupId {
    BackupId::new(Timestamp::now())
}

impl Restore {
    /// Begins: from here on there is a journal.
    ///
    /// # Errors
    /// [`Kind::Busy`] when another restore is open on this host.
    pub fn begin(
        state_dir: &Path,
        id: BackupId,
        plan: &Name,
        backup: &BackupId,
        asked: &Asked,
        resources: Vec<Arc<dyn Resource>>,
        monitor: Arc<dyn Monitor>,
    ) -> Result<Self> {
        let file = journal_file(state_dir);
        if file.exists() {
            return Err(open_restore(&file));
        }
        let steps = steps_of(state_dir, asked, &resources)?;
        let begin = Begin {
            id,
            plan: plan.clone(),
            backup: backup.clone(),
            asked: json!(asked),
            steps: steps.iter().map(|s| s.name()).collect(),
        };
        let engine = Engine::new(steps, Journal::begin(&file, begin)?, monitor)?;
        Ok(Restore { engine, resources, state_dir: state_dir.to_owned() })
    }

    /// Takes up a journal that is there.
    ///
    /// # Errors
    /// [`Kind::Internal`] when it is of other steps.
    pub fn take_up(
        state_dir: &Path,
        journal: Journal,
        resources: Vec<Arc<dyn Resource>>,
        monitor: Arc<dyn Monitor>,
    ) -> Result<Self> {
        let steps = steps_of(state_dir, &asked_of(&journal)?, &resources)?;
        let engine = Engine::new(steps, journal, monitor)?;
        Ok(Restore { engine, resources, state_dir: state_dir.to_owned() })
    }

    /// Goes on, and closes the journal when it ended. Asked to stop meanwhile, it goes back.
    ///
    /// # Errors
    /// When the journal cannot be written; it can be taken up later.
    pub async fn run(&mut self, stopped: impl Future<Output = &'static str>) -> Result<Ended> {
        let signal = tokio::select! {
            ended = self.engine.run() => return self.close(ended?),
            signal = stopped => signal,
        };
        let why = format!("stopped by {signal}");
        let ended = match self.engine.go_back(&why).await? {
            Ended::Unwound(_) => Ended::Unwound(Error::new(Kind::Interrupted, why)),
            other => other,
        };
        self.close(ended)
    }

    /// Goes back.
    ///
    /// # Errors
    /// As [`Restore::run`].
    pub async fn unwind(&mut self) -> Result<Ended> {
        let ended = self.engine.go_back("asked to go back").await?;
        self.close(ended)
    }

    fn close(&self, ended: Ended) -> Result<Ended> {
        let journal = self.engine.journal();
        if journal.state().is_closed() {
            let history = history(&self.state_dir);
            let to = history.join(format!("{}.journal", journal.about().id));
            std::fs::create_dir_all(&history)
                .and_then(|()| std::fs::rename(journal.path(), &to))
                .and_then(|()| std::fs::File::open(&self.state_dir)?.sync_all())
                .map_err(|e| Error::io("the journal of the restore cannot be put away", &to, e).kind(Kind::Restore))?;
        }
        Ok(ended)
    }

    /// The verification: each line of each resource.
    pub fn compared(&self) -> Vec<Compared> {
        let journal = self.engine.journal();
        let names = journal.about().steps.iter().enumerate();
        let verified = names.filter(|(_, name)| name.starts_with("verify ")).filter_map(|(n, _)| journal.done(n));
        verified.filter_map(|note| serde_json::from_value::<Vec<Compared>>(note.clone()).ok()).flatten().collect()
    }

    /// What is kept of what was there before.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub async fn previous(&self) -> Result<Vec<Previous>> {
        let mut previous = Vec::new();
        for resource in &self.resources {
            let journal = self.engine.journal();
            let name = steps::swap_name(&**resource);
            let note = journal.about().steps.iter().position(|s| *s == name).and_then(|n| journal.done(n));
            if let Some(note) = note {
                previous.extend(resource.previous(note).await?);
            }
        }
        Ok(previous)
    }

    /// Notes of the staging steps, for the report.
    pub fn staged(&self) -> Vec<(&str, &serde_json::Value)> {
        let journal = self.engine.journal();
        let names = journal.about().steps.iter().enumerate();
        names
            .filter(|(_, s)| s.starts_with("stage "))
            .filter_map(|(n, s)| Some((s.as_str(), journal.done(n)?)))
            .collect()
    }
}

/// The steps of what is asked for.
fn steps_of(state_dir: &Path, asked: &Asked, resources: &[Arc<dyn Resource>]) -> Result<Vec<Box<dyn Step>>> {
    match &asked.rollback_of {
        None => Ok(steps::of_resources(resources)),
        Some(id) => Ok(super::rollback::steps(resources, &super::rollback::past(state_dir, id)?)),
    }
}

/// True when everything is staged, so that going on needs no backup any more.
pub fn is_staged(journal: &Journal) -> bool {
    let staging = journal.about().steps.iter().filter(|s| s.starts_with("stage ")).count();
    match journal.state() {
        State::Between(n) | State::Within(n) => *n >= staging,
        _ => false,
    }
}

/// The error of every command that must not run beside an open restore.
pub fn open_restore(file: &Path) -> Error {
    Error::new(Kind::Busy, "a restore of this host was interrupted and is still open")
        .at(file.display())
        .hint("`backstay restore --resume` finishes it, `backstay restore --unwind` takes it back.")
}

/// What was asked for in a journal.
///
/// # Errors
/// [`Kind::Internal`] when this version cannot read it.
pub fn asked_of(journal: &Journal) -> Result<Asked> {
    serde_json::from_value(journal.about().asked.clone())
        .map_err(|e| Error::new(Kind::Internal, "the journal of the restore cannot be understood").because(e))
}

/// Why a restore failed, in the words of its journal.
pub fn why_failed(journal: &Journal) -> Option<String> {
    journal.entries().iter().rev().find_map(|e| match &e.record {
        Record::Failed(_, why) => Some(why.clone()),
        _ => None,
    })
}
