//! `config/examples/sqlite.toml`, and SQLite otherwise: of one moment while another process writes, with its write-ahead
//! log where it belongs.

use crate::world::World;
use crate::{wait_for, with_command, with_example};
use std::fs;
use std::process::{Child, Command};

#[track_caller]
fn sql(db: &str, text: &str) -> String {
    let out = Command::new("sqlite3").args(["-cmd", ".timeout 60000", db, text]).output();
    let out = out.expect("sqlite3 is not installed: tests/setup.sh test");
    assert!(out.status.success(), "{text}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

fn make(db: &str, mode: &str) {
    fs::create_dir_all(std::path::Path::new(db).parent().unwrap()).unwrap();
    sql(
        db,
        &format!(
            "PRAGMA journal_mode={mode}; PRAGMA user_version=42; CREATE TABLE a (x); CREATE TABLE b (x); INSERT INTO a SELECT hex(randomblob(100)) FROM generate_series(1, 20000); INSERT INTO b SELECT x FROM a"
        ),
    );
}

/// Somebody who writes into both tables or into none.
struct Writer(Child);

impl Writer {
    fn start(db: &str) -> Self {
        let script = "while :; do sqlite3 -cmd '.timeout 60000' \"$1\" \"BEGIN IMMEDIATE; INSERT INTO a VALUES (1); INSERT INTO b VALUES (1); COMMIT\"; done";
        Writer(Command::new("sh").args(["-c", script, "sh", db]).spawn().unwrap())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        std::thread::sleep(std::time::Duration::from_millis(300));
    }
}

fn example(w: &str) -> [(&'static str, String); 1] {
    [("/var/lib/app/app.db", format!("{w}/app.db"))]
}

fn rows(db: &str) -> (u64, u64) {
    let n = sql(db, "SELECT (SELECT count(*) FROM a) || ' ' || (SELECT count(*) FROM b)");
    let (a, b) = n.split_once(' ').unwrap();
    (a.parse().unwrap(), b.parse().unwrap())
}

fn world(mode: &str) -> (World, tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("app.db").display().to_string();
    make(&db, mode);
    let w = with_example("sqlite.toml", &example(&dir.path().display().to_string()));
    (w, dir, db)
}

#[test]
fn the_example_is_of_one_moment_while_another_process_writes() {
    for mode in ["delete", "wal"] {
        let (w, dir, db) = world(mode);
        let writer = Writer::start(&db);
        let begun = rows(&db).0;
        wait_for("somebody writes", || rows(&db).0 > begun);
        let before = rows(&db).0;
        for _ in 0..3 {
            w.backup();
        }
        let after = rows(&db).0;
        drop(writer);
        assert!(after > before, "nobody wrote meanwhile");
        sql(&db, "DELETE FROM b; PRAGMA user_version=1");
        w.run(&["restore", "--yes"]).code(0).says(&["`verify`", "app.db_before_"]);
        let (a, b) = rows(&db);
        assert!(a == b && (before..=after).contains(&a), "{mode}: {before} {a} {b} {after}");
        assert_eq!(sql(&db, "PRAGMA user_version"), "42");
        w.run(&["rollback", "--yes"]).code(0);
        assert_eq!(rows(&db).1, 0);
        // No copy was left behind.
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(!left.iter().any(|n| n.to_string_lossy().contains("backup-")), "{left:?}");
    }
}

#[test]
fn a_file_that_is_no_database_is_no_backup() {
    let (w, _dir, db) = world("delete");
    fs::write(&db, "something else entirely, and long enough").unwrap();
    w.run(&["backup"]).code(11).says(&["not a database"]);
}

/// An application that was killed leaves its log, and what is in it is in no file.
#[test]
fn the_log_of_the_old_database_goes_with_it_and_comes_back_with_it() {
    let (w, dir, db) = world("wal");
    w.backup();
    let script = "import sqlite3, os, sys\nc = sqlite3.connect(sys.argv[1])\nc.execute('DELETE FROM b')\nc.execute('INSERT INTO b VALUES (77)')\nc.commit()\nos._exit(0)";
    assert!(Command::new("python3").args(["-c", script, &db]).status().unwrap().success());
    assert!(fs::metadata(format!("{db}-wal")).unwrap().len() > 0);
    let old = fs::read(format!("{db}-wal")).unwrap();
    w.run(&["restore", "--yes"]).code(0);
    let kept = format!("{}/app.db_before_{}", dir.path().display(), w.last_restore());
    assert_eq!(fs::read(format!("{kept}-wal")).unwrap(), old);
    assert_eq!((rows(&db), sql(&db, "PRAGMA integrity_check").as_str()), ((20000, 20000), "ok"));
    // The application went on with the new one, and was killed again.
    sql(&db, "PRAGMA journal_mode=wal");
    assert!(Command::new("python3").args(["-c", &script.replace("77", "88"), &db]).status().unwrap().success());
    w.run(&["rollback", "--yes"]).code(0);
    assert_eq!(fs::read(format!("{db}-wal")).unwrap(), old);
    assert_eq!(sql(&db, "SELECT group_concat(x) FROM b"), "77");
}

#[test]
fn a_dump_in_sql_is_loaded_beside_the_live_one() {
    let w = with_command(
        "dump = [\"sqlite3\", \"-cmd\", \".timeout 60000\", \"DIR/tree/app.db\", \".dump\"]\nmedia = \"sql\"\ncheck = [\"sh\", \"-c\", \"tail -n 1 | grep -qx 'COMMIT;'\"]\nstage_path = \"DIR/tree/app.db\"\nload = [\"sqlite3\", \"-bail\", \"{staging}\"]\n",
    );
    let db = w.at("tree/app.db");
    make(&db, "delete");
    let content = sql(&db, ".dump");
    w.backup();
    sql(&db, "DELETE FROM a");
    w.run(&["restore", "--yes"]).code(0);
    assert_eq!(sql(&db, ".dump"), content);
}
