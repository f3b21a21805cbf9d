//! The application that uses what is restored: held, stopped, started again as it was.
//!
//! [`Target`] is what `stop` and `start_after_checks` may name. What they mean is found by [`look`] ([`units`] of systemd,
//! [`containers`] and services of Docker) and becomes a [`snapshot`], which goes into the journal: four [`steps`] follow it,
//! and nothing else. [`hold`] keeps everything from starting before its time, over a reboot too; [`stop`] and [`start`] do what
//! they say, and [`await_up`] believes no one.

mod await_up;
mod containers;
mod hold;
mod look;
pub mod snapshot;
mod start;
mod steps;
mod stop;
mod units;

use crate::config::target::Target;
use crate::error::Result;
use crate::recovery::engine::Step;
use crate::telemetry::monitor::Monitor;
use serde::{Deserialize, Serialize};
use snapshot::Snapshot;
use std::sync::Arc;
use std::time::Duration;

/// How long Docker may take to be there, and to find into its swarm: at boot it may still be starting.
const PATIENCE: Duration = Duration::from_secs(180);

/// What is stopped while data changes places. Both lists are in the order that their name speaks of: the first of `stop` stops
/// first, the first of `start_after_checks` starts first. What is in neither order is the reverse of the other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Application {
    /// What is stopped, and started again before the checks.
    pub stop: Vec<Target>,
    /// What is stopped too, and starts only when the checks have passed: workers, schedulers.
    #[serde(default)]
    pub start_after_checks: Vec<Target>,
    /// What serves the plan's own data, or shows the page, and is never stopped, even when one of the others comprises it:
    /// `unit:postgresql@15-main.service`, `container:edms_db`, `service:hosting_db`.
    #[serde(default)]
    pub spare: Vec<String>,
}

impl Application {
    fn targets(&self) -> impl Iterator<Item = &Target> {
        self.stop.iter().chain(&self.start_after_checks)
    }

    /// Looks at everything that will be stopped and touches nothing.
    ///
    /// # Errors
    /// [`crate::error::Kind::Refused`] with all that is wrong: what there is not, what could not be started again as it
    /// was, what must not be stopped.
    pub async fn preflight(&self) -> Result<Snapshot> {
        look::look(self, Duration::ZERO).await
    }

    /// The step that looks how everything is, and keeps it from starting again once it has stopped. The others need its note.
    pub fn hold(&self, monitor: Arc<dyn Monitor>) -> Box<dyn Step> {
        Box::new(steps::Hold { application: self.clone(), monitor })
    }

    /// The step that stops everything.
    pub fn stop(&self, monitor: Arc<dyn Monitor>) -> Box<dyn Step> {
        Box::new(steps::Stop { monitor, told: stop::Told::default() })
    }

    /// The step that starts what ran, but for what starts late. With something that does, the other step must come too.
    pub fn start(&self, monitor: Arc<dyn Monitor>) -> Box<dyn Step> {
        Box::new(steps::Start { late: false, in_two: !self.start_after_checks.is_empty(), monitor })
    }

    /// The step that starts what ran and starts late. After it nothing is held any more.
    pub fn start_after_checks(&self, monitor: Arc<dyn Monitor>) -> Box<dyn Step> {
        Box::new(steps::Start { late: true, in_two: !self.start_after_checks.is_empty(), monitor })
    }
}
