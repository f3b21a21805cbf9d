//! Checks and hooks as steps of a restore: what is in the journal, and how a failure unwinds.

use crate::cluster::Cluster;
use crate::{Sources, check_in, list, once, source};
use async_trait::async_trait;
use backstay::config::checks::{Check, Hook, RawHook, When, hooks_of};
use backstay::error::{Kind, Result};
use backstay::recovery::checks::context::{Context, Marks};
use backstay::recovery::checks::step::{self, MakeContext};
use backstay::recovery::engine::{Ended, Engine, Notes, Step};
use backstay::recovery::hooks::HookContext;
use backstay::recovery::hooks::step::{MakeHookContext, of_hooks};
use backstay::recovery::journal::{Begin, Journal};
use backstay::recovery::resource::Note;
use backstay::telemetry::monitor::Silent;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Stands for the staging of the databases: its note is that of the real one.
struct Staged(PathBuf);

#[async_trait]
impl Step for Staged {
    fn name(&self) -> String {
        "stage databases of db".into()
    }

    async fn prepare(&self, _: &Notes<'_>) -> Result<Note> {
        Ok(json!({ "databases": [{ "live": "erp", "staged": "erp_staged" }], "roles": [] }))
    }

    async fn act(&self, note: &Note) -> Result<Note> {
        Ok(note.clone())
    }

    async fn undo(&self, _: &Note) -> Result<()> {
        std::fs::write(&self.0, "undone").unwrap();
        Ok(())
    }

    fn by_hand(&self, _: &Note) -> Vec<String> {
        Vec::new()
    }
}

fn restore(dir: &Path, checks: &[Check], hooks: &[Hook]) -> Engine {
    let on_staging: MakeContext =
        Arc::new(|notes| Ok(Context::staged(step::renamed("db", notes.of("stage databases of db")?))));
    let live: MakeContext = Arc::new(|_| Ok(Context::live(jiff::Timestamp::now(), Marks::default())));
    let state_dir = dir.join("state");
    let of_hook: MakeHookContext = Arc::new(move |notes| {
        Ok(HookContext {
            backup: "b".into(),
            restore: "r".into(),
            state_dir: state_dir.clone(),
            databases: step::renamed("db", notes.of("stage databases of db")?),
            paths: Vec::new(),
        })
    });
    let mut steps: Vec<Box<dyn Step>> = vec![Box::new(Staged(dir.join("unwound")))];
    steps.extend(step::on_staging(checks, &on_staging));
    steps.extend(of_hooks(hooks, &of_hook));
    steps.extend(step::after_start(checks, &live));
    let begin = Begin {
        id: backstay::model::BackupId::new(jiff::Timestamp::now()),
        plan: "erp".parse().unwrap(),
        backup: backstay::model::BackupId::new(jiff::Timestamp::now()),
        asked: json!({}),
        steps: steps.iter().map(|s| s.name()).collect(),
    };
    let journal = Journal::begin(&dir.join("journal"), begin).unwrap();
    Engine::new(steps, journal, Arc::new(Silent)).unwrap()
}

fn world() -> (Cluster, Sources, tempfile::TempDir) {
    let cluster = Cluster::start();
    for name in ["erp", "erp_staged"] {
        cluster.psql("postgres", &format!("CREATE DATABASE {name}"));
        cluster.psql(name, "CREATE TABLE users (name text); INSERT INTO users VALUES ('admin')");
    }
    let sources = source(&cluster, "erp");
    (cluster, sources, tempfile::tempdir().unwrap())
}

#[tokio::test]
async fn checks_and_hooks_are_steps_whose_notes_hold_no_secret() {
    let (cluster, sources, dir) = world();
    std::fs::write(dir.path().join("pw"), "hunter2 here").unwrap();
    let checks = [
        check_in(
            dir.path(),
            "sql = \"SELECT count(*) FROM users\"\nexpect = 1\nbefore_swap = true\nname = \"users\"",
            &sources,
        ),
        check_in(dir.path(), "command = [\"true\"]\nsecrets_file = { A = \"pw\" }", &sources),
    ];
    let raw: Vec<RawHook> = list(
        "[[list]]\nsql = \"CREATE TABLE hooked ()\"\n[[list]]\ncommand = [\"true\"]\nsecrets = { B = \"hunter2\" }",
    );
    let hooks = hooks_of(raw, When::AfterStage, "k", dir.path(), &sources).unwrap();
    let mut engine = restore(dir.path(), &checks, &hooks);
    assert_eq!(
        engine.journal().about().steps[1..],
        ["check users on staging", "after_stage 1", "after_stage 2", "check users", "check command true"]
    );
    assert!(matches!(engine.run().await.unwrap(), Ended::Committed));
    assert_eq!(cluster.psql("erp_staged", "SELECT count(*) FROM pg_tables WHERE tablename = 'hooked'"), "1");
    let outcome = engine.journal().done(4).unwrap();
    assert_eq!((&outcome["name"], &outcome["good"], &outcome["found"]), (&json!("users"), &json!(true), &json!("1")));
    let journal = std::fs::read_to_string(dir.path().join("journal")).unwrap();
    assert!(!journal.contains("hunter2") && !journal.contains(crate::PASSWORD), "{journal}");
}

#[tokio::test]
async fn a_check_that_fails_unwinds_and_says_what_it_expected() {
    let (_cluster, sources, dir) = world();
    let check = once(check_in(dir.path(), "sql = \"SELECT count(*) FROM users\"\nmin = 100", &sources));
    let mut engine = restore(dir.path(), &[check], &[]);
    let Ended::Unwound(e) = engine.run().await.unwrap() else { panic!() };
    assert_eq!(e.kind, Kind::Mismatch);
    let said = e.to_string();
    assert!(
        said.contains("the check sql erp failed") && said.contains("expected at least 100") && said.contains("found 1"),
        "{said}"
    );
    assert!(dir.path().join("unwound").exists());
}

#[tokio::test]
async fn a_hook_that_fails_unwinds_too() {
    let (_cluster, sources, dir) = world();
    let raw: Vec<RawHook> = list("[[list]]\nsql = \"SELECT * FROM gone\"");
    let hooks = hooks_of(raw, When::AfterStage, "k", dir.path(), &sources).unwrap();
    let Ended::Unwound(e) = restore(dir.path(), &[], &hooks).run().await.unwrap() else { panic!() };
    assert!(e.to_string().contains("the hook after_stage 1 failed"), "{e}");
    assert!(dir.path().join("unwound").exists());
}
