//! What a recovery came to.

use super::running::Recovery;
use crate::cli::output::{Align, Table, good, notice, say};
use crate::error::Result;
use crate::host::docker::Docker;
use crate::model::{BackupId, Name, time};
use crate::recovery::fresh::journal::Journal;
use crate::recovery::fresh::took::Took;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

/// See the module.
#[derive(Debug, Serialize)]
pub struct Report {
    id: BackupId,
    host: Name,
    repository: String,
    exercise: bool,
    began: Timestamp,
    ended: Timestamp,
    seconds: f64,
    backups: Vec<Restored>,
    /// What is to be known of the backups.
    notes: Vec<String>,
    phases: Vec<Took>,
    still_to_do: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Restored {
    plan: Name,
    backup: BackupId,
    /// Nothing that was written since is there.
    taken: Timestamp,
}

/// Of a recovery that is done.
pub async fn of(recovery: &Recovery<'_>, journal: &Journal) -> Report {
    let restored = |m: &crate::repository::manifest::Manifest| Restored {
        plan: m.plan.clone(),
        backup: m.id.clone(),
        taken: m.started,
    };
    let about = journal.about();
    Report {
        id: about.id.clone(),
        host: about.host.clone(),
        repository: recovery.url.to_owned(),
        exercise: about.exercise,
        began: journal.began(),
        ended: journal.last(),
        seconds: journal.last().duration_since(journal.began()).as_secs_f64(),
        backups: recovery.lost.backups.iter().map(restored).collect(),
        notes: recovery.lost.notes.clone(),
        phases: journal.phases(),
        still_to_do: still_to_do(recovery).await,
    }
}

/// What only somebody with more than a backup can do.
async fn still_to_do(recovery: &Recovery<'_>) -> Vec<String> {
    let mut left = recovery.left_out().await;
    if recovery.about.exercise {
        left.push("this machine holds everything that the host did: destroy it when the exercise is over".to_owned());
        return left;
    }
    if let Some(then) = recovery.lost.facts.as_ref().and_then(|f| f.docker.as_ref()) {
        let missing = async { then.missing(&Docker::connect().await?).await };
        left.extend(
            missing.await.unwrap_or_else(|e| vec![format!("what Docker lacks is not known: {}", e.one_line())]),
        );
    }
    left.push(
        "host name, addresses and SSH host keys are this machine's own: point names and firewalls at it".to_owned(),
    );
    left.push("make sure that the lost machine does not come back: it would work beside this one, though it cannot back up any more".to_owned());
    left
}

fn words(seconds: f64) -> String {
    time::words(SignedDuration::from_millis((seconds * 1000.0) as i64))
}

impl Report {
    /// For people.
    pub fn print(&self) -> Result<()> {
        let what = if self.exercise { "rehearsed the recovery of" } else { "recovered" };
        say(&format!("{} host {} in {}", good(what), self.host, words(self.seconds)))?;
        for backup in &self.backups {
            say(&format!(
                "  plan {} is as of {} ({}), backup {}",
                backup.plan,
                time::utc(backup.taken),
                time::local(backup.taken),
                backup.backup
            ))?;
        }
        self.notes.iter().try_for_each(|note| say(&format!("  {} {note}", notice("note:"))))?;
        let mut table = Table::new(&[("phase", Align::Left), ("took", Align::Right), ("tries", Align::Right)]);
        for phase in &self.phases {
            table.row(vec![phase.phase.clone(), words(phase.seconds), phase.tries.to_string()]);
        }
        table.print()?;
        for phase in &self.phases {
            for note in &phase.notes {
                say(&format!("  {}: {note}", phase.phase))?;
            }
        }
        self.still_to_do.iter().try_for_each(|what| say(&format!("  {} {what}", notice("still to do:"))))
    }
}
