//! The checks of the plans; in an exercise those that this machine alone can answer.

use super::docker;
use super::running::Recovery;
use crate::config::checks::{Check, What};
use crate::config::{Config, Plan};
use crate::error::Result;
use crate::host::addresses::Addresses;
use crate::host::docker::recreate::Specification;
use crate::model::size;
use crate::recovery::checks::context::{Context, Marks};
use crate::recovery::fresh::checks::only_here;
use crate::recovery::fresh::whose::Whose;
use jiff::Timestamp;

impl Recovery<'_> {
    pub(super) async fn checks(&self) -> Result<Vec<String>> {
        let config = self.context.config()?;
        let containers = if self.about.exercise { self.wanted().await? } else { Vec::new() };
        let mut notes = Vec::new();
        let context = Context::live(Timestamp::now(), Marks::default());
        let restored = |plan: &&Plan| self.lost.backups.iter().any(|m| m.plan == plan.name);
        for plan in config.plans.values().filter(restored) {
            let mut number = 0;
            for check in &plan.restore.checks {
                let check = match self.may_ask(&config, check, &containers).await {
                    Ok(check) => check,
                    Err(why) => {
                        notes.push(format!("plan {}: {} is not asked in an exercise: {why}", plan.name, check.name));
                        continue;
                    }
                };
                let outcome = check.run(&context).await;
                if !outcome.good {
                    return Err(outcome.error());
                }
                number += 1;
            }
            notes.push(match number {
                0 => format!("plan {} has no checks that could be made: look at the application yourself", plan.name),
                _ => format!("plan {}: {} passed", plan.name, size::plural(number, "check")),
            });
        }
        Ok(notes)
    }

    /// A check as it may be made, or why it is left out. Where nothing was started, only the data can be asked.
    async fn may_ask(
        &self,
        config: &Config,
        check: &Check,
        containers: &[Specification],
    ) -> std::result::Result<Check, String> {
        if !self.about.exercise {
            return Ok(check.clone());
        }
        if let What::Sql(query) = &check.what {
            let of = config.sources.iter().find(|(name, _)| name.as_str() == query.place.source);
            let Some((name, source)) = of else { return Ok(check.clone()) };
            return match self.whose(name, source).await {
                Whose::Here => docker::not_alone(source, containers).map_or_else(|| Ok(check.clone()), Err),
                Whose::Named(_) | Whose::Elsewhere => Err(format!("the server of source {name} is another machine")),
            };
        }
        if self.about.start.is_empty() {
            return Err("nothing of the application was started".to_owned());
        }
        // Without the kernel's tables loopback is here, and nothing else.
        let own = Addresses::read().unwrap_or_else(|_| Addresses::of(&[]));
        only_here(check, &own).map_err(str::to_owned)
    }
}
