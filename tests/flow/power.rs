//! The power fails in the middle of a restore: everything is killed at once, the machine is started again, and the unit at boot does what
//! the journal calls for.

use crate::fault::{Fault, MARK, What};
use crate::host::{Host, JOURNAL, NOW, THEN, ok};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// How long a restore may take to come to a record.
const PATIENCE: Duration = Duration::from_secs(90);

impl Host {
    /// The unit as it is installed, for the program where the package has it.
    fn with_boot_unit(&self) {
        let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/backstay-resume.service");
        std::fs::copy(unit, self.machine.path("/etc/systemd/system/backstay-resume.service")).unwrap();
        self.machine.sh("ln -s /usr/local/bin/backstay /usr/bin/backstay; systemctl enable backstay-resume 2>&1");
    }

    /// Lines of the journal that is open.
    fn written(&self) -> usize {
        std::fs::read_to_string(self.machine.path(JOURNAL)).map_or(0, |text| text.lines().count())
    }

    /// Runs a restore, and cuts the power when it is about to write its n-th record: the effect that this one speaks of has been
    /// had, and nobody has noted it.
    fn cut_before(&mut self, n: usize) {
        let fault = Fault { file: JOURNAL, call: "write", when: n, what: What::Hold };
        let mut command = self.faulty_command(&fault, &["restore", "--yes"]);
        let mut restore = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let started = Instant::now();
        while self.written() < n {
            assert!(started.elapsed() < PATIENCE && restore.try_wait().unwrap().is_none(), "record {n} is not reached");
            std::thread::sleep(Duration::from_millis(20));
        }
        // Until the effect is had, and the thread that writes is held.
        self.machine.until(&format!("test -e {MARK}"));
        assert_eq!(self.written(), n, "it went on");
        self.machine.cut_power();
        restore.wait().unwrap();
    }

    /// Boots, and waits for the unit.
    fn boot(&mut self) -> String {
        self.machine.start();
        self.machine.until("systemctl show -P ActiveState backstay-resume | grep -x inactive");
        let log = self.machine.sh("journalctl --quiet --no-pager -b -o cat -u backstay-resume");
        assert!(!self.machine.path(JOURNAL).exists(), "the restore is still open:\n{log}");
        log
    }

    /// The number of a record of a restore from its beginning to its end, which is taken back.
    fn number_of(&self, record: &str) -> usize {
        let records = self.records();
        records.iter().position(|r| r == record).unwrap_or_else(|| panic!("no {record:?} in {records:#?}"))
    }
}

/// Cuts the power at each of these, and expects the restore to be finished.
fn finished(what: &str, steps: &[&str]) {
    let mut host = Host::new(what);
    host.with_boot_unit();
    let before = host.state();
    ok(&host.backstay(&["restore", "--yes"]));
    let numbers: Vec<usize> = steps.iter().map(|step| host.number_of(&format!("done {step}"))).collect();
    ok(&host.backstay(&["rollback", "--yes"]));
    host.clean();
    for (step, number) in steps.iter().zip(numbers) {
        host.cut_before(number);
        let log = host.boot();
        assert_eq!(host.shows(), THEN, "{step}: {log}");
        assert_eq!(host.machine.sh("systemctl is-active app worker"), "active\nactive", "{step}: {log}");
        assert_eq!(host.records().last().unwrap(), "committed", "{step}");
        ok(&host.backstay(&["rollback", "--yes"]));
        host.clean();
        assert_eq!(host.state(), before, "{step}: {log}");
    }
}

#[test]
fn before_the_exchange_it_is_finished_at_the_boot() {
    finished("power-a", &["verify database app", "maintenance on", "hold the application", "stop the application"]);
}

#[test]
fn after_the_exchange_has_begun_it_is_finished_at_the_boot() {
    finished(
        "power-b",
        &[
            "swap files data",
            "swap database app",
            "start the application",
            "start the rest of the application",
            "maintenance off",
        ],
    );
}

#[test]
fn what_is_not_staged_yet_and_what_is_going_back_goes_back_at_the_boot() {
    let mut host = Host::new("power-c");
    host.with_boot_unit();
    let before = host.state();
    ok(&host.backstay(&["restore", "--yes"]));
    let staged = host.number_of("done stage database app");
    ok(&host.backstay(&["rollback", "--yes"]));
    host.clean();
    host.cut_before(staged);
    let log = host.boot();
    assert_eq!(host.shows(), NOW, "{log}");
    assert_eq!(host.records().last().unwrap(), "unwound", "{log}");
    host.clean();
    assert_eq!(host.state(), before, "{log}");

    // One that goes back since the application is not well.
    let check = "\n[[plans.app.restore.checks]]\nname = \"many\"\nsource = \"db\"\nsql = \"SELECT count(*) FROM entry\"\nmin = 1000\nwithin = \"1s\"\n";
    let config = std::fs::read_to_string(host.machine.path("/etc/backstay/backstay.toml")).unwrap();
    host.machine.write("/etc/backstay/backstay.toml", &format!("{config}{check}"));
    assert_eq!(host.backstay(&["restore", "--yes"]).code, 13);
    let numbers: Vec<usize> = ["start the application", "swap database app", "stop the application", "maintenance on"]
        .iter()
        .map(|step| host.number_of(&format!("undone {step}")))
        .collect();
    host.clean();
    for number in numbers {
        host.cut_before(number);
        let log = host.boot();
        assert_eq!(host.shows(), NOW, "undo {number}: {log}");
        assert_eq!(host.machine.sh("systemctl is-active app worker"), "active\nactive", "undo {number}: {log}");
        host.clean();
        assert_eq!(host.state(), before, "undo {number}: {log}");
    }
}

#[test]
fn nothing_of_the_application_runs_at_the_boot_before_the_restore_is_over() {
    let mut host = Host::new("power-d");
    ok(&host.backstay(&["restore", "--yes"]));
    let number = host.number_of("done swap files data");
    ok(&host.backstay(&["rollback", "--yes"]));
    host.clean();
    // Without the unit, which is told before: somebody has to come, and sees what is open.
    let plan = host.backstay(&["restore", "--dry-run"]);
    assert!(plan.out.contains("backstay-resume.service is not enabled"), "{}", plan.out);
    host.cut_before(number);
    host.machine.start();
    let state = host.machine.sh("systemctl show app worker -P ActiveState");
    assert_eq!(state.split_whitespace().collect::<Vec<_>>(), ["inactive", "inactive"]);
    let page =
        host.machine.sh("curl -s -o /dev/null -w '%{http_code} %header{x-backstay-maintenance}' http://127.0.0.1/");
    assert!(page.starts_with("503 20"), "{page}");
    let listed = host.backstay(&["restores"]);
    assert!(listed.err.contains("still open"), "{}", listed.err);
    assert_eq!(host.backstay(&["restore", "--yes"]).code, 9);
    // A power cut while it is taken back by hand, at no place in particular, and once more.
    let mut unwinding = host.machine.command(&["backstay", "restore", "--unwind"]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(700));
    host.machine.cut_power();
    unwinding.wait().unwrap();
    host.machine.start();
    let again = host.backstay(&["restore", "--unwind"]);
    assert!([0, 4].contains(&again.code), "{}\n{}", again.out, again.err);
    host.machine.until(&format!("curl -sf http://127.0.0.1/ | grep -x '{NOW}'"));
}
