//! A synchronous standby that is away: every commit waits for it without end, unless its session asks otherwise.

use crate::cluster::{Cluster, PASSWORD};
use crate::inplace;
use crate::tables::shop;
use crate::world::{self, Ran, World};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long one command may take; what waits for the standby is then killed.
const PATIENCE: &str = "100";

/// That standby, which never comes. The server forgets it when this is dropped.
struct Away<'a>(&'a Cluster);

impl<'a> Away<'a> {
    fn new(c: &'a Cluster) -> Self {
        c.psql("postgres", "CREATE TABLE waits (x int)");
        c.psql("postgres", "ALTER SYSTEM SET synchronous_standby_names = 'away'");
        c.psql("postgres", "SELECT pg_reload_conf()");
        let away = Away(c);
        // Every process of the server reads it when it comes to that.
        std::thread::sleep(Duration::from_secs(1));
        away.wait();
        away
    }

    /// From now on one more session waits, whose client is gone.
    fn wait(&self) {
        let port = self.0.port.to_string();
        let waits = Command::new("timeout")
            .arg("2")
            .arg(self.0.bin().join("psql"))
            .args(["-X", "-U", "postgres", "-p", &port, "-d", "postgres", "-c", "INSERT INTO waits VALUES (1)"])
            .arg("-h")
            .arg(self.0.path(""))
            .env("PGPASSWORD", PASSWORD)
            .output()
            .unwrap();
        assert_eq!(waits.status.code(), Some(124), "a commit does not wait: {waits:?}");
    }

    /// Ends the session that waits: from version 15 on the server drops no database as long as it does.
    fn without_waiting(self) -> Self {
        self.0.psql("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'");
        self
    }
}

impl Drop for Away<'_> {
    fn drop(&mut self) {
        let _ = self.0.psql_output("postgres", "ALTER SYSTEM RESET synchronous_standby_names");
        let _ = self.0.psql_output("postgres", "SELECT pg_reload_conf()");
    }
}

/// Runs the program, which must come to its end.
#[track_caller]
fn ends(w: &World, args: &[&str]) -> Ran {
    let command = w.command(args);
    let mut limited = Command::new("timeout");
    limited
        .args(["--signal=KILL", PATIENCE])
        .arg(command.get_program())
        .args(command.get_args())
        .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .current_dir(w.path())
        .stdin(Stdio::null());
    let ran = world::run(&mut limited);
    assert_ne!(ran.code, 137, "{args:?} waits:\n{}", ran.err);
    ran
}

#[test]
fn a_restore_waits_for_no_standby_that_is_away_whatever_it_writes() {
    for extra in ["", "os_user = \"postgres\"\nbig_tables = \"0\""] {
        let (c, w) = shop(extra);
        // What is live may say otherwise, and a hook sees its settings.
        c.psql("postgres", "ALTER DATABASE erp SET synchronous_commit = on");
        c.psql("erp", "DELETE FROM lines WHERE order_id > 100");
        let away = Away::new(&c);
        if extra.is_empty() {
            ends(&w, &["restore", "--to", "copy"])
                .code(10)
                .says(&["waited for a synchronous standby", "pg_terminate_backend"]);
        }
        let away = away.without_waiting();
        ends(&w, &["restore", "--to", "copy"]).code(0);
        ends(&w, &["restore", "--schema-only", "--to", "bare"]).code(0);
        ends(&w, &["restore", "--data-only", "--to", "bare"]).code(0);
        ends(&w, &["restore", "--table", "lines", "--to", "rescued"]).code(0);
        assert_eq!(c.psql("erp", "SELECT count(*) FROM rescued.lines"), "2000");
        ends(&w, &["restore", "--table", "lines", "--yes"]).code(0);
        assert_eq!(c.psql("erp", "SELECT count(*) FROM lines"), "2000");
        ends(&w, &["rollback", "--yes"]).code(0);
        let live = c.dump("erp");
        let config = std::fs::read_to_string(w.at("backstay.toml")).unwrap();
        let hook = |name: &str| format!("{name} = [{{ sql = \"CREATE TABLE of_{name} (x int)\" }}]\n");
        w.write_config(&format!("{config}[plans.p.restore]\n{}{}", hook("after_stage"), hook("after_swap")));
        ends(&w, &["restore", "--yes"]).code(0);
        assert_eq!(c.psql("erp", "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'of_after_%'"), "2");
        ends(&w, &["rollback", "--yes"]).code(0);
        assert_eq!(c.dump("erp"), live);
        drop(away);
    }
}

/// A statement that has long run begins to wait, and its standby comes within seconds.
#[test]
fn a_commit_that_waits_for_a_moment_is_no_reason_to_refuse() {
    let (c, w) = shop("");
    let away = Away::new(&c).without_waiting();
    std::thread::scope(|s| {
        s.spawn(|| c.psql_output("postgres", "INSERT INTO waits SELECT 1 FROM pg_sleep(12)"));
        let deadline = Instant::now() + Duration::from_secs(60);
        let waits =
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE '%FROM pg_sleep(12)'";
        while c.psql("postgres", waits) != "1" {
            assert!(Instant::now() < deadline, "the commit does not wait");
            std::thread::sleep(Duration::from_millis(100));
        }
        s.spawn(|| {
            std::thread::sleep(Duration::from_secs(4));
            drop(away);
        });
        ends(&w, &["restore", "--to", "copy"]).code(0);
    });
}

#[test]
fn a_restore_in_place_and_its_undo_wait_for_no_standby_that_is_away() {
    let c = Cluster::start();
    let (w, good, live) = inplace::changed(&c);
    let _away = Away::new(&c).without_waiting();
    let config = std::fs::read_to_string(w.at("backstay.toml")).unwrap();
    w.write_config(&format!("{config}[plans.p.restore]\nafter_swap = [{{ command = [\"/bin/false\"] }}]\n"));
    ends(&w, &["restore", "--in-place", "--yes"]).code(12).says(&["undo: swap database erp in place"]);
    assert_eq!(c.dump("erp"), live);
    w.write_config(&config);
    ends(&w, &["restore", "--in-place", "--yes"]).code(0);
    assert_eq!(c.dump("erp"), good);
    assert_eq!(c.psql("postgres", "SELECT count(*) FROM pg_shdescription WHERE description LIKE 'backstay%'"), "0");
}

#[test]
fn a_drop_that_the_server_does_not_come_to_the_end_of_ends_all_the_same_and_can_be_done_later() {
    let (c, w) = shop("");
    w.run(&["restore", "--yes"]).code(0);
    let id = w.last_restore();
    let kept = || c.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE 'erp_before_%'");
    let away = Away::new(&c);
    ends(&w, &["cleanup", &id]).code(12).says(&["wait for a synchronous standby (1)", "pg_terminate_backend"]);
    assert_eq!(kept(), "1");
    ends(&w, &["rollback", "--yes"]).code(10).says(&["cleanup of that restore has begun"]);
    assert_eq!(c.psql("postgres", "SELECT datallowconn FROM pg_database WHERE datname = 'erp'"), "t");
    let _away = away.without_waiting();
    ends(&w, &["cleanup", &id]).code(0).says(&["dropped database erp_before_"]);
    assert_eq!(kept(), "0");
}

#[test]
fn in_place_nothing_is_dropped_when_sessions_have_come_to_wait_since_the_first_look() {
    let c = Cluster::start();
    let (w, _, live) = inplace::changed(&c);
    // A safety backup that was loaded would give the same dump.
    let oid = || c.psql("postgres", "SELECT oid FROM pg_database WHERE datname = 'erp'");
    let before = oid();
    let away = Away::new(&c).without_waiting();
    let (begun, config) = (w.at("begun"), std::fs::read_to_string(w.at("backstay.toml")).unwrap());
    let hook = format!("after_stage = [{{ command = [\"/bin/sh\", \"-c\", \"touch {begun}; sleep 15\"] }}]");
    w.write_config(&format!("{config}[plans.p.restore]\n{hook}\n"));
    std::thread::scope(|scope| {
        let restore = scope.spawn(|| ends(&w, &["restore", "--in-place", "--yes"]));
        while !std::path::Path::new(&begun).exists() && !restore.is_finished() {
            std::thread::sleep(Duration::from_millis(20));
        }
        away.wait();
        let ran = restore.join().unwrap().code(12);
        ran.says(&["waited for a synchronous standby", "undo: swap database erp in place"]);
    });
    assert_eq!(oid(), before);
    assert_eq!(c.dump("erp"), live);
}
