//! The repository as it was last seen. A manifest never changes, so one that was read once is remembered in a few lines;
//! a look costs a listing and what is new.

use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::io::durable;
use crate::model::{BackupId, Name, PackKey};
use crate::repository::access;
use crate::repository::catalog::Catalog;
use crate::repository::damage;
use crate::repository::drills::{Drills, Outcome};
use crate::repository::keyring;
use crate::repository::manifest::{Link, Manifest};
use crate::repository::marks;
use crate::repository::newest;
use crate::repository::vault::Vault;
use crate::storage::open::open;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Backups before the newest that say what is usual.
const USUAL_OF: usize = 7;

/// A vault as it was seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// Whose.
    pub host: Name,
    /// The vault, so that a repository that was exchanged is not taken for the old one.
    pub vault: String,
    /// When, by this host's clock.
    pub at: Timestamp,
    /// Its backups, oldest first.
    pub backups: Vec<Backup>,
    /// Backups that are listed and cannot be read, with their plans.
    pub unreadable: Vec<(Name, BackupId)>,
    /// Backups that a later one names, or that this host committed last, that are gone, and that nobody forgot.
    pub missing: u64,
    /// Packs and segments that are marked as damaged, that nothing replaces yet, and that a backup needs.
    pub damaged: u64,
    /// Backups that cannot be restored in full for that reason.
    #[serde(default)]
    pub incomplete: Vec<(Name, BackupId)>,
    /// All that is marked and not replaced, needed or not.
    #[serde(default)]
    pub lost: Vec<PackKey>,
    /// Who can open it.
    pub keys: Vec<Key>,
    /// The last drill that showed something about each plan, and the last that proved it, wherever they were done.
    #[serde(default)]
    pub drills: Vec<Drill>,
}

/// A drill that the repository records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drill {
    /// Plan.
    pub plan: Name,
    /// The backup.
    pub backup: BackupId,
    /// When it was recorded, by the store's clock.
    pub at: Timestamp,
    /// How it ended.
    pub outcome: Outcome,
    /// Where it was done.
    pub machine: String,
    /// Seconds that it took.
    pub seconds: f64,
}

/// A backup in a few lines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Backup {
    /// Plan.
    pub plan: Name,
    /// Id.
    pub id: BackupId,
    /// When it was begun, by the store's clock.
    pub at: Timestamp,
    /// Seconds that it took.
    pub seconds: f64,
    /// Whether it covered the whole plan, and every source is complete.
    pub complete: bool,
    /// The newest backup of the plan that it saw.
    pub predecessor: Option<BackupId>,
    /// What its host had committed last and did not see.
    #[serde(default)]
    pub unseen: Option<BackupId>,
    /// Bytes of all data.
    pub bytes: u64,
    /// Bytes that it stored.
    pub shipped: u64,
    /// Its sources.
    pub sources: Vec<Source>,
}

/// A source of a backup.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// Name.
    pub name: Name,
    /// Kind.
    pub kind: String,
    /// Whether it can be restored.
    pub complete: bool,
    /// Bytes of its data.
    pub bytes: u64,
}

/// A key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Key {
    /// Its name.
    pub name: Name,
    /// `host` or `recovery`.
    pub role: String,
    /// When it was last proven.
    pub proven: Option<Timestamp>,
}

impl From<Manifest> for Backup {
    fn from(m: Manifest) -> Self {
        let complete = m.is_complete();
        let sources = m.sources.iter().filter(|s| s.kind != "config");
        Backup {
            complete,
            at: m.store_time,
            seconds: m.finished.duration_since(m.started).as_secs_f64().max(0.0),
            predecessor: m.predecessor,
            unseen: m.unseen,
            bytes: m.stats.bytes,
            shipped: m.stats.shipped,
            sources: sources
                .map(|s| Source {
                    name: s.name.clone(),
                    kind: s.kind.clone(),
                    complete: s.is_complete(),
                    bytes: s.bytes(),
                })
                .collect(),
            plan: m.plan,
            id: m.id,
        }
    }
}

/// The last drill of a plan that showed something about a whole backup, behind the last that proved one.
fn last_of(plan: &Name, drills: &Drills) -> Vec<Drill> {
    let all = drills.of_plan(plan);
    let last = |wanted: &[Outcome]| all.iter().rposition(|(_, d)| wanted.contains(&d.figures.outcome));
    let mut found: Vec<usize> =
        [last(&[Outcome::Proven]), last(&[Outcome::Proven, Outcome::Failed])].into_iter().flatten().collect();
    found.dedup();
    let drill = |n: usize| {
        let (id, d) = all[n];
        Drill {
            plan: plan.clone(),
            backup: id.clone(),
            at: d.at,
            outcome: d.figures.outcome,
            machine: d.figures.machine.clone(),
            seconds: d.figures.seconds,
        }
    };
    found.into_iter().map(drill).collect()
}

impl View {
    fn file(config: &Config, host: &Name) -> PathBuf {
        config.state_dir.join("view").join(format!("{host}.json"))
    }

    /// What was seen last, if anything was.
    pub fn remembered(config: &Config) -> Option<View> {
        Self::remembered_of(config, &config.host)
    }

    /// The same of another host of the repository.
    pub fn remembered_of(config: &Config, host: &Name) -> Option<View> {
        serde_json::from_slice(&std::fs::read(Self::file(config, host)).ok()?).ok()
    }

    /// Looks at the configured repository, within this time, and remembers what is there.
    ///
    /// # Errors
    /// When it cannot be reached or read in time; what was remembered stays.
    pub async fn look(config: &Config, limit: Duration) -> Result<View> {
        Self::look_at(config, &config.host, limit).await
    }

    /// The same at another host of the repository, whose vault this machine has opened once.
    ///
    /// # Errors
    /// As [`View::look`], and when the vault was never opened here.
    pub async fn look_at(config: &Config, host: &Name, limit: Duration) -> Result<View> {
        let look = async {
            let remember = config.state_dir.join("stores.json");
            let store = open(&config.storage, Some(&remember)).await?;
            let vault = access::open_on_host(store, host, &config.trust_file_of(host), None).await.map_err(|e| {
                match host == &config.host {
                    true => e,
                    false => {
                        e.do_instead(format!("Once on this machine: backstay --host {host} --identity FILE list."))
                    }
                }
            })?;
            Self::of(Arc::new(vault), config).await
        };
        let seen = tokio::time::timeout(limit, look).await.map_err(|_| {
            Error::new(Kind::Storage, "the repository could not be looked at in time")
                .at(&config.storage.url)
                .hint("Backups may still work; metrics show what was there when it was last seen.")
        })??;
        let text = serde_json::to_vec(&seen)
            .map_err(|e| Error::new(Kind::Internal, "what was seen of the repository cannot be kept").because(e))?;
        let file = Self::file(config, host);
        durable::make_folder(file.parent().unwrap_or(&config.state_dir), 0o700)
            .and_then(|()| durable::replace(&file, &text, 0o600))
            .map_err(|e| Error::io("what was seen of the repository cannot be kept", &file, e))?;
        Ok(seen)
    }

    async fn of(vault: Arc<Vault>, config: &Config) -> Result<View> {
        let id = vault.header.vault.to_string();
        let old = Self::remembered_of(config, vault.host()).filter(|old| old.vault == id);
        let known: HashMap<(Name, BackupId), Backup> =
            old.iter().flat_map(|old| &old.backups).map(|b| ((b.plan.clone(), b.id.clone()), b.clone())).collect();
        let cache = config.state_dir.join("cache").join(&id);
        let catalog = Catalog::new(vault.clone(), Some(cache));
        let (mut backups, mut unreadable) = (Vec::new(), Vec::new());
        for (plan, id) in catalog.ids(None).await? {
            if let Some(backup) = known.get(&(plan.clone(), id.clone())) {
                backups.push(backup.clone());
                continue;
            }
            match catalog.manifest(&plan, &id).await {
                Ok(manifest) => backups.push(Backup::from(manifest)),
                // Forgotten since it was listed.
                Err(e) if e.kind == Kind::NotFound => {}
                Err(e) if matches!(e.kind, Kind::Damaged | Kind::Key) => unreadable.push((plan, id)),
                Err(e) => return Err(e),
            }
        }
        backups.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
        // One that cannot be read is there all the same.
        let link = |b: &Backup, before: &Option<BackupId>| (b.plan.clone(), b.id.clone(), before.clone());
        let own = backups.iter().flat_map(|b| [link(b, &b.predecessor), link(b, &b.unseen)]);
        let links: Vec<Link> =
            own.chain(unreadable.iter().map(|(plan, id)| (plan.clone(), id.clone(), None))).collect();
        let proofs = marks::proofs(&vault).await?;
        let key = |key: keyring::Key| {
            let proven = proofs.get(key.label.name.as_str()).copied();
            Key { name: key.label.name, role: key.label.role, proven }
        };
        let mut missing: HashSet<_> = marks::missing_links(&vault, &links).await?.into_iter().collect();
        if *vault.host() == config.host {
            missing.extend(newest::hidden(&catalog, &config.state_dir, None).await?);
        }
        let lost = damage::unhealed(&vault).await?;
        let mut marked: Vec<PackKey> = lost.iter().copied().collect();
        marked.sort();
        // Who needs them is asked for once and not at every look: every segment is read for it.
        let same = |old: &View| old.lost == marked && old.backups == backups && old.unreadable == unreadable;
        let (damaged, incomplete) = match old.filter(same) {
            Some(old) => (old.damaged, old.incomplete),
            None => {
                let lacking = damage::lacking(&catalog, None, &lost).await?;
                (lacking.objects.len() as u64, lacking.backups().into_iter().collect())
            }
        };
        let drills = Drills::read(&vault, None).await?;
        let drills = drills.plans().into_iter().flat_map(|plan| last_of(plan, &drills)).collect();
        Ok(View {
            drills,
            host: vault.host().clone(),
            vault: id,
            at: Timestamp::now(),
            missing: missing.len() as u64,
            damaged,
            incomplete,
            lost: marked,
            keys: keyring::list(&vault).await?.into_iter().map(key).collect(),
            backups,
            unreadable,
        })
    }

    /// The backups of a plan, oldest first.
    pub fn of_plan<'a>(&'a self, plan: &'a Name) -> impl DoubleEndedIterator<Item = &'a Backup> {
        self.backups.iter().filter(move |b| b.plan == *plan)
    }

    /// The newest complete backup of a plan.
    pub fn newest_complete<'a>(&'a self, plan: &'a Name) -> Option<&'a Backup> {
        self.of_plan(plan).rfind(|b| b.complete)
    }

    /// The last drill that the repository records for a plan.
    pub fn drill(&self, plan: &Name) -> Option<&Drill> {
        self.drills.iter().filter(|d| d.plan == *plan).max_by_key(|d| d.at)
    }

    /// When a drill last proved a plan, as the repository records it.
    pub fn proven(&self, plan: &Name) -> Option<Timestamp> {
        let proven = self.drills.iter().filter(|d| d.plan == *plan && d.outcome == Outcome::Proven);
        proven.map(|d| d.at).max()
    }

    /// The sizes of a source in the complete backups of a plan: the newest, and the median of those before.
    pub fn sizes<'a>(&'a self, plan: &'a Name, source: &Name) -> Option<(&'a Backup, u64, Option<u64>)> {
        let having = self.of_plan(plan).rev().filter_map(|b| {
            let source = b.sources.iter().find(|s| s.name == *source && s.complete)?;
            Some((b, source.bytes))
        });
        let newest: Vec<(&Backup, u64)> = having.take(USUAL_OF + 1).collect();
        let (first, before) = newest.split_first()?;
        let mut before: Vec<u64> = before.iter().map(|(_, bytes)| *bytes).collect();
        before.sort_unstable();
        Some((first.0, first.1, before.get(before.len() / 2).copied()))
    }
}
