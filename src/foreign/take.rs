//! A set, written into a repository as a backup of our own: from there everything that can be done with one can be done
//! with it. Archives of `pg_dump` lose their compression, so that they deduplicate with the nightly ones; archives of
//! files become trees with an index; a dump of a cluster becomes one artifact for each database.

use super::fixture::{self, Models};
use super::layout::{FileRule, Is, Layout, MemberRule, MemberTarget};
use super::read::Openable;
use super::sets::Set;
use super::{databases, image, redis, trees};
use crate::error::{Error, Kind, Result};
use crate::model::Name;
use crate::repository::writer::{BackupWriter, Outcome, PendingArtifact};
use crate::sources::command::{Bound, CommandFacts, OUTPUT};
use crate::sources::postgres::PostgresSource;
use crate::sources::postgres::facts::{self, DatabaseFacts, TableFacts};
use crate::storage::readonly::ReadOnly;
use crate::telemetry::monitor::{Event, Monitor};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// What a source is, as far as it must be known here.
#[derive(Clone, Debug)]
pub enum Target {
    /// Its databases, and the one of its address.
    Postgres {
        /// Which of a dump of a cluster, and how large tables are dumped.
        server: Box<PostgresSource>,
        /// The database of a dump that does not say its name.
        default: String,
    },
    /// Files.
    Files,
    /// Docker volumes.
    Volume,
    /// Redis.
    Redis,
    /// The output of a program.
    Command {
        /// Its media type.
        media: String,
        /// The database that it is loaded into.
        database: Option<Box<Bound>>,
    },
    /// Docker images.
    Image,
}

impl Target {
    fn kind(&self) -> &'static str {
        match self {
            Target::Postgres { .. } => "postgres",
            Target::Files => "files",
            Target::Volume => "volume",
            Target::Redis => "redis",
            Target::Command { .. } => "command",
            Target::Image => "image",
        }
    }
}

/// What to take over.
pub struct Taking<'a> {
    /// The layout.
    pub layout: &'a Layout,
    /// The set.
    pub set: &'a Set,
    /// Where it lies.
    pub store: Arc<dyn ReadOnly>,
    /// The sources that are configured.
    pub sources: BTreeMap<Name, Target>,
    /// Take what these need and nothing else; with none named, all of it.
    pub only: Vec<Name>,
    /// An empty directory of ours, in which archives of files are unpacked.
    pub room: PathBuf,
    /// It is to share bytes with backups of our own, for which dumps are written again; what is restored once need not.
    pub shared: bool,
}

impl Taking<'_> {
    /// The sources that the set has something of, in the order of the layout.
    pub fn wanted(&self) -> Vec<Name> {
        let mut names: Vec<Name> = Vec::new();
        for name in self.set.parts.iter().flat_map(|part| self.layout.files[part.rule].sources()) {
            if !names.contains(name) && (self.only.is_empty() || self.only.contains(name)) {
                names.push(name.clone());
            }
        }
        names
    }

    pub(super) fn files_of(&self, wanted: impl Fn(&FileRule) -> bool) -> Vec<Openable> {
        let asked_for = |rule: &FileRule| rule.concerns(&self.only) && wanted(rule);
        self.set
            .parts
            .iter()
            .filter(|p| asked_for(&self.layout.files[p.rule]))
            .map(|p| Openable { store: self.store.clone(), part: p.clone(), rule: self.layout.files[p.rule].clone() })
            .collect()
    }

    /// Whether a set may be without anything of a source: every file that could have it is optional.
    fn may_lack(&self, source: &Name) -> bool {
        let speaks_of = |m: &MemberRule| match &m.to {
            MemberTarget::Path(of, _) | MemberTarget::Volume(of, _) => of == source,
            MemberTarget::Ignored => false,
        };
        self.layout.files.iter().filter(|rule| rule.members.iter().any(speaks_of)).all(|rule| rule.optional)
    }

    /// Whether the set brings back databases, under whose server nothing may be unpacked.
    pub(super) fn restores_a_server(&self) -> bool {
        self.set.parts.iter().any(|p| {
            let rule = &self.layout.files[p.rule];
            rule.source.is_some() && rule.is.source_kind() == Some("postgres")
        })
    }
}

/// What one source gave.
pub(super) struct Taken {
    pub(super) artifacts: Vec<PendingArtifact>,
    pub(super) facts: serde_json::Value,
    pub(super) warnings: Vec<String>,
}

/// Takes a set over. All of it or nothing: a part that is not good fails the whole.
///
/// # Errors
/// What is wrong with the set, with the file.
pub async fn take(taking: &Taking<'_>, writer: &BackupWriter, monitor: Arc<dyn Monitor>) -> Result<Vec<Outcome>> {
    taking.set.require_complete(taking.layout, &taking.only)?;
    let wanted = taking.wanted();
    if wanted.is_empty() {
        let name = &taking.layout.name;
        let what = match &taking.only[..] {
            [] => format!("no file of {name} is said to be of a source"),
            only => format!("the set of {name} has no file of source {}", only[0]),
        };
        return Err(Error::new(Kind::Config, what).hint("Set `source` for the files that are to be restored."));
    }
    let mut outcomes = Vec::new();
    let trees = trees::unpack(taking).await?;
    for name in wanted {
        let target = taking
            .sources
            .get(&name)
            .ok_or_else(|| Error::new(Kind::Config, format!("source {name} is not configured here")))?;
        if matches!(target, Target::Files | Target::Volume) && !trees.has(&name) && taking.may_lack(&name) {
            monitor.event(Event::Warning(format!("{name}: the set holds nothing of it, and may be without it")));
            continue;
        }
        monitor.event(Event::SourceStarted(name.clone()));
        let started = Instant::now();
        let taken = match target {
            Target::Postgres { server, default } => databases::take(taking, &name, server, default, writer).await,
            Target::Files => trees.files(&name, writer, monitor.clone()).await,
            Target::Volume => trees.volumes(&name, writer, monitor.clone()).await,
            Target::Redis => redis::take(taking, &name, writer).await,
            Target::Command { media, database } => output(taking, &name, media, database.as_deref(), writer).await,
            Target::Image => image::take(taking, &name, writer, monitor.clone()).await,
        };
        monitor.event(Event::SourceEnded(name.clone(), taken.as_ref().map(|_| ()).map_err(Error::one_line)));
        let Taken { artifacts, facts, warnings } = taken?;
        warnings.iter().for_each(|w| monitor.event(Event::Warning(format!("{name}: {w}"))));
        let seconds = started.elapsed().as_secs_f64();
        let kind = target.kind().to_owned();
        outcomes.push(Outcome { name, kind, result: Ok(artifacts), facts, warnings, seconds });
    }
    Ok(outcomes)
}

fn only(files: Vec<Openable>, name: &Name) -> Result<Openable> {
    files
        .into_iter()
        .next()
        .ok_or_else(|| Error::new(Kind::Internal, format!("no file of the set is of source {name}")))
}

/// What a program of the operator's takes back, as it is.
async fn output(
    taking: &Taking<'_>,
    name: &Name,
    media: &str,
    bound: Option<&Bound>,
    writer: &BackupWriter,
) -> Result<Taken> {
    let file = only(taking.files_of(|r| r.source.as_ref() == Some(name)), name)?;
    let models = match file.rule.is {
        Is::Fixture => file.with(|content| fixture::models(content)).await?,
        _ => super::check::file_of(file.clone(), false).await.map(|_| Models::new())?,
    };
    let mut artifact = writer.artifact(OUTPUT, media);
    let stored = file
        .with(move |content| {
            artifact.stream(content)?;
            artifact.finish()
        })
        .await?;
    let database = match bound {
        Some(bound) => Some(live(bound, &models).await?),
        None => None,
    };
    let facts = CommandFacts { program: String::new(), bytes: stored.bytes(), checked: true, file: None, database };
    Ok(Taken { artifacts: vec![stored], facts: serde_json::json!({ "command": facts }), warnings: Vec::new() })
}

/// A fixture says nothing of the database that it belongs in: that is made like the live one. Its numbers of objects are
/// told as rows of the tables that Django makes for models by itself.
async fn live(bound: &Bound, models: &Models) -> Result<DatabaseFacts> {
    let server = bound.server.address.reach().await?;
    let session = server.session(&bound.name).await.map_err(|e| {
        e.hint("A fixture is loaded into a database like the live one; make that first, as the application does.")
    })?;
    let facts = facts::read(&session).await?;
    let objects = |t: &TableFacts| models.iter().find(|(model, _)| model.replace('.', "_") == t.name).map(|(_, n)| *n);
    let counted = |t: &TableFacts| Some(TableFacts { rows: objects(t)?, estimated: false, ..t.clone() });
    let tables = facts.tables.iter().filter_map(counted).collect();
    Ok(DatabaseFacts { tables, sequences: Vec::new(), large_objects: 0, ..facts })
}
