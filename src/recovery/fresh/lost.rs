//! A lost host, as its backups tell.

use super::journal::Begin;
use super::look::Will;
use super::phase::Has;
use super::room::{self, Need, Places};
use super::ways::{self, Way};
use crate::error::{Error, Kind, Result};
use crate::model::{BackupId, Name, time};
use crate::recovery::select;
use crate::repository::catalog::Catalog;
use crate::repository::manifest::{Artifact, Manifest, SourceRecord};
use crate::repository::marks;
use crate::sources::host::HostFacts;
use jiff::Timestamp;
use std::path::{Path, PathBuf};

/// What the name of a plan of safety backups ends with: what is in them was to be got rid of.
const SAFETY: &str = "-safety";

/// The host, with one backup of each plan.
pub struct Lost {
    /// The backups that are restored.
    pub backups: Vec<Manifest>,
    /// What the machine was, of the newest backup that tells it.
    pub facts: Option<HostFacts>,
    /// What the operator should know of the backups.
    pub notes: Vec<String>,
    /// Which backup and source the facts are of.
    machine: Option<(usize, Name)>,
}

/// The paths that a source was configured with.
pub fn paths_of(record: &SourceRecord) -> Vec<PathBuf> {
    record.facts.get("paths").and_then(|p| serde_json::from_value(p.clone()).ok()).unwrap_or_default()
}

/// Whether something of a backup can be restored.
fn has_something(m: &Manifest) -> bool {
    m.whole_plan && m.sources.iter().any(|s| s.kind != "config" && s.is_complete())
}

/// What is missing of a backup that is restored all the same.
fn is_partly(m: &Manifest) -> Option<String> {
    let failed: Vec<&str> = m.sources.iter().filter(|s| !s.is_complete()).map(|s| s.name.as_str()).collect();
    (!failed.is_empty())
        .then(|| format!("of backup {} of plan {} these sources are missing: {}", m.id, m.plan, failed.join(", ")))
}

/// The newest complete backup of a plan, or else the newest of which anything is complete; `ids` come newest first. Those
/// that cannot be read are passed over, and told.
async fn newest(
    catalog: &Catalog,
    plan: &Name,
    ids: &[&BackupId],
    at: Option<Timestamp>,
    notes: &mut Vec<String>,
) -> Result<Option<Manifest>> {
    let mut some = None;
    for id in ids.iter().copied() {
        let m = match catalog.manifest(plan, id).await {
            Err(e) if e.kind == Kind::Damaged => {
                notes.push(format!(
                    "backup {id} of plan {plan} cannot be read, and the one before it is taken: {}",
                    e.one_line()
                ));
                continue;
            }
            other => other?,
        };
        if at.is_some_and(|at| m.started > at) {
            continue;
        }
        if m.is_complete() {
            return Ok(Some(m));
        }
        if some.is_none() && has_something(&m) {
            some = Some(m);
        }
    }
    Ok(some)
}

/// Backups that were there and that nobody forgot: what is newest here need not be what was newest.
async fn gaps(catalog: &Catalog) -> Result<Vec<String>> {
    let mut links = Vec::new();
    catalog
        .visit(None, |plan, id, manifest| {
            // One that cannot be read is there.
            match manifest {
                Ok(m) => links.extend(m.links()),
                Err(_) => links.push((plan, id, None)),
            }
            Ok(())
        })
        .await?;
    let missing = marks::missing_links(catalog.vault(), &links).await?;
    let told = |(plan, id): &(Name, BackupId)| {
        format!(
            "backup {id} of plan {plan} is named by a later one and is missing, and nobody forgot it: the store may show an old state"
        )
    };
    Ok(missing.iter().map(told).collect())
}

impl Lost {
    /// Looks what there is: of each plan, or of those that are named, the newest complete backup, begun by `at`. Of a plan
    /// without a complete one, the newest of which anything is complete. A backup that cannot be read is passed over, and
    /// one that is chosen by its id, or the beginning of it, is taken whatever it is.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when there is no backup.
    pub async fn find(
        catalog: &Catalog,
        only: &[Name],
        at: Option<Timestamp>,
        chosen: &[(Name, String)],
    ) -> Result<Self> {
        let ids = catalog.ids(None).await?;
        let mut plans: Vec<Name> = ids.iter().map(|(plan, _)| plan.clone()).collect();
        plans.sort();
        plans.dedup();
        if let Some(unknown) = only.iter().chain(chosen.iter().map(|(plan, _)| plan)).find(|n| !plans.contains(n)) {
            let names: Vec<&str> = plans.iter().map(Name::as_str).collect();
            return Err(Error::new(Kind::NotFound, format!("plan {unknown} has no backup"))
                .hint(format!("There are: {}.", names.join(", "))));
        }
        plans.retain(|p| if only.is_empty() { !p.as_str().ends_with(SAFETY) } else { only.contains(p) });
        if let Some((plan, _)) = chosen.iter().find(|(plan, _)| !plans.contains(plan)) {
            return Err(Error::new(
                Kind::Usage,
                format!("a backup of plan {plan} is chosen, and the plan is left out"),
            )
            .hint("Name it with --plan too."));
        }
        let (mut backups, mut notes) = (Vec::new(), Vec::new());
        for plan in plans {
            if let Some((_, which)) = chosen.iter().find(|(p, _)| *p == plan) {
                let m = select::backup(catalog, &plan, which, at, &[]).await?;
                notes.extend(is_partly(&m));
                backups.push(m);
                continue;
            }
            let of_plan: Vec<&BackupId> = ids.iter().rev().filter(|(p, _)| *p == plan).map(|(_, id)| id).collect();
            match newest(catalog, &plan, &of_plan, at, &mut notes).await? {
                Some(m) if m.is_complete() => backups.push(m),
                Some(m) => {
                    notes.push(format!("no backup of plan {plan} is complete"));
                    notes.extend(is_partly(&m));
                    backups.push(m);
                }
                None => {
                    let by = at.map(|at| format!(" that was begun by {}", time::utc(at))).unwrap_or_default();
                    notes.push(format!("plan {plan} is left out: it has no backup of anything{by}"));
                }
            }
        }
        if backups.is_empty() {
            return Err(Error::new(
                Kind::NotFound,
                format!("host {} has no backup that could be restored", catalog.vault().host()),
            )
            .because(notes.join("\n"))
            .hint("`backstay list` with the same options shows what there is."));
        }
        notes.extend(gaps(catalog).await?);
        Ok(Lost { notes, ..Self::of(backups) })
    }

    /// The same backups once more.
    ///
    /// # Errors
    /// When one of them is not there any more.
    pub async fn again(catalog: &Catalog, begin: &Begin) -> Result<Self> {
        let mut backups = Vec::new();
        for (plan, id) in &begin.backups {
            let manifest = catalog.manifest(plan, id).await;
            backups.push(manifest.map_err(|e| {
                e.hint(format!("`--backup {plan}=ID` takes another one; `backstay list` shows what there is."))
            })?);
        }
        Ok(Lost { notes: begin.notes.clone(), ..Self::of(backups) })
    }

    fn of(backups: Vec<Manifest>) -> Self {
        let tells = |(n, m): (usize, &Manifest)| {
            let record = m.sources.iter().find(|s| s.kind == "host" && s.is_complete())?;
            Some((m.store_time, n, record.name.clone(), HostFacts::of(&record.facts)?))
        };
        let newest = backups.iter().enumerate().filter_map(tells).max_by_key(|(at, ..)| *at);
        let (facts, machine) = newest.map_or((None, None), |(_, n, name, facts)| (Some(facts), Some((n, name))));
        Lost { backups, facts, notes: Vec::new(), machine }
    }

    /// The source with the files of the machine, and its backup.
    pub fn machine(&self) -> Option<(&Manifest, &SourceRecord)> {
        let (n, name) = self.machine.as_ref()?;
        let manifest = self.backups.get(*n)?;
        Some((manifest, manifest.source(name)?))
    }

    /// The newest backup of all.
    pub fn newest(&self) -> Option<&Manifest> {
        self.backups.iter().max_by_key(|m| m.store_time)
    }

    /// What the machine called itself; empty when that is not known.
    pub fn hostname(&self) -> &str {
        self.facts.as_ref().map_or("", |f| f.inventory.system.hostname.as_str())
    }

    /// The configuration, as text, of the newest backup that has it.
    ///
    /// # Errors
    /// [`Kind::NotFound`] when none has it.
    pub fn configuration(&self) -> Result<&Artifact> {
        let with = self.backups.iter().filter_map(|m| {
            let record = m.sources.iter().find(|s| s.kind == "config" && s.is_complete())?;
            Some((m.store_time, record.artifacts.first()?))
        });
        with.max_by_key(|(at, _)| *at).map(|(_, artifact)| artifact).ok_or_else(|| {
            Error::new(Kind::NotFound, "no backup holds the configuration of the host")
                .hint("Write /etc/backstay/backstay.toml by hand, and restore plan by plan with `backstay restore`.")
        })
    }

    /// Sources that can be restored, of all backups.
    pub fn records(&self) -> impl Iterator<Item = &SourceRecord> {
        self.backups.iter().flat_map(|m| &m.sources).filter(|s| s.kind != "config" && s.is_complete())
    }

    fn any(&self, kinds: &[&str]) -> bool {
        self.records().any(|s| kinds.contains(&s.kind.as_str()))
    }

    /// What decides which phases there are.
    pub fn has(&self, install: bool, exercise: bool) -> Has {
        let kinds = |m: &Manifest| m.sources.iter().filter(|s| s.is_complete()).map(|s| s.kind.clone()).collect();
        let docker = self.facts.as_ref().and_then(|f| f.docker.as_ref());
        Has {
            machine: self.machine.is_some(),
            files: self.machine.is_some() || !self.shared().is_empty(),
            install: install && self.facts.as_ref().is_some_and(|f| f.inventory.packages.is_some()),
            clusters: self.facts.as_ref().is_some_and(|f| !f.inventory.postgres_clusters.is_empty()),
            containers: docker.is_some_and(|d| !d.projects.is_empty() || !d.containers.is_empty()),
            plans: self.backups.iter().map(|m| (m.plan.clone(), kinds(m))).collect(),
            exercise,
        }
    }

    /// Sources of files with those of their paths that lie in directories of the system, and that the source of the machine
    /// does not hold anyway.
    pub fn shared(&self) -> Vec<(&SourceRecord, Vec<PathBuf>)> {
        let held = self.machine().map(|(_, record)| paths_of(record)).unwrap_or_default();
        let of = |record| {
            let mut paths = ways::of(&paths_of(record), Way::Merge);
            paths.retain(|p| !held.iter().any(|h| p.starts_with(h)));
            (record, paths)
        };
        let all = self.records().filter(|s| s.kind == "files").map(of);
        all.filter(|(_, paths)| !paths.is_empty()).collect()
    }

    /// What would meet something that is here already.
    pub fn will(&self) -> Will {
        let paths = |s: &SourceRecord| ways::of(&paths_of(s), Way::Exchange);
        let docker = self.facts.as_ref().is_some_and(|f| f.docker.is_some());
        Will {
            paths: self.records().filter(|s| s.kind == "files").flat_map(paths).collect(),
            postgres: self.any(&["postgres"])
                || self.facts.as_ref().is_some_and(|f| !f.inventory.postgres_clusters.is_empty()),
            redis: self.any(&["redis"]),
            docker: docker || self.any(&["volume", "image"]),
        }
    }

    /// The room that everything takes.
    pub fn needs(&self, state_dir: &Path) -> Vec<Need> {
        let clusters = self.facts.iter().flat_map(|f| &f.inventory.postgres_clusters);
        let mut root = self.facts.iter().filter_map(|f| f.docker.as_ref()).map(|d| PathBuf::from(&d.root_dir));
        let places = Places {
            postgres: clusters.map(|c| PathBuf::from(&c.data_directory)).next().unwrap_or("/var/lib/postgresql".into()),
            redis: "/var/lib/redis".into(),
            docker: root.find(|r| r.is_absolute()).unwrap_or("/var/lib/docker".into()),
            state: state_dir.to_owned(),
        };
        self.records().flat_map(|s| room::needs(s, &places)).collect()
    }

    /// How old the newest data is, in words.
    pub fn last_seen(&self) -> String {
        self.newest().map_or_else(String::new, |m| format!("{} ({})", time::utc(m.started), time::local(m.started)))
    }
}
