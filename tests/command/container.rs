//! Programs in a container.

use crate::stage::Stage;
use crate::{configure, long, runs, wait_for, with_command};
use std::fs;

#[test]
fn output_and_input_go_through_a_container_and_secrets_are_no_arguments() {
    let stage = Stage::new();
    let app = stage.container("app", &[]);
    let keys = format!(
        "container = \"{app}\"\nos_user = \"app\"\ndir = \"/tmp\"\nsecrets = {{ TOKEN = \"hunter2 here\" }}\n\
         dump = [\"sh\", \"-c\", \"pwd; id -u; cat data; echo $TOKEN | wc -c\"]\n\
         in_place = true\nload = [\"sh\", \"-c\", \"cat > data\"]\nundo = [\"true\"]\n"
    );
    stage.docker(&["exec", &app, "sh", "-c", "chmod 777 /tmp; echo good > /tmp/data; chmod 666 /tmp/data"]);
    let w = with_command(&keys);
    let manifest = w.backup().to_string();
    assert!(!manifest.contains("hunter2"));
    stage.docker(&["exec", &app, "rm", "/tmp/data"]);
    w.run(&["restore", "--yes"]).code(0);
    assert_eq!(stage.docker(&["exec", &app, "cat", "/tmp/data"]), "/tmp\n1234\ngood\n13");
    stage.docker(&["stop", "-t", "0", &app]);
    w.run(&["backup"]).code(11).says(&[&app]);
    configure(&w, &keys.replace(&app, "bs-nobody"));
    w.run(&["backup"]).code(11).says(&["bs-nobody"]);
}

#[test]
fn what_hangs_in_a_container_is_killed_with_all_that_it_started() {
    let stage = Stage::new();
    let app = stage.container("app", &[]);
    let (one, two) = (long(), long());
    let w = with_command(&format!(
        "container = \"{app}\"\ndump = [\"sh\", \"-c\", \"echo half; sleep {one} & sh -c 'sleep {two}; true'\"]\ntimeout = \"3s\""
    ));
    w.run(&["backup"]).code(11).says(&["did not end within 3 seconds", &app]);
    wait_for("both are killed", || !runs(&one) && !runs(&two));
    configure(&w, &format!("container = \"{app}\"\ndump = [\"sh\", \"-c\", \"echo half; echo why >&2; exit 5\"]"));
    w.run(&["backup"]).code(11).says(&["exit status 5", "why"]);
    assert!(fs::read_dir(w.at("repo/test-host/backups")).map_or(true, |d| d.count() == 0));
}
