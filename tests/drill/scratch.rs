//! Servers of a drill's own: their version, roles, what they lack; and the live server, when it is asked for.

use crate::setup::Host;
use std::path::PathBuf;

/// An extension made for a test; its files are removed again.
struct Made {
    name: String,
    files: Vec<PathBuf>,
}

impl Made {
    fn new(host: &Host, what: &str, sql: &str) -> Self {
        let name = format!("drill_{what}_{}", std::process::id());
        let folder = host.cluster.share().join("extension");
        let files = [format!("{name}.control"), format!("{name}--1.0.sql")].map(|f| folder.join(f)).to_vec();
        std::fs::write(&files[0], "comment = 'made for a test'\ndefault_version = '1.0'\nrelocatable = true\n")
            .unwrap();
        std::fs::write(&files[1], sql).unwrap();
        host.cluster.psql("erp", &format!("CREATE EXTENSION {name} SCHEMA shop"));
        Made { name, files }
    }

    /// As on a machine where its package is not installed.
    fn uninstall(&self) {
        self.files.iter().for_each(|f| drop(std::fs::remove_file(f)));
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        self.uninstall();
    }
}

#[test]
fn roles_and_what_belongs_to_a_database_come_back_on_a_cluster_of_its_own() {
    let mut host = Host::new();
    // Who may do this, and by which way, only shows when the roles and their memberships are there.
    host.check = "name = \"who\"\nsource = \"db\"\nsql = \"SELECT pg_get_userbyid(d.datdba), has_table_privilege('app', 'orders', 'SELECT'), \
         pg_has_role('app', 'reader', 'MEMBER'), r.rolpassword LIKE 'SCRAM%' FROM pg_database d, pg_authid r \
         WHERE datname = current_database() AND rolname = 'app'\"\nexpect = [[\"app\", true, true, true]]\n"
        .to_owned();
    host.drill = "scratch = \"cluster\"".to_owned();
    host.configure();
    host.backup("p");
    let drilled = host.world.run(&["--json", "drill", "p"]).code(0).json();
    assert_eq!(drilled["outcome"], "proven");
    assert_eq!(drilled["checks"][0]["good"], true);
    host.is_clean();
}

#[test]
fn the_live_server_need_not_even_run() {
    let host = Host::new();
    host.backup("p");
    let data = host.cluster.path("data");
    let stop = format!("{}/pg_ctl -D {data} -m fast -w stop", host.cluster.bin().display());
    let stopped =
        std::process::Command::new("runuser").args(["-u", "postgres", "--", "sh", "-c", &stop]).output().unwrap();
    assert!(stopped.status.success(), "{stopped:?}");
    host.world.run(&["drill", "p"]).code(0).says(&["proven"]);
    host.is_clean();
}

#[test]
fn a_container_needs_an_image_that_is_here() {
    let mut host = Host::new();
    host.backup("p");
    host.drill = "scratch = \"container\"".to_owned();
    host.configure();
    host.world.run(&["drill", "p"]).code(10).says(&["of which image", "--image"]);
    let missing = "backstay-no-such-image:1";
    host.world.run(&["drill", "p", "--image", missing]).code(10).says(&[missing, "Backstay pulls none"]);
    host.is_clean();
}

#[test]
fn an_extension_that_is_not_installed_is_told_by_name_and_the_rest_is_proven() {
    let mut host = Host::new();
    host.drill = "scratch = \"cluster\"".to_owned();
    host.configure();
    let made = Made::new(
        &host,
        "idle",
        "CREATE TABLE settings (x int); INSERT INTO settings VALUES (1); SELECT pg_catalog.pg_extension_config_dump('settings', '');",
    );
    host.cluster.psql("erp", "INSERT INTO settings VALUES (2)");
    host.backup("p");
    made.uninstall();
    let drilled = host.world.run(&["--json", "drill", "p"]).code(0);
    assert!(drilled.err.contains(&made.name) || drilled.out.contains(&made.name), "{drilled:?}");
    let json = drilled.json();
    assert_eq!(json["outcome"], "proven");
    let lines = json["verified"].as_array().unwrap();
    let line = lines.iter().find(|l| l["what"].as_str().unwrap().contains(&made.name)).unwrap();
    assert_eq!(line["found"], "not installed there");
    host.is_clean();
}

#[test]
fn an_extension_that_something_needs_is_no_fault_of_the_backup() {
    let mut host = Host::new();
    host.drill = "scratch = \"cluster\"".to_owned();
    host.configure();
    let made = Made::new(&host, "needed", "CREATE FUNCTION needed() RETURNS int LANGUAGE sql AS 'SELECT 1';");
    host.cluster.psql("erp", "CREATE VIEW uses AS SELECT needed() AS n");
    host.backup("p");
    made.uninstall();
    host.world.run(&["drill", "p"]).code(10).says(&[&made.name, "not installed there", "\"container\" or \"live\""]);
    assert!(host.world.objects("drills").is_empty());
    host.is_clean();
}

#[test]
fn beside_the_live_databases_nothing_of_them_changes_and_nothing_stays() {
    let mut host = Host::new();
    host.drill = "scratch = \"live\"".to_owned();
    host.configure();
    host.backup("p");
    let before = host.live();
    let drilled = host.world.run(&["--json", "drill", "p"]).code(0).json();
    assert_eq!((drilled["outcome"].as_str().unwrap(), drilled["scratch"].as_array().unwrap().len()), ("proven", 0));
    assert_eq!(drilled["checks"][0]["good"], true);
    assert_eq!(host.live(), before);
    // A role that the server lacks by now is made for the drill, and gone with it.
    host.cluster.psql("erp", "REVOKE ALL ON shop.orders FROM reader");
    host.cluster.psql("postgres", "DROP ROLE reader");
    let before = host.live();
    host.world.run(&["drill", "p"]).code(0);
    assert_eq!(host.live(), before);
    host.is_clean();
}

#[test]
fn programs_that_load_a_database_reach_the_scratch_server_with_its_roles() {
    let host = Host::new();
    let config = std::fs::read_to_string(host.world.at("backstay.toml")).unwrap();
    let bin = host.cluster.bin().display().to_string();
    let more = format!(
        "[sources.dumped]\nkind = \"command\"\ndump = [\"{bin}/pg_dump\"]\nload = [\"{bin}/psql\", \"-Xq\", \"-v\", \"ON_ERROR_STOP=1\", \"-o\", \"/dev/null\", \"-f\", \"-\"]\n\
         verify = [\"{bin}/psql\", \"-Xq\", \"-v\", \"ON_ERROR_STOP=1\", \"-c\", \"SELECT 1 / (count(*) / 5000) FROM shop.orders\"]\n\
         database = {{ source = \"db\", name = \"erp\" }}\n\
         [plans.c]\nsources = [\"db\", \"dumped\"]\n[plans.c.drill]\ndir = \"{}\"\nscratch = \"cluster\"\n",
        host.world.at("drills")
    );
    host.world.write_config(&(config + &more));
    host.backup("c");
    let before = host.live();
    let drilled = host.world.run(&["--json", "drill", "c"]).code(0).json();
    assert_eq!(drilled["outcome"], "proven", "{drilled}");
    assert_eq!(drilled["scratch"].as_array().unwrap().len(), 2);
    let lines = drilled["verified"].as_array().unwrap();
    assert!(lines.iter().any(|l| l["what"] == "dumped: `verify`"), "{lines:?}");
    assert_eq!(host.live(), before);
    host.is_clean();
}
