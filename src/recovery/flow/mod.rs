//! What is done around the exchange: hooks and checks on what is staged, maintenance, hold and stop; then reloading, hooks,
//! start, checks, and the end of maintenance.
//!
//! [`Flow`] is what was decided when the restore began; it is in the journal. The definitions of checks and hooks are not,
//! since they may hold secrets: they are taken from the configuration by their names. [`decide`] makes a flow out of a
//! plan, [`small`] are steps that are nobody else's.

pub mod decide;
mod small;
mod spare;

use super::application::Application;
use super::checks::context::{Context, Marks};
use super::checks::step as check_steps;
use super::engine::{Notes, START, Step};
use super::hooks::step::{MakeHookContext, of_hooks};
use super::hooks::{HookContext, Placed};
use super::maintenance::{Maintenance, steps as maintenance_steps};
use super::reload::{Reload, Reloading};
use super::resource::{Resource, StagedAs};
use super::steps::{Around, stage_name};
use crate::config::RestorePlan;
use crate::config::checks::{Check, Hook};
use crate::error::Result;
use crate::host::nginx::config::Settings;
use crate::model::BackupId;
use crate::telemetry::monitor::Monitor;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use small::{Gone, IncludeStaged, KeepGoing, MARKS, MarkLogs};
use std::path::PathBuf;
use std::sync::Arc;

/// What is done around the exchange; with the configuration, enough to make the steps anew after a crash.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Flow {
    /// What is stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application: Option<Application>,
    /// The nginx that shows a page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<Settings>,
    /// Who reads its files again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reload: Vec<Reload>,
    /// Names of the checks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<String>,
    /// Names of the steps of hooks on what is staged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after_stage: Vec<String>,
    /// The same on what is in place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after_swap: Vec<String>,
    /// Checks that fail are told, and undo nothing.
    #[serde(default)]
    pub keep_on_failed_check: bool,
}

/// What the steps are made with.
pub struct With<'a> {
    /// The plan's section, for the definitions.
    pub plan: Option<&'a RestorePlan>,
    /// The restore.
    pub id: &'a BackupId,
    /// The backup.
    pub backup: &'a BackupId,
    /// The state directory.
    pub state_dir: PathBuf,
    /// What is replaced.
    pub resources: &'a [Arc<dyn Resource>],
    /// Who listens.
    pub monitor: Arc<dyn Monitor>,
}

impl Flow {
    /// True when nothing is done.
    pub fn is_empty(&self) -> bool {
        *self == Flow::default()
    }

    /// The steps, in their places. A check or hook that is not configured any more has a step that cannot be done, but
    /// undone.
    pub fn around(&self, with: &With<'_>) -> Around {
        let (checks, gone_checks) = self.checks(with);
        let mut around = Around::default();
        let staged = staged_of(with.resources);
        around.staged.extend(self.hooks(with, &self.after_stage, with.plan.map(|p| &p.after_stage[..]), &staged));
        let on_staging = staged.clone();
        let context = Arc::new(move |notes: &Notes<'_>| Ok(Context::staged(on_staging(notes)?.databases)));
        around.staged.extend(check_steps::on_staging(&checks, &(context as _)));
        let maintenance = self.maintenance.as_ref().map(|s| Arc::new(Maintenance::new(s.clone(), &with.state_dir)));
        let mut off = None;
        if let Some(maintenance) = &maintenance {
            around.staged.push(Box::new(IncludeStaged { maintenance: maintenance.clone(), staged: staged.clone() }));
            let [on, drain, back] = maintenance_steps::of(maintenance, with.id.as_str(), &with.monitor);
            around.away.extend([on, drain]);
            off = Some(back);
        }
        if let Some(application) = &self.application {
            around.away.push(application.hold(with.monitor.clone()));
            around.away.push(application.stop(with.monitor.clone()));
        }
        around.away.extend(self.reloading(true));
        around.swapped.extend(self.reloading(false));
        around.swapped.extend(self.hooks(with, &self.after_swap, with.plan.map(|p| &p.after_swap[..]), &staged));
        if !checks.is_empty() {
            around.back.push(Box::new(MarkLogs { checks: checks.clone() }));
        }
        if let Some(application) = &self.application {
            around.back.push(application.start(with.monitor.clone()));
        }
        let live = Arc::new(|notes: &Notes<'_>| {
            let marks: Marks = small::parse(notes.of(MARKS)?)?;
            Ok(Context::live(notes.began(START).unwrap_or_else(Timestamp::now), marks))
        });
        let steps = check_steps::after_start(&checks, &(live as _));
        around.back.extend(steps.into_iter().map(|step| match self.keep_on_failed_check {
            true => Box::new(KeepGoing { step, monitor: with.monitor.clone() }) as Box<dyn Step>,
            false => step,
        }));
        around.back.extend(gone_checks);
        if let Some(application) = self.application.as_ref().filter(|a| !a.start_after_checks.is_empty()) {
            around.back.push(application.start_after_checks(with.monitor.clone()));
        }
        around.back.extend(off);
        around
    }

    fn reloading(&self, on_the_way_back: bool) -> Option<Box<dyn Step>> {
        let step = Reloading { what: self.reload.clone(), on_the_way_back };
        (!self.reload.is_empty()).then(|| Box::new(step) as Box<dyn Step>)
    }

    fn checks(&self, with: &With<'_>) -> (Vec<Check>, Vec<Box<dyn Step>>) {
        let (mut found, mut gone) = (Vec::new(), Vec::new());
        for name in &self.checks {
            match with.plan.and_then(|p| p.checks.iter().find(|c| c.name == *name)) {
                Some(check) => found.push(check.clone()),
                None => gone.push(Box::new(Gone(format!("check {name}"))) as Box<dyn Step>),
            }
        }
        (found, gone)
    }

    fn hooks(
        &self,
        with: &With<'_>,
        names: &[String],
        defined: Option<&[Hook]>,
        staged: &FindStaged,
    ) -> Vec<Box<dyn Step>> {
        let context = hook_context(with, staged.clone());
        let step = |name: &String| match defined.and_then(|hooks| hooks.iter().find(|h| h.step() == *name)) {
            Some(hook) => of_hooks(std::slice::from_ref(hook), &context),
            None => vec![Box::new(Gone(name.clone())) as Box<dyn Step>],
        };
        names.iter().flat_map(step).collect()
    }
}

/// Finds where everything is staged, out of the notes of the steps that staged it.
type FindStaged = Arc<dyn Fn(&Notes<'_>) -> Result<StagedAs> + Send + Sync>;

fn staged_of(resources: &[Arc<dyn Resource>]) -> FindStaged {
    let resources = resources.to_vec();
    Arc::new(move |notes: &Notes<'_>| {
        let mut all = StagedAs::default();
        for resource in &resources {
            let one = resource.staged_as(notes.of(&stage_name(&**resource))?)?;
            all.databases.extend(one.databases);
            all.paths.extend(one.paths);
        }
        Ok(all)
    })
}

fn hook_context(with: &With<'_>, staged: FindStaged) -> MakeHookContext {
    let (backup, restore, state_dir) = (with.backup.to_string(), with.id.to_string(), with.state_dir.clone());
    Arc::new(move |notes: &Notes<'_>| {
        let staged = staged(notes)?;
        Ok(HookContext {
            backup: backup.clone(),
            restore: restore.clone(),
            state_dir: state_dir.clone(),
            databases: staged.databases,
            paths: staged.paths.into_iter().map(|(live, staging)| Placed { live, staging }).collect(),
        })
    })
}
