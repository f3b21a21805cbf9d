//! What was dumped comes back equal, into its own name or another, and days share their bytes.

use crate::cluster::{Cluster, PASSWORD};
use crate::world::World;
use std::fs;

/// Tables of several kinds, large objects, a partitioned table, a materialized view, odd names, a role of its own.
pub const SCHEMA: &str = r#"
CREATE ROLE "app ""owner""" LOGIN PASSWORD 'x;y';
CREATE ROLE reader; GRANT reader TO "app ""owner""";
CREATE TABLE orders (id bigserial PRIMARY KEY, placed timestamptz NOT NULL DEFAULT '2026-01-01', note text, total numeric(12,2));
INSERT INTO orders (note, total) SELECT 'note ' || g || repeat(md5(g::text), 20), g * 1.5 FROM generate_series(1, 20000) g;
CREATE INDEX ON orders (placed); CREATE INDEX ON orders (total);
CREATE TABLE lines (order_id bigint REFERENCES orders, n int, what jsonb, PRIMARY KEY (order_id, n));
INSERT INTO lines SELECT id, 1, jsonb_build_object('id', id) FROM orders;
CREATE TABLE log (at date NOT NULL, what text) PARTITION BY RANGE (at);
CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE log_2 PARTITION OF log FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
INSERT INTO log SELECT date '2026-01-01' + (g % 59), 'entry ' || g FROM generate_series(1, 5000) g;
CREATE TABLE "Odd ""Näme"" $1" ("a b" bytea); INSERT INTO "Odd ""Näme"" $1" VALUES ('\x00ff'), (NULL);
CREATE TABLE empty_one (x int);
CREATE MATERIALIZED VIEW totals AS SELECT date_trunc('day', placed) AS day, sum(total) FROM orders GROUP BY 1;
CREATE FUNCTION looks_like() RETURNS text LANGUAGE plpgsql AS $f$ BEGIN /*
\connect elsewhere
*/ RETURN 'x'; END $f$;
SELECT lo_from_bytea(0, decode(repeat('ab', 100000), 'hex')) FROM generate_series(1, 5);
ALTER TABLE orders OWNER TO "app ""owner""";
COMMENT ON TABLE orders IS 'it''s all here';
"#;

/// A world whose plan is one database.
pub fn with_database(cluster: &Cluster, url: &str) -> World {
    let w = World::bare();
    configure(&w, cluster, url);
    w.run(&["init", "--recovery-out", &w.at("recovery.key")]).code(0);
    w
}

pub fn configure(w: &World, cluster: &Cluster, url: &str) {
    fs::write(w.at("pg.password"), format!("{PASSWORD}\n")).unwrap();
    let url = url
        .replace("SOCKET", &cluster.path(""))
        .replace("PORT", &cluster.port.to_string())
        .replace("CLUSTER", &cluster.path(""));
    w.write_config(&format!(
        "host = \"test-host\"\nstate_dir = \"{0}/state\"\n[repository]\nurl = \"file://{0}/repo\"\n[keys]\nidentity_file = \"{0}/host.key\"\n\
         [sources.db]\nkind = \"postgres\"\nurl = \"{url}\"\npassword_file = \"pg.password\"\n{1}\n[plans.p]\nsources = [\"db\"]\n",
        w.path().display(),
        w.extra
    ));
}

pub const SOCKET: &str = "postgresql://postgres@/erp?host=SOCKET&port=PORT";

#[test]
fn a_database_comes_back_equal_under_its_own_name_and_another() {
    let c = Cluster::start();
    c.psql("postgres", "CREATE DATABASE erp");
    c.psql("erp", SCHEMA);
    let before = c.dump("erp");
    let w = with_database(&c, SOCKET);
    w.backup();
    let shown = w.run(&["show"]).code(0);
    assert!(shown.out.contains("5 large objects") && shown.out.contains("45,002 rows"), "{}", shown.out);

    w.run(&["restore", "--to", "copy"]).code(0).says(&["20,000 rows", "equal to the facts"]);
    assert_eq!(c.dump("copy"), before);
    // A copy never takes the place of what is there.
    w.run(&["restore", "--to", "copy"]).code(10).says(&["database copy exists", "--to"]);
    // The lost one comes back, with the roles that went with it.
    c.psql("postgres", "DROP DATABASE copy");
    c.psql("postgres", "DROP DATABASE erp");
    c.psql("postgres", r#"DROP ROLE "app ""owner"""; DROP ROLE reader"#);
    w.run(&["restore", "--yes"]).code(0).says(&["roles made", "app \"owner\""]);
    assert_eq!(c.dump("erp"), before);
    assert_eq!(
        c.psql(
            "postgres",
            "SELECT count(*) FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid WHERE r.rolname = 'reader'"
        ),
        "1"
    );
    assert_eq!(c.psql("postgres", "SELECT rolcanlogin FROM pg_roles WHERE rolname LIKE 'app%'"), "t");
}

#[test]
fn an_unchanged_database_ships_next_to_nothing_and_a_changed_row_little() {
    let c = Cluster::start();
    c.psql("postgres", "CREATE DATABASE erp");
    c.psql("erp", SCHEMA);
    c.psql("erp", "CREATE TABLE ballast AS SELECT g, repeat(md5(g::text), 100) FROM generate_series(1, 10000) g");
    let w = with_database(&c, SOCKET);
    w.backup();
    let m = w.backup();
    assert!(m["stats"]["shipped"].as_u64().unwrap() < 600_000, "{}", m["stats"]);
    c.psql("erp", "UPDATE orders SET note = 'changed' WHERE id = 5000");
    let m = w.backup();
    // The head with its date, the place where the row was and the one where it is now: each renews one or two chunks of
    // up to 2 MiB, of the 47 MB in all.
    assert!(m["stats"]["new"].as_u64().unwrap() < 12_600_000, "{}", m["stats"]);
    w.run(&["check", "--read-data"]).code(0);
}

#[test]
fn tcp_with_tls_is_verified_as_libpq_would() {
    let c = Cluster::start();
    c.psql("postgres", "CREATE DATABASE erp");
    c.psql("erp", "CREATE TABLE t AS SELECT generate_series(1, 10) AS x");
    let w = with_database(&c, SOCKET);
    let good = "postgresql://postgres@localhost:PORT/erp?sslmode=verify-full&sslrootcert=CLUSTERca.pem";
    configure(&w, &c, good);
    w.run(&["backup"]).code(0);
    assert_eq!(c.psql("postgres", "SELECT 1"), "1");
    for (url, why) in [
        (good.replace("CLUSTERca.pem", "CLUSTERother-ca.pem"), "certificate"),
        (good.replace("localhost", "127.0.0.1"), "certificate"),
        (good.replace("verify-full", "verify-ca").replace("CLUSTERca.pem", "CLUSTERother-ca.pem"), "certificate"),
        (good.replace("verify-full", "verify-everything"), "sslmode"),
    ] {
        configure(&w, &c, &url);
        let ran = w.run(&["backup"]);
        assert!(ran.code == 11 || ran.code == 3, "{url}: {ran:?}");
        ran.says(&[why]);
    }
    for ok in [
        good.replace("localhost", "127.0.0.1").replace("verify-full", "verify-ca"),
        "postgresql://postgres@127.0.0.1:PORT/erp?sslmode=require".to_owned(),
        "postgresql://postgres@127.0.0.1:PORT/erp?sslmode=disable".to_owned(),
    ] {
        configure(&w, &c, &ok);
        w.run(&["backup"]).code(0);
    }
}

#[test]
fn encoding_and_locale_are_those_of_the_backup_and_not_of_the_server() {
    let c = Cluster::start();
    c.psql("postgres", "CREATE DATABASE erp TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'");
    c.psql("erp", "CREATE TABLE words (w text); INSERT INTO words SELECT chr(233) || g FROM generate_series(1, 50) g");
    let words = || c.psql("erp", "SELECT count(*) || md5(string_agg(w, ',' ORDER BY w)) FROM words");
    let before = words();
    let w = with_database(&c, SOCKET);
    w.backup();
    c.psql("erp", "DELETE FROM words");
    w.run(&["restore", "--yes"]).code(0);
    assert_eq!(words(), before);
    let how = "SELECT pg_encoding_to_char(encoding) || ' ' || datcollate || ' ' || datctype FROM pg_database \
               WHERE datname = 'erp'";
    assert_eq!(c.psql("postgres", how), "LATIN1 C C");
}

#[test]
fn a_locale_of_icu_is_that_of_the_backup_too() {
    let c = Cluster::start();
    // Rules of its own came with version 16.
    let (rules, sorted) = match c.psql("postgres", "SHOW server_version_num").parse::<u32>().unwrap() {
        160_000.. => (" ICU_RULES '&z < ö'", "o z ö"),
        _ => ("", "o ö z"),
    };
    c.psql("postgres", &format!("CREATE DATABASE erp TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de'{rules}"));
    c.psql("erp", "CREATE TABLE words AS SELECT unnest(ARRAY['z', 'ö', 'o']) AS w; CREATE INDEX ON words (w)");
    // The column got another name with version 17.
    let of = "SELECT datlocprovider, coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale'), \
              datcollate, datctype, to_jsonb(d) ->> 'daticurules' FROM pg_database d WHERE datname = 'erp'";
    let how = || (c.psql("postgres", of), c.psql("erp", "SELECT string_agg(w, ' ' ORDER BY w) FROM words"));
    let before = how();
    assert!(before.0.starts_with("i|de|") && before.1 == sorted, "{before:?}");
    let w = with_database(&c, SOCKET);
    w.backup();
    c.psql("erp", "DELETE FROM words");
    w.run(&["restore", "--yes"]).code(0);
    assert_eq!(how(), before);
}

#[test]
fn all_databases_and_odd_names_are_dumped_and_one_is_picked_out() {
    let c = Cluster::start();
    let odd = "we ird=name'x";
    c.psql("postgres", "CREATE DATABASE erp");
    c.psql("postgres", &format!("CREATE DATABASE \"{odd}\""));
    c.psql("erp", "CREATE TABLE t AS SELECT generate_series(1, 10) AS x");
    let mut w = with_database(&c, SOCKET);
    w.extra = "databases = \"all\"".into();
    configure(&w, &c, SOCKET);
    let m = w.backup();
    let names: Vec<&str> =
        m["sources"][0]["artifacts"].as_array().unwrap().iter().map(|a| a["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["globals", "db:erp", "db:postgres", "db:we ird=name'x"]);
    w.run(&["restore", "--database", odd, "--to", "Other \"Name\""]).code(0);
    assert_eq!(c.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname = 'Other \"Name\"'"), "1");
    w.run(&["restore", "--to", "x"]).code(2).says(&["--database"]);
    w.run(&["restore", "--yes", "--database", "nosuch"]).code(4).says(&["erp"]);
    let sql = w.run(&["cat", "--source", "db", "--artifact", "globals"]).code(0).out;
    assert!(sql.contains("CREATE ROLE postgres"), "{sql}");
}

#[test]
fn rows_that_are_counted_are_those_of_the_dump_while_others_write() {
    let c = Cluster::start();
    c.psql("postgres", "CREATE DATABASE erp");
    c.psql(
        "erp",
        "CREATE TABLE t AS SELECT generate_series(1, 100000) AS x, repeat('y', 300) AS y; CREATE TABLE u (x int)",
    );
    let w = with_database(&c, SOCKET);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|s| {
        let flag = &stop;
        let cluster = &c;
        s.spawn(move || {
            while !flag.load(std::sync::atomic::Ordering::Relaxed) {
                cluster.psql("erp", "DELETE FROM t WHERE x IN (SELECT x FROM t LIMIT 50); INSERT INTO u SELECT 1 FROM generate_series(1, 50)");
            }
        });
        w.run(&["backup"]).code(0);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    // The restore counts and would refuse a difference.
    w.run(&["restore", "--to", "copy"]).code(0);
    assert_eq!(c.psql("copy", "SELECT (SELECT count(*) FROM t) + (SELECT count(*) FROM u)"), "100000");
}

#[test]
fn a_dump_whose_last_pack_is_half_full_ends_well() {
    let c = Cluster::start();
    c.psql("postgres", "CREATE DATABASE erp");
    // About 3 MB: less than a pack, and too much to share one with other artifacts.
    c.psql("erp", "CREATE TABLE t AS SELECT g AS x, repeat(md5(g::text), 9) AS y FROM generate_series(1, 10000) g");
    let w = with_database(&c, SOCKET);
    w.backup();
    w.run(&["restore", "--to", "copy"]).code(0).says(&["10,000 rows"]);
}

#[test]
fn a_table_that_is_rewritten_during_the_dump_is_not_stored_empty() {
    let c = Cluster::start();
    c.psql("postgres", "CREATE DATABASE erp");
    c.psql("erp", "CREATE TABLE a AS SELECT g AS x, repeat(md5(g::text), 30) AS y FROM generate_series(1, 60000) g");
    c.psql("erp", "CREATE TABLE z AS SELECT generate_series(1, 1000) AS x");
    let w = with_database(&c, SOCKET);
    for (n, delay) in [0, 40, 80, 120, 160, 250, 400].into_iter().enumerate() {
        std::thread::scope(|s| {
            let cluster = &c;
            s.spawn(move || {
                std::thread::sleep(std::time::Duration::from_millis(delay));
                let kind = if n % 2 == 0 { "bigint" } else { "int" };
                cluster.psql("erp", &format!("ALTER TABLE z ALTER COLUMN x TYPE {kind}"));
            });
            w.run(&["backup"]).code(0);
        });
        w.run(&["restore", "--to", &format!("copy{n}")]).code(0);
        assert_eq!(c.psql(&format!("copy{n}"), "SELECT count(*) FROM z"), "1000", "{delay}");
    }
}
