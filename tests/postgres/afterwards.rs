//! After a restore: what cleaning up leaves alone, and that it ends.

use crate::cluster::Cluster;
use crate::round_trip::{SOCKET, with_database};

#[test]
fn roles_that_a_restore_made_stay_when_what_it_had_restored_is_cleaned_up() {
    let c = Cluster::start();
    c.psql("postgres", "CREATE ROLE app LOGIN");
    c.psql("postgres", "CREATE ROLE person LOGIN");
    c.psql("postgres", "CREATE DATABASE erp OWNER app");
    c.psql("erp", "CREATE TABLE t AS SELECT generate_series(1, 500) AS x; ALTER TABLE t OWNER TO app");
    let w = with_database(&c, SOCKET);
    w.backup();
    c.psql("erp", "REASSIGN OWNED BY app TO postgres");
    c.psql("postgres", "DROP ROLE app");
    c.psql("postgres", "DROP ROLE person");
    let roles = "SELECT string_agg(rolname, ' ' ORDER BY rolname) FROM pg_roles WHERE rolname IN ('app', 'person')";
    w.run(&["restore", "--yes"]).code(0).says(&["roles made"]);
    let first = w.last_restore();
    w.run(&["rollback", "--yes"]).code(0);
    // By now one of them owns what is live, and as the other somebody may log in.
    w.run(&["restore", "--yes"]).code(0);
    assert_eq!(c.psql("erp", "SELECT tableowner FROM pg_tables WHERE tablename = 't'"), "app");
    w.run(&["cleanup", &first]).code(0).says(&["the restored copy of database erp"]);
    assert_eq!(c.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE 'erp_staged_%'"), "0");
    assert_eq!(c.psql("postgres", roles), "app person");
}
