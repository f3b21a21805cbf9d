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
fn a_rollback_that_is_undone_says_what_stays_back_and_without_an_undo_there_is_none() {
    let undo = UNDO.replace("cp ", "test ! -e DIR/no && cp ");
    let w = backed_up(&format!("{DUMP}{LOAD}{undo}"));
    w.run(&["restore", "--yes"]).code(0);
    configure(&w, &format!("{DUMP}{LOAD}"));
    w.run(&["rollback", "--yes"]).code(10).says(&["source out has no `undo`"]);
    configure(&w, &format!("{DUMP}{LOAD}{undo}"));
    w.run(&["rollback", "--dry-run"]).code(0).says(&["none of it is kept beside", "is not kept beside it"]);
    // `undo` itself fails: what it has done until then, nobody knows.
    fs::write(w.at("no"), "").unwrap();
    w.run(&["rollback", "--yes"]).code(12).says(&["but for this: `undo` of source out did not come to its end"]);
    fs::remove_file(w.at("no")).unwrap();
    // It ended well, and something after it did not: the program was killed before it wrote the end of the rollback.
    w.run(&["rollback", "--yes"]).code(0).says(&["what it had restored is gone"]);
    assert_eq!(live(&w), "damaged");
    let ended = w.at(&format!("state/restores/{}.journal", w.last_restore()));
    let text = fs::read_to_string(&ended).unwrap();
    let (before_the_end, _) = text.trim_end().rsplit_once('\n').unwrap();
    fs::write(w.at("state/restore.journal"), format!("{before_the_end}\n")).unwrap();
    fs::remove_file(&ended).unwrap();
    let stays = "what `load` of source out acts on stays as before the restore, and what was restored is gone";
    w.run(&["restore", "--unwind"]).code(0).says(&["but for this", stays]);
    assert_eq!(live(&w), "damaged");
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
