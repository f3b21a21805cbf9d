//! Every step of a whole restore, done and undone twice, and made to fail: the steps are those that `backstay restore` makes, and run in
//! another process within the machine.

use crate::host::{Host, NOW, THEN, ok};
use async_trait::async_trait;
use backstay::config::load;
use backstay::error::{Error, Kind, Result};
use backstay::recovery::asked::{Asked, Part};
use backstay::recovery::engine::{Ended, Engine, Notes, Step};
use backstay::recovery::flow::With;
use backstay::recovery::flow::decide::{self, Restored};
use backstay::recovery::journal::{Begin, Journal};
use backstay::recovery::resource::Note;
use backstay::recovery::resources::{Backups, resources};
use backstay::recovery::restore::{history, journal_file, new_id, steps_of};
use backstay::recovery::{chosen, select};
use backstay::repository::access;
use backstay::repository::catalog::Catalog;
use backstay::repository::reader::Reader;
use backstay::sources::postgres::load::What;
use backstay::storage::open::open;
use backstay::telemetry::monitor::{Monitor, Silent};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Tells the process what to do.
const VARIABLE: &str = "BACKSTAY_TEST_DRIVES";
/// What it says of each step, before anything.
const STEP: &str = "STEP ";

/// How the steps are changed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Drive {
    /// Tells the names of the steps, and does nothing.
    only_names: bool,
    /// Every act and every undo happens twice.
    twice: bool,
    /// This step fails.
    fails: Option<String>,
    /// Only when it has had its effect.
    late: bool,
}

struct Changed {
    step: Box<dyn Step>,
    twice: bool,
    fails: bool,
    late: bool,
}

#[async_trait]
impl Step for Changed {
    fn name(&self) -> String {
        self.step.name()
    }

    async fn prepare(&self, notes: &Notes<'_>) -> Result<Note> {
        self.step.prepare(notes).await
    }

    async fn act(&self, note: &Note) -> Result<Note> {
        if self.fails && !self.late {
            return Err(Error::new(Kind::Restore, "it was made to fail before its effect"));
        }
        let mut done = self.step.act(note).await?;
        if self.twice {
            done = self.step.act(note).await?;
        }
        if self.fails {
            return Err(Error::new(Kind::Restore, "it was made to fail after its effect"));
        }
        Ok(done)
    }

    async fn undo(&self, note: &Note) -> Result<()> {
        self.step.undo(note).await?;
        if self.twice { self.step.undo(note).await } else { Ok(()) }
    }

    fn by_hand(&self, note: &Note) -> Vec<String> {
        self.step.by_hand(note)
    }

    fn outlives_a_start(&self) -> bool {
        self.step.outlives_a_start()
    }
}

#[allow(clippy::print_stdout)]
async fn drive(drive: Drive) {
    let config = load::load(Path::new("/etc/backstay/backstay.toml")).unwrap();
    let store = open(&config.storage, None).await.unwrap();
    let unlock = access::read_identity_file(config.identity_file.as_ref().unwrap()).unwrap();
    let vault = access::open_with(store, &config.host, &unlock).await.unwrap();
    let catalog = Catalog::new(Arc::new(vault), None);
    let plan = config.plans.values().next().unwrap();
    let m = select::backup(&catalog, &plan.name, "latest", None, &[]).await.unwrap();
    let reader = Reader::new(catalog, Arc::new(Silent)).unwrap();
    let source = |name: &str| select::source(&m, &name.parse().unwrap()).unwrap();
    let (db, data) = (source("db"), source("data"));
    let paths: Vec<PathBuf> = serde_json::from_value(data.facts.get("paths").cloned().unwrap()).unwrap();
    let restored = Restored { sources: &plan.sources, paths: &paths, keep_on_failed_check: false, rollback: false };
    let asked = Asked {
        by: "a test".into(),
        parts: vec![
            Part::Databases {
                source: db.name.clone(),
                targets: chosen::targets(db, None, None).unwrap(),
                server: None,
            },
            Part::Files { source: data.name.clone(), paths: paths.clone() },
        ],
        no_owner: false,
        no_privileges: false,
        assume_space: None,
        what: What::All,
        in_place: None,
        fresh_cluster: false,
        taken: Some(m.started),
        flow: decide::flow(&config, plan, &restored).await.unwrap(),
        rollback_of: None,
    };
    let id = new_id();
    let from = Backups { manifest: Some(&m), safety: None, reader: Some(&reader) };
    let made = resources(&asked, Some(&config), &[], &id, from).await.unwrap();
    let monitor: Arc<dyn Monitor> = Arc::new(Silent);
    let with = With {
        plan: Some(&plan.restore),
        id: &id,
        backup: &m.id,
        state_dir: config.state_dir.clone(),
        resources: &made,
        monitor: monitor.clone(),
    };
    let changed = |step: Box<dyn Step>| {
        let fails = drive.fails.as_ref() == Some(&step.name());
        Box::new(Changed { step, twice: drive.twice, fails, late: drive.late }) as Box<dyn Step>
    };
    let steps: Vec<Box<dyn Step>> = steps_of(&asked, &with).unwrap().into_iter().map(changed).collect();
    let names: Vec<String> = steps.iter().map(|s| s.name()).collect();
    if drive.only_names {
        names.iter().for_each(|name| println!("{STEP}{name}"));
        return;
    }
    let begin = Begin {
        id: id.clone(),
        plan: plan.name.clone(),
        backup: m.id.clone(),
        asked: serde_json::json!(asked),
        steps: names,
    };
    let file = journal_file(&config.state_dir);
    let mut engine = Engine::new(steps, Journal::begin(&file, begin).unwrap(), monitor).unwrap();
    match engine.run().await.unwrap() {
        Ended::Committed => println!("COMMITTED"),
        Ended::Unwound(e) => println!("UNWOUND {e}"),
        stuck => panic!("{stuck:?}"),
    }
    // As a restore puts it away, so that what it kept can be dropped.
    std::fs::create_dir_all(history(&config.state_dir)).unwrap();
    std::fs::rename(file, history(&config.state_dir).join(format!("{id}.journal"))).unwrap();
}

#[test]
fn what_runs_in_the_machine() {
    // Among the other tests it does nothing.
    let Ok(text) = std::env::var(VARIABLE) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(drive(serde_json::from_str(&text).unwrap()));
}

/// A host whose plan has a step of every kind: files that nginx and systemd read, hooks, a cache.
fn host(what: &str) -> Host {
    let host = Host::with(
        what,
        |machine| {
            machine.write("/etc/nginx/app.d/app.conf", "# Nothing.\n");
            machine.write("/etc/systemd/system/app.service.d/app.conf", "[Unit]\nDescription=The application\n");
        },
        |config| {
            let config = config.replace(
                "paths = [\"/srv/app/data\"]",
                "paths = [\"/srv/app/data\", \"/etc/nginx/app.d\", \"/etc/systemd/system/app.service.d\"]",
            );
            let config = config.replace(
                "[plans.app.restore]",
                "[plans.app.restore]\nflush = [\"cache/1\"]\nafter_swap = [{ command = [\"touch\", \"/srv/hooked\"], undo = [\"rm\", \"-f\", \"/srv/hooked\"] }]",
            );
            format!("{config}\n[sources.cache]\nkind = \"redis\"\nurl = \"redis://127.0.0.1:6379\"\n")
        },
    );
    host.machine.sh("systemctl start redis-server");
    host.machine.until("redis-cli ping | grep PONG");
    host.machine.write("/etc/systemd/system/app.service.d/app.conf", "[Unit]\nDescription=The application of today\n");
    host.machine.sh("systemctl daemon-reload");
    host
}

impl Host {
    fn drive(&self, drive: &Drive) -> String {
        let text = serde_json::to_string(drive).unwrap();
        let out = self.machine.test("driven::what_runs_in_the_machine", (VARIABLE, &text)).output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.status.success(), "{drive:?}: {said}\n{}", String::from_utf8_lossy(&out.stderr));
        said
    }

    /// Everything that such a plan could change.
    fn all(&self) -> String {
        let more = self.machine.sh("ls /srv; systemctl show app -p Description; redis-cli -n 0 dbsize");
        format!("{}\n{more}", self.state())
    }

    fn steps(&self) -> Vec<String> {
        let said = self.drive(&Drive { only_names: true, ..Drive::default() });
        let steps: Vec<String> = said.lines().filter_map(|l| l.strip_prefix(STEP)).map(str::to_owned).collect();
        for kind in ["stage ", "verify ", "after_stage", "check ", "maintenance on", "drain", "hold ", "stop ", "swap "]
        {
            assert!(steps.iter().any(|s| s.starts_with(kind)), "{kind} is missing in {steps:?}");
        }
        for kind in ["reload", "after_swap", "flush ", "start the application", "start the rest", "maintenance off"] {
            assert!(steps.iter().any(|s| s.starts_with(kind)), "{kind} is missing in {steps:?}");
        }
        steps
    }
}

#[test]
fn done_twice_and_undone_twice_it_is_as_if_once() {
    let host = host("twice");
    let before = host.all();
    let last = host.steps().pop().unwrap();
    let failed = host.drive(&Drive { twice: true, fails: Some(last), late: true, ..Drive::default() });
    assert!(failed.contains("UNWOUND"), "{failed}");
    host.clean();
    assert_eq!(host.all(), before);
    assert_eq!(host.shows(), NOW);
    host.machine.sh("redis-cli -n 0 set session kept; redis-cli -n 1 set page stale");
    let done = host.drive(&Drive { twice: true, ..Drive::default() });
    assert!(done.contains("COMMITTED"), "{done}");
    assert_eq!(host.shows(), THEN);
    assert_eq!(host.machine.sh("systemctl is-active app worker"), "active\nactive");
    assert_eq!(host.machine.sh("systemctl show app -P Description"), "The application");
    assert_eq!(host.machine.sh("redis-cli -n 0 get session; redis-cli -n 1 dbsize"), "kept\n0");
    host.machine.sh("redis-cli -n 0 del session");
    ok(&host.backstay(&["rollback", "--yes"]));
    host.clean();
    host.machine.sh("rm /srv/hooked");
    assert_eq!(host.all(), before);
}

/// Each step in turn; afterwards everything is as it was.
fn each_fails(what: &str, late: bool) {
    let host = host(what);
    let before = host.all();
    for step in host.steps() {
        let said = host.drive(&Drive { fails: Some(step.clone()), late, ..Drive::default() });
        assert!(said.contains("UNWOUND it was made to fail"), "{step}: {said}");
        assert_eq!(host.shows(), NOW, "{step} failed");
        host.clean();
        assert_eq!(host.all(), before, "{step} failed");
    }
}

#[test]
fn each_step_that_fails_before_its_effect_takes_everything_back() {
    each_fails("before", false);
}

#[test]
fn each_step_that_fails_after_its_effect_takes_everything_back() {
    each_fails("after", true);
}
