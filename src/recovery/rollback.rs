//! After a restore: taking it back, and dropping what it kept.
//!
//! A rollback is the same exchange the other way, with a journal of its own. What was written since the restore is
//! not thrown away: it stays where the restored data was staged, until it is cleaned up.

use super::asked::{Safety, asked_of};
use super::dropped;
use super::engine::{Notes, Step, was_live};
use super::journal::{Journal, Record, State};
use super::resource::{Left, Note, Previous, Resource};
use super::restore::history;
use super::steps::{STAGE, stage_name, swap_name};
use crate::error::{Error, Kind, Result};
use crate::io::durable;
use crate::model::BackupId;
use async_trait::async_trait;
use jiff::Timestamp;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// An ended restore of this host.
pub struct Past {
    journal: Journal,
    /// The restore that took it back, if one did.
    pub rolled_back_by: Option<BackupId>,
    /// Whether what it kept was dropped.
    pub cleaned: bool,
    /// Whether that was begun; some of it may be gone.
    cleaning: bool,
    /// What that rollback noted, by the names of its steps.
    taken_back: Vec<(String, Note)>,
}

impl Past {
    /// The journal.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Its id.
    pub fn id(&self) -> &BackupId {
        &self.journal.about().id
    }

    /// When it began.
    pub fn began(&self) -> Timestamp {
        self.journal.entries().first().map_or(Timestamp::UNIX_EPOCH, |e| e.at)
    }

    /// When it ended.
    pub fn ended(&self) -> Timestamp {
        self.journal.entries().last().map_or(Timestamp::UNIX_EPOCH, |e| e.at)
    }

    /// Why it failed, if it did.
    pub fn failure(&self) -> Option<&str> {
        self.journal.entries().iter().find_map(|e| match &e.record {
            Record::Failed(_, why) => Some(why.as_str()),
            _ => None,
        })
    }

    /// True when it stands: it was completed, and not taken back since.
    pub fn stands(&self) -> bool {
        *self.journal.state() == State::Committed && self.rolled_back_by.is_none()
    }

    /// True when it was undone after the application may have run on what it restored: that copy is kept, since the
    /// application may have written there.
    pub fn keeps_what_failed(&self) -> bool {
        *self.journal.state() == State::Unwound && self.rollback_of().is_none() && was_live(&self.journal)
    }

    /// The restore that it takes back, if it is a rollback.
    pub fn rollback_of(&self) -> Option<BackupId> {
        asked_of(&self.journal).ok().and_then(|a| a.rollback_of)
    }

    /// What was noted of the exchange of a resource, if that was done.
    pub fn swap_note(&self, resource: &dyn Resource) -> Option<&Note> {
        self.note(&swap_name(resource))
    }

    fn note(&self, step: &str) -> Option<&Note> {
        self.journal.position(step).and_then(|n| self.journal.done(n))
    }

    /// What taking it back has left of a resource on purpose, as far as it is there.
    pub fn left_of(&self, label: &str) -> Vec<Left> {
        // A rollback of it may be open.
        if self.stands() {
            return Vec::new();
        }
        let back = back_name(label);
        // Who else has written is known from the later of the two.
        let back = self.taken_back.iter().find(|(step, _)| *step == back).map(|(_, note)| note);
        back.or_else(|| self.note(&format!("{STAGE}{label}"))).map(dropped::left).unwrap_or_default()
    }

    /// The same of all of them. It stays until the operator says that it is not needed any more, also when the rest of what
    /// was kept is gone.
    pub fn left(&self) -> Vec<Left> {
        let labels = self.journal.about().steps.iter().filter_map(|step| step.strip_prefix(STAGE));
        labels.flat_map(|label| self.left_of(label)).collect()
    }
}

fn back_name(label: &str) -> String {
    format!("swap back {label}")
}

/// All ended restores of this host, oldest first.
///
/// # Errors
/// When the directory or one of the journals cannot be read.
pub fn pasts(state_dir: &Path) -> Result<Vec<Past>> {
    let directory = history(state_dir);
    let failed = |e| Error::io("the journals of earlier restores cannot be read", &directory, e);
    let mut files: Vec<PathBuf> = match std::fs::read_dir(&directory) {
        Ok(entries) => {
            let paths = entries.map(|e| e.map(|e| e.path())).collect::<std::io::Result<Vec<_>>>();
            paths.map_err(failed)?.into_iter().filter(|p| p.extension().is_some_and(|e| e == "journal")).collect()
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(failed(e)),
    };
    files.sort();
    let mut pasts = Vec::new();
    for file in files {
        let journal = Journal::open(&file)?;
        let cleaned = file.with_extension("cleaned").exists();
        let cleaning = file.with_extension("cleaning").exists();
        pasts.push(Past { journal, rolled_back_by: None, cleaned, cleaning, taken_back: Vec::new() });
    }
    let mut rollbacks = HashMap::new();
    for past in pasts.iter().filter(|p| *p.journal.state() == State::Committed) {
        if let Some(of) = past.rollback_of() {
            rollbacks.entry(of).or_insert_with(|| (past.id().clone(), notes(&past.journal)));
        }
    }
    for past in &mut pasts {
        if let Some((by, notes)) = rollbacks.remove(past.id()) {
            (past.rolled_back_by, past.taken_back) = (Some(by), notes);
        }
    }
    Ok(pasts)
}

/// The notes with which the steps of a journal began.
fn notes(journal: &Journal) -> Vec<(String, Note)> {
    let steps = journal.about().steps.iter().enumerate();
    steps.filter_map(|(n, step)| Some((step.clone(), journal.begun(n)?.clone()))).collect()
}

/// One ended restore.
///
/// # Errors
/// [`Kind::NotFound`].
pub fn past(state_dir: &Path, id: &BackupId) -> Result<Past> {
    pasts(state_dir)?.into_iter().find(|p| p.id() == id).ok_or_else(|| {
        Error::new(Kind::NotFound, format!("there is no restore {id} on this host"))
            .hint("`backstay restores` lists them.")
    })
}

/// Which of them somebody means by an id, or by the beginning of one that no other has.
///
/// # Errors
/// [`Kind::NotFound`], and [`Kind::Usage`] for what fits several.
pub fn meant(pasts: &[Past], typed: &str) -> Result<usize> {
    let fits: Vec<usize> = (0..pasts.len()).filter(|n| pasts[*n].id().as_str().starts_with(typed)).collect();
    match fits[..] {
        [one] if !typed.is_empty() => Ok(one),
        [] => Err(Error::new(Kind::NotFound, format!("there is no restore {typed} on this host"))
            .hint("`backstay restores` lists them.")),
        _ => Err(Error::new(Kind::Usage, format!("`{typed}` names {} restores", fits.len()))
            .because(fits.iter().map(|n| pasts[*n].id().as_str()).collect::<Vec<_>>().join(", "))
            .hint("Give the id of one. `backstay restores` lists them.")),
    }
}

/// The restore to take back: the one named, or the last one that stands.
///
/// # Errors
/// [`Kind::NotFound`], and [`Kind::Refused`] when a later restore stands on it.
pub fn to_roll_back(state_dir: &Path, id: Option<&str>) -> Result<Past> {
    let standing = |p: &Past| p.stands() && p.rollback_of().is_none();
    let mut pasts = pasts(state_dir)?;
    let last = pasts.iter().rposition(standing);
    let chosen = match id {
        Some(id) => Some(meant(&pasts, id)?),
        None => last,
    };
    let none = || {
        Error::new(Kind::NotFound, "there is no such restore on this host, or it was taken back already")
            .hint("`backstay restores` lists them.")
    };
    let chosen = chosen.filter(|n| standing(&pasts[*n])).ok_or_else(none)?;
    if pasts[chosen].cleaned {
        return Err(Error::new(Kind::Refused, "what was there before that restore is no longer kept")
            .at(pasts[chosen].id())
            .hint("Restore an older backup instead."));
    }
    if pasts[chosen].cleaning {
        let id = pasts[chosen].id().clone();
        return Err(Error::new(Kind::Refused, "the cleanup of that restore has begun, and may have dropped some")
            .at(&id)
            .hint(format!("`backstay cleanup {id}` finishes it. Restore an older backup instead.")));
    }
    let asked = asked_of(&pasts[chosen].journal)?;
    if let Some(safety) = asked.in_place.filter(|s| *s != Safety::ColdCopy { to: None }) {
        let plan = &pasts[chosen].journal.about().plan;
        let hint = match safety {
            Safety::Backup(id) => {
                format!(
                    "Restore the safety backup that was taken before: `backstay restore {id} --plan {plan}-safety --in-place`."
                )
            }
            Safety::ColdCopy { to } => format!(
                "A cold copy of the whole server is in {}. Stop the server, bring the copy back in the place of its data directory, start it.",
                to.unwrap_or_default().display()
            ),
            Safety::Waived => "What was live before was dropped, and its safety backup was waived.".to_owned(),
        };
        return Err(Error::new(Kind::Refused, "that restore was done in place and kept no copy")
            .at(pasts[chosen].id())
            .hint(hint));
    }
    if last != Some(chosen) {
        return Err(Error::new(Kind::Refused, format!("a later restore stands on {}", pasts[chosen].id()))
            .hint("Take that one back first."));
    }
    Ok(pasts.swap_remove(chosen))
}

/// The steps that take a restore back: what was swapped last is swapped back first.
pub fn steps(resources: &[Arc<dyn Resource>], of: &Past) -> Vec<Box<dyn Step>> {
    let mut ordered: Vec<Arc<dyn Resource>> = resources.to_vec();
    ordered.sort_by_key(|r| std::cmp::Reverse(r.class()));
    ordered
        .into_iter()
        .filter_map(|resource| {
            let swap = of.note(&swap_name(&*resource))?.clone();
            Some(Box::new(SwapBack { resource, swap, stays: Mutex::default() }) as Box<dyn Step>)
        })
        .collect()
}

struct SwapBack {
    resource: Arc<dyn Resource>,
    swap: Note,
    /// What the undo could not put in place again, from there to where it is told.
    stays: Mutex<Option<String>>,
}

#[async_trait]
impl Step for SwapBack {
    fn name(&self) -> String {
        back_name(&self.resource.label())
    }

    async fn prepare(&self, _: &Notes<'_>) -> Result<Note> {
        self.resource.plan_unswap(&self.swap).await
    }

    async fn act(&self, note: &Note) -> Result<Note> {
        self.resource.unswap(note).await?;
        Ok(Note::Null)
    }

    async fn undo(&self, note: &Note) -> Result<()> {
        let stays = self.resource.reswap(note).await?;
        *self.stays.lock().unwrap_or_else(PoisonError::into_inner) = stays;
        Ok(())
    }

    fn kept_by_undo(&self, _: &Note) -> Vec<String> {
        self.stays.lock().unwrap_or_else(PoisonError::into_inner).clone().into_iter().collect()
    }

    fn by_hand(&self, _: &Note) -> Vec<String> {
        vec![format!(
            "put what was restored of {} in place again: `backstay restores` names where it is",
            self.resource.label()
        )]
    }
}

/// What a restore kept of before it.
///
/// # Errors
/// When it cannot be looked at.
pub async fn kept(past: &Past, resources: &[Arc<dyn Resource>]) -> Result<Vec<Previous>> {
    let mut kept = Vec::new();
    for resource in resources {
        if let Some(note) = past.note(&swap_name(&**resource)) {
            kept.extend(resource.previous(note).await?);
        }
    }
    Ok(kept)
}

/// What a restore that was taken back or undone had restored, as far as that is kept: it lies where it was staged. What others
/// wrote lies with it, and is told by itself ([`Past::left`]).
pub fn restored_copies(past: &Past, resources: &[Arc<dyn Resource>]) -> Vec<Previous> {
    let kept = resources.iter().filter(|r| r.keeps_restored());
    let labels = kept.map(|r| r.label()).filter(|label| past.left_of(label).is_empty());
    labels.map(|label| Previous { name: format!("the restored copy of {label}"), bytes: None }).collect()
}

/// Drops what a restore kept: what was there before it, or, when it was taken back or undone, what it had restored. What others
/// have written there stays until the restore is `named`, and is told by [`Past::left`].
///
/// # Errors
/// When something cannot be dropped; the rest is then still there and can be dropped again.
pub async fn clean(past: &Past, resources: &[Arc<dyn Resource>], named: bool) -> Result<()> {
    let taken_back = past.rolled_back_by.is_some() || past.keeps_what_failed();
    // One that ends half-way leaves nothing that could be put back.
    if past.stands() {
        let begun = past.journal.path().with_extension("cleaning");
        durable::replace(&begun, b"", 0o644)
            .map_err(|e| Error::io("it cannot be noted that the cleanup begins", &begun, e))?;
    }
    for resource in resources {
        if past.stands() {
            if let Some(note) = past.swap_note(&**resource) {
                resource.drop_previous(note).await?;
            }
            continue;
        }
        let Some(note) = past.note(&stage_name(&**resource)) else { continue };
        let left = past.left_of(&resource.label());
        if taken_back && !past.cleaned {
            resource.drop_staged(note).await?;
        }
        if named || left.is_empty() {
            resource.drop_left(note).await?;
        }
    }
    let marker = past.journal.path().with_extension("cleaned");
    std::fs::write(&marker, b"").map_err(|e| Error::io("it cannot be noted that this was cleaned up", &marker, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery::engine::{Ended, Engine};
    use crate::recovery::journal::Begin;
    use crate::recovery::report::kept;
    use crate::recovery::resource::{Class, Compared, Findings};
    use crate::telemetry::monitor::Silent;
    use serde_json::json;

    /// One that keeps nothing beside of what was restored.
    struct Gone;

    #[async_trait]
    impl Resource for Gone {
        fn label(&self) -> String {
            "table a".to_owned()
        }

        fn class(&self) -> Class {
            Class::Database
        }

        async fn preflight(&self) -> Result<Findings> {
            Ok(Findings::default())
        }

        async fn plan_staging(&self) -> Result<Note> {
            Ok(Note::Null)
        }

        async fn stage(&self, _: &Note) -> Result<Note> {
            Ok(Note::Null)
        }

        async fn verify(&self, _: &Note) -> Result<Vec<Compared>> {
            Ok(Vec::new())
        }

        async fn unstage(&self, _: &Note) -> Result<()> {
            Ok(())
        }

        async fn plan_swap(&self, _: &Note) -> Result<Note> {
            Ok(Note::Null)
        }

        async fn swap(&self, _: &Note) -> Result<()> {
            Err(Error::new(Kind::Restore, "it is not there"))
        }

        async fn unswap(&self, _: &Note) -> Result<()> {
            Ok(())
        }

        async fn reswap(&self, _: &Note) -> Result<Option<String>> {
            Ok(Some("table a stays as it was".to_owned()))
        }

        async fn previous(&self, _: &Note) -> Result<Vec<Previous>> {
            Ok(Vec::new())
        }

        async fn drop_previous(&self, _: &Note) -> Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn what_the_undo_of_a_rollback_cannot_put_in_place_again_is_noted() {
        let dir = tempfile::tempdir().unwrap();
        let steps: Vec<Box<dyn Step>> =
            vec![Box::new(SwapBack { resource: Arc::new(Gone), swap: Note::Null, stays: Mutex::default() })];
        let begin = Begin {
            id: BackupId::new(Timestamp::UNIX_EPOCH),
            plan: "erp".parse().unwrap(),
            backup: BackupId::new(Timestamp::UNIX_EPOCH),
            asked: json!(null),
            steps: steps.iter().map(|s| s.name()).collect(),
        };
        let journal = Journal::begin(&dir.path().join("j"), begin).unwrap();
        let mut engine = Engine::new(steps, journal, Arc::new(Silent)).unwrap();
        assert!(engine.try_all().await.unwrap().is_none());
        assert!(matches!(engine.go_back("a later step failed").await.unwrap(), Ended::Unwound(_)));
        assert_eq!(kept(engine.journal().entries()), ["table a stays as it was"]);
    }
}
