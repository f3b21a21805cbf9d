//! Extensions: what of theirs is in a dump, and which cannot be staged beside the live database.

use crate::cluster::Cluster;
use crate::round_trip::{SOCKET, configure, with_database};
use crate::tables::databases;
use std::path::PathBuf;

/// An extension made for a test; its files are removed again.
struct Made(Vec<PathBuf>);

impl Made {
    fn new(c: &Cluster, name: &str, sql: &str) -> Self {
        let folder = c.share().join("extension");
        let files = [format!("{name}.control"), format!("{name}--1.0.sql")].map(|f| folder.join(f)).to_vec();
        let made = Made(files);
        std::fs::write(&made.0[0], "comment = 'made for a test'\ndefault_version = '1.0'\nrelocatable = true\n")
            .unwrap();
        std::fs::write(&made.0[1], sql).unwrap();
        made
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        self.0.iter().for_each(|f| drop(std::fs::remove_file(f)));
    }
}

#[test]
fn rows_of_configuration_tables_come_back_and_shipped_ones_only_once() {
    let c = Cluster::start();
    let name = format!("backstay_test_{}", std::process::id());
    let _made = Made::new(
        &c,
        &name,
        "CREATE TABLE settings (name text PRIMARY KEY, value text, shipped bool NOT NULL DEFAULT false);
         INSERT INTO settings VALUES ('one', 'of the extension', true);
         SELECT pg_catalog.pg_extension_config_dump('settings', 'WHERE NOT shipped');
         CREATE SEQUENCE counter; SELECT pg_catalog.pg_extension_config_dump('counter', '');
         CREATE TABLE no_configuration (x int);",
    );
    c.psql("postgres", "CREATE DATABASE erp");
    c.psql("erp", &format!("CREATE SCHEMA conf; CREATE EXTENSION {name} SCHEMA conf"));
    c.psql("erp", "INSERT INTO conf.settings VALUES ('two', 'of the site'), ('three', E'\\ttab'); SELECT setval('conf.counter', 42)");
    c.psql("erp", "CREATE TABLE uses (name text REFERENCES conf.settings); INSERT INTO uses VALUES ('one'), ('two')");
    let before = c.dump("erp");
    let mut w = with_database(&c, SOCKET);
    for (n, extra) in ["", "big_tables = \"0\""].into_iter().enumerate() {
        w.extra = extra.into();
        configure(&w, &c, SOCKET);
        w.backup();
        let copy = format!("copy{n}");
        w.run(&["restore", "--to", &copy]).code(0).says(&[&name]);
        assert_eq!(c.dump(&copy), before, "{extra}");
        let rows = c.psql(
            &copy,
            "SELECT string_agg(name || shipped, ' ' ORDER BY name), nextval('conf.counter') FROM conf.settings",
        );
        assert_eq!(rows, "onetrue threefalse twofalse|43", "{extra}");
    }
}

/// No package of it can be installed here, so an extension of the same name stands for it: the name is what is refused.
#[test]
fn a_database_with_timescaledb_is_backed_up_and_its_restore_refused_by_name() {
    let c = Cluster::start();
    let _made = Made::new(&c, "timescaledb", "CREATE TABLE chunks (x int);");
    c.psql("postgres", "CREATE DATABASE erp");
    c.psql("erp", "CREATE EXTENSION timescaledb; CREATE TABLE t AS SELECT 1 AS x");
    let w = with_database(&c, SOCKET);
    w.backup();
    let before = databases(&c);
    w.run(&["restore", "--yes"]).code(10).says(&["the extension timescaledb", "steps of its own", "backstay cat"]);
    assert_eq!(databases(&c), before);
}

#[test]
fn a_database_with_pg_cron_is_backed_up_and_its_restore_refused_by_name() {
    let c = Cluster::start();
    c.psql("postgres", "CREATE DATABASE erp");
    c.psql("postgres", "ALTER SYSTEM SET shared_preload_libraries = 'pg_cron'");
    // The library makes the setting known.
    c.restart();
    c.psql("postgres", "ALTER SYSTEM SET cron.database_name = 'erp'");
    c.restart();
    c.psql(
        "erp",
        "CREATE EXTENSION pg_cron; SELECT cron.schedule('nightly', '0 3 * * *', 'VACUUM'); CREATE TABLE t (x int)",
    );
    let w = with_database(&c, SOCKET);
    w.backup();
    let before = databases(&c);
    for args in [&["--yes"][..], &["--to", "copy"], &["--yes", "--table", "t"]] {
        w.run(&[&["restore"], args].concat()).code(10).says(&[
            "the extension pg_cron",
            "cron.database_name",
            "backstay cat",
        ]);
    }
    assert_eq!(databases(&c), before);
    assert!(!w.path().join("state/restore.journal").exists());
}
