//! Restores where there is no room for two copies: the live database is dropped, and a safety backup stands for it.

use crate::cluster::{Cluster, PASSWORD};
use crate::managed::{MANAGED, OTHERS, wait_for_other, with_sessions_of_another};
use crate::round_trip::{SOCKET, with_database};
use crate::world::World;
use std::process::{Command, Stdio};
use std::time::Duration;

/// A database that was backed up, and has quite other content by now.
pub fn changed(c: &Cluster) -> (World, String, String) {
    c.psql("postgres", "CREATE DATABASE erp CONNECTION LIMIT 77");
    c.psql("erp", "CREATE TABLE t AS SELECT g AS id, md5(g::text) AS what FROM generate_series(1, 300000) g; CREATE INDEX ON t (what)");
    let good = c.dump("erp");
    let w = with_database(c, SOCKET);
    w.backup();
    c.psql(
        "erp",
        "DROP TABLE t; CREATE TABLE other AS SELECT g AS id, md5((-g)::text) AS what FROM generate_series(1, 200000) g",
    );
    let live = c.dump("erp");
    (w, good, live)
}

pub fn databases(c: &Cluster) -> String {
    c.psql("postgres", "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database")
}

#[test]
fn the_backup_takes_the_place_and_a_safety_backup_is_the_way_back() {
    let c = Cluster::start();
    let (w, good, live) = changed(&c);
    let before = databases(&c);
    w.run(&["restore", "--yes", "--assume-space", "1GiB"]).code(10).says(&["no room", "--in-place"]);
    w.run(&["restore", "--in-place", "--yes", "--without-safety", "typo"]).code(2).says(&["the name of the plan, p"]);
    w.run(&["restore", "--in-place", "--yes"]).code(0).says(&["is dropped before the load"]);
    assert_eq!(c.dump("erp"), good);
    assert_eq!(databases(&c), before);
    assert_eq!(c.psql("postgres", "SELECT datconnlimit, datallowconn FROM pg_database WHERE datname = 'erp'"), "77|t");
    let ran = w.run(&["rollback", "--yes"]).code(10).says(&["done in place and kept no copy", "safety backup"]);
    let safety = ran.err.split("backstay restore ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    w.run(&["restore", &safety, "--plan", "p-safety", "--in-place", "--yes"]).code(0);
    assert_eq!(c.dump("erp"), live);
    // It is never the latest of the plan.
    w.run(&["restore", "--in-place", "--yes"]).code(0);
    assert_eq!(c.dump("erp"), good);
    w.run(&["check", "--read-data"]).code(0);
}

#[test]
fn a_load_that_fails_brings_the_live_data_back_from_the_safety_backup() {
    let c = Cluster::start();
    let (w, _, live) = changed(&c);
    let before = databases(&c);
    // A pack of the backup is damaged, which is seen when it is opened; those of the safety backup are others.
    let packs = w.objects("packs");
    assert!(packs.len() > 2, "roles and rows must not be in one pack");
    let largest = packs.iter().max_by_key(|p| p.metadata().unwrap().len()).unwrap();
    let mut bytes = std::fs::read(largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(largest, bytes).unwrap();
    w.run(&["restore", "--in-place", "--yes"]).code(7).says(&["undo: swap database erp in place"]);
    assert_eq!(c.dump("erp"), live);
    assert_eq!(databases(&c), before);
}

#[test]
fn what_was_live_comes_back_when_it_has_as_many_rows_as_what_was_restored() {
    let c = Cluster::start();
    c.psql("postgres", "CREATE DATABASE erp");
    c.psql("postgres", "COMMENT ON DATABASE erp IS 'it''s ours'");
    c.psql("erp", "CREATE TABLE t AS SELECT g AS id, md5(g::text) AS what FROM generate_series(1, 1000) g");
    let good = c.dump("erp");
    let w = with_database(&c, SOCKET);
    w.backup();
    // The facts of both are the same.
    c.psql("erp", "UPDATE t SET what = 'the same for all'");
    let live = c.dump("erp");
    let comment = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'erp'";
    let config = std::fs::read_to_string(w.at("backstay.toml")).unwrap();
    w.write_config(&format!("{config}[plans.p.restore]\nafter_swap = [{{ command = [\"/bin/false\"] }}]\n"));
    w.run(&["restore", "--in-place", "--yes"]).code(12).says(&["undo: swap database erp in place"]);
    assert_eq!(c.dump("erp"), live);
    assert_eq!(c.psql("postgres", comment), "it's ours");
    w.write_config(&config);
    w.run(&["restore", "--in-place", "--yes"]).code(0);
    assert_eq!(c.dump("erp"), good);
    assert_eq!(c.psql("postgres", comment), "it's ours");
}

#[test]
fn without_owners_that_of_the_dropped_database_gets_it_and_the_way_back_has_all_of_them() {
    let c = Cluster::start();
    let (w, ..) = changed(&c);
    c.psql("postgres", "CREATE ROLE app");
    c.psql("postgres", "CREATE ROLE clerk");
    c.psql("postgres", "ALTER DATABASE erp OWNER TO app");
    c.psql("erp", "ALTER TABLE other OWNER TO clerk");
    c.psql("erp", "GRANT SELECT ON other TO app");
    let live = c.dump("erp");
    let packs = w.objects("packs");
    let largest = packs.iter().max_by_key(|p| p.metadata().unwrap().len()).unwrap();
    let whole = std::fs::read(largest).unwrap();
    let mut bytes = whole.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(largest, bytes).unwrap();
    let args = ["restore", "--in-place", "--no-owner", "--no-privileges", "--yes"];
    w.run(&args).code(7).says(&["undo: swap database erp in place"]);
    assert_eq!(c.dump("erp"), live);
    assert_eq!(c.psql("erp", "SELECT tableowner FROM pg_tables WHERE tablename = 'other'"), "clerk");
    assert_eq!(c.psql("erp", "SELECT has_table_privilege('app', 'other', 'SELECT')"), "t");
    std::fs::write(largest, whole).unwrap();
    w.run(&args).code(0);
    assert_eq!(c.psql("erp", "SELECT tableowner FROM pg_tables WHERE tablename = 't'"), "app");
}

#[test]
fn nothing_is_dropped_without_a_safety_backup_or_a_waiver() {
    let c = Cluster::start();
    let (w, good, live) = changed(&c);
    // Nobody can dump it: what is damaged on disk is, too.
    c.psql("postgres", "ALTER DATABASE erp ALLOW_CONNECTIONS false");
    w.run(&["restore", "--in-place", "--yes"]).code(10).says(&["nothing was dropped", "--without-safety p"]);
    c.psql("postgres", "ALTER DATABASE erp ALLOW_CONNECTIONS true");
    assert_eq!(c.dump("erp"), live);
    c.psql("postgres", "ALTER DATABASE erp ALLOW_CONNECTIONS false");
    w.run(&["restore", "--in-place", "--yes", "--without-safety", "p"]).code(0);
    assert_eq!(c.dump("erp"), good);
}

#[test]
fn killed_in_the_middle_it_is_taken_back_or_finished() {
    let c = Cluster::start();
    let (w, good, live) = changed(&c);
    for forward in [false, true] {
        let mut child =
            w.command(&["restore", "--in-place", "--yes"]).stderr(std::process::Stdio::piped()).spawn().unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
        assert!(lines.any(|l| l.unwrap().contains("swap database erp in place")));
        // Until the live one is really gone.
        while c.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname = 'erp'") == "1" {}
        child.kill().unwrap();
        child.wait().unwrap();
        let way = if forward { "--resume" } else { "--unwind" };
        w.run(&["restore", way]).code(0);
        assert_eq!(c.dump("erp"), if forward { good.clone() } else { live.clone() });
        assert_eq!(c.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE 'erp%'"), "1");
        assert_eq!(c.psql("postgres", "SELECT count(*) FROM pg_shdescription WHERE description LIKE 'backstay%'"), "0");
    }
}

#[test]
fn a_drop_that_is_refused_touches_nothing_and_one_that_goes_on_by_itself_does_not_take_the_live_data_along() {
    let c = with_sessions_of_another();
    c.psql("postgres", "COMMENT ON DATABASE erp IS 'ours'");
    let w = with_database(&c, MANAGED);
    w.backup();
    c.psql("erp", "DELETE FROM t WHERE x > 7");
    let live = c.dump("erp");
    let database = || {
        let columns = "oid, datallowconn, shobj_description(oid, 'pg_database')";
        c.psql("postgres", &format!("SELECT {columns} FROM pg_database WHERE datname = 'erp'"))
    };
    let before = database();
    std::thread::scope(|scope| {
        // The role may not end it, and the server waits five seconds for it before it refuses.
        let session = scope.spawn(|| c.psql_as("app", "erp", PASSWORD, "SELECT pg_sleep(60)"));
        wait_for_other(&c, &session);
        w.run(&["restore", "--in-place", "--yes"]).code(12).says(&["may not end sessions of app (1)"]);
        assert_eq!(database(), before);
        let args = ["restore", "--in-place", "--yes"];
        let mut child = w.command(&args).stderr(Stdio::null()).spawn().unwrap();
        let dropping = "SELECT count(*) FROM pg_stat_activity WHERE query = 'DROP DATABASE IF EXISTS \"erp\"' AND state = 'active'";
        while c.psql("postgres", dropping) == "0" {
            assert!(child.try_wait().unwrap().is_none(), "the restore has ended");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
        // By then the way back has looked at the database, which is still there.
        std::thread::sleep(Duration::from_millis(1000));
        c.psql("postgres", &format!("SELECT pg_terminate_backend(pid) {OTHERS}"));
        assert_eq!(child.wait().unwrap().code(), Some(14));
    });
    // Whatever the server still does of its own.
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(c.dump("erp"), live);
    assert!(database().ends_with("|t|ours"), "{}", database());
}
