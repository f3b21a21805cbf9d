//! The status line that `systemctl status` shows for a job that runs as a unit.

use crate::host::notify::Manager;
use crate::model::size::human;
use crate::telemetry::monitor::{Event, Monitor};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bytes are counted all the time and told this often.
const EVERY: Duration = Duration::from_secs(2);

struct UnitStatus {
    manager: Manager,
    inner: Arc<dyn Monitor>,
    title: String,
    done: AtomicU64,
    total: AtomicU64,
    /// What goes on, and when it was told last.
    now: Mutex<(String, Option<Instant>)>,
}

/// The same monitor; under a service manager that listens, one that tells it too.
pub fn around(title: &str, inner: Arc<dyn Monitor>) -> Arc<dyn Monitor> {
    let manager = Manager::from_env();
    if !manager.listens() {
        return inner;
    }
    let title = title.to_owned();
    Arc::new(UnitStatus { manager, inner, title, done: 0.into(), total: 0.into(), now: Mutex::default() })
}

impl UnitStatus {
    fn tell(&self, stage: Option<String>) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if stage.is_none() && now.1.is_some_and(|at| at.elapsed() < EVERY) {
            return;
        }
        if let Some(stage) = stage {
            now.0 = stage;
        }
        now.1 = Some(Instant::now());
        let mut text = format!("{}: {}", self.title, now.0);
        let (done, total) = (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed));
        if done > 0 {
            text.push_str(&format!(", {}", human(done)));
        }
        if total > 0 {
            text.push_str(&format!(" of {}", human(total)));
        }
        self.manager.status(&text);
    }
}

impl Monitor for UnitStatus {
    fn event(&self, event: Event) {
        match &event {
            Event::Stage(what) | Event::StepStarted(what) => self.tell(Some(what.clone())),
            Event::SourceStarted(name) => self.tell(Some(format!("source {name}"))),
            Event::Expect(bytes) => {
                self.total.fetch_add(*bytes, Ordering::Relaxed);
            }
            Event::Read(bytes) | Event::Restored(bytes) => {
                self.done.fetch_add(*bytes, Ordering::Relaxed);
                self.tell(None);
            }
            Event::Committed(_, id) => self.tell(Some(format!("backup {id} committed"))),
            _ => {}
        }
        self.inner.event(event);
    }
}
