//! Webhooks: URLs that are called when a run begins, succeeds or fails, as healthchecks.io and its like want them, and one
//! that gets everything as JSON.
//!
//! They are called in the background and in order, each call with a time limit and a few tries. A hook that does not
//! answer is a warning and no more. Their URLs are secrets: whoever knows one can say that all is well.

use super::http;
use super::monitor::{Event, Failure, Monitor, Run, Verb};
use super::report::Report;
use super::scrub::{scrub, scrub_value};
use crate::error::Result;
use crate::model::{BackupId, Name, size, time};
use jiff::SignedDuration;
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

/// The limit of one call.
const LIMIT: Duration = Duration::from_secs(5);
/// Pauses before further tries.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(2)];
/// How long the end of a command waits for its hooks.
const FINISH: Duration = Duration::from_secs(15);

/// URLs. `{host}`, `{plan}` and `{verb}` in them stand for those of the run.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Urls {
    /// Called when a run begins.
    pub start: Option<String>,
    /// Called when it succeeded.
    pub success: Option<String>,
    /// Called when it failed, or was killed.
    pub failure: Option<String>,
    /// Called each time, with JSON.
    pub json: Option<String>,
}

impl std::fmt::Debug for Urls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let set = |name, url: &Option<String>| url.as_ref().map(|_| name);
        let all = [set("start", &self.start), set("success", &self.success), set("failure", &self.failure)];
        f.debug_set().entries(all.into_iter().flatten()).entries(set("json", &self.json)).finish()
    }
}

/// What is configured.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// For every plan.
    pub all: Urls,
    /// For this plan, instead of those above.
    pub plans: BTreeMap<Name, Urls>,
}

impl Options {
    /// True when nothing is to be called.
    pub fn is_empty(&self) -> bool {
        self.all == Urls::default() && self.plans.values().all(|urls| *urls == Urls::default())
    }

    /// The URL of a run. A ping tells a watchdog that backups come, so a URL without `{verb}` is called by whole backups
    /// only: a prune that went well must not hide a backup that did not. The JSON hook is told of everything.
    fn of(&self, run: &Run, which: impl Fn(&Urls) -> &Option<String>, everything: bool) -> Option<String> {
        let own = run.plan.as_ref().and_then(|plan| self.plans.get(plan)).and_then(|urls| which(urls).as_ref());
        let url = own.or(which(&self.all).as_ref())?;
        let backup = run.verb == Verb::Backup && run.whole;
        if !everything && !backup && !url.contains("{verb}") {
            return None;
        }
        let url = url.replace("{host}", run.host.as_str()).replace("{verb}", run.verb.name());
        match &run.plan {
            Some(plan) => Some(url.replace("{plan}", plan.as_str())),
            None if url.contains("{plan}") => None,
            None => Some(url),
        }
    }
}

enum Body {
    Text(String),
    Json(Value),
}

struct Call {
    name: &'static str,
    url: String,
    body: Body,
}

/// The listener.
pub struct Hooks {
    options: Options,
    queue: Mutex<Option<UnboundedSender<Call>>>,
    worker: Mutex<Option<JoinHandle<Vec<String>>>>,
    seen: Mutex<(Option<BackupId>, Option<Report>)>,
}

impl Hooks {
    /// Begins to listen, on the runtime that is running.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn start(options: Options) -> Result<Self> {
        let (queue, calls) = unbounded_channel();
        let worker = tokio::spawn(deliver(calls, http::client(LIMIT)?));
        let (queue, worker) = (Mutex::new(Some(queue)), Mutex::new(Some(worker)));
        Ok(Hooks { options, queue, worker, seen: Mutex::default() })
    }

    /// Waits until everything was called, for a while; what could not be delivered, in words.
    pub async fn finish(&self) -> Vec<String> {
        drop(lock(&self.queue).take());
        let worker = lock(&self.worker).take();
        let Some(mut worker) = worker else { return Vec::new() };
        match tokio::time::timeout(FINISH, &mut worker).await {
            Ok(warnings) => warnings.unwrap_or_default(),
            Err(_) => {
                worker.abort();
                vec![format!("webhooks did not answer within {} s and are given up", FINISH.as_secs())]
            }
        }
    }

    fn call(&self, name: &'static str, url: Option<String>, body: Body) {
        if let (Some(url), Some(queue)) = (url, &*lock(&self.queue)) {
            let _ = queue.send(Call { name, url, body });
        }
    }

    fn began(&self, run: &Run) {
        *lock(&self.seen) = (None, None);
        let text = format!("{run} begins\n");
        self.call("start_url", self.options.of(run, |u| &u.start, false), Body::Text(text));
        let body = Body::Json(about("start", run));
        self.call("json_url", self.options.of(run, |u| &u.json, true), body);
    }

    fn ended(&self, run: &Run, seconds: f64, result: &std::result::Result<(), Failure>) {
        let (backup, report) = std::mem::take(&mut *lock(&self.seen));
        let took = time::words(SignedDuration::try_from_secs_f64(seconds).unwrap_or_default());
        let (which, name, mut text) = match result {
            Ok(()) => ("success", "success_url", format!("{run}: success in {took}\n")),
            Err(f) => {
                ("failure", "failure_url", format!("{run}: failed ({}) after {took}: {}\n", f.kind.name(), f.text))
            }
        };
        if let (Some(id), Some(Report::Backup(b))) = (&backup, &report) {
            let (bytes, shipped) = (size::human(b.bytes), size::human(b.shipped));
            text.push_str(&format!("backup {id}: {bytes} of data, {shipped} shipped\n"));
        }
        let url = match result {
            Ok(()) => self.options.of(run, |u| &u.success, false),
            Err(_) => self.options.of(run, |u| &u.failure, false),
        };
        self.call(name, url, Body::Text(text));
        let mut value = about(which, run);
        value["seconds"] = json!(seconds);
        value["backup"] = json!(backup);
        value["report"] = json!(report);
        value["exit_code"] = json!(result.as_ref().err().map_or(0, |f| f.kind.exit_code()));
        if let Err(f) = result {
            value["error"] = json!({ "kind": f.kind.name(), "text": f.text, "hint": f.hint });
        }
        self.call("json_url", self.options.of(run, |u| &u.json, true), Body::Json(value));
    }

    fn lost(&self, run: &Run) {
        let text = format!("{run}, begun {}, was killed, or the machine went down", time::utc(run.at));
        self.call("failure_url", self.options.of(run, |u| &u.failure, false), Body::Text(format!("{text}\n")));
        let mut value = about("failure", run);
        value["error"] = json!({ "kind": "killed", "text": text });
        self.call("json_url", self.options.of(run, |u| &u.json, true), Body::Json(value));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn about(event: &str, run: &Run) -> Value {
    json!({ "event": event, "host": run.host, "verb": run.verb, "plan": run.plan, "whole_plan": run.whole, "begun": run.at })
}

impl Monitor for Hooks {
    fn event(&self, event: Event) {
        match event {
            Event::Begun(run) => self.began(&run),
            Event::Ended(run, seconds, result) => self.ended(&run, seconds, &result),
            Event::Lost(run) => self.lost(&run),
            Event::Declined(run) => {
                let url = self.options.of(&run, |u| &u.json, true);
                self.call("json_url", url, Body::Json(about("declined", &run)));
            }
            Event::Committed(_, id) => lock(&self.seen).0 = Some(id),
            Event::Reported(report) => lock(&self.seen).1 = Some(*report),
            _ => {}
        }
    }
}

async fn deliver(mut calls: UnboundedReceiver<Call>, client: reqwest::Client) -> Vec<String> {
    let mut warnings = Vec::new();
    while let Some(Call { name, url, body }) = calls.recv().await {
        let mut tries = PAUSES.iter();
        loop {
            let (why, again) = match post(&client, &url, &body).await {
                Ok(status) if status.is_success() => break,
                Ok(status) => {
                    let again = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
                    (format!("it answered {status}"), again)
                }
                Err(e) => (http::why(e), true),
            };
            match tries.next().filter(|_| again) {
                Some(pause) => tokio::time::sleep(*pause).await,
                None => {
                    warnings.push(format!("the webhook `{name}` could not be called: {}", scrub(&why)));
                    break;
                }
            }
        }
    }
    warnings
}

async fn post(client: &reqwest::Client, url: &str, body: &Body) -> reqwest::Result<StatusCode> {
    let request = client.post(url);
    let request = match body {
        Body::Text(text) => request.header("Content-Type", "text/plain; charset=utf-8").body(scrub(text)),
        Body::Json(value) => {
            let mut value = value.clone();
            scrub_value(&mut value);
            request.json(&value)
        }
    };
    Ok(request.send().await?.status())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(verb: Verb, plan: Option<&str>, whole: bool) -> Run {
        let plan = plan.map(|p| p.parse().unwrap());
        Run { verb, host: "web-1".parse().unwrap(), plan, at: jiff::Timestamp::UNIX_EPOCH, whole }
    }

    #[test]
    fn a_ping_is_sent_by_whole_backups_only_unless_it_names_the_command() {
        let url =
            |text: &str| Options { all: Urls { success: Some(text.into()), ..Urls::default() }, ..Options::default() };
        let of = |text: &str, run: &Run| url(text).of(run, |u| &u.success, false);
        let backup = run(Verb::Backup, Some("shop"), true);
        assert_eq!(of("http://h/{host}/{plan}", &backup).as_deref(), Some("http://h/web-1/shop"));
        for other in [run(Verb::Backup, Some("shop"), false), run(Verb::Prune, None, true)] {
            assert_eq!(of("http://h/x", &other), None);
        }
        assert_eq!(of("http://h/{verb}", &run(Verb::Prune, None, true)).as_deref(), Some("http://h/prune"));
        // Without a plan there is nothing to put in its place.
        assert_eq!(of("http://h/{verb}/{plan}", &run(Verb::Prune, None, true)), None);
    }

    #[test]
    fn the_urls_of_a_plan_stand_before_those_of_all() {
        let mut options = Options::default();
        options.all.failure = Some("http://h/all".into());
        let own = Urls { failure: Some("http://h/own".into()), ..Urls::default() };
        options.plans.insert("shop".parse().unwrap(), own);
        let of = |plan| options.of(&run(Verb::Backup, Some(plan), true), |u| &u.failure, false).unwrap();
        assert_eq!((of("shop"), of("other")), ("http://h/own".to_owned(), "http://h/all".to_owned()));
        assert!(!format!("{options:?}").contains("http"));
    }
}
