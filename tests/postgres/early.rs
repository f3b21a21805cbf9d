//! Indexes that are built while other tables still load, and those that must not be.

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
    let mut w = World::bare();
    w.extra = "big_tables = \"1MiB\"".into();
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
    assert_eq!(c.psql("copy", "SELECT count(*) FROM pg_index WHERE indrelid = 'items'::regclass"), "3");
}
