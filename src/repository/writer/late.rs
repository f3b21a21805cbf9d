//! After the manifest: was it visible in time?
//!
//! The deadline is looked at before the manifest is put, and a put can take long, with retries or a machine that sleeps.
//! A prune that did not see the manifest may have deleted by then what it names.

use super::usage::Usage;
use super::{Shared, lock};
use crate::error::{Error, Kind, Result};
use crate::model::time;
use crate::repository::condemned::condemned_records;
use crate::repository::manifest::Manifest;
use crate::repository::{layout, marks};
use crate::storage::DeleteOutcome;
use jiff::{SignedDuration, Timestamp};

impl Shared {
    /// How long after its begin a run may commit: within the grace time less a margin.
    pub(super) fn allowed(&self) -> SignedDuration {
        let grace = self.vault.grace();
        grace - SignedDuration::from_secs(grace.as_secs() / 8)
    }

    /// How much time has passed since the begin by the store's clock; whether that is in time.
    pub(super) fn in_time(&self, now: Timestamp) -> (SignedDuration, bool) {
        let elapsed = now.duration_since(self.store_time);
        (elapsed, elapsed <= self.allowed() && elapsed.as_secs() >= -60)
    }

    /// Makes sure that a manifest that is visible since now is whole, and takes it back when it may not be.
    ///
    /// # Errors
    /// [`Kind::Refused`] when a prune may have deleted what it names.
    pub(super) async fn confirm(&self, manifest: &Manifest, usage: &Usage) -> Result<()> {
        let now = self.vault.now().await?;
        let (elapsed, in_time) = self.in_time(now);
        if in_time {
            return Ok(());
        }
        let grace = self.vault.grace();
        // A record lasts two grace times from when it condemns: later ones may have come and gone.
        let known = elapsed < grace + grace && elapsed.as_secs() >= -60;
        let lost = match condemned_records(&self.vault).await {
            Ok(records) if known => {
                let due = records.into_iter().map(|(_, r)| r).filter(|r| r.carried_out || r.at + grace <= now);
                let mut lost = Vec::new();
                for record in due {
                    let state = lock(&self.known);
                    // What was condemned when the run began was not named.
                    let named = |p: &&crate::model::PackKey| usage.uses(&p.id) && state.known.allows(p);
                    lost.extend(record.packs.iter().filter(named).map(|p| (*p, layout::pack(p))));
                    let segments = record.segments.iter().filter(|s| manifest.segments().any(|n| n.object == **s));
                    lost.extend(segments.map(|s| (*s, layout::meta(s))));
                }
                if lost.is_empty() {
                    return Ok(());
                }
                lost
            }
            _ => Vec::new(),
        };
        let key = layout::manifest(&self.plan, &self.id);
        let why = match &lost[..] {
            [] => "what was condemned since then is not known".to_owned(),
            [(_, first), ..] => {
                format!("{} of the objects that it names were condemned, {first} among them", lost.len())
            }
        };
        let taken_back = matches!(self.vault.delete(&key).await, Ok(DeleteOutcome::Gone));
        if !taken_back {
            // Credentials that may not delete: then at least no later backup names these.
            for (object, _) in &lost {
                marks::mark_damaged(&self.vault, object, marks::LATE).await?;
            }
        }
        Err(Error::new(Kind::Refused, "the manifest was stored so late that a prune may have deleted what it names")
            .at(key)
            .because(format!("by the store's clock {} passed, {} are allowed; {why}", time::words(elapsed), time::words(self.allowed())))
            .hint(if taken_back {
                "This backup was taken back. Run it again: what is still there of its uploads is taken up."
            } else {
                "This backup could not be removed and is not to be relied on. Run `backstay check`, then back up again; `backstay forget` removes it where that is allowed."
            }))
    }
}
