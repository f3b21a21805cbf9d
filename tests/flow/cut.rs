//! A restore that is ended at every write of its journal: killed before a record is written, killed before it is synced,
//! stopped by a signal, cut off with the whole machine. Afterwards the host is as before or restored, and never between.

use crate::host::{Host, JOURNAL, NOW, THEN, ok};

/// Runs a restore that gets a signal at the n-th call of this kind on its journal. False when it ended before.
fn restore_until(host: &Host, call: &str, signal: &str, n: usize) -> bool {
    let inject = format!("inject={call}:signal={signal}:when={n}");
    let argv = ["strace", "-f", "-qq", "-o", "/dev/null", "-P", JOURNAL, "-e", &format!("trace={call}"), "-e", &inject];
    let argv: Vec<&str> = argv.into_iter().chain(["backstay", "restore", "--yes"]).collect();
    let ended = host.machine.try_run(&argv);
    match signal {
        "KILL" => ended.code != 0,
        _ => {
            assert!([0, 14].contains(&ended.code), "{}\n{}", ended.out, ended.err);
            ended.code == 14
        }
    }
}

/// Ends a restore at every n-th call, `step` apart from `first`, and has `then` look at each.
fn at_every(
    host: &Host,
    call: &str,
    signal: &str,
    first: usize,
    step: usize,
    mut then: impl FnMut(&Host, usize),
) -> usize {
    let mut n = first;
    while restore_until(host, call, signal, n) {
        then(host, n);
        n += step;
        assert!(n < 400, "a restore does not write so often");
    }
    ok(&host.backstay(&["rollback", "--yes"]));
    host.clean();
    n
}

fn is_open(host: &Host) -> bool {
    host.machine.path(JOURNAL).exists()
}

/// Every second record, from this one on; two tests side by side see all of them.
fn killed_before(what: &str, first: usize) {
    let host = Host::new(what);
    host.machine.with_strace();
    let before = host.state();
    let writes = at_every(&host, "write", "KILL", first, 2, |host, n| {
        if is_open(host) {
            ok(&host.backstay(&["restore", "--unwind"]));
        }
        host.clean();
        assert_eq!(host.state(), before, "killed before record {n}");
        assert_eq!(host.shows(), NOW);
    });
    assert!(writes > 30, "only {writes} records");
}

#[test]
fn killed_before_each_odd_record_it_is_taken_back() {
    killed_before("kill-w1", 1);
}

#[test]
fn killed_before_each_even_record_it_is_taken_back() {
    killed_before("kill-w2", 2);
}

/// The same between a record and its sync; the first sync of a journal with its name is that of the second record.
fn killed_after(what: &str, first: usize) {
    let host = Host::new(what);
    host.machine.with_strace();
    let before = host.state();
    let writes = at_every(&host, "fdatasync", "KILL", first, 2, |host, n| {
        let resumed = host.backstay(&["restore", "--resume"]);
        assert_eq!(resumed.code, 0, "killed after record {n}: {}\n{}", resumed.out, resumed.err);
        assert_eq!(host.shows(), THEN, "killed after record {n}");
        assert_eq!(host.machine.sh("systemctl is-active app worker"), "active\nactive");
        ok(&host.backstay(&["rollback", "--yes"]));
        host.clean();
        assert_eq!(host.state(), before, "killed after record {n}");
    });
    assert!(writes > 30, "only {writes} records");
}

#[test]
fn killed_after_each_odd_record_it_is_finished() {
    killed_after("kill-s1", 1);
}

#[test]
fn killed_after_each_even_record_it_is_finished() {
    killed_after("kill-s2", 2);
}

#[test]
fn what_was_staged_and_is_not_whole_any_more_is_not_put_in_place() {
    // Without a hook: what one has changed is not compared any more.
    let hook = "after_stage = [{ source = \"db\", sql = \"UPDATE entry SET note = 'staged'\" }]";
    let host = Host::with("staged", |_| (), |config| config.replace(hook, ""));
    host.machine.with_strace();
    let before = host.state();
    ok(&host.backstay(&["restore", "--yes"]));
    let stopped = host.records().iter().position(|r| r == "done stop the application").unwrap();
    ok(&host.backstay(&["rollback", "--yes"]));
    host.clean();
    assert!(restore_until(&host, "write", "KILL", stopped));
    // As a power cut leaves what was never written to the disk.
    host.machine.sh("for file in /srv/app/.data.backstay-*/data/value; do : > $file; done");
    let resumed = host.backstay(&["restore", "--resume"]);
    assert_eq!(resumed.code, 13, "{}\n{}", resumed.out, resumed.err);
    assert!(resumed.err.contains("differs from the facts"), "{}", resumed.err);
    host.clean();
    assert_eq!((host.shows(), host.state()), (NOW.to_owned(), before));
}

#[test]
fn a_journal_that_cannot_be_written_stops_everything() {
    let host = Host::new("full");
    host.machine.with_strace();
    let before = host.state();
    ok(&host.backstay(&["restore", "--yes"]));
    let records = host.records();
    let number = |record: &str| records.iter().position(|r| r == record).unwrap();
    let (quiet, swap) = (number("done stop the application"), number("done swap database app"));
    ok(&host.backstay(&["rollback", "--yes"]));
    host.clean();
    for n in [quiet, swap, swap + 3] {
        // From this record on the disk is full.
        let inject = format!("inject=write:error=ENOSPC:when={n}+");
        let argv = ["strace", "-f", "-qq", "-o", "/dev/null", "-P", JOURNAL, "-e", "trace=write", "-e", &inject];
        let argv: Vec<&str> = argv.into_iter().chain(["backstay", "restore", "--yes"]).collect();
        let ended = host.machine.try_run(&argv);
        assert_ne!(ended.code, 0, "record {n}: {}", ended.out);
        assert!(ended.err.contains("journal") && ended.err.contains("No space left"), "record {n}: {}", ended.err);
        // Nothing that is not written down is done: what is open can be taken back, and is.
        assert!(is_open(&host), "record {n}: {}", ended.err);
        ok(&host.backstay(&["restore", "--unwind"]));
        host.clean();
        assert_eq!((host.shows(), host.state()), (NOW.to_owned(), before.clone()), "record {n}");
    }
}

#[test]
fn stopped_at_each_record_it_goes_back_by_itself() {
    let host = Host::new("term");
    host.machine.with_strace();
    let before = host.state();
    let writes = at_every(&host, "write", "TERM", 2, 3, |host, n| {
        assert!(!is_open(host), "stopped at record {n}");
        host.clean();
        assert_eq!(host.state(), before, "stopped at record {n}");
    });
    assert!(writes > 30, "only {writes} records");
}
