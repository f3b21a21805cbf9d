//! What is there now: for `backstay maintenance status`.

use super::Maintenance;
use super::site::{Looked, Site};
use super::snippet::State;
use crate::error::Result;
use crate::host::nginx::probe::{self, Asked, Wanted};
use crate::host::nginx::targets::Skipped;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Which nginx.
    pub nginx: String,
    /// Why it cannot be asked, when it does not run.
    pub down: Option<String>,
    /// What the snippet says; nothing when nobody knows where it is.
    pub state: Option<State>,
    /// The snippet on this host.
    pub file: Option<PathBuf>,
    /// What server blocks include.
    pub include: Option<String>,
    /// The server blocks that are meant.
    pub servers: Vec<Included>,
    /// What everybody answers, and whether that is what the state says.
    pub asked: Vec<Answered>,
    /// Who cannot be asked.
    pub skipped: Vec<Skipped>,
    /// Workers that still finish requests with an older configuration.
    pub leaving: usize,
}

/// A server block.
#[derive(Clone, Debug, Serialize)]
pub struct Included {
    /// Its names and where it is.
    pub server: String,
    /// Whether it includes the snippet.
    pub included: bool,
}

/// One who was asked.
#[derive(Clone, Debug, Serialize)]
pub struct Answered {
    /// Who, and the answer.
    #[serde(flatten)]
    pub asked: Asked,
    /// Whether that is what the state says.
    pub good: bool,
}

impl Status {
    /// Whether everybody gets what the state says.
    pub fn is_consistent(&self) -> bool {
        self.asked.iter().all(|a| a.good)
    }
}

impl Maintenance {
    /// Looks, and asks everybody once.
    ///
    /// # Errors
    /// Those of finding nginx, and when the snippet is not ours.
    pub async fn status(&self) -> Result<Status> {
        let site = match Site::look(&self.settings, &self.state_dir).await? {
            Looked::Up(site) => *site,
            Looked::Down(e) => return Ok(Status::down(e.what)),
        };
        let state = site.snippet.state()?;
        let running = site.told.is_running();
        let wanted = match &state {
            State::On(id) => Wanted::Page(id),
            _ => Wanted::NoPage,
        };
        let asked = if running { probe::ask_all(&site.scope.targets, site.nginx.inside()).await } else { Vec::new() };
        let asked = asked.into_iter().map(|a| Answered { good: wanted.is(&a.answer), asked: a }).collect();
        let included =
            |s: &crate::host::nginx::servers::Server| Included { server: s.label(), included: s.includes == 1 };
        Ok(Status {
            nginx: site.nginx.label.clone(),
            down: (!running).then(|| format!("{} does not run", site.nginx.label)),
            state: Some(state),
            file: Some(site.snippet.file()),
            include: Some(site.snippet.directive()),
            servers: site.scope.servers.iter().map(included).collect(),
            asked,
            skipped: site.scope.skipped.clone(),
            leaving: site.nginx.drain(&site.told, Duration::ZERO).await.left,
        })
    }
}

impl Status {
    fn down(why: String) -> Self {
        Status {
            nginx: why.trim_end_matches(" does not run").to_owned(),
            down: Some(why),
            state: None,
            file: None,
            include: None,
            servers: Vec::new(),
            asked: Vec::new(),
            skipped: Vec::new(),
            leaving: 0,
        }
    }
}
