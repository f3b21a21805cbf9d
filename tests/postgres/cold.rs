//! Restores in place behind a cold copy of the server's files, for data that nobody can dump any more.

use crate::boxed::Boxed;
use crate::cluster::Cluster;
use crate::containers;
use crate::fresh::run_as;
use crate::inplace::{changed, databases};
use crate::round_trip::{SOCKET, configure};
use crate::world::World;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A server whose database nobody can dump; what it held before, what it holds, and its files are known to the source.
pub fn undumpable(c: &Cluster) -> (World, String, String) {
    let (mut w, good, live) = changed(c);
    w.extra = format!("data_dir = \"{}\"", c.path("data"));
    configure(&w, c, SOCKET);
    c.psql("postgres", "ALTER DATABASE erp ALLOW_CONNECTIONS false");
    (w, good, live)
}

/// What the live database holds, which must be closed as it was.
pub fn closed(c: &Cluster) -> String {
    assert_eq!(c.psql("postgres", "SELECT datallowconn FROM pg_database WHERE datname = 'erp'"), "f");
    c.psql("postgres", "ALTER DATABASE erp ALLOW_CONNECTIONS true");
    let found = c.dump("erp");
    c.psql("postgres", "ALTER DATABASE erp ALLOW_CONNECTIONS false");
    found
}

pub fn damage(w: &World) {
    let packs = w.objects("packs");
    let largest = packs.iter().max_by_key(|p| p.metadata().unwrap().len()).unwrap();
    let mut bytes = std::fs::read(largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(largest, bytes).unwrap();
}

/// A restore that is under way, at this moment.
pub fn begun(w: &World, args: &[&str], now: impl Fn() -> bool) -> Child {
    let mut child: Child = w.command(args).stderr(Stdio::null()).spawn().unwrap();
    while !now() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be stopped");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    child
}

fn killed_when(w: &World, args: &[&str], now: impl Fn() -> bool) {
    let mut child = begun(w, args, now);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn data_that_cannot_be_dumped_is_copied_and_comes_back_by_a_rollback() {
    let c = Cluster::start();
    let (w, good, live) = undumpable(&c);
    c.psql("postgres", "CREATE DATABASE other");
    let before = databases(&c);
    w.run(&["restore", "--in-place", "--yes"]).code(10).says(&["nothing was dropped", "--cold-copy"]);
    let plan = w.run(&["restore", "--in-place", "--cold-copy", "--dry-run"]).code(0);
    plan.says(&["the server is stopped while", "takes back all of its databases: other"]);
    assert!(c.beside().is_empty());
    w.run(&["restore", "--in-place", "--cold-copy", "--yes"]).code(0).says(&["cold copy", "data_before_"]);
    assert_eq!(c.dump("erp"), good);
    assert_eq!(databases(&c), before);
    assert_eq!(c.beside().len(), 1);
    // What was written since is kept when the copy takes its place.
    c.psql("other", "CREATE TABLE since (x int)");
    w.run(&["rollback", "--dry-run"]).code(0).says(&["takes back all of the server, with other"]);
    w.run(&["rollback", "--yes"]).code(0).says(&["takes back all of the server, with other"]);
    assert_eq!(closed(&c), live);
    assert_eq!(c.psql("other", "SELECT count(*) FROM pg_class WHERE relname = 'since'"), "0");
    assert!(c.beside().iter().all(|n| n.starts_with("data_staged_")) && c.beside().len() == 1, "{:?}", c.beside());
    let restore = std::fs::read_dir(w.at("state/restores")).unwrap().count();
    assert_eq!(restore, 2);
    let first = w.run(&["--json", "restores"]).code(0).json();
    let ids: Vec<String> = first.as_array().unwrap().iter().map(|r| r["id"].as_str().unwrap().to_owned()).collect();
    for id in ids {
        w.run(&["cleanup", &id]).code(0);
    }
    assert_eq!(c.beside(), Vec::<String>::new());
    assert_eq!(closed(&c), live);
}

#[test]
fn a_load_that_fails_puts_the_copy_back_from_beside_and_from_another_disk() {
    let c = Cluster::start();
    let (w, ..) = undumpable(&c);
    // Tablespaces and the log are where links lead to, and are part of the copy.
    let space = c.path("space");
    c.own_directory(&space);
    c.psql("postgres", &format!("CREATE TABLESPACE elsewhere LOCATION '{space}'"));
    c.psql("postgres", "ALTER DATABASE erp ALLOW_CONNECTIONS true");
    c.psql("erp", "CREATE TABLE kept (x int) TABLESPACE elsewhere; INSERT INTO kept SELECT generate_series(1, 1000)");
    c.psql("postgres", "ALTER DATABASE erp ALLOW_CONNECTIONS false");
    let live = closed(&c);
    let before = databases(&c);
    damage(&w);
    let disk = w.at("disk");
    std::fs::create_dir(&disk).unwrap();
    for to in [None, Some(disk.as_str())] {
        let mut args = vec!["restore", "--in-place", "--yes", "--cold-copy"];
        args.extend(to);
        w.run(&args).code(7).says(&["undo: swap database erp in place"]);
        assert_eq!(closed(&c), live);
        assert_eq!(databases(&c), before);
        assert_eq!(c.beside(), Vec::<String>::new());
        assert_eq!(std::fs::read_dir(&disk).unwrap().count(), 0);
        let in_space: Vec<PathBuf> = std::fs::read_dir(&space).unwrap().map(|e| e.unwrap().path()).collect();
        assert_eq!(in_space.len(), 1, "{in_space:?}");
    }
}

#[test]
fn what_other_databases_wrote_stays_beside_when_a_load_that_fails_puts_the_copy_back() {
    // The one that every server has is another one when somebody has made something in it.
    for (other, made) in [("other", "CREATE DATABASE other"), ("postgres", "CREATE TABLE jobs (x int)")] {
        let c = Cluster::start();
        let (w, _, live) = undumpable(&c);
        c.psql("postgres", made);
        damage(&w);
        let said = w.run(&["restore", "--in-place", "--yes", "--cold-copy"]).code(7);
        let told = format!("what {other} had written since is in");
        said.says(&[&told, "data_staged_"]);
        w.run(&["restores", &w.last_restore()]).code(0).says(&["kept:", &told, "data_staged_"]);
        assert_eq!(closed(&c), live);
        assert!(c.beside().len() == 1 && c.beside()[0].starts_with("data_staged_"), "{:?}", c.beside());
    }
}

#[test]
fn a_copy_on_another_disk_is_kept_named_and_cleaned_up() {
    let c = Cluster::start();
    let (w, good, _) = undumpable(&c);
    let disk = w.at("disk");
    std::fs::create_dir(&disk).unwrap();
    w.run(&["restore", "--in-place", "--yes", "--cold-copy", &disk]).code(0).says(&["cold copy", &disk]);
    assert_eq!(c.dump("erp"), good);
    assert!(c.beside().is_empty());
    let copy = std::fs::read_dir(&disk).unwrap().next().unwrap().unwrap().path();
    assert!(copy.join("global/pg_control").is_file());
    w.run(&["rollback", "--yes"]).code(10).says(&["A cold copy of the whole server is in", &disk]);
    w.run(&["cleanup", &w.last_restore()]).code(0).says(&["dropped", &disk]);
    assert!(!copy.exists());
    assert_eq!(c.dump("erp"), good);
}

/// Killed at this moment, for each way on. It looks at the names beside the data, and at the server.
fn killed(moment: impl Fn(&str, &Cluster) -> bool) {
    let c = Cluster::start();
    let (w, good, live) = undumpable(&c);
    for forward in [false, true] {
        let args = ["restore", "--in-place", "--cold-copy", "--yes"];
        killed_when(&w, &args, || moment(&c.beside().join(" "), &c));
        w.run(&["restore", if forward { "--resume" } else { "--unwind" }]).code(0);
        if forward {
            assert_eq!(c.dump("erp"), good);
            // Back to the data that cannot be dumped.
            w.run(&["rollback", "--yes"]).code(0);
        }
        assert_eq!(closed(&c), live, "{forward}");
        for id in w.run(&["--json", "restores"]).code(0).json().as_array().unwrap() {
            w.run(&["cleanup", id["id"].as_str().unwrap()]);
        }
        assert_eq!(c.beside(), Vec::<String>::new(), "{forward}");
    }
}

#[test]
fn killed_in_the_middle_of_the_copy_it_is_taken_back_or_finished() {
    killed(|names, _| names.contains(".part"));
}

#[test]
fn killed_when_the_copy_is_whole_it_is_taken_back_or_finished() {
    killed(|names, _| names.contains("_before_") && !names.contains(".part"));
}

#[test]
fn killed_in_the_middle_of_the_load_it_is_taken_back_or_finished() {
    killed(|names, c| {
        let there = || !c.psql_output("postgres", "SELECT 1 FROM pg_database WHERE datname = 'erp'").stdout.is_empty();
        names.contains("_before_") && !names.contains(".part") && c.is_up() && !there()
    });
}

#[test]
fn a_copy_that_goes_on_after_the_server_has_run_is_of_one_moment() {
    let c = Cluster::start();
    let (w, _, live) = undumpable(&c);
    let space = c.path("space");
    c.own_directory(&space);
    c.psql("postgres", &format!("CREATE TABLESPACE elsewhere LOCATION '{space}'"));
    c.psql("postgres", "CREATE TABLE kept (x int) TABLESPACE elsewhere; INSERT INTO kept VALUES (1)");
    damage(&w);
    // What links lead to is home before the data directory is begun.
    let args = ["restore", "--in-place", "--cold-copy", "--yes"];
    killed_when(&w, &args, || c.beside().join(" ").contains(".part"));
    let in_space = || -> Vec<String> {
        std::fs::read_dir(&space).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    };
    assert!(in_space().iter().any(|n| n.contains("_before_") && !n.contains(".part")), "{:?}", in_space());
    // Something starts the server, and somebody writes.
    c.restart();
    c.psql("postgres", "INSERT INTO kept SELECT generate_series(2, 50000)");
    w.run(&["restore", "--resume"]).code(7).says(&["undo: swap database erp in place"]);
    assert_eq!(closed(&c), live);
    assert_eq!(c.psql("postgres", "SELECT count(*), sum(x) FROM kept"), "50000|1250025000");
}

#[test]
fn a_copy_that_is_stopped_ends_before_the_server_runs_again() {
    let c = Cluster::start();
    let (w, _, live) = undumpable(&c);
    // Enough that the copy is far from its end.
    let many = c.path("data/many");
    std::fs::create_dir(&many).unwrap();
    for n in 0..20_000 {
        std::fs::write(format!("{many}/{n}"), "x").unwrap();
    }
    let args = ["restore", "--in-place", "--cold-copy", "--yes"];
    let mut child = begun(&w, &args, || c.beside().join(" ").contains(".part"));
    let term = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(term.success());
    assert_eq!(child.wait().unwrap().code(), Some(14));
    assert_eq!(closed(&c), live);
    assert_eq!(c.beside(), Vec::<String>::new());
    assert!(!w.path().join("state/restore.journal").exists());
}

#[test]
fn what_cannot_be_copied_is_refused_before_anything_is_touched() {
    let c = Cluster::start();
    let (mut w, _, live) = undumpable(&c);
    let refused = |w: &World, extra: &[&str], says: &[&str]| {
        let args = [&["restore", "--in-place", "--yes", "--cold-copy"], extra].concat();
        w.run(&args).code(10).says(says);
        assert!(!w.path().join("state/restore.journal").exists());
        assert!(c.beside().is_empty());
    };
    // A disk without room.
    let small = c.path("small");
    c.small_disk(&small);
    refused(&w, &[&small], &["there is no room for a cold copy", "are free"]);
    refused(&w, &[&w.at("nosuch")], &["the directory for the cold copy is not there"]);
    w.run(&["restore", "--in-place", "--yes", "--cold-copy", "relative"]).code(2).says(&["absolute"]);
    w.run(&["restore", "--cold-copy", "--yes"]).code(2).says(&["--in-place"]);
    // Another directory than the server's own, and one that is not of this host.
    w.extra = format!("data_dir = \"{}\"", w.at("tree"));
    configure(&w, &c, SOCKET);
    refused(&w, &[], &["no cluster of PostgreSQL"]);
    assert_eq!(closed(&c), live);
}

/// Such an agent is the server's user, and makes no file of anybody else's.
#[test]
fn what_only_root_can_copy_is_refused_while_the_server_still_runs() {
    let c = Cluster::start();
    let (w, _, live) = undumpable(&c);
    let process = || std::fs::read_to_string(c.path("data/postmaster.pid")).unwrap();
    let before = process();
    let run = |extra: &[&str]| {
        let args = [&["restore", "--in-place", "--cold-copy"], extra].concat();
        run_as(&w, "postgres", "postgres", &args)
    };
    std::fs::write(c.path("data/notes"), "of root").unwrap();
    run(&["--yes"]).code(10).says(&["a file of the server is somebody else's", "data/notes"]);
    std::fs::remove_file(c.path("data/notes")).unwrap();
    let roots = c.path("roots");
    std::fs::create_dir(&roots).unwrap();
    run(&[&roots, "--yes"]).code(10).says(&["nothing can be made in a directory", &roots]);
    assert!(!w.path().join("state/restore.journal").exists() && c.beside().is_empty());
    assert_eq!((process(), closed(&c)), (before, live));
    run(&["--dry-run"]).code(0).says(&["the server is stopped while"]);
}

#[test]
fn a_server_in_a_container_is_copied_where_its_volume_is() {
    let server = Boxed::on_volume(15);
    server.sql("postgres", "CREATE DATABASE erp");
    server.sql("erp", "CREATE TABLE t AS SELECT generate_series(1, 1000) AS x");
    let good = server.content("erp");
    let w = containers::world(&server.name, "");
    w.backup();
    server.sql("erp", "DELETE FROM t WHERE x > 10");
    let live = server.content("erp");
    w.run(&["restore", "--in-place", "--cold-copy", "--yes"]).code(0).says(&["cold copy"]);
    assert_eq!(server.content("erp"), good);
    w.run(&["rollback", "--yes"]).code(0);
    assert_eq!(server.content("erp"), live);
    w.run(&["restore", "--fresh-cluster", "--yes"])
        .code(10)
        .says(&["in a container is made by its image", "volume aside"]);
    assert!(Path::new(&w.at("state")).exists());
}
