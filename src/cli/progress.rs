//! Progress: a bar on a terminal, elsewhere the log.

use super::log::{Form, Log};
use super::output;
use crate::model::size::human;
use crate::telemetry::monitor::{Event, Monitor, Silent};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The monitor that suits where standard error goes; `log` asks for lines wherever it goes.
pub fn monitor(title: &str, quiet: bool, log: Option<Form>) -> Arc<dyn Monitor> {
    if quiet {
        return Arc::new(Silent);
    }
    match log {
        None if console::Term::stderr().is_term() => Arc::new(Bar::new(title)),
        form => super::unit_status::around(title, Arc::new(Log::new(form.unwrap_or(Form::Text)))),
    }
}

/// For a terminal.
struct Bar {
    bar: ProgressBar,
    shipped: AtomicU64,
}

impl Bar {
    fn new(title: &str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
        bar.set_style(Self::style(false));
        bar.set_prefix(title.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        Bar { bar, shipped: AtomicU64::new(0) }
    }

    fn style(known: bool) -> ProgressStyle {
        let template = if known {
            "{spinner:.green} {prefix:.bold} [{bar:24.green}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} eta {eta} {wide_msg}"
        } else {
            "{spinner:.green} {prefix:.bold} {elapsed} {binary_bytes} {binary_bytes_per_sec} {wide_msg}"
        };
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─")
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

impl Monitor for Bar {
    fn event(&self, event: Event) {
        match event {
            Event::Stage(what) | Event::StepStarted(what) => self.bar.set_message(what),
            Event::SourceStarted(name) => self.bar.set_message(name.to_string()),
            Event::SourceEnded(name, Ok(())) => self.bar.println(format!("{} {name}", output::good("done"))),
            Event::SourceEnded(name, Err(why)) => self.bar.println(format!("{} {name}: {why}", output::bad("failed"))),
            Event::Expect(bytes) => {
                self.bar.set_length(self.bar.length().unwrap_or(0) + bytes);
                self.bar.set_style(Self::style(true));
            }
            Event::Read(bytes) | Event::Restored(bytes) => self.bar.inc(bytes),
            Event::Shipped(bytes) => {
                let total = self.shipped.fetch_add(bytes, Ordering::Relaxed) + bytes;
                self.bar.set_message(format!("{} shipped", human(total)));
            }
            Event::StoodStill(who, seconds) => self.bar.println(output::stood_still(&who, seconds)),
            Event::Warning(text) => self.bar.println(format!("{} {text}", output::notice("warning"))),
            Event::Outage(seconds) => self.bar.println(output::outage(seconds)),
            Event::Committed(..) => self.bar.finish_and_clear(),
            // What was lost is told before there is a bar, and the rest is the result's.
            Event::Lost(_) | Event::StepEnded(..) | Event::Reported(_) | Event::Begun(_) => {}
            Event::Ended(..) | Event::Declined(_) => {}
        }
    }
}
