//! What `doctor` asks a PostgreSQL server: tools, privileges, and whether a restore would find what it needs.

use crate::cluster::{Cluster, PASSWORD};
use crate::doctor::{checks, expect};
use crate::world::World;

/// A host with a plan `db` of one database, as this role.
fn world(cluster: &Cluster, role: &str) -> World {
    let mut world = World::bare();
    let toml = PASSWORD.replace('\\', "\\\\").replace('"', "\\\"");
    world.extra = format!(
        "[sources.erpdb]\nkind = \"postgres\"\nurl = \"postgresql://{role}@127.0.0.1:{}/erp\"\npassword = \"{toml}\"\n[plans.db]\nsources = [\"erpdb\"]\n",
        cluster.port
    );
    world.configure("", &format!("paths = [\"{}\"]", world.at("tree")));
    world.run(&["init", "--recovery-out", &world.at("recovery.key")]).code(0);
    world
}

#[test]
fn a_server_is_asked_for_tools_privileges_and_room() {
    let cluster = Cluster::start();
    cluster.psql("postgres", "CREATE DATABASE erp");
    cluster.psql("erp", "CREATE TABLE orders AS SELECT n FROM generate_series(1, 1000) n; CREATE SEQUENCE serial");
    let own = world(&cluster, "postgres");
    own.run(&["backup", "db"]).code(0);
    let all = checks(&own, &["--area", "sources", "--area", "restore"], 0);
    expect(&all, "sources", "erpdb (postgres), server", "good", &["PostgreSQL", "postgres@127.0.0.1"]);
    expect(&all, "sources", "erpdb (postgres), tools", "good", &["pg_dump", "pg_restore"]);
    expect(&all, "sources", "erpdb (postgres), privileges", "good", &["superuser", "1 database"]);
    expect(&all, "restore", "databases of erpdb", "good", &["needed", "free"]);
    // Nothing was made to find that out.
    assert_eq!(cluster.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE 'backstay%'"), "0");

    // A slot would stay with the old database, and keep its log until the disk is full.
    cluster.psql("postgres", "ALTER SYSTEM SET wal_level = logical");
    cluster.restart();
    cluster.psql("erp", "SELECT pg_create_logical_replication_slot('cdc', 'test_decoding')");
    let all = checks(&own, &["--area", "restore"], 17);
    expect(&all, "restore", "databases of erpdb", "bad", &["replication slots", "pg_drop_replication_slot"]);
    cluster.psql("erp", "SELECT pg_drop_replication_slot('cdc')");
}

#[test]
fn a_role_that_reads_too_little_is_told_by_what_it_may_not_read() {
    let cluster = Cluster::start();
    cluster.psql("postgres", "CREATE DATABASE erp");
    let quoted = PASSWORD.replace('\'', "''");
    cluster.psql("postgres", &format!("CREATE ROLE backup LOGIN PASSWORD '{quoted}'"));
    cluster.psql("erp", "CREATE TABLE orders (n int); CREATE TABLE secret (n int); GRANT SELECT ON orders TO backup");
    let world = world(&cluster, "backup");
    let look = |code| checks(&world, &["--area", "sources"], code);
    expect(&look(17), "sources", "privileges", "bad", &["may not read public.secret", "pg_read_all_data"]);
    cluster.psql("postgres", "GRANT pg_read_all_data TO backup");
    expect(&look(0), "sources", "privileges", "warning", &["passwords of roles", "nor create databases", "CREATEDB"]);
    // Rows that it would not see would be missing without a word.
    cluster.psql("erp", "ALTER TABLE orders ENABLE ROW LEVEL SECURITY");
    expect(&look(17), "sources", "privileges", "bad", &["row security hides rows of public.orders", "BYPASSRLS"]);
    // A server that is down is told, and its other questions are not asked.
    let all = {
        drop(cluster);
        look(17)
    };
    expect(&all, "sources", "erpdb (postgres)", "bad", &["cannot connect", "Check that the server runs"]);
}
