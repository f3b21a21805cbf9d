//! What a load leaves on this host while it runs, and what becomes of what the tools say.

use crate::cluster::Cluster;
use crate::errors::with_tools;
use crate::round_trip::{SOCKET, configure, with_database};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// Files below a directory with their sizes, but for the repository; some may go while they are looked at.
fn files(below: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(below).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(m) if m.is_dir() && entry.file_name() != "repo" => found.extend(files(&entry.path())),
            Ok(m) if m.is_file() => found.push((entry.path(), m.len())),
            _ => {}
        }
    }
    found
}

#[test]
fn no_dump_touches_the_disk_while_it_is_loaded() {
    let c = Cluster::start();
    c.psql("postgres", "CREATE DATABASE erp");
    // 13 MB that come over a session of their own, and 8 MB that come through pg_restore.
    for (table, rows) in [("large", 100_000), ("small", 60_000)] {
        let x = "md5(n::text) || md5((n + 1)::text) || md5((n + 2)::text) AS x";
        c.psql("erp", &format!("CREATE TABLE {table} AS SELECT n, {x} FROM generate_series(1, {rows}) n"));
    }
    let mut w = with_database(&c, SOCKET);
    w.extra = "big_tables = \"10MiB\"".into();
    configure(&w, &c, SOCKET);
    let facts = w.backup()["sources"][0]["facts"]["databases"][0].clone();
    assert_eq!(facts["archive"]["blocks"].as_array().unwrap().len(), 1, "{facts}");
    let temporary = w.path().join("temporary");
    fs::create_dir(&temporary).unwrap();
    let sum = |all: &[(PathBuf, u64)]| all.iter().map(|(_, size)| size).sum::<u64>();
    let (before, mut most, mut seen) = (sum(&files(w.path())), 0, false);
    let mut restore = w.command(&["restore", "--to", "copy"]);
    restore.env("TMPDIR", &temporary).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = restore.spawn().unwrap();
    while child.try_wait().unwrap().is_none() {
        let now = files(w.path());
        most = most.max(sum(&now));
        seen |= now.iter().any(|(path, _)| path.ends_with("head.dump"));
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(c.psql("copy", "SELECT (SELECT count(*) FROM large), count(*) FROM small"), "100000|60000");
    assert!(seen, "not even the head of the archive was seen, so this test shows nothing");
    assert!(most < before + (2 << 20), "{} bytes more than before", most - before);
}

#[test]
fn what_a_tool_says_though_it_succeeds_is_in_the_report() {
    let c = Cluster::start();
    c.psql("postgres", "CREATE DATABASE erp");
    c.psql("erp", "CREATE TABLE t AS SELECT generate_series(1, 10) AS x");
    let w = with_database(&c, SOCKET);
    w.backup();
    let real = w.at("real");
    fs::copy(c.bin().join("pg_restore"), &real).unwrap();
    let odd = "pg_restore: warning: this is odd";
    let warns = format!("case \"$1\" in --version) ;; *) echo '{odd}' >&2;; esac; exec {real} \"$@\"");
    let has = |warnings: &serde_json::Value| warnings.as_array().is_some_and(|all| all.iter().any(|line| line == odd));
    let ended = with_tools(&w, &warns, &["--json", "restore", "--to", "copy"]).code(0).json();
    assert!(has(&ended["staged"][0]["databases"][0]["warnings"]), "{ended}");
    // Who asks later is told too.
    let id = w.last_restore();
    let report = w.run(&["--json", "restores", &id]).code(0).json();
    assert!(has(&report["warnings"]), "{report}");
    w.run(&["restores", &id]).code(0).says(&["a tool said:", odd]);
}
