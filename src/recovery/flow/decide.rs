//! From a plan's section to what is done around one restore.

use super::{Flow, spare};
use crate::config::{Config, Plan, RestorePlan};
use crate::error::{Error, Kind, Result};
use crate::model::Name;
use crate::recovery::application::Application;
use crate::recovery::maintenance::Maintenance;
use crate::recovery::outline::Told;
use crate::recovery::reload;
use crate::recovery::resource::Findings;
use crate::recovery::volume::in_use;
use std::path::PathBuf;

/// What is restored, as far as the flow depends on it.
pub struct Restored<'a> {
    /// Sources.
    pub sources: &'a [Name],
    /// Paths that are replaced.
    pub paths: &'a [PathBuf],
    /// Checks that fail undo nothing.
    pub keep_on_failed_check: bool,
    /// Another restore is taken back: hooks do not run again.
    pub rollback: bool,
}

/// Decides.
///
/// # Errors
/// When Docker does not say which container serves the plan's data.
pub async fn flow(config: &Config, plan: &Plan, restored: &Restored<'_>) -> Result<Flow> {
    let section: &RestorePlan = &plan.restore;
    let (stop, start_after_checks) = section.stopped_for(restored.sources);
    let stops = !stop.is_empty() || !start_after_checks.is_empty();
    let application = match stops {
        true => Some(Application { stop, start_after_checks, spare: spare::of(config, &plan.sources).await? }),
        false => None,
    };
    let hooks = |hooks: &[crate::config::checks::Hook]| match restored.rollback {
        true => Vec::new(),
        false => hooks.iter().map(|h| h.step()).collect(),
    };
    Ok(Flow {
        // Where nothing is stopped, nothing need be hidden.
        maintenance: section.maintenance.clone().filter(|_| stops || section.stop_for.is_empty()),
        application,
        reload: reload::of_paths(restored.paths),
        checks: section.checks.iter().map(|c| c.name.clone()).collect(),
        after_stage: hooks(&section.after_stage),
        after_swap: hooks(&section.after_swap),
        keep_on_failed_check: restored.keep_on_failed_check,
    })
}

/// What of it is about the data alone, for a machine on which nothing runs yet: nothing is stopped or started, no client
/// sees a page, and nobody is asked whether the application is well.
pub fn of_data(plan: &Plan) -> Flow {
    let section = &plan.restore;
    let steps = |hooks: &[crate::config::checks::Hook]| hooks.iter().map(|h| h.step()).collect();
    Flow { after_stage: steps(&section.after_stage), after_swap: steps(&section.after_swap), ..Flow::default() }
}

impl Flow {
    /// Looks at everything that the flow will do, and takes from the findings those users that are stopped.
    ///
    /// # Errors
    /// [`Kind::Refused`] for whatever would make a step fail, and for users that would go on with what was there before.
    pub async fn preflight(
        &self,
        config: &Config,
        section: &RestorePlan,
        paths: &[PathBuf],
        found: &mut [(String, Findings)],
    ) -> Result<Told> {
        let mut told = Told::default();
        if let Some(application) = &self.application {
            let snapshot = application.preflight().await?;
            for (_, findings) in found.iter_mut() {
                findings.users.retain(|user| !snapshot.covers(user));
                findings.lingering.retain(|user| !snapshot.covers(user));
            }
            told.stops = snapshot.lines();
            told.after_checks = application.start_after_checks.iter().map(ToString::to_string).collect();
        }
        if let Some(settings) = &self.maintenance {
            let maintenance = Maintenance::new(settings.clone(), &config.state_dir);
            let warnings = maintenance.preflight(paths).await?;
            told.maintenance = match settings.names.is_empty() {
                true => vec!["every server name of nginx".to_owned()],
                false => settings.names.clone(),
            };
            told.maintenance.extend(warnings);
        }
        for check in section.checks.iter().filter(|c| self.checks.contains(&c.name)) {
            check.preflight().await?;
            told.checks.push(check.name.clone());
        }
        for hook in section.after_stage.iter().chain(&section.after_swap) {
            if self.after_stage.contains(&hook.step()) || self.after_swap.contains(&hook.step()) {
                hook.preflight().await?;
                told.hooks.push(hook.step());
            }
        }
        Ok(told)
    }
}

/// The refusal for the first thing that somebody uses who is not stopped.
///
/// # Errors
/// [`Kind::Refused`].
pub fn refuse_users(found: &[(String, Findings)]) -> Result<()> {
    let used = found.iter().find(|(_, f)| !f.users.is_empty());
    match used {
        Some((label, f)) => {
            let Error { hint, .. } = in_use(label, &f.users);
            let all = format!("{} Or name them in `stop` of the plan's [restore] section.", hint.unwrap_or_default());
            Err(in_use(label, &f.users).hint(all).kind(Kind::Refused))
        }
        None => Ok(()),
    }
}
