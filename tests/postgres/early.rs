//! What happens while other tables still load, and what must not.

use crate::cluster::Cluster;
use crate::round_trip::{SOCKET, configure};
use crate::world::World;

#[test]
fn an_index_by_a_function_that_looks_into_another_table_waits_for_that_table() {
    let c = Cluster::start();
    c.psql("postgres", "CREATE DATABASE erp");
    // By its name the table of names is loaded last, behind some that are not big either.
    c.psql("erp", "CREATE TABLE zz_names (code int PRIMARY KEY, name text); INSERT INTO zz_names SELECT n, 'name ' || n FROM generate_series(0, 9) n");
    for n in 0..12 {
        c.psql("erp", &format!("CREATE TABLE filler_{n} AS SELECT md5(n::text) || md5((n + 1)::text) AS x FROM generate_series(1, 9000) n"));
    }
    c.psql("erp", "CREATE FUNCTION name_of(int) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT name FROM public.zz_names WHERE code = $1'");
    c.psql(
        "erp",
        "CREATE TABLE items AS SELECT n AS id, n % 10 AS code, md5(n::text) AS x FROM generate_series(1, 40000) n",
    );
    c.psql("erp", "ALTER TABLE items ADD PRIMARY KEY (id); CREATE INDEX items_x ON items (x); CREATE INDEX items_name ON items (name_of(code)); COMMENT ON INDEX items_x IS 'by x'");
    // Both alter their table when they are built; at once each would wait for the other.
    c.psql("erp", "CREATE UNIQUE INDEX items_id ON items (id); ALTER TABLE items CLUSTER ON items_x, REPLICA IDENTITY USING INDEX items_id");
    let mut w = World::bare();
    w.extra = "big_tables = \"1MiB\"\njobs = 3".into();
    configure(&w, &c, SOCKET);
    w.run(&["init", "--recovery-out", &w.at("recovery.key")]).code(0);
    w.backup();
    let good = c.dump("erp");
    w.run(&["restore", "--to", "copy"]).code(0).says(&["equal to the facts"]);
    assert_eq!(c.dump("copy"), good);
    let by_index = |database: &str| {
        let found = "SET enable_seqscan = off; SET enable_bitmapscan = off; SELECT count(*) FROM items WHERE name_of(code) = 'name 7'";
        let plan = format!(
            "SET enable_seqscan = off; SET enable_bitmapscan = off; EXPLAIN {}",
            found.rsplit("; ").next().unwrap()
        );
        assert!(c.psql(database, &plan).contains("items_name"), "{}", c.psql(database, &plan));
        c.psql(database, found)
    };
    assert_eq!(by_index("erp"), "4000");
    assert_eq!(by_index("copy"), "4000");
    assert_eq!(c.psql("copy", "SELECT bool_and(indisvalid) FROM pg_index"), "t");
    // The others need not wait: that this one has both kinds is what makes the test one.
    assert_eq!(c.psql("copy", "SELECT count(*) FROM pg_index WHERE indrelid = 'items'::regclass"), "4");
}

#[test]
fn rows_that_ask_another_table_on_their_way_in_wait_for_that_table() {
    let c = Cluster::start();
    c.psql("postgres", "CREATE DATABASE erp");
    // By their names these are loaded before the table of codes, and that before those whose rows ask it.
    for n in 0..8 {
        c.psql("erp", &format!("CREATE TABLE a_filler_{n} AS SELECT md5(n::text) || md5((n + 1)::text) AS x FROM generate_series(1, 9000) n"));
    }
    c.psql(
        "erp",
        "CREATE TABLE codes (code int PRIMARY KEY, name text, more text); ALTER TABLE codes ALTER more SET STORAGE EXTERNAL;
         INSERT INTO codes SELECT n, 'name ' || n, repeat('x', 200000) FROM generate_series(0, 9) n;
         CREATE FUNCTION name_of(int) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT name FROM public.codes WHERE code = $1';
         CREATE DOMAIN known AS int CHECK (name_of(VALUE) IS NOT NULL); CREATE DOMAIN deeper AS known;
         CREATE TABLE marks (LIKE codes INCLUDING STORAGE); INSERT INTO marks SELECT * FROM codes;
         CREATE VIEW seen AS SELECT code, name FROM marks;
         CREATE FUNCTION mark_of(int) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT name FROM public.seen WHERE code = $1';
         CREATE FUNCTION is_marked(int) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT public.mark_of($1) IS NOT NULL'",
    );
    // A CHECK, a generated column, a CHECK of a domain, one of a domain below it, a function that asks through another
    // one and a view, and one that asks nobody.
    for (table, columns) in [
        ("items", "code int CHECK (name_of(code) IS NOT NULL)"),
        ("labels", "code int, name text GENERATED ALWAYS AS (name_of(code)) STORED"),
        ("meant", "code known"),
        ("nested", "code deeper"),
        ("threaded", "code int CHECK (is_marked(code))"),
        ("plain", "code int CHECK (code < 10)"),
    ] {
        c.psql("erp", &format!("CREATE TABLE {table} (id int PRIMARY KEY, x text, {columns})"));
        let rows = "SELECT n, md5(n::text), n % 10 FROM generate_series(1, 20000) n";
        c.psql("erp", &format!("INSERT INTO {table} (id, x, code) {rows}"));
    }
    let mut w = World::bare();
    w.extra = "big_tables = \"1MiB\"".into();
    configure(&w, &c, SOCKET);
    w.run(&["init", "--recovery-out", &w.at("recovery.key")]).code(0);
    let facts = w.backup()["sources"][0]["facts"]["databases"][0].clone();
    let blocks = facts["archive"]["blocks"].as_array().unwrap();
    let beside: Vec<&str> = blocks.iter().map(|b| b["name"].as_str().unwrap()).collect();
    // The tables of codes and marks are above the size too, and must not come later than by their place in the archive.
    assert_eq!(beside, ["plain"], "{facts}");
    let good = c.dump("erp");
    w.run(&["restore", "--to", "copy"]).code(0).says(&["equal to the facts"]);
    assert_eq!(c.dump("copy"), good);
    assert_eq!(c.psql("copy", "SELECT count(*) FROM labels WHERE name = 'name ' || code"), "20000");
}
