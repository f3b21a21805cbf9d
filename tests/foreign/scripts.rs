//! The worlds of the scripts: a directory of backups beside a configured host.

use crate::cluster::{Cluster, PASSWORD};
use crate::world::World;
use std::process::Command;

/// Tables as in the round trip of our own dumps: odd names, a line that looks like a command of psql, large objects,
/// partitions, an owner of its own.
pub const SCHEMA: &str = r#"
CREATE TABLE orders (id bigserial PRIMARY KEY, placed timestamptz NOT NULL DEFAULT '2026-01-01', note text, total numeric(12,2));
INSERT INTO orders (note, total) SELECT 'note ' || g || repeat(md5(g::text), 8), g * 1.5 FROM generate_series(1, 5000) g;
INSERT INTO orders (note) VALUES (E'a\\.b'), (E'\\.'), (E'\\N'), (E'tab\tand\nline'), (NULL);
CREATE INDEX ON orders (placed);
CREATE TABLE lines (order_id bigint REFERENCES orders, n int, what jsonb, PRIMARY KEY (order_id, n));
INSERT INTO lines SELECT id, 1, jsonb_build_object('id', id) FROM orders;
CREATE TABLE log (at date NOT NULL, what text) PARTITION BY RANGE (at);
CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE log_2 PARTITION OF log FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
INSERT INTO log SELECT date '2026-01-01' + (g % 59), 'entry ' || g FROM generate_series(1, 500) g;
CREATE TABLE shards (id int NOT NULL) PARTITION BY HASH (id);
CREATE TABLE shards_0 PARTITION OF shards FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE shards_1 PARTITION OF shards FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO shards SELECT generate_series(1, 50);
CREATE TABLE "Odd ""Näme"" $1" ("a b" bytea); INSERT INTO "Odd ""Näme"" $1" VALUES ('\x00ff'), (NULL);
CREATE TABLE empty_one (x int);
CREATE MATERIALIZED VIEW totals AS SELECT date_trunc('day', placed) AS day, sum(total) FROM orders GROUP BY 1;
CREATE FUNCTION looks_like() RETURNS text LANGUAGE plpgsql AS $f$ BEGIN /*
\connect elsewhere
*/ RETURN 'x'; END $f$;
CREATE FUNCTION standard(a int) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT CASE WHEN a > 1 THEN 2 ELSE 3 END; SELECT a; END;
SELECT lo_from_bytea(0, decode(repeat('ab', 30000), 'hex')) FROM generate_series(1, 3);
COMMENT ON TABLE orders IS 'it''s all here';
"#;

/// A host with the database `erp` of role `app`, the configuration of which has `foreign` besides.
pub struct Site {
    pub world: World,
    pub cluster: Cluster,
}

impl Site {
    /// With a server and `erp` in it.
    pub fn new() -> Self {
        let cluster = Cluster::start();
        cluster.psql("postgres", "CREATE ROLE app LOGIN PASSWORD 'x;y'");
        cluster.psql("postgres", "CREATE DATABASE erp OWNER app");
        cluster.psql("erp", SCHEMA);
        cluster.psql("erp", "ALTER TABLE orders OWNER TO app");
        let world = World::bare();
        std::fs::create_dir(world.at("backups")).unwrap();
        std::fs::write(world.at("pg.password"), format!("{PASSWORD}\n")).unwrap();
        Site { world, cluster }
    }

    /// Writes the configuration: the layout is that of `backups`, and there are sources and a plan.
    pub fn configure(&self, layout: &str, more: &str, sources: &str) {
        let d = self.world.path().display();
        self.world.write_config(&format!(
            "host = \"test-host\"\nstate_dir = \"{d}/state\"\n[repository]\nurl = \"file://{d}/repo\"\n[keys]\nidentity_file = \"{d}/host.key\"\n\
             [sources.db]\nkind = \"postgres\"\nurl = \"postgresql://postgres@/erp?host={}&port={}\"\npassword_file = \"pg.password\"\n\
             {more}\n[plans.p]\nsources = [{sources}]\n[foreign.old]\nurl = \"file://{d}/backups\"\n{layout}\n",
            self.cluster.dir.path().display(),
            self.cluster.port,
        ));
    }

    /// The same with the database alone.
    pub fn with(&self, layout: &str) {
        self.configure(layout, "", "\"db\"");
    }

    /// Runs a script as the operator's cron job would, with the server's tools and settings at hand.
    #[track_caller]
    pub fn script(&self, script: &str) {
        let path = std::env::var("PATH").unwrap();
        let out = Command::new("bash")
            .args(["-euo", "pipefail", "-c", script])
            .current_dir(self.world.at("backups"))
            .env("PATH", format!("{}:{path}", self.cluster.bin().display()))
            .env("PGHOST", self.cluster.dir.path())
            .env("PGPORT", self.cluster.port.to_string())
            .env("PGUSER", "postgres")
            .env("PGPASSWORD", PASSWORD)
            .output()
            .unwrap();
        assert!(out.status.success(), "{script}\n{}", String::from_utf8_lossy(&out.stderr));
    }

    /// What is in `erp` now, as `pg_dump` says it.
    pub fn erp(&self) -> String {
        self.cluster.dump("erp")
    }

    /// Something that a restore must take back.
    pub fn spoil(&self) {
        self.cluster.psql(
            "erp",
            "DELETE FROM lines; DELETE FROM orders WHERE id > 10; DROP TABLE empty_one; CREATE TABLE newer (x int)",
        );
    }
}

/// A world without a server, with `layout` as its foreign backups in `backups`.
pub fn files(layout: &str) -> World {
    let world = World::bare();
    std::fs::create_dir(world.at("backups")).unwrap();
    relayout(&world, layout);
    world
}

/// Writes its configuration anew.
pub fn relayout(world: &World, layout: &str) {
    let d = world.path().display();
    world.write_config(&format!(
        "host = \"test-host\"\nstate_dir = \"{d}/state\"\n[repository]\nurl = \"file://{d}/repo\"\n[keys]\nidentity_file = \"{d}/host.key\"\n\
         [sources.tree]\nkind = \"files\"\npaths = [\"{d}/tree\"]\n[plans.p]\nsources = [\"tree\"]\n[foreign.old]\nurl = \"file://{d}/backups\"\n{layout}\n"
    ));
}

/// Runs a script in the backups of a world.
#[track_caller]
pub fn script(world: &World, script: &str) {
    let out = Command::new("bash")
        .args(["-euo", "pipefail", "-c", script])
        .current_dir(world.at("backups"))
        .output()
        .unwrap();
    assert!(out.status.success(), "{script}\n{}", String::from_utf8_lossy(&out.stderr));
}
