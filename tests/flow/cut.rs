//! A restore that is ended at every write of its journal: killed before a record is written, killed before it is synced,
//! stopped by a signal, cut off with the whole machine. Afterwards the host is as before or restored, and never between.

use crate::fault::{Fault, What};
use crate::host::{Host, JOURNAL, NOW, THEN, ok};

/// A fault at the n-th call of this kind on the journal.
fn fault(call: &'static str, what: What, when: usize) -> Fault<'static> {
    Fault { file: JOURNAL, call, when, what }
}

/// Runs a restore to which this happens. False when it ended before.
fn restore_until(host: &Host, fault: &Fault<'_>) -> bool {
    let ended = host.faulty(fault, &["restore", "--yes"]);
    match fault.what {
        What::Term => {
            assert!([0, 14].contains(&ended.code), "{}\n{}", ended.out, ended.err);
            ended.code == 14
        }
        _ => ended.code != 0,
    }
}

/// Ends a restore at every n-th call, `step` apart from `first`, and has `then` look at each.
fn at_every(
    host: &Host,
    call: &'static str,
    what: What,
    (first, step): (usize, usize),
    mut then: impl FnMut(&Host, usize),
) -> usize {
    let mut n = first;
    while restore_until(host, &fault(call, what, n)) {
        then(host, n);
        n += step;
        assert!(n < 400, "a restore does not write so often");
    }
    ok(&host.backstay(&["rollback", "--yes"]));
    host.clean();
    n
}

/// Runs a command that is killed between a record and its sync, after one record and after two in turns, until one run ends by
/// itself; tells how many runs that took.
fn killed_until_done(host: &Host, args: &[&str]) -> usize {
    let mut runs = 0;
    loop {
        let ended = host.faulty(&fault("fdatasync", What::Kill, 1 + runs % 2), args);
        runs += 1;
        if ended.code != -1 {
            assert_eq!(ended.code, 0, "run {runs} of {args:?}: {}\n{}", ended.out, ended.err);
            return runs;
        }
        assert!(is_open(host) && runs < 200, "run {runs} of {args:?}");
    }
}

fn is_open(host: &Host) -> bool {
    host.machine.path(JOURNAL).exists()
}

/// Every second record, from this one on; two tests side by side see all of them.
fn killed_before(what: &str, first: usize) {
    let host = Host::new(what);
    let before = host.state();
    let writes = at_every(&host, "write", What::Kill, (first, 2), |host, n| {
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

/// Between a record and its sync; the first sync of a journal with its name is that of the second record.
#[test]
fn killed_after_records_from_the_first_to_the_last_it_is_finished() {
    let host = Host::new("kill-s");
    let before = host.state();
    let writes = at_every(&host, "fdatasync", What::Kill, (1, 5), |host, n| {
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

/// One restore, which is killed at each of its records, and one way back of it, which is too.
#[test]
fn killed_after_every_record_it_is_finished_and_taken_back_again_and_again() {
    let host = Host::new("kill-r");
    let before = host.state();
    let killed = |fault: &Fault<'_>| assert_eq!(host.faulty(fault, &["restore", "--yes"]).code, -1);
    killed(&fault("fdatasync", What::Kill, 1));
    let runs = killed_until_done(&host, &["restore", "--resume"]);
    assert!(runs > 20, "only {runs} runs: nothing was killed");
    assert_eq!(host.shows(), THEN);
    assert_eq!(host.machine.sh("systemctl is-active app worker"), "active\nactive");
    assert_eq!(host.records().last().unwrap(), "committed");
    let all = host.records().iter().filter(|record| record.starts_with("done ")).count();
    ok(&host.backstay(&["rollback", "--yes"]));
    host.clean();
    assert_eq!(host.state(), before);

    // To the last step that can still be taken back.
    ok(&host.backstay(&["restore", "--yes"]));
    let last = host.records().iter().rposition(|record| record.starts_with("done ")).unwrap();
    ok(&host.backstay(&["rollback", "--yes"]));
    host.clean();
    killed(&fault("write", What::Kill, last));
    let runs = killed_until_done(&host, &["restore", "--unwind"]);
    assert!(runs > all / 2, "only {runs} runs for {all} steps: nothing was killed");
    host.clean();
    assert_eq!((host.shows(), host.state()), (NOW.to_owned(), before));
}

#[test]
fn what_was_staged_and_is_not_whole_any_more_is_not_put_in_place() {
    // Without a hook: what one has changed is not compared any more.
    let hook = "after_stage = [{ source = \"db\", sql = \"UPDATE entry SET note = 'staged'\" }]";
    let host = Host::with("staged", |_| (), |config| config.replace(hook, ""));
    let before = host.state();
    ok(&host.backstay(&["restore", "--yes"]));
    let stopped = host.records().iter().position(|r| r == "done stop the application").unwrap();
    ok(&host.backstay(&["rollback", "--yes"]));
    host.clean();
    assert!(restore_until(&host, &fault("write", What::Kill, stopped)));
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
    let before = host.state();
    ok(&host.backstay(&["restore", "--yes"]));
    let records = host.records();
    let number = |record: &str| records.iter().position(|r| r == record).unwrap();
    let (quiet, swap) = (number("done stop the application"), number("done swap database app"));
    ok(&host.backstay(&["rollback", "--yes"]));
    host.clean();
    for n in [quiet, swap, swap + 3] {
        // From this record on the disk is full.
        let ended = host.faulty(&fault("write", What::Full, n), &["restore", "--yes"]);
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
    let before = host.state();
    let writes = at_every(&host, "write", What::Term, (2, 3), |host, n| {
        assert!(!is_open(host), "stopped at record {n}");
        host.clean();
        assert_eq!(host.state(), before, "stopped at record {n}");
    });
    assert!(writes > 30, "only {writes} records");
}
