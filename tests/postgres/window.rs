//! A group's moment ends when the dumps are fixed, however long they are written; and what would have to begin anew after
//! that is no backup.

use crate::cluster::{Cluster, PASSWORD};
use crate::world::World;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

/// Two databases, one of them with two tables that take a while.
fn world(c: &Cluster, extra: &str) -> World {
    c.psql("postgres", "CREATE DATABASE one");
    c.psql("postgres", "CREATE DATABASE two");
    for table in ["a", "b"] {
        c.psql(
            "one",
            &format!("CREATE TABLE {table} AS SELECT repeat(md5(n::text), 60) FROM generate_series(1, 40000) n"),
        );
    }
    c.psql("two", "CREATE TABLE t AS SELECT * FROM generate_series(1, 1000) n");
    let w = World::bare();
    std::fs::write(w.at("pg.password"), format!("{PASSWORD}\n")).unwrap();
    w.write_config(&format!(
        "host = \"test-host\"\nstate_dir = \"{d}/state\"\n[repository]\nurl = \"file://{d}/repo\"\n[keys]\nidentity_file = \"{d}/host.key\"\n\
         [sources.db]\nkind = \"postgres\"\nurl = \"postgresql://postgres@/one?host={s}&port={p}\"\npassword_file = \"pg.password\"\ndatabases = [\"one\", \"two\"]\ngroup = \"night\"\n{extra}\n\
         [sources.tree]\nkind = \"files\"\npaths = [\"{d}/tree\"]\ngroup = \"night\"\n\
         [plans.p]\nsources = [\"db\", \"tree\"]\n",
        d = w.path().display(),
        s = c.dir.path().display(),
        p = c.port,
    ));
    w.run(&["init", "--recovery-out", &w.at("recovery.key")]).code(0);
    w
}

/// A backup whose moment is over and whose large database is not written, with the rest of what it says.
fn after_its_moment(w: &World) -> (Child, impl Iterator<Item = String>) {
    let mut child = w.command(&["backup"]).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut said = Vec::new();
    let over = lines.by_ref().any(|line| {
        said.push(line.clone());
        line.contains("stood still")
    });
    assert!(over && !said.iter().any(|line| line.contains("database one:")), "{said:?}");
    (child, lines)
}

#[test]
fn the_moment_is_short_and_the_dump_is_that_of_the_moment() {
    for extra in ["", "os_user = \"postgres\"\nbig_tables = \"0\""] {
        let c = Cluster::start();
        let w = world(&c, extra);
        let (child, lines) = after_its_moment(&w);
        // The application goes on.
        c.psql("two", "DELETE FROM t");
        c.psql("one", "DELETE FROM a; DELETE FROM b");
        let said: Vec<String> = lines.collect();
        let out = child.wait_with_output().unwrap();
        assert_eq!(out.status.code(), Some(0), "{extra}: {said:?}");
        assert!(said.iter().any(|line| line.contains("database one: 80,000 rows")), "{extra}: {said:?}");
        let manifest = &w.run(&["--json", "list"]).code(0).json()[0];
        let db = &manifest["sources"][0];
        let (moment, took) = (db["facts"]["window"]["seconds"].as_f64().unwrap(), db["seconds"].as_f64().unwrap());
        assert!(moment < took, "{extra}: a moment of {moment} s in {took} s");
        let rows = |database: usize| -> u64 {
            let tables = db["facts"]["databases"][database]["tables"].as_array().unwrap();
            tables.iter().map(|t| t["rows"].as_u64().unwrap()).sum()
        };
        assert_eq!((rows(0), rows(1)), (80_000, 1000), "{extra}");
        w.run(&["restore", "--yes", "--database", "two"]).code(0);
        assert_eq!(c.psql("two", "SELECT count(*) FROM t"), "1000");
    }
}

#[test]
fn what_would_begin_anew_after_the_moment_is_no_backup() {
    let c = Cluster::start();
    // A table of an extension is locked by nobody.
    let w = world(&c, "big_tables = \"0\"\njobs = 1");
    c.psql("one", "CREATE EXTENSION pg_stat_statements");
    c.psql(
        "one",
        "CREATE TABLE of_extension AS SELECT 1 AS x; ALTER EXTENSION pg_stat_statements ADD TABLE of_extension",
    );
    let (child, lines) = after_its_moment(&w);
    c.psql("one", "TRUNCATE of_extension");
    let said: Vec<String> = lines.collect();
    let out = child.wait_with_output().unwrap();
    // The other source of the group is complete.
    assert_eq!(out.status.code(), Some(8), "{said:?}");
    let manifest = &w.run(&["--json", "list"]).code(0).json()[0];
    let why = manifest["sources"][0]["state"]["failed"].as_str().unwrap();
    assert!(why.contains("moment that its group shares has passed") && why.contains("of_extension"), "{why}");
    // Without a group it is simply dumped again.
    let text = std::fs::read_to_string(w.at("backstay.toml")).unwrap();
    w.write_config(&text.replace("group = \"night\"", ""));
    w.run(&["backup"]).code(0);
}
