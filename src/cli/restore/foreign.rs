//! `backstay restore --foreign`: a backup that another script made is read, proven and taken into a repository of its own
//! first, while the application runs; from there it is restored like any other.

use super::Args;
use super::attempt::{Tried, is_unfit};
use crate::cli::context::Context;
use crate::cli::foreign;
use crate::config::{Config, SourceConfig};
use crate::error::{Error, Kind, Result};
use crate::foreign::layout::Layout;
use crate::foreign::scratch::Scratch;
use crate::foreign::sets::{self, Set};
use crate::foreign::take::Taking;
use crate::model::Name;
use crate::recovery::restore::{journal_file, open_restore};
use crate::storage::readonly::ReadOnly;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

/// Restores a set, or the one before it.
pub(super) async fn run(context: &Context, args: Args, started: Instant) -> Result<ExitCode> {
    let config = context.config()?;
    let _lock = context.lock(&config, "restore").await?;
    let journal = journal_file(&config.state_dir);
    if journal.exists() {
        return Err(open_restore(&journal));
    }
    let plan = match (&args.plan, &config.plans.keys().collect::<Vec<&Name>>()[..]) {
        (Some(name), _) => name.parse().map_err(|e: Error| e.kind(Kind::Usage))?,
        (None, [only]) => (*only).clone(),
        (None, _) => {
            return Err(Error::new(Kind::Usage, "the plan that is restored is not said").hint("Name one with --plan."));
        }
    };
    let layout = foreign::layout(&config, args.foreign.as_deref().unwrap_or_default())?;
    let (store, sets) = foreign::all(layout).await?;
    let only = needed(&config, &args)?;
    let mut set = sets::choose(layout, &sets, &args.backup, &only)?;
    let trying = Trying { context, config: &config, layout, store, only, plan };
    // Its one backup is the latest of the repository that it is taken into.
    let args = Args { backup: "latest".to_owned(), ..args };
    let mut tries = args.fallback;
    loop {
        let unfit = match trying.one(set, &args, started).await? {
            Tried::Ended(code) => return Ok(code),
            Tried::Unfit(e) => e,
        };
        let older = (tries > 0).then(|| sets::older(layout, &sets, set, &trying.only)).flatten();
        let (Some(older), Some(at)) = (older, set.time) else { return Err(unfit) };
        tries -= 1;
        super::falling_back(("foreign backup", &set.name, at), &unfit, (&older.name, older.time.unwrap_or(at)));
        set = older;
    }
}

/// What is the same for each set that is tried.
struct Trying<'a> {
    context: &'a Context,
    config: &'a Config,
    layout: &'a Layout,
    store: Arc<dyn ReadOnly>,
    only: Vec<Name>,
    plan: Name,
}

impl Trying<'_> {
    async fn one(&self, set: &Set, args: &Args, started: Instant) -> Result<Tried> {
        let scratch = match self.taken(set).await {
            Ok(scratch) => scratch,
            Err(e) if is_unfit(&e) => return Ok(Tried::Unfit(e)),
            Err(e) => return Err(e),
        };
        let (catalog, plan) = (scratch.catalog.clone(), self.plan.clone());
        let ended = super::restore_from(self.context, args, Some(self.config), catalog, plan, started).await;
        if journal_file(&self.config.state_dir).exists() {
            // It can go on only with what was read.
            scratch.keep();
        }
        ended
    }

    /// Takes a set into a repository for one restore. Nothing is touched by that.
    async fn taken(&self, set: &Set) -> Result<Scratch> {
        let scratch = Scratch::make(&self.config.state_dir, &self.config.host).await?;
        let taking = Taking {
            layout: self.layout,
            set,
            store: self.store.clone(),
            sources: foreign::targets(self.config),
            only: self.only.clone(),
            room: scratch.room()?,
            shared: false,
        };
        let monitor = self.context.monitor(&format!("read {}", set.name));
        scratch.fill(&self.plan, &taking, monitor).await?;
        Ok(scratch)
    }
}

/// The sources that the restore needs, as far as its options tell: what is asked for decides which files of a set are read,
/// and the others may be missing or damaged. None means all.
fn needed(config: &Config, args: &Args) -> Result<Vec<Name>> {
    if !args.source.is_empty() {
        return args.source.iter().map(|s| s.parse()).collect();
    }
    let needs = |source: &SourceConfig| match source {
        SourceConfig::Postgres(_) => args.speaks_of_databases(),
        SourceConfig::Volume(_) => args.volume.is_some(),
        SourceConfig::Files(files) => {
            let holds = |path: &PathBuf| files.paths.iter().any(|root| path.starts_with(root));
            !args.path.is_empty() && args.path.iter().all(holds)
        }
        _ => false,
    };
    Ok(config.sources.iter().filter(|(_, source)| needs(source)).map(|(name, _)| name.clone()).collect())
}
