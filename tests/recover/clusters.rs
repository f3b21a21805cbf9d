//! A cluster is removed only when it is its own data that was put aside: the tool that removes it deletes what its settings name.

use crate::machine::Machine;
use backstay::host::cluster;
use std::path::Path;

/// Tells the process in the machine where the data is thought to be.
const VARIABLE: &str = "BACKSTAY_TEST_REMOVES_FROM";
/// Where it is.
const DATA: &str = "/srv/pg data";

#[test]
fn a_cluster_is_removed_only_when_its_own_data_was_put_aside() {
    let machine = Machine::boot("removes");
    machine.sh(&format!("pg_dropcluster --stop 15 main >&2; pg_createcluster --datadir '{DATA}' 15 main >&2"));
    let remove = |data: &str| {
        let out = machine.test("clusters::what_removes_it_in_the_machine", (VARIABLE, data)).output().unwrap();
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.status.success(), "{said}\n{}", String::from_utf8_lossy(&out.stderr));
        said
    };
    let is_whole = || machine.path(DATA).join("PG_VERSION").exists();
    // A directory that is not its own, of which an interrupted recovery might have put aside something.
    machine.sh("mkdir /srv/other.aside");
    for wrong in ["/srv/other", "/srv/pg", "/srv/pg data /var/log/postgresql/postgresql-15-main.log,"] {
        let said = remove(wrong);
        assert!(said.contains("refused") && said.contains(&format!("its data is in {DATA}")), "{said}");
        assert!(is_whole() && machine.path("/etc/postgresql/15/main/postgresql.conf").exists());
    }
    // Its own, which somebody has moved away.
    machine.sh(&format!("mv '{DATA}' /srv/moved"));
    let said = remove(DATA);
    assert!(said.contains("refused") && said.contains("its data is not in"), "{said}");
    machine.sh(&format!("mv /srv/moved '{DATA}'"));
    // Put aside, and dropped; also when that was interrupted between the two.
    machine.sh(&format!("mv '{DATA}' '{DATA}.aside'"));
    assert!(remove(DATA).contains("REMOVED"));
    assert!(machine.path(&format!("{DATA}.aside")).join("PG_VERSION").exists());
    assert!(!machine.path("/etc/postgresql/15/main").exists());
    machine.sh(&format!("pg_createcluster --datadir '{DATA}' 15 main >&2; rm -r '{DATA}.aside'"));
    assert!(remove(DATA).contains("REMOVED"));
    assert!(machine.path(&format!("{DATA}.aside")).join("PG_VERSION").exists() && !machine.path(DATA).exists());
    assert!(!machine.path("/etc/postgresql/15/main").exists());
}

/// Not a test of its own: it tells the one above on its standard output.
#[test]
#[allow(clippy::print_stdout)]
fn what_removes_it_in_the_machine() {
    let Ok(data) = std::env::var(VARIABLE) else { return };
    let aside = format!("{data}.aside");
    let removing = cluster::remove("15", "main", Path::new(&data), Path::new(&aside));
    match tokio::runtime::Runtime::new().unwrap().block_on(removing) {
        Ok(()) => println!("REMOVED"),
        Err(e) => println!("{}: {e}", e.kind.name()),
    }
}
