//! After a restore: what cleaning up leaves alone, and that it ends; rollbacks that do not come to their end.

use crate::cluster::{Cluster, PASSWORD};
use crate::managed::{MANAGED, OTHERS, wait_for_other, with_sessions_of_another};
use crate::round_trip::{SOCKET, with_database};
use crate::world::World;
use std::process::{Command, Stdio};
use std::time::Duration;

#[test]
fn roles_that_a_restore_made_stay_when_what_it_had_restored_is_cleaned_up() {
    let c = Cluster::start();
    c.psql("postgres", "CREATE ROLE app LOGIN");
    c.psql("postgres", "CREATE ROLE person LOGIN");
    c.psql("postgres", "CREATE DATABASE erp OWNER app");
    c.psql("erp", "CREATE TABLE t AS SELECT generate_series(1, 500) AS x; ALTER TABLE t OWNER TO app");
    let w = with_database(&c, SOCKET);
    w.backup();
    c.psql("erp", "REASSIGN OWNED BY app TO postgres");
    c.psql("postgres", "DROP ROLE app");
    c.psql("postgres", "DROP ROLE person");
    let roles = "SELECT string_agg(rolname, ' ' ORDER BY rolname) FROM pg_roles WHERE rolname IN ('app', 'person')";
    w.run(&["restore", "--yes"]).code(0).says(&["roles made"]);
    let first = w.last_restore();
    w.run(&["rollback", "--yes"]).code(0);
    // By now one of them owns what is live, and as the other somebody may log in.
    w.run(&["restore", "--yes"]).code(0);
    assert_eq!(c.psql("erp", "SELECT tableowner FROM pg_tables WHERE tablename = 't'"), "app");
    w.run(&["cleanup", &first]).code(0).says(&["the restored copy of database erp"]);
    assert_eq!(c.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE 'erp_staged_%'"), "0");
    assert_eq!(c.psql("postgres", roles), "app person");
}

#[test]
fn a_rollback_that_is_stopped_or_killed_before_the_names_change_leaves_the_live_database_open() {
    let c = with_sessions_of_another();
    let w = with_database(&c, MANAGED);
    w.backup();
    c.psql("erp", "DELETE FROM t");
    w.run(&["restore", "--yes"]).code(0);
    let live = || c.psql("postgres", "SELECT oid, datallowconn FROM pg_database WHERE datname = 'erp'");
    let before = live();
    std::thread::scope(|scope| {
        // The role may not end it, so that the exchange waits behind the closing.
        let session = scope.spawn(|| c.psql_as("app", "erp", PASSWORD, "SELECT pg_sleep(60)"));
        wait_for_other(&c, &session);
        for killed in [false, true] {
            let mut child = w.command(&["rollback", "--yes"]).stderr(Stdio::null()).spawn().unwrap();
            while live() == before {
                assert!(child.try_wait().unwrap().is_none(), "the rollback has ended");
                std::thread::sleep(Duration::from_millis(20));
            }
            let signal = if killed { "-KILL" } else { "-TERM" };
            assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
            let code = child.wait().unwrap().code();
            if killed {
                w.run(&["restore", "--unwind"]).code(0).says(&["The restored data is in place, as before."]);
            } else {
                assert_eq!(code, Some(14));
            }
            assert_eq!(live(), before);
            assert_eq!(c.psql("erp", "SELECT count(*) FROM t"), "500");
        }
        c.psql("postgres", &format!("SELECT pg_terminate_backend(pid) {OTHERS}"));
    });
    w.run(&["rollback", "--yes"]).code(0);
    assert_eq!(c.psql("erp", "SELECT count(*) FROM t"), "0");
}

/// A world with a database `erp` that was restored, and the name of what was live before.
fn restored() -> (Cluster, World, String) {
    let c = Cluster::start();
    c.psql("postgres", "CREATE DATABASE erp");
    c.psql("erp", "CREATE TABLE t AS SELECT generate_series(1, 500) AS x");
    let w = with_database(&c, SOCKET);
    w.backup();
    w.run(&["restore", "--yes"]).code(0);
    let kept = c.psql("postgres", "SELECT datname FROM pg_database WHERE datname LIKE 'erp\\_before\\_%'");
    (c, w, kept)
}

#[test]
fn a_rollback_to_a_database_that_is_gone_is_refused_before_the_live_one_is_closed() {
    let (c, w, kept) = restored();
    let live = || c.psql("postgres", "SELECT oid, datallowconn FROM pg_database WHERE datname = 'erp'");
    let before = live();
    let refused = |says: &str| {
        w.run(&["rollback", "--yes"]).code(10).says(&[says]);
        assert_eq!(live(), before);
        assert!(!w.path().join("state/restore.journal").exists());
    };
    // As a `DROP` leaves it that was interrupted.
    let limit = |n: i32| format!("UPDATE pg_database SET datconnlimit = {n} WHERE datname = '{kept}'");
    c.psql("postgres", &limit(-2));
    refused("was interrupted");
    c.psql("postgres", &limit(-1));
    c.psql("postgres", &format!("ALTER DATABASE \"{kept}\" RENAME TO other"));
    refused("is not there any more");
    c.psql("postgres", &format!("ALTER DATABASE other RENAME TO \"{kept}\""));
    c.psql("postgres", "ALTER DATABASE erp RENAME TO moved");
    w.run(&["rollback", "--yes"]).code(10).says(&["is not the one that was restored"]);
    c.psql("postgres", "ALTER DATABASE moved RENAME TO erp");
    w.run(&["rollback", "--yes"]).code(0);
}

#[test]
fn a_rollback_that_fails_opens_the_live_database_and_leaves_the_previous_one_closed() {
    let (c, w, kept) = restored();
    let open = "SELECT string_agg(left(datname, 10) || ' ' || datallowconn, ', ' ORDER BY datname) FROM pg_database \
                WHERE datname LIKE 'erp%'";
    assert_eq!(c.psql("postgres", open), "erp true, erp_before false");
    // Somebody has the name that the restored one would get.
    let staged = kept.replace("_before_", "_staged_");
    c.psql("postgres", &format!("CREATE DATABASE \"{staged}\""));
    w.run(&["rollback", "--yes"]).code(12).says(&["already exists", "The restored data is in place, as before."]);
    assert_eq!(c.psql("postgres", open), "erp true, erp_before false, erp_staged true");
    c.psql("postgres", &format!("DROP DATABASE \"{staged}\""));
    w.run(&["rollback", "--yes"]).code(0);
    assert_eq!(c.psql("postgres", open), "erp true, erp_staged false");
}
