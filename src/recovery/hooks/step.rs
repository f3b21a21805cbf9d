//! Hooks as steps of a restore.

use super::HookContext;
use crate::config::checks::{Hook, Task};
use crate::error::{Error, Kind, Result};
use crate::recovery::engine::{Notes, Step};
use crate::recovery::resource::{Note, parse};
use async_trait::async_trait;
use std::sync::Arc;

/// Makes the context of a hook when its turn comes, out of the notes of the steps before it.
pub type MakeHookContext = Arc<dyn Fn(&Notes<'_>) -> Result<HookContext> + Send + Sync>;

/// The steps of a list of hooks, `after_stage 1`, …
pub fn of_hooks(hooks: &[Hook], context: &MakeHookContext) -> Vec<Box<dyn Step>> {
    let step = |hook: &Hook| Box::new(HookStep { hook: hook.clone(), context: context.clone() }) as Box<dyn Step>;
    hooks.iter().map(step).collect()
}

struct HookStep {
    hook: Hook,
    context: MakeHookContext,
}

#[async_trait]
impl Step for HookStep {
    fn name(&self) -> String {
        self.hook.step()
    }

    async fn prepare(&self, notes: &Notes<'_>) -> Result<Note> {
        let context = (self.context)(notes)?;
        serde_json::to_value(context).map_err(|e| Error::new(Kind::Internal, "a note cannot be written").because(e))
    }

    async fn act(&self, note: &Note) -> Result<Note> {
        Ok(serde_json::json!(self.hook.run(&parse(note)?).await?))
    }

    async fn undo(&self, note: &Note) -> Result<()> {
        // What was staged is dropped, and a database that was swapped in is swapped out.
        self.hook.take_back(&parse(note)?).await
    }

    fn by_hand(&self, _: &Note) -> Vec<String> {
        match &self.hook.task {
            // Its arguments are not told: the operator may have put a secret into them.
            Task::Command { undo: Some(_), .. } => vec![format!("run `undo` of the hook {}", self.hook.step())],
            _ => Vec::new(),
        }
    }
}
