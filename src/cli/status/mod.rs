//! `backstay status`: how things are on this host, problems first.
//!
//! It asks the repository once, briefly; the rest is what this host keeps: run records, journals of restores
//! ([`kept`] are the copies that they left), and timers. [`show`] prints it, [`machine`] is the same as JSON.

mod kept;
mod machine;
mod show;

use super::context::Context;
use super::jobs::Jobs;
use super::output::json;
use crate::config::Config;
use crate::error::{Kind, Result};
use crate::monitoring::overview::Overview;
use crate::monitoring::problems::{Problem, Severity, problems};
use crate::monitoring::view::View;
use kept::Kept;
use std::process::ExitCode;
use std::time::Duration;

/// A look at the repository may take so long. Somebody sits before it.
const LOOK: Duration = Duration::from_secs(15);

/// Arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Do not ask the repository: show what was seen of it last
    #[arg(long)]
    offline: bool,
    /// Fail also when there are only notices
    #[arg(long)]
    strict: bool,
}

/// Everything that is told.
struct Status {
    config: Config,
    overview: Overview,
    problems: Vec<Problem>,
    jobs: Jobs,
    kept: Vec<Kept>,
}

impl Status {
    fn worst(&self) -> Option<Severity> {
        self.problems.first().map(|p| p.severity)
    }
}

/// Looks, and tells.
pub async fn run(context: &Context, args: Args) -> Result<ExitCode> {
    let status = gather(context.config()?, args.offline).await;
    if context.global.json {
        json(&machine::value(&status))?;
    } else {
        show::print(&status)?;
    }
    let unwell = match status.worst() {
        Some(Severity::Bad) => true,
        Some(Severity::Notice) => args.strict,
        None => false,
    };
    Ok(if unwell { ExitCode::from(Kind::Unwell.exit_code()) } else { ExitCode::SUCCESS })
}

async fn gather(config: Config, offline: bool) -> Status {
    let look = async {
        match offline {
            true => None,
            false => View::look(&config, LOOK).await.err(),
        }
    };
    let (unseen, jobs, kept) = tokio::join!(look, Jobs::ask(&config), kept::all(&config));
    let overview = Overview::gather(&config);
    let mut problems = problems(&overview);
    if let Some(e) = unseen {
        let todo = e.hint.clone().unwrap_or_else(|| "backstay doctor says more".to_owned());
        problems.push(Problem { severity: Severity::Bad, what: e.one_line(), todo });
    }
    problems.extend(jobs.problems(&config, &overview));
    problems.sort();
    Status { config, overview, problems, jobs, kept }
}
