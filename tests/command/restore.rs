//! A file beside the live one: made by a program or the output itself, looked at, and exchanged.

use crate::world::World;
use crate::{configure, long, runs, wait_for, wake, with_command};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

/// A file `live` that `dump` prints and `load` writes.
const KEYS: &str = "dump = [\"cat\", \"DIR/tree/live\"]\nstage_path = \"DIR/tree/live\"\n";
const LOAD: &str = "load = [\"sh\", \"-c\", \"cat > $1\", \"sh\", \"{staging}\"]\n";

fn keys(more: &str) -> String {
    format!("{KEYS}{more}")
}

/// The file is there, backed up, and changed since.
fn backed_up(more: &str) -> World {
    let w = with_command(&keys(more));
    fs::write(w.at("tree/live"), "good").unwrap();
    fs::set_permissions(w.at("tree/live"), fs::Permissions::from_mode(0o640)).unwrap();
    chown(w.at("tree/live"), Some(1234), Some(4321)).unwrap();
    w.backup();
    fs::write(w.at("tree/live"), "damaged").unwrap();
    w
}

fn live(w: &World) -> String {
    fs::read_to_string(w.at("tree/live")).unwrap()
}

/// What is beside the live file, hidden or not.
fn beside(w: &World) -> Vec<String> {
    let names = fs::read_dir(w.at("tree")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|n| n != "live").collect();
    names.sort();
    names
}

#[test]
fn what_was_there_is_exchanged_kept_taken_back_and_dropped() {
    for more in ["", LOAD] {
        let w = backed_up(more);
        w.run(&["restore", "--yes"]).code(0).says(&["equal to the facts", "live_before_"]);
        let kept = format!("live_before_{}", w.last_restore());
        assert_eq!((live(&w).as_str(), beside(&w)), ("good", vec![kept.clone()]));
        let m = fs::metadata(w.at("tree/live")).unwrap();
        assert_eq!((m.mode() & 0o7777, m.uid(), m.gid()), (0o640, 1234, 4321));
        assert_eq!(fs::read_to_string(w.at(&format!("tree/{kept}"))).unwrap(), "damaged");
        w.run(&["rollback", "--yes"]).code(0);
        assert_eq!(live(&w), "damaged");
        w.run(&["restore", "--yes"]).code(0);
        let id = w.last_restore();
        w.run(&["cleanup", &id]).code(0);
        assert!(!beside(&w).iter().any(|n| n.contains(&id)), "{:?}", beside(&w));
        assert_eq!(live(&w), "good");
        // Onto a machine that has nothing of it.
        fs::remove_dir_all(w.at("tree")).unwrap();
        w.run(&["restore", "--yes"]).code(0);
        assert_eq!(live(&w), "good");
        let m = fs::metadata(w.at("tree/live")).unwrap();
        assert_eq!((m.mode() & 0o7777, m.uid(), m.gid()), (0o640, 1234, 4321));
    }
}

#[test]
fn a_load_that_fails_or_lies_leaves_the_live_one_and_nothing_beside_it() {
    for (more, code, words) in [
        (
            "load = [\"sh\", \"-c\", \"head -c 2 > $1; echo broken >&2; exit 4\", \"sh\", \"{staging}\"]",
            12,
            "exit status 4",
        ),
        ("load = [\"sh\", \"-c\", \"cat > /dev/null; : {staging}\"]", 12, "made nothing"),
        (
            "load = [\"sh\", \"-c\", \"cat > $1; sleep 1000\", \"sh\", \"{staging}\"]\nload_timeout = \"1s\"",
            12,
            "`load_timeout`",
        ),
        ("verify = [\"grep\", \"-q\", \"better\", \"{staging}\"]", 13, "exit status 1"),
        ("verify = [\"/nowhere/tool\"]", 10, "/nowhere/tool is not there"),
    ] {
        let w = backed_up(more);
        w.run(&["restore", "--yes"]).code(code).says(&[words]);
        assert_eq!((live(&w).as_str(), beside(&w)), ("damaged", vec![]), "{more}");
    }
    // One that takes a part and is content with it.
    let w = with_command(&keys("load = [\"sh\", \"-c\", \"head -c 5 > $1\", \"sh\", \"{staging}\"]"));
    fs::write(w.at("tree/live"), vec![b'x'; 5_000_000]).unwrap();
    w.backup();
    w.run(&["restore", "--yes"]).code(12).says(&["had not read all of its input"]);
    assert_eq!((live(&w).len(), beside(&w)), (5_000_000, vec![]));
}

#[test]
fn check_is_asked_again_before_anything_is_touched() {
    for more in ["", LOAD] {
        let w = with_command(&keys(&format!("{more}check = [\"sh\", \"-c\", \"cat > /dev/null; test ! -e DIR/no\"]")));
        fs::write(w.at("tree/live"), "good").unwrap();
        w.backup();
        fs::write(w.at("tree/live"), "damaged").unwrap();
        fs::write(w.at("no"), "").unwrap();
        w.run(&["restore", "--yes"]).code(12).says(&["`check`", "exit status 1"]);
        assert_eq!((live(&w).as_str(), beside(&w)), ("damaged", vec![]));
        w.run(&["restore", "--to", &w.at("out")]).code(12).says(&["`check`"]);
        assert!(!w.path().join("out").exists());
        fs::remove_file(w.at("no")).unwrap();
        w.run(&["restore", "--yes"]).code(0).says(&["`check`"]);
        assert_eq!(live(&w), "good");
    }
}

#[test]
fn a_file_that_somebody_uses_or_that_is_a_link_is_not_exchanged() {
    let w = backed_up("");
    let mut holder = std::process::Command::new("tail")
        .args(["-f", &w.at("tree/live")])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    wait_for("it is open", || fs::read_dir(format!("/proc/{}/fd", holder.id())).unwrap().count() > 3);
    let ran = w.run(&["restore", "--yes"]);
    holder.kill().unwrap();
    holder.wait().unwrap();
    ran.code(10).says(&["in use by", "tail"]);
    fs::rename(w.at("tree/live"), w.at("tree/elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere", w.at("tree/live")).unwrap();
    w.run(&["restore", "--yes"]).code(10).says(&["symbolic link", "stage_path"]);
    assert_eq!(live(&w), "damaged");
}

#[test]
fn what_nothing_takes_back_is_written_out_and_stops_nobody_else() {
    let w = with_command("dump = [\"echo\", \"good\"]");
    w.run(&["backup"]).code(0).says(&["no `load`"]);
    w.run(&["restore", "--yes"]).code(3).says(&["source out has no `load`", "--to FILE"]);
    w.run(&["restore", "--dry-run", "--to", &w.at("out")]).code(0).says(&["would write"]);
    let would = w.run(&["--json", "restore", "--dry-run", "--to", &w.at("out")]).code(0).json();
    assert_eq!((would["dry_run"].as_bool(), would["to"].as_str()), (Some(true), Some(w.at("out").as_str())));
    assert!(!w.path().join("out").exists());
    w.run(&["restore", "--to", &w.at("out")]).code(0).says(&["restored"]);
    assert_eq!(fs::read_to_string(w.at("out")).unwrap(), "good\n");
    assert_eq!(fs::metadata(w.at("out")).unwrap().mode() & 0o777, 0o600);
    w.run(&["restore", "--to", &w.at("out")]).code(10).says(&["it exists"]);
    // Beside another source it is left out.
    fs::write(w.at("tree/live"), "good").unwrap();
    let two = "dump = [\"echo\", \"good\"]\n[sources.file]\nkind = \"command\"\ndump = [\"cat\", \"DIR/tree/live\"]\nstage_path = \"DIR/tree/live\"\n[plans.two]\nsources = [\"out\", \"file\"]";
    configure(&w, two);
    w.run(&["backup", "two"]).code(0);
    fs::write(w.at("tree/live"), "damaged").unwrap();
    w.run(&["restore", "--yes", "--plan", "two"]).code(0).says(&["source out has no `load` and is left out"]);
    assert_eq!(live(&w), "good");
}

#[test]
fn a_restore_that_is_killed_is_taken_back_or_finished() {
    let one = long();
    // It waits in the middle of the load, or of the verification, for as long as a file is there.
    let wait = format!("if test -e DIR/wait; then exec sleep {one}; fi");
    for (step, forward) in [("load", false), ("load", true), ("verify", false), ("verify", true)] {
        let more = match step {
            "load" => format!("load = [\"sh\", \"-c\", \"{wait}; cat > $1\", \"sh\", \"{{staging}}\"]\n"),
            _ => format!("verify = [\"sh\", \"-c\", \"{wait}\"]\n"),
        };
        let w = backed_up(&more);
        fs::write(w.at("wait"), "").unwrap();
        let mut child = w.command(&["restore", "--yes"]).spawn().unwrap();
        wait_for("it waits", || runs(&one));
        child.kill().unwrap();
        child.wait().unwrap();
        wake(&one);
        fs::remove_file(w.at("wait")).unwrap();
        assert_eq!(live(&w), "damaged");
        w.run(&["restore", "--yes"]).code(9).says(&["--resume", "--unwind"]);
        if forward {
            w.run(&["restore", "--resume"]).code(0);
            assert_eq!((live(&w).as_str(), beside(&w).len()), ("good", 1));
        } else {
            w.run(&["restore", "--unwind"]).code(0);
            assert_eq!((live(&w).as_str(), beside(&w)), ("damaged", vec![]));
        }
    }
}
