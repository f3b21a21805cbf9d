//! What a drill that was killed has left: its servers, its directory, and what it staged beside something live.

use super::plan::Staging;
use super::{journal_file, place, resources};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::model::BackupId;
use crate::recovery::journal::Journal;
use crate::recovery::steps::stage_name;
use std::path::Path;

/// Removes it. Gives the drill, if there was one. Whoever calls this holds the lock: the drill itself is gone.
///
/// # Errors
/// [`Kind::Stuck`] when something cannot be removed; the journal stays, and it can be tried again.
pub async fn sweep(state_dir: &Path, own: Option<&Config>) -> Result<Option<BackupId>> {
    let file = journal_file(state_dir);
    if !file.exists() {
        return Ok(None);
    }
    let journal = Journal::open(&file)?;
    let id = journal.about().id.clone();
    let stuck = |e: Error| {
        Error::new(Kind::Stuck, format!("what the drill {id} staged when it was killed cannot be removed"))
            .at(file.display())
            .because(e.one_line())
            .hint("Mend the cause; the next drill, or `backstay cleanup`, tries again.")
    };
    let staging: Staging = serde_json::from_value(journal.about().asked.clone())
        .map_err(|e| stuck(Error::new(Kind::Internal, "its journal cannot be understood").because(e)))?;
    let begun = |step: &str| journal.position(step).and_then(|n| journal.done(n).or_else(|| journal.begun(n)));
    // Where nothing was begun outside, nothing need be configured.
    let any = journal.about().steps.iter().any(|s| s.starts_with("stage ") && begun(s).is_some());
    if any {
        for resource in resources::outside(&staging, own, &id).await.map_err(stuck)? {
            if let Some(note) = begun(&stage_name(&*resource)) {
                resource.unstage(note).await.map_err(stuck)?;
            }
        }
    }
    for server in &staging.servers {
        server.stop(&staging.dir).await.map_err(stuck)?;
    }
    place::remove(&staging.dir).map_err(stuck)?;
    forget(&file)?;
    Ok(Some(id))
}

/// Removes the journal of a drill of which nothing is left.
///
/// # Errors
/// When it cannot be removed.
pub(super) fn forget(file: &Path) -> Result<()> {
    std::fs::remove_file(file)
        .and_then(|()| file.parent().map_or(Ok(()), |parent| std::fs::File::open(parent)?.sync_all()))
        .map_err(|e| Error::io("the journal of the drill cannot be removed", file, e).kind(Kind::Restore))
}
