//! After a restore: it is listed, taken back, and what it kept is dropped when its time has come.

use crate::world::World;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn restored() -> (World, String) {
    let w = World::new();
    w.file("one", b"first");
    w.backup();
    w.file("one", b"second");
    w.run(&["restore", "--yes"]).code(0).says(&["is kept as"]);
    assert_eq!(fs::read(w.at("tree/one")).unwrap(), b"first");
    let listed = w.run(&["--json", "restores"]).code(0).json();
    let id = listed[0]["id"].as_str().unwrap().to_owned();
    (w, id)
}

#[test]
fn a_restore_is_taken_back_and_what_was_written_since_stays() {
    let (w, id) = restored();
    w.run(&["restores"]).code(0).says(&[&id, "restored", "tree_before_"]);
    fs::write(w.at("tree/since"), "written since").unwrap();
    w.run(&["rollback"]).code(2).says(&["--yes"]);
    w.run(&["rollback", "--yes"]).code(0).says(&["taken back", &id]);
    assert_eq!(fs::read(w.at("tree/one")).unwrap(), b"second");
    assert!(!w.path().join("tree/since").exists());
    w.run(&["restores"]).code(0).says(&["taken back by", "rollback of"]);
    // Once only.
    w.run(&["rollback", "--yes"]).code(4).says(&["taken back already"]);
    // The same backup again does not touch the copy with what was written since.
    w.run(&["restore", "--yes"]).code(0);
    let kept = || {
        let all = fs::read_dir(w.path()).unwrap().map(|e| e.unwrap().path().join("tree/since"));
        all.filter(|p| p.exists()).count()
    };
    assert_eq!(kept(), 1);
    w.run(&["cleanup", &id]).code(0).says(&["the restored copy of files tree"]);
    assert_eq!(kept(), 0);
    assert_eq!(fs::read(w.at("tree/one")).unwrap(), b"first");
}

#[test]
fn what_is_kept_goes_after_its_time_or_when_named_and_then_there_is_no_way_back() {
    let (w, id) = restored();
    let previous = || {
        fs::read_dir(w.path())
            .unwrap()
            .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().contains("_before_"))
            .count()
    };
    w.run(&["cleanup"]).code(0).says(&["nothing is kept that need not be"]);
    w.run(&["cleanup", "--dry-run", &id]).code(0).says(&["would drop", "tree_before_"]);
    assert_eq!(previous(), 1);
    w.run(&["cleanup", &id[..8]]).code(0).says(&["dropped"]);
    assert_eq!(previous(), 0);
    w.run(&["rollback", "--yes"]).code(10).says(&["no longer kept"]);
    w.run(&["cleanup", "nonsense"]).code(4);
    // What names several names none; a script may have lost an id.
    w.run(&["restore", "--yes"]).code(0);
    w.run(&["cleanup", &id[..8]]).code(2).says(&["names 2 restores", &id]);
    w.run(&["cleanup", ""]).code(2);
    w.run(&["rollback", "", "--yes"]).code(2);
    assert_eq!(previous(), 1);
    w.run(&["rollback", "nonsense", "--yes"]).code(4);
}

#[test]
fn an_open_restore_is_told_by_every_command() {
    let w = World::new();
    w.file("one", b"first");
    w.backup();
    fs::write(w.at("state/restore.journal"), "torn").unwrap();
    for args in [&["list"][..], &["backup"], &["--json", "show"], &["check"]] {
        w.run(args).code(0).says(&["is still open", "--unwind"]);
    }
    w.run(&["restore", "--yes"]).code(9).says(&["is still open"]);
    w.run(&["restore", "--unwind"]).code(1).says(&["has no beginning"]);
}

#[test]
fn restores_are_taken_back_in_order() {
    let (w, first) = restored();
    w.file("one", b"third");
    w.run(&["restore", "--yes"]).code(0);
    w.run(&["rollback", &first, "--yes"]).code(10).says(&["a later restore stands on"]);
    w.run(&["rollback", "--yes"]).code(0);
    assert_eq!(fs::read(w.at("tree/one")).unwrap(), b"third");
    w.run(&["rollback", "--yes"]).code(0);
    assert_eq!(fs::read(w.at("tree/one")).unwrap(), b"second");
}

#[test]
fn a_copy_that_cannot_be_dropped_is_told_and_does_not_keep_those_of_later_restores() {
    let (mut w, first) = restored();
    w.extra = "[plans.p.restore]\nkeep_previous = \"1ms\"\n".into();
    w.configure("", &format!("paths = [\"{}\"]", w.at("tree")));
    let kept = || {
        let all = fs::read_dir(w.path()).unwrap().map(|e| e.unwrap().path());
        all.filter(|p| p.display().to_string().contains("_before_")).collect::<Vec<_>>()
    };
    let held = kept();
    w.file("one", b"third");
    w.run(&["restore", "--yes"]).code(0);
    assert_eq!((held.len(), kept().len()), (1, 2));
    // A mount point cannot be removed.
    let mounted = held[0].join("mounted");
    fs::create_dir(&mounted).unwrap();
    assert!(Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&mounted).status().unwrap().success());
    let ran = w.run(&["cleanup"]);
    assert!(Command::new("umount").arg(&mounted).status().unwrap().success());
    ran.code(12).says(&["dropped", &format!("what restore {first} keeps is not dropped")]);
    assert_eq!(kept(), held);
    // What could not be dropped is perhaps half gone.
    w.run(&["rollback", &first, "--yes"]).code(10).says(&["cleanup of that restore has begun"]);
    w.run(&["cleanup"]).code(0).says(&["dropped"]);
    assert!(kept().is_empty());
}

#[test]
fn a_restore_of_files_that_is_stopped_in_the_middle_of_them_leaves_nothing_of_them() {
    let w = World::new();
    for n in 0..12_000 {
        w.file(&format!("d{}/f{n}", n / 40), format!("{n}"));
    }
    w.backup();
    let beside = || {
        let mut all: Vec<_> = fs::read_dir(w.path()).unwrap().map(|e| e.unwrap().path()).collect();
        all.sort();
        all
    };
    let (before, journal) = (beside(), w.path().join("state/restore.journal"));
    let restore = w.command(&["restore", "--yes"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    // Directories of what is staged so far.
    let staged = || {
        let place = beside().into_iter().find(|p| !before.contains(p)).map(|p| p.join("tree"));
        place.and_then(|p| fs::read_dir(p).ok()).map_or(0, Iterator::count)
    };
    let began = Instant::now();
    while staged() < 30 {
        assert!(began.elapsed() < Duration::from_secs(60), "nothing is staged");
    }
    assert!(Command::new("kill").args(["-TERM", &restore.id().to_string()]).status().unwrap().success());
    let out = restore.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(14), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(!journal.exists(), "the restore is still open");
    assert_eq!(beside(), before);
}
