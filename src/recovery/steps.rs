//! The steps of a restore that deal with resources: stage, verify, swap.

use super::engine::{Notes, Step};
use super::resource::{Note, Resource};
use crate::error::{Error, Kind, Result};
use async_trait::async_trait;
use std::sync::Arc;

/// The steps for resources, in their order: all are staged and verified before the first is swapped.
pub fn of_resources(resources: &[Arc<dyn Resource>]) -> Vec<Box<dyn Step>> {
    let mut ordered: Vec<Arc<dyn Resource>> = resources.to_vec();
    ordered.sort_by_key(|r| r.class());
    let mut steps: Vec<Box<dyn Step>> = Vec::new();
    steps.extend(ordered.iter().map(|r| Box::new(Stage(r.clone())) as Box<dyn Step>));
    steps.extend(ordered.iter().map(|r| Box::new(Verify(r.clone())) as Box<dyn Step>));
    steps.extend(ordered.iter().map(|r| Box::new(Swap(r.clone())) as Box<dyn Step>));
    steps
}

/// The name of the step that stages a resource.
pub fn stage_name(resource: &dyn Resource) -> String {
    format!("stage {}", resource.label())
}

/// The name of the step that verifies a resource.
pub fn verify_name(resource: &dyn Resource) -> String {
    format!("verify {}", resource.label())
}

/// The name of the step that swaps a resource.
pub fn swap_name(resource: &dyn Resource) -> String {
    format!("swap {}", resource.label())
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
        vec![format!("remove what was staged for {}: {note}", self.0.label())]
    }
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
        let compared = self.0.verify(staged).await?;
        let bad: Vec<String> = compared
            .iter()
            .filter(|c| !c.good)
            .map(|c| format!("{}: {} instead of {}", c.what, c.found, c.expected))
            .collect();
        if !bad.is_empty() {
            return Err(Error::new(
                Kind::Mismatch,
                format!("{} was loaded and differs from the facts of the backup", self.0.label()),
            )
            .because(bad.join("\n")));
        }
        Ok(serde_json::json!(compared))
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
        vec![format!("put back what {} was before: {note}", self.0.label())]
    }
}
