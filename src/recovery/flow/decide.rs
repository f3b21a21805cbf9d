//! From a plan's section to what is done around one restore.

use super::{Flow, nginx, spare};
use crate::config::flush::Flush;
use crate::config::{Config, Plan, RestorePlan, SourceConfig};
use crate::error::{Kind, Result};
use crate::host::systemd;
use crate::model::Name;
use crate::recovery::application::Application;
use crate::recovery::maintenance::Maintenance;
use crate::recovery::outline::Told;
use crate::recovery::reload;
use crate::recovery::resource::Findings;
use crate::recovery::volume::in_use;
use crate::sources::command::Target;
use std::path::PathBuf;

/// What takes an interrupted restore up when the machine boots.
const BOOT: &str = "backstay-resume.service";

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
/// When Docker does not say which container serves the plan's data, or shows the page.
pub async fn flow(config: &Config, plan: &Plan, restored: &Restored<'_>) -> Result<Flow> {
    let section: &RestorePlan = &plan.restore;
    let (stop, start_after_checks) = section.stopped_for(restored.sources);
    let stops = !stop.is_empty() || !start_after_checks.is_empty();
    // Where nothing is stopped, nothing need be hidden.
    let maintenance = section.maintenance.clone().filter(|_| stops || section.stop_for.is_empty());
    let flush = flushes(config, section, restored.sources);
    let application = match stops {
        true => {
            let needed: Vec<Name> = plan.sources.iter().chain(flush.iter().map(|f| &f.source)).cloned().collect();
            let mut spare = spare::of(config, &needed).await?;
            if let Some(settings) = &maintenance {
                spare.extend(spare::of_nginx(settings, &config.state_dir).await?);
            }
            Some(Application { stop, start_after_checks, spare })
        }
        false => None,
    };
    let hooks = |hooks: &[crate::config::checks::Hook]| match restored.rollback {
        true => Vec::new(),
        false => hooks.iter().map(|h| h.step()).collect(),
    };
    Ok(Flow {
        maintenance,
        application,
        reload: reload::of_paths(restored.paths),
        nginx: nginx::that_sees(config, restored.paths).await?,
        checks: section.checks.iter().map(|c| c.name.clone()).collect(),
        after_stage: hooks(&section.after_stage),
        after_swap: hooks(&section.after_swap),
        flush: flush.iter().map(|f| f.step()).collect(),
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

/// What is emptied: what was made of a database does not fit it any more when that goes back. A server that goes back
/// itself does.
fn flushes<'a>(config: &Config, section: &'a RestorePlan, sources: &[Name]) -> Vec<&'a Flush> {
    match sources.iter().any(|source| is_database(config, source)) {
        true => section.flush.iter().filter(|f| !sources.contains(&f.source)).collect(),
        false => Vec::new(),
    }
}

/// Servers of the plan that would fit the database no more, and that nobody has said anything about.
fn unmentioned<'a>(config: &Config, plan: &'a Plan, sources: &[Name]) -> Vec<&'a Name> {
    let is_redis = |source: &Name| matches!(config.sources.get(source), Some(SourceConfig::Redis(_)));
    let flushed = |source: &Name| plan.restore.flush.iter().any(|f| f.source == *source);
    match sources.iter().any(|source| is_database(config, source)) {
        true => plan.sources.iter().filter(|s| is_redis(s) && !sources.contains(s) && !flushed(s)).collect(),
        false => Vec::new(),
    }
}

fn is_database(config: &Config, source: &Name) -> bool {
    match config.sources.get(source) {
        Some(SourceConfig::Postgres(_)) => true,
        Some(SourceConfig::Command(command)) => matches!(command.back.into, Target::Database(_)),
        _ => false,
    }
}

impl Flow {
    /// Looks at everything that the flow will do, and takes from the findings those users that are stopped.
    ///
    /// # Errors
    /// [`Kind::Refused`] for whatever would make a step fail, and for users that would go on with what was there before.
    pub async fn preflight(
        &self,
        config: &Config,
        plan: &Plan,
        restored: &Restored<'_>,
        found: &mut [(String, Findings)],
    ) -> Result<Told> {
        let section = &plan.restore;
        let mut told = Told::default();
        for source in unmentioned(config, plan, restored.sources) {
            told.warnings.push(format!(
                "redis {source} does not go back with the database: what it holds may be of data that is not live any more. `flush` in the plan's [restore] section empties it"
            ));
        }
        if let Some(application) = &self.application {
            let snapshot = application.preflight().await?;
            for (_, findings) in found.iter_mut() {
                findings.users.retain(|user| !snapshot.covers(user));
                findings.lingering.retain(|user| !snapshot.covers(user));
            }
            told.stops = snapshot.lines();
            told.goes_on = snapshot.spared.iter().cloned().collect();
            // Without systemd somebody else has to see to that.
            if systemd::look(BOOT).await.is_ok_and(|unit| unit.enabled != "enabled") {
                told.warnings.push(format!(
                    "{BOOT} is not enabled: after a power cut the application stays down until somebody runs `backstay resume`"
                ));
            }
            told.after_checks = application.start_after_checks.iter().map(ToString::to_string).collect();
        }
        if let Some(settings) = &self.maintenance {
            let maintenance = Maintenance::new(settings.clone(), &config.state_dir);
            let warnings = maintenance.preflight(restored.paths).await?;
            told.maintenance = match settings.names.is_empty() {
                true => vec!["every server name of nginx".to_owned()],
                false => settings.names.clone(),
            };
            told.warnings.extend(warnings);
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
        for flush in section.flush.iter().filter(|f| self.flush.contains(&f.step())) {
            told.flushes.push(flush.preflight().await?);
        }
        Ok(told)
    }
}

/// The refusal for the first thing that somebody uses who is not stopped.
///
/// # Errors
/// [`Kind::Refused`].
pub fn refuse_users(found: &[(String, Findings)], told: &Told) -> Result<()> {
    let Some((label, f)) = found.iter().find(|(_, f)| !f.users.is_empty()) else { return Ok(()) };
    let mut error = in_use(label, &f.users).kind(Kind::Refused);
    let hint = match f.users.iter().find(|user| told.goes_on.contains(user)) {
        Some(user) => format!(
            "`stop` names {}, which goes on all the same since it shows the page or serves data of the plan. When it is nginx: `maintenance = false` in the plan's [restore] section lets it stop like the others, and clients get no page.",
            user.replacen(':', " ", 1)
        ),
        None => {
            format!("{} Or name them in `stop` of the plan's [restore] section.", error.hint.take().unwrap_or_default())
        }
    };
    error.hint = Some(hint);
    Err(error)
}
