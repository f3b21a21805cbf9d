//! Lines of containers and files since a moment; those of units are in `unit.rs`.

use crate::stage::{Stage, until};
use crate::{Sources, bad, check, check_in, good};
use backstay::config::checks::Check;
use backstay::recovery::checks::context::{Context, Marks};
use jiff::Timestamp;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

fn append(path: &Path, text: &str) {
    File::options().append(true).create(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

/// As a start does it: looks where the log ends, and then begins.
fn started(check: &Check) -> Context {
    Context::live(Timestamp::now(), Marks::of(std::slice::from_ref(check)))
}

#[tokio::test]
async fn bad_lines_of_a_file_are_counted_from_the_start_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    append(&path, "ERROR of yesterday\n");
    let check = check(&format!("log = \"file:{}\"\nsettle = \"100ms\"", path.display()));
    let since = started(&check);
    let outcome = check.run(&since).await;
    good(&outcome);
    assert_eq!(outcome.found, "none of 0 lines");
    append(&path, "INFO up\nValueError: bad\nthe database is in PANIC mode\n");
    let outcome = check.run(&since).await;
    bad(
        &outcome,
        &["check log file:", "2 of 3 lines: ValueError: bad | the database is in PANIC mode", "at most 0 lines"],
    );
    // They do not go away again.
    assert_eq!(outcome.tries, 1);
    // The journal keeps where the file ended.
    let kept: Context = serde_json::from_str(&serde_json::to_string(&since).unwrap()).unwrap();
    assert_eq!(kept, since);
    std::fs::rename(&path, dir.path().join("app.log.1")).unwrap();
    append(&path, "INFO rotated\n");
    bad(&check.run(&kept).await, &["2 of 4 lines"]);
}

#[tokio::test]
async fn patterns_exceptions_and_maxima_are_the_operators() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    let with = |more: &str| {
        let keys = format!("log = \"file:{}\"\nsettle = \"50ms\"\n{more}", path.display());
        check_in(Path::new("/"), &keys, &Sources::new())
    };
    let since = started(&with(""));
    append(&path, "0 errors found\nerror: real\nWARN slow\n\u{fffd}\n");
    good(&with("maximum = 2").run(&since).await);
    bad(&with("ignore = \"^0 errors\"").run(&since).await, &["1 of 4 lines: error: real"]);
    good(&with("ignore = \"^0 errors\"\nmaximum = 1").run(&since).await);
    bad(&with("pattern = \"^WARN\"").run(&since).await, &["1 of 4 lines: WARN slow", "\"^WARN\""]);
    good(&with("pattern = \"CRITICAL\"").run(&since).await);
}

#[tokio::test]
async fn a_log_is_watched_for_a_while_and_waited_for_when_it_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.log");
    let check = check(&format!("log = \"file:{}\"\nsettle = \"800ms\"", path.display()));
    let since = started(&check);
    let late = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        append(&path, "up\n");
        tokio::time::sleep(Duration::from_millis(400)).await;
        append(&path, "Traceback (most recent call last):\n");
    };
    let (outcome, ()) = tokio::join!(check.run(&since), late);
    bad(&outcome, &["1 of 2 lines: Traceback"]);
    assert!(outcome.tries > 1, "it was not there at first: {outcome:?}");
    std::fs::remove_file(&path).unwrap();
    let mut brief = check.clone();
    brief.within = Duration::from_millis(200);
    bad(&brief.run(&since).await, &["there is no such log file"]);
}

#[tokio::test]
async fn the_log_of_a_container_is_read_from_the_moment_on() {
    let stage = Stage::new();
    let script = "echo ERROR of yesterday; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo up; \
         while [ ! -e /tmp/fail ]; do sleep 0.05; done; echo 'FATAL: no such table' >&2; sleep 1000";
    let app = stage.container_of("app", &[], &["sh", "-c", script]);
    until("it has begun", || stage.docker(&["logs", &app]).contains("yesterday"));
    std::thread::sleep(Duration::from_millis(50));
    let check = check(&format!("log = \"container:{app}\"\nsettle = \"200ms\""));
    let since = started(&check);
    stage.docker(&["exec", &app, "touch", "/tmp/go"]);
    until("it is up", || stage.docker(&["logs", &app]).contains("up"));
    let outcome = check.run(&since).await;
    good(&outcome);
    assert_eq!(outcome.found, "none of 1 line");
    stage.docker(&["exec", &app, "touch", "/tmp/fail"]);
    std::thread::sleep(Duration::from_millis(300));
    bad(&check.run(&since).await, &["1 of 2 lines: FATAL: no such table"]);
    let gone = crate::brief("log = \"container:bs-no-such\"\nsettle = \"10ms\"").await;
    bad(&gone, &["there is no container or service bs-no-such"]);
    // A terminal has no frames, and other ends of lines.
    let tty = stage.container_of("tty", &["-t"], &["sh", "-c", "echo up; echo error one; sleep 1000"]);
    until("it has begun", || stage.docker(&["logs", &tty]).contains("one"));
    let check = crate::check(&format!("log = \"container:{tty}\"\nsettle = \"10ms\""));
    let before = Context::live(since.since, Marks::default());
    bad(&check.run(&before).await, &["1 of 2 lines: error one"]);
}

#[tokio::test]
async fn the_logs_of_all_copies_of_a_compose_service_count() {
    let stage = Stage::new();
    let project = format!("com.docker.compose.project={}", stage.name("p"));
    let options = ["--label", &project, "--label", "com.docker.compose.service=web"];
    let since = Context::live(Timestamp::now(), Marks::default());
    for name in ["one", "two"] {
        let script = format!("echo error of {name}; sleep 1000");
        let app = stage.container_of(name, &options, &["sh", "-c", &script]);
        until("it has begun", || stage.docker(&["logs", &app]).contains("error"));
    }
    let check = check(&format!("log = \"container:{}/web\"\nsettle = \"10ms\"", stage.name("p")));
    bad(&check.run(&since).await, &["2 of 2 lines: error of one | error of two"]);
}
