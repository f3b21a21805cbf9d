//! Standbys: nothing is restored to one, and those of a primary are told.

use crate::cluster::Cluster;
use crate::round_trip::{SOCKET, configure, with_database};
use crate::tables::databases;

#[test]
fn a_standby_is_refused_and_those_of_a_primary_are_told() {
    let c = Cluster::start();
    c.psql("postgres", "CREATE DATABASE erp");
    c.psql("erp", "CREATE TABLE t AS SELECT generate_series(1, 500) AS x");
    let w = with_database(&c, SOCKET);
    w.backup();
    let standby = c.standby();
    let port = format!("postgresql://postgres@/erp?host=SOCKET&port={}", standby.port);
    configure(&w, &c, &port);
    let before = databases(&c);
    for args in [&["--to", "copy"][..], &["--yes"], &["--yes", "--table", "t"]] {
        w.run(&[&["restore"], args].concat()).code(10).says(&["the server is a standby", "on the primary"]);
    }
    assert_eq!(databases(&c), before);
    configure(&w, &c, SOCKET);
    w.run(&["restore", "--to", "copy"]).code(0).says(&["1 standby servers will get all of the load"]);
}
