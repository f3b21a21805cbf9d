//! The data of a plan, by the restore that there is for everybody.

use super::docker;
use super::running::Recovery;
use crate::cli::restore::onto_fresh;
use crate::config::{Config, SourceConfig};
use crate::error::{Error, Kind, Result};
use crate::model::Name;
use crate::recovery::fresh::lost::paths_of;
use crate::recovery::fresh::phase::{DATA, Phase, TREES};
use crate::recovery::fresh::ways::{self, Way};
use crate::recovery::fresh::whose::{Whose, whose};
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
        let (sources, left_out) = self.sort(&config, backup, kinds).await?;
        let mut notes: Vec<String> =
            left_out.iter().map(|l| format!("source {} is left out: {}", l.source, l.why)).collect();
        notes.extend(self.hooks_left_out(&config, plan));
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
        let hooks = !self.about.exercise;
        onto_fresh(&self.context, config, &self.catalog, backup, (sources, paths), (self.began, hooks)).await
    }

    /// Sources of a backup that are restored, of these kinds, and those that are not.
    ///
    /// # Errors
    /// [`Kind::Refused`] when it is not clear whose server one is.
    async fn sort(&self, config: &Config, backup: &Manifest, kinds: &[&str]) -> Result<(Vec<Name>, Vec<LeftOut>)> {
        let (mut sources, mut left_out) = (Vec::new(), Vec::new());
        let containers = if self.about.exercise && kinds == DATA { self.wanted().await? } else { Vec::new() };
        for record in backup.sources.iter().filter(|s| kinds.contains(&s.kind.as_str())) {
            let source = config.sources.get(&record.name);
            let why = match source {
                _ if !record.is_complete() => Some(format!("it failed in backup {}", backup.id)),
                None => Some("it is not configured any more".to_owned()),
                Some(source) => {
                    let whose = self.whose(&record.name, source).await;
                    let planned = config.plans.get(&backup.plan).is_some_and(|p| p.sources.contains(&record.name));
                    if let (Whose::Named(host), true) = (&whose, planned) {
                        return Err(Error::new(
                            Kind::Refused,
                            format!("the server of source {} is {host}, as the lost host was called, and that name does not lead to this machine", record.name),
                        )
                        .hint(format!("When it was on the lost host, add the line `127.0.0.1 {host}` to /etc/hosts. When it is another machine, take the source out of its plan in /etc/backstay/backstay.toml.")));
                    }
                    let other = match whose {
                        Whose::Here => None,
                        Whose::Named(_) => Some("its plan does not name it any more".to_owned()),
                        Whose::Elsewhere => (!self.about.other_servers).then(elsewhere),
                    };
                    why_not(source, &record.kind, self.about.exercise)
                        .or_else(|| docker::not_alone(source, &containers))
                        .or(other)
                }
            };
            match why {
                None => sources.push(record.name.clone()),
                Some(why) => left_out.push(LeftOut { source: record.name.clone(), why }),
            }
        }
        Ok((sources, left_out))
    }

    /// Whose a source's server is. What was shown as another machine's stays so, although a name leads here by now: nothing
    /// is written but where the operator was told. With `--other-servers` they were told that it is written to.
    pub(super) async fn whose(&self, name: &Name, source: &SourceConfig) -> Whose {
        if self.about.elsewhere.contains(name) && !self.about.other_servers {
            return Whose::Elsewhere;
        }
        whose(source, self.lost.hostname()).await
    }

    /// Everything that was backed up and is not restored, in words.
    pub(super) async fn left_out(&self) -> Vec<String> {
        let config = match self.context.config() {
            Ok(config) => config,
            Err(e) => return vec![format!("what was not restored is not known: {}", e.one_line())],
        };
        let mut found = Vec::new();
        for backup in &self.lost.backups {
            if !config.plans.contains_key(&backup.plan) {
                found.push(format!("NOT RESTORED: plan {}: it is not configured any more", backup.plan));
                continue;
            }
            for kinds in [TREES, DATA] {
                match self.sort(&config, backup, kinds).await {
                    Ok((_, left_out)) => found.extend(left_out.iter().map(|l| not_restored(&l.source, &l.why))),
                    Err(e) => found.push(e.one_line()),
                }
            }
        }
        found
    }

    /// Hooks act on what is live, and call who knows whom.
    fn hooks_left_out(&self, config: &Config, plan: &Name) -> Option<String> {
        let section = &config.plans.get(plan)?.restore;
        let any = !section.after_stage.is_empty() || !section.after_swap.is_empty();
        (any && self.about.exercise)
            .then(|| format!("the hooks of plan {plan} are left out, since this is an exercise"))
    }
}

/// A source that is not restored.
struct LeftOut {
    source: Name,
    why: String,
}

/// How it is told where nobody may overlook it.
pub(super) fn not_restored(source: &Name, why: &str) -> String {
    format!("NOT RESTORED: source {source}: {why}")
}

/// Why a source of another machine's server is not restored.
pub(super) fn elsewhere() -> String {
    "its server is another machine, which is not lost with this one; `backstay restore` restores it, if it needs that, and so does --other-servers"
        .to_owned()
}

/// Why a source is not restored onto this machine, whosever its server is.
pub(super) fn why_not(source: &SourceConfig, recorded: &str, exercise: bool) -> Option<String> {
    if source.kind() != recorded {
        return Some(format!("it was of kind {recorded}, and is configured as {}", source.kind()));
    }
    match source {
        SourceConfig::Command(c) => match &c.back.into {
            Target::Nothing => {
                Some("it has no `load`; `backstay restore --source NAME --to FILE` writes it out".to_owned())
            }
            Target::InPlace { .. } if exercise => {
                Some("its `load` acts on what is live, which an exercise leaves alone".to_owned())
            }
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::recorded;

    #[test]
    fn what_acts_on_what_is_live_is_no_part_of_an_exercise() {
        let text = r#"
[sources.dump]
kind = "command"
dump = ["cat", "/etc/hostname"]
[sources.live]
kind = "command"
dump = ["cat", "/etc/hostname"]
load = ["tee", "/etc/hostname"]
in_place = true
"#;
        let sources = recorded::sources(text).unwrap();
        let why = |name: &str, exercise| why_not(&sources[&name.parse::<Name>().unwrap()], "command", exercise);
        assert!(why("dump", false).unwrap().contains("--to FILE"));
        assert_eq!(why("live", false), None);
        assert!(why("live", true).unwrap().contains("exercise"));
        assert!(why_not(&sources[&"live".parse::<Name>().unwrap()], "redis", false).unwrap().contains("kind redis"));
    }
}
