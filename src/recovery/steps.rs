//! The steps of a restore that deal with resources: stage, verify, swap.

use super::engine::{Notes, SWAP, Step};
use super::resource::{Compared, Note, Resource};
use crate::error::{Error, Kind, Result};
use async_trait::async_trait;
use std::sync::Arc;

/// The steps around the exchange, in the places where they belong.
#[derive(Default)]
pub struct Around {
    /// On what is staged and verified: hooks, checks.
    pub staged: Vec<Box<dyn Step>>,
    /// What takes the application away.
    pub away: Vec<Box<dyn Step>>,
    /// On what is in place, before the application runs.
    pub swapped: Vec<Box<dyn Step>>,
    /// What gives the application back, and looks at it.
    pub back: Vec<Box<dyn Step>>,
}

/// All steps in their order: everything is staged and verified before the application is taken away and the first
/// resource swapped.
pub fn of_restore(resources: &[Arc<dyn Resource>], around: Around) -> Vec<Box<dyn Step>> {
    let mut ordered: Vec<Arc<dyn Resource>> = resources.to_vec();
    ordered.sort_by_key(|r| r.class());
    let mut steps: Vec<Box<dyn Step>> = Vec::new();
    steps.extend(ordered.iter().map(|r| Box::new(Stage(r.clone())) as Box<dyn Step>));
    steps.extend(ordered.iter().map(|r| Box::new(Verify(r.clone())) as Box<dyn Step>));
    steps.extend(around.staged);
    let swaps = ordered.iter().map(|r| Box::new(Swap(r.clone())) as Box<dyn Step>).collect();
    steps.extend(of_exchange(swaps, around.away, around.swapped, around.back));
    steps
}

/// The steps of a drill: everything is staged and verified, and then looked at.
pub fn of_drill(resources: &[Arc<dyn Resource>], staged: Vec<Box<dyn Step>>) -> Vec<Box<dyn Step>> {
    let mut ordered: Vec<Arc<dyn Resource>> = resources.to_vec();
    ordered.sort_by_key(|r| r.class());
    let stage = ordered.iter().map(|r| Box::new(Stage(r.clone())) as Box<dyn Step>);
    let verify = ordered.iter().map(|r| Box::new(Verify(r.clone())) as Box<dyn Step>);
    stage.chain(verify).chain(staged).collect()
}

/// The exchange within what is done around it.
pub fn of_exchange(
    swaps: Vec<Box<dyn Step>>,
    away: Vec<Box<dyn Step>>,
    swapped: Vec<Box<dyn Step>>,
    back: Vec<Box<dyn Step>>,
) -> Vec<Box<dyn Step>> {
    away.into_iter().chain(swaps).chain(swapped).chain(back).collect()
}

/// How the names of steps begin that stage a resource.
pub const STAGE: &str = "stage ";

/// The name of the step that stages a resource.
pub fn stage_name(resource: &dyn Resource) -> String {
    format!("{STAGE}{}", resource.label())
}

/// The name of the step that verifies a resource.
pub fn verify_name(resource: &dyn Resource) -> String {
    format!("verify {}", resource.label())
}

/// True for steps that only load beside what is live and look at it.
pub fn is_staging(step: &str) -> bool {
    step.starts_with(STAGE) || step.starts_with("verify ") || step.ends_with(" on staging")
}

/// The name of the step that swaps a resource.
pub fn swap_name(resource: &dyn Resource) -> String {
    format!("{SWAP}{}", resource.label())
}

struct Stage(Arc<dyn Resource>);

#[async_trait]
impl Step for Stage {
    fn name(&self) -> String {
        stage_name(&*self.0)
    }

    async fn prepare(&self, _: &Notes<'_>) -> Result<Note> {
        self.0.plan_staging().await
    }

    async fn act(&self, note: &Note) -> Result<Note> {
        self.0.stage(note).await
    }

    async fn undo(&self, note: &Note) -> Result<()> {
        self.0.unstage(note).await
    }

    fn by_hand(&self, note: &Note) -> Vec<String> {
        self.0.unstage_by_hand(note)
    }

    fn kept_by_undo(&self, note: &Note) -> Vec<String> {
        let until = "it stays until `backstay cleanup` names this restore";
        self.0.kept_by_unstage(note).iter().map(|left| format!("{left}; {until}")).collect()
    }

    fn outlives_a_start(&self) -> bool {
        true
    }
}

/// The comparison of what is staged, all of it good.
///
/// # Errors
/// [`Kind::Mismatch`] with what differs.
pub(super) async fn held_against_facts(resource: &dyn Resource, staged: &Note) -> Result<Vec<Compared>> {
    let compared = resource.verify(staged).await?;
    let bad: Vec<String> = compared
        .iter()
        .filter(|c| !c.good)
        .map(|c| format!("{}: {} instead of {}", c.what, c.found, c.expected))
        .collect();
    if bad.is_empty() {
        return Ok(compared);
    }
    Err(Error::new(Kind::Mismatch, format!("{} was loaded and differs from the facts of the backup", resource.label()))
        .because(bad.join("\n")))
}

struct Verify(Arc<dyn Resource>);

#[async_trait]
impl Step for Verify {
    fn name(&self) -> String {
        verify_name(&*self.0)
    }

    async fn prepare(&self, notes: &Notes<'_>) -> Result<Note> {
        notes.of(&stage_name(&*self.0)).cloned()
    }

    async fn act(&self, staged: &Note) -> Result<Note> {
        held_against_facts(&*self.0, staged).await.map(|compared| serde_json::json!(compared))
    }

    async fn undo(&self, _: &Note) -> Result<()> {
        Ok(())
    }

    fn by_hand(&self, _: &Note) -> Vec<String> {
        Vec::new()
    }
}

struct Swap(Arc<dyn Resource>);

#[async_trait]
impl Step for Swap {
    fn name(&self) -> String {
        swap_name(&*self.0)
    }

    async fn prepare(&self, notes: &Notes<'_>) -> Result<Note> {
        self.0.plan_swap(notes.of(&stage_name(&*self.0))?).await
    }

    async fn act(&self, note: &Note) -> Result<Note> {
        self.0.swap(note).await?;
        Ok(note.clone())
    }

    async fn undo(&self, note: &Note) -> Result<()> {
        self.0.unswap(note).await
    }

    fn by_hand(&self, note: &Note) -> Vec<String> {
        self.0.unswap_by_hand(note)
    }
}
