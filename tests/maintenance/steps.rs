//! Maintenance as steps of a restore: forward, back, twice each, and around what was on by hand.

use super::web::Web;
use backstay::error::{Error, Kind, Result};
use backstay::model::BackupId;
use backstay::recovery::engine::{Ended, Engine, Notes, Step};
use backstay::recovery::journal::{Begin, Journal, Record};
use backstay::recovery::maintenance::snippet::{self, State};
use backstay::recovery::maintenance::steps::{self, DRAIN, OFF, ON, Prior};
use backstay::recovery::resource::Note;
use backstay::telemetry::monitor::{Event, Monitor, Silent};
use std::process::Command;
use std::sync::{Arc, Mutex};

type Look = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// Looks at the web while maintenance is on, and fails when it is told to.
struct Between {
    name: &'static str,
    seen: Arc<Mutex<Vec<Option<String>>>>,
    look: Look,
    fails: bool,
}

#[async_trait::async_trait]
impl Step for Between {
    fn name(&self) -> String {
        self.name.into()
    }

    async fn prepare(&self, _: &Notes<'_>) -> Result<Note> {
        Ok(Note::Null)
    }

    async fn act(&self, _: &Note) -> Result<Note> {
        self.seen.lock().unwrap().push((self.look)());
        if self.fails { Err(Error::new(Kind::Restore, "told to fail")) } else { Ok(Note::Null) }
    }

    async fn undo(&self, _: &Note) -> Result<()> {
        self.seen.lock().unwrap().push((self.look)());
        Ok(())
    }

    fn by_hand(&self, _: &Note) -> Vec<String> {
        Vec::new()
    }
}

/// The shop's page, asked for by a thread of the step.
fn look(web: &Web) -> Look {
    let address = super::web::at(web.http);
    Box::new(move || {
        let reply = super::requests::Request::get("/").host("shop.example.com").send(address).unwrap();
        reply.maintenance().map(str::to_owned)
    })
}

struct Restore {
    engine: Engine,
    seen: Arc<Mutex<Vec<Option<String>>>>,
}

fn restore(web: &Web, id: &str, fails: [bool; 2]) -> Restore {
    restore_with(web, id, fails, look(web))
}

/// on, drain, between, off, last.
fn restore_with(web: &Web, id: &str, fails: [bool; 2], look_between: Look) -> Restore {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let monitor: Arc<dyn Monitor> = Arc::new(Silent);
    let [on, drain, off] = steps::of(&Arc::new(web.maintenance()), id, &monitor);
    let between = Between { name: "between", seen: seen.clone(), look: look_between, fails: fails[0] };
    let last = Between { name: "last", seen: Arc::default(), look: look(web), fails: fails[1] };
    let all: Vec<Box<dyn Step>> = vec![on, drain, Box::new(between), off, Box::new(last)];
    let id: BackupId = "20260103T220000Z-k3v9q2".parse().unwrap();
    let begin = Begin {
        id: id.clone(),
        plan: "p".parse().unwrap(),
        backup: id,
        asked: Note::Null,
        steps: all.iter().map(|s| s.name()).collect(),
    };
    let path = web.path().join(format!("journal-{:x}", rand::random::<u64>()));
    let engine = Engine::new(all, Journal::begin(&path, begin).unwrap(), monitor).unwrap();
    Restore { engine, seen }
}

fn note_of(restore: &Restore, step: &str) -> Prior {
    let position = restore.engine.journal().about().steps.iter().position(|s| s == step).unwrap();
    serde_json::from_value(restore.engine.journal().done(position).unwrap().clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_commits_shows_the_page_in_the_middle_and_leaves_no_trace() {
    let web = Web::installed().await;
    let mut restore = restore(&web, "r1", [false, false]);
    assert!(matches!(restore.engine.run().await.unwrap(), Ended::Committed));
    assert_eq!(*restore.seen.lock().unwrap(), [Some("r1".to_owned())]);
    assert_eq!((web.shown(), snippet::state_of(&web.snippet()).unwrap()), (None, State::Absent));
    // How long it was is in the notes.
    let (on, off) = (note_of(&restore, ON), note_of(&restore, OFF));
    assert!(off.at.unwrap() > on.at.unwrap() && on.before == State::Absent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_fails_ends_with_the_application_in_front_and_the_file_as_it_was() {
    for before in [State::Absent, State::Off] {
        let web = Web::installed().await;
        snippet::put(&web.snippet(), &before, web.maintenance().settings()).unwrap();
        // In the middle, and after it was off again: then it is on while the rest is undone.
        for (fails, seen) in [([true, false], 2), ([false, true], 2)] {
            let mut restore = restore(&web, "r1", fails);
            assert!(matches!(restore.engine.run().await.unwrap(), Ended::Unwound(_)));
            let seen_by_step = restore.seen.lock().unwrap().clone();
            assert_eq!(
                (seen_by_step.len(), seen_by_step.iter().all(Option::is_some)),
                (seen, true),
                "{seen_by_step:?}"
            );
            assert_eq!((web.shown(), snippet::state_of(&web.snippet()).unwrap()), (None, before.clone()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_by_hand_stays_on_as_it_was() {
    let web = Web::installed().await;
    web.with(|s| s.retry_after = 33).on("by-hand-1").await.unwrap();
    let content = std::fs::read(web.snippet()).unwrap();
    for fails in [[false, false], [true, false], [false, true]] {
        let mut restore = restore(&web, "r1", fails);
        restore.engine.run().await.unwrap();
        assert!(restore.seen.lock().unwrap().iter().all(|s| s.as_deref() == Some("by-hand-1")));
        assert_eq!(web.shown().as_deref(), Some("by-hand-1"));
        assert_eq!(std::fs::read(web.snippet()).unwrap(), content);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_step_does_and_undoes_twice_what_it_does_once() {
    let web = Web::installed().await;
    let monitor: Arc<dyn Monitor> = Arc::new(Silent);
    let [on, drain, off] = steps::of(&Arc::new(web.maintenance()), "r1", &monitor);
    let note = serde_json::to_value(Prior {
        id: "r1".into(),
        before: State::Absent,
        file: web.snippet(),
        at: None,
        warnings: Vec::new(),
    })
    .unwrap();
    for _ in 0..2 {
        for _ in 0..2 {
            on.act(&note).await.unwrap();
            assert_eq!(web.shown().as_deref(), Some("r1"));
            assert_eq!(drain.act(&Note::Null).await.unwrap()["left"], 0);
        }
        for _ in 0..2 {
            off.act(&note).await.unwrap();
            assert_eq!((web.shown(), web.snippet().exists()), (None, false));
        }
        for _ in 0..2 {
            off.undo(&note).await.unwrap();
            assert_eq!(web.shown().as_deref(), Some("r1"));
        }
        drain.undo(&Note::Null).await.unwrap();
        for _ in 0..2 {
            on.undo(&note).await.unwrap();
            assert_eq!((web.shown(), web.snippet().exists()), (None, false));
        }
    }
    assert_eq!((drain.name().as_str(), off.name().as_str()), (DRAIN, OFF));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_to_do_by_hand_does_it() {
    let web = Web::installed().await;
    let (shop, at) = (look(&web), web.path().join("sites-enabled/broken"));
    let breaking = move || {
        std::fs::write(&at, "server { nonsense; }\n").unwrap();
        shop()
    };
    let mut restore = restore_with(&web, "r1", [true, false], Box::new(breaking));
    // The configuration breaks while it is on: it cannot be switched off.
    let broken = web.path().join("sites-enabled/broken");
    let ended = restore.engine.run().await.unwrap();
    let Ended::Stuck { step, left, .. } = ended else {
        panic!("{ended:?}");
    };
    assert_eq!((step.as_str(), web.shown().as_deref()), (ON, Some("r1")));
    std::fs::remove_file(broken).unwrap();
    for line in &left {
        let ran = Command::new("sh").args(["-c", line]).output().unwrap();
        assert!(ran.status.success(), "{line}: {}", String::from_utf8_lossy(&ran.stderr));
    }
    super::web::until("the page is gone", || web.shop_gets("/").maintenance().is_none());
    // The journal can be unwound to its end now.
    assert!(matches!(restore.engine.go_back("again").await.unwrap(), Ended::Unwound(_)));
    assert_eq!((web.shown(), web.snippet().exists()), (None, false));
    assert!(restore.engine.journal().entries().iter().any(|e| matches!(e.record, Record::Stuck(..))));
}

#[derive(Default)]
struct Listener(Mutex<Vec<String>>);

impl Monitor for Listener {
    fn event(&self, event: Event) {
        if let Event::Warning(text) = event {
            self.0.lock().unwrap().push(text);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_do_not_end_in_time_are_told_and_fail_nothing() {
    let web = Web::installed().await;
    let listener = Arc::new(Listener::default());
    let monitor: Arc<dyn Monitor> = listener.clone();
    let maintenance = Arc::new(web.with(|s| s.drain = std::time::Duration::ZERO));
    let [_, drain, _] = steps::of(&maintenance, "r1", &monitor);
    let address = super::web::at(web.http);
    let slow =
        std::thread::spawn(move || super::requests::Request::get("/slow/50").host("shop.example.com").send(address));
    super::web::until("the slow request has begun", || web.app.running().contains(&"/slow/50".into()));
    maintenance.on("r1").await.unwrap();
    assert_eq!(drain.act(&Note::Null).await.unwrap()["left"], 1);
    assert!(listener.0.lock().unwrap()[0].contains("1 of nginx's old workers"), "{:?}", listener.0);
    slow.join().unwrap().unwrap();
}
