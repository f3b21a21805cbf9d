//! Servers in containers, without a port: everything goes through exec. And every major to every later one.

use crate::boxed::Boxed;
use crate::world::World;

const SCHEMA: &str = "CREATE ROLE app LOGIN PASSWORD 'x'; CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TABLE orders (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text, m mood, total numeric(12,2), at timestamptz DEFAULT '2026-01-01Z');
INSERT INTO orders (note, m, total) SELECT E'note\\t' || md5(g::text), 'ok', g * 1.5 FROM generate_series(1, 30000) g;
CREATE INDEX ON orders (total); CREATE INDEX ON orders (note);
CREATE TABLE lines (order_id int REFERENCES orders, n int, what jsonb, PRIMARY KEY (order_id, n));
INSERT INTO lines SELECT id, 1, jsonb_build_object('id', id) FROM orders;
CREATE MATERIALIZED VIEW totals AS SELECT m, sum(total) FROM orders GROUP BY m;
ALTER TABLE orders OWNER TO app; CREATE TABLE \"odd \"\"$1\" (x bytea); INSERT INTO \"odd \"\"$1\" VALUES ('\\x00ff');
SELECT lo_from_bytea(0, '\\xabcd')";

fn configure(w: &World, container: &str, extra: &str) {
    w.write_config(&format!(
        "host = \"test-host\"\nstate_dir = \"{0}/state\"\n[repository]\nurl = \"file://{0}/repo\"\n[keys]\nidentity_file = \"{0}/host.key\"\n\
         [sources.db]\nkind = \"postgres\"\ncontainer = \"{container}\"\nurl = \"postgresql://postgres@/erp\"\nbig_tables = \"64KiB\"\n{extra}\n[plans.p]\nsources = [\"db\"]\n",
        w.path().display(),
    ));
}

pub fn world(container: &str, extra: &str) -> World {
    let w = World::bare();
    configure(&w, container, extra);
    w.run(&["init", "--recovery-out", &w.at("recovery.key")]).code(0);
    w
}

fn filled(major: u32) -> Boxed {
    let server = Boxed::start(major, "trust");
    server.sql("postgres", "CREATE DATABASE erp");
    server.sql("erp", SCHEMA);
    server
}

#[test]
fn a_server_in_a_container_needs_no_port() {
    let server = filled(15);
    let before = server.content("erp");
    let w = world(&server.name, "");
    let m = w.backup();
    let facts = &m["sources"][0]["facts"]["databases"][0];
    assert_eq!(facts["archive"]["blocks"].as_array().unwrap().len(), 2, "{facts}");
    server.sql("erp", "DROP TABLE lines; DELETE FROM orders WHERE id % 2 = 0");
    w.run(&["restore", "--yes"]).code(0).says(&["30,000 rows", "erp_before_"]);
    assert_eq!(server.content("erp"), before);
    // What was there is closed and kept.
    let kept =
        server.sql("postgres", "SELECT datname, datallowconn FROM pg_database WHERE datname LIKE 'erp_before_%'");
    assert!(kept.ends_with("|f"), "{kept}");
    assert_eq!(server.sql("erp", "SELECT tableowner FROM pg_tables WHERE tablename = 'orders'"), "app");
    // Nothing of the run is left in the container.
    let left = std::process::Command::new("docker").args(["exec", &server.name, "ls", "/tmp"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&left.stdout), "");
}

#[test]
fn clients_run_as_the_user_that_peer_authentication_wants() {
    let server = Boxed::start(15, "peer");
    server.sql("postgres", "CREATE DATABASE erp");
    server.sql("erp", SCHEMA);
    let w = world(&server.name, "");
    w.run(&["backup"]).code(11).says(&["Peer authentication failed", &server.name]);
    configure(&w, &server.name, "os_user = \"postgres\"");
    w.run(&["backup"]).code(0);
    w.run(&["restore", "--to", "copy"]).code(0);
    assert_eq!(server.content("copy"), server.content("erp"));
}

#[test]
fn a_container_that_is_missing_or_stopped_is_told_by_name() {
    let server = filled(15);
    let w = world("bs-no-such-container", "");
    w.run(&["backup"]).code(11).says(&["bs-no-such-container", "docker ps"]);
    configure(&w, &server.name, "");
    w.backup();
    std::process::Command::new("docker").args(["stop", "-t", "1", &server.name]).output().unwrap();
    w.run(&["backup"]).code(11).says(&["does not run", "docker start"]);
}

#[test]
fn every_major_restores_to_itself_and_to_every_later_one() {
    let servers: Vec<Boxed> = [13, 15, 17, 18].map(filled).into();
    for (n, from) in servers.iter().enumerate() {
        let before = from.content("erp");
        let w = world(&from.name, "");
        w.backup();
        for to in &servers[n..] {
            configure(&w, &to.name, "");
            let copy = format!("from{}", from.major);
            w.run(&["restore", "--to", &copy]).code(0);
            assert_eq!(to.content(&copy), before, "{} to {}", from.major, to.major);
        }
        for to in &servers[..n] {
            configure(&w, &to.name, "");
            let says = format!("the backup is of PostgreSQL {}, the server is {}", from.major, to.major);
            w.run(&["restore", "--to", "never"]).code(10).says(&[&says]);
        }
    }
}
