//! Servers, units and timers, and the host's name.

use super::running::Recovery;
use crate::config::target::Target;
use crate::config::{Config, SourceConfig};
use crate::error::{Error, Kind, Result};
use crate::host::cluster;
use crate::host::docker::Docker;
use crate::host::inventory::Inventory;
use crate::host::systemd;
use crate::host::systemd_timer::{self, Job};
use crate::model::{Name, time};
use crate::recovery::fresh::clusters::{self, Wanted};
use crate::recovery::fresh::merge::{Merge, Which};
use crate::recovery::fresh::phase::Phase;
use crate::recovery::fresh::place::below;
use crate::recovery::fresh::whose::Whose;
use crate::recovery::fresh::{before, look, settings, start};
use crate::repository::claims;
use crate::sources::postgres::GLOBALS;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long Docker may take to answer when it has just been started.
const DOCKER: Duration = Duration::from_secs(120);
/// A unit that has started must still run so much later.
const HOLDS: Duration = Duration::from_secs(1);

/// Units of the plans' lists: all of them, and those that start after the checks.
fn named(config: &Config) -> (BTreeSet<String>, BTreeSet<String>) {
    let units = |targets: &[Target]| -> Vec<String> {
        let name = |t: &Target| if let Target::Unit(name) = t { Some(name.clone()) } else { None };
        targets.iter().filter_map(name).collect()
    };
    let sections = || config.plans.values().map(|p| &p.restore);
    let late: BTreeSet<String> = sections().flat_map(|s| units(&s.start_after_checks)).collect();
    let all = sections().flat_map(|s| units(&s.stop)).chain(late.iter().cloned()).collect();
    (all, late)
}

impl Recovery<'_> {
    pub(super) async fn clusters(&self) -> Result<Vec<String>> {
        let here = Inventory::take().await;
        let here = here.known_clusters()?;
        let then = &self.facts()?.inventory.postgres_clusters;
        let (wanted, mut notes) = clusters::plan(then, here, &cluster::majors())?;
        for w in &wanted {
            let (version, name) = (w.version.as_str(), w.then.name.as_str());
            let data = w.takes_settings().then(|| PathBuf::from(&w.then.data_directory));
            let now = here.iter().find(|c| w.exists && c.version == w.version && c.name == w.then.name);
            let elsewhere = now.filter(|c| data.as_ref().is_some_and(|d| *d != Path::new(&c.data_directory)));
            let mut exists = w.exists;
            if let Some(elsewhere) = elsewhere {
                // Its settings will name a directory in which there is nothing.
                let in_use = look::in_use(Path::new(&elsewhere.data_directory));
                if self.about.onto_existing || in_use.is_some() {
                    return Err(Error::new(
                        Kind::Refused,
                        format!("cluster {version}/{name} is here with its data in {}", elsewhere.data_directory),
                    )
                    .because(in_use.unwrap_or_else(|| "what is here already is never dropped".to_owned()))
                    .hint(format!("It was in {}. Move its data there, or drop it.", w.then.data_directory)));
                }
                let data = elsewhere.data_directory.trim_end_matches('/');
                let aside = format!("{data}.before-{}", self.about.id);
                cluster::remove(version, name, Path::new(data), Path::new(&aside)).await?;
                notes.push(format!("cluster {version}/{name} is made anew; what its package had made is in {aside}"));
                exists = false;
            }
            match exists {
                true => cluster::stop(version, name).await?,
                false => cluster::make(version, name, w.then.port, data.as_deref()).await?,
            }
            let folder = Path::new("/etc/postgresql").join(version).join(name);
            if self.about.exercise {
                settings::keep_alone_meanwhile(&folder, &below(&self.staged(), &folder))?;
            }
            self.settings(w).await?;
            if self.about.exercise {
                settings::keep_alone(&folder)?;
            } else {
                let told = settings::told(&folder).into_iter();
                notes.extend(told.map(|what| format!("cluster {version}/{name} {what}")));
            }
            cluster::start(version, name).await?;
            notes.extend(self.roles(w).await?);
        }
        Ok(notes)
    }

    /// Gives a cluster the settings that it had.
    async fn settings(&self, wanted: &Wanted) -> Result<()> {
        if !wanted.takes_settings() {
            return cluster::set_port(&wanted.version, &wanted.then.name, wanted.then.port).await;
        }
        let folder = Path::new("/etc/postgresql").join(&wanted.version).join(&wanted.then.name);
        let (staged, before) = (self.staged(), before(&self.state_dir));
        let merge = Merge {
            staged: &staged,
            root: Path::new("/"),
            before: &before,
            same_machine: true,
            never: &[],
            stay: &BTreeSet::new(),
        };
        merge.only(&folder).map(drop)
    }

    /// Gives a cluster the roles of the sources that are in it, so that these can be reached by their own passwords.
    async fn roles(&self, wanted: &Wanted) -> Result<Vec<String>> {
        let config = self.context.config()?;
        for record in self.lost.records().filter(|s| s.kind == "postgres") {
            let Some(source) = config.sources.get(&record.name) else { continue };
            let SourceConfig::Postgres(postgres) = source else { continue };
            let address = &postgres.address;
            if address.container().is_some() || address.port() != wanted.then.port {
                continue;
            }
            // One by the lost host's own name too, which is to lead here before its data comes.
            if self.whose(&record.name, source).await == Whose::Elsewhere {
                continue;
            }
            let Some(globals) = record.artifacts.iter().find(|a| a.name == GLOBALS) else { continue };
            let text = self.reader("roles")?.small(globals).await?;
            cluster::give_roles(wanted.then.port, &text).await?;
        }
        Ok(Vec::new())
    }

    /// Starts the servers into which data is loaded, those that do not run: a reboot may have come between.
    pub(super) async fn servers(&self) -> Result<Vec<String>> {
        let config = self.context.config()?;
        let facts = self.lost.facts.as_ref();
        let then = facts.map(|f| f.inventory.postgres_clusters.as_slice()).unwrap_or_default();
        if !then.is_empty() {
            let here = Inventory::take().await;
            let (wanted, _) = clusters::plan(then, here.known_clusters()?, &cluster::majors())?;
            for w in wanted.iter().filter(|w| w.exists) {
                cluster::start(&w.version, &w.then.name).await?;
            }
        }
        let (mut units, mut docker) = (BTreeSet::new(), false);
        let mut local_postgres = false;
        for record in self.lost.records() {
            let source = config.sources.get(&record.name);
            let here = match source {
                Some(source) => self.whose(&record.name, source).await != Whose::Elsewhere,
                None => false,
            };
            match source {
                // One that nobody knows how to stop is restored while it is down, and starts with the application.
                Some(SourceConfig::Redis(r)) if r.container.is_none() && here => {
                    units.extend(r.unit.clone());
                }
                Some(SourceConfig::Postgres(p)) => match p.address.container() {
                    Some(_) => docker = true,
                    None => local_postgres |= here,
                },
                Some(SourceConfig::Redis(r)) => docker |= r.container.is_some(),
                Some(SourceConfig::Volume(_) | SourceConfig::Image(_)) => docker = true,
                _ => {}
            }
        }
        if local_postgres && then.is_empty() {
            units.insert("postgresql.service".to_owned());
        }
        if docker || self.lost.has(false, false).containers {
            docker = true;
            units.insert("docker.service".to_owned());
        }
        for unit in &units {
            self.start_unit(unit, true).await?;
        }
        if docker {
            Docker::connect_within(DOCKER, false).await?;
        }
        Ok(Vec::new())
    }

    /// Starts a unit that does not run. One that nobody counts on may fail.
    async fn start_unit(&self, name: &str, required: bool) -> Result<Option<String>> {
        let unit = systemd::look(name).await?;
        if unit.load != "loaded" {
            let what = format!("unit {name} is not here ({})", unit.load);
            let hint = "Install what brings it, and run the same command again.";
            return if required { Err(Error::new(Kind::Restore, what).hint(hint)) } else { Ok(Some(what)) };
        }
        if unit.is_up() {
            return Ok(None);
        }
        match systemd::start(&unit).await {
            Err(e) if !required => Ok(Some(e.one_line())),
            other => other.map(|()| None),
        }
    }

    pub(super) async fn enable(&self) -> Result<Vec<String>> {
        let merged = self.merge(Which::Starting).await?;
        systemd::reload().await?;
        let mut notes = merged.problems;
        let then = self.lost.facts.as_ref().and_then(|f| f.inventory.units.clone()).unwrap_or_default();
        for unit in start::again(&self.waiting(), &then) {
            notes.extend(systemd::enable(&unit).await.err().map(|e| e.one_line()));
        }
        for unit in self.rounds().await?.off {
            systemd::disable(&unit).await?;
            notes.push(format!("{unit} was disabled, and is again"));
        }
        Ok(notes)
    }

    async fn rounds(&self) -> Result<start::Starts> {
        let config = self.context.config()?;
        let (named, late) = named(&config);
        let then = self.lost.facts.as_ref().and_then(|f| f.inventory.units.clone());
        let here = Inventory::take().await.units.unwrap_or_default();
        let before = self.about.enabled.iter().cloned().collect();
        // Without facts everything that the plans name is taken to have run.
        Ok(start::rounds(&then.unwrap_or_default(), &here, &before, &named, &late))
    }

    async fn start_all(&self, units: &[String]) -> Result<Vec<String>> {
        let (named, _) = named(&self.context.config()?);
        let mut notes = Vec::new();
        for unit in units {
            notes.extend(self.start_unit(unit, named.contains(unit)).await?);
        }
        tokio::time::sleep(HOLDS).await;
        for unit in units {
            let now = systemd::look(unit).await?;
            let gone = now.load == "loaded" && (now.active == "failed" || now.is_looping());
            if gone && named.contains(unit) {
                return Err(Error::new(Kind::Restore, format!("unit {unit} has started and does not run"))
                    .because(now.state())
                    .hint(format!("`journalctl -u {unit}` says why.")));
            }
            if gone {
                notes.push(format!("unit {unit} has started and does not run: {}", now.state()));
            }
        }
        notes.dedup();
        Ok(notes)
    }

    pub(super) async fn start(&self) -> Result<Vec<String>> {
        let units = match self.about.exercise {
            true => self.about.start.iter().filter(|s| !s.starts_with("container:")).cloned().collect(),
            false => self.rounds().await?.first,
        };
        let mut notes = self.start_containers().await?;
        notes.extend(self.start_all(&units).await?);
        Ok(notes)
    }

    pub(super) async fn rest(&self) -> Result<Vec<String>> {
        match self.about.exercise {
            true => Ok(Vec::new()),
            false => self.start_all(&self.rounds().await?.late).await,
        }
    }

    pub(super) async fn claim(&self) -> Result<Vec<String>> {
        let machines: BTreeSet<String> = self.lost.backups.iter().map(|m| m.machine.clone()).collect();
        let note = format!("recovery {}", self.about.id);
        let claim = claims::take(self.catalog.vault(), &self.machine, machines, &note).await?;
        Ok(vec![format!("this machine is {} now (generation {})", self.about.host, claim.generation)])
    }

    pub(super) async fn timers(&self) -> Result<Vec<String>> {
        if self.about.phases.contains(&Phase::Fetch) {
            self.merge(Which::Jobs).await?;
            systemd::reload().await?;
        }
        let units = self.lost.facts.as_ref().and_then(|f| f.inventory.units.as_ref());
        let own = |unit: &&str| {
            unit.starts_with("backstay-")
                && !unit.contains("@.")
                && (unit.ends_with(".timer") || *unit == "backstay-serve.service")
        };
        let mut wanted: Vec<String> = units.iter().flat_map(|u| u.enabled().filter(own)).map(str::to_owned).collect();
        // Of a template that is enabled for a plan, systemd lists the template.
        let of_plans = |verb: &str, job: fn(Name) -> Job| systemd_timer::enabled_plans(verb).into_iter().map(job);
        let jobs = of_plans("backup", Job::Backup).chain(of_plans("drill", Job::Drill));
        wanted.extend(jobs.map(|job| job.timer()));
        wanted.sort();
        wanted.dedup();
        let mut notes = Vec::new();
        for unit in &wanted {
            notes.extend(self.start_unit(unit, false).await?);
        }
        let plans = systemd_timer::enabled_plans("backup");
        for plan in &plans {
            let job = Job::Backup(plan.clone());
            let schedule = systemd_timer::schedule(&job).await?;
            match schedule.next {
                Some(at) => notes.push(format!("next backup of plan {plan}: {} ({})", time::utc(at), time::local(at))),
                None => notes.push(format!("the timer of plan {plan} is not set: install the package of Backstay, then `backstay timer enable {plan}`")),
            }
        }
        if plans.is_empty() {
            notes.push("no timer backs this host up: `backstay timer enable PLAN --at 02:00`".to_owned());
        }
        Ok(notes)
    }
}
