//! Some tables of a backup, into a schema of their own beside the live ones or in their place.

use crate::cluster::Cluster;
use crate::round_trip::{SOCKET, configure, with_database};
use crate::world::World;

/// Orders with lines that point at them, a partitioned log, names and columns of many kinds, and a trigger that tells.
const SHOP: &str = r#"
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TABLE customers (id int PRIMARY KEY, name text);
CREATE TABLE orders (id bigserial PRIMARY KEY, customer int NOT NULL REFERENCES customers, m mood, total numeric(10,2),
                     twice numeric GENERATED ALWAYS AS (total * 2) STORED, parent bigint REFERENCES orders);
CREATE INDEX orders_total ON orders (total);
CREATE TABLE lines (order_id bigint REFERENCES orders, n int GENERATED ALWAYS AS IDENTITY, what text, PRIMARY KEY (order_id, n));
CREATE TABLE told (what text);
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.told VALUES (TG_OP); RETURN NULL; END $$;
CREATE TRIGGER tells AFTER INSERT OR DELETE ON orders FOR EACH ROW EXECUTE FUNCTION tell();
CREATE TABLE log (at date NOT NULL, what text, PRIMARY KEY (at, what)) PARTITION BY RANGE (at);
CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE log_2 PARTITION OF log FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
CREATE SCHEMA "Ödd ""s""";
CREATE TABLE "Ödd ""s"""."Tä.ble $1" ("a b" bytea, "select" text DEFAULT E'x\ny');
INSERT INTO customers SELECT g, 'customer ' || g FROM generate_series(1, 100) g;
ALTER TABLE orders DISABLE TRIGGER tells;
INSERT INTO orders (customer, m, total, parent) SELECT 1 + g % 100, 'good', g, nullif(g / 2, 0) FROM generate_series(1, 2000) g;
ALTER TABLE orders ENABLE TRIGGER tells;
INSERT INTO lines (order_id, what) SELECT id, E'tab\there \\ back' FROM orders;
INSERT INTO log SELECT date '2026-01-01' + (g % 59), 'entry ' || g FROM generate_series(1, 1000) g;
INSERT INTO "Ödd ""s"""."Tä.ble $1" VALUES ('\x00ff', E'\\N'), (NULL, NULL), ('\x', '');
CREATE VIEW seen AS SELECT count(*) FROM orders;
"#;

pub fn shop(extra: &str) -> (Cluster, World) {
    let c = Cluster::start();
    c.psql("postgres", "CREATE DATABASE erp");
    c.psql("erp", SHOP);
    let mut w = with_database(&c, SOCKET);
    w.extra = extra.into();
    configure(&w, &c, SOCKET);
    w.backup();
    (c, w)
}

/// All rows of tables, and what their sequences will give.
pub fn rows(c: &Cluster, tables: &[&str]) -> String {
    let all: Vec<String> =
        tables.iter().map(|t| c.psql("erp", &format!("SELECT t.*::text FROM {t} t ORDER BY 1"))).collect();
    all.join("\n--\n") + &c.psql("erp", "SELECT last_value, is_called FROM orders_id_seq")
}

pub const ALL: &[&str] = &["customers", "orders", "lines", "told", "log_1", "log_2", "\"Ödd \"\"s\"\"\".\"Tä.ble $1\""];

pub fn databases(c: &Cluster) -> String {
    c.psql("postgres", "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database")
}

fn schemas(c: &Cluster) -> String {
    c.psql("erp", "SELECT string_agg(nspname, ' ' ORDER BY nspname) FROM pg_namespace WHERE nspname NOT LIKE 'pg_%'")
}

#[test]
fn tables_come_back_beside_the_live_ones() {
    for extra in ["", "big_tables = \"0\"\njobs = 3", "os_user = \"postgres\""] {
        let (c, w) = shop(extra);
        c.psql("erp", "UPDATE customers SET name = 'damaged'; DELETE FROM log");
        let before = (rows(&c, ALL), databases(&c));
        w.run(&["restore", "--table", "orders", "--table", "public.lines", "--table", "log", "--to", "Old \"one\""])
            .code(0)
            .says(&["table public.orders", "2,000 rows", "table public.log_1", "are equal to the facts"]);
        assert_eq!((rows(&c, ALL), databases(&c)), before);
        let of = |sql: &str| c.psql("erp", &format!("SET search_path = \"Old \"\"one\"\"\"; {sql}"));
        assert_eq!(
            of("SELECT count(*), sum(total), sum(twice), max(m) FROM orders"),
            "2000|2001000.00|4002000.00|good"
        );
        assert_eq!(of("SELECT count(*) FROM lines WHERE what = E'tab\\there \\\\ back'"), "2000");
        assert_eq!(
            of("SELECT (SELECT count(*) FROM log), (SELECT count(*) FROM log_2)").split('|').next(),
            Some("1000")
        );
        // Keys and indexes, and of foreign keys those between the two.
        let made = of(
            "SELECT string_agg(conname || ' ' || confrelid::regclass, ',' ORDER BY conname) FROM pg_constraint \
                       WHERE contype = 'f' AND connamespace = (SELECT oid FROM pg_namespace WHERE nspname LIKE 'Old%')",
        );
        assert_eq!(made, "lines_order_id_fkey orders,orders_parent_fkey orders");
        assert_eq!(of("SELECT count(*) FROM pg_indexes WHERE schemaname LIKE 'Old%'"), "6");
        assert_eq!(of("INSERT INTO orders (customer) VALUES (1) RETURNING id"), "2001");
        // One partition, and a name that needs quotes.
        w.run(&["restore", "--table", "log_2", "--table", "Tä.ble $1", "--to", "part"]).code(0);
        assert_eq!(c.psql("erp", "SELECT count(*) FROM part.log_2"), before_count(&w));
        assert_eq!(c.psql("erp", "SELECT count(*) FROM part.\"Tä.ble $1\" WHERE \"select\" = E'\\\\N'"), "1");
        w.run(&["restore", "--schema", "Ödd \"s\"", "--to", "whole"]).code(0).says(&["Tä.ble $1"]);
        assert_eq!(c.psql("erp", "SELECT count(*) FROM whole.\"Tä.ble $1\""), "3");
        assert_eq!(databases(&c), before.1);
        // What is there is not written to.
        w.run(&["restore", "--table", "orders", "--to", "part"]).code(10).says(&["has a schema part already"]);
        w.run(&["restore", "--table", "nosuch", "--to", "x"]).code(4).says(&["no table nosuch"]);
        w.run(&["restore", "--schema", "nosuch", "--to", "x"]).code(4).says(&["schema nosuch", "public"]);
    }
}

fn before_count(w: &World) -> String {
    let m = w.run(&["--json", "show"]).code(0).json();
    let tables = m["sources"][0]["facts"]["databases"][0]["tables"].as_array().unwrap().clone();
    tables.iter().find(|t| t["name"] == "log_2").unwrap()["rows"].to_string()
}

#[test]
fn a_type_that_the_live_database_lacks_fails_and_leaves_nothing() {
    let (c, w) = shop("");
    c.psql("erp", "ALTER TABLE orders ALTER m TYPE text; DROP TYPE mood");
    let before = (databases(&c), schemas(&c));
    w.run(&["restore", "--table", "orders", "--to", "old"]).code(12).says(&["public.mood", "Everything is as it was"]);
    assert_eq!((databases(&c), schemas(&c)), before);
}

#[test]
fn rows_are_replaced_in_place_and_nothing_else() {
    for extra in ["", "big_tables = \"0\"", "os_user = \"postgres\""] {
        let (c, w) = shop(extra);
        let good = rows(&c, ALL);
        let definitions = c.psql("erp", "SELECT count(*) FROM seen; SELECT 'public.orders'::regclass::oid");
        c.psql("erp", "SET session_replication_role = replica; UPDATE orders SET total = 0; DELETE FROM lines WHERE n % 2 = 0; \
                       INSERT INTO orders (customer) VALUES (5); DELETE FROM log; INSERT INTO log VALUES ('2026-01-05', 'new'); \
                       UPDATE \"Ödd \"\"s\"\"\".\"Tä.ble $1\" SET \"select\" = 'x'");
        let damaged = rows(&c, ALL);
        let before = databases(&c);
        let names = ["orders", "lines", "log", "Ödd \"s\".Tä.ble $1"].map(|t| ["--table", t]).concat();
        let args = [&["restore", "--yes"], &names[..]].concat();
        w.run(&args).code(0).says(&["2,000 rows", "kept as schema backstay_before_"]);
        assert_eq!(rows(&c, ALL), good, "{extra}");
        assert_eq!(databases(&c), before);
        assert_eq!(c.psql("erp", "SELECT count(*) FROM seen; SELECT 'public.orders'::regclass::oid"), definitions);
        let kept = c.psql("erp", "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'backstay_before_%'");
        assert_eq!(c.psql("erp", &format!("SELECT count(*), sum(total) FROM \"{kept}\".orders")), "2001|0.00");
        assert_eq!(c.psql("erp", &format!("SELECT what FROM \"{kept}\".log")), "new");
        assert_ne!(damaged, good);
        // One partition alone, without keeping.
        c.psql("erp", "DELETE FROM log");
        w.run(&["restore", "--yes", "--table", "log_2", "--no-keep"]).code(0);
        let left = c.psql("erp", "SELECT (SELECT count(*) FROM log_1), (SELECT count(*) FROM log_2)");
        assert_eq!(left, format!("0|{}", before_count(&w)));
        assert_eq!(c.psql("erp", "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'backstay_before_%'"), "1");
    }
}

#[test]
fn inheritance_hash_partitions_and_equal_names_keep_apart() {
    let c = Cluster::start();
    c.psql("postgres", "CREATE DATABASE erp");
    c.psql(
        "erp",
        "CREATE TABLE base (id int, what text); CREATE TABLE child (more int) INHERITS (base);
         INSERT INTO base SELECT g, 'b' FROM generate_series(1, 10) g; INSERT INTO child SELECT g, 'c', g FROM generate_series(1, 20) g;
         CREATE TABLE spread (id int, what text) PARTITION BY HASH (id);
         CREATE TABLE spread_0 PARTITION OF spread FOR VALUES WITH (MODULUS 2, REMAINDER 0);
         CREATE TABLE spread_1 PARTITION OF spread FOR VALUES WITH (MODULUS 2, REMAINDER 1);
         INSERT INTO spread SELECT g, 's' FROM generate_series(1, 300) g;
         CREATE SCHEMA a; CREATE SCHEMA b; CREATE TABLE a.same (x int); CREATE TABLE b.same (x int, y int);
         INSERT INTO a.same VALUES (1); INSERT INTO b.same VALUES (2, 3), (4, 5); CREATE TABLE without ();
         INSERT INTO without DEFAULT VALUES",
    );
    let w = with_database(&c, SOCKET);
    w.backup();
    let before = c.dump("erp");
    let has = databases(&c);
    w.run(&["restore", "--table", "base", "--table", "spread", "--to", "old"])
        .code(0)
        .says(&["table public.spread", "300 rows"]);
    assert_eq!(c.psql("erp", "SELECT count(*) FROM old.base; SELECT count(*) FROM old.spread"), "10\n300");
    w.run(&["restore", "--table", "child", "--to", "old2"]).code(0);
    assert_eq!(c.psql("erp", "SELECT count(*), sum(more) FROM old2.child"), "20|210");
    w.run(&["restore", "--table", "spread_0", "--to", "old3"]).code(10).says(&[
        "partition by hash",
        "public.spread_0",
        "whole",
    ]);
    w.run(&["restore", "--table", "same", "--to", "old3"]).code(2).says(&["a.same, b.same"]);
    w.run(&["restore", "--table", "a.same", "--table", "b.same", "--to", "old3"])
        .code(2)
        .says(&["same name", "two schemas"]);
    c.psql("erp", "DROP SCHEMA old, old2 CASCADE; UPDATE base SET what = 'x'; DELETE FROM spread; DELETE FROM a.same; DELETE FROM b.same; DELETE FROM without");
    let names = ["base", "child", "spread", "a.same", "b.same", "without"].map(|t| ["--table", t]).concat();
    w.run(&[&["restore", "--yes", "--no-keep"], &names[..]].concat()).code(0);
    assert_eq!(c.dump("erp"), before);
    // The parent alone: the child's rows are another table's.
    c.psql("erp", "DELETE FROM ONLY base; CREATE PUBLICATION everything FOR ALL TABLES");
    w.run(&["restore", "--yes", "--table", "base"]).code(0).says(&["publication everything is for all tables"]);
    c.psql("erp", "DROP PUBLICATION everything");
    let kept = c.psql("erp", "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'backstay_before_%'");
    assert_eq!(c.psql("erp", &format!("SELECT count(*) FROM \"{kept}\".base")), "0");
    c.psql("erp", &format!("DROP SCHEMA \"{kept}\" CASCADE"));
    assert_eq!((c.dump("erp"), databases(&c)), (before, has));
}

#[test]
fn tables_that_others_point_at_are_refused_and_orphans_too() {
    let (c, w) = shop("");
    let good = rows(&c, ALL);
    c.psql("erp", "UPDATE orders SET total = 0");
    let damaged = rows(&c, ALL);
    let restore = ["restore", "--yes", "--table", "orders"];
    w.run(&restore).code(10).says(&["lines_order_id_fkey of public.lines", "--replica-mode"]);
    assert_eq!(rows(&c, ALL), damaged);
    let replica = [&restore[..], &["--replica-mode"]].concat();
    // A line of an order that the backup does not have.
    c.psql("erp", "INSERT INTO orders (id, customer) VALUES (9000, 1); INSERT INTO lines (order_id) VALUES (9000)");
    let with_orphan = rows(&c, ALL);
    w.run(&replica).code(10).says(&["lines_order_id_fkey", "(9000) is not there", "--table is repeatable"]);
    assert_eq!(rows(&c, ALL), with_orphan);
    // An order of the backup whose customer is gone.
    c.psql("erp", "DELETE FROM lines WHERE order_id = 9000; DELETE FROM orders WHERE id = 9000");
    c.psql("erp", "SET session_replication_role = replica; DELETE FROM orders WHERE customer = 7; DELETE FROM lines WHERE order_id NOT IN (SELECT id FROM orders); DELETE FROM customers WHERE id = 7");
    w.run(&replica).code(10).says(&["orders_customer_fkey", "(7) is not there"]);
    c.psql("erp", "INSERT INTO customers VALUES (7, 'customer 7'); TRUNCATE told");
    w.run(&replica).code(0);
    let orders = c.psql("erp", "SELECT count(*), sum(total) FROM orders; SELECT count(*) FROM told");
    assert_eq!(orders, "2000|2001000.00\n0");
    w.run(&["restore", "--yes", "--table", "lines"]).code(0);
    w.run(&["restore", "--yes", "--table", "customers", "--replica-mode"]).code(0);
    assert_eq!(rows(&c, ALL), good);
}

#[test]
fn tables_that_are_not_alike_are_refused_by_name() {
    let (c, w) = shop("");
    c.psql("erp", "ALTER TABLE lines ALTER what TYPE varchar(30); ALTER TABLE lines ADD more int; ALTER TABLE told RENAME TO was_told");
    let before = databases(&c);
    w.run(&["restore", "--yes", "--table", "lines"]).code(10).says(&[
        "public.lines",
        "column what: text in the backup, character varying(30) now",
        "column more: missing",
    ]);
    w.run(&["restore", "--yes", "--table", "told"]).code(10).says(&["no such table", "public.told", "--to"]);
    c.psql("erp", "ALTER TABLE orders ENABLE ALWAYS TRIGGER tells");
    w.run(&["restore", "--yes", "--table", "orders", "--replica-mode"]).code(10).says(&["tells of public.orders"]);
    assert_eq!(databases(&c), before);
}

#[test]
fn a_row_that_is_refused_leaves_the_live_table_untouched() {
    for extra in ["big_tables = \"0\"", "os_user = \"postgres\""] {
        let (c, w) = shop(extra);
        c.psql(
        "erp",
        "DELETE FROM lines WHERE n > 1000; UPDATE lines SET what = 'short'; ALTER TABLE lines ADD CHECK (n <> 1500)",
    );
        let (before, has) = (rows(&c, ALL), (databases(&c), schemas(&c)));
        let failed = w.run(&["restore", "--yes", "--table", "lines"]).code(12);
        failed.says(&["lines_n_check", "public.lines", "Everything is as it was"]);
        assert_eq!(rows(&c, ALL), before);
        assert_eq!((databases(&c), schemas(&c)), has);
    }
}

#[test]
fn a_role_that_is_no_superuser_replaces_tables_without_triggers() {
    let (c, w) = shop("");
    let good = rows(&c, ALL);
    c.psql(
        "postgres",
        &format!("CREATE ROLE app LOGIN CREATEDB PASSWORD '{}'", crate::cluster::PASSWORD.replace('\'', "''")),
    );
    c.psql("erp", "DO $$ DECLARE t text; BEGIN FOR t IN SELECT oid::regclass FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') LOOP EXECUTE 'ALTER TABLE ' || t || ' OWNER TO app'; END LOOP; END $$");
    c.psql("erp", "GRANT CREATE ON DATABASE erp TO app; GRANT CREATE ON SCHEMA public TO app");
    configure(&w, &c, &SOCKET.replace("postgres@", "app@"));
    c.psql("erp", "SET session_replication_role = replica; DELETE FROM lines; UPDATE orders SET total = 1");
    let both = ["restore", "--yes", "--table", "lines", "--table", "orders"];
    w.run(&both).code(10).says(&["tells of public.orders", "superuser"]);
    w.run(&["restore", "--yes", "--table", "orders", "--replica-mode"]).code(10).says(&["needs a superuser"]);
    c.psql("erp", "ALTER TABLE orders DISABLE TRIGGER tells");
    // Lines point at orders: those must come first, though they were named last.
    w.run(&both).code(0);
    assert_eq!(rows(&c, ALL), good);
}

#[test]
fn a_restore_of_tables_that_is_killed_is_taken_back_or_finished() {
    for (extra, to) in [("", None), ("", Some("old"))] {
        let (c, w) = shop(extra);
        let good = rows(&c, ALL);
        c.psql("erp", "SET session_replication_role = replica; UPDATE lines SET what = 'x' WHERE n > 5; SELECT setval('lines_n_seq', 9999)");
        let damaged = rows(&c, ALL);
        let before = (databases(&c), schemas(&c));
        let args = match to {
            None => vec!["restore", "--table", "lines", "--yes"],
            Some(to) => vec!["restore", "--table", "lines", "--to", to],
        };
        for (say, forward) in [("stage", false), ("verify", false), ("swap", false), ("stage", true), ("swap", true)] {
            let mut child = w.command(&args).stderr(std::process::Stdio::piped()).spawn().unwrap();
            let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stderr.take().unwrap()));
            assert!(lines.any(|l| l.unwrap().contains(say)));
            child.kill().unwrap();
            child.wait().unwrap();
            if forward {
                w.run(&["restore", "--resume"]).code(0).says(&["equal to the facts"]);
                assert_eq!(databases(&c), before.0);
                match to {
                    None => {
                        assert_eq!(rows(&c, ALL), good);
                        c.psql("erp", "UPDATE lines SET what = 'x' WHERE n > 5; SELECT setval('lines_n_seq', 9999)");
                    }
                    Some(to) => {
                        assert_eq!(
                            c.psql("erp", &format!("SELECT count(*) FROM {to}.lines WHERE what <> 'x'")),
                            "2000"
                        );
                        c.psql("erp", &format!("DROP SCHEMA {to} CASCADE"));
                    }
                }
            } else {
                w.run(&["restore", "--unwind"]).code(0).says(&["taken back"]);
                assert_eq!(rows(&c, ALL), damaged);
                assert_eq!((databases(&c), schemas(&c)), before);
                assert_eq!(c.psql("erp", "SELECT last_value FROM lines_n_seq"), "9999");
            }
        }
    }
}

#[test]
fn a_table_that_somebody_holds_is_not_waited_for_longer_than_others_can_bear() {
    let (c, w) = shop("");
    let before = (rows(&c, ALL), databases(&c), schemas(&c));
    std::thread::scope(|s| {
        let holder = s.spawn(|| c.psql_output("erp", "BEGIN; SELECT count(*) FROM lines; SELECT pg_sleep(600)"));
        let pid = || {
            c.psql(
                "erp",
                "SELECT pid FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)' AND pid <> pg_backend_pid()",
            )
        };
        while pid().is_empty() {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        let begun = std::time::Instant::now();
        let failed = w.run(&["restore", "--yes", "--table", "lines"]);
        c.psql("erp", &format!("SELECT pg_terminate_backend({})", pid()));
        holder.join().unwrap();
        failed.code(12).says(&["55P03", "Somebody holds one of the tables"]);
        assert!(begun.elapsed().as_secs() < 40, "{:?}", begun.elapsed());
    });
    assert_eq!((rows(&c, ALL), databases(&c), schemas(&c)), before);
    w.run(&["restore", "--yes", "--table", "lines"]).code(0);
}

#[test]
fn of_a_source_with_several_databases_one_is_named() {
    let (c, w) = shop("databases = \"all\"");
    let before = rows(&c, ALL);
    c.psql("erp", "DELETE FROM lines");
    w.run(&["restore", "--yes", "--table", "lines"]).code(2).says(&["--database"]);
    w.run(&["restore", "--yes", "--table", "lines", "--database", "erp"]).code(0);
    assert_eq!(rows(&c, ALL), before);
    c.psql("postgres", "DROP DATABASE erp");
    w.run(&["restore", "--yes", "--table", "lines", "--database", "erp"])
        .code(10)
        .says(&["no database erp", "--table"]);
}

#[test]
fn a_restore_of_tables_is_rolled_back_later() {
    let (c, w) = shop("");
    c.psql(
        "erp",
        "SET session_replication_role = replica; UPDATE lines SET what = 'x'; SELECT setval('lines_n_seq', 9999)",
    );
    let damaged = rows(&c, ALL);
    let before = (databases(&c), schemas(&c));
    w.run(&["restore", "--yes", "--table", "lines"]).code(0);
    assert_ne!(rows(&c, ALL), damaged);
    w.run(&["rollback", "--yes"]).code(0);
    assert_eq!(rows(&c, ALL), damaged);
    assert_eq!(c.psql("erp", "SELECT last_value FROM lines_n_seq"), "9999");
    w.run(&["restore", "--table", "lines", "--to", "old"]).code(0);
    w.run(&["rollback", "--yes"]).code(0);
    assert_eq!((databases(&c), schemas(&c)), before);
    w.run(&["restore", "--dry-run", "--table", "lines", "--no-keep"]).code(0).says(&["is not kept beside it"]);
    w.run(&["restore", "--yes", "--table", "lines", "--no-keep"]).code(0);
    let good = rows(&c, ALL);
    w.run(&["rollback", "--yes"]).code(10).says(&["were not kept", "--no-keep", "an older backup"]);
    assert_eq!(rows(&c, ALL), good);
}

/// Its journal as it is when the program was killed before it wrote the last records.
#[test]
fn a_rollback_of_tables_that_is_undone_says_which_of_them_stay_back() {
    let (c, w) = shop("");
    c.psql("erp", "SET session_replication_role = replica; UPDATE lines SET what = 'x'");
    let damaged = rows(&c, ALL);
    w.run(&["restore", "--yes", "--table", "lines"]).code(0);
    let of_tables = w.last_restore();
    w.run(&["rollback", "--yes"]).code(0).says(&["none are kept beside", "what it had restored is gone"]);
    let cleanup = w.run(&["cleanup", "--dry-run", &of_tables]).code(0);
    assert!(!cleanup.out.contains("restored copy"), "{}", cleanup.out);
    assert_eq!(rows(&c, ALL), damaged);
    let of_rollback = || {
        let mut all = std::fs::read_dir(w.at("state/restores")).unwrap().map(|e| e.unwrap().path());
        all.find(|path| std::fs::read_to_string(path).unwrap().contains("swap back")).unwrap()
    };
    let cut = |by: usize| {
        let ended = of_rollback();
        let text = std::fs::read_to_string(&ended).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        std::fs::write(w.at("state/restore.journal"), lines[..lines.len() - by].join("\n") + "\n").unwrap();
        std::fs::remove_file(ended).unwrap();
    };
    let stays = "table public.lines of database erp stays as before the restore, and what was restored is gone";
    cut(1);
    w.run(&["restore", "--unwind"]).code(0).says(&["the rollback of restore", "but for this", stays]);
    // Killed at the end of that undo, and taken up.
    cut(2);
    w.run(&["restore", "--resume"]).code(12).says(&["but for this", stays]);
    assert_eq!(rows(&c, ALL), damaged);
    let id = of_rollback().file_stem().unwrap().to_str().unwrap().to_owned();
    w.run(&["restores", &id]).code(0).says(&[stays]);
    // There is nothing that could be put back a second time.
    w.run(&["rollback", "--yes"]).code(10).says(&["not kept any more"]);
}

/// The journal as it is when the program was killed behind the commit and before it wrote that.
#[test]
fn what_was_committed_is_known_after_a_crash_and_can_be_put_back() {
    let (c, w) = shop("");
    let good = rows(&c, ALL);
    c.psql("erp", "SET session_replication_role = replica; UPDATE orders SET total = 0; UPDATE lines SET what = 'x'; SELECT setval('orders_id_seq', 7777)");
    let damaged = rows(&c, ALL);
    let before = (databases(&c), schemas(&c));
    let names = ["--table", "lines", "--table", "orders"];
    let cut = |by: usize| {
        let ended = std::fs::read_dir(w.at("state/restores")).unwrap().map(|e| e.unwrap().path()).max().unwrap();
        let text = std::fs::read_to_string(&ended).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        std::fs::write(w.at("state/restore.journal"), lines[..lines.len() - by].join("\n") + "\n").unwrap();
        std::fs::remove_file(ended).unwrap();
    };
    w.run(&[&["restore", "--yes"], &names[..]].concat()).code(0);
    assert_eq!(rows(&c, ALL), good);
    // Without the records `done` and `committed`; and a second look finds everything in place.
    cut(2);
    c.psql("erp", "UPDATE lines SET what = 'since' WHERE n = 1");
    let since = rows(&c, ALL);
    w.run(&["restore", "--resume"]).code(0);
    assert_eq!(rows(&c, ALL), since);
    cut(2);
    w.run(&["restore", "--unwind"]).code(0);
    assert_eq!(rows(&c, ALL), damaged);
    assert_eq!((databases(&c), schemas(&c)), before);
    // Without rows to put back, that is said.
    w.run(&[&["restore", "--yes", "--no-keep"], &names[..]].concat()).code(0);
    cut(2);
    w.run(&["restore", "--unwind"]).code(16).says(&["were not kept", "--no-keep"]);
    w.run(&["restore", "--unwind"]).code(16);
    std::fs::remove_file(w.at("state/restore.journal")).unwrap();
    assert_eq!(rows(&c, ALL), good);
    // The same beside.
    w.run(&[&["restore", "--to", "old"], &names[..]].concat()).code(0);
    cut(2);
    w.run(&["restore", "--resume"]).code(0);
    assert_eq!(c.psql("erp", "SELECT count(*) FROM old.orders"), "2000");
    cut(2);
    w.run(&["restore", "--unwind"]).code(0);
    assert_eq!((databases(&c), schemas(&c)), before);
}
