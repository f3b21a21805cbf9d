//! Databases of foreign backups come back through the flow of our own: staged, verified, swapped, and back.

use crate::scripts::Site;

const T: &str = "20260104_020000";

fn round(s: &Site, file: &str, is: &str, more: &str) {
    s.with(&format!("files = [ {{ pattern = \"{file}\", is = \"{is}\", source = \"db\"{more} }} ]"));
    let before = s.erp();
    s.spoil();
    let spoiled = s.erp();
    let ran = s.world.run(&["restore", "--foreign", "old", "latest", "--yes"]).code(0);
    assert_eq!(s.erp(), before, "{file}");
    assert_eq!(s.cluster.psql("erp", "SELECT count(*) FROM pg_largeobject_metadata"), "3");
    drop(ran);
    s.world.run(&["rollback", "--yes"]).code(0);
    assert_eq!(s.erp(), spoiled, "{file}");
    // For the next round.
    s.world.run(&["restore", "--foreign", "old", "latest", "--yes"]).code(0);
    assert_eq!(s.erp(), before);
    assert!(!s.world.path().join("state/foreign").exists());
}

#[test]
fn a_custom_dump_comes_back() {
    let s = Site::new();
    s.script(&format!("pg_dump -Fc erp > db_{T}.dump"));
    round(&s, "db_{timestamp}.dump", "pg-custom", "");
}

#[test]
fn a_plain_dump_comes_back_with_and_without_its_database() {
    let s = Site::new();
    s.script(&format!("pg_dump erp | gzip > p_{T}.sql.gz; pg_dump -C --clean erp | gzip > q_{T}.sql.gz"));
    round(&s, "p_{timestamp}.sql.gz", "pg-plain", "");
    round(&s, "q_{timestamp}.sql.gz", "pg-plain", "");
}

#[test]
fn one_database_is_cut_out_of_a_cluster_and_roles_that_exist_are_no_error() {
    let s = Site::new();
    s.cluster.psql("postgres", "CREATE DATABASE \"o'ther db\"");
    s.cluster.psql("o'ther db", "CREATE TABLE orders (id int); INSERT INTO orders VALUES (1)");
    s.script(&format!("pg_dumpall --clean --if-exists | gzip > all_{T}.sql.gz"));
    let other = s.cluster.dump("o'ther db");
    round(&s, "all_{timestamp}.sql.gz", "pg-dumpall", "");
    assert_eq!(s.cluster.dump("o'ther db"), other);
    // A role that is gone is made again, with its password.
    s.cluster.psql("erp", "REASSIGN OWNED BY app TO postgres; DROP OWNED BY app");
    s.cluster.psql("postgres", "ALTER DATABASE erp OWNER TO postgres");
    for previous in s.cluster.psql("postgres", "SELECT datname FROM pg_database WHERE datname LIKE 'erp_%'").lines() {
        s.cluster.psql("postgres", &format!("ALTER DATABASE \"{previous}\" ALLOW_CONNECTIONS true"));
        s.cluster.psql(previous, "REASSIGN OWNED BY app TO postgres; DROP OWNED BY app");
        s.cluster.psql("postgres", &format!("ALTER DATABASE \"{previous}\" OWNER TO postgres"));
    }
    s.cluster.psql("postgres", "DROP ROLE app");
    s.world.run(&["restore", "--foreign", "old", "latest", "--yes"]).code(0);
    assert_eq!(s.cluster.psql("erp", "SELECT tableowner FROM pg_tables WHERE tablename = 'orders'"), "app");
    // The other one, under a name of its own.
    s.with("files = [ { pattern = \"all_{timestamp}.sql.gz\", is = \"pg-dumpall\", source = \"db\", database = \"o'ther db\" } ]");
    s.world.run(&["restore", "--foreign", "old", "latest", "--to", "copy_of"]).code(0);
    assert_eq!(s.cluster.psql("copy_of", "SELECT count(*) FROM orders"), "1");
    s.with("files = [ { pattern = \"all_{timestamp}.sql.gz\", is = \"pg-dumpall\", source = \"db\", database = \"nothing\" } ]");
    s.world.run(&["check", "--foreign"]).code(4).says(&["the dump holds no database nothing", "o'ther db"]);
}

#[test]
fn every_error_counts_and_nothing_live_is_touched() {
    let s = Site::new();
    s.script(&format!("pg_dump erp > p_{T}.sql"));
    s.with("files = [ { pattern = \"p_{timestamp}.sql\", is = \"pg-plain\", source = \"db\" } ]");
    let before = s.erp();
    let refused = |says: &[&str], code: i32| {
        s.world.run(&["restore", "--foreign", "old", "latest", "--yes"]).code(code).says(says);
        assert_eq!(s.erp(), before);
        assert_eq!(
            s.cluster.psql("postgres", "SELECT string_agg(datname, ',' ORDER BY datname) FROM pg_database"),
            "erp,postgres,template0,template1"
        );
    };
    s.script(&format!("sed -i 's/^CREATE INDEX .*placed.*/SELECT no_such_function();/' p_{T}.sql"));
    refused(&["no_such_function"], 12);
    s.script(&format!("pg_dump erp | sed 's/OWNER TO app/OWNER TO nobody_here/' > p_{T}.sql"));
    refused(&["the server lacks roles", "nobody_here", "--no-owner"], 10);
    // A row that is no number, in the middle of a COPY.
    s.script(&format!("pg_dump erp | sed '0,/^5\\t1/s//x\\t1/' > p_{T}.sql"));
    refused(&["invalid input syntax"], 12);
    // A command of psql that runs a program.
    s.script(&format!("{{ pg_dump erp | grep -v 'dump complete'; echo '\\! touch {}'; echo '-- PostgreSQL database dump complete'; }} > p_{T}.sql", s.world.at("evil")));
    refused(&["a command of psql, which is not run"], 10);
    assert!(!s.world.path().join("evil").exists());
    // Cut short: refused before anything is staged.
    s.script(&format!("pg_dump erp > whole; head -n 300 whole > p_{T}.sql; rm whole"));
    refused(&["the dump"], 7);
    // Left out on demand.
    s.script(&format!("pg_dump erp | sed 's/OWNER TO app/OWNER TO nobody_here/' > p_{T}.sql"));
    s.world.run(&["restore", "--foreign", "old", "latest", "--yes", "--no-owner"]).code(0);
    assert_eq!(s.cluster.psql("erp", "SELECT count(*) FROM orders"), "5005");
    // The application, which owns the database, is not locked out.
    let owners = "SELECT string_agg(DISTINCT pg_get_userbyid(o), ',') FROM (SELECT relowner FROM pg_class WHERE relnamespace = 'public'::regnamespace \
         UNION ALL SELECT proowner FROM pg_proc WHERE pronamespace = 'public'::regnamespace UNION ALL SELECT lomowner FROM pg_largeobject_metadata) x (o)";
    assert_eq!(s.cluster.psql("erp", owners), "app");
}

#[test]
fn a_script_in_sql_stands_in_for_an_archive_that_is_damaged() {
    let s = Site::new();
    s.script(&format!(
        "mkdir -p {T}; pg_dump -Fc erp > {T}/a.dump; pg_dump erp > {T}/a.sql; truncate -s -1000 {T}/a.dump"
    ));
    s.with("files = [ { pattern = \"{timestamp}/a.dump\", is = \"pg-custom\", source = \"db\" }, { pattern = \"{timestamp}/a.sql\", is = \"pg-plain\", source = \"db\", optional = true } ]");
    let before = s.erp();
    s.spoil();
    s.world.run(&["restore", "--foreign", "old", "latest", "--yes"]).code(0).says(&["a.dump cannot be used"]);
    assert_eq!(s.erp(), before);
    s.world
        .run(&["restore", "--foreign", "old", "latest", "--table", "orders", "--to", "beside"])
        .code(10)
        .says(&["tables or sections cannot be picked out of a dump in SQL"]);
}

#[test]
fn another_database_does_not_stand_in_for_one_that_is_damaged() {
    let s = Site::new();
    s.cluster.psql("postgres", "CREATE DATABASE other");
    s.script(&format!(
        "mkdir -p {T}; pg_dump -Fc erp > {T}/a.dump; pg_dump -Fc other > {T}/b.dump; truncate -s -1000 {T}/a.dump"
    ));
    s.with("files = [ { pattern = \"{timestamp}/a.dump\", is = \"pg-custom\", source = \"db\" }, { pattern = \"{timestamp}/b.dump\", is = \"pg-custom\", source = \"db\", database = \"other\" } ]");
    s.spoil();
    let before = s.erp();
    s.world.run(&["restore", "--foreign", "old", "latest", "--yes"]).code(7).says(&["a.dump"]);
    assert_eq!(s.erp(), before);
    assert_eq!(s.cluster.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE 'other%'"), "1");
}
