//! A load that acts on what is live: last of all, from a file, with an undo or without.

use crate::world::World;
use crate::{configure, long, runs, wait_for, wake, with_command};
use std::fs;
use std::path::Path;

const DUMP: &str = "dump = [\"cat\", \"DIR/tree/live\"]\nin_place = true\n";
const LOAD: &str = "load = [\"sh\", \"-c\", \"test -e $1/was || cp DIR/tree/live $1/was; cat > DIR/tree/live; test ! -e DIR/fail\", \"sh\", \"{kept}\"]\n";
const UNDO: &str = "undo = [\"sh\", \"-c\", \"cp $1/was DIR/tree/live\", \"sh\", \"{kept}\"]\n";

fn backed_up(keys: &str) -> World {
    let w = with_command(keys);
    fs::write(w.at("tree/live"), "good").unwrap();
    w.backup();
    fs::write(w.at("tree/live"), "damaged").unwrap();
    w
}

fn live(w: &World) -> String {
    fs::read_to_string(w.at("tree/live")).unwrap()
}

/// What restores keep of their own.
fn kept(w: &World) -> usize {
    fs::read_dir(w.at("state/commands")).map_or(0, Iterator::count)
}

#[test]
fn it_is_said_before_and_undone_by_the_program_for_that() {
    let w = backed_up(&format!("{DUMP}{LOAD}{UNDO}"));
    w.run(&["restore", "--dry-run"]).code(0).says(&["acts on what is live", "`undo` (sh) must put it back"]);
    assert_eq!((live(&w).as_str(), kept(&w)), ("damaged", 0));
    // Half way it fails.
    fs::write(w.at("fail"), "").unwrap();
    w.run(&["restore", "--yes"]).code(12).says(&["`load`: sh", "Everything is as it was"]);
    assert_eq!((live(&w).as_str(), kept(&w)), ("damaged", 0));
    fs::remove_file(w.at("fail")).unwrap();
    w.run(&["restore", "--yes"]).code(0).says(&["acts on what is live", "what was there is kept as", "/kept"]);
    assert_eq!((live(&w).as_str(), kept(&w)), ("good", 1));
    // The output itself does not stay on the disk in the clear.
    let directory = fs::read_dir(w.at("state/commands")).unwrap().next().unwrap().unwrap().path();
    assert!(!directory.join("output").exists() && directory.join("kept/was").exists());
    w.run(&["rollback", "--yes"]).code(0);
    assert_eq!(live(&w), "damaged");
    w.run(&["restore", "--yes"]).code(0);
    for id in [0, 1].map(|_| w.last_restore()) {
        w.run(&["cleanup", &id]).code(0);
    }
    assert_eq!(live(&w), "good");
}

#[test]
fn without_an_undo_a_load_that_fails_is_left_to_the_operator() {
    let w = backed_up(&format!("{DUMP}{LOAD}"));
    w.run(&["restore", "--dry-run"]).code(0).says(&["there is no undo", "cannot be rolled back"]);
    fs::write(w.at("fail"), "").unwrap();
    w.run(&["restore", "--yes"]).code(16).says(&["could not be taken back", "has no `undo`"]);
    // The cause is mended: with an undo it can be taken back.
    configure(&w, &format!("{DUMP}{LOAD}{UNDO}"));
    w.run(&["restore", "--unwind"]).code(0);
    assert_eq!((live(&w).as_str(), kept(&w)), ("damaged", 0));
}

#[test]
fn nothing_is_undone_that_was_not_begun() {
    let w = backed_up(&format!("{DUMP}{LOAD}check = [\"sh\", \"-c\", \"cat > /dev/null; test ! -e DIR/no\"]\n"));
    fs::write(w.at("no"), "").unwrap();
    w.run(&["restore", "--yes"]).code(12).says(&["`check`", "Everything is as it was"]);
    assert_eq!((live(&w).as_str(), kept(&w)), ("damaged", 0));
}

#[test]
fn killed_in_the_middle_it_is_loaded_again_or_undone() {
    for forward in [true, false] {
        let one = long();
        let load = LOAD.replace(
            "cat >",
            &format!("if test -e DIR/wait; then echo half > DIR/tree/live; exec sleep {one}; fi; cat >"),
        );
        let w = backed_up(&format!("{DUMP}{load}{UNDO}"));
        fs::write(w.at("wait"), "").unwrap();
        let mut child = w.command(&["restore", "--yes"]).spawn().unwrap();
        wait_for("it waits", || runs(&one));
        child.kill().unwrap();
        child.wait().unwrap();
        wake(&one);
        fs::remove_file(w.at("wait")).unwrap();
        assert_eq!(live(&w), "half\n");
        w.run(&["restore", if forward { "--resume" } else { "--unwind" }]).code(0);
        assert_eq!(live(&w), if forward { "good" } else { "damaged" });
        assert!(!Path::new(&w.at("state/restore.journal")).exists());
    }
}
