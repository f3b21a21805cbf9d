//! The way out: what counts as a backup, and what does not.

use crate::{configure, long, runs, wait_for, with_command};
use std::fs;
use std::time::{Duration, Instant};

#[test]
fn a_program_that_prints_and_then_fails_makes_no_backup() {
    let w = with_command(r#"dump = ["sh", "-c", "echo half; echo the disk is full >&2; exit 3"]"#);
    w.run(&["backup"]).code(11).says(&["sh failed with exit status 3", "the disk is full", "`dump`: sh"]);
    w.run(&["list"]).says(&["no backup"]);
    // A signal is no exit status.
    configure(&w, r#"dump = ["sh", "-c", "echo half; kill -9 $$"]"#);
    w.run(&["backup"]).code(11).says(&["signal: 9"]);
    configure(&w, r#"dump = ["/nowhere/tool"]"#);
    w.run(&["backup"]).code(11).says(&["/nowhere/tool cannot be started", "Install"]);
    configure(&w, "dump = [\"sh\", \"-c\", \"pwd\"]\ndir = \"/nowhere\"");
    w.run(&["backup"]).code(11).says(&["working directory of sh is not there", "/nowhere"]);
}

#[test]
fn a_program_that_hangs_is_killed_with_all_that_it_started() {
    let (one, two) = (long(), long());
    let w = with_command(&format!(
        "dump = [\"sh\", \"-c\", \"echo half; sleep {one} & sh -c 'sleep {two}; true'\"]\ntimeout = \"2s\""
    ));
    let started = Instant::now();
    w.run(&["backup"]).code(11).says(&["did not end within 2 seconds and was killed", "`timeout`"]);
    assert!(started.elapsed() < Duration::from_secs(20));
    wait_for("both are killed", || !runs(&one) && !runs(&two));
    // It ended, and left somebody behind who holds the output.
    configure(&w, &format!("dump = [\"sh\", \"-c\", \"echo half; sleep {one} &\"]\ntimeout = \"2s\""));
    w.run(&["backup"]).code(11).says(&["did not end within 2 seconds"]);
    wait_for("the one left behind is killed", || !runs(&one));
}

#[test]
fn a_backup_that_is_stopped_kills_its_programs() {
    let one = long();
    let w = with_command(&format!("dump = [\"sh\", \"-c\", \"echo half; sleep {one}; true\"]"));
    let mut child = w.command(&["backup"]).spawn().unwrap();
    wait_for("it sleeps", || runs(&one));
    assert!(std::process::Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(14));
    wait_for("it is killed", || !runs(&one));
}

#[test]
fn nothing_is_no_backup_unless_it_may_be() {
    let w = with_command(r#"dump = ["true"]"#);
    w.run(&["backup"]).code(11).says(&["ended well and wrote nothing", "may_be_empty"]);
    configure(&w, "dump = [\"true\"]\nmay_be_empty = true");
    w.run(&["backup"]).code(0);
    w.run(&["restore", "--to", &w.at("out")]).code(0);
    assert_eq!(fs::read(w.at("out")).unwrap(), b"");
}

#[test]
fn check_reads_the_output_as_it_is_stored_and_decides() {
    let w = with_command(
        "dump = [\"seq\", \"1000000\"]\ncheck = [\"sh\", \"-c\", \"tee DIR/seen | tail -n 1 | grep -qx 1000000\"]",
    );
    let manifest = w.backup();
    let facts = &manifest["sources"][0]["facts"]["command"];
    assert_eq!((&facts["bytes"], &facts["checked"]), (&6888896.into(), &true.into()));
    assert_eq!(fs::metadata(w.at("seen")).unwrap().len(), 6888896);
    configure(&w, "dump = [\"seq\", \"999999\"]\ncheck = [\"sh\", \"-c\", \"tail -n 1 | grep -qx 1000000\"]");
    w.run(&["backup"]).code(11).says(&["the output is not whole", "`check`: sh"]);
    // One that has seen enough after the first line is content.
    configure(&w, "dump = [\"seq\", \"1000000\"]\ncheck = [\"sh\", \"-c\", \"read line; test $line = 1\"]");
    w.run(&["backup"]).code(0);
}

#[test]
fn an_unchanged_output_ships_next_to_nothing() {
    let w = with_command(r#"dump = ["seq", "2000000"]"#);
    assert!(w.shipped() > 100_000);
    assert!(w.shipped() < 10_000);
}

#[test]
fn the_environment_is_what_is_configured() {
    let w = with_command("dump = [\"sh\", \"-c\", \"env; pwd\"]\nenv = { Mixed_Case = \"a b\" }\ndir = \"DIR/tree\"");
    let ran = crate::world::run(w.command(&["backup"]).env("OUR_SECRET", "hunter2"));
    ran.code(0);
    w.run(&["restore", "--to", &w.at("out")]).code(0);
    let out = fs::read_to_string(w.at("out")).unwrap();
    assert!(out.contains("Mixed_Case=a b\n") && out.contains("PATH=") && !out.contains("hunter2"), "{out}");
    assert!(out.ends_with(&format!("{}\n", w.at("tree"))), "{out}");
    configure(&w, "dump = [\"sh\", \"-c\", \"id -un; echo $HOME\"]\nos_user = \"nobody\"");
    w.run(&["backup"]).code(0);
    w.run(&["restore", "--to", &w.at("out2")]).code(0);
    assert!(fs::read_to_string(w.at("out2")).unwrap().starts_with("nobody\n"));
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let w = with_command(r#"dump = ["true"]"#);
    for (keys, words) in [
        ("", "sources.out.dump"),
        ("dump = \"true\"", "expected a sequence"),
        ("dump = []", "`dump` names no program"),
        ("dump = [\"x\"]\nload = [\"y\"]", "it is not said what `load` replaces"),
        ("dump = [\"x\"]\nload = [\"y\"]\nin_place = true\nstage_path = \"/x\"", "not clear what a restore replaces"),
        ("dump = [\"x\"]\nload = [\"y\"]\nstage_path = \"/x\"", "{staging}"),
        ("dump = [\"x\"]\nstage_path = \"x\"", "not the absolute path"),
        ("dump = [\"x\"]\nstage_path = \"/x\"\ncontainer = \"c\"", "a path of this machine"),
        (
            "dump = [\"x\"]\nload = [\"y\"]\ndatabase = { source = \"no\", name = \"d\" }",
            "no configured postgres source",
        ),
        ("dump = [\"x\"]\nprepare = [\"y\"]", "`prepare` is set"),
        ("dump = [\"x\"]\nundo = [\"y\"]", "`undo` is set"),
        ("dump = [\"x\"]\nverify = [\"y\"]", "`verify` is set"),
        ("dump = [\"x\"]\nin_place = true", "there is no `load`"),
        ("dump = [\"x\"]\ntimeout = \"0s\"", "is no time"),
        ("dump = [\"x\"]\nmedia = \"two words\"", "`media`"),
        ("dump = [\"x\"]\nenv = { A = \"1\" }\nsecrets = { A = \"2\" }", "A is in `env` and in `secrets`"),
        ("dump = [\"x\"]\nsecrets = { A = \"1\" }\nsecrets_file = { A = \"f\" }", "in `secrets` and in `secrets_file`"),
        ("dump = [\"x\"]\nsecrets_file = { A = \"nofile\" }", "cannot be read"),
        ("dumb = [\"x\"]", "Did you mean `dump`?"),
    ] {
        configure(&w, keys);
        let ran = w.run(&["backup"]);
        assert!(ran.code == 3 && ran.err.contains(words), "{keys}\n{}: {}", ran.code, ran.err);
    }
}
