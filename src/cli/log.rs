//! The log: one line for each thing that matters, for a journal, a pipe or a machine. Numbers that only a moving bar wants
//! are left out.

use super::journal::Journal;
use super::output;
use crate::model::time;
use crate::telemetry::monitor::{Event, Monitor};
use crate::telemetry::scrub::{scrub, scrub_value};
use jiff::Timestamp;
use serde_json::{Value, json};

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// Words; for systemd's journal with level and fields.
    Text,
    /// One JSON object a line, with fields.
    Json,
}

/// How much a line matters; the numbers are those of syslog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Error = 3,
    Warning = 4,
    Info = 6,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Info => "info",
        }
    }
}

/// The listener.
pub struct Log {
    form: Form,
    journal: Option<Journal>,
}

impl Log {
    /// To standard error, in this form.
    pub fn new(form: Form) -> Self {
        Log { form, journal: Journal::open() }
    }
}

/// Level, words and fields of what is worth a line.
fn line(event: &Event) -> Option<(Level, String, Value)> {
    Some(match event {
        Event::Stage(what) => (Level::Info, what.clone(), json!({})),
        Event::StepStarted(what) => (Level::Info, what.clone(), json!({ "step": what })),
        Event::SourceStarted(name) => {
            (Level::Info, format!("source {name}: started"), json!({ "source": name, "state": "started" }))
        }
        Event::SourceEnded(name, Ok(())) => {
            (Level::Info, format!("source {name}: done"), json!({ "source": name, "state": "done" }))
        }
        Event::SourceEnded(name, Err(why)) => {
            let fields = json!({ "source": name, "state": "failed", "error": why });
            (Level::Error, format!("source {name}: failed: {why}"), fields)
        }
        Event::StoodStill(who, seconds) => {
            (Level::Info, output::stood_still(who, *seconds), json!({ "stood_still_seconds": seconds }))
        }
        Event::Outage(seconds) => (Level::Info, output::outage(*seconds), json!({ "outage_seconds": seconds })),
        Event::Warning(text) => (Level::Warning, format!("warning: {text}"), json!({})),
        Event::Lost(run) => {
            let text = format!("warning: the {run}, begun {}, was killed", time::utc(run.at));
            (Level::Warning, text, json!({ "verb": run.verb, "plan": run.plan, "host": run.host }))
        }
        Event::Committed(plan, id) => {
            (Level::Info, format!("plan {plan}: backup {id} committed"), json!({ "plan": plan, "backup": id }))
        }
        Event::Expect(_)
        | Event::Read(_)
        | Event::Shipped(_)
        | Event::Restored(_)
        | Event::StepEnded(..)
        | Event::Reported(_)
        | Event::Begun(_)
        | Event::Declined(_)
        | Event::Ended(..) => return None,
    })
}

impl Monitor for Log {
    fn event(&self, event: Event) {
        let Some((level, text, mut fields)) = line(&event) else { return };
        let number = level as u8;
        match (self.form, &self.journal) {
            (Form::Json, journal) => {
                // What a machine collects goes to others.
                fields["time"] = json!(Timestamp::now());
                fields["level"] = json!(level.name());
                fields["message"] = json!(text.strip_prefix("warning: ").unwrap_or(&text));
                scrub_value(&mut fields);
                // The journal takes the level off the line.
                let level = if journal.is_some() { format!("<{number}>") } else { String::new() };
                output::remark(&format!("{level}{fields}"));
            }
            (Form::Text, Some(journal)) => {
                let text = scrub(&text);
                scrub_value(&mut fields);
                if !journal.send(number, &text, &fields) {
                    output::remark(&format!("<{number}>{}", text.replace('\n', " ")));
                }
            }
            (Form::Text, None) => output::remark(&text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_an_error_and_counting_is_no_line() {
        let (level, text, fields) = line(&Event::SourceEnded("db".parse().unwrap(), Err("gone".into()))).unwrap();
        assert_eq!((level as u8, text.as_str()), (3, "source db: failed: gone"));
        assert_eq!(fields, json!({ "source": "db", "state": "failed", "error": "gone" }));
        assert_eq!(line(&Event::Warning("x".into())).unwrap().0 as u8, 4);
        assert!(line(&Event::Read(4)).is_none());
    }
}
