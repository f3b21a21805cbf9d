//! Programs in containers behave as programs on the host do.

use super::stage::{Stage, until};
use backstay::error::Kind;
use backstay::host::docker::exec::Inside;
use backstay::host::exec::{Place, Program};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn output_exit_status_and_standard_error_come_back() {
    let stage = Stage::new();
    let c = stage.container("c", &[]);
    // An argument is an argument, whatever is in it.
    let odd = "a b; $(id) 'x' \"y\"\n*";
    assert_eq!(stage.inside(&c, &["echo", odd]).await.output().await.unwrap(), format!("{odd}\n").as_bytes());
    let e = stage.inside(&c, &["sh", "-c", "echo out; echo the reason >&2; exit 3"]).await.output().await.unwrap_err();
    assert!(e.to_string().contains("sh failed with exit status 3") && e.to_string().contains("the reason"), "{e}");
    let (running, mut out) = stage.inside(&c, &["sh", "-c", "echo a; echo warned >&2"]).await.reading().await.unwrap();
    let mut text = String::new();
    out.read_to_string(&mut text).await.unwrap();
    assert_eq!((text.as_str(), running.finish(Kind::Restore).await.unwrap()), ("a\n", vec!["warned".to_owned()]));
}

#[tokio::test]
async fn a_program_that_is_not_in_the_container_is_named_with_the_reason() {
    let stage = Stage::new();
    let c = stage.container("c", &[]);
    for reading in [true, false] {
        let program = stage.inside(&c, &["pg_dump", "x"]).await;
        let e = if reading {
            program.output().await.unwrap_err()
        } else {
            let (running, mut input) = program.writing().await.unwrap();
            let _ = input.write_all(b"x").await;
            drop(input);
            running.finish(Kind::Source).await.unwrap_err()
        };
        assert!(e.to_string().contains("pg_dump failed") && e.to_string().contains("executable file not found"), "{e}");
    }
}

#[tokio::test]
async fn user_directory_and_environment_are_set_and_no_secret_is_an_argument() {
    let stage = Stage::new();
    let c = stage.container("c", &[]);
    let script = "id -u; pwd; echo $SECRET; tr '\\0' ' ' < /proc/self/cmdline; sleep 1";
    let inside =
        Inside { user: Some("app".into()), dir: Some("/tmp".into()), ..Inside::new(stage.connect().await, &c) };
    let program =
        Program::new("sh", ["-c", script]).env(vec![("SECRET".into(), "hunter2".into())]).at(Place::Container(inside));
    assert!(!format!("{program:?}").contains("hunter2"));
    let output = tokio::spawn(async move { program.output().await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let processes = std::process::Command::new("ps").args(["-ewwo", "args"]).output().unwrap();
    assert!(!String::from_utf8_lossy(&processes.stdout).contains("hunter2"));
    let out = String::from_utf8(output.await.unwrap().unwrap()).unwrap();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[..3], ["1234", "/tmp", "hunter2"], "{out}");
    assert!(!lines[3].contains("hunter2"), "{out}");
}

#[tokio::test]
async fn the_end_of_the_input_reaches_the_program() {
    let stage = Stage::new();
    let c = stage.container("c", &[]);
    for n in 0..20 {
        let (running, mut input, mut output) = stage.inside(&c, &["wc", "-c"]).await.duplex().await.unwrap();
        let size = [0, 1, 70_000, 1_000_000][n % 4];
        input.write_all(&vec![7; size]).await.unwrap();
        // Shut down and kept, or simply let go of.
        let kept = if n % 2 == 0 {
            input.shutdown().await.unwrap();
            Some(input)
        } else {
            drop(input);
            None
        };
        let mut text = String::new();
        let read = tokio::time::timeout(Duration::from_secs(20), output.read_to_string(&mut text));
        read.await.unwrap_or_else(|_| panic!("round {n}: the program waits for more input")).unwrap();
        assert_eq!(text.trim(), size.to_string());
        running.finish(Kind::Source).await.unwrap();
        drop(kept);
    }
}

/// Kilobytes of a field of this process's status.
fn memory(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gibibyte_passes_both_ways_unchanged_in_little_memory() {
    const SIZE: u64 = 1 << 30;
    let stage = Stage::new();
    let c = stage.container("c", &[]);
    let (running, mut input, mut output) = stage.inside(&c, &["cat"]).await.duplex().await.unwrap();
    let before = memory("VmRSS");
    let writing = tokio::spawn(async move {
        let mut block = vec![0u8; 1 << 20];
        let mut sent = blake3::Hasher::new();
        for n in 0..SIZE >> 20 {
            blake3::Hasher::new().update(&n.to_le_bytes()).finalize_xof().fill(&mut block);
            sent.update(&block);
            input.write_all(&block).await.unwrap();
        }
        input.shutdown().await.unwrap();
        sent.finalize()
    });
    let mut received = blake3::Hasher::new();
    let (mut total, mut buffer) = (0u64, vec![0u8; 1 << 20]);
    loop {
        let n = output.read(&mut buffer).await.unwrap();
        if n == 0 {
            break;
        }
        total += n as u64;
        received.update(&buffer[..n]);
    }
    running.finish(Kind::Source).await.unwrap();
    assert_eq!((total, received.finalize()), (SIZE, writing.await.unwrap()));
    let grown = memory("VmHWM").saturating_sub(before) / 1024;
    assert!(grown < 128, "the peak grew by {grown} MiB");
}

#[tokio::test]
async fn a_program_waits_when_nobody_takes_its_output() {
    let stage = Stage::new();
    let c = stage.container("c", &[]);
    let script = "n=0; while :; do head -c 1048576 /dev/zero; n=$((n+1)); echo $n > /tmp/n; done";
    let (running, mut output) = stage.inside(&c, &["sh", "-c", script]).await.reading().await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let written = stage.docker(&["exec", &c, "sh", "-c", "cat /tmp/n || echo 0"]);
    assert!(written.parse::<u64>().unwrap_or(0) < 8, "{written} MiB went somewhere");
    let mut some = vec![0; 20 << 20];
    output.read_exact(&mut some).await.unwrap();
    drop(running);
}

fn processes(stage: &Stage, container: &str, word: &str) -> usize {
    stage.docker(&["exec", container, "ps", "-o", "args"]).lines().filter(|l| l.contains(word)).count()
}

#[tokio::test]
async fn letting_go_of_a_program_kills_it() {
    let stage = Stage::new();
    let c = stage.container("c", &[]);
    let (running, output) = stage.inside(&c, &["sleep", "98765"]).await.reading().await.unwrap();
    assert_eq!(processes(&stage, &c, "98765"), 1);
    drop(running);
    until("the program is gone", || processes(&stage, &c, "98765") == 0);
    drop(output);
    // Without a runtime, as at the end of our own process.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let program = stage.inside(&c, &["sleep", "98765"]).await;
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let started = runtime.block_on(program.reading()).unwrap();
        runtime.shutdown_background();
        drop(started);
        sender.send(()).unwrap();
    });
    receiver.recv().unwrap();
    until("the program is gone", || processes(&stage, &c, "98765") == 0);
}

#[tokio::test]
async fn a_program_whose_output_nobody_wants_ends() {
    let stage = Stage::new();
    let c = stage.container("c", &[]);
    let (running, output) = stage.inside(&c, &["yes"]).await.reading().await.unwrap();
    drop(output);
    let ended = tokio::time::timeout(Duration::from_secs(20), running.finish(Kind::Source)).await.unwrap();
    let e = ended.unwrap_err().to_string();
    assert!(e.contains("was not read to the end"), "{e}");
    until("it is gone", || processes(&stage, &c, "yes") == 0);
}

#[tokio::test]
async fn a_container_that_goes_away_is_an_error_and_no_end_of_the_output() {
    let stage = Stage::new();
    let c = stage.container("c", &[]);
    let (running, mut output) = stage.inside(&c, &["sh", "-c", "echo begun; sleep 100"]).await.reading().await.unwrap();
    let mut begun = [0; 6];
    output.read_exact(&mut begun).await.unwrap();
    stage.docker(&["rm", "-f", &c]);
    let mut rest = Vec::new();
    let _ = output.read_to_end(&mut rest).await;
    let e = tokio::time::timeout(Duration::from_secs(30), running.finish(Kind::Source)).await.unwrap().unwrap_err();
    assert_eq!(e.kind, Kind::Source);
    let e = stage.inside(&c, &["true"]).await.output().await.unwrap_err();
    assert!(e.to_string().contains("No such container"), "{e}");
}

#[tokio::test]
async fn a_program_runs_as_another_user_of_this_machine_without_our_environment() {
    let program = Program::new("sh", ["-c", "id -u; id -G; echo $HOME; env"])
        .env(vec![("GIVEN".into(), "yes".into())])
        .at(Place::User("daemon".into()));
    let out = String::from_utf8(program.output().await.unwrap()).unwrap();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[..3], ["1", "1", "/usr/sbin"], "{out}");
    assert!(out.contains("GIVEN=yes") && !out.contains("CARGO"), "{out}");
    for unknown in ["no-such-user", "-x", "0", ""] {
        let e = Program::new("true", [""; 0]).at(Place::User(unknown.into())).output().await.unwrap_err();
        assert!(e.to_string().contains("no user"), "{unknown}: {e}");
    }
    // It is that very process which is killed, nothing in between stays.
    let (running, _output) = Program::new("sleep", ["87654"]).at(Place::User("daemon".into())).reading().await.unwrap();
    let count = || {
        let out = std::process::Command::new("pgrep").args(["-cf", "^sleep 87654"]).output().unwrap();
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    };
    until("it runs", || count() == "1");
    drop(running);
    until("it is gone", || count() == "0");
}
