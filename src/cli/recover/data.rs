//! The data of a plan, by the restore that there is for everybody.

use super::running::Recovery;
use crate::cli::restore::onto_fresh;
use crate::config::{Config, SourceConfig};
use crate::error::{Error, Kind, Result};
use crate::model::Name;
use crate::recovery::fresh::lost::paths_of;
use crate::recovery::fresh::phase::{DATA, Phase};
use crate::recovery::fresh::ways::{self, Way};
use crate::repository::manifest::Manifest;
use crate::sources::command::Target;
use std::path::PathBuf;

impl Recovery<'_> {
    /// Restores the sources of some kinds.
    pub(super) async fn restore(&self, plan: &Name, kinds: &[&str]) -> Result<Vec<String>> {
        self.servers().await?;
        if kinds == DATA && self.about.phases.contains(&Phase::Containers) {
            self.containers().await?;
        }
        let config = self.context.config()?;
        let backup = self.lost.backups.iter().find(|m| m.plan == *plan);
        let backup =
            backup.ok_or_else(|| Error::new(Kind::Internal, format!("plan {plan} has no backup in the journal")))?;
        if !config.plans.contains_key(plan) {
            return Ok(vec![format!("plan {plan} is not configured any more and is left out")]);
        }
        let (mut sources, mut notes) = (Vec::new(), Vec::new());
        for record in backup.sources.iter().filter(|s| kinds.contains(&s.kind.as_str())) {
            if !record.is_complete() {
                notes.push(format!("source {} failed in backup {} and is left out", record.name, backup.id));
                continue;
            }
            match config.sources.get(&record.name).map(|c| why_not(c, &record.kind)) {
                None => notes.push(format!("source {} is not configured any more and is left out", record.name)),
                Some(Some(_)) if self.about.onto_existing && is_elsewhere(config.sources.get(&record.name)) => {
                    sources.push(record.name.clone());
                }
                Some(Some(why)) => notes.push(format!("source {} is left out: {why}", record.name)),
                Some(None) => sources.push(record.name.clone()),
            }
        }
        if sources.is_empty() {
            return Ok(notes);
        }
        // Where that is elsewhere, its own work must not meet ours.
        let _lock = match config.state_dir == self.state_dir {
            true => None,
            false => Some(self.context.lock(&config, "recovery").await?),
        };
        // Of some sources of files only some paths are exchanged; each is a restore of its own.
        let mut whole = Vec::new();
        for name in sources {
            let paths = backup.source(&name).filter(|s| s.kind == "files").map(paths_of).unwrap_or_default();
            let exchanged = ways::of(&paths, Way::Exchange);
            let left: Vec<String> = ways::of(&paths, Way::Leave).iter().map(|p| p.display().to_string()).collect();
            if !left.is_empty() {
                notes.push(format!(
                    "of source {name} these belong to the system and are left out: {}; `backstay restore --source {name} --path PATH` brings parts back",
                    left.join(", ")
                ));
            }
            if exchanged.len() == paths.len() {
                whole.push(name);
            } else if !exchanged.is_empty() {
                self.onto_this(&config, backup, &[name], &exchanged).await?;
            }
        }
        if !whole.is_empty() {
            self.onto_this(&config, backup, &whole, &[]).await?;
        }
        Ok(notes)
    }

    async fn onto_this(&self, config: &Config, backup: &Manifest, sources: &[Name], paths: &[PathBuf]) -> Result<()> {
        onto_fresh(&self.context, config, &self.catalog, backup, (sources, paths), self.began).await
    }
}

/// Whether a source is of a server of another machine, which may have survived.
fn is_elsewhere(source: Option<&SourceConfig>) -> bool {
    match source {
        Some(SourceConfig::Postgres(p)) => !p.address.is_here(),
        Some(SourceConfig::Redis(r)) => r.container.is_none() && !r.server.is_here(),
        _ => false,
    }
}

/// Why a source is not restored onto this machine.
fn why_not(source: &SourceConfig, recorded: &str) -> Option<String> {
    if source.kind() != recorded {
        return Some(format!("it was of kind {recorded}, and is configured as {}", source.kind()));
    }
    if is_elsewhere(Some(source)) {
        return Some(
            "its server is another machine, which is not lost with this one; `backstay restore` restores it, if it needs that"
                .to_owned(),
        );
    }
    match source {
        SourceConfig::Command(c) if matches!(c.back.into, Target::Nothing) => {
            Some("it has no `load`; `backstay restore --source NAME --to FILE` writes it out".to_owned())
        }
        _ => None,
    }
}
