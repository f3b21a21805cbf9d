//! Hooks against a real server: one transaction, the right database, the right owner, once.

use crate::cluster::Cluster;
use crate::stage::Stage;
use crate::{PASSWORD, Sources, list, source};
use backstay::config::checks::{Hook, RawHook, When, hooks_of};
use backstay::error::Kind;
use backstay::recovery::checks::context::Renamed;
use backstay::recovery::hooks::{HookContext, Placed, once};
use std::path::Path;
use std::time::{Duration, Instant};

fn hook(when: When, keys: &str, sources: &Sources) -> Hook {
    let raw: Vec<RawHook> = list(&format!("[[list]]\n{keys}\n"));
    hooks_of(raw, when, "plans.p.restore.hooks", Path::new("/"), sources).unwrap_or_else(|e| panic!("{e}")).remove(0)
}

/// A cluster in which `erp` is restored, whose staging database is `erp_staged`. It belongs to `app`.
struct World {
    cluster: Cluster,
    sources: Sources,
    context: HookContext,
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let cluster = Cluster::start();
        cluster.psql("postgres", "CREATE ROLE app LOGIN PASSWORD 'x'");
        cluster.psql("postgres", "CREATE DATABASE erp OWNER app");
        cluster.psql("postgres", "CREATE DATABASE erp_staged");
        for name in ["erp", "erp_staged"] {
            cluster.psql(name, "GRANT CREATE ON SCHEMA public TO app; CREATE TABLE users (name text, mail text); ALTER TABLE users OWNER TO app");
            cluster.psql(name, "INSERT INTO users VALUES ('admin', 'admin@acme.test'), ('bob', 'bob@acme.test')");
        }
        let sources = source(&cluster, "erp");
        let dir = tempfile::tempdir().unwrap();
        let renamed = Renamed { source: "db".into(), live: "erp".into(), staging: "erp_staged".into() };
        let path = Placed { live: "/opt/erp".into(), staging: "/opt/.erp_staged".into() };
        let context = HookContext {
            backup: "20260103T220000Z-aaaaaaaa".into(),
            restore: "20260104T080000Z-bbbbbbbb".into(),
            state_dir: dir.path().join("state"),
            databases: vec![renamed],
            paths: vec![path],
        };
        World { cluster, sources, context, dir }
    }

    fn hook(&self, keys: &str) -> Hook {
        hook(When::AfterStage, keys, &self.sources)
    }

    fn mails(&self, database: &str) -> String {
        self.cluster.psql(database, "SELECT string_agg(mail, ' ' ORDER BY mail) FROM users")
    }
}

#[tokio::test]
async fn statements_change_what_was_staged_and_nothing_else() {
    let w = World::new();
    let sql = "UPDATE users SET mail = name || '@invalid'; CREATE TABLE done (at timestamptz); \
         INSERT INTO done VALUES (now()); CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1; SELECT 2 $$;";
    w.hook(&format!("sql = \"{sql}\"")).run(&w.context).await.unwrap();
    assert_eq!(w.mails("erp_staged"), "admin@invalid bob@invalid");
    assert_eq!(w.mails("erp"), "admin@acme.test bob@acme.test");
    // What was made belongs to the owner of the live database.
    let owner = "SELECT tableowner FROM pg_tables WHERE tablename = 'done'";
    assert_eq!(w.cluster.psql("erp_staged", owner), "app");
    assert_eq!(w.cluster.psql("erp_staged", "SELECT f()"), "2");
    let after = hook(When::AfterSwap, "sql = \"DELETE FROM users WHERE name = 'bob'\"", &w.sources);
    after.run(&w.context).await.unwrap();
    assert_eq!(
        (w.mails("erp").as_str(), w.mails("erp_staged").as_str()),
        ("admin@acme.test", "admin@invalid bob@invalid")
    );
}

#[tokio::test]
async fn one_statement_that_fails_takes_all_of_them_back() {
    let w = World::new();
    let before = w.mails("erp_staged");
    for (sql, says) in [
        ("UPDATE users SET mail = 'x'; SELECT 1 FROM gone", "relation \"gone\" does not exist"),
        ("UPDATE users SET mail = 'x'; COMMIT; SELECT 1", "take BEGIN, COMMIT"),
        ("UPDATE users SET mail = 'x'; ROLLBACK", "take BEGIN, COMMIT"),
        ("UPDATE users SET mail = 'x';\n\\\\connect erp\nUPDATE users SET mail = 'x'", "syntax error"),
        ("UPDATE users SET mail = 'x'; \\\\! touch /tmp/bs-was-here", "syntax error"),
        ("UPDATE users SET mail = 'x'; COPY users FROM stdin", "COPY"),
        ("UPDATE users SET mail = 'x'; DROP ROLE postgres", "permission denied"),
    ] {
        let e = w.hook(&format!("sql = \"\"\"{sql}\"\"\"")).run(&w.context).await.unwrap_err();
        assert_eq!(e.kind, Kind::Restore);
        let said = e.to_string();
        assert!(said.contains("the hook after_stage 1 failed") && said.contains(says), "{sql}: {said}");
        assert_eq!((w.mails("erp_staged"), w.mails("erp")), (before.clone(), before.clone()), "{sql}");
    }
    assert!(!Path::new("/tmp/bs-was-here").exists());
}

#[tokio::test]
async fn statements_run_through_psql_in_the_same_way() {
    use backstay::config::SourceConfig;
    let mut w = World::new();
    let Some(SourceConfig::Postgres(db)) = w.sources.get_mut(&"db".parse().unwrap()) else { panic!() };
    db.address = db.address.clone().as_os_user(Some("postgres".into()));
    // psql would take `:name` and backslashes for its own.
    let sql = "UPDATE users SET mail = ':name \\\\! ' || 'a:b'; SELECT 1 WHERE ':x' = E'\\\\\\\\'";
    w.hook(&format!("sql = \"\"\"{sql}\"\"\"")).run(&w.context).await.unwrap();
    assert_eq!(w.mails("erp_staged"), ":name \\! a:b :name \\! a:b");
    let e = w.hook("sql = \"UPDATE users SET mail = 'x'; SELECT 1 FROM gone\"").run(&w.context).await;
    // Another hook of the same name has been done: it is the step that is done once.
    assert!(e.is_ok(), "{e:?}");
    once::forget(&w.context.state_dir, &w.context.restore).unwrap();
    let e = w.hook("sql = \"UPDATE users SET mail = 'x'; SELECT 1 FROM gone\"").run(&w.context).await.unwrap_err();
    assert!(e.to_string().contains("\"gone\" does not exist"), "{e}");
    assert_eq!(w.mails("erp_staged"), ":name \\! a:b :name \\! a:b");
    assert_eq!(w.mails("erp"), "admin@acme.test bob@acme.test");
}

#[tokio::test]
async fn statements_are_done_once_though_the_journal_forgot() {
    let w = World::new();
    let hook = w.hook("sql = \"INSERT INTO users VALUES ('carol', 'carol@acme.test')\"");
    for _ in 0..3 {
        hook.run(&w.context).await.unwrap();
    }
    assert_eq!(w.cluster.psql("erp_staged", "SELECT count(*) FROM users"), "3");
    // Staged once more, it is another database.
    w.cluster.psql("postgres", "DROP DATABASE erp_staged WITH (FORCE)");
    w.cluster.psql("postgres", "CREATE DATABASE erp_staged");
    w.cluster.psql("erp_staged", "CREATE TABLE users (name text, mail text); ALTER TABLE users OWNER TO app");
    hook.run(&w.context).await.unwrap();
    assert_eq!(w.cluster.psql("erp_staged", "SELECT count(*) FROM users"), "1");
    // One that was prepared and did not commit is done.
    let kept = std::fs::read_dir(w.context.state_dir.join("hooks")).unwrap().next().unwrap().unwrap().path();
    let oid = w.cluster.psql("postgres", "SELECT oid FROM pg_database WHERE datname = 'erp_staged'");
    let aborted = w.cluster.psql_output("erp_staged", "BEGIN; SELECT txid_current(); ROLLBACK");
    let number = String::from_utf8(aborted.stdout).unwrap().trim().to_owned();
    std::fs::write(&kept, format!("{{\"database\":{oid},\"transaction\":{number}}}")).unwrap();
    hook.run(&w.context).await.unwrap();
    assert_eq!(w.cluster.psql("erp_staged", "SELECT count(*) FROM users"), "2");
    once::forget(&w.context.state_dir, &w.context.restore).unwrap();
    assert!(!kept.exists());
}

#[tokio::test]
async fn a_database_that_is_not_restored_is_left_alone() {
    let mut w = World::new();
    w.context.databases.clear();
    let script = format!("touch {}", w.dir.path().join("ran").display());
    for keys in
        ["sql = \"DELETE FROM users\"".to_owned(), format!("command = [\"sh\", \"-c\", \"{script}\"]\nsource = \"db\"")]
    {
        for when in [When::AfterStage, When::AfterSwap] {
            let done = hook(when, &keys, &w.sources).run(&w.context).await.unwrap();
            assert_eq!(done.skipped.as_deref(), Some("database erp is not restored"));
        }
    }
    assert_eq!(w.mails("erp"), "admin@acme.test bob@acme.test");
    assert!(!w.dir.path().join("ran").exists());
}

#[tokio::test]
async fn the_settings_of_the_live_database_hold_for_what_was_staged() {
    let w = World::new();
    w.cluster.psql(
        "postgres",
        "ALTER DATABASE erp SET search_path = app, public; ALTER DATABASE erp SET my.tenant = 'acme'",
    );
    for name in ["erp", "erp_staged"] {
        w.cluster.psql(name, "CREATE SCHEMA app AUTHORIZATION app");
    }
    w.hook("sql = \"CREATE TABLE made AS SELECT current_setting('my.tenant') AS tenant\"")
        .run(&w.context)
        .await
        .unwrap();
    assert_eq!(w.cluster.psql("erp_staged", "SELECT tenant FROM app.made"), "acme");
    let psql = "command = [\"psql\", \"-XAtq\", \"-c\", \"CREATE TABLE too AS SELECT current_setting('my.tenant') AS tenant\"]";
    w.hook(&format!("{psql}\nsource = \"db\"")).run(&w.context).await.unwrap();
    assert_eq!(w.cluster.psql("erp_staged", "SELECT tenant FROM app.too"), "acme");
    assert_eq!(w.cluster.psql("erp_staged", "SELECT tableowner FROM pg_tables WHERE tablename = 'too'"), "app");
    // They come with the name; until then nothing is left of them.
    let left = "SELECT count(*) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = setdatabase WHERE datname = 'erp_staged'";
    assert_eq!(w.cluster.psql("postgres", left), "0");
}

#[tokio::test]
async fn a_program_is_told_where_what_was_staged_is_and_secrets_are_not_told() {
    let w = World::new();
    let out = w.dir.path().join("env");
    let script = format!(
        "env | sort > {}; psql -XAtq -c 'SELECT current_database()' >> {0}; test -z \\\"${{BACKSTAY_STAGING_URL-}}\\\" || psql \\\"$BACKSTAY_STAGING_URL\\\" -XAtqc 'SELECT 4711' >> {0}",
        out.display()
    );
    let keys =
        format!("command = [\"sh\", \"-euc\", \"{script}\"]\nsource = \"db\"\nsecrets = {{ KEY = \"hunter2-key\" }}");
    let hook_ = w.hook(&keys);
    assert!(!format!("{hook_:?}").contains("hunter2"));
    hook_.run(&w.context).await.unwrap();
    let said = std::fs::read_to_string(&out).unwrap();
    for line in [
        "BACKSTAY_HOOK=after_stage",
        "BACKSTAY_BACKUP_ID=20260103T220000Z-aaaaaaaa",
        "BACKSTAY_RESTORE_ID=20260104T080000Z-bbbbbbbb",
        "BACKSTAY_DATABASE=erp",
        "BACKSTAY_STAGING_DATABASE=erp_staged",
        "BACKSTAY_PATH_1=/opt/erp",
        "BACKSTAY_STAGING_PATH_1=/opt/.erp_staged",
        "PGDATABASE=erp_staged",
        "KEY=hunter2-key",
        "4711",
    ] {
        assert!(said.lines().any(|l| l == line), "{line} in\n{said}");
    }
    assert!(said.contains("\nerp_staged\n"), "{said}");
    let url = said.lines().find(|l| l.starts_with("BACKSTAY_STAGING_URL=")).unwrap();
    assert!(url.ends_with("/erp_staged") && !url.contains("p%27ss"), "{url}");
    // The context goes through the journal.
    let noted = serde_json::to_string(&w.context).unwrap();
    assert!(!noted.contains(PASSWORD) && !noted.contains("hunter2"));
    let after = hook(When::AfterSwap, &keys, &w.sources);
    after.run(&w.context).await.unwrap();
    let said = std::fs::read_to_string(&out).unwrap_or_default();
    assert!(!said.contains("STAGING") && said.contains("PGDATABASE=erp\n"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_fails_or_hangs_is_told_with_its_words() {
    let w = World::new();
    let run = async |keys: &str| w.hook(keys).run(&w.context).await.unwrap_err().to_string();
    let e = run("command = [\"sh\", \"-c\", \"echo no such migration; exit 3\"]\nname = \"migrate\"").await;
    assert!(e.contains("the hook after_stage migrate failed: it ended with exit status 3"), "{e}");
    assert!(e.contains("no such migration"), "{e}");
    let e = run("command = [\"sh\", \"-c\", \"echo $KEY >&2; exit 3\"]\nsecrets = { KEY = \"hunter2-key\" }").await;
    assert!(e.contains("***") && !e.contains("hunter2"), "{e}");
    let started = Instant::now();
    let e = run("command = [\"sleep\", \"1000\"]\ntimeout = \"300ms\"").await;
    assert!(e.contains("did not end within 0.3 seconds") && started.elapsed() < Duration::from_secs(5), "{e}");
    let e = run("sql = \"SELECT pg_sleep(1000)\"\ntimeout = \"500ms\"").await;
    assert!(e.contains("did not end within 0.5 seconds") || e.contains("statement timeout"), "{e}");
    let active = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND datname = 'erp_staged'";
    crate::stage::until("the server ended it", || w.cluster.psql("postgres", active) == "0");
}

#[tokio::test]
async fn a_program_after_the_swap_is_taken_back_by_its_undo() {
    let w = World::new();
    let file = w.dir.path().join("flag");
    let keys = format!("command = [\"touch\", \"{0}\"]\nundo = [\"rm\", \"-f\", \"{0}\"]", file.display());
    let after = hook(When::AfterSwap, &keys, &w.sources);
    for _ in 0..2 {
        after.run(&w.context).await.unwrap();
        assert!(file.exists());
    }
    for _ in 0..2 {
        after.take_back(&w.context).await.unwrap();
        assert!(!file.exists());
    }
    let keys = "command = [\"true\"]\nundo = [\"sh\", \"-c\", \"echo cannot >&2; exit 9\"]";
    let e = hook(When::AfterSwap, keys, &w.sources).take_back(&w.context).await.unwrap_err().to_string();
    assert!(e.contains("exit status 9") && e.contains("cannot"), "{e}");
    w.hook("sql = \"SELECT 1\"").take_back(&w.context).await.unwrap();
}

#[tokio::test]
async fn a_program_in_a_container_gets_all_of_it() {
    let w = World::new();
    let stage = Stage::new();
    let app = stage.container("app", &[]);
    let script = "id -u > /tmp/out; env >> /tmp/out";
    let keys = format!(
        "command = [\"sh\", \"-c\", \"{script}\"]\ncontainer = \"{app}\"\nos_user = \"app\"\nsource = \"db\"\nenv = {{ PGHOST = \"db\" }}"
    );
    stage.docker(&["exec", &app, "chmod", "777", "/tmp"]);
    let hook_ = w.hook(&keys);
    hook_.preflight().await.unwrap();
    hook_.run(&w.context).await.unwrap();
    let said = stage.docker(&["exec", &app, "cat", "/tmp/out"]);
    for line in ["1234", "PGHOST=db", "PGDATABASE=erp_staged", "BACKSTAY_STAGING_DATABASE=erp_staged"] {
        assert!(said.lines().any(|l| l == line), "{line} in\n{said}");
    }
    let e = w.hook("command = [\"true\"]\ncontainer = \"bs-no-such\"").preflight().await.unwrap_err();
    assert!(e.kind == Kind::Refused && e.to_string().contains("bs-no-such"), "{e}");
}

#[tokio::test]
async fn a_file_of_statements_is_read_when_it_is_needed() {
    let w = World::new();
    let file = w.dir.path().join("anonymise.sql");
    let hook_ = w.hook(&format!("sql_file = \"{}\"", file.display()));
    let e = hook_.preflight().await.unwrap_err().to_string();
    assert!(e.contains("the hook after_stage 1 cannot work") && e.contains("anonymise.sql"), "{e}");
    std::fs::write(&file, "-- who was it\nUPDATE users SET mail = NULL; -- done").unwrap();
    hook_.preflight().await.unwrap();
    hook_.run(&w.context).await.unwrap();
    assert_eq!(w.mails("erp_staged"), "");
}
