//! The way back of a restore behind a cold copy: rollbacks that end half-way, stops that do, and what others wrote meanwhile.

use crate::cluster::{Cluster, PASSWORD};
use crate::cold::{begun, closed, undumpable};
use crate::round_trip::SOCKET;
use crate::world::World;
use backstay::config::secret::Secret;
use backstay::model::BackupId;
use backstay::recovery::chosen::Target;
use backstay::recovery::database::Databases;
use backstay::recovery::inplace::InPlace;
use backstay::recovery::resource::Resource;
use backstay::sources::postgres::address::Address;
use backstay::sources::postgres::load::Options;
use std::process::{Child, Command};

const RESTORE: &[&str] = &["restore", "--in-place", "--cold-copy", "--yes"];
const ROLLBACK: &[&str] = &["rollback", "--yes"];

/// From now on, while a certain file is there, the server takes seconds to stop: it archives the last of its log first.
fn stops_slowly(c: &Cluster) {
    c.psql("postgres", "ALTER SYSTEM SET archive_mode = on");
    let slow = c.path("slow");
    c.psql("postgres", &format!("ALTER SYSTEM SET archive_command = 'test ! -e {slow} || sleep 2'"));
    c.restart();
}

fn slowly(c: &Cluster, yes: bool) {
    match yes {
        true => std::fs::write(c.path("slow"), "").unwrap(),
        false => std::fs::remove_file(c.path("slow")).unwrap(),
    }
}

/// Whether it was told to stop, and has not ended.
fn is_stopping(c: &Cluster) -> bool {
    std::fs::read_to_string(c.path("data/postmaster.pid")).is_ok_and(|text| text.contains("stopping"))
}

fn asked_to_stop(mut child: Child) -> Option<i32> {
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    child.wait().unwrap().code()
}

fn killed(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn is_open(w: &World) -> bool {
    w.path().join("state/restore.journal").exists()
}

fn write_more(w: &World, of_restore: &str) {
    let config = std::fs::read_to_string(w.at("backstay.toml")).unwrap();
    w.write_config(&format!("{config}[plans.p.restore]\n{of_restore}\n"));
}

#[test]
fn a_stop_that_is_given_up_half_way_ends_before_the_server_runs_again() {
    let c = Cluster::start();
    let (w, _, live) = undumpable(&c);
    stops_slowly(&c);
    slowly(&c, true);
    for by_force in [false, true] {
        let child = begun(&w, RESTORE, || is_stopping(&c));
        if by_force {
            killed(child);
            w.run(&["restore", "--unwind"]).code(0);
        } else {
            assert_eq!(asked_to_stop(child), Some(14));
        }
        assert!(c.is_up() && !is_stopping(&c) && !is_open(&w));
        assert_eq!(closed(&c), live);
        assert_eq!(c.beside(), Vec::<String>::new());
    }
}

#[test]
fn a_rollback_that_ends_half_way_leaves_what_was_restored_with_what_was_written_since() {
    let c = Cluster::start();
    let (w, _, live) = undumpable(&c);
    c.psql("postgres", "CREATE DATABASE other");
    stops_slowly(&c);
    w.run(RESTORE).code(0);
    let id = w.last_restore();
    // The application has worked with it; neither a backup nor the copy has this.
    c.psql("erp", "CREATE TABLE since AS SELECT generate_series(1, 1000) AS x");
    c.psql("other", "CREATE TABLE since (x int)");
    let state = || {
        let oid = c.psql("postgres", "SELECT oid FROM pg_database WHERE datname = 'erp'");
        (oid, c.dump("erp"), c.dump("other"))
    };
    let written = state();
    let look = |how: &str| {
        assert!(!is_open(&w), "{how}");
        assert!(state() == written, "{how}: something was dropped or loaded");
        assert!(c.beside().len() == 1 && c.beside()[0].starts_with("data_before_"), "{how}: {:?}", c.beside());
    };
    slowly(&c, true);
    let child = begun(&w, ROLLBACK, || is_stopping(&c));
    assert_eq!(asked_to_stop(child), Some(14));
    look("asked to stop");
    killed(begun(&w, ROLLBACK, || is_stopping(&c)));
    w.run(&["restore", "--unwind"]).code(0).says(&["the rollback of restore", &id, "The restored data is in place"]);
    look("killed");
    // Killed when the copy is in place, and once more when that has begun to give way again.
    let is_back = || c.beside().iter().all(|name| name.starts_with("data_staged_"));
    killed(begun(&w, ROLLBACK, is_back));
    killed(begun(&w, &["restore", "--unwind"], || !is_back()));
    w.run(&["restore", "--unwind"]).code(0);
    look("killed in the undo");
    // Nothing is dropped of what an open one works with. It can be finished as well, with neither repository nor key.
    killed(begun(&w, ROLLBACK, || is_stopping(&c)));
    w.run(&["cleanup", &id]).code(9).says(&["a rollback of that restore is open"]);
    slowly(&c, false);
    for name in ["repo", "host.key"] {
        std::fs::rename(w.at(name), w.at(&format!("{name}.away"))).unwrap();
    }
    w.run(&["restore", "--resume"]).code(0).says(&["taken back", &id]);
    assert_eq!(closed(&c), live);
    assert!(!is_open(&w));
}

#[test]
fn without_its_copy_nothing_is_taken_back_and_nothing_dropped() {
    let c = Cluster::start();
    let (w, ..) = undumpable(&c);
    // One that was not there before the restore is not there after its undo.
    c.psql("postgres", "DROP DATABASE erp");
    w.run(RESTORE).code(0);
    c.psql("erp", "CREATE TABLE since AS SELECT generate_series(1, 1000) AS x");
    let written = c.dump("erp");
    std::fs::remove_dir_all(c.path(&c.beside()[0])).unwrap();
    w.run(ROLLBACK).code(10).says(&["the cold copy that was kept is not there any more", "data_before_"]);
    assert_eq!(c.dump("erp"), written);
}

#[test]
fn what_other_databases_wrote_stays_after_a_failure_until_somebody_names_the_restore() {
    let c = Cluster::start();
    let (w, _, live) = undumpable(&c);
    c.psql("postgres", "CREATE DATABASE other");
    // Nothing is stopped, so the application may have worked with what was restored.
    write_more(&w, "keep_previous = \"1ms\"\nafter_swap = [{ command = [\"/bin/false\"] }]");
    let told = "what other had written since is in";
    w.run(RESTORE).code(12).says(&[told, "data_staged_"]);
    let id = w.last_restore();
    w.run(&["restores", &id]).code(0).says(&["kept:", told, "data_staged_"]);
    let there = || {
        assert!(c.beside().len() == 1 && c.beside()[0].starts_with("data_staged_"), "{:?}", c.beside());
        w.run(&["restores"]).code(0).says(&["data_staged_"]);
        w.run(&["status"]).says(&["data_staged_", "somebody cleans it up"]);
    };
    there();
    w.run(&["cleanup"]).code(0).says(&["stays:", told, "data_staged_", &format!("backstay cleanup {id}")]);
    there();
    w.run(&["cleanup"]).code(0).says(&["nothing is kept that need not be"]);
    there();
    w.run(&["cleanup", "--dry-run", &id]).code(0).says(&["would drop", "data_staged_"]);
    there();
    w.run(&["cleanup", &id]).code(0).says(&["dropped", "data_staged_"]);
    assert_eq!(c.beside(), Vec::<String>::new());
    assert_eq!(closed(&c), live);
}

#[test]
fn so_it_does_after_a_load_that_failed_and_after_a_rollback() {
    let c = Cluster::start();
    let (w, _, live) = undumpable(&c);
    write_more(&w, "keep_previous = \"1ms\"");
    w.run(RESTORE).code(0);
    let id = w.last_restore();
    // The restore could not know of it.
    c.psql("postgres", "CREATE DATABASE other");
    let told = "what other had written since is in";
    w.run(ROLLBACK).code(0).says(&[told, "data_staged_", &format!("backstay cleanup {id}")]);
    w.run(&["restores", &id]).code(0).says(&["kept:", told]);
    w.run(&["cleanup"]).code(0).says(&["stays:", told]);
    assert_eq!(c.beside().len(), 1);
    w.run(&["cleanup", &id]).code(0).says(&["dropped", "data_staged_"]);
    assert_eq!(c.beside(), Vec::<String>::new());
    assert!(!w.run(&["restores", &id]).code(0).out.contains(told));
    // Where nobody else writes nothing stays.
    w.run(RESTORE).code(0);
    w.run(ROLLBACK).code(0);
    assert_eq!(c.beside().len(), 1);
    w.run(&["cleanup"]).code(0).says(&["the restored copy of database erp in place"]);
    assert_eq!(c.beside(), Vec::<String>::new());
    // Before the application could have worked with it.
    c.psql("postgres", "CREATE DATABASE other");
    crate::cold::damage(&w);
    w.run(RESTORE).code(7).says(&[told]);
    w.run(&["cleanup"]).code(0).says(&["nothing is kept that need not be"]);
    assert_eq!(c.beside().len(), 1);
    w.run(&["cleanup", &w.last_restore()]).code(0).says(&["dropped", "data_staged_"]);
    assert_eq!(c.beside(), Vec::<String>::new());
    assert_eq!(closed(&c), live);
}

/// A restore of database `erp` in place that has no backup to load, and nothing to go back to.
fn without_backups(c: &Cluster) -> InPlace {
    let url = SOCKET.replace("SOCKET", &c.path("")).replace("PORT", &c.port.to_string());
    let address = Address::parse(&url).unwrap().with_password(Some(Secret::new(PASSWORD.to_owned())));
    let new = Databases {
        source: "db".to_owned(),
        address,
        targets: vec![Target { database: "erp".to_owned(), live: "erp".to_owned(), copy: false }],
        facts: Vec::new(),
        id: BackupId::new(jiff::Timestamp::UNIX_EPOCH),
        from: None,
        options: Options::whole(1),
        count_rows_up_to: 0,
        assume_space: None,
        dropped_first: true,
    };
    InPlace { new, safety: None, cold: None }
}

#[tokio::test]
async fn what_cannot_be_loaded_has_nothing_dropped_for_it() {
    let c = Cluster::start();
    c.psql("postgres", "CREATE DATABASE erp");
    let resource = without_backups(&c);
    let note = resource.plan_staging().await.unwrap();
    assert!(resource.swap(&note).await.is_err());
    assert_eq!(c.psql("postgres", "SELECT datallowconn FROM pg_database WHERE datname = 'erp'"), "t");
    // Nor by the undo of a rollback, which has no copy to put in place.
    assert!(resource.reswap(&note).await.is_err());
    assert_eq!(c.psql("postgres", "SELECT datallowconn FROM pg_database WHERE datname = 'erp'"), "t");
}

#[tokio::test]
async fn a_live_database_whose_drop_was_interrupted_is_not_taken_for_untouched() {
    let c = Cluster::start();
    c.psql("postgres", "CREATE DATABASE erp");
    let resource = without_backups(&c);
    let note = resource.plan_staging().await.unwrap();
    resource.unswap(&note).await.unwrap();
    // As the server notes it: the name and the OID are there, and the content is not.
    c.psql("postgres", "UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'erp'");
    let lost = "database erp was dropped, and the safety backup was waived";
    let error = resource.unswap(&note).await.unwrap_err().to_string();
    assert!(error.contains(lost), "{error}");
    // Older ones note nothing, and one whose client is gone may still be at it: our own mark is enough.
    c.psql("postgres", "UPDATE pg_database SET datconnlimit = -1 WHERE datname = 'erp'");
    let mark = format!("backstay: being dropped by restore {}, which has not ended", resource.new.id);
    c.psql("postgres", &format!("COMMENT ON DATABASE erp IS '{mark}'"));
    let error = resource.unswap(&note).await.unwrap_err().to_string();
    assert!(error.contains(lost), "{error}");
    // That of another restore says nothing of this one.
    c.psql("postgres", "COMMENT ON DATABASE erp IS 'backstay: being dropped by restore x, which has not ended'");
    resource.unswap(&note).await.unwrap();
}
