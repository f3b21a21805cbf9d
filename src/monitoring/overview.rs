//! Everything that is known about a host without asking anybody else: cheap to gather, and never older than the files
//! that it is made of. Metrics, the page and the problems are made of this one value.

use super::view::View;
use crate::config::Config;
use crate::model::{BackupId, Name};
use crate::recovery::journal::{State, first_entry};
use crate::recovery::restore::journal_file;
use crate::recovery::rollback::{self, Past};
use crate::repository::drills::Outcome;
use crate::telemetry::monitor::Verb;
use crate::telemetry::report::Report;
use crate::telemetry::runs::store::Store;
use crate::telemetry::runs::{Ending, Record};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

/// A host.
#[derive(Clone, Debug)]
pub struct Overview {
    /// When this was put together.
    pub now: Timestamp,
    /// Its name.
    pub host: Name,
    /// Its plans.
    pub plans: BTreeMap<Name, Plan>,
    /// All run records, also those of vaults of other hosts that this machine works on.
    pub records: Vec<Record>,
    /// The repository as it was last seen.
    pub view: Option<View>,
    /// Other hosts that this one speaks for, as they were last seen.
    pub others: Vec<(Name, Option<View>)>,
    /// Restores that ended, oldest first.
    pub restores: Vec<Restored>,
    /// When the restore was begun that is still open, if one is.
    pub open_restore: Option<Timestamp>,
    /// What could not be read.
    pub troubles: Vec<String>,
}

/// A configured plan.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its sources with their kinds.
    pub sources: Vec<(Name, &'static str)>,
    /// How old its newest complete backup may be.
    pub max_age: Duration,
}

/// A restore that ended.
#[derive(Clone, Debug)]
pub struct Restored {
    /// Its id.
    pub id: BackupId,
    /// Plan.
    pub plan: Name,
    /// The backup that was restored.
    pub backup: BackupId,
    /// When it began.
    pub began: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// Why it was undone, if it was.
    pub failure: Option<String>,
    /// The restore that this one took back.
    pub rollback_of: Option<BackupId>,
    /// The restore that took this one back.
    pub rolled_back_by: Option<BackupId>,
    /// Whether what was there before is still kept.
    pub kept: bool,
}

/// A drill that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drilled {
    /// When.
    pub at: Timestamp,
    /// Whether it showed that the backup comes back.
    pub good: bool,
    /// The machine, when the repository says so.
    pub machine: Option<String>,
    /// The backup.
    pub backup: Option<BackupId>,
}

impl From<&Past> for Restored {
    fn from(past: &Past) -> Self {
        let about = past.journal().about();
        let committed = *past.journal().state() == State::Committed;
        let rollback_of = past.rollback_of();
        Restored {
            id: about.id.clone(),
            plan: about.plan.clone(),
            backup: about.backup.clone(),
            began: past.began(),
            ended: past.ended(),
            failure: (!committed).then(|| past.failure().unwrap_or("taken back").to_owned()),
            kept: committed && rollback_of.is_none() && !past.cleaned,
            rollback_of,
            rolled_back_by: past.rolled_back_by.clone(),
        }
    }
}

fn others(config: &Config) -> Vec<(Name, Option<View>)> {
    let others = config.serve.hosts.iter().filter(|host| **host != config.host);
    others.map(|host| (host.clone(), View::remembered_of(config, host))).collect()
}

impl Overview {
    /// All vaults that were seen.
    pub fn views(&self) -> impl Iterator<Item = &View> {
        self.view.iter().chain(self.others.iter().filter_map(|(_, view)| view.as_ref()))
    }

    /// Reads what this host keeps. What cannot be read is told and left out.
    pub fn gather(config: &Config) -> Self {
        let mut troubles = Vec::new();
        let restores = rollback::pasts(&config.state_dir).unwrap_or_else(|e| {
            troubles.push(e.one_line());
            Vec::new()
        });
        let plan = |p: &crate::config::Plan| Plan {
            sources: p.sources.iter().filter_map(|s| Some((s.clone(), config.sources.get(s)?.kind()))).collect(),
            max_age: p.max_age,
        };
        let journal = journal_file(&config.state_dir);
        // A journal whose beginning cannot be read is still a restore that is open.
        let open = || first_entry(&journal).map_or(Timestamp::UNIX_EPOCH, |e| e.at);
        Overview {
            now: Timestamp::now(),
            host: config.host.clone(),
            plans: config.plans.iter().map(|(name, p)| (name.clone(), plan(p))).collect(),
            records: Store::new(&config.state_dir).all(),
            view: View::remembered(config),
            others: others(config),
            restores: restores.iter().map(Restored::from).collect(),
            open_restore: journal.exists().then(open),
            troubles,
        }
    }

    /// This host's record of a command, on a plan or on the whole vault.
    pub fn record(&self, verb: Verb, plan: Option<&Name>) -> Option<&Record> {
        self.records.iter().find(|r| r.host == self.host && r.verb == verb && r.plan.as_ref() == plan)
    }

    /// The size of a host's vault: when it was measured, bytes, objects. It is known to those who list all of it; the
    /// latest of them is right.
    pub fn measured(&self, host: &Name) -> Option<(Timestamp, u64, u64)> {
        let of_vault = self.records.iter().filter(|r| r.host == *host && r.plan.is_none());
        let measured = of_vault.filter_map(|r| match &r.last_report {
            Some((at, Report::Prune(p))) => Some((*at, p.live_bytes, p.live_objects)),
            Some((at, Report::Check(c))) => Some((*at, c.pack_bytes, c.packs)),
            _ => None,
        });
        measured.max()
    }

    /// When it was last proven that all of a plan can be restored.
    pub fn proven(&self, host: &Name, plan: &Name) -> Option<Timestamp> {
        let of = |r: &&Record| r.host == *host && r.plan.as_ref() == Some(plan);
        let recorded = self.views().find(|v| v.host == *host).and_then(|v| v.proven(plan));
        self.records.iter().filter(of).filter_map(|r| r.last_proven).chain(recorded).max()
    }

    /// The last drill of a plan, here or elsewhere.
    pub fn drill(&self, plan: &Name) -> Option<Drilled> {
        let here = self.record(Verb::Drill, Some(plan)).and_then(|r| r.last.as_ref()).map(|last| Drilled {
            at: last.ended,
            good: last.ending == Ending::Success,
            machine: None,
            backup: last.backup.clone(),
        });
        let recorded = self.view.as_ref().filter(|v| v.host == self.host).and_then(|v| v.drill(plan));
        let elsewhere = recorded.map(|d| Drilled {
            at: d.at,
            good: d.outcome == Outcome::Proven,
            machine: Some(d.machine.clone()),
            backup: Some(d.backup.clone()),
        });
        // The repository records those of this host too; its own word is the fuller one.
        here.into_iter().chain(elsewhere).max_by_key(|d| d.at)
    }
}
