//! Hosts whose backups are drilled.

use crate::cluster::{Cluster, PASSWORD};
use crate::world::World;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// Roles of its own, and one that is a member of the other.
const ROLES: &str = "CREATE ROLE app LOGIN PASSWORD 'x'; CREATE ROLE reader; GRANT reader TO app";
/// Rows, and a setting without which no query finds them.
const TABLES: &str = "
CREATE SCHEMA shop AUTHORIZATION app;
CREATE TABLE shop.orders AS SELECT g AS id, md5(g::text) AS what FROM generate_series(1, 5000) g;
ALTER TABLE shop.orders ADD PRIMARY KEY (id); ALTER TABLE shop.orders OWNER TO app; GRANT SELECT ON shop.orders TO reader;
ALTER DATABASE erp SET search_path = shop;
";

/// A host with a database and a tree, and two plans: `p` of both, `f` of the tree alone.
pub struct Host {
    pub world: World,
    pub cluster: Cluster,
    pub drill: String,
    pub check: String,
}

impl Host {
    /// One that has its vault.
    pub fn new() -> Self {
        let host = Self::without_vault();
        host.configure();
        host.world.run(&["init", "--recovery-out", &host.world.at("recovery.key")]).code(0);
        host
    }

    pub fn without_vault() -> Self {
        let cluster = Cluster::start();
        cluster.psql("postgres", ROLES);
        cluster.psql("postgres", "CREATE DATABASE erp OWNER app");
        cluster.psql("erp", TABLES);
        let world = World::bare();
        let path = world.path();
        // The user of a scratch cluster passes through.
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o711)).unwrap();
        std::fs::create_dir(path.join("drills")).unwrap();
        std::fs::set_permissions(path.join("drills"), PermissionsExt::from_mode(0o711)).unwrap();
        std::fs::create_dir(path.join("metrics")).unwrap();
        std::fs::write(world.at("pg.password"), format!("{PASSWORD}\n")).unwrap();
        world.file("a/one.txt", "one");
        world.file("b", crate::world::noise(300_000, 7));
        let check =
            "name = \"orders\"\nsource = \"db\"\nsql = \"SELECT count(*) FROM orders\"\nmin = 5000\n".to_owned();
        Host { world, cluster, drill: String::new(), check }
    }

    pub fn configure(&self) {
        self.configure_with("[keys]\nidentity_file = \"D/host.key\"\n");
    }

    pub fn configure_with(&self, keys: &str) {
        let text = "host = \"test-host\"\nstate_dir = \"D/state\"\n[repository]\nurl = \"file://D/repo\"\nKEYS\n\
             [metrics]\ntextfile = \"D/metrics/backstay.prom\"\n\
             [sources.db]\nkind = \"postgres\"\nurl = \"postgresql://postgres@/erp?host=SOCKET&port=PORT\"\npassword_file = \"pg.password\"\n\
             [sources.tree]\nkind = \"files\"\npaths = [\"D/tree\"]\n\
             [plans.p]\nsources = [\"db\", \"tree\"]\nkeep = { last = 1 }\n[[plans.p.restore.checks]]\nCHECK\n\
             [plans.p.drill]\ndir = \"D/drills\"\nDRILL\n\
             [plans.f]\nsources = [\"tree\"]\nkeep = { last = 1 }\n[plans.f.drill]\ndir = \"D/drills\"\n"
            .replace("KEYS", keys)
            .replace("CHECK", &self.check)
            .replace("DRILL", &self.drill)
            // Before names that chance makes, which may end in this letter.
            .replace("D/", &format!("{}/", self.world.path().display()))
            .replace("SOCKET", &self.cluster.path(""))
            .replace("PORT", &self.cluster.port.to_string());
        self.world.write_config(&text);
    }

    /// Backs up a plan; its id.
    pub fn backup(&self, plan: &str) -> String {
        self.world.run(&["--json", "backup", plan]).code(0).json()["id"].as_str().unwrap().to_owned()
    }

    /// What was made below `dir` and is still there.
    pub fn left(&self) -> Vec<PathBuf> {
        let left = std::fs::read_dir(self.world.path().join("drills")).unwrap();
        left.map(|entry| entry.unwrap().path()).collect()
    }

    /// Nothing of a drill is there any more.
    #[track_caller]
    pub fn is_clean(&self) {
        assert_eq!(self.left(), Vec::<PathBuf>::new());
        let state = self.world.path().join("state");
        assert!(!state.join("drill.journal").exists() && !state.join("restore.journal").exists());
        assert!(self.scratch_servers().is_empty(), "{:?}", self.scratch_servers());
    }

    /// Processes of servers that work below `dir`.
    pub fn scratch_servers(&self) -> Vec<u32> {
        let below = self.world.at("drills");
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let numbers = processes.filter_map(|p| p.file_name().to_str()?.parse::<u32>().ok());
        numbers
            .filter(|pid| {
                let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                let line = String::from_utf8_lossy(&line);
                line.contains("postgres") && line.contains(&below)
            })
            .collect()
    }

    /// Everything that lives and that a drill must leave as it is.
    pub fn live(&self) -> String {
        let databases =
            self.cluster.psql("postgres", "SELECT string_agg(datname || oid, ' ' ORDER BY datname) FROM pg_database");
        let roles = self.cluster.psql("postgres", "SELECT string_agg(rolname, ' ' ORDER BY rolname) FROM pg_roles");
        let tree = crate::world::picture(&self.world.path().join("tree"));
        format!("{databases}\n{roles}\n{}\n{tree}", self.cluster.dump("erp"))
    }

    pub fn metrics(&self) -> BTreeMap<String, f64> {
        values(&std::fs::read_to_string(self.world.at("metrics/backstay.prom")).unwrap())
    }
}

pub fn values(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|l| !l.starts_with('#'));
    lines.filter_map(|l| l.rsplit_once(' ')).map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect()
}

/// The name of a metric of the drills of a plan.
pub fn of_drill(what: &str, plan: &str) -> String {
    format!("backstay_run_{what}{{host=\"test-host\",plan=\"{plan}\",verb=\"drill\"}}")
}
