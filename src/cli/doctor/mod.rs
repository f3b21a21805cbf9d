//! `backstay doctor`: looks for everything that could go wrong on the bad day, and says how to mend it.
//!
//! One file per area, each a handful of small [`check`]s. Nothing is changed by a look: what a restore would find out by
//! trying, it finds out by trying; here is only asked. The areas look side by side, and are told in their order.

mod check;
mod configuration;
mod keys;
mod postgres;
mod proofs;
mod repository;
mod restore;
mod sources;
mod space;
mod telling;
mod timers;

use super::context::Context;
use super::output::{bad, dim, good, json, notice, say, title};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::model::{Name, size};
use crate::monitoring::overview::Overview;
use crate::repository::access::{self, Unlock};
use crate::repository::catalog::Catalog;
use crate::repository::manifest::Manifest;
use crate::repository::vault::Vault;
use crate::storage::ObjectStore;
use check::{Check, Outcome};
use futures::future::{FutureExt, LocalBoxFuture};
use futures::stream::{self, StreamExt};
use serde_json::json;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::sync::OnceCell;

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Look at these areas only, like `repository` or `restore` (repeatable)
    #[arg(long, value_name = "NAME")]
    area: Vec<String>,
    /// Fail also for warnings, and for what could not be asked
    #[arg(long)]
    strict: bool,
}

/// What every area may ask for.
struct Patient<'a> {
    context: &'a Context,
    config: &'a Config,
    overview: Overview,
    vault: OnceCell<Result<Arc<Vault>>>,
}

impl Patient<'_> {
    async fn store(&self) -> Result<Arc<dyn ObjectStore>> {
        self.context.store(&self.config.storage, Some(&self.config.state_dir)).await
    }

    /// What opens the host's own key files; nothing on a sealed host.
    fn unlock(&self) -> Result<Option<Unlock>> {
        self.context.unlock(Some(self.config))
    }

    /// This host's vault, opened once without its identity.
    async fn vault(&self) -> Result<Arc<Vault>> {
        let open = || async {
            let trust = self.config.trust_file();
            if !trust.exists() {
                // Opening it with an identity would write the file.
                return Err(Error::new(Kind::Key, "this host knows no vault").at(trust.display()).hint(
                    "Run `backstay init` for a new vault; any command with --identity FILE takes up one that exists.",
                ));
            }
            access::open_on_host(self.store().await?, &self.config.host, &trust, None).await.map(Arc::new)
        };
        self.vault.get_or_init(open).await.as_ref().map(Arc::clone).map_err(Error::again)
    }

    /// The newest complete backup of a plan, as the repository has it.
    async fn newest(&self, plan: &Name) -> Result<Option<Manifest>> {
        let vault = self.vault().await?;
        let catalog = Catalog::new(vault, None);
        let mut ids = catalog.ids(Some(plan)).await?;
        ids.sort();
        for (plan, id) in ids.iter().rev() {
            let manifest = catalog.manifest(plan, id).await?;
            if manifest.is_complete() {
                return Ok(Some(manifest));
            }
        }
        Ok(None)
    }
}

/// Names of the areas, in the order in which they are told.
const AREAS: &[&str] =
    &["configuration", "repository", "keys", "sources", "restore", "space", "timers", "proofs", "telling"];

/// Looks, and tells.
pub async fn run(context: &Context, args: Args) -> Result<ExitCode> {
    if let Some(other) = args.area.iter().find(|a| !AREAS.contains(&a.as_str())) {
        return Err(Error::new(Kind::Usage, format!("there is no area {other}"))
            .hint(format!("There are: {}.", AREAS.join(", "))));
    }
    let config = match context.config() {
        Ok(config) => config,
        Err(e) => {
            let checks = vec![Check::failed("file", &e)];
            let found = vec![("configuration", checks)];
            tell(context, &found[0])?;
            return end(context, &args, &found);
        }
    };
    let patient = Patient { context, config: &config, overview: Overview::gather(&config), vault: OnceCell::new() };
    let wanted = |area: &&&str| args.area.is_empty() || args.area.iter().any(|a| a == **area);
    let looks = AREAS.iter().filter(wanted).map(|area| look(area, &patient).map(move |checks| (*area, checks)));
    let mut looks = stream::iter(looks).buffered(AREAS.len());
    let mut found = Vec::new();
    while let Some(area) = looks.next().await {
        tell(context, &area)?;
        found.push(area);
    }
    drop(looks);
    end(context, &args, &found)
}

fn look<'a>(area: &str, patient: &'a Patient<'_>) -> LocalBoxFuture<'a, Vec<Check>> {
    match area {
        "configuration" => configuration::checks(patient).boxed_local(),
        "repository" => repository::checks(patient).boxed_local(),
        "keys" => keys::checks(patient).boxed_local(),
        "sources" => sources::checks(patient).boxed_local(),
        "restore" => restore::checks(patient).boxed_local(),
        "space" => space::checks(patient).boxed_local(),
        "timers" => timers::checks(patient).boxed_local(),
        "proofs" => proofs::checks(patient).boxed_local(),
        _ => telling::checks(patient).boxed_local(),
    }
}

type Area = (&'static str, Vec<Check>);

fn tell(context: &Context, (area, checks): &Area) -> Result<()> {
    if context.global.json || checks.is_empty() {
        return Ok(());
    }
    say(&title(area))?;
    for check in checks {
        let word = match check.outcome {
            Outcome::Good => good("good   "),
            Outcome::Unknown => dim("unknown"),
            Outcome::Warning => notice("warning"),
            Outcome::Bad => bad("bad    "),
        };
        say(&format!("  {word}  {}: {}", check.name, check.detail.trim_end().replace('\n', "\n           ")))?;
        if let Some(remedy) = check.remedy.as_ref().filter(|_| check.outcome != Outcome::Good) {
            say(&format!("           {} {}", dim("do:"), remedy.replace('\n', "\n           ")))?;
        }
    }
    Ok(())
}

fn end(context: &Context, args: &Args, found: &[Area]) -> Result<ExitCode> {
    let all: Vec<(&str, &Check)> = found.iter().flat_map(|(area, cs)| cs.iter().map(move |c| (*area, c))).collect();
    let of = |outcome| all.iter().filter(|(_, c)| c.outcome == outcome).count() as u64;
    let (bads, warnings, unknown) = (of(Outcome::Bad), of(Outcome::Warning), of(Outcome::Unknown));
    if context.global.json {
        let checks: Vec<serde_json::Value> = all
            .iter()
            .map(|(area, c)| json!({ "area": area, "name": c.name, "outcome": c.outcome, "detail": c.detail, "do": c.remedy }))
            .collect();
        json(&json!({ "bad": bads, "warnings": warnings, "unknown": unknown, "checks": checks }))?;
    } else {
        let mut words = Vec::new();
        if bads > 0 {
            words.push(bad(&format!("{bads} bad")));
        }
        if warnings > 0 {
            words.push(notice(&size::plural(warnings, "warning")));
        }
        if unknown > 0 {
            words.push(format!("{unknown} could not be asked"));
        }
        if words.is_empty() {
            words.push(good("everything is as it should be"));
        }
        say(&format!("\n{}: {}", size::plural(all.len() as u64, "check"), words.join(", ")))?;
    }
    let unwell = bads > 0 || (args.strict && warnings + unknown > 0);
    Ok(if unwell { ExitCode::from(Kind::Unwell.exit_code()) } else { ExitCode::SUCCESS })
}
