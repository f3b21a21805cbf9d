//! Programs, on this machine and in a container.

use crate::stage::Stage;
use crate::{Sources, bad, brief, check_in, good, now, run};
use std::time::{Duration, Instant};

fn sh(script: &str) -> String {
    format!("command = [\"sh\", \"-c\", '''{script}''']")
}

#[tokio::test]
async fn exit_status_and_output_are_compared() {
    good(&run("command = [\"true\"]").await);
    let outcome = brief(&sh("echo out; echo the reason >&2; exit 3")).await;
    bad(&outcome, &["check command sh failed", "expected exit status 0", "exit status 3: the reason"]);
    good(&run(&format!("{}\nexit = 3", sh("exit 3"))).await);
    bad(&brief(&format!("{}\nexit = 3", sh("kill -9 $$"))).await, &["signal: 9"]);
    good(&run(&format!("{}\ncontains = \"Users: 7\"\nnot_contains = \"Error\"", sh("echo Users: 7"))).await);
    bad(
        &brief(&format!("{}\ncontains = \"Users: 8\"", sh("echo Users: 7"))).await,
        &["the text \"Users: 8\"", "no text \"Users: 8\"; output: Users: 7"],
    );
    bad(&brief("command = [\"no-such-program\"]").await, &["no-such-program cannot be started"]);
}

#[tokio::test]
async fn files_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..7 {
        std::fs::write(dir.path().join(n.to_string()), "x").unwrap();
    }
    let count = sh(&format!("find {} -type f | wc -l", dir.path().display()));
    good(&run(&format!("{count}\nexpect = 7")).await);
    good(&run(&format!("{count}\nmin = 1\nmax = 7")).await);
    bad(&brief(&format!("{count}\nmin = 8")).await, &["the output at least 8", "found 7"]);
    bad(&brief(&format!("{}\nmin = 8", sh("echo many"))).await, &["many, which is not one number"]);
}

#[tokio::test]
async fn a_program_that_becomes_well_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let script = format!("cd {}; echo >> n; test $(wc -l < n) -ge 3", dir.path().display());
    let outcome = run(&sh(&script)).await;
    good(&outcome);
    assert_eq!(outcome.tries, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_never_ends_is_killed_and_one_that_says_too_much_is_stopped() {
    let seconds = format!("1{:09}", rand::random::<u32>() % 1_000_000_000);
    let mut check =
        crate::check(&format!("{}\ntimeout = \"200ms\"", sh(&format!("sleep {seconds} & sleep {seconds}"))));
    check.within = Duration::from_millis(700);
    let started = Instant::now();
    bad(&check.run(&now()).await, &["no answer within"]);
    assert!(started.elapsed() < Duration::from_secs(3));
    let sleeping = || {
        let out = std::process::Command::new("pgrep").args(["-cf", &format!("^sleep {seconds}")]).output().unwrap();
        String::from_utf8_lossy(&out.stdout).trim() != "0"
    };
    crate::stage::until("all of it is killed", || !sleeping());
    let outcome = run("command = [\"yes\"]").await;
    bad(&outcome, &["it prints more than 4 MiB"]);
    assert_eq!(outcome.tries, 1);
}

#[tokio::test]
async fn secrets_reach_the_program_and_no_message() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("pw"), "hunter2 & more\n").unwrap();
    let keys = |script: &str| {
        format!(
            "{}\nenv = {{ NAME = \"erp\" }}\nsecrets = {{ A = \"sesame-open\" }}\nsecrets_file = {{ B = \"pw\" }}",
            sh(script)
        )
    };
    let run = async |keys: String| {
        let check = crate::once(check_in(dir.path(), &keys, &Sources::new()));
        assert!(!format!("{check:?}").contains("sesame"));
        check.run(&now()).await
    };
    good(&run(format!("{}\nexpect = \"erp ok\"", keys("test ${#A} = 11 && test ${#B} = 14 && echo $NAME ok"))).await);
    for script in ["echo $A; echo $B >&2; exit 1", "echo $A $B"] {
        let outcome = run(format!("{}\ncontains = \"absent\"", keys(script))).await;
        bad(&outcome, &["***"]);
        let said = format!("{outcome:?} {}", outcome.error());
        assert!(!said.contains("sesame") && !said.contains("hunter2"), "{said}");
    }
}

#[tokio::test]
async fn a_program_runs_in_a_container_as_its_user() {
    let stage = Stage::new();
    let app = stage.container("app", &[]);
    let keys = format!("{}\ncontainer = \"{app}\"\nos_user = \"app\"\ndir = \"/tmp\"", sh("id -u; pwd"));
    good(&run(&format!("{keys}\nexpect = \"1234\\n/tmp\"")).await);
    bad(&brief(&format!("{}\ncontainer = \"{app}\"", sh("echo why >&2; exit 4"))).await, &["exit status 4: why"]);
    stage.docker(&["stop", "-t", "0", &app]);
    bad(&brief(&keys).await, &[&app, "does not run"]);
}

#[tokio::test]
async fn a_program_that_is_not_there_is_told_before_anything_stops() {
    let e = crate::check("command = [\"no-such-program\"]").preflight().await.unwrap_err().to_string();
    assert!(e.contains("the check command no-such-program cannot work") && e.contains("Install"), "{e}");
    crate::check("command = [\"sh\"]").preflight().await.unwrap();
}
