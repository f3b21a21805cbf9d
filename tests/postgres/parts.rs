//! Definitions without rows, rows without definitions, and what a role that is no superuser leaves out.

use crate::cluster::{Cluster, PASSWORD};
use crate::round_trip::{SOCKET, configure, with_database};
use crate::tables::{databases, shop};

#[test]
fn definitions_come_alone_and_rows_into_them() {
    for extra in ["", "big_tables = \"0\"\njobs = 3", "os_user = \"postgres\"\nbig_tables = \"0\""] {
        let (c, w) = shop(extra);
        let before = c.dump("erp");
        w.run(&["restore", "--schema-only", "--yes"]).code(2).says(&["--to"]);
        w.run(&["restore", "--schema-only", "--to", "bare"]).code(0).says(&["table public.orders", "0 rows"]);
        assert_eq!(c.psql("bare", "SELECT count(*) FROM orders; SELECT is_called FROM orders_id_seq"), "0\nf");
        assert_eq!(c.psql("bare", "SELECT count(*) FROM pg_constraint WHERE contype = 'f'"), "3");
        w.run(&["restore", "--data-only", "--to", "bare", "--dry-run"]).code(0).says(&["nothing of it is replaced"]);
        // The trigger of orders does not act: what it would have told is compared too.
        w.run(&["restore", "--data-only", "--to", "bare"]).code(0).says(&["2,000 rows", "equal to the facts"]);
        assert_eq!(c.dump("bare"), before);
        w.run(&["restore", "--data-only", "--to", "bare"]).code(10).says(&["has rows already", "public.orders"]);
        w.run(&["restore", "--data-only", "--to", "nosuch"]).code(10).says(&["no database nosuch"]);
        c.psql("postgres", "CREATE DATABASE blank");
        w.run(&["restore", "--data-only", "--to", "blank"]).code(10).says(&["lacks tables", "public.orders"]);
    }
}

#[test]
fn rows_that_do_not_fit_leave_the_tables_empty() {
    let (c, w) = shop("big_tables = \"0\"");
    w.run(&["restore", "--schema-only", "--to", "bare"]).code(0);
    let bare = c.dump("bare");
    let fails = |change: &str, undo: &str, code: i32, says: &str| {
        c.psql("bare", change);
        w.run(&["restore", "--data-only", "--to", "bare"]).code(code).says(&[says, "Everything is as it was"]);
        c.psql("bare", undo);
        assert_eq!(c.dump("bare"), bare);
    };
    fails(
        "ALTER TABLE lines ADD CHECK (n < 1500)",
        "ALTER TABLE lines DROP CONSTRAINT lines_n_check",
        12,
        "lines_n_check",
    );
    // A foreign key that the backup did not have, and that its rows do not keep.
    fails(
        "ALTER TABLE customers ADD CONSTRAINT odd FOREIGN KEY (id) REFERENCES customers (id), ADD other bigint DEFAULT 5;
         ALTER TABLE customers ADD CONSTRAINT more FOREIGN KEY (other) REFERENCES orders (id);
         ALTER TABLE customers ALTER other SET DEFAULT 99999",
        "ALTER TABLE customers DROP CONSTRAINT odd, DROP other",
        13,
        "(99999) is not there",
    );
    let mut child =
        w.command(&["restore", "--data-only", "--to", "bare"]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
    assert!(lines.any(|l| l.unwrap().contains("verify")));
    child.kill().unwrap();
    child.wait().unwrap();
    w.run(&["restore", "--unwind"]).code(0).says(&["taken back"]);
    assert_eq!(c.dump("bare"), bare);
}

#[test]
fn a_rollback_of_rows_whose_table_is_gone_is_refused_and_the_undo_of_one_does_without_it() {
    let (c, w) = shop("");
    let fill = |name: &str| {
        w.run(&["restore", "--schema-only", "--to", name]).code(0);
        w.run(&["restore", "--data-only", "--to", name]).code(0);
    };
    fill("bare");
    c.psql("bare", "DROP TABLE log_1");
    w.run(&["rollback", "--yes"]).code(10).says(&["are gone", "public.log_1"]);
    assert!(!w.path().join("state/restore.journal").exists());
    assert_eq!(c.psql("bare", "SELECT count(*) FROM orders"), "2000");
    // Its journal as it is when the program was killed before it wrote the last record.
    fill("other");
    w.run(&["rollback", "--yes"]).code(0).says(&["what it had restored is gone"]);
    let mut all = std::fs::read_dir(w.at("state/restores")).unwrap().map(|e| e.unwrap().path());
    let ended = all.find(|path| std::fs::read_to_string(path).unwrap().contains("swap back")).unwrap();
    let text = std::fs::read_to_string(&ended).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    std::fs::write(w.at("state/restore.journal"), lines[..lines.len() - 1].join("\n") + "\n").unwrap();
    std::fs::remove_file(ended).unwrap();
    c.psql("other", "DROP TABLE told");
    w.run(&["restore", "--unwind"]).code(0).says(&["the tables of database other are empty as before the restore"]);
}

#[test]
fn content_that_is_no_rows_is_left_out_of_definitions_and_refused_with_rows_alone() {
    let c = Cluster::start();
    c.psql("postgres", "CREATE DATABASE erp");
    c.psql(
        "erp",
        "SELECT lo_from_bytea(0, 'x'); CREATE TABLE t AS SELECT 1 AS x; CREATE MATERIALIZED VIEW m AS SELECT * FROM t",
    );
    let w = with_database(&c, SOCKET);
    w.backup();
    w.run(&["restore", "--schema-only", "--to", "bare"]).code(0);
    assert_eq!(
        c.psql(
            "bare",
            "SELECT (SELECT count(*) FROM pg_largeobject_metadata), relispopulated FROM pg_class WHERE relname = 'm'"
        ),
        "0|f"
    );
    w.run(&["restore", "--data-only", "--to", "bare"]).code(10).says(&["large objects", "1 of them"]);
}

#[test]
fn a_role_that_is_no_superuser_leaves_out_what_it_may_not_make_and_says_so() {
    let c = Cluster::start();
    c.psql(
        "postgres",
        &format!("CREATE ROLE app LOGIN CREATEDB PASSWORD '{}'; CREATE ROLE other", PASSWORD.replace('\'', "''")),
    );
    c.psql("postgres", "CREATE DATABASE erp OWNER app");
    c.psql("postgres", "ALTER SYSTEM SET wal_level = logical");
    c.restart();
    c.psql(
        "erp",
        "CREATE EXTENSION pgcrypto; CREATE TABLE mine (x int); INSERT INTO mine VALUES (1); CREATE TABLE theirs (x int);
         INSERT INTO theirs VALUES (2), (3); ALTER TABLE mine OWNER TO app; ALTER TABLE theirs OWNER TO other;
         CREATE FUNCTION f() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN END $$;
         CREATE EVENT TRIGGER watch ON ddl_command_end EXECUTE FUNCTION f(); COMMENT ON EVENT TRIGGER watch IS 'looks';
         CREATE PUBLICATION everything FOR ALL TABLES; CREATE PUBLICATION one FOR TABLE mine;
         CREATE PUBLICATION whole FOR TABLES IN SCHEMA public",
    );
    let w = with_database(&c, SOCKET);
    w.backup();
    configure(&w, &c, &SOCKET.replace("postgres@", "app@"));
    let before = databases(&c);
    w.run(&["restore", "--to", "copy"]).code(12).says(&[
        "must be member of role",
        "--no-owner",
        "Everything is as it was",
    ]);
    assert_eq!(databases(&c), before);
    w.run(&["restore", "--to", "copy", "--no-owner"]).code(0).says(&[
        "left out:",
        "event trigger watch",
        "publication everything",
        "comment EXTENSION pgcrypto",
        "2 rows",
    ]);
    assert_eq!(
        c.psql("copy", "SELECT (SELECT count(*) FROM theirs), count(*), min(pubname) FROM pg_publication"),
        "2|2|one"
    );
    assert_eq!(c.psql("copy", "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relname = 'theirs'"), "app");
    let json = w.run(&["--json", "restore", "--to", "copy2", "--no-owner"]).code(0).json();
    assert_eq!(json["staged"][0]["databases"][0]["left_out"].as_array().unwrap().len(), 5, "{json}");
    // Who asks later is told too.
    let report = w.run(&["--json", "restores", &w.last_restore()]).code(0).json();
    assert_eq!(report["left_out"].as_array().unwrap().len(), 5, "{report}");
    // A superuser leaves out nothing.
    configure(&w, &c, SOCKET);
    w.run(&["restore", "--to", "copy3"]).code(0);
    assert_eq!(c.dump("copy3"), c.dump("erp"));
}
