//! The exchange of a live database: what goes along, what stays, what refuses, and what is left when it fails.

use crate::cluster::Cluster;
use crate::round_trip::{SOCKET, configure, with_database};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

fn erp(c: &Cluster) {
    c.psql("postgres", "CREATE ROLE app LOGIN PASSWORD 'x'");
    c.psql("postgres", "CREATE DATABASE erp OWNER app CONNECTION LIMIT 90");
    c.psql("erp", "CREATE TABLE t AS SELECT g AS id, md5(g::text) AS what FROM generate_series(1, 5000) g; ALTER TABLE t OWNER TO app");
}

/// What belongs to the name and not to the content.
fn attributes(c: &Cluster) -> String {
    c.psql(
        "postgres",
        "SELECT pg_get_userbyid(datdba), datacl::text, datconnlimit, shobj_description(oid, 'pg_database'), datallowconn, \
         (SELECT string_agg(coalesce(setrole::regrole::text, '') || array_to_string(setconfig, ';'), '|' ORDER BY setrole) FROM pg_db_role_setting WHERE setdatabase = d.oid) \
         FROM pg_database d WHERE datname = 'erp'",
    )
}

#[test]
fn owner_grants_settings_and_comment_stay_with_the_name() {
    let c = Cluster::start();
    erp(&c);
    c.psql("postgres", "CREATE ROLE reader; REVOKE ALL ON DATABASE erp FROM PUBLIC; GRANT CONNECT ON DATABASE erp TO reader WITH GRANT OPTION");
    c.psql("postgres", "ALTER DATABASE erp SET search_path = \"$user\", public, \"odd, \"\"one\"\"\"; ALTER DATABASE erp SET work_mem = '7MB'");
    c.psql(
        "postgres",
        "ALTER ROLE app IN DATABASE erp SET statement_timeout = '5s'; COMMENT ON DATABASE erp IS 'it''s the one'",
    );
    let before = attributes(&c);
    let w = with_database(&c, SOCKET);
    w.backup();
    // Changed since the backup: what is live wins.
    c.psql("postgres", "ALTER DATABASE erp SET work_mem = '9MB'");
    let live = attributes(&c);
    w.run(&["restore", "--yes"]).code(0).says(&["database erp keeps what it has now", "in the backup: settings"]);
    assert_eq!(attributes(&c), live);
    assert_eq!(c.psql("erp", "SHOW search_path"), "\"$user\", public, \"odd, \"\"one\"\"\"");
    // Lost: what the backup has.
    let kept = c.psql("postgres", "SELECT datname FROM pg_database WHERE datname LIKE 'erp_before_%'");
    c.psql("postgres", &format!("ALTER DATABASE \"{kept}\" ALLOW_CONNECTIONS true"));
    c.psql("postgres", "DROP DATABASE erp");
    w.run(&["restore", "--yes"]).code(0);
    assert_eq!(attributes(&c), before);
}

#[test]
fn a_rollback_brings_owner_grants_settings_and_comment_back_and_closes_what_it_takes_away() {
    let c = Cluster::start();
    erp(&c);
    c.psql(
        "postgres",
        "CREATE ROLE reader; REVOKE ALL ON DATABASE erp FROM PUBLIC; GRANT CONNECT ON DATABASE erp TO reader",
    );
    c.psql("postgres", "ALTER DATABASE erp SET work_mem = '7MB'; ALTER ROLE app IN DATABASE erp SET statement_timeout = '5s'; COMMENT ON DATABASE erp IS 'the one'");
    let w = with_database(&c, SOCKET);
    w.backup();
    c.psql("erp", "DELETE FROM t WHERE id > 100");
    let live = attributes(&c);
    w.run(&["restore", "--yes"]).code(0);
    // What is said of the restored one since goes with it.
    c.psql("postgres", "ALTER DATABASE erp OWNER TO postgres; GRANT CREATE ON DATABASE erp TO reader; ALTER DATABASE erp CONNECTION LIMIT 5");
    c.psql("postgres", "ALTER DATABASE erp SET work_mem = '9MB'; COMMENT ON DATABASE erp IS 'restored'");
    assert_ne!(attributes(&c), live);
    w.run(&["rollback", "--yes"]).code(0);
    assert_eq!(attributes(&c), live);
    assert_eq!(c.psql("erp", "SELECT count(*) FROM t"), "100");
    let beside = "SELECT count(*), bool_or(datallowconn) FROM pg_database WHERE datname LIKE 'erp\\_%'";
    assert_eq!(c.psql("postgres", beside), "1|f");
}

#[test]
fn names_of_63_bytes_are_exchanged_and_longer_ones_and_templates_refused() {
    let c = Cluster::start();
    // They differ only where a name beside them is cut.
    let names = ["a", "b"].map(|end| "x".repeat(62) + end);
    for name in &names {
        c.psql("postgres", &format!("CREATE DATABASE {name}"));
        c.psql(name, &format!("CREATE TABLE t AS SELECT '{name}'::text AS x"));
    }
    let mut w = with_database(&c, &SOCKET.replace("/erp", "/postgres"));
    w.extra = format!("databases = [\"{}\", \"{}\"]", names[0], names[1]);
    configure(&w, &c, &SOCKET.replace("/erp", "/postgres"));
    w.backup();
    let rows = || names.each_ref().map(|name| c.psql(name, "SELECT x FROM t"));
    for (name, x) in names.iter().zip(["one", "two"]) {
        c.psql(name, &format!("UPDATE t SET x = '{x}'"));
    }
    w.run(&["restore", "--yes"]).code(0);
    assert_eq!(rows(), names);
    let kept = "SELECT count(*) FROM pg_database WHERE datname LIKE 'xxx%\\_before\\_%'";
    assert_eq!(c.psql("postgres", kept), "2");
    w.run(&["rollback", "--yes"]).code(0);
    assert_eq!(rows(), ["one", "two"]);

    let databases = || c.psql("postgres", "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database");
    let before = databases();
    let longer = "x".repeat(64);
    w.run(&["restore", "--database", &names[0], "--to", &longer]).code(2).says(&["at most 63 bytes"]);
    w.extra.clear();
    configure(&w, &c, &SOCKET.replace("/erp", "/template1"));
    w.backup();
    w.run(&["restore", "--yes"]).code(10).says(&["template1 is a template and is not exchanged", "--to"]);
    w.run(&["restore", "--to", "template0"]).code(10).says(&["database template0 exists"]);
    assert_eq!(databases(), before);
}

#[test]
fn a_client_that_never_rests_sees_an_outage_of_seconds_and_loses_no_write_it_was_promised() {
    let c = Arc::new(Cluster::start());
    erp(&c);
    c.psql("erp", "CREATE TABLE ticks (n int)");
    let w = with_database(&c, SOCKET);
    w.backup();
    let stop = Arc::new(AtomicBool::new(false));
    let client = std::thread::spawn({
        let (c, stop) = (c.clone(), stop.clone());
        move || {
            let (mut longest, mut last, mut n) = (Duration::ZERO, Instant::now(), 0);
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                // A superuser, whom no connection limit keeps out.
                if c.psql_output("erp", &format!("INSERT INTO ticks VALUES ({n})")).status.success() {
                    longest = longest.max(last.elapsed());
                    last = Instant::now();
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            longest
        }
    });
    std::thread::sleep(Duration::from_millis(500));
    w.run(&["restore", "--yes"]).code(0);
    std::thread::sleep(Duration::from_millis(500));
    stop.store(true, Ordering::Relaxed);
    let longest = client.join().unwrap();
    assert!(longest < Duration::from_secs(10), "{longest:?}");
    let kept = c.psql("postgres", "SELECT datname FROM pg_database WHERE datname LIKE 'erp_before_%'");
    c.psql("postgres", &format!("ALTER DATABASE \"{kept}\" ALLOW_CONNECTIONS true"));
    let (old, new) = (c.psql(&kept, "SELECT max(n) FROM ticks"), c.psql("erp", "SELECT min(n) FROM ticks"));
    let (old, new): (u32, u32) = (old.parse().unwrap(), new.parse().unwrap());
    assert!(old > 0 && new > old, "the old database has writes up to {old}, the new one from {new} on");
}

#[test]
fn what_would_stay_with_the_old_database_refuses_before_anything_is_made() {
    let c = Cluster::start();
    c.psql("postgres", "ALTER SYSTEM SET wal_level = logical");
    c.psql("postgres", "ALTER SYSTEM SET max_prepared_transactions = 5");
    c.restart();
    erp(&c);
    let w = with_database(&c, SOCKET);
    w.backup();
    let databases = || c.psql("postgres", "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database");
    let before = databases();
    let refused = |says: &[&str]| {
        w.run(&["restore", "--yes"]).code(10).says(says);
        assert_eq!(databases(), before);
        assert!(!w.path().join("state/restore.journal").exists());
    };
    c.psql("erp", "SELECT pg_create_logical_replication_slot('feed', 'test_decoding')");
    refused(&["replication slots", "feed"]);
    c.psql("erp", "SELECT pg_drop_replication_slot('feed')");

    c.psql("erp", "BEGIN; INSERT INTO t VALUES (0, 'x'); PREPARE TRANSACTION 'half'");
    refused(&["prepared transactions", "half", "ROLLBACK PREPARED"]);
    c.psql("erp", "ROLLBACK PREPARED 'half'");

    c.psql("erp", "CREATE SUBSCRIPTION sub CONNECTION 'dbname=nowhere' PUBLICATION p WITH (connect = false)");
    refused(&["subscriptions", "sub"]);
    c.psql("erp", "ALTER SUBSCRIPTION sub SET (slot_name = NONE)");
    c.psql("erp", "DROP SUBSCRIPTION sub");

    w.run(&["restore", "--yes", "--assume-space", "1MiB"]).code(10).says(&["no room for a second copy"]);
    w.run(&["restore"]).code(2).says(&["--yes", "--to", "--dry-run"]);
    let plan = w.run(&["restore", "--dry-run"]).code(0);
    assert!(plan.out.contains("stage database erp") && plan.out.contains("swap database erp"), "{}", plan.out);
    assert_eq!(databases(), before);
    w.run(&["restore", "--yes"]).code(0);
}

#[test]
fn a_live_database_that_is_half_dropped_refuses_before_anything_is_made_and_is_restored_when_it_is_gone() {
    let c = Cluster::start();
    erp(&c);
    let w = with_database(&c, SOCKET);
    w.backup();
    let databases = || c.psql("postgres", "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database");
    let before = databases();
    // As a `DROP` leaves it that was interrupted.
    c.psql("postgres", "UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'erp'");
    for args in [&["restore", "--yes"][..], &["restore", "--in-place", "--yes", "--without-safety", "p"]] {
        w.run(args).code(10).says(&["a DROP of database erp was interrupted", "DROP DATABASE \"erp\""]);
        assert_eq!(databases(), before);
        assert!(!w.path().join("state/restore.journal").exists());
    }
    c.psql("postgres", "DROP DATABASE erp");
    w.run(&["restore", "--yes"]).code(0);
    assert_eq!(c.psql("erp", "SELECT count(*) FROM t"), "5000");
}

#[test]
fn what_would_go_along_with_the_restored_database_refuses_a_rollback_before_anything_is_touched() {
    let c = Cluster::start();
    c.psql("postgres", "ALTER SYSTEM SET wal_level = logical");
    c.psql("postgres", "ALTER SYSTEM SET max_prepared_transactions = 5");
    c.restart();
    erp(&c);
    let w = with_database(&c, SOCKET);
    w.backup();
    c.psql("erp", "DELETE FROM t");
    w.run(&["restore", "--yes"]).code(0);
    let oid = || c.psql("postgres", "SELECT oid FROM pg_database WHERE datname = 'erp'");
    let restored = oid();
    let refused = |says: &[&str]| {
        w.run(&["rollback", "--yes"]).code(10).says(says);
        assert_eq!(oid(), restored);
        assert!(!w.path().join("state/restore.journal").exists());
    };
    c.psql("erp", "SELECT pg_create_logical_replication_slot('feed', 'test_decoding')");
    refused(&["replication slots", "feed", "after the rollback"]);
    c.psql("erp", "SELECT pg_drop_replication_slot('feed')");

    c.psql("erp", "BEGIN; INSERT INTO t VALUES (0, 'x'); PREPARE TRANSACTION 'half'");
    refused(&["prepared transactions", "half", "ROLLBACK PREPARED"]);
    c.psql("erp", "ROLLBACK PREPARED 'half'");

    c.psql("erp", "CREATE SUBSCRIPTION sub CONNECTION 'dbname=nowhere' PUBLICATION p WITH (connect = false)");
    refused(&["subscriptions", "sub"]);
    c.psql("erp", "ALTER SUBSCRIPTION sub SET (slot_name = NONE)");
    c.psql("erp", "DROP SUBSCRIPTION sub");

    w.run(&["rollback", "--yes"]).code(0);
    assert_eq!(c.psql("erp", "SELECT count(*) FROM t"), "0");
}

#[test]
fn an_exchange_that_somebody_holds_up_without_end_fails_and_leaves_everything_as_it_was() {
    let c = Cluster::start();
    erp(&c);
    let w = with_database(&c, SOCKET);
    w.backup();
    let before = attributes(&c);
    let hold = "SELECT FROM pg_database WHERE datname = 'erp' FOR UPDATE; SELECT pg_sleep(90)";
    std::thread::scope(|scope| {
        let holds = scope.spawn(|| c.psql_output("postgres", hold));
        let sleeping = "FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        while !holds.is_finished() && c.psql("postgres", &format!("SELECT count(*) {sleeping}")) == "0" {
            std::thread::sleep(Duration::from_millis(50));
        }
        w.run(&["restore", "--yes"]).code(12).says(&["statement timeout", "Everything is as it was"]);
        c.psql("postgres", &format!("SELECT pg_terminate_backend(pid) {sleeping}"));
    });
    assert_eq!(attributes(&c), before);
    w.run(&["restore", "--yes"]).code(0);
}

/// Has the process that writes out the log for everybody do nothing any more, until the server is started anew.
fn stop_log_writer(c: &Cluster) {
    // While it waits it holds no lock that anybody else would wait for.
    let waits = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter' AND wait_event = 'WalWriterMain'";
    let pid = (0..100).map(|_| c.psql("postgres", waits)).find(|pid| !pid.is_empty()).expect("it never waits");
    assert!(std::process::Command::new("kill").args(["-STOP", &pid]).status().unwrap().success());
}

/// The load does not wait for the disk: its own sessions alone do not, and only until it is done.
#[test]
fn what_is_loaded_survives_a_crash_and_the_settings_of_the_load_stay_nowhere() {
    let c = Cluster::start();
    // A log that nobody writes out unless somebody waits for it.
    for setting in ["wal_writer_delay = '10s'", "wal_writer_flush_after = '1GB'", "autovacuum = off"] {
        c.psql("postgres", &format!("ALTER SYSTEM SET {setting}"));
    }
    c.restart();
    erp(&c);
    let w = with_database(&c, SOCKET);
    w.backup();
    let good = c.dump("erp");
    let settings = || {
        let server = "SELECT string_agg(name || ' ' || setting, '; ' ORDER BY name) FROM pg_settings WHERE source NOT IN ('client', 'session')";
        let stored = "SELECT count(*) FROM pg_db_role_setting";
        let written = std::fs::read_to_string(c.path("data/postgresql.auto.conf")).unwrap();
        (c.psql("postgres", server), c.psql("postgres", stored), written)
    };
    let before = settings();
    // Before anything commits behind the load: an exchange would write out the log of the load with its own. And not before the probe
    // has dropped its databases, for which every process of the server must take note.
    let mut child = w.command(&["restore", "--to", "copy"]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    while c.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE 'copy%'") == "0" {
        std::thread::sleep(Duration::from_millis(5));
    }
    stop_log_writer(&c);
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    assert!(lines.any(|l| l.unwrap().starts_with("verify ")));
    child.kill().unwrap();
    child.wait().unwrap();
    c.crash();
    let ran = w.run(&["restore", "--resume"]).code(0).says(&["equal to the facts"]);
    assert!(!ran.err.lines().any(|l| l.starts_with("stage ")), "it was loaded once more:\n{}", ran.err);
    assert_eq!(c.dump("copy"), good);
    // Nobody else here would tell the planner what is in it.
    assert_eq!(c.psql("copy", "SELECT count(*) FROM pg_stats WHERE tablename = 't'"), "2");
    c.psql("erp", "DELETE FROM t");
    w.run(&["restore", "--yes"]).code(0);
    c.crash();
    assert_eq!(c.dump("erp"), good);
    assert_eq!(settings(), before);
}

#[test]
fn a_database_that_was_made_to_try_is_dropped_whoever_is_connected_to_it() {
    let c = Cluster::start();
    erp(&c);
    let w = with_database(&c, SOCKET);
    w.backup();
    let left = "backstay_probe_before_00000000";
    c.psql("postgres", &format!("CREATE DATABASE {left}"));
    let there = || c.psql("postgres", &format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{left}'"));
    std::thread::scope(|scope| {
        let session = scope.spawn(|| c.psql_output(left, "SELECT pg_sleep(120)"));
        while !session.is_finished() && there() == "0" {
            std::thread::sleep(Duration::from_millis(50));
        }
        w.run(&["restore", "--to", "copy"]).code(0);
        assert!(!session.join().unwrap().status.success());
    });
    assert_eq!(c.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE 'backstay_probe%'"), "0");
}

#[test]
fn a_role_that_is_no_superuser_restores_what_it_may_and_is_told_what_it_may_not() {
    let c = Cluster::start();
    erp(&c);
    c.psql("postgres", "ALTER ROLE app PASSWORD 'p''ss \"wörd\\'");
    let w = with_database(&c, "postgresql://app@/erp?host=SOCKET&port=PORT");
    w.run(&["backup"]).code(0).says(&["without their passwords"]);
    w.run(&["restore", "--yes"]).code(10).says(&["may not create or rename databases", "CREATEDB"]);
    c.psql("postgres", "ALTER ROLE app CREATEDB");
    c.psql("erp", "DELETE FROM t");
    w.run(&["restore", "--yes"]).code(0).says(&["is no superuser"]);
    assert_eq!(c.psql("erp", "SELECT count(*) FROM t"), "5000");
    c.psql("postgres", "ALTER DATABASE erp OWNER TO postgres");
    w.run(&["restore", "--yes"]).code(10).says(&["belongs to postgres", "GRANT"]);
}

#[test]
fn a_disk_that_fills_up_during_the_load_leaves_the_live_database_untouched() {
    let c = Cluster::start();
    erp(&c);
    // The server's temporary space stands for its disk: a table in a tablespace on a file system of 16 MiB.
    let small = c.path("small");
    c.small_disk(&small);
    c.psql("postgres", &format!("CREATE TABLESPACE small LOCATION '{small}/ts'"));
    c.psql("erp", "CREATE TABLE filler (x text) TABLESPACE small; INSERT INTO filler SELECT repeat(md5(g::text), 50) FROM generate_series(1, 5000) g");
    let w = with_database(&c, SOCKET);
    w.backup();
    let (dump, databases) =
        (c.dump("erp"), c.psql("postgres", "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database"));
    w.run(&["restore", "--yes"]).code(10).says(&["no room for a second copy", &format!("{small}/ts")]);
    // It fills all the same.
    let failed = w
        .run(&["restore", "--yes", "--assume-space", "100GiB"])
        .code(12)
        .says(&["No space left on device", "Everything is as it was"]);
    assert!(failed.err.contains("undo: stage database erp"), "{}", failed.err);
    assert_eq!(c.dump("erp"), dump);
    assert_eq!(c.psql("postgres", "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database"), databases);
}

#[test]
fn a_restore_that_is_killed_is_taken_back_or_finished() {
    let c = Cluster::start();
    erp(&c);
    let w = with_database(&c, SOCKET);
    w.backup();
    let dump = c.dump("erp");
    c.psql("erp", "DELETE FROM t WHERE id > 100");
    let damaged = c.dump("erp");
    // Somebody holds the sessions' end up, so the run can be killed in the middle of its steps.
    for (say, forward) in [("stage", false), ("stage", true), ("verify", false), ("verify", true)] {
        let mut child = w.command(&["restore", "--yes"]).stderr(std::process::Stdio::piped()).spawn().unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
        assert!(lines.any(|l| l.unwrap().contains(say)));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(c.dump("erp"), damaged);
        w.run(&["restore", "--yes"]).code(9).says(&["--resume", "--unwind"]);
        if forward {
            w.run(&["restore", "--resume"]).code(0).says(&["equal to the facts"]);
            assert_eq!(c.dump("erp"), dump);
            let kept = c.psql(
                "postgres",
                "SELECT datname FROM pg_database WHERE datname LIKE 'erp_before_%' ORDER BY oid DESC LIMIT 1",
            );
            assert!(!kept.is_empty());
            c.psql("erp", "DELETE FROM t WHERE id > 100");
        } else {
            w.run(&["restore", "--unwind"]).code(0).says(&["taken back"]);
            assert_eq!(c.dump("erp"), damaged);
            assert_eq!(c.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE '%staged%'"), "0");
        }
        w.run(&["restore", "--resume"]).code(4).says(&["no restore of this host is open"]);
    }
}
