//! What a drill restores, and where to: decided once, and kept in its journal.

use super::choose::{self, Wanted};
use super::server::{How, Scratched};
use super::{image, place};
use crate::config::drill::Scratch;
use crate::config::{Config, DrillPlan, SourceConfig};
use crate::error::{Error, Kind, Result};
use crate::model::{BackupId, Name};
use crate::recovery::asked::Part;
use crate::recovery::chosen as databases;
use crate::recovery::command;
use crate::recovery::volume::chosen;
use crate::repository::manifest::{Manifest, SourceRecord};
use crate::sources::command::{Bound, CommandSource, Target};
use crate::sources::postgres::facts::DatabaseFacts;
use crate::sources::postgres::{GLOBALS, PostgresSource};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What a scratch server takes besides its databases: itself, and the log of loading them. Bytes.
const SERVER: u64 = (1 << 30) + (64 << 20);

/// Variables by which a program is told a server of its own.
const SERVERS: &[&str] = &["PGHOST", "PGHOSTADDR", "PGPORT", "PGSERVICE", "DATABASE_URL"];

/// What goes where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Staging {
    /// The drill's directory.
    pub dir: PathBuf,
    /// Sources, with what of them.
    pub parts: Vec<Part>,
    /// Servers of its own; the databases of other sources go beside the live ones.
    pub servers: Vec<Scratched>,
}

/// The plan of a drill.
#[derive(Clone, Debug)]
pub struct Planned {
    /// What goes where.
    pub staging: Staging,
    /// What is not restored, and why: the plan is not proven then.
    pub left_out: Vec<String>,
    /// What nobody can prove without acting on what is live, or on another machine.
    pub limits: Vec<String>,
    /// Room that it takes in its directory. Bytes.
    pub needed: u64,
    /// Room that its containers take, where Docker keeps them. Bytes.
    pub in_docker: u64,
}

/// What a plan is made of.
pub struct Given<'a> {
    /// The drill.
    pub id: &'a BackupId,
    /// The backup.
    pub manifest: &'a Manifest,
    /// Only these sources; all when there are none.
    pub only: &'a [Name],
    /// The configuration, when it is that of the host whose backup this is.
    pub own: Option<&'a Config>,
    /// How the plan wants it.
    pub settings: &'a DrillPlan,
}

/// The `command` source of this name.
pub(super) fn configured_command<'a>(own: Option<&'a Config>, source: &Name) -> Option<&'a CommandSource> {
    match own?.sources.get(source)? {
        SourceConfig::Command(command) => Some(command),
        _ => None,
    }
}

/// Decides. Looks at the machine, and has no effect.
///
/// # Errors
/// [`Kind::Refused`] for what cannot be staged here, [`Kind::Damaged`] for facts that cannot be read.
pub async fn plan(given: &Given<'_>) -> Result<Planned> {
    let dir = place::of(&given.settings.dir, given.id);
    let staging = Staging { dir, parts: Vec::new(), servers: Vec::new() };
    let mut planned = Planned { staging, left_out: Vec::new(), limits: Vec::new(), needed: 0, in_docker: 0 };
    for name in given.only {
        crate::recovery::select::source(given.manifest, name)?;
    }
    let chosen = |s: &&SourceRecord| s.kind != "config" && (given.only.is_empty() || given.only.contains(&s.name));
    for record in given.manifest.sources.iter().filter(chosen) {
        if record.is_complete() {
            planned.add(given, record).await?;
        } else {
            planned.left_out.push(format!("source {} failed in this backup", record.name));
        }
    }
    if planned.staging.parts.is_empty() {
        return Err(Error::new(Kind::Refused, format!("nothing of backup {} can be drilled here", given.manifest.id))
            .because(planned.left_out.join("\n")));
    }
    Ok(planned)
}

impl Planned {
    async fn add(&mut self, given: &Given<'_>, record: &SourceRecord) -> Result<()> {
        let source = record.name.clone();
        let part = match record.kind.as_str() {
            "files" | "host" => Part::Files { source, paths: Vec::new() },
            "volume" => Part::Volumes { source, targets: chosen::targets(record, None, None)? },
            "image" => {
                image::facts_of(record)?;
                Part::Images { source }
            }
            "redis" => Part::Redis { source },
            "postgres" => {
                let facts = databases::facts_of(record)?;
                let own = match given.own.and_then(|c| c.sources.get(&source)) {
                    Some(SourceConfig::Postgres(own)) => Some(&**own),
                    _ => None,
                };
                self.server(given, &source, &facts, own, None, false).await?;
                Part::Databases { targets: databases::targets(record, None, None)?, source, server: None }
            }
            "command" => {
                if !self.command(given, record).await? {
                    return Ok(());
                }
                Part::Command { source, to: None }
            }
            other => {
                self.left_out.push(format!("source {source} is of kind {other}, which this version does not restore"));
                return Ok(());
            }
        };
        if !matches!(part, Part::Databases { .. }) {
            self.needed += record.bytes();
        }
        self.staging.parts.push(part);
        Ok(())
    }

    /// Chooses a server, and counts what it takes.
    async fn server(
        &mut self,
        given: &Given<'_>,
        source: &Name,
        facts: &[DatabaseFacts],
        own: Option<&PostgresSource>,
        roles_of: Option<Name>,
        programs: bool,
    ) -> Result<()> {
        let major = facts.iter().map(|f| f.server_version / 10_000).max().unwrap_or(0);
        let extensions: Vec<String> = facts.iter().flat_map(|f| f.extensions.iter().map(|e| e.0.clone())).collect();
        let wanted = Wanted {
            id: given.id,
            number: self.staging.servers.len(),
            major,
            extensions: &extensions,
            own,
            programs,
            settings: given.settings,
            dir: &self.staging.dir,
        };
        let how = choose::server(&wanted).await?;
        if let Some(how) = how {
            let needed = SERVER + facts.iter().map(|f| f.size).sum::<u64>();
            match how {
                How::Cluster { .. } => self.needed += needed,
                How::Container { .. } => self.in_docker += needed,
            }
            self.staging.servers.push(Scratched { source: source.clone(), major, how, roles_of });
        }
        Ok(())
    }

    /// Whether the output of a command can be staged.
    async fn command(&mut self, given: &Given<'_>, record: &SourceRecord) -> Result<bool> {
        let source = &record.name;
        let Some(configured) = configured_command(given.own, source) else {
            let text =
                format!("source {source}: its output is read and compared; programs of another host are not run");
            // Whether it makes the database that it is for was not seen.
            match command::facts_of(record)?.database {
                Some(_) => self.left_out.push(format!("{text}, so that its database was not loaded")),
                None => self.limits.push(text),
            }
            return Ok(true);
        };
        let bound = match &configured.back.into {
            Target::InPlace { .. } => {
                let text =
                    format!("source {source}: its output is checked; `load` is not run, since it acts on what is live");
                self.limits.push(text);
                return Ok(true);
            }
            Target::File(_) | Target::Nothing => return Ok(true),
            Target::Database(bound) => bound,
        };
        let Some(facts) = command::facts_of(record)?.database else {
            self.left_out.push(format!("source {source}: the backup does not say what its database was like"));
            return Ok(false);
        };
        let runner = &configured.runner;
        let fixed = runner.env.iter().find(|(name, _)| SERVERS.contains(&name.as_str()));
        let in_container = given.settings.scratch == Some(Scratch::Container);
        let why = match (&runner.container, &runner.os_user, fixed) {
            (Some(container), ..) => format!("its programs run in container {container}"),
            (_, Some(user), _) => format!("its programs run as {user}"),
            (.., Some((name, _))) => format!("its `env` sets {name}"),
            (None, None, None) if in_container => {
                "its programs run on this machine, and the server in a container".to_owned()
            }
            (None, None, None) => {
                let roles = roles_of(given, bound);
                self.server(given, source, &[facts], Some(&bound.server), roles, true).await?;
                return Ok(true);
            }
        };
        if given.settings.scratch.is_none_or(|s| s == Scratch::Live) {
            return Ok(true);
        }
        let text = format!(
            "source {source}: {why}, so that they do not reach a scratch server; `scratch = \"live\"` has them load beside the live database"
        );
        self.left_out.push(text);
        Ok(false)
    }
}

/// The source of this backup that has the roles of a server: its programs give objects to them.
fn roles_of(given: &Given<'_>, bound: &Bound) -> Option<Name> {
    let is_it = |record: &&SourceRecord| {
        let configured = given.own.and_then(|c| c.sources.get(&record.name));
        let has_roles = record.artifacts.iter().any(|a| a.name == GLOBALS);
        let same =
            matches!(configured, Some(SourceConfig::Postgres(p)) if p.address.is_same_server(&bound.server.address));
        has_roles && same
    };
    given.manifest.sources.iter().find(is_it).map(|record| record.name.clone())
}
