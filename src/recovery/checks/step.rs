//! Checks as steps of a restore.

use super::context::{Context, Renamed};
use crate::config::checks::Check;
use crate::error::{Error, Kind, Result};
use crate::recovery::engine::{Notes, Step};
use crate::recovery::resource::{Note, parse};
use async_trait::async_trait;
use std::sync::Arc;

/// Makes the context of a check when its turn comes, out of the notes of the steps before it.
pub type MakeContext = Arc<dyn Fn(&Notes<'_>) -> Result<Context> + Send + Sync>;

/// The name of the step of a check after the start.
pub fn name(check: &Check) -> String {
    format!("check {}", check.name)
}

/// The name of its step on what was staged.
pub fn name_on_staging(check: &Check) -> String {
    format!("check {} on staging", check.name)
}

/// The steps of all checks, after the start.
pub fn after_start(checks: &[Check], context: &MakeContext) -> Vec<Box<dyn Step>> {
    let step = |check: &Check| {
        Box::new(CheckStep { name: name(check), check: check.clone(), context: context.clone() }) as Box<dyn Step>
    };
    checks.iter().map(step).collect()
}

/// The steps of those checks that look at what was staged, which are some of the queries.
pub fn on_staging(checks: &[Check], context: &MakeContext) -> Vec<Box<dyn Step>> {
    let step = |check: &Check| {
        let name = name_on_staging(check);
        Box::new(CheckStep { name, check: check.clone(), context: context.clone() }) as Box<dyn Step>
    };
    checks.iter().filter(|check| check.before_swap).map(step).collect()
}

struct CheckStep {
    name: String,
    check: Check,
    context: MakeContext,
}

#[async_trait]
impl Step for CheckStep {
    fn name(&self) -> String {
        self.name.clone()
    }

    async fn prepare(&self, notes: &Notes<'_>) -> Result<Note> {
        let context = (self.context)(notes)?;
        serde_json::to_value(context).map_err(|e| Error::new(Kind::Internal, "a note cannot be written").because(e))
    }

    async fn act(&self, note: &Note) -> Result<Note> {
        let context: Context = parse(note)?;
        let outcome = self.check.run(&context).await;
        if !outcome.good {
            let e = outcome.error();
            return Err(if context.drill && !outcome.asked { e.kind(Kind::Restore) } else { e });
        }
        Ok(serde_json::json!(outcome))
    }

    async fn undo(&self, _: &Note) -> Result<()> {
        Ok(())
    }

    fn by_hand(&self, _: &Note) -> Vec<String> {
        Vec::new()
    }
}

/// Databases as a step of the staging left them in its note: `{"databases": [{"live": …, "staged": …}]}`.
pub fn renamed(source: &str, staging: &Note) -> Vec<Renamed> {
    let databases = staging.get("databases").and_then(Note::as_array).map(Vec::as_slice).unwrap_or_default();
    let text = |entry: &Note, key: &str| entry.get(key).and_then(Note::as_str).map(str::to_owned);
    let one = |entry: &Note| {
        Some(Renamed { source: source.to_owned(), live: text(entry, "live")?, staging: text(entry, "staged")? })
    };
    databases.iter().filter_map(one).collect()
}
