//! What restores of this host kept, and until when.

use crate::cli::rollback::resources_of;
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::model::{BackupId, Name};
use crate::recovery::resource::Previous;
use crate::recovery::rollback::{self, Past};
use jiff::Timestamp;
use std::time::Duration;

/// How long each restore's copies may take to be measured; those of a database server have to be asked for.
const LIMIT: Duration = Duration::from_secs(10);

/// What one restore kept.
pub(super) struct Kept {
    /// Which.
    pub restore: BackupId,
    /// Of which plan.
    pub plan: Name,
    /// From when on `cleanup` drops it; nothing for a plan that is not configured any more.
    pub until: Option<Timestamp>,
    /// Its names and sizes.
    pub copies: Vec<Previous>,
    /// Why they are not known.
    pub unknown: Option<String>,
}

/// Those of all restores that keep something. A journal that cannot be read is told as a problem.
pub(super) async fn all(config: &Config) -> Vec<Kept> {
    let mut found = Vec::new();
    for past in rollback::pasts(&config.state_dir).unwrap_or_default().iter().filter(|p| !p.cleaned) {
        let taken_back = past.rolled_back_by.is_some() || past.keeps_what_failed();
        if past.rollback_of().is_some() || !(past.stands() || taken_back) {
            continue;
        }
        let late = |_| Err(Error::new(Kind::Internal, "its size was not told in time"));
        let looked = match taken_back {
            true => restored_copies(config, past).await,
            false => tokio::time::timeout(LIMIT, copies(config, past)).await.unwrap_or_else(late),
        };
        let about = past.journal().about();
        let keep = config.plans.get(&about.plan).map(|plan| plan.restore.keep_previous);
        let (copies, unknown) = match looked {
            // Nothing was there before it, or it was done in place.
            Ok(copies) if copies.is_empty() => continue,
            Ok(copies) => (copies, None),
            Err(e) => (Vec::new(), Some(e.one_line())),
        };
        found.push(Kept {
            restore: about.id.clone(),
            plan: about.plan.clone(),
            until: keep.and_then(|keep| past.ended().checked_add(keep).ok()),
            copies,
            unknown,
        });
    }
    found
}

async fn copies(config: &Config, past: &Past) -> Result<Vec<Previous>> {
    rollback::kept(past, &resources_of(config, past).await?).await
}

/// What a restore that was taken back had restored: it lies where it was staged.
async fn restored_copies(config: &Config, past: &Past) -> Result<Vec<Previous>> {
    let resources = resources_of(config, past).await?;
    let name = |label: String| Previous { name: format!("the restored copy of {label}"), bytes: None };
    Ok(resources.iter().map(|r| name(r.label())).collect())
}
